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
	size   int64 // what it counts
	next   *replay
}

// replays is the retained replays of a session that wait, in the order of their subscriptions. Owned by its session.
type replays struct {
	head, tail *replay
	size       int64
	posted     bool // a pump is on its way
}

func (q *replays) add(r *replay) {
	if q.head == nil {
		q.head = r
	} else {
		q.tail.next = r
	}
	q.tail = r
	q.size += r.size
}

func (q *replays) pop() {
	q.size -= q.head.size
	q.head = q.head.next
}

// replayCost is what a replay that waits counts beside its filter against QueueBytes.
const replayCost = 128

// replayChunk bounds the retained events that one session is sent in one go.
const replayChunk = 256

// MaySubscribe asks the policies about one filter, of which more were allowed before it in the same request.
func (s *Session) MaySubscribe(filter []byte, q event.QoS, more int) policy.Verdict {
	h := s.host
	if m := s.maxSubscriptions(); m > 0 && len(s.subs)+more >= m && s.find(filter) < 0 {
		h.Tally.SubsRefused++
		return policy.Verdict{Kind: policy.Reject, Outcome: event.Throttled}
	}
	h.ctx.Now, h.ctx.Session = h.clock.Now(), &s.policy
	_, inner, _, _ := event.SplitShared(filter)
	return h.shared.Chain().Subscribe(&h.ctx, s.Origin, inner, q)
}

// Filter is what the policies make of a filter that the client subscribes to or unsubscribes from; ok is false when that is
// not a filter. It is filter itself, or memory of its own.
func (s *Session) Filter(filter []byte) (to []byte, ok bool) {
	h := s.host
	_, inner, _, _ := event.SplitShared(filter)
	h.ctx.Now, h.ctx.Session = h.clock.Now(), &s.policy
	to, ok = h.shared.Chain().Filter(&h.ctx, s.Origin, inner)
	if !ok || string(to) == string(inner) {
		return filter, ok
	}
	whole := append(append([]byte(nil), filter[:len(filter)-len(inner)]...), to...)
	return whole, len(whole) <= event.MaxTopic
}

// Subscribe adds subscriptions. done runs on the loop once every loop's events reach them, unless the session has ended
// or lost its connection by then; the retained events follow it.
func (s *Session) Subscribe(wants []Want, done func()) {
	h := s.host
	s.reclassify(nil)
	cs := make([]route.Change, 0, len(wants))
	var again replays
	var fresh [][]byte
	full := false
	for _, w := range wants {
		sub := route.MakeSub(s.taker, byte(w.QoS), w.NoLocal, w.RetainAsPublished, w.ID)
		f := append([]byte(nil), w.Filter...)
		change := route.Change{Filter: f, Sub: sub}
		shared := isShared(f)
		if shared {
			m := s.join(f, sub)
			if m == nil { // more than a node can have
				full = true
				continue
			}
			change = m.Group().Change(false)
		}
		isNew := s.set(f, sub)
		if isNew {
			h.Tally.Subs++
			fresh = append(fresh, f)
		}
		cs = append(cs, change)
		if shared {
			continue // no retained events: they would go to every member
		}
		if w.Replay == ReplayAlways || w.Replay == ReplayNew && isNew {
			again.add(&replay{sub: sub, cursor: h.shared.Retained.Scan(f), size: replayCost + int64(len(f))})
		}
	}
	p := s.peer
	after := func() {
		if s.ended || s.peer != p {
			return
		}
		done()
		if s.ended || s.peer != p {
			return
		}
		if again.head != nil && !s.await(&again) {
			p.Kick(Busy)
			return
		}
		s.pump()
	}
	if len(cs) == 0 && !full {
		after()
		return
	}
	if full || !h.shared.Net.Index().Apply(cs, func() { h.clock.Post(after) }) {
		h.Tally.IndexFull++
		cs = cs[:0]
		var gone []uint32
		for _, f := range fresh { // the index does not have them
			s.unset(f)
			h.Tally.Subs--
			if isShared(f) {
				cs, gone = s.part(f, cs, gone)
			}
		}
		h.removed(cs, gone, nil)
		p.Kick(Busy) // it comes back when the storm of subscriptions is over
		return
	}
	s.lives(Subscribed, wants)
}

func isShared(filter []byte) bool {
	_, _, shared, _ := event.SplitShared(filter)
	return shared
}

// removed takes entries out of the index; gone are the groups that are gone with them. then runs on the loop.
func (h *Host) removed(cs []route.Change, gone []uint32, then func()) {
	if len(cs) == 0 && then == nil {
		return
	}
	h.shared.Net.Index().Apply(cs, func() {
		h.clock.Post(func() {
			for _, g := range gone {
				h.rest(g)
			}
			if then != nil {
				then()
			}
		})
	})
}

// await puts replays behind those that wait. It reports false when they are too many: the client subscribes again and
// again and does not read.
func (s *Session) await(more *replays) bool {
	switch {
	case s.replays == nil:
		s.replays = more
		return true
	case s.replays.size > s.maxBytes():
		return false
	}
	s.replays.tail.next = more.head
	s.replays.tail = more.tail
	s.replays.size += more.size
	return true
}

// Unsubscribe removes a subscription and reports whether there was one. done runs like that of Subscribe.
func (s *Session) Unsubscribe(filters [][]byte, had []bool, done func()) {
	h := s.host
	cs := make([]route.Change, 0, len(filters))
	var gone []uint32
	shared := false
	for i, f := range filters {
		had[i] = s.unset(f)
		if !had[i] {
			continue
		}
		h.Tally.Subs--
		if isShared(f) { // what waits for it is delivered; other members get what comes
			cs, gone = s.part(f, cs, gone)
			shared = true
		} else {
			cs = append(cs, route.Change{Filter: append([]byte(nil), f...), Sub: route.MakeSub(s.taker, 0, false, false, 0), Delete: true})
		}
	}
	p := s.peer
	after := func() {
		if !s.ended && s.peer == p {
			done()
		}
	}
	if len(cs) == 0 && !shared {
		after()
		return
	}
	h.removed(cs, gone, after)
}

// replay sends retained events while there is room: a large store must not fill the outbox.
func (s *Session) replay() {
	for s.replays != nil && s.peer != nil && s.out.waiting() == 0 && s.peer.Room() && s.windowOpen() {
		q := s.replays
		r := q.head
		now, n := s.host.clock.Now(), 0
		done := r.cursor.Next(now, replayChunk, func(k *event.Kept) bool {
			s.sendRetained(k, r.sub)
			n++
			return s.peer != nil && s.out.waiting() == 0 && s.peer.Room()
		})
		if done {
			if s.replays != q {
				return
			}
			if q.pop(); q.head == nil {
				s.replays = nil
			}
			continue
		}
		if s.peer == nil {
			return
		}
		if n == 0 { // a rare match in a large store: on in the next turn, others come first
			if !q.posted {
				q.posted = true
				s.host.clock.Post(func() {
					q.posted = false
					if s.replays == q && !s.ended {
						s.pump()
					}
				})
			}
			return
		}
	}
}

func (s *Session) sendRetained(k *event.Kept, sub route.Sub) {
	ev := k.Event
	if sub.NoLocal() && ev.From != nil && ev.From.Pool == "" && ev.From.Client == s.ID { // its own ([MQTT-3.8.3-3]), of whichever connection
		return
	}
	if s.withheld(&ev) {
		return
	}
	d := Delivery{QoS: min(ev.QoS, event.QoS(sub.QoS())), Retain: true, SubID: sub.ID()}
	if d.QoS == 0 {
		if s.peer.Send(&ev, d) {
			s.countSent()
		} else {
			s.drop(DropTooLarge)
		}
		return
	}
	if s.windowOpen() {
		s.send(&ev, d)
		return
	}
	s.enqueue(&ev, d)
}
