package session

import (
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/retain"
	"github.com/windrose-edc/windrose/internal/route"
)

// Replay says when a subscription gets the retained events (MQTT 5, 3.8.3.1).
type Replay uint8

// The choices.
const (
	ReplayAlways Replay = iota
	ReplayNew           // only when the subscription did not exist
	ReplayNever
)

// Want is one filter that a client asks for. Filter is borrowed.
type Want struct {
	Filter            []byte
	QoS               event.QoS
	NoLocal           bool
	RetainAsPublished bool
	ID                uint32
	Replay            Replay
}

// replay is a retained replay under way. Owned by its session.
type replay struct {
	cursor *retain.Cursor
	sub    route.Sub
	next   *replay
}

// replayChunk bounds the retained events that one session is sent in one go.
const replayChunk = 256

// MaySubscribe asks the policies about one filter.
func (s *Session) MaySubscribe(filter []byte, q event.QoS) policy.Verdict {
	h := s.host
	h.ctx.Now, h.ctx.Session = h.clock.Now(), &s.policy
	return h.shared.Chain().Subscribe(&h.ctx, s.Origin, filter, q)
}

// Subscribe adds subscriptions. done runs on the loop once every loop's events reach them, unless the session has ended
// or lost its connection by then; the retained events follow it.
func (s *Session) Subscribe(wants []Want, done func()) {
	h := s.host
	cs := make([]route.Change, 0, len(wants))
	var again *replay
	tail := &again
	for _, w := range wants {
		sub := route.MakeSub(s.taker, byte(w.QoS), w.NoLocal, w.RetainAsPublished, w.ID)
		f := append([]byte(nil), w.Filter...)
		isNew := s.set(f, sub)
		if isNew {
			h.Tally.Subs++
		}
		cs = append(cs, route.Change{Filter: f, Sub: sub})
		if w.Replay == ReplayAlways || w.Replay == ReplayNew && isNew {
			*tail = &replay{sub: sub, cursor: h.shared.Retained.Scan(f)}
			tail = &(*tail).next
		}
	}
	p := s.peer
	after := func() {
		if s.ended || s.peer != p {
			return
		}
		done()
		last := &s.replays
		for *last != nil {
			last = &(*last).next
		}
		*last = again
		s.pump()
	}
	if len(cs) == 0 {
		after()
		return
	}
	if !h.shared.Net.Index().Apply(cs, func() { h.clock.Post(after) }) {
		h.Tally.IndexFull++
		p.Kick(Busy) // it comes back when the storm of subscriptions is over
	}
}

// Unsubscribe removes a subscription and reports whether there was one. done runs like that of Subscribe.
func (s *Session) Unsubscribe(filters [][]byte, had []bool, done func()) {
	h := s.host
	cs := make([]route.Change, 0, len(filters))
	for i, f := range filters {
		had[i] = s.unset(f)
		if had[i] {
			h.Tally.Subs--
			cs = append(cs, route.Change{Filter: append([]byte(nil), f...), Sub: route.MakeSub(s.taker, 0, false, false, 0), Delete: true})
		}
	}
	p := s.peer
	after := func() {
		if !s.ended && s.peer == p {
			done()
		}
	}
	if len(cs) == 0 {
		after()
		return
	}
	h.shared.Net.Index().Apply(cs, func() { h.clock.Post(after) })
}

// replay sends retained events while there is room: a large store must not fill the outbox.
func (s *Session) replay() {
	for s.replays != nil && s.peer != nil && s.out.waiting() == 0 && s.peer.Room() && s.windowOpen() {
		r := s.replays
		now, n := s.host.clock.Now(), 0
		done := r.cursor.Next(now, replayChunk, func(k *event.Kept) bool {
			s.sendRetained(k, r.sub)
			n++
			return s.peer != nil && s.out.waiting() == 0 && s.peer.Room()
		})
		if done {
			if s.replays == r {
				s.replays = r.next
			}
			continue
		}
		if s.peer == nil || n == 0 {
			return
		}
	}
}

func (s *Session) sendRetained(k *event.Kept, sub route.Sub) {
	ev := k.Event
	d := Delivery{QoS: min(ev.QoS, event.QoS(sub.QoS())), Retain: true, SubID: sub.ID()}
	if d.QoS == 0 {
		if s.peer.Send(&ev, d) {
			s.host.Tally.Delivered++
		} else {
			s.host.Tally.Dropped[DropTooLarge]++
		}
		return
	}
	if s.windowOpen() {
		s.send(&ev, d)
		return
	}
	s.enqueue(&ev, d)
}
