package mqtt

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
	"github.com/windrose-edc/windrose/internal/session"
)

var (
	errReceiveMax = &wire.Error{Code: wire.ReceiveMaximumExceeded, Text: "more publishes without an answer than the receive maximum"}
	errAlias      = &wire.Error{Code: wire.TopicAliasInvalid, Text: "topic alias out of range"}
	errNoAlias    = &wire.Error{Code: wire.ProtocolError, Text: "topic alias not known"}
	errAckWrong   = &wire.Error{Code: wire.ProtocolError, Text: "acknowledgement does not fit the delivery"}
	errHoldFull   = &wire.Error{Code: wire.QuotaExceeded, Text: "publishing above the limit"}
	errRejected   = errors.New("event refused by the listener's rule")
)

// publish takes a PUBLISH (3.3): it walks, or it is held behind others that wait.
func (m *machine) publish(first byte, body, packet []byte) (used bool, err error) {
	if m.hold == nil && m.changing > 0 {
		m.hold = &held{changing: true}
	}
	if m.hold != nil {
		return m.holdMore(first, body, packet)
	}
	why, until, err := m.walk(first, body, m.env.Now())
	if err != nil {
		return false, err
	}
	if why == session.Go || m.phase == phClosed {
		return true, nil
	}
	if why == session.HoldQuota && m.version == wire.V5 {
		return false, errReceiveMax // [MQTT-3.3.4-9]
	}
	m.hold = &held{}
	used, err = m.holdMore(first, body, packet)
	m.holdFor(why, until)
	return used, err
}

// walk decodes and publishes what arrived at the time at: while it was held, its time went on ([MQTT-3.3.2-6]).
func (m *machine) walk(first byte, body []byte, at int64) (session.Hold, int64, error) {
	sc := m.env.Scratch()
	p := &sc.pub
	if err := sc.dec.Publish(m.version, first, body, p); err != nil {
		return session.Go, 0, err
	}
	if p.HasAlias {
		if err := m.alias(p); err != nil {
			return session.Go, 0, err
		}
	}
	if err := m.cfg.allowed(p); err != nil {
		return session.Go, 0, err
	}
	ev := &sc.ev
	*ev = event.Event{Topic: p.Topic, Payload: p.Payload, Meta: p.Meta, From: m.s.Origin, Time: at, QoS: event.QoS(p.QoS), Retain: p.Retain}
	if p.HasExpiry {
		ev.Expires = at + max(int64(p.Expiry)*int64(time.Second), 1)
	}
	hold, until := m.s.Publish(ev, p.PacketID, p.Dup)
	return hold, until, nil
}

// holdFor says why and until when publishing waits.
func (m *machine) holdFor(why session.Hold, until int64) {
	h := m.hold
	h.why, h.until = why, until
	switch why {
	case session.HoldMail:
		h.until = m.env.Now() + int64(time.Millisecond)
	case session.HoldQuota:
		h.until = 0
	case session.Go, session.HoldLimit:
	}
	if h.until != 0 {
		m.wake(h.until)
	}
}

// holdMore puts a PUBLISH behind those that wait. At the bound the listener's rule applies.
func (m *machine) holdMore(first byte, body, packet []byte) (used bool, err error) {
	h := m.hold
	qos := first >> 1 & 3
	if len(h.packets) > 0 && len(h.packets)+len(packet) > m.cfg.holdBytes {
		switch {
		case m.cfg.onHold == "disconnect", h.dropping && qos > 0:
			return false, errHoldFull
		case qos == 0 && (m.cfg.onHold == "drop_qos0" || h.dropping):
			if _, err := m.checkHeld(first, body); err != nil {
				return false, err
			}
			m.env.Host().Tally.Dropped[session.DropHeld]++
			return true, nil
		}
		m.pause()
		return false, nil
	}
	if qos > 0 {
		if m.version == wire.V5 && m.s.Unanswered()+h.acked >= int(m.cfg.receiveMax) {
			return false, errReceiveMax
		}
		h.acked++
	}
	p, err := m.checkHeld(first, body)
	if err != nil {
		return false, err
	}
	h.n++
	h.packets = binary.BigEndian.AppendUint64(h.packets, uint64(m.env.Now()))
	if !p.HasAlias {
		h.packets = append(h.packets, packet...)
		return true, nil
	}
	h.packets = wire.AppendPublish(h.packets, &wire.PublishOut{Version: m.version, Topic: p.Topic, Payload: p.Payload, Meta: p.Meta,
		PacketID: p.PacketID, QoS: p.QoS, Dup: p.Dup, Retain: p.Retain, Expiry: p.Expiry, HasExpiry: p.HasExpiry})
	return true, nil
}

// checkHeld decodes a PUBLISH that is to be held, or dropped while others are: what is malformed is refused now, not when
// its turn comes, and a topic alias means what it means now.
func (m *machine) checkHeld(first byte, body []byte) (*wire.Publish, error) {
	sc := m.env.Scratch()
	p := &sc.pub
	if err := sc.dec.Publish(m.version, first, body, p); err != nil {
		return nil, err
	}
	if p.HasAlias {
		if err := m.alias(p); err != nil {
			return nil, err
		}
	}
	return p, m.cfg.allowed(p)
}

// pause stops reading, for at most half the keep alive: pings and acknowledgements must get through.
func (m *machine) pause() {
	h := m.hold
	m.paused = true
	h.since = m.env.Now()
	m.env.Pause()
	m.wake(h.since + m.pauseMax())
}

func (m *machine) pauseMax() int64 {
	if m.keepAlive == 0 {
		return int64(30 * time.Second)
	}
	return int64(m.keepAlive) * int64(time.Second) / 2
}

func (m *machine) resume() {
	if m.paused {
		m.paused = false
		m.env.Resume()
	}
}

// unhold tries the publishes that wait, in order.
func (m *machine) unhold(now int64) {
	h := m.hold
	switch {
	case h.changing && m.changing > 0:
	case h.until > now:
		m.wake(h.until)
	default:
		h.changing = false
		m.drainHeld()
	}
	if m.hold == nil || m.phase == phClosed {
		return
	}
	if m.paused {
		switch at := h.since + m.pauseMax(); {
		case len(h.packets) < m.cfg.holdBytes/2:
			m.resume()
		case now >= at:
			h.dropping = true
			m.resume()
		default:
			m.wake(at)
		}
	}
}

// drainHeld publishes what waits until something holds again.
func (m *machine) drainHeld() {
	h := m.hold
	n := 0
	for n < len(h.packets) {
		at := int64(binary.BigEndian.Uint64(h.packets[n:]))
		first, body, k, err := wire.Next(h.packets[n+8:], m.cfg.maxPacket)
		if err == nil && k > 0 {
			var why session.Hold
			var until int64
			if why, until, err = m.walk(first, body, at); err == nil && m.phase != phClosed && why != session.Go {
				h.packets = h.packets[:copy(h.packets, h.packets[n:])]
				m.holdFor(why, until)
				return
			}
		}
		if err != nil {
			m.fail(err)
			return
		}
		if m.phase == phClosed {
			return
		}
		if first>>1&3 > 0 {
			h.acked--
		}
		h.n--
		n += 8 + k
	}
	m.hold = nil
	if m.phase == phBye {
		m.close(errBye)
		return
	}
	m.resume()
}

// Answer implements session.Peer: what became of an event of this client.
func (m *machine) Answer(r session.Receipt) {
	if h := m.hold; h != nil && h.why == session.HoldQuota && h.until == 0 {
		h.until = m.env.Now()
		m.wake(h.until)
	}
	a := answerTo(m.version, r, m.cfg.onReject)
	if host := m.env.Host(); host != nil && host.Watched() {
		host.Said(a.String())
	}
	switch a.how {
	case answerSilence:
	case answerClose:
		m.close(errRejected)
	case answerGoodbye:
		m.say(a.reason, r.Outcome.Text())
		m.close(&wire.Error{Code: a.reason, Text: r.Outcome.Text()})
	case answerAck:
		text := ""
		if a.reason.Failed() && m.problems {
			text = r.Outcome.Text()
		}
		m.sendAck(a.kind, r.ID, a.reason, text)
	}
}

func (m *machine) sendAck(kind wire.Kind, id uint16, r wire.Reason, text string) {
	b := m.env.Out()
	out := wire.AppendAck(b, m.version, kind, id, r, text)
	if text != "" && m.maxSend != 0 && len(out)-len(b) > int(m.maxSend) {
		out = wire.AppendAck(b, m.version, kind, id, r, "")
	}
	m.env.SetOut(out)
}

// ack takes PUBACK, PUBREC, PUBREL and PUBCOMP (3.4 to 3.7).
func (m *machine) ack(kind wire.Kind, body []byte) error {
	a := wire.Ack{}
	if err := m.env.Scratch().dec.Ack(m.version, kind, body, &a); err != nil {
		return err
	}
	var got session.Ack
	switch kind { //nolint:exhaustive // step sends only the four acknowledgements here
	case wire.PUBACK:
		got = m.s.Acked(a.PacketID)
	case wire.PUBREC:
		refused := a.Reason.Failed()
		got = m.s.Got(a.PacketID, refused)
		switch {
		case got == session.AckOK && !refused:
			m.Release(a.PacketID)
		case got == session.AckUnknown && !refused:
			m.Release(a.PacketID) // the exchange goes to its end ([MQTT-4.3.3-4]), see PUBREL
		}
	case wire.PUBREL:
		// An id that is not known was released before: the client did not get our PUBCOMP. It is told success, for
		// clients report a failed publish on 0x92 although the event was taken.
		m.s.Released(a.PacketID)
		m.sendAck(wire.PUBCOMP, a.PacketID, wire.Success, "")
		if m.hold != nil && m.hold.why == session.HoldQuota {
			m.hold.until = m.env.Now()
			m.wake(m.hold.until)
		}
	case wire.PUBCOMP:
		got = m.s.Completed(a.PacketID)
	}
	if got == session.AckWrong {
		return errAckWrong
	}
	return nil
}
