//go:build linux && !portable

package loop

import (
	"encoding/binary"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// canGather: several loops can be waited for at once.
const canGather = true

const (
	wakeTag   = -1       // in EpollEvent.Fd: the eventfd
	listenTag = -2       // and below: listeners
	packetTag = -1 << 20 // and below: sockets for datagrams
	nestTag   = -1 << 30 // and below: loops that were lent
	rawWaitMs = 20

	napNs      = 20_000
	napEvents  = 50        // readable events in the last millisecond, at least
	napTurnNs  = 100_000   // a turn that took longer has batched by itself
	rateWindow = 1_000_000 // 1 ms
)

// poller is the epoll end of a loop. Owned by its loop, except notify.
type poller struct {
	waking    sync.RWMutex // guards efd against closing while others notify
	ep, efd   int
	evs       [256]unix.EpollEvent
	listeners []*Listener // by listenTag-tag
	packets   []*Packets  // by packetTag-tag

	raw bool // blocking in a raw system call leaves processors for others

	winStart int64 // of the window in which readable events are counted
	winCount int
	rate     int   // events in the window before
	slack    int64 // the window in which the timer slack was set last
}

func (p *poller) open() error {
	p.ep, p.efd = -1, -1
	var err error
	if p.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if p.efd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	// Edge-triggered: every write is an event of its own, nothing needs to be read.
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: wakeTag}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.ep, unix.EPOLL_CTL_ADD, p.efd, &ev))
}

func (p *poller) close() error {
	p.waking.Lock()
	defer p.waking.Unlock()
	if p.efd >= 0 {
		_ = unix.Close(p.efd)
	}
	if p.ep >= 0 {
		_ = unix.Close(p.ep)
	}
	p.efd, p.ep = -1, -1
	return nil
}

// enter is called where the loop will be driven. The goroutine is not bound to its thread: the scheduler interrupts who
// ran for 10 ms, and to hand a bound one back to its thread costs it four switches between threads.
func (p *poller) enter(loops int) {
	p.checkProcs(loops)
	debugEnterThread()
}

// checkProcs finds out whether the loops may keep their processors while they wait. It may change at any time;
// testing.AllocsPerRun leaves one processor, for instance.
func (p *poller) checkProcs(loops int) { p.raw = runtime.GOMAXPROCS(0) > loops }

// notify ends the wait. Any goroutine, also when the poller is closed: the number of its descriptor may be another's then.
func (p *poller) notify() {
	p.waking.RLock()
	defer p.waking.RUnlock()
	if p.efd < 0 {
		return
	}
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], 1)
	_, _, _ = syscall.RawSyscall(unix.SYS_WRITE, uintptr(p.efd), uintptr(unsafe.Pointer(&b)), uintptr(len(b)))
}

// wait waits up to ns nanoseconds for events. While there is traffic it blocks in a raw system call: the loop keeps its
// processor and the scheduler does not notice; a signal (preemption, stop the world) ends the wait early. After
// quietAfter without events it blocks the ordinary way and an idle process stays idle; so it does always where the
// loops would take all processors (see Procs).
func (p *poller) wait(l *Loop, ns int64) int {
	ms := -1
	if ns >= 0 {
		ms = int(min((ns+999_999)/1_000_000, 1<<30))
	}
	quiet := l.now-l.busy >= quietAfter
	if quiet {
		l.pool.trim(keepQuiet)
	}
	if ms != 0 && (quiet || !p.raw) {
		n, err := unix.EpollWait(p.ep, p.evs[:], ms)
		if !p.raw {
			p.checkProcs(len(l.g.loops))
		}
		if err != nil {
			return 0
		}
		return n
	}
	if ms < 0 || ms > rawWaitMs {
		ms = rawWaitMs
	}
	if p.rate >= napEvents {
		p.nap(l)
	}
	r, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.ep), uintptr(unsafe.Pointer(&p.evs)), uintptr(len(p.evs)),
		uintptr(ms), 0, 0)
	if e != 0 { // the scheduler wants something
		p.checkProcs(len(l.g.loops))
		return 0
	}
	return int(r)
}

// nap waits a moment when many small segments arrive, so that they are handled, and answered, in batches.
func (p *poller) nap(l *Loop) {
	now := clock()
	if now-p.winStart >= 2*rateWindow {
		p.rate = 0
		return
	}
	if now-l.now > napTurnNs || len(l.again) > 0 {
		return
	}
	if p.slack != p.winStart { // the thread's, 50 us by default; it may be another thread by now
		p.slack = p.winStart
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1000, 0, 0, 0)
	}
	ts := unix.NsecToTimespec(napNs)
	_, _, _ = syscall.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}

// nest has the wait end when the poller of loop id has events.
func (p *poller) nest(of *poller, id int) bool {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: nestTag - int32(id)}
	return unix.EpollCtl(p.ep, unix.EPOLL_CTL_ADD, of.ep, &ev) == nil
}

func (p *poller) unnest(of *poller) { _ = unix.EpollCtl(p.ep, unix.EPOLL_CTL_DEL, of.ep, nil) }

// sortOut takes what concerns nested pollers out of n events and tells their loops; what is left are its own.
func (p *poller) sortOut(n int, loops []*Loop) (left int) {
	for i := range n {
		if tag := p.evs[i].Fd; tag <= nestTag {
			loops[nestTag-tag].lending.ready = true
		} else {
			p.evs[left] = p.evs[i]
			left++
		}
	}
	return left
}

// dispatch handles n events.
func (p *poller) dispatch(l *Loop, n int) {
	if d := l.now - p.winStart; d >= rateWindow {
		p.rate, p.winCount, p.winStart = p.winCount, 0, l.now
		if d >= 2*rateWindow {
			p.rate = 0
		}
	}
	p.winCount += n
	for i := range n {
		ev := &p.evs[i]
		if ev.Fd >= 0 {
			// the slot may have got another connection since the kernel made this list
			if c := l.conns[ev.Fd]; c != nil && c.sock.gen == uint32(ev.Pad) {
				l.event(c, fromEpoll(ev.Events))
			}
		} else if i := int(packetTag - ev.Fd); i >= 0 {
			if i < len(p.packets) && p.packets[i] != nil {
				p.packets[i].receive()
			}
		} else if i := int(listenTag - ev.Fd); i >= 0 && i < len(p.listeners) && p.listeners[i] != nil {
			p.listeners[i].acceptSome(l)
		}
	}
}

func fromEpoll(e uint32) event {
	var ev event
	if e&(unix.EPOLLIN|unix.EPOLLRDHUP) != 0 {
		ev |= evRead
	}
	if e&unix.EPOLLOUT != 0 {
		ev |= evWrite
	}
	if e&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		ev |= evHup
	}
	return ev
}

// add registers a new connection.
func (p *poller) add(c *Conn, slot int32, gen uint32) error {
	c.sock.slot, c.sock.gen, c.sock.asked = slot, gen, c.interest()
	ev := unix.EpollEvent{Events: c.sock.asked, Fd: slot, Pad: int32(gen)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.ep, unix.EPOLL_CTL_ADD, int(c.sock.fd), &ev))
}

// remove forgets a connection that goes to another loop.
func (p *poller) remove(c *Conn) {
	_ = unix.EpollCtl(p.ep, unix.EPOLL_CTL_DEL, int(c.sock.fd), nil)
}

// interest is what the connection wants to be told.
func (c *Conn) interest() uint32 {
	var ev uint32
	if c.flags&fMuted == 0 {
		ev = unix.EPOLLIN
	}
	if c.flags&fWantW != 0 {
		ev |= unix.EPOLLOUT
	}
	if c.state == stTLS { // until its goroutine has read, a level-triggered socket would make the loop spin
		ev |= unix.EPOLLET
	}
	return ev
}

// watch tells the kernel what the connection wants to be told now.
func (c *Conn) watch() {
	if c.flags&(fPaused|fMoving) == 0 {
		c.flags &^= fMuted
	}
	ev := c.interest()
	if c.state == stClosed || ev == c.sock.asked {
		return
	}
	c.sock.asked = ev
	e := unix.EpollEvent{Events: ev, Fd: c.sock.slot, Pad: int32(c.sock.gen)}
	_ = unix.EpollCtl(c.loop.poller.ep, unix.EPOLL_CTL_MOD, int(c.sock.fd), &e)
}

// mute is called when input arrived for a paused connection: only then does pausing cost a system call.
func (c *Conn) mute() {
	c.flags |= fMuted
	c.watch()
}
