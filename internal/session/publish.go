package session

import (
	"errors"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/route"
)

// ErrFull is returned when a loop has no room for another session.
var ErrFull = errors.New("too many sessions")

// Hold says why publishing must wait.
type Hold uint8

// The reasons to hold.
const (
	Go        Hold = iota // nothing holds
	HoldLimit             // a policy's rate: until the time that came with it
	HoldMail              // another loop has no room: until a later turn
	HoldQuota             // too many events without an answer: until one is answered
)

// Publish walks one event of the client. id is its packet id (0 for QoS 0), dup says that the client sends it again. When
// the answer is not Go the event was not taken: the protocol keeps it, processes what is not publishing, and tries again
// (after until, Unix nanoseconds, where that is not 0). ev is borrowed.
func (s *Session) Publish(ev *event.Event, id uint16, dup bool) (hold Hold, until int64) {
	h := s.host
	s.reclassify(ev)
	if ev.QoS != event.AtMostOnce {
		if s.in == nil {
			s.in = &receipts{}
		}
		if s.retried(ev.QoS, id, dup) {
			h.Tally.Duplicates++
			s.answer()
			return Go, 0
		}
		if s.Unanswered() >= s.maxReceive() {
			s.look(ev)
			return s.holds(ev, HoldQuota, 0)
		}
		if s.walking+h.lingers[s.ID] >= orphanMax*s.maxReceive() { // more than one connection's worth: see linger.go
			h.Tally.Held++
			s.look(ev)
			return s.holds(ev, HoldLimit, h.clock.Now()+int64(lingerLook))
		}
	}
	if h.deaf {
		s.unheard = true
		if ev.QoS == event.AtMostOnce {
			h.Tally.Dropped[DropHeld]++
		}
		return Go, 0
	}
	s.look(ev)
	if h.walk.Congested() {
		h.Tally.Held++
		return s.holds(ev, HoldMail, 0)
	}
	v := h.judge(ev, &s.policy, false)
	if v.Kind == policy.Park {
		h.Tally.Held++
		return s.holds(ev, HoldLimit, v.Until)
	}
	h.Tally.Received[ev.QoS]++
	s.note.received++
	s.rankPublish(ev.Topic)
	if ev.QoS == event.AtMostOnce {
		if v.Kind == policy.Pass {
			h.keepRetained(ev)
			h.walk.Walk(ev, event.Ticket{})
		} else {
			h.Tally.Outcomes[v.Outcome]++
			if v.Disconnect {
				s.peer.Kick(Limited)
			}
		}
		h.traceAck(ev, refusal(v), noAnswer)
		return Go, 0
	}
	seq := s.in.push(id, ev.QoS)
	if ev.Trace != 0 {
		s.in.traced(seq, ev.Trace)
	}
	switch v.Kind {
	case policy.Pass:
		h.keepRetained(ev)
		s.walking++
		h.walk.Walk(ev, event.Ticket{To: h, Token: s.token(seq)})
	case policy.Drop:
		s.in.settle(seq, event.Accepted)
	default:
		s.in.refuse(seq, v.Outcome)
	}
	s.answer()
	if v.Disconnect && s.peer != nil {
		s.peer.Kick(Limited)
	}
	return Go, 0
}

// retried says whether the event is one that is here already: it joins its receipt and does not walk.
func (s *Session) retried(q event.QoS, id uint16, dup bool) bool {
	if q == event.ExactlyOnce {
		// answered and not released: the answer again ([MQTT-4.3.3-10])
		return s.in.walking(id, q) || s.in.repeat(id) || s.in.join(id, q)
	}
	if !dup {
		s.in.forget(id)
		return false
	}
	return s.in.walking(id, q) || s.in.join(id, q)
}

// token names a receipt in a ticket: place of the session (24 bits), its generation (8), the receipt's number (32).
func (s *Session) token(seq uint32) uint64 {
	return uint64(s.taker&(route.MaxTakers-1))<<40 | uint64(s.gen)<<32 | uint64(seq)
}

// Settle implements event.Settler for the events of the host's sessions. It is called on the loop.
func (h *Host) Settle(token uint64, o event.Outcome, _ int) {
	i := int(token >> 40)
	if i >= len(h.slots) || h.slots[i] == nil || h.slots[i].gen != uint8(token>>32) {
		h.Tally.Late++
		h.lingered(token)
		return
	}
	s := h.slots[i]
	s.walking--
	if s.in != nil && s.in.traces != nil {
		h.traceOutcome(s.in, uint32(token), o)
	}
	if !s.in.settle(uint32(token), o) {
		h.Tally.Late++
		return
	}
	s.answer()
}

// answer sends the answers that are due.
func (s *Session) answer() {
	if s.peer == nil {
		return
	}
	for {
		r, ok := s.in.next()
		if !ok {
			return
		}
		s.host.Tally.Outcomes[r.Outcome]++
		if r.QoS == event.ExactlyOnce && r.Outcome.OK() {
			s.in.hold(r.ID)
		}
		if s.in.traces == nil {
			s.peer.Answer(r)
		} else {
			s.answering(r, s.peer)
		}
		if s.peer == nil { // the answer was the end of the connection
			return
		}
	}
}

// Released ends the receipt of an exactly-once event (PUBREL). ok is false when the packet id is not known.
func (s *Session) Released(id uint16) (ok bool) {
	return s.in.release(id)
}

// Unanswered is how many events of the client count against its send quota. Those that wait for their release count only
// where the client counts them too: another may send the release behind events that are held for it.
func (s *Session) Unanswered() int {
	n := s.in.unanswered()
	if s.in != nil && !s.quota {
		n -= s.in.counted
	}
	return n
}

// keepRetained stores an event that its sender wants kept.
func (h *Host) keepRetained(ev *event.Event) {
	if !ev.Retain {
		return
	}
	var err error
	if !ev.Dry {
		err = h.shared.Retained.Set(ev.Keep())
	}
	if err != nil {
		h.Tally.Dropped[DropRetain]++
	}
	if ev.Trace != 0 {
		h.traceRetained(ev, err)
	}
}
