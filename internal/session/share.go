package session

import (
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/route"
)

// HandOn says when the events that a member of a shared subscription has, and has not acknowledged, go to another member.
type HandOn uint8

// The rules. Whatever the rule, an exactly-once event that was sent stays with the client it was sent to
// ([MQTT-4.8.2-4], [MQTT-4.8.2-5]).
const (
	HandOnEnd        HandOn = iota // when its session ends
	HandOnDisconnect               // when its connection ends, if another member has one
)

// shares is a session's places in groups, the shared subscriptions. Owned by its session, except load, which others read.
type shares struct {
	load route.Load
	list []*route.Member
}

func (s *shares) find(key []byte) int {
	if s != nil {
		for i, m := range s.list {
			if m.Group().Key == string(key) {
				return i
			}
		}
	}
	return -1
}

func (s *shares) in(g *route.Group) bool {
	if s != nil {
		for _, m := range s.list {
			if m.Group() == g {
				return true
			}
		}
	}
	return false
}

// share is what a delivery of a group remembers beside the others: whose event it is, and, where the session ends with its
// connection, the event. Owned by its delivery; when that is done the host keeps it for the next.
type share struct {
	group *route.Group
	ev    event.Event // its bytes are in buf; empty where sent.ev has it
	buf   []byte
	next  *share // in the host's free list
}

// The host's free list of shares: how many, and up to which size their bytes stay.
const (
	freeShares = 1 << 12
	freeBytes  = 4 << 10
)

// lend makes the share of a delivery. It copies the event where nobody else keeps it and another member may need it.
func (h *Host) lend(ev *event.Event, g *route.Group, keep bool) *share {
	x := h.free
	if x == nil {
		x = &share{}
	} else {
		h.free, x.next = x.next, nil
		h.frees--
	}
	x.group = g
	if keep {
		b := append(append(append(x.buf[:0], ev.Topic...), ev.Meta...), ev.Payload...)
		n := len(ev.Topic)
		m := n + len(ev.Meta)
		x.buf = b
		x.ev = event.Event{Topic: b[:n:n], Meta: b[n:m:m], Payload: b[m:], From: ev.From, Time: ev.Time, Expires: ev.Expires,
			QoS: ev.QoS, Retain: ev.Retain}
	}
	return x
}

func (h *Host) takeBack(x *share) {
	x.group, x.ev = nil, event.Event{}
	if h.frees >= freeShares {
		return
	}
	if cap(x.buf) > freeBytes {
		x.buf = nil
	}
	x.next = h.free
	h.free = x
	h.frees++
}

// TakeShared implements route.Outbox: an event of a group that the session is in. What it cannot take another member is
// asked to take, so nothing is dropped to make room.
func (s *Session) TakeShared(ev *event.Event, sub route.Sub, g *route.Group) event.Outcome {
	if !s.shares.in(g) {
		return event.NoMatch // no longer
	}
	qos := min(event.QoS(sub.QoS()), ev.QoS)
	f := s.fate(ev, qos)
	if f == fateMakesRoom || f == fateEnds {
		f = fateRefused
	}
	if f == fateSent && !ev.Dry {
		d := Delivery{QoS: qos, Retain: ev.Retain && sub.RetainAsPublished(), SubID: sub.ID()}
		switch {
		case qos > 0:
			if !s.sendOf(ev, d, g) {
				f = fateTooLarge
			}
		case s.peer.Send(ev, d):
			s.countSent()
		default:
			f = fateTooLarge
		}
	}
	if f == fateQueued && !ev.Dry {
		s.put(ev, Delivery{QoS: qos, Retain: ev.Retain && sub.RetainAsPublished(), SubID: sub.ID()}, g)
	}
	if ev.Trace != 0 {
		s.traceTake(ev, f, qos)
	}
	switch f {
	case fateExpired:
		if !ev.Dry {
			s.drop(DropExpired)
		}
		return event.Accepted // as its sender asked
	case fateSent, fateQueued:
		return event.Accepted
	case fateTooLarge:
		return event.TooLarge
	case fateRefused:
		return event.Throttled
	case fateOwn, fateWithheld, fateOffline, fateSlow, fateMakesRoom, fateEnds:
	}
	return event.NoMatch // it asked no promise
}

// finish ends a delivery.
func (s *Session) finish(x *sent) {
	if x.share != nil {
		s.returned(x)
	}
	s.out.finish(x)
}

// returned ends what a delivery of a group remembers.
func (s *Session) returned(x *sent) {
	s.shares.load.Open.Add(-1)
	s.host.takeBack(x.share)
	x.share = nil
}

// join makes the session a member of the group of a shared filter, or changes its options there.
func (s *Session) join(key []byte, sub route.Sub) *route.Member {
	if i := s.shares.find(key); i >= 0 {
		m := s.shares.list[i]
		m.Set(sub)
		return m
	}
	if s.shares == nil {
		s.shares = &shares{}
	}
	s.shares.load.Window.Store(int32(s.window))
	m := s.host.shared.Net.Groups().Join(key, sub, &s.shares.load)
	if m != nil {
		s.shares.list = append(s.shares.list, m)
	}
	return m
}

// part ends a membership. Where it was the last of its group it appends the group's change of the index, and its number,
// which rests once that is made.
func (s *Session) part(key []byte, cs []route.Change, gone []uint32) ([]route.Change, []uint32) {
	i := s.shares.find(key)
	if i < 0 {
		return cs, gone
	}
	m := s.shares.list[i]
	last := len(s.shares.list) - 1
	s.shares.list[i] = s.shares.list[last]
	s.shares.list[last] = nil
	s.shares.list = s.shares.list[:last]
	if g := m.Group(); s.host.shared.Net.Groups().Leave(m) {
		return append(cs, g.Change(true)), append(gone, g.Taker())
	}
	return cs, gone
}

// meet tells the groups whether the session has a connection.
func (s *Session) meet(online bool) {
	if s.shares == nil {
		return
	}
	s.shares.load.Window.Store(int32(s.window))
	for _, m := range s.shares.list {
		s.host.shared.Net.Groups().Online(m, online)
	}
}

// handOn gives the events of groups that the session has to other members: those that wait, and those that were sent at
// least once and are not acknowledged. While the session goes on, only where another member has a connection.
func (s *Session) handOn(ended bool) {
	if s.shares == nil {
		return
	}
	for i := range s.out.ring {
		x := &s.out.ring[i]
		if x.share == nil || x.state != dlSent || x.qos != event.AtLeastOnce || !ended && !x.share.group.Online() {
			continue
		}
		ev := &x.share.ev
		if x.ev != nil {
			ev = &x.ev.Event
		}
		s.host.handOn(ev, x.share.group)
		if x.flags&flagAgain != 0 {
			s.out.again--
		}
		s.returned(x)
		x.state, x.ev, x.more, x.flags = dlDone, nil, nil, 0
		s.out.open--
	}
	s.out.trim()
	n := s.out.waiting()
	if n == 0 {
		return
	}
	for range n {
		w := s.pop()
		if w.group != nil && (ended || w.group.Online()) {
			s.host.handOn(&w.ev.Event, w.group)
			continue
		}
		s.push(w)
	}
}

// handOn walks an event to its group again, at the end of this turn or when there is room.
func (h *Host) handOn(ev *event.Event, g *route.Group) {
	if ev.Expired(h.clock.Now()) {
		h.Tally.Dropped[DropExpired]++
		return
	}
	h.Tally.HandedOn++
	k := ev.Keep()
	h.sourcedBytes.Add(int64(k.Size()))
	h.sourced = append(h.sourced, sourced{ev: k, group: g})
	h.clock.Wake() // a lost connection is noticed late in a turn
}
