package pool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/observe"
)

// ledger is a settler that notes every outcome.
type ledger struct {
	mu       sync.Mutex
	outcomes map[uint64][]event.Outcome
	at       map[uint64]time.Time
	then     func(token uint64, o event.Outcome)
}

func newLedger() *ledger {
	return &ledger{outcomes: map[uint64][]event.Outcome{}, at: map[uint64]time.Time{}}
}

func (l *ledger) Settle(token uint64, o event.Outcome, _ int) {
	l.mu.Lock()
	l.outcomes[token] = append(l.outcomes[token], o)
	l.at[token] = time.Now()
	then := l.then
	l.mu.Unlock()
	if then != nil {
		then(token, o)
	}
}

func (l *ledger) of(token uint64) []event.Outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.outcomes[token]
}

// send is one call of Link.Send.
type send struct {
	member string
	id     ID
	ev     *event.Kept
	done   func(Result)
	at     time.Time
}

// fakeDriver gives links whose sends a test answers. Guarded by mu.
type fakeDriver struct {
	mu      sync.Mutex
	ordered bool
	window  int
	refuse  func(member string) error // Dial
	serve   func(*fakeLink, send)     // each Send
	onDial  func(*fakeLink)
	sends   []send
	links   []*fakeLink
	dials   int
}

type fakeLink struct {
	d      *fakeDriver
	member string
	once   sync.Once
	done   chan struct{}
}

func (d *fakeDriver) Dial(_ context.Context, member string) (Link, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dials++
	if d.refuse != nil {
		if err := d.refuse(member); err != nil {
			return nil, err
		}
	}
	l := &fakeLink{d: d, member: member, done: make(chan struct{})}
	d.links = append(d.links, l)
	if d.onDial != nil {
		d.onDial(l)
	}
	return l, nil
}

func (l *fakeLink) Send(id ID, ev *event.Kept, done func(Result)) {
	s := send{l.member, id, ev, done, time.Now()}
	l.d.mu.Lock()
	l.d.sends = append(l.d.sends, s)
	serve := l.d.serve
	l.d.mu.Unlock()
	if serve != nil {
		serve(l, s)
	}
}

func (l *fakeLink) Done() <-chan struct{} { return l.done }
func (l *fakeLink) Close() error          { l.once.Do(func() { close(l.done) }); return nil }
func (l *fakeLink) Window() int           { return max(1, l.d.window) }
func (l *fakeLink) Ordered() bool         { return l.d.ordered }

func (d *fakeDriver) dialed() []*fakeLink {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*fakeLink(nil), d.links...)
}

func (d *fakeDriver) sent() []send {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]send(nil), d.sends...)
}

// script answers each Send with the next result; the last one for ever.
func script(rs ...Result) func(*fakeLink, send) {
	var mu sync.Mutex
	return func(_ *fakeLink, s send) {
		mu.Lock()
		r := rs[0]
		if len(rs) > 1 {
			rs = rs[1:]
		}
		mu.Unlock()
		s.done(r)
	}
}

var (
	yes   = Result{Outcome: event.Accepted}
	busy  = Result{Outcome: event.Unavailable, Retry: true, Err: errors.New("status 500")}
	never = Result{Outcome: event.BadPayload, Err: errors.New("status 400")}
)

// start runs a pool until the test ends.
func start(t *testing.T, s Spec, d Driver, members ...string) (*Pool, func()) {
	t.Helper()
	if len(members) == 0 {
		members = []string{"fake://a"}
	}
	p := New("test", s, d, members, Options{Logger: slog.New(slog.DiscardHandler), Metrics: observe.NewRegistry()})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	return p, stop
}

func ev(client string, lane, n int) *event.Event {
	return &event.Event{
		Topic: fmt.Appendf(nil, "t/%d", lane), Payload: fmt.Appendf(nil, "%d", n), QoS: event.AtLeastOnce,
		From: &event.Origin{Client: client}, Time: time.Now().UnixNano(),
	}
}

// invariants must hold whenever nothing is going on.
func invariants(t *testing.T, p *Pool) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var bytes, open, dead int64
	n := 0
	for it := range p.age.all() {
		bytes += int64(it.size)
		n++
	}
	for it := range p.open.all() {
		open += int64(it.size)
	}
	for it := range p.dead.list.all() {
		dead += int64(it.size)
	}
	if bytes != p.bytes || n != p.age.n || open != p.openSize || dead != p.dead.size || p.dead.list.n != len(p.dead.byID) {
		t.Errorf("books do not balance: bytes %d/%d events %d/%d open %d/%d dead %d/%d", bytes, p.bytes, n, p.age.n, open, p.openSize, dead, p.dead.size)
	}
	items := 0
	for _, l := range p.lanes {
		items += l.items.n
		flying := 0
		for it := range l.items.all() {
			if it.cur != nil {
				flying++
			}
		}
		if flying != l.flying {
			t.Errorf("lane says %d in flight, has %d", l.flying, flying)
		}
		if l.items.n == 0 {
			t.Error("empty lane is kept")
		}
	}
	if items != n {
		t.Errorf("lanes hold %d events, the queue %d", items, n)
	}
	if n == 0 && (len(p.lanes) != 0 || len(p.timed) != 0 || p.ready.n != 0 || p.waiting.n != 0) {
		t.Errorf("left over with an empty queue: %d lanes, %d timed, %d ready, %d waiting", len(p.lanes), len(p.timed), p.ready.n, p.waiting.n)
	}
	known := 0
	for _, it := range p.tokens {
		for ; it != nil; it = it.sameToken {
			known++
		}
	}
	if known != p.open.n+p.waiting.n {
		t.Errorf("%d tokens known for %d undecided and %d waiting", known, p.open.n, p.waiting.n)
	}
	for _, m := range p.members {
		if m.flying < 0 {
			t.Errorf("member has %d in flight", m.flying)
		}
	}
}
