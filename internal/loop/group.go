package loop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// Group is a set of loops that share the load of the process. Safe for concurrent use.
type Group struct {
	opt   Options
	loops []*Loop
	next  atomic.Uint32
	gate  *gate

	panicLog, tlsLog rate

	mu        sync.Mutex // guards what follows
	listeners []door
	started   bool
	stopping  bool // no new listeners
	closed    bool
}

// door is what the group closes first when it stops: a Listener, a PacketListener.
type door interface{ Close() }

// NewGroup makes the loops; they do nothing until Run. Without Run, Close frees what they hold.
func NewGroup(o Options) (*Group, error) {
	g := &Group{opt: o.withDefaults()}
	g.gate = newGate(&g.opt)
	for i := range g.opt.Loops {
		l := &Loop{g: g, id: i}
		if err := l.poller.open(); err != nil {
			_ = g.Close()
			return nil, fmt.Errorf("open event loop %d: %w", i, err)
		}
		l.now = clock()
		l.wheel.init(l.now)
		l.wheel.call = l.expire
		g.loops = append(g.loops, l)
	}
	if g.opt.Gather && canGather && len(g.loops) > 1 {
		d := &driver{own: g.loops[0], all: g.loops[:1:1]}
		g.loops[0].drives = d
		for _, l := range g.loops[1:] {
			l.lending = lending{to: d, back: make(chan struct{}, 1)}
		}
	}
	return g, nil
}

// Loops are all loops; Loops()[i].ID() == i.
func (g *Group) Loops() []*Loop { return g.loops }

// Pick is the loop with the fewest connections; among equals they take turns.
func (g *Group) Pick() *Loop {
	start := int(g.next.Add(1)) % len(g.loops)
	best := g.loops[start]
	for i := 1; i < len(g.loops); i++ {
		if l := g.loops[(start+i)%len(g.loops)]; l.load.Load() < best.load.Load() {
			best = l
		}
	}
	return best
}

// Run runs all loops until ctx is done, then closes the listeners and every connection (Handler.Closed is called on its
// loop, with ErrStopped) and returns. It can be called once.
func (g *Group) Run(ctx context.Context) error {
	g.mu.Lock()
	if g.started || g.closed {
		g.mu.Unlock()
		return errors.New("run event loops: already run or closed")
	}
	g.started = true
	g.mu.Unlock()
	var wg sync.WaitGroup
	for _, l := range g.loops {
		wg.Go(l.run)
	}
	<-ctx.Done()
	g.closeListeners()
	for _, l := range g.loops {
		l.mu.Lock()
		l.stop = true
		l.mu.Unlock()
		l.Wake()
	}
	wg.Wait()
	return g.Close()
}

// Close frees what NewGroup and Listen took when Run was never called. After Run it does nothing.
func (g *Group) Close() error {
	g.closeListeners()
	g.mu.Lock()
	closed, started := g.closed, g.started
	g.closed = true
	g.mu.Unlock()
	if closed {
		return nil
	}
	g.gate.wait()
	var errs []error
	for _, l := range g.loops {
		if !started {
			l.end()
		}
		errs = append(errs, l.poller.close())
	}
	return errors.Join(errs...)
}

func (g *Group) closeListeners() {
	g.mu.Lock()
	ls := g.listeners
	g.listeners, g.stopping = nil, true
	g.mu.Unlock()
	for _, ln := range ls {
		ln.Close()
	}
}

// add keeps a listener until it is closed; false: too late.
func (g *Group) add(n door) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopping {
		return false
	}
	g.listeners = append(g.listeners, n)
	return true
}

func (g *Group) remove(n door) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.listeners, n); i >= 0 {
		g.listeners = slices.Delete(g.listeners, i, i+1)
	}
}
