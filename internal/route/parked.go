package route

import "github.com/windrose-edc/windrose/internal/event"

// What is said of an event that a taker refused.
const (
	outboxFull = "outbox full"
	noMember   = "no member of the shared subscription takes it"
)

// undecided is an event that a taker refused while other legs are open, one of a list. When the publisher is told success
// it becomes a dead letter; when the publisher is told the refusal it will send it again, and nothing is kept. Owned by
// the fan's slot, or by the settlement that carries it there.
type undecided struct {
	ev             *event.Kept
	client, reason string
	next           *undecided
}

// park makes dead letters of a list.
func (u *undecided) park(d DeadLetters) {
	if d == nil {
		return
	}
	for ; u != nil; u = u.next {
		d.Dead(u.ev, u.client, u.reason)
	}
}

// before puts the list before another one.
func (u *undecided) before(rest *undecided) *undecided {
	last := u
	for last.next != nil {
		last = last.next
	}
	last.next = rest
	return u
}

// park makes a dead letter of an event that was refused and whose publisher cannot be told. A QoS 0 event is just lost.
func (w *Walker) park(ev *event.Event, client, reason string) {
	if w.dead != nil && ev.QoS != event.AtMostOnce {
		w.dead.Dead(ev.Keep(), client, reason)
	}
}

// refuser is who may refuse an event: an outbox or a group.
type refuser interface{ Client() string }

func reasonOf(r refuser) string {
	if _, ok := r.(*Group); ok {
		return noMember
	}
	return outboxFull
}

// parkAll decides about what was refused in this walk: the publisher is told now.
func (w *Walker) parkAll(ev *event.Event, success bool) {
	for _, r := range w.no {
		if success {
			w.park(ev, r.Client(), reasonOf(r))
		}
	}
	w.forget()
}

// undecided keeps what was refused in this walk until the publisher is told.
func (w *Walker) undecided(ev *event.Event, rest *undecided) *undecided {
	for _, r := range w.no {
		rest = &undecided{ev: ev.Keep(), client: r.Client(), reason: reasonOf(r), next: rest}
	}
	w.forget()
	return rest
}

func (w *Walker) forget() {
	clear(w.no)
	w.no = w.no[:0]
}

// answer stages the outcome of an event of another loop, with what was refused here unless it is clear already that the
// publisher is told success.
func (w *Walker) answer(token uint64, o event.Outcome, ev *event.Event) {
	x := settlement{token: token, n: 1, o: o}
	switch {
	case len(w.no) == 0:
	case o == event.Accepted:
		w.parkAll(ev, true)
	default:
		x.parked = w.undecided(ev, nil)
	}
	w.settleAt(int(token>>28&0xff), x)
}

// settleAt brings an outcome to the loop whose fan waits for it: the token names it.
func (w *Walker) settleAt(l int, x settlement) {
	if l == w.id { // an event that came back to its own loop
		w.fan.settle(x.token, x.o, int(x.n), x.parked)
		return
	}
	w.back[l].list = append(w.back[l].list, x)
}
