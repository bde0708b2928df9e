package route

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr/when"
)

// Ack says when the publisher of an event is acknowledged. The strongest of all that matched applies.
type Ack uint8

// The acknowledgements, weakest first.
const (
	Received  Ack = iota // taken over here: in the subscriber's outbox or the pool's queue
	Durable              // in the journal
	Upstream             // a pool member acknowledged
	Delivered            // the receiver itself settled
)

var ackNames = [...]string{"received", "durable", "upstream", "delivered"}

// String is the word of the configuration.
func (a Ack) String() string { return ackNames[a&3] }

// ParseAck reads the word of the configuration; the empty word is received.
func ParseAck(s string) (Ack, error) {
	for i, n := range ackNames {
		if s == n {
			return Ack(i), nil
		}
	}
	if s == "" {
		return Received, nil
	}
	return 0, fmt.Errorf("unknown acknowledgement %q: received, durable, upstream or delivered", s)
}

// Decider is implemented by targets that may refuse an event after they took it. Decide says what the fan-in made of the
// refusal: park means that the publisher was told success because another target accepted, so the event must become a
// dead letter; otherwise the publisher was told the refusal and will send again, so the event is to be forgotten. Unknown
// tokens are ignored. Safe for concurrent use.
type Decider interface {
	Decide(token uint64, park bool)
}

// Route is a rule of the configuration: which events go to which target. Immutable but for its counter; safe for
// concurrent use.
type Route struct {
	Name   string
	Topic  string // as it was written
	Filter event.Pattern
	Ack    Ack
	Class  []string        // only events of devices of these classes; nil: of all
	When   *when.Condition // nil: always
	Final  bool            // the walk ends here, subscribers included
	Target event.Target    // a pool's leg, or a choice among several
	Pool   []string        // names of the pools behind Target: an event that came from one of them is not sent back

	matched atomic.Uint64
}

// Matched is how many events the route took.
func (r *Route) Matched() uint64 { return r.matched.Load() }

// Table is the routes of one configuration, in order. Immutable after NewTable.
type Table struct {
	routes []*Route
	base   int // number of the first route in the index
}

// NewTable numbers the routes from base on, so that the entries of an older table are never taken for its own.
func NewTable(base int, routes []*Route) *Table { return &Table{routes: routes, base: base} }

// Next makes the table that takes the place of t: its numbers are none of t's.
func (t *Table) Next(routes []*Route) *Table {
	base := t.base + len(t.routes)
	if base+len(routes) >= MaxTakers {
		base = 1
	}
	return NewTable(base, routes)
}

// Find returns the first route of that name; nil when there is none.
func (t *Table) Find(name string) *Route {
	for _, r := range t.routes {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// Continue makes r count on from old, which it takes the place of; nil does nothing. Before r is used.
func (r *Route) Continue(old *Route) {
	if old != nil {
		r.matched.Store(old.Matched())
	}
}

// Routes lists the routes in order.
func (t *Table) Routes() []*Route { return t.routes }

// Changes are the index changes that put the table's routes in, or take them out.
func (t *Table) Changes(remove bool) []Change {
	cs := make([]Change, len(t.routes))
	for i, r := range t.routes {
		cs[i] = Change{Filter: r.Filter.Filter(), Sub: MakeSub(Taker(routeLoop, t.base+i), 2, false, false, 0), Delete: remove}
	}
	return cs
}

func (t *Table) at(slot int) *Route {
	if t == nil {
		return nil
	}
	if i := slot - t.base; i >= 0 && i < len(t.routes) {
		return t.routes[i]
	}
	return nil
}

// Available is a target that knows whether what is delivered to it now is likely to arrive. Up does not block.
type Available interface {
	event.Target
	Up() bool
}

// Failover delivers to the first target that is up; when none is, to the first. What a target has taken stays with it.
// Immutable.
type Failover []Available

// Deliver implements event.Target.
func (f Failover) Deliver(ev *event.Event, t event.Ticket) {
	for _, x := range f {
		if x.Up() {
			x.Deliver(ev, t)
			return
		}
	}
	f[0].Deliver(ev, t)
}

// Decide implements Decider: the token is known to one of them only.
func (f Failover) Decide(token uint64, park bool) { decideAll(f, token, park) }

// Split delivers each event to one target, drawn by weight. Immutable.
type Split struct {
	Targets []event.Target
	Weights []int // same length; their sum is Sum
	Sum     int
}

// Deliver implements event.Target.
func (s *Split) Deliver(ev *event.Event, t event.Ticket) {
	n := rand.IntN(s.Sum) //nolint:gosec // a draw among destinations, not a secret
	for i, w := range s.Weights {
		if n -= w; n < 0 {
			s.Targets[i].Deliver(ev, t)
			return
		}
	}
}

// Decide implements Decider.
func (s *Split) Decide(token uint64, park bool) { decideAll(s.Targets, token, park) }

func decideAll[T event.Target](ts []T, token uint64, park bool) {
	for _, x := range ts {
		if d, ok := event.Target(x).(Decider); ok {
			d.Decide(token, park)
		}
	}
}
