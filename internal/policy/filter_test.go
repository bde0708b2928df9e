package policy

import (
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
)

// An access rule may grant subscriptions a lower QoS; a rewrite gives a filter the name that its topics get.
func TestSubscriptionsAreChanged(t *testing.T) {
	acl, err := NewACL([]ACLSpec{
		{Deny: []string{"subscribe"}, Topic: "secret/#"},
		{Allow: []string{"subscribe"}, Topic: "low/#", MaxQoS: "0"},
		{Allow: []string{"subscribe"}, Topic: "mid/#", MaxQoS: "1"},
		{Allow: []string{"subscribe"}, Topic: "#"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	rewrite, err := NewRewrite(RewriteSpec{Topic: "old/{id}/{what}", To: "new/{what}/x-{id}", Subscriptions: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tenant, err := NewRewrite(RewriteSpec{Topic: "my/#", To: "all/{client}", Subscriptions: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	events, err := NewRewrite(RewriteSpec{Topic: "mid/#", To: "elsewhere"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := NewChain(nil, acl, rewrite, tenant, events)
	ctx, from := &Context{Session: &State{}}, &event.Origin{Client: "c1"}
	for _, x := range []struct {
		filter string
		qos    int // -1: refused
		to     string
		ok     bool
	}{
		{"a/b", 2, "a/b", true},
		{"low/x", 0, "low/x", true},
		{"mid/x", 1, "mid/x", true},
		{"secret/x", -1, "secret/x", true},
		{"old/1/2", 2, "new/2/x-1", true},
		{"old/1/+", 2, "new/+/x-1", true},
		{"old/+/2", 2, "", false}, // + would not stand alone
		{"old/#", -2, "old/#", true},
		{"my/own/#", 2, "all/c1", true},
	} {
		v := c.Subscribe(ctx, from, []byte(x.filter), event.ExactlyOnce)
		got := 2
		switch {
		case v.Kind == Reject:
			got = -1
		case v.Lowered:
			got = int(v.QoS)
		}
		if x.qos >= -1 && got != x.qos {
			t.Errorf("%s: QoS %d, want %d", x.filter, got, x.qos)
		}
		to, ok := c.Filter(ctx, from, []byte(x.filter))
		if ok != x.ok || string(to) != x.to {
			t.Errorf("%s becomes %q %v", x.filter, to, ok)
		}
	}
	for _, bad := range []string{"3", "-1", "x"} {
		if _, err := NewACL([]ACLSpec{{Allow: []string{"subscribe"}, Topic: "#", MaxQoS: GrantQoS(bad)}}, nil); err == nil {
			t.Errorf("max_qos %s taken", bad)
		}
	}
	if _, ok := (*Chain)(nil).Filter(ctx, from, []byte("x")); !ok {
		t.Error("no chain")
	}
}
