package loop

import (
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// States of Loop.sleep.
const (
	running  uint32 = iota
	sleeping        // in the poller, or about to be: Wake must tell it
	woken           // a turn will come
)

// quietAfter is how long nothing must have happened before the loop blocks the ordinary way.
const quietAfter = int64(20 * time.Millisecond)

// forever is a wait without end.
const forever = int64(-1)

// Loop is one event loop. Owned by the goroutine that drives it (the one that Group.Run started for it, or the driver it
// was lent to), except Post, Wake, ID and the counters.
type Loop struct {
	g  *Group
	id int
	poller

	now       int64
	busy      int64 // when something last happened
	wheel     wheel
	turnFuncs []func()
	buf       []byte // what a read fills
	plain     []byte // what it is decrypted to, from the first TLS connection on
	pool      buffers
	reply     []byte  // what a Framing answers, while it does
	conns     []*Conn // by slot
	free      []int32 // slots
	gen       uint32
	live      int // connections that hold a slot
	dirty     []*Conn
	packets   []*Packets // with datagrams to be sent
	again     []*Conn
	dead      []*Conn
	spare     []*Conn
	stopping  bool
	n         counts
	debug     debugState //nolint:unused // used with the tag loopdebug
	drives    *driver    // nil: drives itself at most
	lending   lending

	pub   published
	load  atomic.Int64 // connections, and those on the way
	sleep atomic.Uint32

	mu     sync.Mutex // guards what follows
	posts  []func()
	passed []passed
	stop   bool
	over   bool // run has returned
	coming int  // connections that move here

	runPosts  []func() // owned by the loop
	runPassed []passed
}

// passed is an accepted connection on its way to its loop.
type passed struct {
	sock   rawSock
	remote netip.AddrPort
	ln     *Listener
	taken  *taken // nil: by the listener itself
}

// epoch is the start of the process in both clocks.
var epoch = time.Now()
var epochUnix = epoch.UnixNano()

// clock is Unix nanoseconds that advance with the monotonic clock, so they never jump back.
func clock() int64 { return epochUnix + int64(time.Since(epoch)) }

// ID is the loop's number in Group.Loops. Any goroutine.
func (l *Loop) ID() int { return l.id }

// Now is the time of this turn in Unix nanoseconds. It never jumps back. On the loop only.
func (l *Loop) Now() int64 { return l.now }

// OnTurn adds a function that is called once per turn, after I/O, posted functions and timers and before output is
// written: the place to empty mailboxes. Before Run only.
func (l *Loop) OnTurn(fn func()) { l.turnFuncs = append(l.turnFuncs, fn) }

// Arm makes t expire at the time at (Unix nanoseconds), up to a millisecond later and never earlier; an armed timer is
// moved. A time that has passed means the next turn. On the loop, or before Run.
func (l *Loop) Arm(t *Timer, at int64) { l.wheel.arm(t, at) }

// Disarm stops t if it is armed. On the loop, or before Run.
func (l *Loop) Disarm(t *Timer) { l.wheel.disarm(t) }

// Post runs fn on the loop in its next turn. It never blocks. Any goroutine; dropped when the group has stopped.
func (l *Loop) Post(fn func()) {
	l.mu.Lock()
	l.posts = append(l.posts, fn)
	l.mu.Unlock()
	l.Wake()
}

// pass hands accepted connections to the loop.
func (l *Loop) pass(batch []passed) {
	l.mu.Lock()
	over := l.over
	if !over {
		l.passed = append(l.passed, batch...)
	}
	l.mu.Unlock()
	if over {
		l.refuse(batch)
		return
	}
	l.Wake()
}

// Wake makes the loop run a turn soon. It costs a system call only when the loop sleeps. Any goroutine.
func (l *Loop) Wake() {
	// A loop that is woken already will set running and only then look at what there is, so what was put there before
	// this load is seen.
	if l.sleep.Load() != woken && l.sleep.Swap(woken) == sleeping {
		l.pub.wakes.Add(1)
		l.poller.notify()
	}
}

// turn waits until there is something to do and does it.
func (l *Loop) turn() {
	var wait int64
	if l.idle() && l.sleep.CompareAndSwap(running, sleeping) {
		wait = l.patience()
	}
	n := l.poller.wait(l, wait)
	wasWoken := l.sleep.Swap(running) == woken
	l.now = max(l.now, clock())
	if n > 0 || wasWoken || wait == 0 {
		l.busy = l.now
	}
	l.work(n)
}

// work does what there is to do, with n events of the poller.
func (l *Loop) work(n int) {
	debugTurn(l)
	l.poller.dispatch(l, n)
	l.lookAgain()
	debugEnter(l, "posted functions")
	l.runPosted()
	debugLeave(l)
	debugEnter(l, "timers")
	l.wheel.advance(l.now)
	debugLeave(l)
	debugEnter(l, "turn functions")
	for _, fn := range l.turnFuncs {
		l.call("turn function", fn)
	}
	debugLeave(l)
	l.tellClosed()
	l.flush()
	l.tellClosed()
	l.flushPackets()
	l.publish()
	debugTurnDone(l)
}

// idle says that nothing is left to do without something from outside.
func (l *Loop) idle() bool {
	return len(l.dirty) == 0 && len(l.again) == 0 && len(l.dead) == 0 && len(l.packets) == 0
}

// patience is how long the loop may wait for something to happen: until the next timer.
func (l *Loop) patience() int64 {
	at, ok := l.wheel.nextAt()
	if !ok {
		return forever
	}
	return max(1, at-clock())
}

// lookAgain works through the connections that asked to be looked at.
func (l *Loop) lookAgain() {
	if len(l.again) == 0 {
		return
	}
	list := l.again
	l.again = l.spare[:0]
	for i, c := range list {
		list[i] = nil
		c.flags &^= fAgain
		l.again1(c)
	}
	l.spare = list[:0]
}

func (l *Loop) again1(c *Conn) {
	defer c.Recover()
	if c.state == stOpen && c.flags&(fRefeed|fPaused) == fRefeed {
		c.present(nil)
		c.frameEnd()
	}
}

// runPosted runs what other goroutines posted and adopts what the acceptor passed.
func (l *Loop) runPosted() {
	l.mu.Lock()
	posts, arrived, stop := l.posts, l.passed, l.stop
	l.posts, l.passed = l.runPosts[:0], l.runPassed[:0]
	l.mu.Unlock()
	for i, p := range arrived {
		arrived[i] = passed{}
		l.adopt(p)
	}
	for i, fn := range posts {
		posts[i] = nil
		l.call("posted function", fn)
	}
	l.runPosts, l.runPassed = posts, arrived
	if stop && !l.stopping {
		l.stopping = true
		for _, c := range l.conns {
			if c != nil {
				c.Close(ErrStopped)
			}
		}
	}
}

// adopt makes a connection of an accepted socket.
func (l *Loop) adopt(p passed) {
	c := &Conn{loop: l, ln: p.ln}
	c.setRemote(p.remote)
	switch {
	case p.taken != nil:
		c.state = stOpen
	case p.ln.opt.TLS != nil && !p.ln.opt.Proxy:
		c.state = stTLS
	}
	c.sock.init(c, p.sock)
	if err := l.enroll(c); err != nil {
		c.Close(err)
		return
	}
	if p.taken != nil {
		c.openTaken(p.taken)
		return
	}
	l.begin(c)
}

// enroll gives a connection its slot and tells the poller about it.
func (l *Loop) enroll(c *Conn) error {
	l.gen++
	slot := int32(len(l.conns))
	if n := len(l.free); n > 0 {
		slot, l.free = l.free[n-1], l.free[:n-1]
		l.conns[slot] = c
	} else {
		l.conns = append(l.conns, c)
	}
	l.live++
	if err := l.poller.add(c, slot, l.gen); err != nil {
		return err
	}
	if l.stopping {
		return ErrStopped
	}
	return nil
}

func (l *Loop) begin(c *Conn) {
	defer c.Recover()
	if c.ln.opt.Proxy {
		c.startProxy()
	} else {
		c.proceed()
	}
}

// proceed goes on after the PROXY header.
func (c *Conn) proceed() {
	if c.ln.opt.TLS != nil {
		c.startTLS()
	} else {
		c.open()
	}
}

// open gives the connection its handler.
func (c *Conn) open() { c.openWith(c.ln.opt.Accept) }

func (c *Conn) openWith(accept func(*Conn) Handler) {
	c.state = stOpen
	debugEnter(c.loop, "accept")
	c.h = accept(c)
	debugLeave(c.loop)
	if c.h == nil {
		if c.state == stOpen {
			c.refuse(RefusedHandler)
		}
		c.Close(nil)
		return
	}
	c.flags |= fHandler
	if c.state == stClosed { // by Accept
		c.loop.dead = append(c.loop.dead, c)
		return
	}
	if len(c.in) > 0 {
		c.flags |= fRefeed
		c.lookAgain()
	}
}

// finish ends what the handler has to do with the connection: it will be told later in this turn.
func (l *Loop) finish(c *Conn) {
	if c.flags&fHandler != 0 {
		l.dead = append(l.dead, c)
	}
	l.load.Add(-1)
	c.ln.open.Add(-1)
}

// tellClosed calls Handler.Closed and takes the buffers back, which must not happen while a handler uses them.
func (l *Loop) tellClosed() {
	for i := 0; i < len(l.dead); i++ {
		c := l.dead[i]
		l.dead[i] = nil
		c.dropInput()
		if c.out != nil {
			c.dropOutput()
		}
		if c.tls != nil {
			c.tls.drop(&l.pool)
		}
		if c.flags&fFramed != 0 {
			c.x.frames.drop(&l.pool)
		}
		c.flags &^= fHandler
		l.closed1(c)
	}
	l.dead = l.dead[:0]
}

func (l *Loop) closed1(c *Conn) {
	defer c.Recover()
	debugEnter(l, "closed")
	c.h.Closed(c.x.err)
	debugLeave(l)
}

// forget frees the connection's slot.
func (l *Loop) forget(c *Conn) {
	l.conns[c.sock.slot] = nil
	l.free = append(l.free, c.sock.slot)
	l.live--
}

// flush writes the output of the turn. What becomes dirty meanwhile is written in the next.
func (l *Loop) flush() {
	if len(l.dirty) == 0 {
		return
	}
	list := l.dirty
	l.dirty = l.spare[:0]
	for i, c := range list {
		list[i] = nil
		c.flags &^= fDirty
		l.flush1(c)
	}
	l.spare = list[:0]
}

func (l *Loop) flush1(c *Conn) {
	if c.flags&fWantW != 0 {
		return // the poller will say when
	}
	defer c.Recover()
	c.flush()
}

// event is what the poller says about a connection.
type event uint8

const (
	evRead event = 1 << iota
	evWrite
	evHup
)

func (l *Loop) event(c *Conn, ev event) {
	defer c.Recover()
	if ev&evWrite != 0 {
		if c.state == stTLS {
			c.tls.ready()
		} else {
			c.flush()
		}
	}
	if ev&evHup != 0 && c.flags&fPaused != 0 && c.state == stOpen {
		c.Close(c.sock.error())
		return
	}
	if ev&(evRead|evHup) != 0 {
		c.readable()
	}
}

// Recover is deferred around everything that works for one connection: if that panics, the connection is closed and
// nobody else harmed. Handler's methods are covered; what a handler does in timers, posted functions or OnTurn begins with
// "defer c.Recover()": otherwise a panic there is survived too, but the connection stays as it is. On the loop only.
func (c *Conn) Recover() {
	v := recover()
	if v == nil {
		return
	}
	g := c.loop.g
	c.loop.pub.panics.Add(1)
	if ok, missed := g.panicLog.allow(clock()); ok {
		g.opt.Logger.Error("protocol handler panicked", "listener", c.ln.opt.Name, "remote", c.RemoteAddr().String(),
			"panic", fmt.Sprint(v), "suppressed", missed, "stack", string(debug.Stack()))
	}
	if !c.excuse() {
		c.Close(ErrPanic)
	}
}

// call runs what works for the loop or for something on it. If that panics, nothing else of the turn is skipped.
func (l *Loop) call(what string, fn func()) {
	defer l.survive(what)
	fn()
}

// expire is call for a timer.
func (l *Loop) expire(t *Timer, now int64) {
	defer l.survive("timer")
	t.e.Expire(t, now)
}

// survive is deferred where no connection is known that could be closed: the panic is counted and logged.
func (l *Loop) survive(what string) {
	v := recover()
	if v == nil {
		return
	}
	l.pub.funcPanics.Add(1)
	if ok, missed := l.g.panicLog.allow(clock()); ok {
		l.g.opt.Logger.Error("function on an event loop panicked", "loop", l.id, "what", what, "panic", fmt.Sprint(v),
			"suppressed", missed, "stack", string(debug.Stack()))
	}
}

// end closes the loop's door: what is passed or moved to it from now on is refused. false: a connection is coming.
func (l *Loop) end() bool {
	l.mu.Lock()
	if l.coming > 0 {
		l.mu.Unlock()
		return false
	}
	batch := l.passed
	l.passed, l.posts, l.over = nil, nil, true
	l.mu.Unlock()
	l.refuse(batch)
	return true
}

// refuse closes accepted connections that did not become a Conn.
func (l *Loop) refuse(batch []passed) {
	for _, p := range batch {
		p.sock.discard()
		p.ln.open.Add(-1)
		l.load.Add(-1)
	}
}

// rate lets one through per second and counts the others. Safe for concurrent use.
type rate struct {
	mu     sync.Mutex // guards the rest
	next   int64
	missed int
}

func (r *rate) allow(now int64) (ok bool, missed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now < r.next {
		r.missed++
		return false, 0
	}
	missed = r.missed
	r.next, r.missed = now+int64(time.Second), 0
	return true, missed
}
