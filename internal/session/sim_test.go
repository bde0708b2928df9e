package session

import (
	"context"
	"sync"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/retain"
	"github.com/windrose-edc/windrose/internal/route"
)

// simLoop is a loop without I/O: the test says when it turns, or lets it turn when something woke it. Owned by the test,
// except Post and Wake.
type simLoop struct {
	id    int
	now   int64
	wheel *loop.Wheel
	armed map[*loop.Timer]int64 // when they were asked for
	mu    sync.Mutex            // guards what follows
	posts []func()
	woken bool
}

func (l *simLoop) ID() int    { return l.id }
func (l *simLoop) Now() int64 { return l.now }
func (l *simLoop) Wake() {
	l.mu.Lock()
	l.woken = true
	l.mu.Unlock()
}
func (l *simLoop) Post(fn func()) {
	l.mu.Lock()
	l.posts = append(l.posts, fn)
	l.woken = true
	l.mu.Unlock()
}
func (l *simLoop) Arm(t *loop.Timer, at int64) {
	l.wheel.Arm(t, at)
	l.armed[t] = max(at, l.now+tick) // not before the next tick
}
func (l *simLoop) Disarm(t *loop.Timer) {
	l.wheel.Disarm(t)
	delete(l.armed, t)
}

func (l *simLoop) awake() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.woken
}

// next is when the first timer is due.
func (l *simLoop) next() (at int64, ok bool) {
	for t, x := range l.armed {
		if !t.Armed() {
			delete(l.armed, t)
		} else if !ok || x < at {
			at, ok = x, true
		}
	}
	return at, ok
}

// sim is a node of simulated loops.
type sim struct {
	t     simT
	now   int64
	loops []*simLoop
	hosts []*Host
	net   *route.Net
	index *route.Index
	sh    *Shared
	chain *policy.Chain
}

// simT is a testing.TB or a *rapid.T.
type simT interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Cleanup(f func())
}

func newSim(t simT, loops int, credit int64, deadline time.Duration, lim Limits) *sim {
	t.Helper()
	s := &sim{t: t, now: 1_700_000_000_000_000_000, index: route.NewIndex(route.IndexOptions{Interval: -1})}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.index.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	var clocks []route.Clock
	for i := range loops {
		l := &simLoop{id: i, now: s.now, wheel: loop.NewWheel(s.now), armed: map[*loop.Timer]int64{}}
		s.loops = append(s.loops, l)
		clocks = append(clocks, l)
	}
	s.net = route.NewNet(s.index, clocks, credit, deadline)
	s.net.SetTable(route.NewTable(1, nil))
	s.sh = &Shared{Directory: NewDirectory(), Net: s.net, Retained: retain.New(retain.Limits{MaxMessages: 1000, MaxBytes: 1 << 20}),
		Chain: func() *policy.Chain { return s.chain }, Limits: lim}
	for _, l := range s.loops {
		s.hosts = append(s.hosts, NewHost(s.sh, l))
	}
	return s
}

// sync waits until the index has made every change.
func (s *sim) sync() {
	done := make(chan struct{})
	if !s.index.Apply(nil, func() { close(done) }) {
		s.t.Fatal("index refused")
	}
	<-done
}

// turn runs one turn of a loop.
func (s *sim) turn(i int) {
	l := s.loops[i]
	l.now = s.now
	l.mu.Lock()
	posts := l.posts
	l.posts, l.woken = nil, false
	l.mu.Unlock()
	for _, f := range posts {
		f()
	}
	l.wheel.Advance(s.now)
	s.hosts[i].Turn()
}

// settle turns every loop until nothing moves any more.
func (s *sim) settle() {
	for range 6 {
		s.sync()
		for i := range s.loops {
			s.turn(i)
		}
	}
}

// run turns the loops that were woken until none is. A loop that nobody wakes does nothing, as in a real node.
func (s *sim) run() {
	s.t.Helper()
	for range 10_000 {
		s.sync()
		busy := false
		for i, l := range s.loops {
			if l.awake() {
				busy = true
				s.turn(i)
			}
		}
		if !busy {
			return
		}
	}
	s.t.Fatal("the loops wake each other for ever")
}

// advance lets time pass: loops turn when they are woken or a timer is due.
func (s *sim) advance(d time.Duration) {
	s.t.Helper()
	for to := s.now + int64(d); ; {
		s.run()
		first, at := -1, to
		for i, l := range s.loops {
			if x, ok := l.next(); ok && x <= at {
				first, at = i, x
			}
		}
		s.now = max(s.now, (at+tick-1)/tick*tick)
		if first < 0 {
			s.pass(0)
			s.run()
			return
		}
		s.turn(first)
	}
}

// tick is the resolution of timers.
const tick = int64(time.Millisecond)

func (s *sim) pass(d time.Duration) {
	s.now += int64(d)
	for _, l := range s.loops {
		l.now = s.now
	}
}

// simPeer is a client's connection that remembers what it is told.
type simPeer struct {
	s        *Session
	got      []Delivery
	payloads []string
	answers  []Receipt
	released []uint16
	kicked   []Why
	full     bool // the output has no room
	leaves   bool // detaches within Kick, as a connection does
}

func (p *simPeer) Send(ev *event.Event, d Delivery) bool {
	d.Subs = append([]route.Sub(nil), d.Subs...)
	p.got = append(p.got, d)
	p.payloads = append(p.payloads, string(ev.Payload))
	return true
}
func (p *simPeer) Release(id uint16) { p.released = append(p.released, id) }
func (p *simPeer) Room() bool        { return !p.full }
func (p *simPeer) Answer(r Receipt)  { p.answers = append(p.answers, r) }
func (p *simPeer) Kick(w Why) {
	if p.kicked = append(p.kicked, w); p.leaves {
		p.s.Detach(p, false)
	}
}

// connect opens a session on loop i.
func (s *sim) connect(i int, hello Hello) (*simPeer, bool) {
	s.t.Helper()
	p := &simPeer{}
	ses, present, home, err := s.hosts[i].Open(&hello, p)
	if err != nil {
		s.t.Fatal(err)
	}
	if ses == nil {
		ses, present, _, err = s.hosts[home].Open(&hello, p)
		if err != nil || ses == nil {
			s.t.Fatalf("open on home %d: %v", home, err)
		}
	}
	p.s = ses
	ses.Start()
	return p, present
}

func (s *sim) subscribe(p *simPeer, filter string, q event.QoS) {
	s.t.Helper()
	ok := false
	p.s.Subscribe([]Want{{Filter: []byte(filter), QoS: q}}, func() { ok = true })
	s.settle()
	if !ok {
		s.t.Fatalf("no answer to the subscription to %s", filter)
	}
}

func (p *simPeer) publish(topic, payload string, q event.QoS, id uint16, dup bool) Hold {
	ev := &event.Event{Topic: []byte(topic), Payload: []byte(payload), QoS: q, From: p.s.Origin}
	h, _ := p.s.Publish(ev, id, dup)
	return h
}

func testLimits() Limits {
	return Limits{Queue: 100, QueueBytes: 1 << 20, Window: 8, Receive: 64}
}
