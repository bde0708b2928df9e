package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/windrose-edc/windrose/internal/config"
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr/sets"
	"github.com/windrose-edc/windrose/internal/expr/when"
	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/listen"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/pool"
	"github.com/windrose-edc/windrose/internal/route"
	"github.com/windrose-edc/windrose/internal/ws"
)

// graph is everything that one snapshot of the configuration describes, built and connected, over the node that stays. Parts
// whose key is the same are the instances of the graph before. Immutable once it is in force.
type graph struct {
	*node
	snap *config.Snapshot
	spec *NodeSpec
	plan *plan
	prev *graph // while it is being built; nil: there is none

	tls       map[string]*listen.TLS
	anonymous map[string]bool // by listener
	users     []*usersFile
	auths     []*keptAuth
	auth      *identity.Chain
	chain     *policy.Chain
	classes   *policy.Classes
	sets      *sets.Store
	setFiles  []sets.File
	pools     []*destPool
	sources   []runner // in the order of the snapshot
	table     *route.Table
	listeners []*listener
	web       map[string]*ws.Server // by listener: whose WebSockets open at the admin address too

	conditions *when.Compiler // while it is being built

	commits []func() // what cannot fail, and happens when the graph comes into force
	starts  []func() // what begins once it is in force
	drop    []func() // what happens instead when it does not
	digests digests  // what the files held of which pools were made
	news    []string // what files that are named hold newly, in words
}

// listener is an open listener with what the status shows of it. Immutable once it is open.
type listener struct {
	name, protocol string
	anonymous      bool
	socket         // nil: not open yet

	spec    listen.Spec
	accept  func(*loop.Conn) loop.Handler
	packets packetEnd  // in place of accept where datagrams come
	web     *ws.Server // nil: nothing of it at the admin address
}

// destPool is a pool with what the status shows of it. Immutable once it runs.
type destPool struct {
	*pool.Pool
	driver   pool.Driver
	kind     string
	overflow string
	bound    int
	from     *destPool // whose queue it takes over; nil: nobody's
}

// usersFile is a users file with the key by which it is found again. Immutable.
type usersFile struct {
	*identity.Users
	hash   string
	unlist func()
}

// graph makes the graph of a snapshot by the fates of the plan. Nothing of what works now is changed.
func (n *node) graph(snap *config.Snapshot, plan *plan) (*graph, error) {
	g := &graph{node: n, digests: fileDigests(snap), snap: snap, spec: nodeSpec(snap), plan: plan, prev: n.live.Load(), tls: make(map[string]*listen.TLS), anonymous: make(map[string]bool)}
	for _, step := range []func() error{g.buildTLS, g.buildAuth, g.buildSets, g.checkConditions, g.buildClasses, g.buildChain, g.buildPools, g.buildRoutes, g.buildSources, g.buildListeners} {
		if err := step(); err != nil {
			g.discard()
			return nil, err
		}
	}
	return g, nil
}

// discard gives back what a graph that does not come into force has taken.
func (g *graph) discard() {
	for _, f := range g.drop {
		f()
	}
	g.drop = nil
}

// at puts the place in the configuration before an error.
func at(e config.Entry, err error) error {
	return fmt.Errorf("%s: %s.%s: %w", e.Pos, e.Section, e.Name, err)
}

// fate is what the plan says of an entry.
func (g *graph) fate(e *config.Entry) fate {
	return g.plan.fates[config.Ref{Section: e.Section, Name: e.Name}]
}

// buildTLS reads the files of every entry again: that they changed is the most frequent reason to reload. The instance of a
// name stays, so that session tickets do.
func (g *graph) buildTLS() error {
	for _, e := range g.snap.Entries("tls") {
		fresh, err := listen.NewTLS(*e.Spec.(*listen.TLSSpec))
		if err != nil {
			return at(e, err)
		}
		g.tls[e.Name] = fresh
		if g.prev == nil || g.prev.tls[e.Name] == nil {
			continue
		}
		old := g.prev.tls[e.Name]
		g.tls[e.Name] = old
		if !old.Same(fresh) {
			g.news = append(g.news, fmt.Sprintf("tls %s: new certificates, the first of which expires on %s", e.Name, fresh.NotAfter().UTC().Format("2006-01-02")))
		}
		g.commits = append(g.commits, func() { old.Adopt(fresh) })
	}
	return nil
}

func (g *graph) buildAuth() error {
	var as []identity.Authenticator
	for _, e := range g.snap.Entries("auth") {
		var a identity.Authenticator
		var err error
		switch s := e.Spec.(type) {
		case *identity.UsersSpec:
			a, err = g.usersOf(&e, *s)
		case *identity.X509Spec:
			a, err = g.x509Of(&e, *s)
		case *identity.PSKSpec:
			a, err = identity.NewPSK(*s)
		case *identity.JWTSpec:
			a, err = g.jwtOf(&e, *s)
		case *identity.CalloutSpec:
			a, err = g.calloutOf(&e, *s)
		}
		if err != nil {
			return at(e, err)
		}
		as = append(as, a)
	}
	admits := func(listener string) bool { return g.anonymous[listener] }
	if len(as) == 0 {
		as = append(as, identity.Open(admits)) // nobody could check what clients show
	} else {
		as = append(as, identity.Anonymous(admits))
	}
	g.auth = identity.NewChain(as...).WithMeter(g.meter())
	return nil
}

// usersOf reads a users file; the instance of the same specification stays, with what it remembers.
func (g *graph) usersOf(e *config.Entry, s identity.UsersSpec) (*identity.Users, error) {
	if g.prev != nil {
		for _, u := range g.prev.users {
			if u.hash != e.Hash {
				continue
			}
			commit, err := u.Stage()
			if err != nil {
				return nil, err
			}
			g.commits = append(g.commits, commit)
			g.users = append(g.users, u)
			return u.Users, nil
		}
	}
	u, err := identity.OpenUsers(s)
	if err != nil {
		return nil, err
	}
	f := &usersFile{Users: u, hash: e.Hash}
	g.users = append(g.users, f)
	g.commits = append(g.commits, func() { f.unlist = g.publishUsers(u) })
	return u, nil
}

// buildChain puts the policies in their order: limits, then $-topics, then the access list on topics as clients say
// them, then rewrites. What policies remember of sessions is found again by their names.
func (g *graph) buildChain() error {
	var ps []policy.Policy
	if s := g.snap.Single("limits").(*LimitsSpec).PerClient; s.Events > 0 || s.Bytes > 0 {
		l, err := policy.NewLimit(s)
		if err != nil {
			return err
		}
		ps = append(ps, l)
	}
	t, err := policy.NewTopicGuard(*g.snap.Single("topics").(*policy.TopicGuardSpec))
	if err != nil {
		return err
	}
	ps = append(ps, t)
	var rules []policy.ACLSpec
	for _, e := range g.snap.Entries("acl") {
		rules = append(rules, *e.Spec.(*policy.ACLSpec))
	}
	if len(rules) > 0 {
		a, err := policy.NewACL(rules, g.conditions)
		if err != nil {
			return err
		}
		ps = append(ps, a)
	}
	for _, e := range g.snap.Entries("rewrites") {
		r, err := policy.NewRewrite(*e.Spec.(*policy.RewriteSpec), g.conditions)
		if err != nil {
			return at(e, err)
		}
		ps = append(ps, r)
	}
	g.chain = policy.NewChain(g.metrics, ps...).WithLogger(g.logFor("policy"))
	return nil
}

func (g *graph) buildPools() error {
	for _, e := range g.snap.Entries("pools") {
		var from *destPool
		if g.prev != nil {
			from = g.prev.destPool(e.Name)
		}
		if g.fate(&e) == keeps && from != nil {
			g.pools = append(g.pools, from)
			continue
		}
		for _, d := range destinations() {
			if d.kind.Name != e.Kind {
				continue
			}
			drv, members, err := d.build(g, e.Name, e.Spec)
			if err != nil {
				return at(e, err)
			}
			s := *e.Common.(*pool.Spec)
			p := pool.New(e.Name, s, drv, members, pool.Options{Logger: g.logFor("pool"), Metrics: g.metrics, Deadline: g.spec.Deadline, Tap: g.tap})
			g.drop = append(g.drop, p.Discard)
			g.pools = append(g.pools, &destPool{Pool: p, driver: drv, kind: e.Kind, overflow: s.Overflow, bound: s.QueueMax, from: from})
		}
	}
	return nil
}

func (g *graph) destPool(name string) *destPool {
	for _, p := range g.pools {
		if p.Name() == name {
			return p
		}
	}
	return nil
}

func (g *graph) pool(name string) *pool.Pool {
	if p := g.destPool(name); p != nil {
		return p.Pool
	}
	return nil
}

func (g *graph) driver(name string) pool.Driver {
	if p := g.destPool(name); p != nil {
		return p.driver
	}
	return nil
}

// sourceLanes is the first of the lane numbers of sources: above those of sessions, whose loops are fewer than 255.
const sourceLanes = uint32(route.MaxLoops+1) << 24

// sourceLane gives a source its lane number and the loop on which its events walk.
func (g *graph) sourceLane() (lane uint32, publish func(ev *event.Event, t event.Ticket)) {
	i := int(g.laneCount.Add(1)) - 1
	h := g.hosts[i%len(g.hosts)]
	return sourceLanes + uint32(i)&0xffffff, func(ev *event.Event, t event.Ticket) { h.Inject(ev.Keep(), t) }
}

func (g *graph) buildRoutes() error {
	var rs []*route.Route
	for _, e := range g.snap.Entries("routes") {
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
		r := &route.Route{Name: s.Name, Topic: s.Topic, Filter: p, Ack: ack, Final: s.Final, Pool: s.To.Pools, Class: s.From}
		if r.When, err = s.condition(g.conditions); err != nil {
			return err
		}
		r.Target = g.target(s.To, how)
		if g.prev != nil {
			r.Continue(g.prev.table.Find(s.Name))
		}
		rs = append(rs, r)
	}
	if g.prev == nil {
		g.table = route.NewTable(1, rs)
	} else {
		g.table = g.prev.table.Next(rs)
	}
	return nil
}

// target is where a route leads.
func (g *graph) target(to To, how pool.Ack) event.Target {
	if to.Weights != nil {
		s := &route.Split{Weights: to.Weights}
		for i, name := range to.Pools {
			s.Targets = append(s.Targets, g.pool(name).Leg(how))
			s.Sum += to.Weights[i]
		}
		return s
	}
	if len(to.Pools) == 1 {
		return g.pool(to.Pools[0]).Leg(how)
	}
	var f route.Failover
	for _, name := range to.Pools {
		f = append(f, g.pool(name).Leg(how))
	}
	return f
}

func (g *graph) buildSources() error {
	for _, e := range g.snap.Entries("sources") {
		if g.fate(&e) == keeps && g.prev != nil {
			if old := g.prev.source(e.Name); old != nil {
				g.sources = append(g.sources, old)
				continue
			}
		}
		for _, s := range sources() {
			if s.kind.Name != e.Kind {
				continue
			}
			r, err := s.build(g, e.Name, e.Spec)
			if err != nil {
				return at(e, err)
			}
			g.drop = append(g.drop, func() { _ = r.Run(ended()) }) // it gives its metrics back
			g.sources = append(g.sources, r)
		}
	}
	return nil
}

// source is the runner of that name.
func (g *graph) source(name string) runner {
	for i, e := range g.snap.Entries("sources") {
		if e.Name == name && i < len(g.sources) {
			return g.sources[i]
		}
	}
	return nil
}

// buildListeners makes the protocol ends of the listeners. What the loops read of all listeners is complete before the first
// one opens.
func (g *graph) buildListeners() error {
	for _, e := range g.snap.Entries("listeners") {
		if g.fate(&e) == keeps && g.prev != nil {
			if old := g.prev.listener(e.Name); old != nil {
				g.anonymous[e.Name] = old.anonymous
				g.listeners = append(g.listeners, old)
				continue
			}
		}
		for _, p := range protocols() {
			if p.kind.Name != e.Kind {
				continue
			}
			l, err := p.open(g, e.Name, e.Spec)
			if err != nil {
				return at(e, err)
			}
			l.name, l.protocol, l.web = e.Name, e.Kind, g.web[e.Name]
			g.anonymous[e.Name] = l.anonymous
			g.listeners = append(g.listeners, l)
		}
	}
	return nil
}

func (g *graph) listener(name string) *listener {
	for _, l := range g.listeners {
		if l.name == name {
			return l
		}
	}
	return nil
}

// bind takes the addresses of the listeners that are to open, from a listener that has it or from the system, without
// accepting anybody yet. Nothing is closed, so nobody is refused meanwhile.
func (g *graph) bind() error {
	taken := map[*listener]bool{}
	for _, l := range g.listeners {
		if l.socket != nil {
			taken[l] = true
		}
	}
	for _, l := range g.listeners {
		if l.socket != nil {
			continue
		}
		var err error
		var open socket
		if from := g.holder(l, taken); from != nil {
			taken[from] = true
			open, err = g.takeOver(l, from)
		} else {
			open, err = g.bindNew(l)
			err = g.overlap(l, err)
		}
		if err != nil {
			return err
		}
		l.socket = open
		g.starts = append(g.starts, l.Start)
		g.drop = append(g.drop, l.Close)
	}
	return nil
}

// overlap explains an address that is taken by a listener of this node under another address, such as :1883 beside
// 127.0.0.1:1883: to free it first would refuse clients, and the new one could fail.
func (g *graph) overlap(l *listener, err error) error {
	_, port, _ := net.SplitHostPort(l.spec.Bind)
	if g.prev == nil || !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	for _, old := range g.prev.listeners {
		if _, p, _ := net.SplitHostPort(old.spec.Bind); p == port && l.sameNet(old) {
			return fmt.Errorf("%w: listener %s has that port on %s; take it out in one reload and open %s in the next, or restart", err, old.name, old.spec.Bind, l.spec.Bind)
		}
	}
	return err
}

// sameNet says whether two listeners could be in each other's way: ports of datagrams are others than those of connections.
func (l *listener) sameNet(o *listener) bool { return (l.packets == nil) == (o.packets == nil) }

func (g *graph) bindNew(l *listener) (socket, error) {
	if l.packets != nil {
		return g.openPackets(l)
	}
	var ln *net.TCPListener
	var err error
	if passed := g.passedSocket(l.name, l.spec.Bind); passed != nil {
		ln, err = listen.Share(passed) // it stays open for a listener of that name that comes again
	} else {
		ln, err = listen.Bind(l.name, l.spec)
	}
	if err != nil {
		return nil, err
	}
	return asSocket(listen.Serve(g.group, ln, l.name, l.spec, g.tls[l.spec.TLS], l.accept))
}

func (g *graph) takeOver(l, from *listener) (socket, error) {
	if l.packets != nil {
		return takeOverPackets(l, from), nil
	}
	old := from.socket.(*listen.Listener)
	ln, err := old.Socket()
	if err != nil {
		return nil, err
	}
	return asSocket(old.Replace(ln, l.name, l.spec, g.tls[l.spec.TLS], l.accept))
}

// asSocket is a listener as a socket; none is nil.
func asSocket(l *listen.Listener, err error) (socket, error) {
	if err != nil {
		return nil, err
	}
	return l, nil
}

// holder is the listener in force that has the address of l and does not go on itself.
func (g *graph) holder(l *listener, taken map[*listener]bool) *listener {
	if g.prev == nil {
		return nil
	}
	if old := g.prev.listener(l.name); old != nil && !taken[old] && old.spec.Bind == l.spec.Bind && l.sameNet(old) {
		return old
	}
	for _, old := range g.prev.listeners {
		if taken[old] || old.spec.Bind != l.spec.Bind || !l.sameNet(old) {
			continue
		}
		if next := g.listener(old.name); next == nil || next.spec.Bind != old.spec.Bind || !next.sameNet(old) {
			return old
		}
	}
	return nil
}

// commit brings the graph into force, as far as that cannot fail. Old routes stay in the index until the caller takes them
// out; new ones are there already.
func (g *graph) commit() {
	for _, p := range g.pools {
		if p.from != nil {
			p.from.Yield(p.Pool)
		}
	}
	for _, f := range g.commits {
		f()
	}
	g.node.live.Store(g)
	g.net.SetTable(g.table)
	g.net.SetDeadline(g.spec.Deadline)
	g.retained.SetLimits(retainLimits(g.snap))
	g.shared.SetLimits(sessionLimits(g.snap))
	if err := g.tap.Configure(tapSpec(g.snap)); err != nil {
		g.log.Error("the bounds of tap stay as they were", "error", err)
	}
	for _, f := range g.starts {
		f()
	}
	g.commits, g.starts, g.drop, g.prev, g.conditions = nil, nil, nil, nil, nil
}

// ended is a context that has ended.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
