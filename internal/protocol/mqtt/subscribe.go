package mqtt

import (
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
	"github.com/windrose-edc/windrose/internal/session"
)

// subscribe takes a SUBSCRIBE (3.8). SUBACK follows when every loop's events reach the new subscriptions.
func (m *machine) subscribe(body []byte) error {
	sc := m.env.Scratch()
	q := wire.Subscribe{}
	if err := sc.dec.Subscribe(m.version, body, &q); err != nil {
		return err
	}
	wants, codes := sc.want[:0], make([]byte, 0, 4)
	for {
		f, o, ok := q.Next()
		if !ok {
			break
		}
		code, err := m.may(f, o, len(wants))
		if err != nil {
			return err
		}
		if code < 0x80 {
			var ok bool
			if f, ok = m.s.Filter(f); !ok {
				code = m.refusal(wire.TopicFilterInvalid)
			}
		}
		codes = append(codes, code)
		if code < 0x80 {
			_, _, shared, _ := event.SplitShared(f)
			wants = append(wants, session.Want{Filter: f, QoS: event.QoS(code), NoLocal: o.NoLocal || m.bridge && !shared, RetainAsPublished: o.RetainAsPublished || m.bridge,
				ID: q.SubID, Replay: session.Replay(o.RetainHandling)})
		}
	}
	sc.want = wants
	id := q.PacketID
	m.changing++
	m.s.Subscribe(wants, func() {
		b := m.env.Out()
		m.answered(b, wire.AppendSuback(b, m.version, id, codes))
	})
	clear(sc.want)
	return nil
}

// may asks whether a filter may be subscribed to and answers with the code for SUBACK.
func (m *machine) may(f []byte, o wire.SubOptions, more int) (byte, error) {
	if r, err := m.unavailable(f); err != nil || r != wire.Success {
		return m.refusal(r), err
	}
	v := m.s.MaySubscribe(f, event.QoS(o.QoS), more)
	if v.Kind == policy.Pass {
		q := min(o.QoS, m.cfg.maxQoS) // [MQTT-3.8.4-8]
		if v.Lowered {
			q = min(q, byte(v.QoS))
		}
		return q, nil
	}
	switch r := Outcomes[v.Outcome].v5; r {
	case wire.TopicNameInvalid:
		return m.refusal(wire.TopicFilterInvalid), nil
	case wire.NotAuthorized, wire.QuotaExceeded, wire.ImplementationSpecific:
		return m.refusal(r), nil
	default: // not a code of SUBACK (3.9.3)
		return m.refusal(wire.UnspecifiedError), nil
	}
}

func (m *machine) refusal(r wire.Reason) byte {
	if m.version != wire.V5 {
		return 0x80 // [MQTT-3.9.3-1]
	}
	return byte(r)
}

// unsubscribe takes an UNSUBSCRIBE (3.10).
func (m *machine) unsubscribe(body []byte) error {
	sc := m.env.Scratch()
	q := wire.Unsubscribe{}
	if err := sc.dec.Unsubscribe(m.version, body, &q); err != nil {
		return err
	}
	var filters [][]byte
	for {
		f, ok := q.Next()
		if !ok {
			break
		}
		if to, ok := m.s.Filter(f); ok {
			f = to
		}
		filters = append(filters, f)
	}
	had := make([]bool, len(filters))
	codes := make([]byte, len(filters))
	id := q.PacketID
	m.changing++
	m.s.Unsubscribe(filters, had, func() {
		for i, ok := range had {
			if !ok {
				codes[i] = byte(wire.NoSubscriptionExisted)
			}
		}
		b := m.env.Out()
		m.answered(b, wire.AppendUnsuback(b, m.version, id, codes))
	})
	return nil
}

// answered puts a SUBACK or UNSUBACK into the output and lets publishes go that wait for it: what a client publishes after
// a SUBSCRIBE meets the subscription, whether the client waited for the answer or not. An answer that is larger than the
// client accepts is the end: there is no shorter one ([MQTT-3.1.2-24]).
func (m *machine) answered(before, out []byte) {
	m.changing--
	if h := m.hold; h != nil && h.changing && m.changing == 0 {
		h.until = m.env.Now() // in the next turn: retained events come first
		m.wake(h.until)
	}
	if m.maxSend != 0 && len(out)-len(before) > int(m.maxSend) {
		m.fail(&wire.Error{Code: wire.ImplementationSpecific, Text: "answer larger than the maximum packet size"})
		return
	}
	m.env.SetOut(out)
}
