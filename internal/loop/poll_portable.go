//go:build !linux || portable

package loop

import (
	"sync"
	"time"
)

// canGather: several loops can be waited for at once.
const canGather = false

// poller is where the goroutines of the connections tell the loop what happened. Safe for concurrent use.
type poller struct {
	wake chan struct{}

	mu     sync.Mutex // guards events
	events []connEvent
	taken  []connEvent // owned by the loop
}

// connEvent is what happened to the connection in a slot.
type connEvent struct {
	p    *pipe
	slot int32
	gen  uint32
	ev   event
}

func (p *poller) open() error {
	p.wake = make(chan struct{}, 1)
	return nil
}

func (p *poller) close() error { return nil }
func (p *poller) enter(int)    {}

func (p *poller) notify() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// post adds an event. Any goroutine.
func (p *poller) post(l *Loop, e connEvent) {
	p.mu.Lock()
	p.events = append(p.events, e)
	p.mu.Unlock()
	l.Wake()
}

func (p *poller) wait(l *Loop, ns int64) int {
	if ns != 0 {
		if l.now-l.busy >= quietAfter {
			l.pool.trim(keepQuiet)
		}
		var after <-chan time.Time
		if ns > 0 {
			t := time.NewTimer(time.Duration(ns))
			defer t.Stop()
			after = t.C
		}
		select {
		case <-p.wake:
		case <-after:
		}
	}
	p.mu.Lock()
	p.events, p.taken = p.taken[:0], p.events
	p.mu.Unlock()
	return len(p.taken)
}

func (p *poller) dispatch(l *Loop, n int) {
	for i := range n {
		e := p.taken[i]
		p.taken[i] = connEvent{}
		c := l.conns[e.slot]
		if c == nil || c.sock.gen != e.gen {
			continue
		}
		e.p.told(e.ev)
		l.event(c, e.ev)
		if c.state != stTLS && c.flags&fMuted == 0 { // as epoll does, level-triggered
			e.p.again()
		}
	}
}

// nest is for epoll only: here the waiting is the scheduler's, and nothing is lent.
func (p *poller) nest(*poller, int) bool       { return false }
func (p *poller) unnest(*poller)               {}
func (p *poller) sortOut(n int, _ []*Loop) int { return n }

// add gives a connection to the loop.
func (p *poller) add(c *Conn, slot int32, gen uint32) error {
	c.sock.slot, c.sock.gen = slot, gen
	c.sock.p.attach(c.loop, slot, gen)
	return nil
}

// remove forgets a connection that goes to another loop.
func (p *poller) remove(c *Conn) { c.sock.p.attach(nil, 0, 0) }

// watch is called when what the connection wants to be told has changed.
func (c *Conn) watch() {
	if c.flags&(fPaused|fMoving) == 0 {
		c.flags &^= fMuted
	}
	if c.state != stClosed && c.flags&fMuted == 0 {
		c.sock.p.again()
	}
}

// mute is called when input arrived for a paused connection.
func (c *Conn) mute() { c.flags |= fMuted }
