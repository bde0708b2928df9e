package app

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/windrose-edc/windrose/internal/admin"
	"github.com/windrose-edc/windrose/internal/session"
)

// DrainSpec is how a node lets go of its clients. Immutable after it is read.
type DrainSpec struct {
	Wait   time.Duration `yaml:"wait" default:"0s" max:"10m" doc:"How long the node goes on working, not ready and without new sessions, before the first connection is closed: time for load balancers to notice."`
	Rate   float64       `yaml:"rate" unit:"rate" default:"1000/s" min:"1/s" doc:"Connections that are closed in a second; a stop closes more where it would not be done in time."`
	Time   time.Duration `yaml:"time" default:"15s" min:"1s" max:"1h" doc:"How long a stop may take after wait: closing connections, then delivering what pools hold."`
	Server string        `yaml:"server_reference" doc:"Where MQTT 5 clients are told to go instead, as HOST or HOST:PORT, several with spaces between." example:"mqtt-2.example:1883"`
	Moved  bool          `yaml:"moved" doc:"They are told to go there for good."`
}

// closed is why the node opens no sessions while it drains.
func (s *DrainSpec) closed() *session.Closed {
	return &session.Closed{Why: session.Shutdown, Server: s.Server, Moved: s.Moved}
}

const (
	sweepTick  = 20 * time.Millisecond
	sweepStall = 2 * time.Second // how long connections on which nothing moves any more are waited for
)

// sweep ends connections, at most rate in a second but more where they would not all be gone at end (zero: no end), until
// there are none left that w speaks of, ctx ends, or the end has come or nothing has moved for a while: then it ends the rest
// at once. It returns how many it ended.
func (n *node) sweep(ctx context.Context, w session.Sweep, rate float64, end time.Time) (ended int) {
	tick := time.NewTicker(sweepTick)
	defer tick.Stop()
	least, moved := -1, time.Now()
	budget := 0.0
	for {
		now := time.Now()
		budget += rate * sweepTick.Seconds()
		if left := end.Sub(now) - sweepTick; !end.IsZero() && least > 0 {
			budget = max(budget, float64(least)*sweepTick.Seconds()/max(left, sweepTick).Seconds())
		}
		budget = min(budget, max(1, rate)) // what was not used is not saved up for more than a second
		w.Force = !end.IsZero() && now.After(end) || time.Since(moved) > sweepStall
		if w.Max = int(budget); w.Force {
			w.Max = 1 << 30
		}
		done, waiting, open, ok := n.sweepOnce(ctx, w)
		ended += done
		budget -= float64(done)
		if !ok || done+waiting == 0 {
			return ended
		}
		if left := waiting + open; done > 0 || least < 0 || left < least {
			least, moved = left, now
		}
		select {
		case <-ctx.Done():
			return ended
		case <-tick.C:
		}
	}
}

// sweepOnce looks at all sessions once.
func (n *node) sweepOnce(ctx context.Context, w session.Sweep) (ended, waiting, open int, ok bool) {
	for _, h := range n.hosts {
		for from := 0; ; {
			var r session.Swept
			if !on(ctx, h, func() { r = h.Sweep(&w, from) }) {
				return ended, waiting, open, false
			}
			ended, waiting, open = ended+r.Ended, waiting+r.Waiting, open+r.Open
			w.Max -= r.Ended
			if from = r.Next; from == 0 {
				break
			}
		}
	}
	return ended, waiting, open, true
}

// hear says on all loops whether events of clients are taken.
func (n *node) hear(ctx context.Context, yes bool) {
	for _, h := range n.hosts {
		if !on(ctx, h, func() { h.Hear(yes) }) {
			return
		}
	}
}

// release ends all connections: first those that only publish, while everything still works; then, when no event of a client is
// taken any more and so nothing new can be promised, the others, each when it has what was promised.
func (n *node) release(ctx context.Context, rate float64, end time.Time) (ended int) {
	half := end
	if !end.IsZero() {
		half = time.Now().Add(time.Until(end) / 2)
	}
	ended = n.sweep(ctx, session.Sweep{Why: session.Shutdown, Publishers: true}, rate, half)
	if ctx.Err() != nil {
		return ended
	}
	n.hear(ctx, false)
	return ended + n.sweep(ctx, session.Sweep{Why: session.Shutdown}, rate, end)
}

// The states of a drain.
const (
	serving  = "serving"
	draining = "draining"
	drained  = "drained"
	stopping = "stopping"
)

// drainer lets go of all clients without ending the process, and takes them back. Guarded by mu.
type drainer struct {
	mu    sync.Mutex
	state string // "": serving
	since time.Time
	part  *part
}

var errNotDraining = errors.New("the node does not drain")

// StartDrain lets go of all clients: the node is not ready any more, opens no sessions, and closes its connections at the rate of
// node.drain. Sessions stay, and the process too. Safe for concurrent use; a drain that runs goes on.
func (a *App) StartDrain() error {
	a.reloads.work.Lock()
	defer a.reloads.work.Unlock()
	if a.parts == nil {
		return errNotRunning
	}
	d := &a.drainer
	switch d.get() {
	case stopping:
		return errStopping
	case draining, drained:
		return nil
	}
	d.set(draining)
	s := a.node.live.Load().spec.Drain
	a.shut()
	a.o.Logger.Info("draining: no new sessions; connections are closed", "rate", s.Rate, "connections", a.node.connections())
	part := a.parts.run(stopSources, "drain", func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(s.Wait):
		}
		n := a.node.release(ctx, s.Rate, time.Time{})
		if ctx.Err() == nil {
			d.set(drained)
			a.o.Logger.Info("drained", "closed", n)
		}
		return nil
	})
	d.mu.Lock()
	d.part = part
	d.mu.Unlock()
	return nil
}

func (d *drainer) set(state string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != stopping { // there is no way back from it
		d.state, d.since = state, time.Now()
	}
}

func (d *drainer) get() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state == "" {
		return serving
	}
	return d.state
}

// StopDrain takes clients again.
func (a *App) StopDrain() error {
	a.reloads.work.Lock()
	defer a.reloads.work.Unlock()
	d := &a.drainer
	switch d.get() {
	case stopping:
		return errStopping
	case serving:
		return errNotDraining
	}
	d.mu.Lock()
	part := d.part
	d.mu.Unlock()
	part.end()
	part.wait()
	d.set(serving)
	a.node.hear(a.parts.ctx, true)
	a.shut()
	a.o.Logger.Info("serving again")
	return nil
}

// Draining tells how far a drain is. Safe for concurrent use.
func (a *App) Draining() admin.Drain {
	d := &a.drainer
	d.mu.Lock()
	defer d.mu.Unlock()
	x := admin.Drain{State: d.state, Since: d.since, Connections: int(a.node.connections())}
	if x.State == "" {
		x.State = serving
	}
	return x
}

// shut opens or shuts the door for new sessions, for whatever reason there is.
func (a *App) shut() {
	switch {
	case a.drainer.get() != serving:
		a.node.shared.Shut(a.node.live.Load().spec.Drain.closed())
	case a.memory.isShort():
		a.node.shared.Shut(&session.Closed{Why: session.NoMemory})
	default:
		a.node.shared.Shut(nil)
	}
}
