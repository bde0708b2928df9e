// Package app is the composition root: it turns a snapshot of the configuration into a node, connects its parts, starts
// them in order and stops them in the reverse order. builtin.go lists every module.
//
// # Concurrency
//
// An App belongs to the goroutine that calls Run. What the admin server asks for is read from counters and immutable
// parts, safe for concurrent use.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/windrose-edc/windrose/internal/admin"
	"github.com/windrose-edc/windrose/internal/config"
	"github.com/windrose-edc/windrose/internal/observe"
)

// Options say what to run. Immutable.
type Options struct {
	ConfigFiles []string
	Dev         bool // the default on loopback, without a file
	Logger      *slog.Logger
	Stdout      io.Writer            // the banner; nil: none
	Log         *observe.AsyncWriter // what Logger writes to, to show what it drops; may be nil
	Logs        *observe.Logs        // where Logger comes from: takes over the section log; may be nil
	LogSpec     observe.LogSpec      // flags that win over the section log; empty: none
	Version     string
}

// App is one node and what surrounds it. Owned by the goroutine that runs it.
type App struct {
	o       Options
	node    *node
	admin   *admin.Server
	started time.Time
	metrics *observe.Registry
}

// Load reads and checks a configuration without building anything. The error is config.Errors where the files are wrong.
func Load(files ...string) (*config.Snapshot, error) { return schema().Load(files...) }

// Schema is the whole configuration language.
func Schema() *config.Schema { return schema() }

// Check says what is wrong with a configuration, as far as that can be known without running it.
func Check(files ...string) error {
	snap, err := Load(files...)
	if err != nil {
		return err
	}
	n, err := build(snap, observe.Discard(), nil)
	if err != nil {
		return err
	}
	return n.group.Close()
}

// New loads, checks and builds everything. Nothing listens before Run.
func New(o Options) (*App, error) {
	if o.Logger == nil {
		o.Logger = observe.Discard()
	}
	var snap *config.Snapshot
	var err error
	switch {
	case o.Dev:
		snap, err = schema().LoadBytes("built-in development defaults", []byte(devConfig), os.LookupEnv)
	case len(o.ConfigFiles) == 0:
		return nil, errors.New("no configuration: name a file with -c, or use windrose dev")
	default:
		snap, err = Load(o.ConfigFiles...)
	}
	if err != nil {
		return nil, err
	}
	o.applyLog(snap)
	a := &App{o: o, started: time.Now(), metrics: observe.NewRegistry()}
	if a.node, err = build(snap, o.Logger, a.metrics); err != nil {
		return nil, err
	}
	observe.Runtime(a.metrics, o.Version)
	if o.Log != nil {
		o.Log.Register(a.metrics)
	}
	if addr := a.node.spec.Admin; addr != "" {
		a.admin = admin.New(admin.Options{Addr: addr, Registry: a.metrics, Node: (*status)(a), Logger: o.Logger, Version: o.Version})
	}
	return a, nil
}

// applyLog lets the log be as the snapshot and the flags say.
func (o *Options) applyLog(snap *config.Snapshot) {
	if o.Logs == nil {
		return
	}
	s := snap.Single("log").(*LogSpec).LogSpec
	if o.LogSpec.Format != "" {
		s.Format = o.LogSpec.Format
	}
	if o.LogSpec.Level != "" {
		s.Level = o.LogSpec.Level
	}
	o.Logs.Apply(s)
}

// stopGrace bounds the parts of a stop: telling the clients, draining the pools.
const stopGrace = 2 * time.Second

// Run works until ctx is done.
func (a *App) Run(ctx context.Context) error {
	n := a.node
	if err := n.dataDir(); err != nil {
		return errors.Join(err, n.group.Close())
	}
	if a.admin != nil {
		if err := a.admin.Listen(); err != nil {
			return errors.Join(err, n.group.Close())
		}
	}
	p := newParts(ctx)
	p.run(stopIndex, "index", n.index.Run)
	routes := make(chan struct{})
	n.index.Apply(n.net.Table().Changes(false), func() { close(routes) })
	<-routes
	for _, pl := range n.pools {
		p.run(stopPools, "pool "+pl.Name(), pl.Run)
	}
	p.run(stopLoops, "loops", n.group.Run)
	p.run(stopIndex, "trimmer", (&trimmer{sessions: n.meters.sessions.Value, sweep: func(now int64) { n.retained.Sweep(now) }}).Run)
	if err := n.listen(); err != nil {
		if a.admin != nil {
			err = errors.Join(err, a.admin.Close())
		}
		return errors.Join(err, a.stop(p))
	}
	for _, s := range n.sources {
		p.run(stopSources, "source", s.Run)
	}
	p.run(stopAdmin, "admin", a.runAdmin) // from here on the listeners do not change, so it may show them
	p.run(stopAdmin, "log summaries", func(ctx context.Context) error { n.limited.Run(ctx); return nil })
	a.banner()
	a.o.Logger.Info("ready", "node", n.id, "after", time.Since(a.started).Round(time.Millisecond).String())
	a.o.Logger.Info("persistent sessions are in memory: their acknowledgements mean received, and do not survive a restart")
	p.wait()
	return a.stop(p)
}

func (a *App) runAdmin(ctx context.Context) error {
	if a.admin == nil {
		return nil
	}
	return a.admin.Run(ctx)
}

// stop ends the parts in the reverse order of their start.
func (a *App) stop(p *parts) error {
	n := a.node
	for _, l := range n.listeners {
		l.Close()
	}
	p.end(stopSources)
	var wg sync.WaitGroup
	for _, h := range n.hosts {
		wg.Add(1)
		h.Clock().Post(func() { h.Close(); wg.Done() })
	}
	told := make(chan struct{})
	p.wg.Go(func() { wg.Wait(); close(told) })
	select {
	case <-told:
	case <-time.After(stopGrace):
	}
	for end := time.Now().Add(stopGrace); time.Now().Before(end) && n.connections() > 0; {
		time.Sleep(5 * time.Millisecond) // the clients read why, and close
	}
	p.end(stopPools)
	p.end(stopLoops)
	p.end(stopIndex)
	n.slow.wait(stopGrace)
	p.end(stopAdmin)
	return p.err()
}

func (n *node) connections() (c int64) {
	for _, l := range n.listeners {
		c += l.Open()
	}
	return c
}

// The order in which the parts are stopped.
const (
	stopSources = iota
	stopPools
	stopLoops
	stopIndex
	stopAdmin
	numStops
)

// parts are the goroutines of a running node. Owned by Run, except what mu guards.
type parts struct {
	wg     sync.WaitGroup
	groups [numStops]struct {
		wg     sync.WaitGroup
		ctx    context.Context
		cancel context.CancelFunc
	}
	ctx    context.Context
	failed context.CancelFunc

	mu   sync.Mutex // guards what follows
	errs []error
}

func newParts(ctx context.Context) *parts {
	p := &parts{}
	p.ctx, p.failed = context.WithCancel(ctx)
	for i := range p.groups {
		g := &p.groups[i]
		g.ctx, g.cancel = context.WithCancel(context.WithoutCancel(ctx))
	}
	return p
}

// run starts a part. When it fails the node stops.
func (p *parts) run(stop int, name string, f func(ctx context.Context) error) {
	g := &p.groups[stop]
	g.wg.Go(func() {
		if err := f(g.ctx); err != nil && !errors.Is(err, context.Canceled) {
			p.mu.Lock()
			p.errs = append(p.errs, fmt.Errorf("run %s: %w", name, err))
			p.mu.Unlock()
			p.failed()
		}
	})
}

// wait waits for the end of the context or of a part that failed.
func (p *parts) wait() { <-p.ctx.Done() }

// end stops the parts of one step and waits for them.
func (p *parts) end(stop int) {
	p.groups[stop].cancel()
	p.groups[stop].wg.Wait()
}

func (p *parts) err() error {
	p.failed()
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.errs...)
}
