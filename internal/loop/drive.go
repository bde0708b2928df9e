package loop

import (
	"sync"
	"time"
)

// Bounds of what one goroutine drives. A loop is lent when both together were busy for less than lendBelow over
// lendWindow, and all are given back when the driver was busy for more than backAbove in backAfter windows of backWindow
// in a row: between the two things stay as they are.
const (
	lendWindow = int64(100 * time.Millisecond)
	lendBelow  = 300 // of a thousand
	backWindow = int64(2 * time.Millisecond)
	backAbove  = 600
	backAfter  = 2 // one may be a turn in which the machine did something else
	maxPasses  = 4 // over the loops, before the poller is asked again
)

// driver runs the turns of loop 0 and, while little happens, those of loops that were lent to it (ADR 9): their epoll
// sets stand in loop 0's, so one thread waits for all of them, and what one posts to another needs no system call, for
// none of them sleeps while the driver is awake. A lent loop stays what it is: only who runs its turns has changed.
// Owned by the goroutine of loop 0, except offered and over.
type driver struct {
	own  *Loop
	all  []*Loop // own, and those that were lent
	fast gauge
	slow gauge
	hot  int // fast windows in a row over backAbove

	mu      sync.Mutex // guards what follows
	offered []*Loop
	over    bool // nothing can be lent any more
}

// lending is a loop's part in being lent. Owned by whoever drives the loop, except back.
type lending struct {
	to    *driver // nil: never lent
	back  chan struct{}
	slow  gauge
	ready bool // its epoll set has something
}

// gauge is the share of time that was spent in turns. Owned by whoever drives the loop.
type gauge struct {
	start, busy int64
	share       int64 // of the last whole window, in thousandths
}

// add counts a turn from begin to end. true: a window is over and share is new.
func (g *gauge) add(begin, end, window int64) bool {
	g.busy += end - begin
	d := end - g.start
	if d < window {
		return false
	}
	g.share = g.busy * 1000 / d
	g.start, g.busy = end, 0
	return true
}

// run drives the loop until the group stops.
func (l *Loop) run() {
	l.poller.enter(len(l.g.loops))
	l.buf = make([]byte, l.g.opt.ReadBuffer)
	l.now = clock()
	l.busy = l.now
	switch {
	case l.drives != nil:
		l.drives.run()
	case l.lending.to != nil:
		l.runLender()
	default:
		for !l.ended() {
			l.turn()
		}
	}
	l.pool.trim(0)
}

func (l *Loop) ended() bool { return l.stopping && l.live == 0 && l.end() }

// runLender drives a loop that lends itself while it has little to do.
func (l *Loop) runLender() {
	slow := &l.lending.slow
	slow.start = l.now
	little := true // nothing happens at first
	for !l.ended() {
		l.turn()
		end := clock()
		if slow.add(l.now, end, lendWindow) {
			little = slow.share < lendBelow
		}
		if little && !l.stopping && l.lend() {
			little = false // until a window says so again
			*slow = gauge{start: clock()}
		}
	}
}

// lend has the driver run this loop's turns, and returns when it has given the loop back. It is offered only while the
// driver sleeps: then the driver comes at once, and is not in the middle of a long turn.
func (l *Loop) lend() bool {
	d := l.lending.to
	if d.own.sleep.Load() != sleeping {
		return false
	}
	d.mu.Lock()
	if d.over {
		d.mu.Unlock()
		return false
	}
	d.offered = append(d.offered, l)
	d.mu.Unlock()
	d.own.Wake()
	<-l.lending.back
	return true
}

func (d *driver) run() {
	l := d.own
	d.fast.start, d.slow.start = l.now, l.now
	for !l.ended() {
		d.turn()
	}
	d.mu.Lock()
	d.over = true
	d.mu.Unlock()
	d.giveBack()
	d.adopt()
}

// turn waits until one of the loops has something to do, and does it.
func (d *driver) turn() {
	l := d.own
	if len(d.all) == 1 {
		l.turn()
	} else {
		d.turnAll()
	}
	end := clock()
	if d.fast.add(l.now, end, backWindow) {
		if d.fast.share > backAbove {
			d.hot++
		} else {
			d.hot = 0
		}
	}
	d.slow.add(l.now, end, lendWindow)
	if len(d.all) > 1 && (d.hot >= backAfter || d.stopping()) {
		d.giveBack()
	}
	d.adopt()
}

// turnAll is a turn of every loop that has something to do, until none has or the poller should be asked again.
func (d *driver) turnAll() {
	l := d.own
	var wait int64
	if d.rest() {
		wait = d.patience()
	}
	if l.now-l.busy >= quietAfter {
		for _, c := range d.all[1:] {
			c.pool.trim(keepQuiet)
		}
	}
	n := l.poller.sortOut(l.poller.wait(l, wait), l.g.loops)
	l.now = max(l.now, clock())
	l.lending.ready = n > 0
	for _, c := range d.all {
		c.sleep.CompareAndSwap(sleeping, running) // who was woken stays it until its turn
	}
	for range maxPasses {
		some := false
		for _, c := range d.all {
			if !c.due(l.now) {
				continue
			}
			some = true
			events := 0
			if c.lending.ready {
				c.lending.ready = false
				if events = n; c != l {
					events = c.poller.wait(c, 0)
				}
			}
			c.sleep.Store(running)
			c.now = max(c.now, l.now)
			c.work(events)
		}
		if !some {
			return
		}
		l.busy = l.now
	}
}

// due says whether the loop has something to do at now.
func (l *Loop) due(now int64) bool {
	if l.lending.ready || l.sleep.Load() == woken || !l.idle() {
		return true
	}
	at, ok := l.wheel.nextAt()
	return ok && at <= now
}

// rest sends all loops to sleep, so that who wakes one wakes the driver. false: one has something to do.
func (d *driver) rest() bool {
	for _, c := range d.all {
		if c.lending.ready || !c.idle() {
			return false
		}
	}
	for _, c := range d.all {
		if !c.sleep.CompareAndSwap(running, sleeping) {
			return false
		}
	}
	return true
}

// patience is how long all of them may wait.
func (d *driver) patience() int64 {
	wait := forever
	for _, c := range d.all {
		if w := c.patience(); wait == forever || w != forever && w < wait {
			wait = w
		}
	}
	return wait
}

func (d *driver) stopping() bool {
	for _, c := range d.all {
		if c.stopping {
			return true
		}
	}
	return false
}

// adopt takes the loops that were offered, as far as there is room for their work.
func (d *driver) adopt() {
	d.mu.Lock()
	if len(d.offered) == 0 {
		d.mu.Unlock()
		return
	}
	offered := d.offered
	d.offered = nil
	over := d.over
	d.mu.Unlock()
	for _, c := range offered {
		if over || d.own.stopping || d.slow.share+c.lending.slow.share >= lendBelow || !d.own.poller.nest(&c.poller, c.id) {
			c.lending.back <- struct{}{}
			continue
		}
		d.slow.share += c.lending.slow.share // until it is measured
		d.hot = 0
		c.lending.ready = true
		c.pub.lent.Store(true)
		d.all = append(d.all, c)
	}
}

// giveBack lets every loop run on its own thread again.
func (d *driver) giveBack() {
	for i, c := range d.all[1:] {
		d.all[i+1] = nil
		d.own.poller.unnest(&c.poller)
		c.lending.ready = false
		c.pub.lent.Store(false)
		c.lending.back <- struct{}{}
	}
	d.all = d.all[:1]
}
