package coap

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/protocol/coap/wire"
	"github.com/windrose-edc/windrose/internal/retain"
	"github.com/windrose-edc/windrose/internal/route"
	"github.com/windrose-edc/windrose/internal/session"
)

// simT is a testing.TB or a *rapid.T.
type simT interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Cleanup(f func())
}

// simStart is when simulated nodes begin.
const simStart = int64(1_700_000_000_000_000_000)

// tick is the resolution of timers.
const tick = int64(time.Millisecond)

// simLoop is a loop without I/O and clock. Owned by the test, except Post and Wake.
type simLoop struct {
	now   int64
	wheel *loop.Wheel
	armed map[*loop.Timer]int64
	mu    sync.Mutex // guards what follows
	posts []func()
	woken bool
}

func (l *simLoop) ID() int    { return 0 }
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
	l.armed[t] = max(at, l.now+tick)
}
func (l *simLoop) Disarm(t *loop.Timer) {
	l.wheel.Disarm(t)
	delete(l.armed, t)
}

// packet is a datagram on its way.
type packet struct {
	peer loop.PacketAddr
	b    []byte
}

// taken is a target of routes that notes what it is given and settles when the test says so.
type taken struct {
	hold    bool
	outcome event.Outcome
	events  []string
	tickets []event.Ticket
}

// Deliver implements event.Target.
func (d *taken) Deliver(ev *event.Event, t event.Ticket) {
	if ev.Dry {
		t.Settle(event.Accepted)
		return
	}
	d.events = append(d.events, string(ev.Topic)+" "+string(ev.Payload))
	if d.hold {
		d.tickets = append(d.tickets, t)
		return
	}
	t.Settle(d.outcome)
}

// simNode is a node of one loop with a listener of datagrams. Owned by the test.
type simNode struct {
	t     simT
	loop  *simLoop
	index *route.Index
	net   *route.Net
	host  *session.Host
	chain *policy.Chain
	desk  *desk
	gram  *datagrams
	out   []packet // what the server sent
	spec  ListenerSpec
	took  taken // of the routes
}

type nothing struct{}

func (nothing) Dead(*event.Kept, string, string) {}

// newSim makes a node. Whoever is not admitted there is told so.
func newSim(t simT, change func(s *ListenerSpec, ps *[]policy.Policy)) *simNode {
	t.Helper()
	now := simStart
	n := &simNode{t: t, index: route.NewIndex(route.IndexOptions{Interval: -1}), spec: DefaultListener()}
	n.loop = &simLoop{now: now, wheel: loop.NewWheel(now), armed: map[*loop.Timer]int64{}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = n.index.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	n.spec.Bind, n.spec.Anonymous = "127.0.0.1:0", true
	var ps []policy.Policy
	if change != nil {
		change(&n.spec, &ps)
	}
	n.net = route.NewNet(n.index, []route.Clock{n.loop}, 1<<20, 30*time.Second)
	rt := &route.Route{Name: "r", Topic: "route/#", Ack: route.Upstream, Target: &n.took}
	p, err := event.ParsePattern(rt.Topic)
	if err != nil {
		t.Fatal(err)
	}
	rt.Filter = p
	tbl := route.NewTable(1, []*route.Route{rt})
	n.index.Apply(tbl.Changes(false), nil)
	n.sync()
	n.net.SetTable(tbl)
	n.chain = policy.NewChain(nil, ps...)
	store := retain.New(retain.Limits{MaxMessages: 1000, MaxBytes: 1 << 22})
	sh := &session.Shared{Directory: session.NewDirectory(), Net: n.net, Retained: store, Dead: nothing{},
		Chain: func() *policy.Chain { return n.chain }, Limits: session.Limits{Queue: 100, QueueBytes: 1 << 20, Window: 32, Receive: 64}}
	n.host = session.NewHost(sh, n.loop)
	cfg, err := n.spec.settings("c", 1)
	if err != nil {
		t.Fatal(err)
	}
	auth := identity.NewChain(identity.Open(func(string) bool { return n.spec.Anonymous }))
	n.desk = &desk{cfg: cfg, host: n.host, retained: store, auth: func() *identity.Chain { return auth }, chain: sh.Chain,
		chance: rand.New(rand.NewPCG(1, 2)), echo: &echoKey{1}, n: newCounters(nil, "c")}
	n.gram = newDatagrams(n.desk, func(to loop.PacketAddr, b []byte) { n.out = append(n.out, packet{to, append([]byte(nil), b...)}) })
	return n
}

// sync waits until the index has made every change.
func (n *simNode) sync() {
	done := make(chan struct{})
	if !n.index.Apply(nil, func() { close(done) }) {
		n.t.Fatal("the index refused a change")
	}
	<-done
}

// run turns the loop until nothing wakes it.
func (n *simNode) run() {
	n.t.Helper()
	for range 10_000 {
		n.sync()
		n.loop.mu.Lock()
		woken := n.loop.woken
		n.loop.mu.Unlock()
		if !woken {
			return
		}
		n.turn()
	}
	n.t.Fatal("the loop wakes itself for ever")
}

func (n *simNode) turn() {
	l := n.loop
	l.mu.Lock()
	posts := l.posts
	l.posts, l.woken = nil, false
	l.mu.Unlock()
	for _, f := range posts {
		f()
	}
	l.wheel.Advance(l.now)
	n.host.Turn()
}

// next is when the first timer is due.
func (n *simNode) next() (at int64, ok bool) {
	for t, x := range n.loop.armed {
		if !t.Armed() {
			delete(n.loop.armed, t)
		} else if !ok || x < at {
			at, ok = x, true
		}
	}
	return at, ok
}

// advance lets time pass, timer by timer.
func (n *simNode) advance(d time.Duration) {
	n.t.Helper()
	for to := n.loop.now + int64(d); ; {
		n.run()
		at, ok := n.next()
		if !ok || at > to {
			n.loop.now = max(n.loop.now, to)
			n.turn()
			n.run()
			return
		}
		n.loop.now = max(n.loop.now, (at+tick-1)/tick*tick)
		n.turn()
	}
}

// from is the address of a peer.
func from(port int) loop.PacketAddr {
	return loop.PacketAddr{AddrPort: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(port))}
}

// packet hands a datagram to the server.
func (n *simNode) packet(port int, b []byte) {
	n.t.Helper()
	n.gram.Packet(from(port), b)
	n.turn()
	n.run()
}

// sent takes what the server sent to a peer.
func (n *simNode) sent() []packet {
	out := n.out
	n.out = nil
	return out
}

// publish publishes as another client does.
func (n *simNode) publish(topic, payload string, retained bool, qos event.QoS) {
	n.t.Helper()
	ev := event.Event{Topic: []byte(topic), Payload: []byte(payload), Retain: retained, QoS: qos, Time: n.loop.now, From: &event.Origin{Client: "other"}}
	n.host.Inject(ev.Keep(), event.Ticket{})
	n.run()
}

// ask sends a request of a peer and returns what it got, which must be one message.
func (n *simNode) ask(port int, m *wire.Message) wire.Message {
	n.t.Helper()
	n.sent()
	n.packet(port, wire.Append(nil, m))
	got := n.sent()
	if len(got) != 1 {
		n.t.Fatalf("%d datagrams in answer to %s", len(got), show(m))
	}
	var a wire.Message
	if err := wire.Parse(got[0].b, &a); err != nil {
		n.t.Fatal(err)
	}
	return a
}
