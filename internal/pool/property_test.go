package pool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/observe"
)

// chaos is a destination that does everything a network and a backend can do, except to break the contract of Link in
// a way that no pool could survive. Guarded by mu.
type chaos struct {
	t       *testing.T
	ordered bool
	twice   bool // answers more than once

	mu      sync.Mutex
	rnd     *rand.Rand
	calm    bool // from now on everything works
	ids     map[ID]string
	acked   map[string]map[ID]bool // by member
	arrived map[string]int         // by lane: the latest event that arrived for the first time
	seen    map[string]bool        // events that arrived anywhere
	held    map[string][]send      // by member: what an ordered session has not answered
}

type chaosLink struct {
	c      *chaos
	member string
	once   sync.Once
	done   chan struct{}
	queue  chan send
	ended  bool // guarded by chaos.mu
}

func (c *chaos) chance(percent int) bool { return !c.calm && c.rnd.IntN(100) < percent }

func (c *chaos) Dial(ctx context.Context, member string) (Link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.chance(20) {
		return nil, errors.New("connection refused")
	}
	l := &chaosLink{c: c, member: member, done: make(chan struct{}), queue: make(chan send, 1000)}
	if c.ordered {
		old := c.held[member]
		c.held[member] = nil
		if c.chance(30) { // the session is lost: the driver gives its events back
			for _, s := range old {
				go s.done(Result{Outcome: event.Unavailable, Retry: true, Down: true})
			}
			old = nil
		}
		for _, s := range old {
			l.queue <- s
		}
		go l.run()
	}
	if life := c.rnd.IntN(20); !c.calm && life < 10 {
		time.AfterFunc(time.Duration(life)*time.Second, func() { _ = l.Close() })
	}
	return l, nil
}

// arrive notes that an event reached the member.
func (c *chaos) arrive(member string, s send) {
	if c.acked[member][s.id] {
		c.t.Errorf("member %s acknowledged event %s and was sent it again", member, s.ev.Payload)
	}
	if old, ok := c.ids[s.id]; ok && old != string(s.ev.Payload) {
		c.t.Errorf("events %s and %s have the same id", old, s.ev.Payload)
	}
	c.ids[s.id] = string(s.ev.Payload)
	name := string(s.ev.Payload)
	if c.seen[name] {
		return
	}
	c.seen[name] = true
	lane := s.ev.From.Client + string(s.ev.Topic)
	n, err := strconv.Atoi(name[len(lane)+1:])
	if err != nil {
		c.t.Error(err)
	}
	if n <= c.arrived[lane] {
		c.t.Errorf("lane %s: event %d arrived after %d", lane, n, c.arrived[lane])
	}
	c.arrived[lane] = n
}

// verdict is what a member answers.
func (c *chaos) verdict(member string, s send) Result {
	switch {
	case c.chance(10):
		return busy
	case c.chance(3):
		return Result{Outcome: event.Throttled, Retry: true, After: time.Duration(c.rnd.IntN(5)) * time.Second}
	case c.chance(3):
		return never
	}
	if c.acked[member] == nil {
		c.acked[member] = map[ID]bool{}
	}
	c.acked[member][s.id] = true
	return yes
}

func (l *chaosLink) Send(id ID, ev *event.Kept, done func(Result)) {
	s := send{member: l.member, id: id, ev: ev, done: done}
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case l.ended:
		go done(Result{Outcome: event.Unavailable, Retry: true, Down: true})
		return
	case c.ordered:
		l.queue <- s
		return
	}
	if c.chance(8) {
		go done(Result{Outcome: event.Unavailable, Retry: true, Down: true, Err: errors.New("connection refused")})
		return
	}
	c.arrive(l.member, s)
	if c.chance(5) { // it took the event, and the answer is lost: the pool must try again
		go done(Result{Outcome: event.Timeout, Retry: true})
		return
	}
	r := c.verdict(l.member, s)
	late := c.chance(3)
	if late {
		delete(c.acked[l.member], s.id) // it acknowledged too late for the pool to know
	}
	pause := time.Duration(c.rnd.IntN(50)) * time.Millisecond
	if late {
		pause += 5 * time.Second // more than the timeout
	}
	if pause == 0 {
		go done(r)
		return
	}
	time.AfterFunc(pause, func() {
		done(r)
		if l.c.twice {
			done(busy)
			done(never)
		}
	})
}

// run answers in order until the link ends; then what is left stays in the session.
func (l *chaosLink) run() {
	c := l.c
	for {
		select {
		case <-l.done:
			l.keep(nil)
			return
		case s := <-l.queue:
			c.mu.Lock()
			stuck := c.chance(1)
			c.mu.Unlock()
			if stuck { // the pool closes the link
				<-l.done
			}
			select {
			case <-l.done:
				l.keep(&s)
				return
			default:
			}
			c.mu.Lock()
			c.arrive(l.member, s)
			r := c.verdict(l.member, s)
			pause := time.Duration(c.rnd.IntN(5)) * time.Millisecond
			c.mu.Unlock()
			time.Sleep(pause)
			s.done(r)
		}
	}
}

// keep leaves what was not answered to the session.
func (l *chaosLink) keep(first *send) {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	l.ended = true
	if first != nil {
		c.held[l.member] = append(c.held[l.member], *first)
	}
	for len(l.queue) > 0 {
		c.held[l.member] = append(c.held[l.member], <-l.queue)
	}
}

func (l *chaosLink) Done() <-chan struct{} { return l.done }
func (l *chaosLink) Close() error {
	l.once.Do(func() {
		close(l.done)
		if !l.c.ordered {
			l.keep(nil)
		}
	})
	return nil
}
func (l *chaosLink) Window() int   { return 8 }
func (l *chaosLink) Ordered() bool { return l.c.ordered }

// TestNeverLostNeverDoubled: whatever members do, each ticket is settled exactly once, no member that acknowledged an
// event is sent it again, lanes keep their order, every promised event is delivered or a dead letter, and at the end
// nothing is left over.
func TestNeverLostNeverDoubled(t *testing.T) {
	for _, ordered := range []bool{false, true} {
		for seed := range uint64(40) {
			t.Run(fmt.Sprintf("ordered=%v/%d", ordered, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { neverLost(t, ordered, seed) })
			})
		}
	}
}

func neverLost(t *testing.T, ordered bool, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	c := &chaos{
		t: t, ordered: ordered, twice: seed%2 == 0, rnd: rand.New(rand.NewPCG(seed, 2)), ids: map[ID]string{},
		acked: map[string]map[ID]bool{}, arrived: map[string]int{}, seen: map[string]bool{}, held: map[string][]send{},
	}
	members := []string{"fake://a", "fake://b", "fake://c"}[:1+rnd.IntN(3)]
	s := Spec{Timeout: 3 * time.Second, Attempts: 6, QueueMax: 100 + rnd.IntN(400), Overflow: []string{Reject, DropNew, DropOld}[rnd.IntN(3)]}
	// A deadline beyond the test: an event that is given up while in flight may be overtaken.
	p := New("test", s, c, members, Options{Metrics: observe.NewRegistry(), Deadline: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()

	legs := []*Leg{p.Leg(Received), p.Leg(Upstream)}
	l := newLedger()
	var mu sync.Mutex
	told := map[uint64]bool{} // tokens whose publisher heard success
	l.then = func(token uint64, o event.Outcome) {
		mu.Lock()
		told[token] = o.OK() || token%3 == 0 // a third has another leg that accepted
		park := told[token]
		mu.Unlock()
		if !o.OK() {
			legs[token%2].Decide(token, park)
		}
	}
	const publishers, each = 6, 60
	var wg sync.WaitGroup
	for pub := range publishers {
		wg.Go(func() {
			mine := rand.New(rand.NewPCG(seed, uint64(100+pub)))
			for i := range each {
				lane := i % 3
				e := &event.Event{
					Topic: fmt.Appendf(nil, "t/%d", lane), QoS: event.AtLeastOnce, From: &event.Origin{Client: fmt.Sprintf("c%d", pub)},
					Payload: fmt.Appendf(nil, "c%dt/%d-%d", pub, lane, i+1),
				}
				token := uint64(pub*each + i)
				legs[token%2].Deliver(e, event.Ticket{To: l, Token: token})
				time.Sleep(time.Duration(mine.IntN(200)) * time.Millisecond)
			}
		})
	}
	wg.Wait()
	time.Sleep(30 * time.Second)
	c.mu.Lock()
	c.calm = true
	c.mu.Unlock()
	time.Sleep(10 * time.Minute)
	invariants(t, p)
	st := p.Stats()
	if st.Queued != 0 || st.Undecided != 0 || st.InFlight != 0 {
		t.Errorf("left over: %+v", st)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	letters := map[string]bool{}
	for _, d := range p.DeadLetters(0, 1<<20) {
		letters[string(d.Event.Payload)] = true
	}
	mu.Lock()
	defer mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	for pub := range publishers {
		for i := range each {
			token, name := uint64(pub*each+i), fmt.Sprintf("c%dt/%d-%d", pub, i%3, i+1)
			if got := l.of(token); len(got) != 1 {
				t.Errorf("ticket %d settled %v", token, got)
				continue
			}
			if told[token] && !c.seen[name] && !letters[name] {
				t.Errorf("event %s was acknowledged and is neither delivered nor a dead letter", name)
			}
		}
	}
	if st.Delivered == 0 {
		t.Error("nothing was delivered: the test shows nothing")
	}
}
