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
	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/retain"
	"github.com/windrose-edc/windrose/internal/route"
	"github.com/windrose-edc/windrose/internal/session"
	"github.com/windrose-edc/windrose/internal/systemd"
	"github.com/windrose-edc/windrose/internal/tap"
)

// mailCredit bounds the bytes of events under way between two loops.
const mailCredit = 4 << 20

// runner is a part of the node that works until its context ends.
type runner interface {
	Run(ctx context.Context) error
}

// node is what stays as long as the process: loops, sessions, what is retained, the index. Immutable after newNode, except live.
type node struct {
	boot    *NodeSpec // as it was at the start
	id      string
	log     *slog.Logger
	limited *observe.LimitedLogger
	metrics *observe.Registry

	group     *loop.Group
	index     *route.Index
	net       *route.Net
	retained  *retain.Store
	tap       *tap.Hub
	shared    *session.Shared
	hosts     []*session.Host
	directory *session.Directory
	dead      *deadLetters
	meters    *meters
	slow      *slowWork
	notices   *notices

	passed    []systemd.Socket      // that the service manager opened; set before the listeners open
	laneCount atomic.Uint32         // of sources, ever
	live      atomic.Pointer[graph] // what the configuration in force describes; never nil after New
}

// logFor is the logger of a component, whose level can be set apart.
func (n *node) logFor(component string) *slog.Logger {
	return n.log.With(observe.ComponentKey, component)
}

func (n *node) authChain() *identity.Chain { return n.live.Load().auth }

func (n *node) chain() *policy.Chain { return n.live.Load().chain }

// build makes the node of a snapshot with its graph; nothing listens yet.
func build(snap *config.Snapshot, log *slog.Logger, metrics *observe.Registry) (*node, error) {
	n, err := newNode(snap, log, metrics)
	if err != nil {
		return nil, err
	}
	g, err := n.graph(snap, newPlan(nil, snap, n.boot, nil, nil))
	if err != nil {
		return nil, errors.Join(err, n.group.Close())
	}
	g.commit()
	n.publishStats()
	return n, nil
}

func newNode(snap *config.Snapshot, log *slog.Logger, metrics *observe.Registry) (*node, error) {
	n := &node{boot: nodeSpec(snap), log: log, metrics: metrics, limited: observe.Limited(log, metrics), directory: session.NewDirectory(),
		dead: &deadLetters{}, slow: &slowWork{}}
	n.id = n.boot.Name
	if n.id == "" {
		n.id, _ = os.Hostname() // "" is a name too: the node has none
	}
	loops := n.boot.Loops
	if loops == 0 {
		loops = min(runtime.NumCPU(), route.MaxLoops)
	}
	runtime.GOMAXPROCS(loop.Procs(loops))
	var err error
	if n.group, err = loop.NewGroup(loop.Options{Loops: loops, Gather: true, Logger: n.logFor("loop"), MaxOut: 16 << 20, MaxPartial: partialInput}); err != nil {
		return nil, err
	}
	n.index = route.NewIndex(route.IndexOptions{})
	n.retained = retain.New(retainLimits(snap))
	n.meters = newMeters(n.metrics)
	var clocks []route.Clock
	for _, l := range n.group.Loops() {
		clocks = append(clocks, l)
	}
	n.net = route.NewNet(n.index, clocks, mailCredit, n.boot.Deadline)
	if n.tap, err = tap.New(tapSpec(snap)); err != nil {
		return nil, errors.Join(err, n.group.Close())
	}
	n.net.SetTap(n.tap)
	n.shared = &session.Shared{Directory: n.directory, Tap: n.tap, Net: n.net, Retained: n.retained, Chain: n.chain, Classes: n.classes, Dead: n.dead, Limits: sessionLimits(snap)}
	n.notices = newNotices(n)
	n.shared.Lives = n.notices
	meters := make([]*meter, loops)
	n.shared.Observe = func(h *session.Host) { meters[h.Clock().ID()].turn(h) }
	for i, l := range n.group.Loops() {
		h := session.NewHost(n.shared, l)
		m := &meter{all: n.meters, host: h, loop: l}
		m.timer.Init(m)
		meters[i] = m
		n.hosts = append(n.hosts, h)
		l.OnTurn(h.Turn)
	}
	return n, nil
}

func retainLimits(snap *config.Snapshot) retain.Limits {
	r := snap.Single("retained").(*RetainSpec)
	return retain.Limits{MaxMessages: r.Messages, MaxBytes: r.Bytes}
}

func sessionLimits(snap *config.Snapshot) session.Limits {
	s := snap.Single("sessions").(*SessionSpec)
	rules := map[string]session.Overflow{"drop_new": session.DropNew, "drop_old": session.DropOld, "disconnect": session.Disconnect}
	hand := map[string]session.HandOn{"session_end": session.HandOnEnd, "disconnect": session.HandOnDisconnect}
	balance, _ := route.ParseBalance(s.Shared.Balance) // one of the words: the configuration was checked
	return session.Limits{HandOn: hand[s.Shared.HandOn], Balance: balance, Queue: s.Queue, QueueBytes: s.QueueBytes, Window: s.MaxInflight, Receive: s.Receive, Sessions: s.Max, Subscriptions: s.Subs, Rule: rules[s.Overflow]}
}

// takeSockets takes what the service manager has opened for this process.
func (n *node) takeSockets() (err error) {
	n.passed, err = systemd.Sockets()
	for _, s := range n.passed {
		n.log.Info("socket of the service manager", "name", s.Name, "address", s.Listener.Addr().String())
	}
	return err
}

// passedSocket is the socket that the service manager opened for a listener: by its name, or by its address.
func (n *node) passedSocket(name, bind string) *net.TCPListener {
	for _, s := range n.passed {
		if s.Name == name {
			return s.Listener
		}
	}
	for _, s := range n.passed {
		if addr, err := net.ResolveTCPAddr("tcp", bind); err == nil && addr.String() == s.Listener.Addr().String() {
			return s.Listener
		}
	}
	return nil
}

// dataDir makes the folder for what the node keeps.
func (n *node) dataDir() error {
	if err := os.MkdirAll(n.boot.Data, 0o750); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	probe := filepath.Join(n.boot.Data, ".writable")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		return fmt.Errorf("write to the data folder %q: %w", n.boot.Data, err)
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
