package policy

import (
	"fmt"
	"slices"
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/observe"
)

// heard is a Watcher that writes down.
type heard []string

func (h *heard) Verdict(v Verdict, ev *event.Event, failed bool) {
	text := fmt.Sprintf("%s %s %s", v.By, v.Kind, ev.Topic)
	if failed {
		text += " failed"
	}
	*h = append(*h, text)
}

func limited(t *testing.T, events float64, burst int, excess string) *Limit {
	t.Helper()
	l, err := NewLimit(LimitSpec{Events: events, Burst: burst, OnExcess: excess})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestWatcherHearsEachVerdict(t *testing.T) {
	rw, err := NewRewrite(RewriteSpec{Name: "x", Topic: "a/{id}", To: "b/{id}"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	acl, err := NewACL([]ACLSpec{{Deny: []string{"publish"}, Topic: "a/9"}, {Allow: []string{"publish"}, Topic: "#"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := NewChain(nil, limited(t, 1, 1, "delay"), acl, rw)
	for _, x := range []struct {
		topic string
		want  []string
	}{
		{"a/1", []string{"limit pass a/1", "acl pass a/1", "rewrite:x pass b/1"}},
		{"a/9", []string{"limit pass a/9", "acl reject a/9"}},
	} {
		var h heard
		ctx := &Context{Now: 1e18, Session: &State{}, Watch: &h}
		c.Apply(ctx, &event.Event{Topic: []byte(x.topic), From: &event.Origin{Client: "c"}})
		if !slices.Equal(h, x.want) {
			t.Errorf("%s: heard %q, want %q", x.topic, h, x.want)
		}
	}
}

func TestDryEventsTakeNothingAndAreNotCounted(t *testing.T) {
	for _, excess := range []string{"delay", "drop", "reject"} {
		c := NewChain(observe.NewRegistry(), limited(t, 1, 2, excess))
		var st State
		ctx := &Context{Now: 1e18, Session: &st}
		from := &event.Origin{Client: "c"}
		for range 10 {
			if v := c.Apply(ctx, &event.Event{Topic: []byte("a"), From: from, Dry: true}); v.Kind != Pass {
				t.Fatalf("%s: a dry event: %+v", excess, v)
			}
		}
		for i, want := range []bool{true, true, false} {
			if v := c.Apply(ctx, &event.Event{Topic: []byte("a"), From: from}); (v.Kind == Pass) != want {
				t.Errorf("%s: event %d: %+v", excess, i, v)
			}
		}
		if v := c.Apply(ctx, &event.Event{Topic: []byte("a"), From: from, Dry: true}); v.Kind == Pass {
			t.Errorf("%s: a dry event beyond the limit passes", excess)
		}
		ctx.Flush()
		if s := c.Steps()[0]; s.Passed != 2 || s.Dropped+s.Rejected+s.Parked != 1 {
			t.Errorf("%s: counted %+v", excess, s)
		}
	}
}
