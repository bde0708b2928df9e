package app

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/windrose-edc/windrose/internal/config"
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr/sets"
	"github.com/windrose-edc/windrose/internal/expr/when"
	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/listen"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/otlp"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/pool"
	"github.com/windrose-edc/windrose/internal/route"
	"github.com/windrose-edc/windrose/internal/tap"
)

// NodeSpec is the section node: what this process is. Immutable after it is read.
type NodeSpec struct {
	Name      string        `yaml:"name" restart:"true" doc:"Name of the node in events, metrics and bridges; the host name when empty. A change needs a restart."`
	Site      string        `yaml:"site" doc:"Where the node stands; the admin API says so."`
	Admin     string        `yaml:"admin" restart:"true" unit:"addr" doc:"Address of the admin server, host:port: health, metrics, API, first page. Beyond loopback it wants tokens. Empty: none, the unix socket remains. A change needs a restart."`
	Data      string        `yaml:"data" restart:"true" default:"data" unit:"file" doc:"Folder for what the node keeps. A change needs a restart."`
	Loops     int           `yaml:"loops" restart:"true" default:"0" min:"0" max:"254" doc:"Event loops; 0: one for each processor. A change needs a restart."`
	Deadline  time.Duration `yaml:"deadline" default:"30s" min:"100ms" doc:"How long a publisher waits for the outcome of an event before it is told that there is none."`
	AdminSpec `yaml:",inline"`
	OwnTopics `yaml:",inline"`

	Drain DrainSpec `yaml:"drain" doc:"How the node lets go of its clients when it stops or drains."`
}

// LogSpec is the section log. Immutable after it is read.
type LogSpec struct {
	observe.LogSpec `yaml:",inline"`
}

// Validate asks for components that exist.
func (s *LogSpec) Validate() error {
	var errs []error
	known := LogComponents()
	for _, name := range slices.Sorted(maps.Keys(s.Levels)) {
		if !slices.Contains(known, name) {
			errs = append(errs, &config.FieldError{Path: "levels." + name, Err: fmt.Errorf("unknown component %q", name), Fix: config.Suggest(name, known)})
		}
	}
	return errors.Join(errs...)
}

// LogComponents are all parts of this binary whose log level can be set apart, sorted.
func LogComponents() []string {
	out := observe.Components()
	for _, k := range slices.Concat(listenerKinds(), destinationKinds()) {
		out = append(out, k.Name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// SessionSpec is the section sessions: what bounds each client. Immutable after it is read.
type SessionSpec struct {
	Queue       int    `yaml:"queue" default:"1000" min:"0" doc:"Events that may wait for one client."`
	QueueBytes  int64  `yaml:"queue_bytes" unit:"size" default:"8MiB" doc:"Bytes of events that may wait for one client."`
	MaxInflight int    `yaml:"max_inflight" default:"256" min:"1" max:"65535" doc:"Deliveries to one client that may be without acknowledgement."`
	Receive     int    `yaml:"receive_maximum" default:"1024" min:"1" max:"8192" doc:"Events of one client that may be without an answer; MQTT 5 clients are told."`
	Max         int    `yaml:"max" default:"1000000" min:"0" doc:"Sessions of the node, with and without a connection; more are refused. 0: no bound."`
	Subs        int    `yaml:"subscriptions" default:"10000" min:"0" doc:"Subscriptions of one client; more are refused. 0: no bound."`
	Overflow    string `yaml:"overflow" enum:"drop_new|drop_old|disconnect" default:"drop_new" doc:"What happens when the outbox of a client is full: the new event is refused, the oldest becomes a dead letter, or the client is disconnected."`

	Shared SharedSpec `yaml:"shared" doc:"Shared subscriptions ($share/NAME/FILTER): each event goes to one of the subscribers."`
}

// SharedSpec says how the members of shared subscriptions get their events. Immutable after it is read.
type SharedSpec struct {
	Balance string `yaml:"balance" enum:"round_robin|least_inflight|hash_topic|hash_publisher|sticky" default:"round_robin" doc:"Who gets an event: each in turn, who has the fewest open, or the same one for a topic or a publisher; sticky keeps a publisher's member also when others come."`
	HandOn  string `yaml:"hand_on" enum:"session_end|disconnect" default:"session_end" doc:"When another member gets what one has and has not acknowledged: when its session ends, or already with its connection. What was sent exactly once stays."`
}

// RetainSpec is the section retained. Immutable after it is read.
type RetainSpec struct {
	Messages int   `yaml:"messages" default:"1000000" min:"0" doc:"Topics whose last event is kept."`
	Bytes    int64 `yaml:"bytes" unit:"size" default:"256MiB" doc:"Bytes of events that are kept."`
}

// LimitsSpec is the section limits. Immutable after it is read.
type LimitsSpec struct {
	PerClient policy.LimitSpec `yaml:"per_client" doc:"What one client may publish."`
}

// RouteSpec is one entry of the section routes. Immutable after it is read.
type RouteSpec struct {
	Name  string    `yaml:"name" required:"true" doc:"Name of the route in metrics and logs."`
	Topic string    `yaml:"topic" unit:"filter" default:"#" doc:"Which events: an MQTT filter; {name} stands for one level." example:"site/{tenant}/#"`
	From  []string  `yaml:"from" ref:"devices" single:"true" doc:"Only events of devices of these classes."`
	When  when.Text `yaml:"when" doc:"Only events for which this holds; vars.NAME is what {NAME} of topic stands for. An event about which it has no answer does not match." example:"'event.json.temperature > 80.0'"`
	To    To        `yaml:"to" required:"true" doc:"A pool; a list of pools (failover in that order); or a map of pools to weights."`
	Ack   string    `yaml:"ack" enum:"received|durable|upstream|delivered" default:"received" doc:"When the publisher is acknowledged: when the pool's queue has the event, or when a member has acknowledged it. The strongest of all that matched applies."`
	Final bool      `yaml:"final" doc:"The walk of the event ends here: later routes and subscribers do not get it."`
}

// Validate refuses what is not there yet, in plain words.
func (s *RouteSpec) Validate() error {
	switch s.Ack {
	case "durable":
		return &config.FieldError{Path: "ack", Err: errors.New("durable needs the journal, which this version does not have"), Fix: "use upstream: the publisher is acknowledged when a pool member has taken the event"}
	case "delivered":
		return &config.FieldError{Path: "ack", Err: errors.New("delivered needs a receiver that settles (AMQP 1.0), which this version does not have"), Fix: "use upstream"}
	}
	_, err := route.ParseAck(s.Ack)
	return err
}

// condition compiles the condition of a route; nil: it has none.
func (s *RouteSpec) condition(c *when.Compiler) (*when.Condition, error) {
	p, err := event.ParsePattern(s.Topic)
	if err != nil {
		return nil, err
	}
	return c.Compile(s.When, when.Place{Kind: "route", Name: s.Name, Pattern: &p})
}

// To is where a route leads: pools with weights, or in order of failover. Immutable after it is read.
type To struct {
	Pools   []string
	Weights []int // nil: failover in the order of Pools
}

// ConfigType is what the reference says of the field's type.
func (To) ConfigType() string { return "pool, list of pools, or map of pools to weights" }

// ConfigSchema is the field's JSON Schema.
func (To) ConfigSchema() string {
	return `{"oneOf":[{"type":"string"},{"type":"array","items":{"type":"string"},"minItems":1},{"type":"object","additionalProperties":{"type":"integer","minimum":0},"minProperties":1}]}`
}

// UnmarshalConfig implements config.Unmarshaler.
func (t *To) UnmarshalConfig(v *config.Value) error {
	switch {
	case v.IsMap():
		pairs, err := v.Map()
		if err != nil {
			return err
		}
		sum := 0
		for _, p := range pairs {
			var w int
			if err := p.Value.Decode(&w); err != nil {
				return err
			}
			if w < 0 {
				return p.Value.Fail(fmt.Sprintf("weight %d is negative", w), "use 0 or more")
			}
			sum += w
			t.Pools, t.Weights = append(t.Pools, p.Key), append(t.Weights, w)
			p.Value.Ref(p.Key, "pools")
		}
		if sum == 0 {
			return v.Fail("the weights are all 0", "give at least one pool a weight, like { a: 95, b: 5 }")
		}
	case v.IsList():
		vs, err := v.List()
		if err != nil {
			return err
		}
		for _, x := range vs {
			s, err := x.Text()
			if err != nil {
				return err
			}
			t.Pools = append(t.Pools, s)
			x.Ref(s, "pools")
		}
		if len(t.Pools) == 0 {
			return v.Fail("the list of pools is empty", "name a pool")
		}
	default:
		s, err := v.Text()
		if err != nil {
			return err
		}
		t.Pools = []string{s}
		v.Ref(s, "pools")
	}
	return nil
}

//go:generate go test . -run TestReferenceIsCurrent|TestMetricsAreCurrent -update

// schema is the whole configuration language: every module's own declaration, collected here.
func schema() *config.Schema {
	s := []config.Section{
		{Name: "node", Doc: "This process.", Shape: config.Single, Spec: NodeSpec{}},
		{Name: "log", Doc: "What is logged, on stderr. Flags of windrose run that are given win.", Shape: config.Single, Spec: LogSpec{}},
		{Name: "tls", Doc: "Certificates, by name; listeners refer to them.", Shape: config.Map, Spec: listen.TLSSpec{}},
		{Name: "listeners", Doc: "Addresses where a protocol is spoken.", Shape: config.Map, Kinds: listenerKinds()},
		{Name: "auth", Doc: "Who may connect: tried in order, the first that knows the credential decides.", Shape: config.List, Kinds: authKinds()},
		{Name: "sets", Doc: "Named sets that conditions ask: client.id in sets.NAME, client.address in sets.NAME, sets.NAME[client.id].", Shape: config.Map, Kinds: setKinds()},
		{Name: "devices", Doc: "Classes of devices, in written order: a client belongs to the first whose condition holds.", Shape: config.OrderedMap, Spec: policy.DeviceSpec{}},
		{Name: "acl", Doc: "Who may publish and subscribe to what; denied by default once there is a rule.", Shape: config.List, Spec: policy.ACLSpec{}},
		{Name: "limits", Doc: "How much a client may do.", Shape: config.Single, Spec: LimitsSpec{}},
		{Name: "topics", Doc: "Topics that begin with $.", Shape: config.Single, Spec: policy.TopicGuardSpec{}},
		{Name: "rewrites", Doc: "Topics that get another name before they are routed.", Shape: config.List, Spec: policy.RewriteSpec{}},
		{Name: "sessions", Doc: "What is remembered of each client.", Shape: config.Single, Spec: SessionSpec{}},
		{Name: "retained", Doc: "The last event of each topic.", Shape: config.Single, Spec: RetainSpec{}},
		{Name: "traces", Doc: "OpenTelemetry spans of events whose publisher sent a W3C trace context that says sampled.", Shape: config.Single, Spec: otlp.Spec{}},
		{Name: "tap", Doc: "How much of single events is shown to who looks (windrose tap).", Shape: config.Single, Spec: tap.Spec{}},
		{Name: "pools", Doc: "Destinations: equivalent members of one backend.", Shape: config.Map, Spec: pool.Spec{}, Kinds: destinationKinds()},
		{Name: "routes", Doc: "Which events go to which pools; every matching route delivers unless one says final.", Shape: config.List, Spec: RouteSpec{}},
	}
	if ks := sourceKinds(); len(ks) > 0 {
		s = append(s, config.Section{Name: "sources", Doc: "The way back: events that are pulled from backends.", Shape: config.Map, Kinds: ks})
	}
	return &config.Schema{Sections: s}
}

func setKinds() []config.Kind {
	return []config.Kind{
		{Name: "strings", Doc: "Exact strings.", Spec: sets.Spec{}},
		{Name: "cidrs", Doc: "Addresses and prefixes: an address that a prefix holds is in the set.", Spec: sets.Spec{}},
		{Name: "topics", Doc: "Topic filters: a topic that a filter matches is in the set.", Spec: sets.Spec{}},
		{Name: "map", Doc: "Strings that lead to strings.", Spec: sets.MapSpec{}},
	}
}

func authKinds() []config.Kind {
	return []config.Kind{
		{Name: "users", Doc: "A file of users with password hashes.", Spec: identity.UsersSpec{}},
		{Name: "x509", Doc: "Client certificates.", Spec: identity.X509Spec{}},
		{Name: "jwt", Doc: "Signed tokens (JWT), shown as the password or by enhanced authentication with the method JWT; the connection ends when the token does.", Spec: identity.JWTSpec{}},
		{Name: "http", Doc: "An HTTP endpoint that is asked, its answers remembered; without an answer only clients get in that it has allowed before.", Spec: identity.CalloutSpec{}},
		{Name: "psk", Doc: "Pre-shared keys of DTLS handshakes: the identity is the principal. Listeners of transport dtls name the tables.", Spec: identity.PSKSpec{}},
	}
}

// devConfig is what windrose dev runs: a useful default on loopback.
const devConfig = `windrose: v1
node: { admin: "127.0.0.1:8400", data: data }
listeners:
  mqtt: { mqtt: { bind: "127.0.0.1:1883", anonymous: true } }
  coap: { coap: { bind: "127.0.0.1:5683", anonymous: true } }
`
