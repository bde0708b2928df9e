package policy

import (
	"log/slog"
	"runtime/debug"
	"sync/atomic"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/observe"
)

// passBatch is how many passed events a Context counts by itself before it adds them to the shared counters.
const passBatch = 64

// Chain asks policies in order; the first verdict other than Pass is the answer. Immutable after New; safe for
// concurrent use, each caller with its own Context. The methods of a nil Chain pass everything.
type Chain struct {
	steps    []step
	receives []receiver
}

// step is one policy of a chain with what the chain knows about it. Immutable after New; the counters are atomics.
type step struct {
	policy   Policy
	name     string
	subs     SubscribePolicy // nil: does not look at subscriptions
	filters  FilterPolicy    // nil: does not change them
	refund   Refunder        // nil: takes nothing
	tolerant bool            // on_error: pass
	log      *slog.Logger
	panicked *atomic.Bool // the first panic is logged, all are counted
	kinds    [numKinds]*observe.Counter
	failures *observe.Counter
	refused  *observe.Counter // subscriptions
}

// receiver is one ReceivePolicy of a chain. Immutable after New.
type receiver struct {
	step   *step
	policy ReceivePolicy
	held   *observe.Counter
}

// NewChain returns the chain of ps, asked in that order. Verdicts are counted in reg, which may be nil, by policy and
// kind. A panic of a policy is counted, and logged where WithLogger says.
//
// The order that the application uses is limits, topic guard, acl, rewrites: denied events count against the limits, and
// the rules of an acl name topics as clients say them.
func NewChain(reg *observe.Registry, ps ...Policy) *Chain {
	c := &Chain{steps: make([]step, len(ps))}
	for i, p := range ps {
		s := &c.steps[i]
		*s = step{policy: p, name: p.Name(), panicked: new(atomic.Bool), log: slog.New(slog.DiscardHandler)}
		s.subs, _ = p.(SubscribePolicy)
		s.filters, _ = p.(FilterPolicy)
		s.refund, _ = p.(Refunder)
		if t, ok := p.(Tolerant); ok {
			s.tolerant = t.PassOnError()
		}
		for k := range numKinds {
			s.kinds[k] = reg.Counter("windrose_policy_verdict_events_total",
				"Verdicts on published events; a parked event counts each time it is asked about.", "policy", s.name, "kind", k.String())
		}
		s.failures = reg.Counter("windrose_policy_failed_events_total",
			"Events a policy could not decide about, by panic or internal error.", "policy", s.name)
		if s.subs != nil || s.filters != nil {
			s.refused = reg.Counter("windrose_policy_refused_subscriptions_total", "Subscriptions refused.", "policy", s.name)
		}
		if r, ok := p.(ReceivePolicy); ok && r.Receives() {
			c.receives = append(c.receives, receiver{step: s, policy: r, held: reg.Counter("windrose_policy_withheld_events_total",
				"Deliveries withheld from one subscriber.", "policy", s.name)})
		}
	}
	return c
}

// WithLogger makes the chain log panics to log and returns it. Called before the chain is used.
func (c *Chain) WithLogger(log *slog.Logger) *Chain {
	for i := range c.steps {
		c.steps[i].log = log
	}
	return c
}

// Empty says whether the chain has no policy: the caller may skip Apply and Subscribe.
func (c *Chain) Empty() bool { return c == nil || len(c.steps) == 0 }

// Receives says whether any policy looks at deliveries: where false, the caller never calls Receive.
func (c *Chain) Receives() bool { return c != nil && len(c.receives) > 0 }

// Apply asks every policy about ev. On Pass ev may have been changed and is valid until the next Apply with ctx. On any
// other verdict ev is as it was given: a parked event is held by the caller, in order with its lane, and given to Apply
// again at Verdict.Until (or earlier, which does no harm).
func (c *Chain) Apply(ctx *Context, ev *event.Event) Verdict { return c.apply(ctx, ev, false) }

// ApplyNow is Apply for an event that nobody can hold: a will, whose connection is gone. Policies that would park it are
// passed over, and all others decide as ever. The verdict is never Park.
func (c *Chain) ApplyNow(ctx *Context, ev *event.Event) Verdict { return c.apply(ctx, ev, true) }

func (c *Chain) apply(ctx *Context, ev *event.Event, now bool) Verdict {
	if c.Empty() {
		return Verdict{}
	}
	before := *ev
	ctx.Scratch, ctx.at, ctx.begun = ctx.Scratch[:0], 0, false
	for {
		v, failed := c.run(ctx, ev, now)
		if failed { // by a panic; the failing policy is ctx.at
			s := &c.steps[ctx.at]
			s.failures.Inc()
			if s.tolerant {
				ctx.watched(s, Verdict{}, ev, true)
				ctx.at++
				continue
			}
			v = Verdict{Kind: Reject, Outcome: event.Internal}
			ctx.watched(s, v, ev, true)
		}
		if ctx.begun && v.Kind != Pass {
			ctx.done()
		}
		if v.Kind == Pass {
			if ev.Dry {
				c.giveBack(ctx, ev, len(c.steps))
			} else {
				c.countPass(ctx)
			}
			return v
		}
		s := &c.steps[ctx.at]
		v.By = s.name
		if !before.Dry {
			for i := range c.steps[:ctx.at] {
				c.steps[i].kinds[Pass].Inc()
			}
			if v.Kind < numKinds {
				s.kinds[v.Kind].Inc()
			}
		}
		*ev = before
		if v.Kind == Park || ev.Dry {
			c.giveBack(ctx, ev, ctx.at)
		}
		return v
	}
}

// giveBack returns what the first n policies took for an event that does not go on now.
func (c *Chain) giveBack(ctx *Context, ev *event.Event, n int) {
	for i := n - 1; i >= 0; i-- {
		if r := c.steps[i].refund; r != nil {
			r.Refund(ctx, ev)
		}
	}
}

// watched tells who looks at the event what a policy said.
func (ctx *Context) watched(s *step, v Verdict, ev *event.Event, failed bool) {
	if ctx.Watch != nil {
		v.By = s.name
		ctx.Watch.Verdict(v, ev, failed)
	}
}

// run asks the policies from ctx.at on, and leaves in ctx.at the one that decided or panicked.
func (c *Chain) run(ctx *Context, ev *event.Event, now bool) (v Verdict, failed bool) {
	defer func() {
		if r := recover(); r != nil {
			c.steps[ctx.at].logPanic(r)
			v, failed = Verdict{}, true
		}
	}()
	for ; ctx.at < len(c.steps); ctx.at++ {
		s := &c.steps[ctx.at]
		v = s.policy.Apply(ctx, ev)
		if v.Kind == Pass || now && v.Kind == Park {
			ctx.watched(s, Verdict{Why: v.Why}, ev, false)
			continue
		}
		broken := v.Kind == Reject && v.Outcome == event.Internal
		if broken && !ev.Dry {
			s.failures.Inc()
		}
		if broken && s.tolerant {
			ctx.watched(s, Verdict{}, ev, true)
			continue
		}
		ctx.watched(s, v, ev, broken)
		return v, false
	}
	return Verdict{}, false
}

// Subscribe asks every SubscribePolicy about a filter that from wants to subscribe to; filter is without `$share/NAME/`.
// The verdict is Pass, perhaps with a lower QoS, or Reject.
func (c *Chain) Subscribe(ctx *Context, from *event.Origin, filter []byte, qos event.QoS) (pass Verdict) {
	if c == nil {
		return Verdict{}
	}
	ctx.Scratch = ctx.Scratch[:0]
	for i := range c.steps {
		s := &c.steps[i]
		if s.subs == nil {
			continue
		}
		v := s.subscribe(ctx, from, filter, qos)
		if v.Kind == Pass {
			if v.Lowered && v.QoS < qos {
				qos, pass.Lowered, pass.QoS = v.QoS, true, v.QoS
			}
			continue
		}
		if v.Kind != Reject { // a subscription can neither be dropped nor parked
			v = Verdict{Kind: Reject, Outcome: event.Internal}
		}
		if v.Outcome == event.Internal {
			s.failures.Inc()
			if s.tolerant {
				continue
			}
		}
		v.By = s.name
		s.refused.Inc()
		return v
	}
	return pass
}

// Filter is the filter that a client subscribes to, or unsubscribes from, when it names filter, which is without
// `$share/NAME/`. It is valid until the next call with ctx; ok is false when what policies made of it is not a filter.
func (c *Chain) Filter(ctx *Context, from *event.Origin, filter []byte) (to []byte, ok bool) {
	if c == nil {
		return filter, true
	}
	ctx.Scratch = ctx.Scratch[:0]
	for i := range c.steps {
		if c.steps[i].filters == nil {
			continue
		}
		to, ok := c.steps[i].filter(ctx, from, filter)
		if !ok || !event.ValidFilter(to) {
			c.steps[i].refused.Inc()
			return nil, false
		}
		filter = to
	}
	return filter, true
}

func (s *step) filter(ctx *Context, from *event.Origin, filter []byte) (to []byte, ok bool) {
	defer func() {
		if r := recover(); r != nil {
			s.logPanic(r)
			s.failures.Inc()
			to, ok = filter, s.tolerant
		}
	}()
	return s.filters.Filter(ctx, from, filter), true
}

func (s *step) subscribe(ctx *Context, from *event.Origin, filter []byte, qos event.QoS) (v Verdict) {
	defer func() {
		if r := recover(); r != nil {
			s.logPanic(r)
			v = Verdict{Kind: Reject, Outcome: event.Internal}
		}
	}()
	return s.subs.Subscribe(ctx, from, filter, qos)
}

// Receive asks every ReceivePolicy whether to may get ev. A policy that panics withholds it, unless it is tolerant.
func (c *Chain) Receive(ctx *Context, to *event.Origin, ev *event.Event) bool {
	if c == nil {
		return true
	}
	for i := range c.receives {
		r := &c.receives[i]
		if !r.receive(ctx, to, ev) {
			r.held.Inc()
			return false
		}
	}
	return true
}

func (r *receiver) receive(ctx *Context, to *event.Origin, ev *event.Event) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			r.step.logPanic(p)
			r.step.failures.Inc()
			ok = r.step.tolerant
		}
	}()
	return r.policy.Receive(ctx, to, ev)
}

// countPass counts an event that every policy passed. Most events do, so a Context gathers them.
func (c *Chain) countPass(ctx *Context) {
	if ctx.chain != c {
		ctx.Flush()
		ctx.chain = c
	}
	if ctx.passed++; ctx.passed >= passBatch {
		ctx.Flush()
	}
}

// Flush adds what the context has counted to the shared counters. A loop calls it when it has nothing else to do, so
// that metrics lag by less than 64 events, and not for long.
func (ctx *Context) Flush() {
	if ctx.chain == nil || ctx.passed == 0 {
		return
	}
	for i := range ctx.chain.steps {
		ctx.chain.steps[i].kinds[Pass].Add(ctx.passed)
	}
	ctx.passed = 0
}

// logPanic logs the first panic of a policy in this chain; peers could cause many.
func (s *step) logPanic(r any) {
	if s.panicked.CompareAndSwap(false, true) {
		s.log.Error("policy panicked; further panics are only counted", "policy", s.name, "panic", r, "stack", string(debug.Stack()))
	}
}
