//go:build !linux || portable

package loop

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// pipeSize is how much a pipe takes in each direction beyond the system's own buffers.
const pipeSize = 64 << 10

// closeLimit is how long a closed connection may take to write what it had accepted.
const closeLimit = time.Second

// rawSock is an accepted connection that has no Conn yet.
type rawSock struct{ nc *net.TCPConn }

func (r rawSock) discard() { _ = r.nc.Close() }

// sock looks like a non-blocking socket. Owned by its connection's loop, and by the handshake's goroutine while there
// is one.
type sock struct {
	p    *pipe
	slot int32
	gen  uint32
}

// pipe is between the two goroutines that block in reads and writes and the loop that must not. Safe for concurrent use.
type pipe struct {
	nc *net.TCPConn

	mu     sync.Mutex // guards what follows
	cond   sync.Cond
	loop   *Loop // nil while moving
	slot   int32
	gen    uint32
	posted event // posted, and not handled by the loop yet
	in     []byte
	inErr  error
	out    []byte
	outErr error
	full   bool // the loop got errAgain
	fin    bool // shut down after out
	closed bool
}

func (s *sock) init(c *Conn, r rawSock) {
	s.p = &pipe{nc: r.nc}
	s.p.cond.L = &s.p.mu
	wg := &c.loop.g.gate.wg
	wg.Go(s.p.reader)
	wg.Go(s.p.writer)
}

func (s *sock) read(b []byte) (int, error) {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return 0, net.ErrClosed
	case len(p.in) > 0:
		n := copy(b, p.in)
		if p.in = p.in[n:]; len(p.in) == 0 {
			p.cond.Broadcast()
		}
		return n, nil
	case p.inErr != nil:
		return 0, p.inErr
	}
	return 0, errAgain
}

func (s *sock) write(b []byte) (int, error) {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.outErr != nil {
		return 0, p.outErr
	}
	n := min(pipeSize-len(p.out), len(b))
	if n <= 0 {
		p.full = true
		return 0, errAgain
	}
	p.out = append(p.out, b[:n]...)
	p.cond.Broadcast()
	return n, nil
}

// close leaves what was accepted to the writer, as a kernel does.
func (s *sock) close() {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.loop = nil
	_ = p.nc.SetReadDeadline(time.Unix(1, 0))
	_ = p.nc.SetWriteDeadline(time.Now().Add(closeLimit))
	p.cond.Broadcast()
}

func (s *sock) shutdownWrite() {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fin = true
	p.cond.Broadcast()
}

// error is why the socket hung up.
func (s *sock) error() error {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := errors.Join(p.outErr, p.inErr); err != nil {
		return err
	}
	return io.EOF
}

func (s *sock) local() netip.AddrPort { return plainAddr(s.p.nc.LocalAddr()) }

func plainAddr(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// attach gives the pipe to a loop; nil: to none.
func (p *pipe) attach(l *Loop, slot int32, gen uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loop, p.slot, p.gen, p.posted = l, slot, gen, 0
	p.againLocked()
}

// tell posts an event to the loop, unless it is posted already. Called with mu held.
func (p *pipe) tell(ev event) {
	if p.loop == nil || p.posted&ev == ev {
		return
	}
	p.posted |= ev
	p.loop.poller.post(p.loop, connEvent{p, p.slot, p.gen, ev})
}

// told is called when the loop handles an event.
func (p *pipe) told(ev event) {
	p.mu.Lock()
	p.posted &^= ev
	p.mu.Unlock()
}

// again tells the loop of what it has left.
func (p *pipe) again() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.againLocked()
}

func (p *pipe) againLocked() {
	if len(p.in) > 0 || p.inErr != nil {
		p.tell(evRead)
	}
	if p.full && (len(p.out) < pipeSize || p.outErr != nil) {
		p.full = false
		p.tell(evWrite)
	}
}

// reader reads one buffer ahead of the loop.
func (p *pipe) reader() {
	buf := make([]byte, pipeSize)
	for {
		n, err := p.nc.Read(buf)
		p.mu.Lock()
		if p.in = buf[:n]; n == 0 {
			p.in = nil
		}
		if err != nil && p.inErr == nil {
			p.inErr = err
		}
		if n > 0 || err != nil {
			p.tell(evRead)
		}
		for len(p.in) > 0 && !p.closed && err == nil {
			p.cond.Wait()
		}
		end := p.closed || p.inErr != nil
		p.mu.Unlock()
		if end {
			return
		}
	}
}

// writer writes what the loop gave, and closes the connection in the end.
func (p *pipe) writer() {
	defer func() { _ = p.nc.Close() }()
	var b []byte
	finished := false
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case len(p.out) > 0 && p.outErr == nil:
			b, p.out = p.out, b[:0]
			p.againLocked()
			p.mu.Unlock()
			_, err := p.nc.Write(b)
			p.mu.Lock()
			if err != nil {
				p.outErr = err
				p.tell(evWrite)
			}
		case p.closed:
			return
		case p.fin && !finished:
			finished = true
			_ = p.nc.CloseWrite()
		default:
			p.cond.Wait()
		}
	}
}
