package policy

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"unsafe"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/observe"
)

func boom(*Context, *event.Event) Verdict { panic("boom") }

func TestChainFirstVerdictWins(t *testing.T) {
	rejectInternal := Verdict{Kind: Reject, Outcome: event.Internal}
	tests := []struct {
		name string
		ps   []*fake
		want Verdict
		ask  []int // how often each was asked
	}{
		{"nothing", nil, Verdict{}, nil},
		{"all pass", []*fake{{name: "a"}, {name: "b"}}, Verdict{}, []int{1, 1}},
		{"drop", []*fake{{name: "a"}, {name: "b", v: Verdict{Kind: Drop}}, {name: "c"}}, Verdict{Kind: Drop, By: "b"}, []int{1, 1, 0}},
		{
			"reject and disconnect",
			[]*fake{{name: "a", v: Verdict{Kind: Reject, Outcome: event.Throttled, Disconnect: true}}, {name: "b"}},
			Verdict{Kind: Reject, Outcome: event.Throttled, Disconnect: true, By: "a"},
			[]int{1, 0},
		},
		{"park", []*fake{{name: "a", v: Verdict{Kind: Park, Until: 5}}}, Verdict{Kind: Park, Until: 5, By: "a"}, []int{1}},
		{"panic", []*fake{{name: "a", apply: boom}, {name: "b"}}, Verdict{Kind: Reject, Outcome: event.Internal, By: "a"}, []int{1, 0}},
		{"panic with on_error: pass", []*fake{{name: "a", apply: boom, pass: true}, {name: "b", v: Verdict{Kind: Drop}}}, Verdict{Kind: Drop, By: "b"}, []int{1, 1}},
		{"last panics with on_error: pass", []*fake{{name: "a"}, {name: "b", apply: boom, pass: true}}, Verdict{}, []int{1, 1}},
		{"failure", []*fake{{name: "a", v: rejectInternal}}, Verdict{Kind: Reject, Outcome: event.Internal, By: "a"}, []int{1}},
		{"failure with on_error: pass", []*fake{{name: "a", v: rejectInternal, pass: true}, {name: "b"}}, Verdict{}, []int{1, 1}},
		{"a refusal is no failure", []*fake{{name: "a", v: Verdict{Kind: Reject, Outcome: event.BadTopic}, pass: true}}, Verdict{Kind: Reject, Outcome: event.BadTopic, By: "a"}, []int{1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ps := make([]Policy, len(tt.ps))
			for i, p := range tt.ps {
				ps[i] = p
			}
			c := NewChain(nil, ps...)
			if c.Empty() != (len(ps) == 0) {
				t.Errorf("Empty = %t", c.Empty())
			}
			if got := c.Apply(&Context{}, pub(client("a"), "t")); got != tt.want {
				t.Errorf("Apply = %+v, want %+v", got, tt.want)
			}
			for i, n := range tt.ask {
				if tt.ps[i].asked != n {
					t.Errorf("%s asked %d times, want %d", tt.ps[i].name, tt.ps[i].asked, n)
				}
			}
		})
	}
}

func TestNilChainPasses(t *testing.T) {
	var c *Chain
	if v := c.Apply(&Context{}, pub(client("a"), "t")); v != (Verdict{}) || !c.Empty() || c.Receives() {
		t.Errorf("%+v", v)
	}
	if v := c.Subscribe(&Context{}, client("a"), []byte("#"), 0); v != (Verdict{}) {
		t.Errorf("%+v", v)
	}
	if !c.Receive(&Context{}, client("a"), pub(client("b"), "t")) {
		t.Error("withheld")
	}
}

// A parked event is asked about again from the beginning: it is as it was, and what was taken for it is given back.
func TestChainParkUndoes(t *testing.T) {
	change := func(ctx *Context, ev *event.Event) Verdict {
		at := len(ctx.Scratch)
		ctx.Scratch = append(append(ctx.Scratch, ev.Topic...), "-changed"...)
		ev.Topic = ctx.Scratch[at:]
		ev.Changed()
		return Verdict{}
	}
	a, b := &fake{name: "a"}, &fake{name: "b", apply: change}
	last := &fake{name: "last", v: Verdict{Kind: Park, Until: 9}}
	c := NewChain(nil, a, b, last)
	ctx, ev := &Context{}, pub(client("x"), "t")
	kept := ev.Keep()
	for range 2 {
		if v := c.Apply(ctx, ev); v.Kind != Park || string(ev.Topic) != "t" || ev.Keep() != kept {
			t.Fatalf("%+v, %q", v, ev.Topic)
		}
	}
	if a.refunds != 2 || b.refunds != 2 || last.refunds != 0 {
		t.Errorf("refunds %d, %d, %d", a.refunds, b.refunds, last.refunds)
	}
	last.v = Verdict{Kind: Reject, Outcome: event.Unauthorized}
	if c.Apply(ctx, ev); string(ev.Topic) != "t" || a.refunds != 2 {
		t.Errorf("after a refusal: %q, %d refunds", ev.Topic, a.refunds)
	}
	last.v = Verdict{}
	if c.Apply(ctx, ev); string(ev.Topic) != "t-changed" || string(ev.Keep().Topic) != "t-changed" {
		t.Errorf("after a pass: %q", ev.Topic)
	}
}

// A will cannot be held; being held must not become a way around the policies behind.
func TestApplyNowPassesOverParking(t *testing.T) {
	c := NewChain(nil, &fake{name: "limit", v: Verdict{Kind: Park, Until: 9}}, &fake{name: "acl", v: Verdict{Kind: Reject, Outcome: event.Unauthorized}})
	if v := c.ApplyNow(&Context{}, pub(client("a"), "t")); v.Kind != Reject || v.By != "acl" {
		t.Errorf("%+v", v)
	}
	c = NewChain(nil, &fake{name: "limit", v: Verdict{Kind: Park, Until: 9}})
	if v := c.ApplyNow(&Context{}, pub(client("a"), "t")); v != (Verdict{}) {
		t.Errorf("%+v", v)
	}
}

func TestChainSubscribe(t *testing.T) {
	p := &both{fake: fake{name: "p"}}
	c := NewChain(nil, &fake{name: "not asked", apply: boom}, p)
	for name, tt := range map[string]struct {
		sub  func() Verdict
		pass bool
		want Verdict
	}{
		"pass":             {func() Verdict { return Verdict{} }, false, Verdict{}},
		"reject":           {func() Verdict { return Verdict{Kind: Reject, Outcome: event.Unauthorized} }, false, Verdict{Kind: Reject, Outcome: event.Unauthorized, By: "p"}},
		"cannot be parked": {func() Verdict { return Verdict{Kind: Park} }, false, Verdict{Kind: Reject, Outcome: event.Internal, By: "p"}},
		"panic":            {func() Verdict { panic("boom") }, false, Verdict{Kind: Reject, Outcome: event.Internal, By: "p"}},
		"tolerated panic":  {func() Verdict { panic("boom") }, true, Verdict{}},
	} {
		p.sub, p.pass = tt.sub, tt.pass
		c = NewChain(nil, &fake{name: "not asked", apply: boom}, p)
		if got := c.Subscribe(&Context{}, client("a"), []byte("a/#"), 1); got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
	if !c.Receives() {
		t.Error("Receives = false")
	}
}

func TestChainReceive(t *testing.T) {
	p := &both{fake: fake{name: "p"}}
	for _, tt := range []struct {
		receive func() bool
		pass    bool
		want    bool
	}{
		{func() bool { return true }, false, true}, {func() bool { return false }, true, false},
		{func() bool { panic("boom") }, false, false}, {func() bool { panic("boom") }, true, true},
	} {
		p.receive, p.pass = tt.receive, tt.pass
		if got := NewChain(nil, p).Receive(&Context{}, client("a"), pub(client("b"), "t")); got != tt.want {
			t.Errorf("%+v: %t", tt, got)
		}
	}
	if NewChain(nil, &fake{name: "a"}).Receives() {
		t.Error("a chain without one wants to be asked")
	}
}

func TestChainCounts(t *testing.T) {
	reg := observe.NewRegistry()
	a := &fake{name: "a"}
	b := &both{fake: fake{name: "b"}, sub: func() Verdict { return Verdict{Kind: Reject, Outcome: event.Unauthorized} }, receive: func() bool { return false }}
	var log bytes.Buffer
	c := NewChain(reg, a, b).WithLogger(slog.New(slog.NewTextHandler(&log, nil)))
	ctx := &Context{}
	say := func(n int, v Verdict, apply func(*Context, *event.Event) Verdict) {
		b.v, b.apply = v, apply
		for range n {
			c.Apply(ctx, pub(client("x"), "t"))
		}
	}
	say(100, Verdict{}, nil)
	say(3, Verdict{Kind: Drop}, nil)
	say(2, Verdict{Kind: Reject, Outcome: event.Unauthorized}, nil)
	say(4, Verdict{Kind: Park}, nil)
	say(5, Verdict{}, boom)
	c.Subscribe(ctx, client("x"), []byte("a"), 0)
	c.Receive(ctx, client("x"), pub(client("y"), "t"))
	ctx.Flush()
	ctx.Flush()
	value := func(name string, labels ...string) uint64 { return reg.Counter(name, "", labels...).Value() }
	const verdicts = "windrose_policy_verdict_events_total"
	for _, tt := range []struct {
		got, want uint64
		what      string
	}{
		{value(verdicts, "policy", "a", "kind", "pass"), 114, "a passes"},
		{value(verdicts, "policy", "b", "kind", "pass"), 100, "b passes"},
		{value(verdicts, "policy", "b", "kind", "drop"), 3, "b drops"},
		{value(verdicts, "policy", "b", "kind", "reject"), 7, "b rejects"},
		{value(verdicts, "policy", "b", "kind", "park"), 4, "b parks"},
		{value("windrose_policy_failed_events_total", "policy", "b"), 5, "b fails"},
		{value("windrose_policy_refused_subscriptions_total", "policy", "b"), 1, "subscriptions"},
		{value("windrose_policy_withheld_events_total", "policy", "b"), 1, "deliveries"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %d, want %d", tt.what, tt.got, tt.want)
		}
	}
	if n := strings.Count(log.String(), "policy panicked"); n != 1 || !strings.Contains(log.String(), "policy=b") {
		t.Errorf("%d log lines: %s", n, log.String())
	}
	// A context that moves on to another chain (a reload) leaves nothing behind.
	b.v, b.apply = Verdict{}, nil
	c.Apply(ctx, pub(client("x"), "t"))
	NewChain(nil).Apply(ctx, pub(client("x"), "t"))
	NewChain(nil, a).Apply(ctx, pub(client("x"), "t"))
	if got := value(verdicts, "policy", "b", "kind", "pass"); got != 101 {
		t.Errorf("after a reload: %d", got)
	}
}

func TestState(t *testing.T) {
	var s State
	if unsafe.Sizeof(s) > 16 {
		t.Errorf("an unused state takes %d bytes", unsafe.Sizeof(s))
	}
	if s.Get("a") != nil {
		t.Error("something there")
	}
	x, y := new(int), new(int)
	s.Set("a", x)
	s.Set("b", y)
	s.Set("a", y)
	if s.Get("a") != y || s.Get("b") != y || s.Get("c") != nil {
		t.Error("not what was set")
	}
}

// The chain that an ordinary node has allocates nothing per event, nor when it refuses.
func TestChainAllocatesNothing(t *testing.T) {
	c := NewChain(observe.NewRegistry(),
		fix[*Limit](t)(NewLimit(LimitSpec{Events: 1000, Bytes: 1e6})),
		fix[*TopicGuard](t)(NewTopicGuard(TopicGuardSpec{})),
		fix[*ACL](t)(NewACL([]ACLSpec{
			{Deny: []string{"publish"}, Topic: "site/{attrs.tenant}/+/secret", Client: "pump-*"},
			{Allow: []string{"publish", "subscribe"}, Topic: "site/{attrs.tenant}/{client}/#", Listener: []string{"mqtt"}},
		}, nil)),
		fix[*Rewrite](t)(NewRewrite(RewriteSpec{Topic: "site/{t}/{id}/state", To: "v2/{t}/{client}/{attrs.tenant}/{id}"}, nil)))
	from := client("pump-7")
	var state State
	ctx := &Context{Session: &state}
	for name, tt := range map[string]struct {
		topic, becomes string
		kind           Kind
	}{
		"pass":   {"site/acme/pump-7/state", "v2/acme/pump-7/acme/pump-7", Pass},
		"reject": {"site/acme/pump-7/secret", "site/acme/pump-7/secret", Reject},
	} {
		ev := pub(from, tt.topic)
		topic := ev.Topic
		var v Verdict
		n := testing.AllocsPerRun(200, func() {
			ctx.Now += 1e9
			ev.Topic = topic
			v = c.Apply(ctx, ev)
		})
		if n != 0 || v.Kind != tt.kind || string(ev.Topic) != tt.becomes {
			t.Errorf("%s: %v allocations, %+v, %q", name, n, v, ev.Topic)
		}
	}
	ev := pub(from, "site/acme/pump-7/state")
	if n := testing.AllocsPerRun(200, func() { c.Apply(ctx, ev) }); n != 0 {
		t.Errorf("parking: %v allocations", n)
	}
	filter := []byte("site/acme/pump-7/+")
	if n := testing.AllocsPerRun(200, func() { c.Subscribe(ctx, from, filter, 1) }); n != 0 {
		t.Errorf("subscribing: %v allocations", n)
	}
}

func BenchmarkChain(b *testing.B) {
	c := NewChain(observe.NewRegistry(),
		fix[*Limit](b)(NewLimit(LimitSpec{Events: 1e9, Bytes: 1e12})),
		fix[*TopicGuard](b)(NewTopicGuard(TopicGuardSpec{})),
		fix[*ACL](b)(NewACL([]ACLSpec{{Allow: []string{"publish"}, Topic: "site/{attrs.tenant}/{client}/#"}}, nil)))
	var state State
	ctx := &Context{Session: &state}
	ev := pub(client("pump-7"), "site/acme/pump-7/state")
	for b.Loop() {
		ctx.Now += 1000
		c.Apply(ctx, ev)
	}
}
