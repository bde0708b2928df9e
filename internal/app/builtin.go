package app

import (
	"fmt"
	"hash/fnv"

	"github.com/windrose-edc/windrose/internal/config"
	"github.com/windrose-edc/windrose/internal/destination/webhook"
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/pool"
	"github.com/windrose-edc/windrose/internal/protocol/coap"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt"
	"github.com/windrose-edc/windrose/internal/ws"
)

// Every module that the binary has, one line each. A protocol or a destination is added as a folder of its own and one
// line here; nothing else knows it.
func protocols() []protocol {
	return []protocol{
		{config.Kind{Name: "mqtt", Doc: "MQTT 3.1, 3.1.1 and 5.", Spec: mqtt.ListenerSpec{}}, mqttListener, mqttSaid},
		{config.Kind{Name: "coap", Doc: "CoAP: topics are resources below /ps.", Spec: coap.ListenerSpec{}}, coapListener, coap.Said},
	}
}

func destinations() []destination {
	return []destination{
		{config.Kind{Name: "mqtt", Doc: "MQTT brokers.", Spec: mqtt.BridgeSpec{}}, mqttPool},
		{config.Kind{Name: "webhook", Doc: "HTTP endpoints that take events as CloudEvents.", Spec: webhook.Spec{}}, webhookPool},
	}
}

func sources() []source {
	return []source{
		{config.Kind{Name: "mqtt", Doc: "Subscriptions at the brokers of an mqtt pool.", Spec: mqtt.SourceSpec{}}, mqttSource},
	}
}

// protocol is a kind of listener. Immutable.
type protocol struct {
	kind config.Kind
	open func(n *graph, name string, spec any) (*listener, error)
	// said puts an outcome into the words in which a publisher would hear it; may be nil.
	said func(spec any, version string, qos event.QoS, o event.Outcome, byPolicy bool) string
}

// destination is a kind of pool. Immutable.
type destination struct {
	kind  config.Kind
	build func(n *graph, name string, spec any) (d pool.Driver, members []string, err error)
}

// source is a kind of source. Immutable.
type source struct {
	kind  config.Kind
	build func(n *graph, name string, spec any) (runner, error)
}

func listenerKinds() (ks []config.Kind) {
	for _, p := range protocols() {
		ks = append(ks, p.kind)
	}
	return ks
}

func destinationKinds() (ks []config.Kind) {
	for _, d := range destinations() {
		ks = append(ks, d.kind)
	}
	return ks
}

func sourceKinds() (ks []config.Kind) {
	for _, s := range sources() {
		ks = append(ks, s.kind)
	}
	return ks
}

func mqttListener(n *graph, name string, spec any) (*listener, error) {
	s := spec.(*mqtt.ListenerSpec)
	srv, err := mqtt.NewServer(name, *s, mqtt.Deps{Loops: n.group.Loops(), Hosts: n.hosts, Auth: n.authChain, Slow: n.slow.run,
		Metrics: n.metrics, Logger: n.logFor("mqtt"), Limited: n.limited.For("mqtt"), Refused: n.notices.refused})
	if err != nil {
		return nil, err
	}
	accept := srv.Accept
	if s.WebSocket != nil {
		accept = n.webSocket(name, &s.Spec, ws.Options{Protocols: mqtt.Subprotocols(), Code: mqtt.CloseCode}, accept)
	}
	return &listener{accept: accept, spec: s.Spec, anonymous: s.Anonymous}, nil
}

func coapListener(n *graph, name string, spec any) (*listener, error) {
	s := spec.(*coap.ListenerSpec)
	srv, err := coap.NewServer(name, *s, coap.Deps{Loops: n.group.Loops(), Hosts: n.hosts, Retained: n.retained, Auth: n.authChain, Chain: n.node.chain,
		Metrics: n.metrics, Logger: n.logFor("coap"), Security: coap.Security{TLS: n.tls[s.TLS], Node: shortID(n.id)}})
	if err != nil {
		return nil, err
	}
	if s.Datagrams() {
		return &listener{packets: srv, spec: s.Spec, anonymous: s.Anonymous}, nil
	}
	return &listener{accept: srv.Accept, spec: s.Spec, anonymous: s.Anonymous}, nil
}

// shortID is a node's id in the two bytes that a DTLS Connection ID has for it.
func shortID(node string) uint16 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(node))
	v := h.Sum32()
	return uint16(v>>16) ^ uint16(v)
}

func mqttSaid(spec any, version string, qos event.QoS, o event.Outcome, byPolicy bool) string {
	return spec.(*mqtt.ListenerSpec).Said(version, qos, o, byPolicy)
}

func webhookPool(n *graph, name string, spec any) (pool.Driver, []string, error) {
	s := spec.(*webhook.Spec)
	d, err := webhook.New(*s, webhook.Options{Pool: name, Node: n.id, Metrics: n.metrics})
	return d, s.URLs, err
}

// partialInput is the bound on kept input that suits the protocols' defaults.
const partialInput = mqtt.PartialDefault

func mqttPool(n *graph, name string, spec any) (pool.Driver, []string, error) {
	s := spec.(*mqtt.BridgeSpec)
	b, err := mqtt.NewBridge(*s, mqtt.BridgeOptions{Node: n.id, Pool: name, Logger: n.logFor("mqtt"), Metrics: n.metrics})
	return b, s.URLs, err
}

func mqttSource(n *graph, name string, spec any) (runner, error) {
	s := spec.(*mqtt.SourceSpec)
	b, ok := n.driver(s.Pool).(*mqtt.Bridge)
	if !ok {
		return nil, fmt.Errorf("pool %q is not an mqtt pool", s.Pool)
	}
	lane, publish := n.sourceLane()
	return mqtt.NewSource(b, *s, mqtt.SourceOptions{Name: name, Lane: lane, Publish: publish})
}
