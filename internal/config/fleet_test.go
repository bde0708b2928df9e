package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// The specs below stand for those of the modules: together they carry the example of the design.

type nodeSpec struct {
	Name  string `yaml:"name" doc:"Name of this node, unique in its site." example:"edc-1"`
	Site  string `yaml:"site" default:"default" doc:"Name of the site."`
	Admin string `yaml:"admin" unit:"addr" default:"127.0.0.1:8400" doc:"Address of the admin API."`
	Drain struct {
		Grace time.Duration `yaml:"grace" default:"20s" min:"0" max:"1h" doc:"How long sessions may end by themselves."`
		Rate  float64       `yaml:"rate" unit:"rate" default:"500/s" doc:"Sessions closed per second."`
	} `yaml:"drain" doc:"How a node stops."`
}

type tlsSpec struct {
	Cert     string `yaml:"cert" unit:"file" required:"true" doc:"Certificate chain, PEM."`
	Key      string `yaml:"key" unit:"file" required:"true" doc:"Private key, PEM."`
	ClientCA string `yaml:"client_ca" unit:"file" doc:"Authorities of client certificates."`
	Client   string `yaml:"client" enum:"none|request|require" default:"none" doc:"Whether clients show a certificate."`
}

func (t *tlsSpec) Validate() error {
	if t.Client == "require" && t.ClientCA == "" {
		return &FieldError{Path: "client", Err: errors.New("require needs client_ca"), Fix: "add client_ca: /path/ca.pem"}
	}
	return nil
}

type keepAlive struct{ Min, Max time.Duration }

type listen struct {
	Bind string `yaml:"bind" unit:"addr" required:"true" doc:"Address to listen on." example:":1883"`
	TLS  string `yaml:"tls" ref:"tls" doc:"Certificates to use; without it the listener speaks plain text."`
}

type mqttListener struct {
	listen    `yaml:",inline"`
	MaxPacket uint32    `yaml:"max_packet" unit:"size" default:"256KiB" min:"128" max:"256MiB" doc:"Largest packet."`
	KeepAlive keepAlive `yaml:"keepalive" unit:"range" default:"20s..20m" min:"1s" max:"18h" doc:"Bounds of the keep alive."`
	Accept    []string  `yaml:"accept" enum:"3.1|3.1.1|5" default:"['3.1.1', '5']" min:"1" doc:"Versions that are spoken."`
	AllowFrom []string  `yaml:"allow_from" unit:"cidr" doc:"Networks that may connect; all when empty."`
	WebSocket string    `yaml:"websocket" doc:"Path of the WebSocket endpoint." example:"/mqtt"`
	NoDelay   bool      `yaml:"no_delay" default:"true" doc:"Send small packets at once."`
	Backlog   int       `yaml:"backlog" default:"1024" min:"1" max:"65535" doc:"Connections that wait to be accepted."`
	Load      float64   `yaml:"load" default:"0.9" min:"0" max:"1" doc:"Share of a core above which the listener refuses."`
}

type coapListener struct {
	listen `yaml:",inline"`
	PSK    Secret         `yaml:"psk" unit:"secret" doc:"Table of pre-shared keys."`
	Block  int            `yaml:"block" unit:"size" default:"1KiB" doc:"Block size."`
	Peers  []netip.Prefix `yaml:"peers" unit:"cidr" doc:"Networks of peers."`
}

type proxySpec struct {
	Pool string `yaml:"pool" ref:"pools" required:"true" doc:"The brokers behind."`
	By   string `yaml:"by" unit:"expr" doc:"What the member is chosen by."`
}

type listenerCommon struct {
	Proxy *proxySpec `yaml:"proxy" doc:"Keep the session in the broker behind."`
}

type jwtAuth struct {
	JWKS   string            `yaml:"jwks" unit:"url" enum:"http|https" required:"true" doc:"Where the keys are."`
	Client string            `yaml:"client" unit:"expr" doc:"The client id."`
	Attrs  map[string]string `yaml:"attrs" doc:"Attributes of the principal."`
}

type x509Auth struct {
	Listener string            `yaml:"listener" ref:"listeners" doc:"Only on this listener."`
	Client   string            `yaml:"client" unit:"expr" default:"cert.cn" doc:"The client id."`
	Attrs    map[string]string `yaml:"attrs" doc:"Attributes of the principal."`
}

type deviceSpec struct {
	When  string            `yaml:"when" unit:"expr" required:"true" doc:"Who belongs to the class."`
	Attrs map[string]string `yaml:"attrs" doc:"Attributes of the class."`
}

type aclSpec struct {
	Allow []string `yaml:"allow" single:"true" enum:"publish|subscribe" doc:"What is allowed."`
	Deny  []string `yaml:"deny" example:"-" single:"true" enum:"publish|subscribe" doc:"What is denied."`
	Topic string   `yaml:"topic" unit:"filter" required:"true" doc:"Where." example:"site/{client}/#"`
	When  string   `yaml:"when" unit:"expr" doc:"Only for these events."`
}

func (a *aclSpec) Validate() error {
	if (len(a.Allow) == 0) == (len(a.Deny) == 0) {
		return errors.New("expected exactly one of allow, deny")
	}
	return nil
}

type limitSpec struct {
	Connects float64 `yaml:"connects" unit:"rate" doc:"New connections."`
	Events   float64 `yaml:"events" unit:"rate" doc:"Events."`
	Bytes    float64 `yaml:"bytes" unit:"byterate" doc:"Payload."`
	Burst    int     `yaml:"burst" min:"1" doc:"How many at once."`
	MaxConns int64   `yaml:"max_connections" min:"1" doc:"Connections at a time."`
	OnExcess string  `yaml:"on_excess" enum:"delay|drop|disconnect|reject" default:"delay" doc:"What happens beyond."`
}

type limitsSpec struct {
	PerIP     *limitSpec `yaml:"per_ip" doc:"Of each address."`
	PerClient *limitSpec `yaml:"per_client" doc:"Of each client."`
	Node      *limitSpec `yaml:"node" doc:"Of the node."`
}

type surgeSpec struct {
	Queue  int64         `yaml:"queue" unit:"size" default:"64MiB" doc:"Memory for waiting events."`
	MaxAge time.Duration `yaml:"max_age" default:"30s" doc:"How long an event waits."`
	Then   string        `yaml:"then" enum:"spill|drop|reject" default:"spill" doc:"What happens then."`
	Prio   *uint8        `yaml:"priority" max:"7" doc:"0 comes first."`
}

type transformSpec struct {
	Decode string            `yaml:"decode" enum:"json|text|cbor" default:"json" doc:"How the payload is read."`
	Let    map[string]string `yaml:"let" unit:"expr" doc:"Names for expressions."`
	Set    map[string]string `yaml:"set" unit:"expr" doc:"Fields of the result."`
	Topic  string            `yaml:"topic" unit:"expr" doc:"The new topic."`
	Encode string            `yaml:"encode" enum:"json|text|cbor" default:"json" doc:"How the result is written."`
}

type poolCommon struct {
	Health  time.Duration `yaml:"health" default:"10s" min:"100ms" doc:"Time between health checks."`
	Balance string        `yaml:"balance" enum:"round_robin|least_pending|hash|consistent_hash" default:"round_robin" doc:"How a member is chosen."`
	By      string        `yaml:"by" unit:"expr" doc:"What is hashed."`
	Eject   struct {
		Errors int           `yaml:"errors" default:"5" min:"1" doc:"Errors in a row."`
		For    time.Duration `yaml:"for" default:"30s" doc:"How long a member stays out."`
	} `yaml:"eject" doc:"When a member is left out."`
}

func (p *poolCommon) Validate() error {
	if strings.HasSuffix(p.Balance, "hash") && p.By == "" {
		return &FieldError{Path: "balance", Err: fmt.Errorf("%s needs by", p.Balance), Fix: "add by: 'event.client'"}
	}
	return nil
}

type kafkaPool struct {
	Brokers  []string `yaml:"brokers" unit:"addr" required:"true" doc:"Where to begin." example:"[k1:9092]"`
	Topic    string   `yaml:"topic" unit:"expr" required:"true" doc:"The Kafka topic." example:"'iot'"`
	Key      string   `yaml:"key" unit:"expr" doc:"The record's key."`
	User     string   `yaml:"user" doc:"Name at the brokers."`
	Password string   `yaml:"password" unit:"secret" doc:"Password at the brokers."`
}

func (k *kafkaPool) Validate() error {
	if strings.HasPrefix(k.Password, "bad") {
		return fmt.Errorf("the password %q of %s is weak: %s", k.Password, k.User, k.Password)
	}
	return nil
}

type webhookPool struct {
	URLs    []string          `yaml:"urls" unit:"url" enum:"http|https" required:"true" doc:"Where events are posted." example:"[https://a.example/in]"`
	Mode    string            `yaml:"mode" enum:"raw|cloudevents-binary|cloudevents-structured" default:"raw" doc:"The shape of the request."`
	Timeout time.Duration     `yaml:"timeout" default:"5s" min:"10ms" max:"1m" doc:"Time for one attempt."`
	Headers map[string]string `yaml:"headers" doc:"Further headers."`
	Token   string            `yaml:"token" unit:"secret" doc:"Bearer token."`
}

func (w *webhookPool) Validate() error {
	for i, u := range w.URLs {
		if strings.Contains(u, "forbidden") {
			return &FieldError{Path: fmt.Sprintf("urls[%d]", i), Err: errors.New("this host is forbidden")}
		}
	}
	return nil
}

type amqpPool struct {
	URL     Secret   `yaml:"url" unit:"secret" required:"true" doc:"Where, with user and password."`
	Address string   `yaml:"address" required:"true" doc:"Node to send to."`
	Keys    []Secret `yaml:"keys" unit:"secret" doc:"Signing keys."`
}

type mqttPool struct {
	URLs    []string `yaml:"urls" unit:"url" enum:"mqtt|mqtts" required:"true" doc:"The brokers." example:"[mqtt://b1:1883]"`
	Version uint8    `yaml:"version" enum:"3|4|5" default:"5" doc:"Protocol version."`
}

// targets is a name, a list of names (failover) or a map of names with weights.
type targets struct {
	Names   []string
	Weights []int
}

func (t *targets) UnmarshalConfig(v *Value) error {
	if v.IsMap() {
		pairs, err := v.Map()
		if err != nil {
			return err
		}
		for _, p := range pairs {
			v.Ref(p.Key, "pools")
			w := 0
			if err := p.Value.Decode(&w); err != nil {
				return err
			}
			if w < 1 {
				return p.Value.Fail("expected a weight of at least 1", "")
			}
			t.Names, t.Weights = append(t.Names, p.Key), append(t.Weights, w)
		}
		return nil
	}
	items, err := v.List()
	if err != nil {
		return err
	}
	for _, it := range items {
		s, err := it.Text()
		if err != nil {
			return err
		}
		t.Names = append(t.Names, s)
	}
	return nil
}

func (*targets) ConfigType() string {
	return "pool, list of pools (failover) or map of pools with weights"
}
func (*targets) ConfigSchema() string { return `{"type":["string","array","object"]}` }

type routeSpec struct {
	Name      string   `yaml:"name" doc:"Name of the route."`
	From      []string `yaml:"from" single:"true" ref:"devices|listeners" doc:"Only events from these."`
	Topic     string   `yaml:"topic" unit:"filter" required:"true" doc:"Which topics." example:"#"`
	When      string   `yaml:"when" unit:"expr" doc:"Only these events."`
	To        targets  `yaml:"to" ref:"pools" enum:"devices" doc:"Who gets the event."`
	Transform string   `yaml:"transform" ref:"transforms" doc:"Change the event."`
	Surge     string   `yaml:"surge" ref:"surge" default:"default" doc:"What happens when a pool cannot keep up."`
	Ack       string   `yaml:"ack" enum:"received|durable|upstream|delivered" doc:"When the sender is acknowledged."`
	Continue  bool     `yaml:"continue" doc:"Feed the event to the following routes."`
	Final     bool     `yaml:"final" doc:"End the walk here."`
}

type sourceCommon struct {
	Topic string `yaml:"topic" unit:"expr" doc:"The topic of the event."`
}

type kafkaSource struct {
	Brokers []string `yaml:"brokers" unit:"addr" required:"true" doc:"Where to begin." example:"[k1:9092]"`
	Topic   string   `yaml:"topic" required:"true" doc:"The Kafka topic."`
	Group   string   `yaml:"group" default:"windrose" doc:"The consumer group."`
}

type mqttSource struct {
	Pool      string   `yaml:"pool" ref:"pools" required:"true" doc:"The brokers."`
	Subscribe []string `yaml:"subscribe" unit:"filter" required:"true" doc:"What is pulled." example:"['alerts/#']"`
}

type storeSpec struct {
	Dir      string `yaml:"dir" unit:"file" default:"data" doc:"Where data is kept."`
	Replicas int    `yaml:"replicas" default:"1" min:"1" max:"5" doc:"Copies of each event."`
	Max      int64  `yaml:"max" unit:"size" default:"10GiB" doc:"Disk space."`
}

type clusterSpec struct {
	Name   string    `yaml:"name" required:"true" doc:"Name of the cluster."`
	Listen string    `yaml:"listen" unit:"addr" default:":6222" doc:"Address for peers."`
	Peers  []string  `yaml:"peers" unit:"addr" doc:"The other nodes."`
	Secret Secret    `yaml:"secret" unit:"secret" doc:"What peers prove to each other."`
	Store  storeSpec `yaml:"store" doc:"The journal's disk."`
}

func fleetSchema() *Schema {
	return &Schema{
		ReadFile: func(path string) ([]byte, error) { return []byte("value of " + path + "\n"), nil },
		Sections: []Section{
			{Name: "node", Doc: "This process.", Spec: nodeSpec{}},
			{Name: "tls", Doc: "Certificates.", Shape: Map, Spec: tlsSpec{}},
			{Name: "listeners", Doc: "Addresses where a protocol is spoken.", Shape: Map, Spec: listenerCommon{}, Kinds: []Kind{
				{"mqtt", "MQTT 3.1, 3.1.1 and 5.", mqttListener{}}, {"coap", "CoAP over UDP and DTLS.", coapListener{}},
			}},
			{Name: "auth", Doc: "Who is who; the first that knows the credential decides.", Shape: List, Kinds: []Kind{
				{"x509", "Client certificates.", x509Auth{}}, {"jwt", "Tokens.", jwtAuth{}}, {"anonymous", "Everybody.", nil},
			}},
			{Name: "devices", Doc: "Classes of devices; the first match wins.", Shape: OrderedMap, Spec: deviceSpec{}},
			{Name: "acl", Doc: "Who may do what.", Shape: List, Spec: aclSpec{}},
			{Name: "limits", Doc: "Bounds.", Spec: limitsSpec{}},
			{Name: "surge", Doc: "What happens when a pool cannot keep up.", Shape: Map, Spec: surgeSpec{}},
			{Name: "transforms", Doc: "Changes of events.", Shape: Map, Spec: transformSpec{}},
			{Name: "pools", Doc: "Equivalent members of one destination.", Shape: Map, Spec: poolCommon{}, Kinds: []Kind{
				{"kafka", "Apache Kafka.", kafkaPool{}}, {"amqp", "AMQP 1.0.", amqpPool{}}, {"webhook", "HTTP endpoints.", webhookPool{}}, {"mqtt", "MQTT brokers.", mqttPool{}},
			}},
			{Name: "routes", Doc: "Which events go where.", Shape: List, Spec: routeSpec{}},
			{Name: "sources", Doc: "Events that are pulled.", Shape: Map, Spec: sourceCommon{}, Kinds: []Kind{
				{"kafka", "A Kafka group.", kafkaSource{}}, {"mqtt", "MQTT subscriptions.", mqttSource{}},
			}},
			{Name: "cluster", Doc: "Several nodes.", Spec: clusterSpec{}},
		},
	}
}

func fleetEnv(name string) (string, bool) {
	v, ok := map[string]string{"HOSTNAME": "edc-1", "AMQP_URL": "amqps://user:pass@broker", "EMPTY": "", "TEN": "10", "SECRETISH": "hunter2"}[name]
	return v, ok
}
