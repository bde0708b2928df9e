package route

import (
	"slices"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr"
)

// Input is what the conditions of this loop look at. Who begins it for an event that is then walked (policy.Chain) has its
// payload read once. Only on the loop.
func (w *Walker) Input() *expr.Input { return &w.look }

// takes says whether a route whose filter matched is for the event: its class and its condition. A condition that has no
// answer is counted, told and taken for one that does not hold.
func (w *Walker) takes(r *Route, ev *event.Event) bool {
	if r.Class != nil && !(ev.From != nil && ev.From.Class != nil && slices.Contains(r.Class, ev.From.Class.Name)) {
		if ev.Trace != 0 {
			w.traceSkip(ev, r, "it is for other devices")
		}
		return false
	}
	if r.When == nil {
		return true
	}
	if w.look.Event != ev {
		w.look.Begin(ev)
		w.look.Now, w.look.Client, w.look.Direction = w.clock.Now(), nil, expr.FromDevice
	}
	ok, err := r.When.Holds(&w.look)
	if err != nil {
		r.When.Failed(&w.look, err)
	}
	if !ok && ev.Trace != 0 {
		w.traceSkip(ev, r, r.When.Explain(&w.look, ok, err))
	}
	return ok
}
