package mqtt

import (
	"bytes"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// What a listener does not let its clients do. MQTT 5 clients are told in CONNACK where it has a property for it; who does
// it all the same breaks the protocol (3.2.2.3). MQTT 3.x has no word for it: there SUBACK refuses, or the connection ends.

var (
	errMaxQoS     = &wire.Error{Code: wire.QoSNotSupported, Text: "QoS above the maximum of the listener"}
	errNoRetain   = &wire.Error{Code: wire.RetainNotSupported, Text: "retained events are not allowed here"}
	errNoWildcard = &wire.Error{Code: wire.WildcardSubsNotSupported, Text: "wildcard subscriptions are not allowed here"}
	errNoShared   = &wire.Error{Code: wire.SharedSubsNotSupported, Text: "shared subscriptions are not allowed here"}
	errLevels     = &wire.Error{Code: wire.TopicNameInvalid, Text: "topic has too many levels"}
)

// announce tells an MQTT 5 client what the listener does not allow (3.2.2.3.4, .5, .11, .13).
func (m *machine) announce(p *wire.ConnackProps) {
	c := m.cfg
	p.MaximumQoS, p.HasMaximumQoS = c.maxQoS, c.maxQoS < 2
	p.HasRetainAvailable = !c.retain // false is what is told; true is told by leaving it out
	p.HasWildcardSubAvail = !c.wildcards
	p.HasSharedSubAvail = !c.shared[wire.V5]
}

// refusedWill is why a will is not taken ([MQTT-3.2.2-12], [MQTT-3.2.2-13]).
func (c *settings) refusedWill(w *wire.Will) wire.Reason {
	switch {
	case !w.Present:
	case w.QoS > c.maxQoS:
		return wire.QoSNotSupported
	case w.Retain && !c.retain:
		return wire.RetainNotSupported
	case c.tooDeep(w.Topic):
		return wire.TopicNameInvalid
	}
	return wire.Success
}

// tooDeep says whether a topic or filter has more levels than are allowed.
func (c *settings) tooDeep(topic []byte) bool {
	return c.levels > 0 && len(topic) >= c.levels && bytes.Count(topic, slash) >= c.levels
}

var slash = []byte("/")

// allowed checks a PUBLISH whose topic is known against what the listener allows.
func (c *settings) allowed(p *wire.Publish) error {
	switch {
	case p.QoS > c.maxQoS:
		return errMaxQoS // [MQTT-3.2.2-11]
	case p.Retain && !c.retain:
		return errNoRetain // [MQTT-3.2.2-14]
	case c.tooDeep(p.Topic):
		return errLevels
	}
	return nil
}

// unavailable checks a filter against what the listener allows. code is that of SUBACK where the filter alone is refused;
// err ends the connection of an MQTT 5 client, which was told.
func (m *machine) unavailable(f []byte) (code wire.Reason, err error) {
	_, inner, shared, _ := event.SplitShared(f)
	c := m.cfg
	if shared && !c.shared[m.version] {
		code, err = wire.SharedSubsNotSupported, errNoShared
	} else if !c.wildcards && bytes.ContainsAny(inner, "+#") {
		code, err = wire.WildcardSubsNotSupported, errNoWildcard
	} else if c.tooDeep(inner) {
		return wire.TopicFilterInvalid, nil
	}
	if m.version != wire.V5 {
		err = nil
	}
	return code, err
}

// responseTo is what a client is told that asks where it may have responses sent (3.2.2.3.15); nothing where its identifier
// is not a level of a topic.
func (c *settings) responseTo(client string) []byte {
	if c.respond == nil {
		return nil
	}
	b, ok := c.respond.AppendTo(nil, func(string) []byte { return []byte(client) })
	if !ok {
		return nil
	}
	return b
}
