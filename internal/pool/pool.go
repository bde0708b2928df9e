// Package pool delivers events to a destination: a set of equivalent members that a driver speaks to. It owns what is
// the same for every technology: the bounded queue, the balancing, the order of lanes, retries with back-off, the state
// of members and their reconnecting, deadlines, and the dead letters.
//
// A pool promises that an event it has acknowledged is delivered, expires as its sender asked, or becomes a dead letter
// with its reason; and that each ticket is settled exactly once (architecture, section 2). Events of one lane, that is
// one publisher, topic and QoS, reach the members in order: an event that waits for its next attempt holds the later
// ones of its lane, and no others.
//
// Delivery is at least once: an attempt whose answer never came is repeated, and the receiver sees the same ID again.
// A member that acknowledged an event is never sent it again.
//
// # Concurrency
//
// A Pool is safe for concurrent use. All its state is guarded by mu, which is held for short steps only and never while
// a driver, a settler or a logger is called. Run owns the goroutines: one that dispatches, and one for each member that
// dials and watches its link. Deliver may be called on event loops: it takes mu, pushes and wakes the dispatcher.
package pool

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/tap"
)

// Ack is when a leg acknowledges.
type Ack uint8

// The two acknowledgements that a pool can give.
const (
	Received Ack = iota // as soon as the event is in the queue
	Upstream            // when a member has acknowledged it
)

// Driver reaches the members of one destination. Implementations are safe for concurrent use.
type Driver interface {
	// Dial connects to a member. ctx bounds the dialling, not the life of the link. A driver that keeps a session per
	// member resumes it here. Errors hold no credentials.
	Dial(ctx context.Context, member string) (Link, error)
}

// Link is the way to one member. Implementations are safe for concurrent use.
type Link interface {
	// Send delivers ev and calls done exactly once, from any goroutine, also before Send returns. It never blocks. id
	// is the same for all attempts to deliver the same event. A Link that is closed answers with Retry and Down.
	Send(id ID, ev *event.Kept, done func(Result))
	// Done is closed when the link has ended. A link that has a method Err() error says there why, without credentials.
	Done() <-chan struct{}
	// Close ends the link and closes Done. Calls after the first do nothing.
	Close() error
	// Window is how many events may be in flight, at least 1. It is asked when the link comes up.
	Window() int
	// Ordered says that events arrive in the order of Send, so that several of one lane may be in flight; and that the
	// events in flight belong to the driver's session when the link ends: it answers them when the session is
	// resumed by a later Dial of the same member, or gives them back with Retry. An Ordered link is closed when an
	// answer is overdue; on any other only that attempt is given up.
	Ordered() bool
}

// Result is what became of one attempt.
type Result struct {
	Outcome event.Outcome
	Retry   bool          // a refusal that may not last
	After   time.Duration // the member asked to be left alone that long (Retry-After)
	Down    bool          // the member was not reached: the attempt says nothing about the event and does not count
	Err     error         // private cause; holds neither payload nor credentials
}

// ID names an event within the pool that delivers it. It stays the same over all attempts and replays.
type ID struct {
	Pool uint64 // random for each Pool
	N    uint64
}

// String is unique over pools and processes.
func (i ID) String() string {
	b := strconv.AppendUint(make([]byte, 0, 40), i.Pool, 16)
	b = append(b, '-')
	return string(strconv.AppendUint(b, i.N, 16))
}

// Options are the surroundings of a pool. The zero value works.
type Options struct {
	Logger   *slog.Logger
	Metrics  *observe.Registry
	Now      func() time.Time
	Deadline time.Duration // how long an Upstream ticket may wait; 30 s when zero
	Tap      *tap.Hub      // where the steps of traced events go; nil: nobody ever looks
}

// DefaultDeadline is how long an Upstream ticket may wait.
const DefaultDeadline = 30 * time.Second

// Pool is one destination. Safe for concurrent use: name, spec and driver are immutable after New, the rest is guarded
// by mu.
type Pool struct {
	name     string
	spec     Spec
	driver   Driver
	log      *observe.LimitedLogger
	now      func() time.Time
	deadline time.Duration
	seed     maphash.Seed
	salt     uint64
	wake     chan struct{}
	within   atomic.Int64 // nanoseconds that bound Spec.Drain; 0: nothing does
	unlist   func()       // takes the metrics out again
	tap      *tap.Hub

	mu       sync.Mutex
	members  []*member
	turn     int // round robin
	serial   uint64
	lanes    map[uint64]*lane
	spare    []*lane        // to use again
	ready    list[*lane]    // lanes with something to send that any member may take
	timed    laneHeap       // lanes that wait for their next attempt
	age      list[*item]    // every event in the queue, by arrival
	bytes    int64          // of them
	waiting  list[*item]    // those with an open ticket, by deadline
	flying   list[*attempt] // attempts without an answer, by time of sending
	tokens   map[uint64]*item
	dry      map[uint64]dryRefusal // of events that are not sent, by token; nil: none
	open     list[*item]           // undecided, by time of refusal
	openSize int64
	dead     deadLetters
	stopping bool  // no new events
	heir     *Pool // takes over what is here when Run ends; nil: nobody
	before   *Pool // whose heir this is, until it has inherited
	notes    []note

	counts counts
}

// New returns a pool; Run makes it work, and events that are delivered before wait in its queue. Zero fields of s take
// their defaults.
func New(name string, s Spec, d Driver, members []string, o Options) *Pool {
	p := &Pool{
		tap: o.Tap, name: name, spec: s.withDefaults(), driver: d, now: o.Now, deadline: cmp.Or(o.Deadline, DefaultDeadline),
		seed: maphash.MakeSeed(), salt: rand.Uint64(), wake: make(chan struct{}, 1),
		lanes: make(map[uint64]*lane), tokens: make(map[uint64]*item),
	}
	if p.now == nil {
		p.now = time.Now
	}
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	p.log = observe.Limited(logger.With(slog.String("pool", name)), o.Metrics)
	p.dead.init()
	since := p.now()
	for _, m := range members {
		p.members = append(p.members, &member{addr: m, name: redact(m), since: since, trip: make(chan *conn, 1)})
	}
	p.unlist = p.metrics(o.Metrics)
	return p
}

// Name is the pool's name in the configuration.
func (p *Pool) Name() string { return p.name }

// redact takes user, password and query out of a member's address.
func redact(addr string) string {
	u, err := url.Parse(addr)
	if err != nil {
		return "(unreadable address)"
	}
	u.User, u.RawQuery, u.ForceQuery, u.Fragment = nil, "", false, ""
	return u.String()
}

// Leg is the pool as the target of a route, with the acknowledgement that the route asks for. Immutable after New.
type Leg struct {
	p   *Pool
	ack Ack
}

// Leg returns a target. Legs of one pool share its queue.
func (p *Pool) Leg(ack Ack) *Leg { return &Leg{p: p, ack: ack} }

// Up says whether a member is there to take an event now. One that failed before counts once it has answered again, or as
// long as nothing waits here by which that could be found out. Safe for concurrent use; it does not block.
func (l *Leg) Up() bool {
	return l.p.reachable()
}

func (p *Pool) reachable() bool {
	p.mu.Lock()
	if b := p.before; b != nil {
		p.mu.Unlock()
		return b.reachable()
	}
	defer p.mu.Unlock()
	for _, m := range p.members {
		if m.c != nil && (m.c.proven || m.lastErr == "" || p.age.n == 0) {
			return true
		}
	}
	return false
}

// Deliver implements event.Target. A Received leg settles t before it returns. An Upstream leg settles t when a member
// has acknowledged, or with a refusal when no attempt is left or the deadline has passed. An event that comes from this
// very pool is not sent back: it is accepted, and counted.
func (l *Leg) Deliver(ev *event.Event, t event.Ticket) {
	p := l.p
	if ev.Dry {
		l.explain(ev, t)
		return
	}
	if p.isFrom(ev) {
		p.counts.dropped[reasonLoop].Add(1)
		p.traceFrom(ev)
		t.Settle(event.Accepted)
		return
	}
	it := &item{ev: ev.Keep(), ack: l.ack, size: ev.Size(), promised: t.Waits() || ev.QoS > event.AtMostOnce}
	key := p.laneKey(ev)
	var later settlements

	p.mu.Lock()
	if h := p.heir; h != nil {
		p.mu.Unlock()
		(&Leg{h, l.ack}).Deliver(ev, t)
		return
	}
	it.t = t
	p.serial++
	it.id = ID{p.salt, p.serial}
	it.queued = p.now().UnixNano()
	if o, reason := p.admit(it, &later); o != event.Accepted {
		p.trace(it, tap.Step{}, 1)
		p.refuse(it, reason, o, &later)
	} else {
		p.trace(it, tap.Step{Step: tap.StepTarget, Verdict: "queued"}, 1)
		p.push(it, key)
		if l.ack == Received {
			it.t = event.Ticket{}
			later.add(t, event.Accepted)
		} else if t.Waits() {
			p.waiting.push(&it.byDeadline, it)
			p.remember(it)
		}
	}
	p.mu.Unlock()

	later.settle()
	p.kick()
}

// laneKey is the lane of an event: publisher, topic and QoS. Two lanes that collide only wait for each other.
func (p *Pool) laneKey(ev *event.Event) uint64 {
	h := maphash.Bytes(p.seed, ev.Topic) + uint64(ev.QoS)
	switch {
	case ev.From == nil:
	case ev.From.Client != "":
		h = h*0x9e3779b97f4a7c15 + maphash.String(p.seed, ev.From.Client)
	default:
		h = h*0x9e3779b97f4a7c15 + uint64(ev.From.Lane)
	}
	return h
}

// admit says whether the queue takes it, and makes room where the overflow rule says so; mu is held.
func (p *Pool) admit(it *item, later *settlements) (event.Outcome, reason) {
	for {
		o, why, evict := p.room(it.size, it.ack)
		if evict {
			old := p.oldestWaiting()
			p.leave(old)
			p.refuse(old, reasonOverflow, event.Throttled, later)
			continue
		}
		if why == reasonOverflow {
			// The operator said to drop rather than to refuse: what a sender is told it may forget becomes a dead letter.
			later.add(it.t, event.Accepted)
			it.t = event.Ticket{}
		}
		return o, why
	}
}

// room says whether the queue takes an event of that size; evict: once the oldest has made room; mu is held.
func (p *Pool) room(size int, ack Ack) (o event.Outcome, why reason, evict bool) {
	switch {
	case p.stopping:
		return event.Unavailable, reasonShutdown, false
	case int64(size) > p.spec.Queue:
		return event.TooLarge, reasonTooLarge, false
	case !p.full(size):
		return event.Accepted, 0, false
	case p.spec.Overflow == DropOld && p.oldestWaiting() != nil: // not all of it is in flight
		return event.Accepted, 0, true
	case (p.spec.Overflow == Reject || ack == Upstream) && !p.anyUp():
		return event.Unavailable, reasonQueueFull, false
	case p.spec.Overflow == Reject || ack == Upstream:
		return event.Throttled, reasonQueueFull, false
	}
	return event.Throttled, reasonOverflow, false
}

func (p *Pool) full(size int) bool {
	return p.age.n >= p.spec.QueueMax || p.bytes+int64(size) > p.spec.Queue
}

// oldestWaiting is the oldest event that is not in flight; mu is held.
func (p *Pool) oldestWaiting() *item {
	for it := range p.age.all() {
		if it.cur == nil {
			return it
		}
	}
	return nil
}

// kick wakes the dispatcher.
func (p *Pool) kick() {
	select {
	case p.wake <- struct{}{}:
	default: // it is awake already
	}
}

// settlement is an outcome to report once mu is released.
type settlement struct {
	t event.Ticket
	o event.Outcome
}

// settlements are collected under mu and reported after, for a settler may call back. Owned by one call.
type settlements struct {
	first settlement
	n     int
	more  []settlement
}

func (s *settlements) add(t event.Ticket, o event.Outcome) {
	if !t.Waits() {
		return
	}
	if s.n == 0 {
		s.first = settlement{t, o}
	} else {
		s.more = append(s.more, settlement{t, o})
	}
	s.n++
}

func (s *settlements) settle() {
	if s.n == 0 {
		return
	}
	s.first.t.Settle(s.first.o)
	for _, x := range s.more {
		x.t.Settle(x.o)
	}
	*s = settlements{more: s.more[:0]}
}

// Errors of the calls for dead letters.
var (
	ErrUnknown = errors.New("no such dead letter")
	ErrFull    = errors.New("queue is full")
	ErrStopped = errors.New("pool is stopped")
)
