package route

import (
	"strconv"
	"strings"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/tap"
)

// traceRoute says that a route matched an event at which somebody looks; back: it came from a pool behind the route.
func (w *Walker) traceRoute(ev *event.Event, r *Route, back bool) {
	s := tap.Step{Step: tap.StepRoute, Name: r.Name, Loop: w.id + 1, Detail: "to " + strings.Join(r.Pool, ", ") + "; ack " + r.Ack.String()}
	switch {
	case back:
		s.Verdict, s.Detail = "skipped", "it came from pool "+ev.From.Pool
	case r.Final:
		s.Detail += "; final"
	}
	if r.When != nil && !back {
		s.Detail += "; " + r.When.Explain(&w.look, true, nil)
	}
	w.net.tap.Step(ev.Trace, s, 0)
}

// traceSkip says that a route whose filter matched is not for an event at which somebody looks.
func (w *Walker) traceSkip(ev *event.Event, r *Route, why string) {
	w.net.tap.Step(ev.Trace, tap.Step{Step: tap.StepRoute, Name: r.Name, Verdict: "skipped", Loop: w.id + 1, Detail: why}, 0)
}

// traceHop says that an event at which somebody looks is handed to another loop, or that there is no room for it.
func (w *Walker) traceHop(ev *event.Event, to int, full bool) {
	s, legs := tap.Step{Step: tap.StepHop, Loop: w.id + 1, Detail: "to loop " + strconv.Itoa(to+1)}, 1
	if full {
		s.Verdict, s.Outcome, legs = "refused", event.Throttled.String(), 0
		s.Detail += ", which has no room"
	}
	w.net.tap.Step(ev.Trace, s, legs)
}

// readTraced is readOne for an event at which somebody looks.
func (w *Walker) readTraced(ev *event.Event, legs []Sub, token uint64) {
	before, id := w.stats, ev.Trace
	w.readOne(ev, legs, token)
	if ev.Dry {
		w.stats = before
	}
	w.net.tap.End(id, 1)
}

// tracedLetters says in an event's trace that it becomes a dead letter. One that is not sent becomes none. Immutable.
type tracedLetters struct {
	net *Net
	d   DeadLetters // may be nil
}

// Dead implements DeadLetters.
func (x *tracedLetters) Dead(ev *event.Kept, client, reason string) {
	if ev.Trace != 0 {
		x.net.tap.Step(ev.Trace, tap.Step{Step: tap.StepTarget, Kind: tap.KindSession, Name: client, Verdict: "dead_letter", Detail: reason}, 0)
	}
	if x.d != nil && !ev.Dry {
		x.d.Dead(ev, client, reason)
	}
}

// Explain walks an event that is not sent, as Walk does, and counts nothing.
func (w *Walker) Explain(ev *event.Event, t event.Ticket) {
	before := w.stats
	w.Walk(ev, t)
	w.stats = before
}
