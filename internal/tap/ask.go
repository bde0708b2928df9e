package tap

import (
	"context"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// AnyPool is the name under which Assume holds what every pool that is not named answers.
const AnyPool = "*"

// Answer is the record of an event that is not sent, in the making. Safe for concurrent use.
type Answer struct {
	h      *Hub
	id     uint32
	assume map[string]event.Outcome
	done   chan Record
}

// Ask begins the record of an event that is not sent: ev becomes Dry, and walks like any other from here. assume says
// what the members of pools answer (AnyPool: of all others); nobody asks them.
func (h *Hub) Ask(ev *event.Event, assume map[string]event.Outcome) *Answer {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := &Answer{h: h, assume: assume, done: make(chan Record, 1)}
	t := &trace{start: time.Now(), asked: a}
	ev.Dry = true
	h.enter(t, ev, false)
	a.id = t.id
	return a
}

// Assumed says what the members of a pool answer about the event of that number.
func (h *Hub) Assumed(id uint32, pool string) (o event.Outcome, ok bool) {
	if h == nil {
		return 0, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.open[id]
	if t == nil || t.asked == nil {
		return 0, false
	}
	if o, ok = t.asked.assume[pool]; !ok {
		o, ok = t.asked.assume[AnyPool]
	}
	return o, ok
}

// Wait returns the record when it is complete, or as it is when ctx ends; then the error is that of ctx.
func (a *Answer) Wait(ctx context.Context) (Record, error) {
	select {
	case r := <-a.done:
		return r, nil
	case <-ctx.Done():
	}
	a.h.mu.Lock()
	defer a.h.mu.Unlock()
	t := a.h.open[a.id]
	if t == nil || t.asked != a { // it came in this moment
		return <-a.done, nil
	}
	a.h.abandon(t)
	return t.rec.copied(), ctx.Err()
}

// Show is the record as it may be given out: names that are never shown are hidden.
func (h *Hub) Show(r Record) Record {
	h.rules.Load().finish(&r, false)
	return r
}
