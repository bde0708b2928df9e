package route

import (
	"slices"
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr/when"
	"github.com/windrose-edc/windrose/internal/observe"
)

// taking is a target that takes everything at once.
type taking struct{ n int }

// Deliver implements event.Target.
func (x *taking) Deliver(_ *event.Event, t event.Ticket) {
	x.n++
	t.Settle(event.Accepted)
}

// A route takes what its class and its condition take; one without an answer takes nothing. The payload of an event is read
// anew for each event, though loops use one place for all of them, and nothing is allocated.
func TestRouteConditions(t *testing.T) {
	n := newWalkNode(t, 1, 1<<20)
	reg := observe.NewRegistry()
	c := when.NewCompiler(nil, nil, reg)
	var rs []*Route
	targets := map[string]*taking{}
	for _, x := range []struct{ name, topic, when, class string }{
		{"hot", "s/{id}", "event.json.t > 80.0", ""}, {"seven", "s/{id}", `vars.id == "7"`, ""}, {"pumps", "s/#", "", "pump"}, {"all", "#", "", ""},
	} {
		p, err := event.ParsePattern(x.topic)
		if err != nil {
			t.Fatal(err)
		}
		w, err := c.Compile(when.Text{Src: x.when}, when.Place{Kind: "route", Name: x.name, Pattern: &p})
		if err != nil {
			t.Fatal(err)
		}
		targets[x.name] = &taking{}
		r := &Route{Name: x.name, Topic: x.topic, When: w, Target: targets[x.name]}
		if x.class != "" {
			r.Class = []string{x.class}
		}
		rs = append(rs, r)
	}
	n.routes(rs...)
	w := n.net.Walker(0)
	ev := &event.Event{From: &event.Origin{Client: "c"}}
	for _, tt := range []struct {
		topic, payload, class string
		want                  []string
	}{
		{"s/7", `{"t":81}`, "pump", []string{"hot", "seven", "pumps", "all"}},
		{"s/8", `{"t":79}`, "pump", []string{"pumps", "all"}},
		{"s/8", `{"t":81}`, "", []string{"hot", "all"}},
		{"s/8", `{"t":81,"t":81}`, "other", []string{"all"}},
		{"s/7", `{"x":1}`, "", []string{"seven", "all"}},
		{"s/7", ``, "", []string{"seven", "all"}},
		{"x", `{"t":81}`, "", []string{"all"}},
	} {
		if ev.From.Class = nil; tt.class != "" {
			ev.From.Class = &event.Class{Name: tt.class}
		}
		ev.Topic, ev.Payload = []byte(tt.topic), []byte(tt.payload)
		ev.Changed()
		for _, x := range targets {
			x.n = 0
		}
		w.Walk(ev, event.Ticket{})
		var got []string
		for _, r := range rs {
			if targets[r.Name].n > 0 {
				got = append(got, r.Name)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s %s class %q: %v, want %v", tt.topic, tt.payload, tt.class, got, tt.want)
		}
		if w.look.Event != nil {
			t.Error("the loop holds an event that is through")
		}
		if a := testing.AllocsPerRun(50, func() { w.Walk(ev, event.Ticket{}) }); a != 0 {
			t.Errorf("%s: %v allocations", tt.payload, a)
		}
	}
	if f := reg.Counter("windrose_condition_failed_events_total",
		"Events for which a condition (when) had no answer: what a route or class does not take, and a gate refuses.", "kind", "route").Value(); f == 0 {
		t.Error("a condition without an answer is not counted")
	}
	if rs[0].Matched() == rs[3].Matched() {
		t.Error("a route counts events that its condition does not take")
	}
}
