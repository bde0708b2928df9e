// Package policy is the step between a session and the routes: a chain of policies looks at each event that a client
// publishes, and at each filter that it subscribes to, and says a verdict. One file per policy: acl.go (who may use
// which topic), ratelimit.go (how much), rewrite.go (topics under another name), topicguard.go ($-topics).
//
// A policy is added as one file here that implements Policy, and one line where the application lists its modules. It
// sees the event by reference and may change it (see Policy). The expression language comes beside these, not into
// them: a policy with an expression is another Policy.
//
// # Concurrency
//
// A Chain and its policies are immutable after New and safe for concurrent use: every loop applies the same chain. What
// changes lives in a Context, which belongs to one loop, and in a State, which belongs to one session and so to its
// home loop. Apply is synchronous, never blocks and allocates nothing in the steady state (a session's first event may
// allocate its slot).
package policy

import (
	"fmt"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr"
)

// Kind is what is to become of an event.
type Kind uint8

// The kinds of a verdict.
const (
	Pass   Kind = iota // on to the next policy, after the last one to the routes
	Drop               // nobody gets it, and the sender is acknowledged as if it had been taken
	Reject             // nobody gets it, and the sender is told Verdict.Outcome
	Park               // not now: the sender's lane is held and the chain asked again at Verdict.Until
	numKinds
)

// String is the kind's word in metrics and API.
func (k Kind) String() string {
	switch k {
	case Pass:
		return "pass"
	case Drop:
		return "drop"
	case Reject:
		return "reject"
	case Park:
		return "park"
	case numKinds:
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Verdict is what a policy says of one event or filter. A value; the zero Verdict passes.
type Verdict struct {
	Kind    Kind
	Outcome event.Outcome // of a Reject
	// Disconnect ends the connection as well, after the outcome was sent. Only with Reject.
	Disconnect bool
	Until      int64  // of a Park: when to ask again, Unix nanoseconds
	Why        string // in words, where somebody looks (Context.Watch)
	By         string // name of the policy that decided; filled in by the chain
	// Lowered says that a subscription passes with QoS at most, in place of what was asked for
	Lowered bool
	QoS     event.QoS
}

// Context is what a chain works with. Owned by a loop, which makes one and uses it for every event; the zero value is
// ready. The caller sets Now and Session before each call.
type Context struct {
	Now     int64   // Unix nanoseconds
	Session *State  // state of the session that publishes or subscribes; nil where there is none (a source)
	Watch   Watcher // of the event that is given to Apply; nil, for almost every event: nobody looks
	// In is what conditions look at: that of the loop's walker, so that a payload is read once for policies and routes. nil:
	// the context makes its own.
	In *expr.Input
	// Scratch is where a policy writes what it puts into the event: it appends. The chain empties it when Apply begins,
	// so a changed event is valid until the next Apply with the same Context; whoever needs it longer calls Keep.
	Scratch []byte

	caps   [][]byte // captures of a pattern, while a policy looks at them
	values []byte   // values of the session as bytes, while a template is filled

	begun  bool   // In looks at the event that is given to Apply
	at     int    // index of the policy that runs
	passed uint64 // events that passed all of chain and are not yet counted
	chain  *Chain // whom passed is for
}

// input is what the conditions of the event that is given to Apply look at.
func (ctx *Context) input(ev *event.Event) *expr.Input {
	if ctx.In == nil {
		ctx.In = new(expr.Input)
	}
	if !ctx.begun {
		ctx.begun = true
		ctx.In.Begin(ev)
		ctx.In.Now, ctx.In.Client, ctx.In.Direction = ctx.Now, nil, expr.FromDevice
	}
	return ctx.In
}

// clientInput is what the conditions look at where there is a client and no event. The caller calls done.
func (ctx *Context) clientInput(o *event.Origin) *expr.Input {
	if ctx.In == nil {
		ctx.In = new(expr.Input)
	}
	ctx.In.End()
	ctx.In.Now, ctx.In.Client = ctx.Now, o
	return ctx.In
}

// done forgets what conditions looked at.
func (ctx *Context) done() {
	if ctx.In != nil {
		ctx.In.End()
		ctx.In.Client = nil
	}
	ctx.begun = false
}

// Watcher hears what each policy says of one event. v.By is the policy; ev is the event as the policy leaves it, borrowed.
// failed says that the policy failed and was passed over or taken to have rejected.
type Watcher interface {
	Verdict(v Verdict, ev *event.Event, failed bool)
}

// State is what policies remember of one session: a list of slots, one per policy that needs one. Owned by the session's
// home loop; the zero value is ready and costs 8 bytes until a policy writes to it. Slots are found by the policy's name,
// so that they survive a reload that keeps the name.
type State struct {
	first *slot
}

// slot belongs to its State.
type slot struct {
	name  string
	value any
	next  *slot
}

// Get returns what the policy of that name stored; nil when there is nothing. A policy checks the type of what it gets:
// after a reload it may be another's.
func (s *State) Get(name string) any {
	for p := s.first; p != nil; p = p.next {
		if p.name == name {
			return p.value
		}
	}
	return nil
}

// Set stores v, usually a pointer, for the policy of that name. It allocates the first time.
func (s *State) Set(name string, v any) {
	for p := s.first; p != nil; p = p.next {
		if p.name == name {
			p.value = v
			return
		}
	}
	s.first = &slot{name: name, value: v, next: s.first}
}

// Copier is what a policy stores in a State when it changes with the events that it passes: Copy returns one that changes
// by itself, for an event that is not sent.
type Copier interface {
	Copy() any
}

// Copy returns a state of its own for an event that is not sent. What is no Copier is shared.
func (s *State) Copy() State {
	var c State
	for p := s.first; p != nil; p = p.next {
		v := p.value
		if x, ok := v.(Copier); ok {
			v = x.Copy()
		}
		c.first = &slot{name: p.name, value: v, next: c.first}
	}
	return c
}

// Policy looks at an event and says a verdict. Immutable after New; safe for concurrent use: it keeps what changes in
// ctx.Session.
//
// Apply is synchronous, never blocks and does not allocate. It may change the event, as its last act: it then sets fields
// to bytes it appended to ctx.Scratch (never writing into the bytes that are there) and calls ev.Changed. It must not
// keep ev. A policy that cannot decide says Reject with event.Internal; one that panics is taken to have said so.
type Policy interface {
	Name() string // its word in metrics, logs and Verdict.By
	Apply(ctx *Context, ev *event.Event) Verdict
}

// SubscribePolicy is a Policy that looks at subscriptions too: may this client subscribe to filter? filter is valid and
// without a `$share/NAME/` prefix. The verdict is Pass, perhaps with a lower QoS, or Reject.
type SubscribePolicy interface {
	Policy
	Subscribe(ctx *Context, from *event.Origin, filter []byte, qos event.QoS) Verdict
}

// FilterPolicy is a Policy that gives subscriptions another filter. It is asked when a client subscribes, after every
// SubscribePolicy, and again when it unsubscribes. The new filter is appended to ctx.Scratch; one that is not a filter
// refuses the subscription. Where it has nothing to say it returns the filter that it was given.
type FilterPolicy interface {
	Policy
	Filter(ctx *Context, from *event.Origin, filter []byte) []byte
}

// ReceivePolicy is a Policy that looks at each delivery to a subscriber too: false keeps ev from that one subscriber.
// ctx.Session is the receiver's. A chain without one that Receives is not called for deliveries.
type ReceivePolicy interface {
	Policy
	Receives() bool // whether it has anything to say of deliveries; asked once
	Receive(ctx *Context, to *event.Origin, ev *event.Event) bool
}

// Refunder is a Policy that takes something from the session for an event that it passes (tokens). When a later policy
// parks that event the whole chain is asked again, so what was taken is given back.
type Refunder interface {
	Policy
	Refund(ctx *Context, ev *event.Event)
}

// Tolerant is a Policy whose specification may say `on_error: pass`.
type Tolerant interface {
	Policy
	PassOnError() bool // true: where it fails the event goes on as if it had passed
}

// specError is what is wrong in one field of a specification. FieldPath tells the configuration where to point.
// Immutable.
type specError struct {
	path string
	err  error
}

func (e *specError) Error() string { return e.path + ": " + e.err.Error() }

// Unwrap returns the cause.
func (e *specError) Unwrap() error { return e.err }

// FieldPath is the place below the specification.
func (e *specError) FieldPath() string { return e.path }

func badField(path, format string, args ...any) error {
	return &specError{path: path, err: fmt.Errorf(format, args...)}
}

// fromClient says whether an event or subscription comes from a client: rules about clients are not asked about what
// Windrose says itself, nor about what an operator had it pull from a pool.
func fromClient(o *event.Origin) bool { return o != nil && o.Pool == "" }
