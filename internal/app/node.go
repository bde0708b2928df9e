package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/windrose-edc/windrose/internal/config"
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/listen"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/pool"
	"github.com/windrose-edc/windrose/internal/retain"
	"github.com/windrose-edc/windrose/internal/route"
	"github.com/windrose-edc/windrose/internal/session"
)

// mailCredit bounds the bytes of events under way between two loops.
const mailCredit = 4 << 20

// runner is a part of the node that works until its context ends.
type runner interface {
	Run(ctx context.Context) error
}

// listener is an open listener with what the status shows of it. Immutable.
type listener struct {
	name, protocol string
	anonymous      bool
	*listen.Listener
}

// destPool is a pool with what the status shows of it. Immutable.
type destPool struct {
	*pool.Pool
	driver   pool.Driver
	kind     string
	overflow string
	bound    int
}

// node is everything that one snapshot of the configuration describes, built and connected. Immutable after build,
// except the atomics.
type node struct {
	snap    *config.Snapshot
	spec    *NodeSpec
	id      string
	log     *slog.Logger
	limited *observe.LimitedLogger
	metrics *observe.Registry

	group     *loop.Group
	index     *route.Index
	net       *route.Net
	retained  *retain.Store
	hosts     []*session.Host
	directory *session.Directory
	dead      *deadLetters
	meters    *meters
	slow      *slowWork

	chain atomic.Pointer[policy.Chain]
	auth  atomic.Pointer[identity.Chain]

	tls       map[string]*listen.TLS
	anonymous map[string]bool // by listener; written before the first one opens
	users     []*identity.Users
	pools     []destPool
	sources   []runner
	listeners []listener
}

// logFor is the logger of a component, whose level can be set apart.
func (n *node) logFor(component string) *slog.Logger {
	return n.log.With(observe.ComponentKey, component)
}

func (n *node) authChain() *identity.Chain { return n.auth.Load() }

// build makes the node of a snapshot; nothing listens yet.
func build(snap *config.Snapshot, log *slog.Logger, metrics *observe.Registry) (*node, error) {
	n := &node{snap: snap, log: log, metrics: metrics, limited: observe.Limited(log, metrics), directory: session.NewDirectory(),
		dead: &deadLetters{}, slow: &slowWork{}, tls: make(map[string]*listen.TLS), anonymous: make(map[string]bool)}
	n.spec = snap.Single("node").(*NodeSpec)
	n.id = n.spec.Name
	if n.id == "" {
		n.id, _ = os.Hostname() // "" is a name too: the node has none
	}
	if err := n.buildCore(); err != nil {
		return nil, err
	}
	for _, step := range []func() error{n.buildTLS, n.buildAuth, n.buildChain, n.buildPools, n.buildRoutes, n.buildSources} {
		if err := step(); err != nil {
			return nil, errors.Join(err, n.group.Close())
		}
	}
	n.publishStats()
	return n, nil
}

func (n *node) buildCore() error {
	s := n.snap.Single("sessions").(*SessionSpec)
	r := n.snap.Single("retained").(*RetainSpec)
	loops := n.spec.Loops
	if loops == 0 {
		loops = min(runtime.NumCPU(), route.MaxLoops)
	}
	runtime.GOMAXPROCS(loop.Procs(loops))
	var err error
	if n.group, err = loop.NewGroup(loop.Options{Loops: loops, Gather: true, Logger: n.logFor("loop"), MaxOut: 16 << 20, MaxPartial: partialInput}); err != nil {
		return err
	}
	n.index = route.NewIndex(route.IndexOptions{})
	n.retained = retain.New(retain.Limits{MaxMessages: r.Messages, MaxBytes: r.Bytes})
	n.meters = newMeters(n.metrics)
	var clocks []route.Clock
	for _, l := range n.group.Loops() {
		clocks = append(clocks, l)
	}
	n.net = route.NewNet(n.index, clocks, mailCredit, n.spec.Deadline)
	rules := map[string]session.Overflow{"drop_new": session.DropNew, "drop_old": session.DropOld, "disconnect": session.Disconnect}
	sh := &session.Shared{Directory: n.directory, Net: n.net, Retained: n.retained, Chain: n.chain.Load, Dead: n.dead,
		Limits: session.Limits{Queue: s.Queue, QueueBytes: s.QueueBytes, Window: s.MaxInflight, Receive: s.Receive, Sessions: s.Max, Subscriptions: s.Subs, Rule: rules[s.Overflow]}}
	meters := make([]*meter, loops)
	sh.Observe = func(h *session.Host) { meters[h.Clock().ID()].turn(h) }
	for i, l := range n.group.Loops() {
		h := session.NewHost(sh, l)
		m := &meter{all: n.meters, host: h, loop: l}
		m.timer.Init(m)
		meters[i] = m
		n.hosts = append(n.hosts, h)
		l.OnTurn(h.Turn)
	}
	return nil
}

func (n *node) buildTLS() error {
	for _, e := range n.snap.Entries("tls") {
		t, err := listen.NewTLS(*e.Spec.(*listen.TLSSpec))
		if err != nil {
			return at(e, err)
		}
		n.tls[e.Name] = t
	}
	return nil
}

// at puts the place in the configuration before an error.
func at(e config.Entry, err error) error {
	return fmt.Errorf("%s: %s.%s: %w", e.Pos, e.Section, e.Name, err)
}

func (n *node) buildAuth() error {
	var as []identity.Authenticator
	for _, e := range n.snap.Entries("auth") {
		var a identity.Authenticator
		var err error
		switch s := e.Spec.(type) {
		case *identity.UsersSpec:
			var u *identity.Users
			if u, err = identity.OpenUsers(*s); err == nil {
				n.users = append(n.users, u)
			}
			a = u
		case *identity.X509Spec:
			a, err = identity.NewX509(*s)
		case *identity.PSKSpec:
			a, err = identity.NewPSK(*s)
		}
		if err != nil {
			return at(e, err)
		}
		as = append(as, a)
	}
	admits := func(listener string) bool { return n.anonymous[listener] }
	if len(as) == 0 {
		as = append(as, identity.Open(admits)) // nobody could check what clients show
	} else {
		as = append(as, identity.Anonymous(admits))
	}
	n.auth.Store(identity.NewChain(as...))
	return nil
}

// buildChain puts the policies in their order: limits, then $-topics, then the access list on topics as clients say
// them, then rewrites.
func (n *node) buildChain() error {
	var ps []policy.Policy
	if s := n.snap.Single("limits").(*LimitsSpec).PerClient; s.Events > 0 || s.Bytes > 0 {
		l, err := policy.NewLimit(s)
		if err != nil {
			return err
		}
		ps = append(ps, l)
	}
	g, err := policy.NewTopicGuard(*n.snap.Single("topics").(*policy.TopicGuardSpec))
	if err != nil {
		return err
	}
	ps = append(ps, g)
	var rules []policy.ACLSpec
	for _, e := range n.snap.Entries("acl") {
		rules = append(rules, *e.Spec.(*policy.ACLSpec))
	}
	if len(rules) > 0 {
		a, err := policy.NewACL(rules)
		if err != nil {
			return err
		}
		ps = append(ps, a)
	}
	for _, e := range n.snap.Entries("rewrites") {
		r, err := policy.NewRewrite(*e.Spec.(*policy.RewriteSpec))
		if err != nil {
			return at(e, err)
		}
		ps = append(ps, r)
	}
	n.chain.Store(policy.NewChain(n.metrics, ps...).WithLogger(n.logFor("policy")))
	return nil
}

func (n *node) buildPools() error {
	for _, e := range n.snap.Entries("pools") {
		for _, d := range destinations() {
			if d.kind.Name != e.Kind {
				continue
			}
			drv, members, err := d.build(n, e.Name, e.Spec)
			if err != nil {
				return at(e, err)
			}
			s := *e.Common.(*pool.Spec)
			p := pool.New(e.Name, s, drv, members, pool.Options{Logger: n.logFor("pool"), Metrics: n.metrics, Deadline: n.spec.Deadline})
			n.pools = append(n.pools, destPool{Pool: p, driver: drv, kind: e.Kind, overflow: s.Overflow, bound: s.QueueMax})
		}
	}
	return nil
}

func (n *node) pool(name string) *pool.Pool {
	for _, p := range n.pools {
		if p.Name() == name {
			return p.Pool
		}
	}
	return nil
}

func (n *node) driver(name string) pool.Driver {
	for _, p := range n.pools {
		if p.Name() == name {
			return p.driver
		}
	}
	return nil
}

// sourceLanes is the first of the lane numbers of sources: above those of sessions, whose loops are fewer than 255.
const sourceLanes = uint32(route.MaxLoops+1) << 24

// sourceLane gives a source its lane number and the loop on which its events walk.
func (n *node) sourceLane() (lane uint32, publish func(ev *event.Event, t event.Ticket)) {
	i := len(n.sources)
	h := n.hosts[i%len(n.hosts)]
	return sourceLanes + uint32(i), func(ev *event.Event, t event.Ticket) { h.Inject(ev.Keep(), t) }
}

func (n *node) buildRoutes() error {
	var rs []*route.Route
	for _, e := range n.snap.Entries("routes") {
		s := e.Spec.(*RouteSpec)
		p, err := event.ParsePattern(s.Topic)
		if err != nil {
			return at(e, err)
		}
		ack, err := route.ParseAck(s.Ack)
		if err != nil {
			return at(e, err)
		}
		how := pool.Received
		if ack == route.Upstream {
			how = pool.Upstream
		}
		r := &route.Route{Name: s.Name, Topic: s.Topic, Filter: p, Ack: ack, Final: s.Final, Pool: s.To.Pools}
		r.Target = n.target(s.To, how)
		rs = append(rs, r)
	}
	n.net.SetTable(route.NewTable(1, rs))
	return nil
}

// target is where a route leads.
func (n *node) target(to To, how pool.Ack) event.Target {
	if to.Weights != nil {
		s := &route.Split{Weights: to.Weights}
		for i, name := range to.Pools {
			s.Targets = append(s.Targets, n.pool(name).Leg(how))
			s.Sum += to.Weights[i]
		}
		return s
	}
	if len(to.Pools) == 1 {
		return n.pool(to.Pools[0]).Leg(how)
	}
	var f route.Failover
	for _, name := range to.Pools {
		f = append(f, n.pool(name).Leg(how))
	}
	return f
}

func (n *node) buildSources() error {
	for _, e := range n.snap.Entries("sources") {
		for _, s := range sources() {
			if s.kind.Name != e.Kind {
				continue
			}
			r, err := s.build(n, e.Name, e.Spec)
			if err != nil {
				return at(e, err)
			}
			n.sources = append(n.sources, r)
		}
	}
	return nil
}

// listen opens the listeners: from then on clients come. What the loops read of all listeners is complete before the first
// one opens.
func (n *node) listen() error {
	var opens []func() error
	for _, e := range n.snap.Entries("listeners") {
		for _, p := range protocols() {
			if p.kind.Name != e.Kind {
				continue
			}
			accept, spec, anonymous, err := p.open(n, e.Name, e.Spec)
			if err != nil {
				return at(e, err)
			}
			n.anonymous[e.Name] = anonymous
			opens = append(opens, func() error {
				l, err := listen.Open(n.group, e.Name, spec, n.tls[spec.TLS], accept)
				if err != nil {
					return at(e, err)
				}
				n.listeners = append(n.listeners, listener{name: e.Name, protocol: e.Kind, anonymous: anonymous, Listener: l})
				return nil
			})
		}
	}
	for _, open := range opens {
		if err := open(); err != nil {
			return err
		}
	}
	return nil
}

// dataDir makes the folder for what the node keeps.
func (n *node) dataDir() error {
	if err := os.MkdirAll(n.spec.Data, 0o750); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	probe := filepath.Join(n.spec.Data, ".writable")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		return fmt.Errorf("write to the data folder %q: %w", n.spec.Data, err)
	}
	return os.Remove(probe)
}

// loopbackOnly says whether only this machine can reach an address.
func loopbackOnly(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// maxSlow bounds the authentications that wait for their slow step.
const maxSlow = 8192

// slowWork runs what may take long beside the loops. Safe for concurrent use.
type slowWork struct {
	wg sync.WaitGroup
	n  atomic.Int64
}

func (s *slowWork) run(work func()) bool {
	if s.n.Add(1) > maxSlow {
		s.n.Add(-1)
		return false
	}
	s.wg.Go(func() {
		defer s.n.Add(-1)
		work()
	})
	return true
}

// wait waits for what runs, at most d: a callout that hangs must not hold the end of the process.
func (s *slowWork) wait(d time.Duration) {
	for end := time.Now().Add(d); s.n.Load() > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}
