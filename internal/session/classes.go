package session

import "github.com/windrose-edc/windrose/internal/event"

// classify gives an origin that nobody else sees yet its device class.
func (h *Host) classify(o *event.Origin) {
	if h.shared.Classes == nil || o.Pool != "" {
		return
	}
	if c := h.shared.Classes(); !c.Current(o) {
		h.ctx.Now = h.clock.Now()
		o.Class = c.Of(&h.ctx, o)
	}
}

// reclassify gives the session its class anew where the classes have changed since. ev, which may be nil, is the client's
// event. What is under way keeps the origin that it has.
func (s *Session) reclassify(ev *event.Event) {
	h := s.host
	if h.shared.Classes == nil || s.Origin == nil || h.shared.Classes().Current(s.Origin) {
		return
	}
	o := *s.Origin
	h.classify(&o)
	if ev != nil && ev.From == s.Origin {
		ev.From = &o
	}
	s.Origin = &o
}
