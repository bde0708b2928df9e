package mqtt

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/policy"
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

// simLoop is a loop without I/O and clock: it turns when something woke it or a timer is due. Owned by the test, except
// Post and Wake.
type simLoop struct {
	n     *simNode
	id    int
	now   int64
	wheel *loop.Wheel
	armed map[*loop.Timer]int64
	mu    sync.Mutex // guards what follows
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

// tick is the resolution of timers.
const tick = int64(time.Millisecond)

// simConfig is what a simulated node is made of.
type simConfig struct {
	loops    int
	credit   int64
	deadline time.Duration
	limits   session.Limits
	spec     ListenerSpec
	policies []policy.Policy
	auth     []identity.Authenticator // none: everybody is admitted
	retained retain.Limits
}

func defaultSim() simConfig {
	return simConfig{loops: 1, credit: 1 << 20, deadline: 30 * time.Second, spec: DefaultListener(),
		limits:   session.Limits{Queue: 1000, QueueBytes: 1 << 20, Window: 32, Receive: 64},
		retained: retain.Limits{MaxMessages: 100, MaxBytes: 1 << 20}}
}

// simNode is a node of simulated loops with machines on them. Owned by the test.
type simNode struct {
	t       simT
	now     int64
	cfg     *settings
	loops   []*simLoop
	hosts   []*session.Host
	scratch []*scratch
	index   *route.Index
	net     *route.Net
	chain   *policy.Chain
	auth    *identity.Chain
	links   []*simLink
	dead    []string // payloads of dead letters
}

// Dead implements session.DeadLetters.
func (n *simNode) Dead(ev *event.Kept, client, reason string) {
	n.dead = append(n.dead, client+" "+string(ev.Topic)+" "+string(ev.Payload)+" "+reason)
}

func newSimNode(t simT, c simConfig) *simNode {
	t.Helper()
	n := &simNode{t: t, now: 1_700_000_000_000_000_000, index: route.NewIndex(route.IndexOptions{Interval: -1})}
	var err error
	if n.cfg, err = c.spec.settings("test", c.limits.Receive); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = n.index.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	n.chain = policy.NewChain(nil, c.policies...)
	if len(c.auth) == 0 {
		c.auth = []identity.Authenticator{identity.Open(func(string) bool { return true })}
	}
	n.auth = identity.NewChain(c.auth...)
	var clocks []route.Clock
	for i := range c.loops {
		l := &simLoop{n: n, id: i, now: n.now, wheel: loop.NewWheel(n.now), armed: map[*loop.Timer]int64{}}
		n.loops = append(n.loops, l)
		clocks = append(clocks, l)
	}
	n.net = route.NewNet(n.index, clocks, c.credit, c.deadline)
	n.net.SetTable(route.NewTable(1, nil))
	sh := &session.Shared{Directory: session.NewDirectory(), Net: n.net, Retained: retain.New(c.retained),
		Chain: func() *policy.Chain { return n.chain }, Limits: c.limits, Dead: n}
	for _, l := range n.loops {
		n.hosts = append(n.hosts, session.NewHost(sh, l))
		n.scratch = append(n.scratch, &scratch{})
	}
	return n
}

// routes makes the routes in force.
func (n *simNode) routes(rs ...*route.Route) {
	n.t.Helper()
	for _, r := range rs {
		p, err := event.ParsePattern(r.Topic)
		if err != nil {
			n.t.Fatal(err)
		}
		r.Filter = p
	}
	tbl := route.NewTable(1, rs)
	n.index.Apply(tbl.Changes(false), nil)
	n.sync()
	n.net.SetTable(tbl)
}

// sync waits until the index has made every change.
func (n *simNode) sync() {
	done := make(chan struct{})
	if !n.index.Apply(nil, func() { close(done) }) {
		n.t.Fatal("the index refused a change")
	}
	<-done
}

// run turns the loops that were woken until none is.
func (n *simNode) run() {
	n.t.Helper()
	for range 10_000 {
		n.sync()
		busy := false
		for i, l := range n.loops {
			if l.awake() {
				busy = true
				n.turn(i)
			}
		}
		if !busy {
			return
		}
	}
	n.t.Fatal("the loops wake each other for ever")
}

// advance lets time pass, timer by timer.
func (n *simNode) advance(d time.Duration) {
	n.t.Helper()
	for to := n.now + int64(d); ; {
		n.run()
		first, at := -1, to
		for i, l := range n.loops {
			if x, ok := l.next(); ok && x <= at {
				first, at = i, x
			}
		}
		n.now = max(n.now, (at+tick-1)/tick*tick)
		for _, l := range n.loops {
			l.now = n.now
		}
		if first < 0 {
			n.run()
			return
		}
		n.turn(first)
	}
}

// turn is one turn of a loop, in the order of a real one.
func (n *simNode) turn(i int) {
	l := n.loops[i]
	l.now = n.now
	l.mu.Lock()
	posts := l.posts
	l.posts, l.woken = nil, false
	l.mu.Unlock()
	on := func(f func(c *simLink)) {
		for _, c := range slices.Clone(n.links) {
			if c.at == i && !c.moving {
				f(c)
			}
		}
	}
	on((*simLink).read)
	for _, f := range posts {
		f()
	}
	l.wheel.Advance(n.now)
	n.hosts[i].Turn()
	on((*simLink).tellClosed)
	on((*simLink).flush)
	on((*simLink).tellClosed)
}

// simLink is a connection and its machine: the env of the machine. Owned by the test.
type simLink struct {
	machine
	n        *simNode
	name     string
	at       int // loop
	timer    loop.Timer
	arriving []byte // sent by the client, not read
	in       []byte // read and not used
	out      []byte // to be sent
	got      []byte // what the client has received
	stalled  bool   // the client does not read
	isPaused bool
	refeed   bool
	moving   bool
	high     bool
	closing  bool
	ended    bool // the socket is gone
	told     bool // the machine was told
	err      error
	eof      bool   // the client closed its end
	waits    func() // finishes a slow authentication
	lowWater int
	most     int // the largest that in has been
}

// link is a new connection to a loop.
func (n *simNode) link(i int) *simLink {
	c := &simLink{n: n, at: i, lowWater: 1 << 10}
	c.timer.Init(c)
	c.init(c, n.cfg)
	n.links = append(n.links, c)
	return c
}

// send has the client send bytes.
func (c *simLink) send(b []byte) {
	if !c.ended && !c.eof {
		c.arriving = append(c.arriving, b...)
		c.loop().Wake()
	}
}

// drop has the client close its end.
func (c *simLink) drop() {
	c.eof = true
	c.loop().Wake()
}

func (c *simLink) loop() *simLoop { return c.n.loops[c.at] }

// read presents what arrived.
func (c *simLink) read() {
	if c.ended {
		return
	}
	if c.closing {
		c.arriving = nil
		if c.eof {
			c.finish(c.err)
		}
		return
	}
	if c.isPaused {
		if c.eof {
			c.finish(io.EOF)
		}
		return
	}
	b := c.arriving
	c.arriving = nil
	if len(b) > 0 || c.refeed {
		c.present(b)
	}
	if c.eof && !c.isPaused && !c.moving && !c.ended {
		if c.closing {
			c.finish(c.err)
		} else {
			c.finish(io.EOF)
		}
	}
}

func (c *simLink) present(b []byte) {
	c.refeed = false
	c.in = append(c.in, b...)
	c.most = max(c.most, len(c.in))
	if len(c.in) == 0 {
		return
	}
	given := slices.Clone(c.in) // borrowed: it is worthless after the call
	used, err := c.feed(given)
	if used < 0 || used > len(given) {
		c.n.t.Fatalf("%s: %d of %d bytes used", c.name, used, len(given))
	}
	for i := range given {
		given[i] = 0xdb
	}
	c.in = slices.Clone(c.in[used:])
	if c.closing {
		c.in = nil
	}
	if err != nil {
		c.n.t.Fatalf("%s: feed ends with an error: %v", c.name, err)
	}
	if limit := int(c.cfg.maxPacket) + packetHead; len(c.in) > limit && !c.isPaused && !c.moving {
		c.n.t.Fatalf("%s: %d bytes are kept, the largest packet is %d", c.name, len(c.in), c.cfg.maxPacket)
	}
}

// finish is the end of the socket.
func (c *simLink) finish(err error) {
	if !c.ended {
		c.ended, c.err, c.in, c.arriving = true, err, nil, nil // tellClosed follows in this turn
	}
}

func (c *simLink) tellClosed() {
	if c.ended && !c.told {
		c.told = true
		c.dead = true
		c.gone()
		if c.phase == phClosed {
			c.loop().Disarm(&c.timer)
		}
	}
}

func (c *simLink) flush() {
	if c.ended {
		return
	}
	if !c.stalled {
		c.got = append(c.got, c.out...)
		c.out = nil
	}
	if c.closing && len(c.out) == 0 {
		c.finish(c.err)
		return
	}
	if c.high && len(c.out) <= c.lowWater {
		c.high = false
		if c.s != nil {
			c.s.Writable()
		}
	}
	if len(c.out) > 0 && !c.stalled {
		c.loop().Wake()
	}
}

// Expire implements loop.Expirer.
func (c *simLink) Expire(_ *loop.Timer, now int64) { c.tick(now) }

func (c *simLink) Now() int64          { return c.loop().now }
func (c *simLink) Host() *session.Host { return c.n.hosts[c.at] }
func (c *simLink) Scratch() *scratch   { return c.n.scratch[c.at] }

func (c *simLink) Out() []byte {
	if c.dead || c.closing || c.ended {
		return c.Scratch().sink[:0]
	}
	return c.out
}

func (c *simLink) SetOut(b []byte) {
	if c.dead || c.closing || c.ended {
		c.Scratch().sink = b
		return
	}
	c.out = b
	c.loop().Wake()
}

func (c *simLink) Pending() int    { return len(c.out) }
func (c *simLink) WantRoom()       { c.high = true }
func (c *simLink) WakeAt(at int64) { c.loop().Arm(&c.timer, at) }
func (c *simLink) Pause()          { c.isPaused = true }
func (c *simLink) Resume()         { c.isPaused, c.refeed = false, true; c.loop().Wake() }
func (c *simLink) Move(to int)     { c.moving = true; c.loop().Post(func() { c.depart(to) }) }

func (c *simLink) Close(err error) {
	c.loop().Disarm(&c.timer)
	if !c.dead && !c.closing && !c.ended {
		c.closing, c.err, c.isPaused = true, err, false
		c.loop().Wake()
	}
}

func (c *simLink) depart(to int) {
	if c.ended || c.closing {
		c.moving = false
		return
	}
	c.loop().Disarm(&c.timer)
	c.wakeAt = 0
	c.at = to
	c.loop().Post(func() {
		c.moving = false
		c.wake(c.Now() + int64(c.cfg.connectIn))
		c.moved()
		c.refeed = true
		c.loop().Wake()
	})
}

// Authenticate implements env: a slow authenticator answers when the test calls waits.
func (c *simLink) Authenticate(cr *identity.Credentials) {
	cr.Remote = netip.MustParseAddrPort("192.0.2.1:1000")
	if p, d, done := c.n.auth.Try(cr); done {
		c.authenticated(p, d, nil)
		return
	}
	c.Pause()
	c.waits = func() {
		c.waits = nil
		p, d, err := c.n.auth.Authenticate(context.Background(), cr)
		c.loop().Post(func() {
			c.Resume()
			c.authenticated(p, d, err)
		})
	}
}

// Exchange implements env.
func (c *simLink) Exchange(method string) (identity.Exchange, bool) { return c.n.auth.Exchange(method) }

// Step implements env: a slow exchange goes on when the test calls waits.
func (c *simLink) Step(x identity.Exchange, msg []byte) {
	if !x.Slow() {
		answer, p, done, err := x.Step(context.Background(), msg)
		c.stepped(x, answer, p, done, err)
		return
	}
	msg = slices.Clone(msg)
	c.waits = func() {
		c.waits = nil
		answer, p, done, err := x.Step(context.Background(), msg)
		c.loop().Post(func() { c.stepped(x, answer, p, done, err) })
	}
}

// shutdown is the end of the node.
func (n *simNode) shutdown() {
	for i, h := range n.hosts {
		h.Close()
		n.loops[i].Wake()
	}
	n.run()
}

// simTarget is what a route leads to: it keeps events until the test answers. Owned by the test.
type simTarget struct {
	name    string
	open    []event.Ticket
	got     []string // events, as text
	decided []bool
}

func (x *simTarget) Deliver(ev *event.Event, t event.Ticket) {
	x.got = append(x.got, eventText(ev))
	if t.Waits() {
		x.open = append(x.open, t)
	}
}

func (x *simTarget) Decide(_ uint64, park bool) { x.decided = append(x.decided, park) }

// answer settles the oldest open event.
func (x *simTarget) answer(o event.Outcome) bool {
	if len(x.open) == 0 {
		return false
	}
	t := x.open[0]
	x.open = x.open[1:]
	t.Settle(o)
	return true
}

// simUsers knows users by name: their password and the client id that is theirs. A name that begins with slow is looked
// up slowly; one that begins with busy fails. Immutable.
type simUsers map[string]struct{ password, client string }

func (u simUsers) Name() string { return "sim" }
func (u simUsers) Slow() bool   { return true }

func (u simUsers) TryAuthenticate(c *identity.Credentials) (identity.Principal, identity.Decision, bool) {
	if len(c.Username) > 4 && (c.Username[:4] == "slow" || c.Username[:4] == "busy") {
		return identity.Principal{}, identity.Unknown, false
	}
	p, d, err := u.Authenticate(context.Background(), c)
	return p, d, err == nil
}

func (u simUsers) Authenticate(_ context.Context, c *identity.Credentials) (identity.Principal, identity.Decision, error) {
	if !c.HasUsername {
		return identity.Principal{}, identity.Unknown, nil
	}
	if len(c.Username) > 4 && c.Username[:4] == "busy" {
		return identity.Principal{}, identity.Refused, errors.New("too busy")
	}
	x, ok := u[c.Username]
	if !ok || x.password != string(c.Password) {
		return identity.Principal{}, identity.Refused, nil
	}
	return identity.Principal{Name: c.Username, Client: x.client}, identity.Admitted, nil
}
