package policy

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
)

const second = int64(1e9)

// start is a time like the present one.
const start = 1_790_000_000 * second

func TestLimitBurstThenRate(t *testing.T) {
	l := fix[*Limit](t)(NewLimit(LimitSpec{Events: 10, Burst: 5}))
	var s State
	ctx := &Context{Now: start, Session: &s}
	ev := pub(client("a"), "t")
	for i := range 5 {
		if v := l.Apply(ctx, ev); v.Kind != Pass {
			t.Fatalf("event %d of the burst: %+v", i, v)
		}
	}
	for i := int64(1); i <= 20; i++ {
		v := l.Apply(ctx, ev)
		if want := start + i*second/10; v.Kind != Park || v.Until != want {
			t.Fatalf("event %d: %+v, want park until %d", i, v, want)
		}
		// Asking again, early and often, does not move the time.
		for range 3 {
			ctx.Now += second / 100
			if again := l.Apply(ctx, ev); again != v {
				t.Fatalf("asked again: %+v, want %+v", again, v)
			}
		}
		ctx.Now = v.Until
		if v := l.Apply(ctx, ev); v.Kind != Pass {
			t.Fatalf("at its time: %+v", v)
		}
	}
	ctx.Now += 10 * second // a long pause gives no more than the burst
	n := 0
	for l.Apply(ctx, ev).Kind == Pass {
		n++
	}
	if n != 5 {
		t.Errorf("%d events after a pause", n)
	}
}

func TestLimitBytes(t *testing.T) {
	l := fix[*Limit](t)(NewLimit(LimitSpec{Bytes: 1000, BytesBurst: 2000}))
	var s State
	ctx := &Context{Now: start, Session: &s}
	ev := pub(client("a"), "t")
	ev.Payload = make([]byte, 999)
	for i := range 2 {
		if v := l.Apply(ctx, ev); v.Kind != Pass {
			t.Fatalf("event %d: %+v", i, v)
		}
	}
	if v := l.Apply(ctx, ev); v.Kind != Park || v.Until != start+second {
		t.Fatalf("%+v", v)
	}
	// An event larger than the bucket goes when the bucket is full, and is paid off afterwards.
	big := pub(client("a"), "t")
	big.Payload = make([]byte, 9_999)
	v := l.Apply(ctx, big)
	if v.Kind != Park || v.Until != start+2*second {
		t.Fatalf("%+v", v)
	}
	ctx.Now = v.Until
	if v = l.Apply(ctx, big); v.Kind != Pass {
		t.Fatalf("%+v", v)
	}
	if v = l.Apply(ctx, ev); v.Kind != Park || v.Until != ctx.Now+9*second {
		t.Errorf("after the large one: %+v", v)
	}
}

func TestLimitOnExcess(t *testing.T) {
	for word, want := range map[string]Verdict{
		"": {Kind: Park, Until: start + second}, "delay": {Kind: Park, Until: start + second}, "drop": {Kind: Drop},
		"reject": {Kind: Reject, Outcome: event.Throttled}, "disconnect": {Kind: Reject, Outcome: event.Throttled, Disconnect: true},
	} {
		l := fix[*Limit](t)(NewLimit(LimitSpec{Events: 1, OnExcess: word}))
		var s State
		ctx := &Context{Now: start, Session: &s}
		ev := pub(client("a"), "t")
		if v := l.Apply(ctx, ev); v.Kind != Pass {
			t.Errorf("%q: %+v", word, v)
		}
		for range 3 { // what is refused takes nothing
			if v := l.Apply(ctx, ev); v != want {
				t.Errorf("%q: %+v, want %+v", word, v, want)
			}
		}
		ctx.Now += second
		if v := l.Apply(ctx, ev); v.Kind != Pass {
			t.Errorf("%q a second later: %+v", word, v)
		}
	}
}

func TestLimitIsPerSessionAndForClients(t *testing.T) {
	l := fix[*Limit](t)(NewLimit(LimitSpec{Events: 1}))
	var a, b State
	ev := pub(client("a"), "t")
	if v := l.Apply(&Context{Now: start, Session: &a}, ev); v.Kind != Pass {
		t.Errorf("%+v", v)
	}
	if v := l.Apply(&Context{Now: start, Session: &b}, ev); v.Kind != Pass {
		t.Errorf("another session: %+v", v)
	}
	// A reload makes another policy; what the session has used stays used.
	again := fix[*Limit](t)(NewLimit(LimitSpec{Events: 1}))
	if v := again.Apply(&Context{Now: start, Session: &a}, ev); v.Kind != Park {
		t.Errorf("after a reload: %+v", v)
	}
	source := client("a")
	source.Pool = "brokers"
	for name, e := range map[string]*event.Event{"a source": pub(source, "t"), "the server": pub(nil, "t")} {
		if v := l.Apply(&Context{Now: start, Session: &a}, e); v.Kind != Pass {
			t.Errorf("%s: %+v", name, v)
		}
		l.Refund(&Context{Now: start, Session: &a}, e)
	}
	if v := l.Apply(&Context{Now: start}, ev); v.Kind != Pass {
		t.Errorf("no session: %+v", v)
	}
	l.Refund(&Context{Now: start}, ev)
	if v := l.Apply(&Context{Now: start, Session: &a}, ev); v.Kind != Park {
		t.Errorf("refunded to the wrong one: %+v", v)
	}
}

func TestLimitClockSetBack(t *testing.T) {
	l := fix[*Limit](t)(NewLimit(LimitSpec{Events: 1}))
	var s State
	ctx := &Context{Now: start, Session: &s}
	ev := pub(client("a"), "t")
	l.Apply(ctx, ev)
	ctx.Now -= 3600 * second
	if v := l.Apply(ctx, ev); v.Kind != Park || v.Until != ctx.Now+second {
		t.Errorf("waits %d s", (v.Until-ctx.Now)/second)
	}
}

func TestLimitRefund(t *testing.T) {
	l := fix[*Limit](t)(NewLimit(LimitSpec{Events: 1, Bytes: 10}))
	held := &fake{name: "held", v: Verdict{Kind: Park, Until: 1}}
	c := NewChain(nil, l, held)
	var s State
	ctx := &Context{Now: start, Session: &s}
	ev := pub(client("a"), "t")
	for range 5 {
		if v := c.Apply(ctx, ev); v.By != "held" {
			t.Fatalf("%+v", v)
		}
	}
	held.v = Verdict{}
	if v := c.Apply(ctx, ev); v.Kind != Pass {
		t.Errorf("%+v", v)
	}
	if v := c.Apply(ctx, ev); v.By != "limit" {
		t.Errorf("%+v", v)
	}
}

func TestLimitSpecErrors(t *testing.T) {
	for _, spec := range []LimitSpec{
		{Events: -1}, {Bytes: -1}, {Events: math.NaN()}, {Burst: -1}, {BytesBurst: -1}, {OnExcess: "panic"},
		{Events: 1e-9}, {Events: 1, Burst: math.MaxInt64}, {Bytes: 1, BytesBurst: math.MaxInt64},
	} {
		if _, err := NewLimit(spec); err == nil {
			t.Errorf("%+v: no error", spec)
		}
		if err := spec.Validate(); err == nil || !strings.Contains(err.Error(), ": ") {
			t.Errorf("%+v: %v", spec, err)
		}
	}
	// No limit at all.
	l := fix[*Limit](t)(NewLimit(LimitSpec{}))
	var s State
	for range 1000 {
		if v := l.Apply(&Context{Now: start, Session: &s}, pub(client("a"), "t")); v.Kind != Pass {
			t.Fatalf("%+v", v)
		}
	}
	if _, err := NewLimit(LimitSpec{Events: math.Inf(1), Bytes: math.Inf(1)}); err != nil {
		t.Error(err)
	}
}

// Over any time, with any sizes and pauses, no more passes than rate and burst allow, and a client that waits as it is
// told gets nearly all of it.
func TestLimitHoldsOverTime(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		spec := LimitSpec{
			Events: 1 + 500*r.Float64(), Burst: 1 + r.IntN(50), Bytes: 1000 + 1e5*r.Float64(), BytesBurst: int64(1000 + r.IntN(100_000)),
		}
		l := fix[*Limit](t)(NewLimit(spec))
		var s State
		ctx := &Context{Now: start, Session: &s}
		var events, size, largest float64
		for range 2000 {
			ev := pub(client("a"), "t")
			ev.Payload = make([]byte, r.IntN(2000))
			v := l.Apply(ctx, ev)
			for v.Kind == Park {
				if v.Until <= ctx.Now {
					t.Fatalf("parked until the past")
				}
				ctx.Now = v.Until
				v = l.Apply(ctx, ev)
			}
			events++
			size += float64(len(ev.Payload) + 1)
			largest = max(largest, float64(len(ev.Payload)+1))
		}
		d := float64(ctx.Now-start) / 1e9
		if limit := spec.Events*d + float64(spec.Burst); events > limit+1 {
			t.Fatalf("%+v: %v events in %v s, at most %v", spec, events, d, limit)
		}
		if limit := spec.Bytes*d + float64(spec.BytesBurst) + largest; size > limit+1 {
			t.Fatalf("%+v: %v bytes in %v s, at most %v", spec, size, d, limit)
		}
		if events < 0.99*(spec.Events*d) && size < 0.99*(spec.Bytes*d) {
			t.Fatalf("%+v: only %v events and %v bytes in %v s", spec, events, size, d)
		}
	}
}
