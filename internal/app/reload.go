package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/windrose-edc/windrose/internal/admin"
	"github.com/windrose-edc/windrose/internal/config"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/session"
)

// Errors of a reload.
var (
	errStopping   = errors.New("the node stops")
	errNotRunning = errors.New("the node is not running yet")
	errNoFile     = errors.New("this node runs on built-in defaults: there is no file to read")
)

// reloads is what a node knows of its reloads. Guarded by mu; work is held for the whole of one.
type reloads struct {
	work sync.Mutex // one reload at a time, and none while the node stops

	mu      sync.Mutex
	last    *admin.Reload // of all
	applied *admin.Reload // the last that was in order

	ok, failed *observe.Counter
	broken     *observe.Gauge
}

func (r *reloads) register(m *observe.Registry) {
	help := "Attempts to bring a configuration into force, by how they ended."
	r.ok = m.Counter("windrose_config_done_reloads_total", help, "outcome", "ok")
	r.failed = m.Counter("windrose_config_done_reloads_total", help, "outcome", "failed")
	r.broken = m.Gauge("windrose_config_broken_state", "1 while the last reload failed and the configuration before it is in force.")
	m.GaugeFunc("windrose_config_applied_seconds", "Unix time at which the configuration in force was applied.", func() float64 {
		if _, applied := r.get(); applied != nil {
			return float64(applied.At.Unix())
		}
		return 0
	})
}

func (r *reloads) get() (last, applied *admin.Reload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, r.applied
}

func (r *reloads) note(x *admin.Reload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = x
	if x.OK {
		r.applied = x
		r.ok.Inc()
		r.broken.Set(0)
		return
	}
	r.failed.Inc()
	r.broken.Set(1)
}

// LastReload is the last attempt to bring a configuration into force, and the last that was in order. Safe for concurrent
// use.
func (a *App) LastReload() (last, applied *admin.Reload) { return a.reloads.get() }

// Reload reads the files again, those named by the configuration included, and brings them into force: the whole new graph is
// built first, and what is wrong changes nothing. Parts whose key is the same go on as they are. Safe for concurrent use; one
// reload waits for the other. how is a word for log, history and API. The result is never nil; its Err is the error.
func (a *App) Reload(how string) *admin.Reload {
	a.reloads.work.Lock()
	defer a.reloads.work.Unlock()
	x := &admin.Reload{How: how, At: time.Now()}
	a.notify.Reloading()
	defer a.notify.Ready()
	x.Err = a.reload(x)
	took := time.Since(x.At)
	x.Took = took.Seconds()
	log := a.o.Logger.With(observe.ComponentKey, "reload")
	g := a.node.live.Load()
	x.Hash = g.snap.Hash()
	if x.Err != nil {
		x.Error = x.Err.Error()
		log.Error("reload failed; nothing was changed", "how", how, "error", x.Err)
		a.reloads.note(x)
		return x
	}
	x.OK = true
	if rev, err := a.record(g.snap, how); err != nil {
		log.Warn("history", "error", err)
	} else {
		x.Revision = rev
	}
	a.reloads.note(x)
	log.Info("reloaded", "how", how, "hash", x.Hash[:12], "revision", x.Revision, "took", took.Round(time.Microsecond).String(), "steps", len(x.Plan.Steps))
	for i, line := range x.Plan.Lines() {
		if x.Plan.Steps[i].Action == admin.ActionRestart {
			log.Warn("reload needs a restart", "step", line)
		} else {
			log.Info("reload", "step", line)
		}
	}
	for _, line := range x.News {
		log.Info("reload", "step", line)
	}
	a.warnExpiry()
	return x
}

func (a *App) reload(x *admin.Reload) error {
	switch {
	case a.parts == nil:
		return errNotRunning
	case a.stopping:
		return errStopping
	case a.o.Dev:
		return errNoFile
	}
	snap, err := Load(a.o.ConfigFiles...)
	if err != nil {
		return err
	}
	n := a.node
	old := n.live.Load()
	plan := newPlan(old.snap, snap, n.boot, old.digests, fileDigests(snap))
	next, err := n.graph(snap, plan)
	if err != nil {
		return err
	}
	if err := errors.Join(next.bind(), next.putRoutes()); err != nil {
		next.discard()
		return err
	}
	x.Plan, x.News, x.Restart = a.counted(a.parts.ctx, plan.Plan, old), next.news, plan.Restart()
	a.swap(old, next)
	return nil
}

// putRoutes puts the new routes into the index: they are seen only when the table is.
func (g *graph) putRoutes() error {
	there := make(chan struct{})
	if !g.index.Apply(g.table.Changes(false), func() { close(there) }) {
		return errors.New("too many subscriptions change at this moment; try again")
	}
	<-there
	return nil
}

// swap brings next into force and lets go of what only old had. It waits for nothing that others do.
func (a *App) swap(old, next *graph) {
	table := old.table
	next.commit()
	a.o.applyLog(next.snap)
	for _, r := range old.sources {
		if !slices.Contains(next.sources, r) {
			a.sourceParts[r].end()
			delete(a.sourceParts, r)
		}
	}
	for _, l := range old.listeners {
		if next.listener(l.name) != l {
			l.Close() // its socket may go on in another
		}
	}
	a.startPools(old, next)
	a.startSources(next)
	a.startSets(next)
	for _, u := range old.users {
		if !slices.Contains(next.users, u) && u.unlist != nil {
			u.unlist()
		}
	}
	old.dropAuths(next)
	a.node.index.Apply(table.Changes(true), nil)
	for _, l := range next.listeners {
		a.node.shared.ShutListener(l.name, nil)
	}
	for _, l := range old.listeners {
		if next.listener(l.name) == nil {
			a.closeListener(l)
		}
	}
}

// startPools runs the pools that do not run, each behind the one whose queue it takes over, and ends those that nobody has any
// more.
func (a *App) startPools(old, next *graph) {
	for _, p := range next.pools {
		if a.poolParts[p] != nil {
			continue
		}
		var before *part
		if p.from != nil {
			before = a.poolParts[p.from]
			delete(a.poolParts, p.from)
			before.end()
		}
		from := p.from
		p.from = nil
		a.poolParts[p] = a.parts.run(stopPools, "pool "+p.Name(), func(ctx context.Context) error {
			before.wait()
			if from != nil {
				from.close()
			}
			return p.Run(ctx)
		})
	}
	if old == nil {
		return
	}
	for _, p := range old.pools {
		if x := a.poolParts[p]; x != nil && next.destPool(p.Name()) == nil {
			delete(a.poolParts, p)
			x.end()
			a.parts.run(stopPools, "end of pool "+p.Name(), func(context.Context) error {
				x.wait()
				a.keepLetters(p)
				p.close()
				return nil
			})
		}
	}
}

// close lets the driver of a pool that has ended go.
func (p *destPool) close() {
	if c, ok := p.driver.(interface{ Close() }); ok {
		c.Close()
	}
}

// keepLetters keeps the dead letters of a pool that is gone with those of the sessions.
func (a *App) keepLetters(p *destPool) {
	after := uint64(0)
	total := 0
	for {
		letters := p.DeadLetters(after, 256)
		if len(letters) == 0 {
			break
		}
		for _, l := range letters {
			client := ""
			if l.Event.From != nil {
				client = l.Event.From.Client
			}
			a.node.dead.Dead(l.Event, client, "pool "+p.Name()+" was removed: "+l.Reason)
			after = l.ID
		}
		total += len(letters)
	}
	if total > 0 {
		a.o.Logger.Warn("a pool was removed with dead letters; they are kept with those of the sessions", "pool", p.Name(), "letters", total)
	}
}

func (a *App) startSources(g *graph) {
	for _, s := range g.sources {
		if a.sourceParts[s] == nil {
			a.sourceParts[s] = a.parts.run(stopSources, "source", s.Run)
		}
	}
}

// removedGrace is how long the connections of a listener that is gone may take to say goodbye.
const removedGrace = 5 * time.Second

// closeListener ends the connections of a listener that is no longer configured, at the rate of a drain.
func (a *App) closeListener(l *listener) {
	a.node.shared.ShutListener(l.name, &session.Closed{Why: session.Removed})
	a.parts.run(stopSources, "end of listener "+l.name, func(ctx context.Context) error {
		a.node.sweep(ctx, session.Sweep{Why: session.Removed, Listener: l.name}, a.node.live.Load().spec.Drain.Rate, time.Now().Add(removedGrace))
		if ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(time.Second): // for the last bytes
			}
			l.CloseConns(errListenerGone)
		}
		return nil
	})
}

var errListenerGone = errors.New("listener is no longer configured")

// PlanReload implements admin.Operable.
func (a *App) PlanReload(ctx context.Context) (*Plan, error) {
	if a.o.Dev {
		return nil, errNoFile
	}
	snap, err := Load(a.o.ConfigFiles...)
	if err != nil {
		return nil, err
	}
	return a.planFor(ctx, snap), nil
}

// PlanFiles implements admin.Operable.
func (a *App) PlanFiles(ctx context.Context, roots []string, files []config.WrittenFile) (*Plan, error) {
	snap, err := schema().LoadWritten(roots, files)
	if err != nil {
		return nil, err
	}
	return a.planFor(ctx, snap), nil
}

func (a *App) planFor(ctx context.Context, to *config.Snapshot) *Plan {
	g := a.node.live.Load()
	return a.counted(ctx, newPlan(g.snap, to, a.node.boot, g.digests, fileDigests(to)).Plan, g)
}

// counted adds to a plan how many it concerns now.
func (a *App) counted(ctx context.Context, p *Plan, g *graph) *Plan {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for i := range p.Steps {
		s := &p.Steps[i]
		switch {
		case s.Section == "listeners" && s.Action != fateWords[starts]:
			l := g.listener(s.Name)
			if l == nil {
				continue
			}
			c, ok := a.node.census(ctx, s.Name)
			if !ok {
				continue
			}
			conns, dropped, kept := int(l.Open()), 0, c.Connected
			if s.Action == fateWords[ends] {
				dropped, kept = c.Ending, c.Connected-c.Ending
				s.Text += fmt.Sprintf(": %s, %s will be dropped, %d kept", plural(conns, "connection ends", "connections end"), plural(dropped, "session", "sessions"), kept)
			} else {
				s.Text += fmt.Sprintf(" (%s)", plural(conns, "connection", "connections"))
			}
			s.Connections, s.Dropped, s.Kept = &conns, &dropped, &kept
		case s.Section == "pools" && s.Action != fateWords[starts]:
			if pl := g.pool(s.Name); pl != nil {
				queued := pl.Stats().Queued
				s.Queued = &queued
				s.Text += fmt.Sprintf(" (%s)", plural(queued, "event waits", "events wait"))
			}
		}
	}
	return p
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// census counts the sessions of a listener on all loops; ok is false when that took too long.
func (n *node) census(ctx context.Context, listener string) (c session.Census, ok bool) {
	for _, h := range n.hosts {
		var x session.Census
		if !on(ctx, h, func() { x = h.Census(listener) }) {
			return c, false
		}
		c.Connected += x.Connected
		c.Ending += x.Ending
	}
	return c, true
}

// on runs f on the loop of a host and waits for it; false: ctx ended before, and f may still run.
func on(ctx context.Context, h *session.Host, f func()) bool {
	done := make(chan struct{})
	h.Clock().Post(func() { defer close(done); f() })
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// record keeps the files of a configuration that is in force in the data folder.
func (a *App) record(snap *config.Snapshot, how string) (rev string, err error) {
	if a.o.Dev {
		return "", nil
	}
	if a.history == nil {
		if a.history, err = config.OpenHistory(filepath.Join(a.node.boot.Data, "history"), 0); err != nil {
			return "", err
		}
	}
	return a.history.Record(snap, how)
}

// watchEvery is how often Watch looks; a change must be there twice, so that a file that is being written is not read.
const watchEvery = 500 * time.Millisecond

// Watch reloads whenever the configuration files, or the certificate and user files they name, have changed, until ctx ends.
func (a *App) Watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	applied := a.fingerprint()
	before := applied
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := a.fingerprint()
		if now != applied && now == before {
			applied = now
			a.Reload("watch")
		}
		before = now
	}
}

// fingerprint is name, size and time of every file that a reload reads.
func (a *App) fingerprint() string {
	var b strings.Builder
	look := func(name string) {
		if st, err := os.Stat(name); err == nil {
			fmt.Fprintf(&b, "%s %d %d\n", name, st.Size(), st.ModTime().UnixNano())
		} else {
			fmt.Fprintf(&b, "%s -\n", name)
		}
	}
	for _, name := range a.o.ConfigFiles {
		look(name)
		if inside, err := filepath.Glob(filepath.Join(name, "*.yaml")); err == nil {
			for _, f := range inside {
				look(f)
			}
		}
	}
	for _, name := range a.node.live.Load().files() {
		look(name)
	}
	return b.String()
}
