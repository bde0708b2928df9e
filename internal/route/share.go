package route

import "github.com/windrose-edc/windrose/internal/event"

// The walk of an event to a group. The loop that walks it chooses the member, so that it crosses once at most, like any
// other; only when that member does not take it does it go on from there to another one. While it is under way its group's
// number carries, in place of a subscription identifier, how many members were asked.

func triesOf(gs Sub) int { return int(gs.ID()) }

func withTries(gs Sub, n int) Sub { return MakeSub(gs.Taker(), 0, false, false, uint32(n)) }

// Client is who refused where nobody in the group took an event.
func (g *Group) Client() string { return g.Key }

// offer has an event taken by a member of the group on this loop. When the next one to ask is elsewhere it is returned, with
// the group as it is to be sent there; else o is what became of the event.
func (w *Walker) offer(ev *event.Event, g *Group, gs Sub) (o event.Outcome, group, next Sub) {
	m := w.pick(g, ev)
	if m == nil {
		return event.NoMatch, gs, 0
	}
	return w.ask(ev, g, gs, m.Sub())
}

// ask asks s first, then the others.
func (w *Walker) ask(ev *event.Event, g *Group, gs, s Sub) (o event.Outcome, group, next Sub) {
	o = event.NoMatch
	for tries := triesOf(gs); ; {
		if s.Loop() != w.id {
			return o, withTries(gs, tries), s
		}
		switch x := w.takeShared(ev, s, g); x {
		case event.Accepted:
			w.stats.Shared++
			return x, gs, 0
		case event.NoMatch: // it left, or must not have it
		default:
			o = x
		}
		tries++
		var ok bool
		if s, ok = g.after(s, tries, ev); !ok {
			break
		}
		w.stats.SharedAgain++
	}
	w.stats.SharedLost++
	switch {
	case o == event.TooLarge: // for each that could have had it: as if it had been sent ([MQTT-3.1.2-25])
		o = event.Accepted
	case ev.QoS == event.AtMostOnce:
		o = event.NoMatch
	}
	return o, gs, 0
}

func (w *Walker) takeShared(ev *event.Event, s Sub, g *Group) event.Outcome {
	i := s.Slot()
	if i >= len(w.takers) || w.takers[i] == nil {
		return event.NoMatch
	}
	w.stats.Legs++
	return w.takers[i].TakeShared(ev, s, g)
}

// forward stages an event for a member of a group on another loop. It reports false when there is no room.
func (w *Walker) forward(ev *event.Event, gs, next Sub, token uint64) bool {
	b := &w.out[next.Loop()]
	if b.size() > 2*w.net.walkers[next.Loop()].in[w.id].events.Limit() {
		w.stats.MailDropped++
		return false
	}
	w.stats.Remote++
	if ev.Trace != 0 {
		w.traceHop(ev, next.Loop(), false)
	}
	b.add(ev, []Sub{gs, next}, token)
	return true
}

// readShared takes an event for a group that another loop sent here, because the member s is here.
func (w *Walker) readShared(ev *event.Event, gs, s Sub, token uint64, told bool) {
	g := w.net.groups.at(gs.Slot())
	o, next := event.NoMatch, Sub(0)
	if g != nil {
		o, gs, next = w.ask(ev, g, gs, s)
	}
	if next != 0 {
		if w.forward(ev, gs, next, token) {
			return
		}
		o = event.Throttled
	}
	if !o.OK() && told {
		w.no = append(w.no, g)
	} else if !o.OK() {
		w.park(ev, g.Key, noMember)
	}
	if token != 0 {
		w.answer(token, o, ev)
	}
}

// Share walks an event that was taken over before to a group of that key: a member had it and is gone. When nobody takes
// it, it becomes a dead letter. ev is borrowed.
func (w *Walker) Share(ev *event.Event, g *Group) {
	if len(*g.on.Load())+len(*g.off.Load()) == 0 {
		key := g.Key
		if g = w.net.groups.Find(key); g == nil {
			w.stats.SharedLost++
			w.park(ev, key, noMember)
			return
		}
	}
	o, gs, next := w.offer(ev, g, MakeSub(g.taker, 0, false, false, 0))
	if next != 0 && w.forward(ev, gs, next, 0) || o == event.Accepted && next == 0 {
		return
	}
	w.park(ev, g.Key, noMember)
}
