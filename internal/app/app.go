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
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/windrose-edc/windrose/internal/admin"
	"github.com/windrose-edc/windrose/internal/config"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/otlp"
	"github.com/windrose-edc/windrose/internal/systemd"
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

// App is one node and what surrounds it. Owned by the goroutine that runs it, but for what says that it is safe for concurrent
// use; two fields have locks of their own, and those at the end are guarded by reloads.work.
type App struct {
	o       Options
	node    *node
	admin   *admin.Server
	started time.Time
	metrics *observe.Registry
	notify  *systemd.Notifier
	history *config.History // nil: not opened yet
	reloads reloads
	drainer drainer
	memory  memory

	// Guarded by reloads.work.
	parts       *parts // nil: not running
	stopping    bool
	poolParts   map[*destPool]*part
	sourceParts map[runner]*part
	setPart     *part // watches the files of sets; nil: nobody does
	traces      *otlp.Exporter
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
	a := &App{o: o, started: time.Now(), metrics: observe.NewRegistry(), poolParts: map[*destPool]*part{}, sourceParts: map[runner]*part{}}
	a.notify = systemd.New()
	a.reloads.register(a.metrics)
	a.memory.configure(a.metrics, o.Logger, "/")
	if a.node, err = build(snap, o.Logger, a.metrics); err != nil {
		return nil, err
	}
	observe.Runtime(a.metrics, o.Version)
	if o.Log != nil {
		o.Log.Register(a.metrics)
	}
	a.traces = otlp.New(otlp.Options{Hub: a.node.tap, Spec: a.traceSpec, Node: a.node.id, Version: o.Version,
		Logger: o.Logger.With(observe.ComponentKey, "trace"), Metrics: a.metrics})
	if ao := a.adminOptions(); ao.Addr != "" || ao.Socket != "" {
		ao.Upgrade = a.upgrade
		ao.Tap, ao.Explain = a.node.tap, a.node.explain
		a.admin = admin.New(ao)
	}
	return a, nil
}

// traceSpec is the section traces that is in force.
func (a *App) traceSpec() otlp.Spec { return *a.node.live.Load().snap.Single("traces").(*otlp.Spec) }

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

// Run works until ctx is done.
func (a *App) Run(ctx context.Context) error {
	n, g := a.node, a.node.live.Load()
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
	if err := g.putRoutes(); err != nil {
		return errors.Join(err, n.group.Close(), p.err())
	}
	a.reloads.work.Lock() // until everything runs there is nothing to reload
	a.parts = p
	a.startPools(nil, g)
	p.run(stopLoops, "loops", n.group.Run)
	p.run(stopIndex, "trimmer", (&trimmer{sessions: n.meters.sessions.Value, sweep: func(now int64) { n.retained.Sweep(now) }}).Run)
	err := n.takeSockets()
	if err == nil {
		err = g.bind()
	}
	if err != nil {
		a.reloads.work.Unlock()
		if a.admin != nil {
			err = errors.Join(err, a.admin.Close())
		}
		return errors.Join(err, a.stop(p))
	}
	for _, l := range g.listeners {
		l.Start()
	}
	a.startSources(g)
	a.startSets(g)
	a.firstLoad(g)
	a.reloads.work.Unlock()
	p.run(stopAdmin, "admin", a.runAdmin)
	p.run(stopAdmin, "certificates", a.watchExpiry)
	p.run(stopAdmin, "memory", func(ctx context.Context) error { return a.memory.watch(ctx, a.o.Logger, a.shut) })
	if a.notify != nil {
		p.run(stopPools, "watchdog", a.watchdog)
	}
	p.run(stopAdmin, "traces", a.traces.Run)
	p.run(stopSources, "own topics", newSysTopics(n, a.o.Version, a.started).run)
	p.run(stopAdmin, "log summaries", func(ctx context.Context) error { n.limited.Run(ctx); return nil })
	a.banner()
	a.o.Logger.Info("ready", "node", n.id, "after", time.Since(a.started).Round(time.Millisecond).String())
	a.o.Logger.Info("persistent sessions are in memory: their acknowledgements mean received, and do not survive a restart")
	a.notify.Ready()
	p.wait()
	return a.stop(p)
}

// firstLoad notes the configuration with which the node came up.
func (a *App) firstLoad(g *graph) {
	x := &admin.Reload{OK: true, How: "start", At: time.Now(), Took: time.Since(a.started).Seconds(), Hash: g.snap.Hash()}
	rev, err := a.record(g.snap, x.How)
	if err != nil {
		a.o.Logger.Warn("history", "error", err)
	}
	x.Revision = rev
	a.reloads.note(x)
	a.warnExpiry()
}

func (a *App) runAdmin(ctx context.Context) error {
	if a.admin == nil {
		return nil
	}
	return a.admin.Run(ctx)
}

// stop ends the parts: first nobody new comes in, then the clients go, each with what it was promised, then the pools deliver what
// they hold, then the rest in the reverse order of its start. All of it takes at most node.drain.
func (a *App) stop(p *parts) error {
	n := a.node
	a.notify.Stopping()
	a.notify.Extend(n.live.Load().spec.Drain.Wait + n.live.Load().spec.Drain.Time + 5*time.Second)
	a.drainer.set(stopping)
	a.reloads.work.Lock()
	a.stopping = true
	a.reloads.work.Unlock()
	g := n.live.Load()
	s := g.spec.Drain
	a.shut()
	if s.Wait > 0 && n.connections() > 0 {
		time.Sleep(s.Wait)
	}
	begin := time.Now()
	end := begin.Add(s.Time)
	p.end(stopSources)
	ctx, cancel := context.WithDeadline(context.Background(), end)
	defer cancel()
	closed := n.release(ctx, s.Rate, begin.Add(s.Time*6/10))
	for _, l := range g.listeners {
		if l.socket != nil { // not where the start failed
			l.Close()
		}
	}
	for limit := time.Now().Add(min(2*time.Second, s.Time/10)); time.Now().Before(limit) && n.connections() > 0; {
		time.Sleep(5 * time.Millisecond) // the clients read why, and close
	}
	for _, pl := range g.pools {
		pl.DrainWithin(time.Until(end) * 9 / 10)
	}
	p.end(stopPools)
	p.end(stopLoops)
	p.end(stopIndex)
	n.slow.wait(max(time.Until(end), 0))
	a.o.Logger.Info("stopped", "closed", closed, "after", time.Since(begin).Round(time.Millisecond).String())
	p.end(stopAdmin)
	return p.err()
}

func (n *node) connections() (c int64) {
	for _, open := range n.group.Stats().Open {
		c += open
	}
	return c
}
