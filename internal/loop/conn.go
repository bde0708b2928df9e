package loop

import (
	"crypto/x509"
	"errors"
	"net/netip"
	"syscall"
	"time"
)

// Handler is one connection's protocol end. Every method is called on the connection's loop and must not block.
type Handler interface {
	// Data presents plaintext that arrived, after what was kept. b is valid during the call only; n bytes of it are
	// consumed, the loop keeps the rest (a copy that grows with what arrives, never with what was announced) and
	// presents it again in front of what comes next, or after Refeed or ResumeRead. An error closes the connection
	// after output that is already queued has been written (5 s at most).
	Data(b []byte) (n int, err error)
	// Writable says that the pending output fell to LowWater after it had been over HighWater.
	Writable()
	// Closed is called exactly once, when the connection is gone; never from inside a method of Conn, but in the same
	// turn. err is what Close, CloseAfterFlush or Data gave, io.EOF when the peer closed, or what went wrong.
	Closed(err error)
}

// errAgain is what a socket answers when it is not ready. It is a temporary net.Error, which crypto/tls survives.
var errAgain error = again{}

// again has no state.
type again struct{}

func (again) Error() string   { return "not ready" }
func (again) Timeout() bool   { return true }
func (again) Temporary() bool { return true }

// isAgain says whether a socket was not ready. On the hot path, and nothing wraps errAgain.
func isAgain(err error) bool { return err == errAgain } //nolint:errorlint // see above

type state uint8

const (
	stProxy  state = iota // waits for the PROXY header
	stTLS                 // TLS handshake
	stOpen                // has a Handler
	stFlush               // CloseAfterFlush: input is thrown away
	stLinger              // our end is shut down, Handler.Closed was called; input is thrown away
	stClosed
)

type flags uint16

const (
	fDirty      flags = 1 << iota // stands in loop.dirty
	fAgain                        // stands in loop.again
	fPaused                       // PauseRead
	fRefeed                       // kept input is to be presented without new input
	fWantW                        // the socket took less than there was: waiting until it is writable
	fHigh                         // was over HighWater
	fHandler                      // h is set and Closed was not called
	fMuted                        // reading is off at the poller
	fOver                         // over MaxOut: will be closed
	fMoving                       // on the way to another loop
	fFramed                       // x.frames is set
	fNewHandler                   // Data called SetHandler
)

// Conn is one accepted connection. Owned by its loop: only the methods that say so may be called elsewhere. All methods
// may be called after the connection is gone and do nothing then.
type Conn struct {
	loop   *Loop
	h      Handler
	ln     *Listener
	tls    *tlsConn
	x      *extra
	out    []byte // plaintext to send; with TLS what is not encrypted yet
	in     []byte // kept input
	outOff uint32 // bytes of out that are sent
	inOff  uint32 // bytes of in that are consumed
	sock   sock
	peer   peerAddr
	flags  flags
	state  state
	hint   uint8 // size class of recent output
}

// Kinds of peerAddr.
const (
	peerNone uint8 = iota
	peerV4
	peerV6
	peerZoned // the zone is in extra
)

// peerAddr is a netip.AddrPort in 20 bytes instead of 32, for the many connections that do nothing. A value.
type peerAddr struct {
	ip   [16]byte
	port uint16
	kind uint8
}

// extra is what only some connections need, and most of them not for long. Owned by the connection's loop.
type extra struct {
	c          *Conn
	timer      Timer // deadline of the handshake, the PROXY header, the flush or the linger
	err        error // why it is being closed
	local      netip.AddrPort
	zone       string // of the peer's address
	maxPartial int
	frames     *frames // with fFramed
}

// Loop is where the connection lives: for its life, unless it is moved. On the loop only, when connections are moved.
func (c *Conn) Loop() *Loop { return c.loop }

// RemoteAddr is the peer's address, or the one a PROXY header announced. Any goroutine once the handler exists.
func (c *Conn) RemoteAddr() netip.AddrPort {
	p := &c.peer
	a := netip.AddrFrom16(p.ip)
	switch p.kind {
	case peerNone:
		return netip.AddrPort{}
	case peerV4:
		a = a.Unmap()
	case peerV6:
	case peerZoned:
		a = a.WithZone(c.x.zone)
	}
	return netip.AddrPortFrom(a, p.port)
}

// setRemote is called before the handler exists.
func (c *Conn) setRemote(a netip.AddrPort) {
	c.peer = peerAddr{ip: a.Addr().As16(), port: a.Port(), kind: peerV6}
	switch {
	case !a.IsValid():
		c.peer = peerAddr{}
	case a.Addr().Is4():
		c.peer.kind = peerV4
	case a.Addr().Zone() != "":
		c.peer.kind = peerZoned
		c.extra().zone = a.Addr().Zone()
	}
}

// LocalAddr is our end of the connection, or what a PROXY header announced.
func (c *Conn) LocalAddr() netip.AddrPort {
	if c.x != nil && c.x.local.IsValid() {
		return c.x.local
	}
	if c.state == stClosed {
		return netip.AddrPort{}
	}
	return c.sock.local()
}

// TLS says whether the connection is encrypted. Any goroutine.
func (c *Conn) TLS() bool { return c.tls != nil }

// PeerCertificates are what the peer presented in the TLS handshake, its own first and verified as the listener asks;
// nil without TLS or when there are none. They must not be written to.
func (c *Conn) PeerCertificates() []*x509.Certificate {
	if c.tls == nil || c.state < stOpen {
		return nil
	}
	return c.tls.peerCertificates()
}

// ServerName is what the peer asked for by SNI in the TLS handshake, "" when it did not.
func (c *Conn) ServerName() string {
	if c.tls == nil || c.state < stOpen {
		return ""
	}
	return c.tls.conn.ConnectionState().ServerName
}

// Out returns the output buffer to append to: b := append(c.Out(), ...); c.SetOut(b). What is in it already must not
// be touched. On the loop only.
func (c *Conn) Out() []byte {
	if c.flags&fFramed != 0 {
		return c.frameOut(0)
	}
	if c.out == nil {
		return c.loop.pool.get(0, c.hint)
	}
	return c.out
}

// Reserve is Out with room for at least n more bytes.
func (c *Conn) Reserve(n int) []byte {
	if c.flags&fFramed != 0 {
		return c.frameOut(n)
	}
	if c.out == nil {
		return c.loop.pool.get(n, c.hint)
	}
	return c.loop.pool.grow(c.out, n)
}

// SetOut stores the output buffer back; it is written at the end of the turn. When more than MaxOut is pending the
// connection is closed with ErrOutputFull. On the loop only.
func (c *Conn) SetOut(b []byte) {
	if c.state != stOpen {
		return
	}
	switch {
	case c.flags&fFramed != 0:
		if !c.setFrameOut(b) {
			return
		}
	case len(b) == 0:
		c.loop.pool.put(b)
		c.out = nil
		return
	default:
		c.out = b
	}
	c.checkPending()
}

// checkPending is called when there is new output: it will be written at the end of the turn, unless it is too much.
func (c *Conn) checkPending() {
	if p := c.Pending(); p > c.loop.g.opt.HighWater {
		c.flags |= fHigh
		if p > c.loop.g.opt.MaxOut {
			c.overflow()
			return
		}
	}
	c.markDirty()
}

func (c *Conn) markDirty() {
	if c.flags&fDirty == 0 {
		c.flags |= fDirty
		c.loop.dirty = append(c.loop.dirty, c)
	}
}

// Pending is the number of unsent bytes, plaintext and ciphertext.
func (c *Conn) Pending() int {
	n := len(c.out) - int(c.outOff)
	if c.tls != nil {
		n += c.tls.pending()
	}
	if c.flags&fFramed != 0 {
		n += c.x.frames.pending()
	}
	return n
}

// Congested says whether pending output is, or was and Writable has not been called since, over HighWater.
func (c *Conn) Congested() bool { return c.flags&fHigh != 0 }

// WantWritable has Writable called the next time that pending output is at LowWater or below after a write, whether it was
// over HighWater or not: for a handler whose own bound is lower.
func (c *Conn) WantWritable() {
	if c.state == stOpen {
		c.flags |= fHigh
	}
}

// SetMaxPartial changes the bound on kept input, for instance to what a packet may have once the peer is known. While
// reading is paused up to Options.ReadBuffer may be kept over it.
func (c *Conn) SetMaxPartial(n int) { c.extra().maxPartial = n }

func (c *Conn) maxPartial() int {
	if c.x != nil && c.x.maxPartial > 0 {
		return c.x.maxPartial
	}
	return c.loop.g.opt.MaxPartial
}

func (c *Conn) extra() *extra {
	if c.x == nil {
		c.x = &extra{c: c}
		c.x.timer.Init(c.x)
	}
	return c.x
}

// PauseRead stops Data until ResumeRead; the peer is slowed down by TCP.
func (c *Conn) PauseRead() { c.flags |= fPaused }

// ResumeRead ends PauseRead. Kept input is presented in this turn or the next.
func (c *Conn) ResumeRead() {
	if c.flags&fPaused == 0 || c.state != stOpen {
		return
	}
	c.flags = c.flags&^fPaused | fRefeed
	c.watch()
	c.lookAgain()
}

// Refeed presents kept input again in this turn or the next, without new input. Nothing happens when nothing is kept.
func (c *Conn) Refeed() {
	if c.state == stOpen {
		c.flags |= fRefeed
		c.lookAgain()
	}
}

// lookAgain puts the connection on the list that is worked through without waiting for the poller.
func (c *Conn) lookAgain() {
	if c.flags&fAgain == 0 {
		c.flags |= fAgain
		c.loop.again = append(c.loop.again, c)
	}
}

// Close ends the connection at once; unsent output is lost.
func (c *Conn) Close(err error) {
	if c.state == stLinger || c.state == stClosed {
		c.gone()
		return
	}
	if x := c.extra(); c.state != stFlush {
		x.err = err
	}
	c.loop.finish(c)
	c.gone()
}

// CloseAfterFlush ends the connection when what is queued has been written, or after limit. Input is ignored meanwhile,
// and so is further output. With TLS a close notify is sent.
func (c *Conn) CloseAfterFlush(err error, limit time.Duration) {
	if c.state != stOpen {
		if c.state < stOpen {
			c.Close(err)
		}
		return
	}
	x := c.extra()
	x.err = err
	c.state = stFlush
	c.loop.Arm(&x.timer, c.loop.now+int64(limit))
	c.flags &^= fPaused | fMoving
	c.watch()
	c.markDirty()
}

// overflow closes a connection whose pending output is over MaxOut.
func (c *Conn) overflow() {
	if c.flags&fOver == 0 {
		c.flags |= fOver
		c.loop.n.outputFull++
		c.Close(ErrOutputFull)
	}
}

// Expire implements Expirer: a deadline of the connection has passed.
func (x *extra) Expire(*Timer, int64) {
	c := x.c
	switch c.state {
	case stProxy:
		c.refuse(RefusedProxyTimeout)
		c.Close(ErrProxyTimeout)
	case stTLS:
		c.loop.n.handshakesTimeout++
		c.Close(ErrHandshakeTimeout)
	case stFlush:
		c.Close(x.err)
	case stLinger:
		c.gone()
	case stOpen, stClosed:
	}
}

// gone gives the socket up.
func (c *Conn) gone() {
	if c.state == stClosed {
		return
	}
	c.state = stClosed
	if c.x != nil {
		c.loop.Disarm(&c.x.timer)
	}
	if c.tls != nil && c.tls.abortHandshake() {
		return // the handshake's goroutine uses the socket; it comes back through handshakeDone
	}
	c.release()
}

// release closes the socket and forgets the connection. Nothing else uses the socket any more.
func (c *Conn) release() {
	c.loop.forget(c)
	c.sock.close()
}

// readable is called when the socket has input, or an end, and from the again list.
func (c *Conn) readable() {
	switch c.state {
	case stProxy:
		c.readProxy()
	case stTLS:
		c.tls.ready()
	case stOpen:
		c.read()
	case stFlush, stLinger:
		c.discard()
	case stClosed:
	}
}

func (c *Conn) read() {
	if c.flags&(fPaused|fMoving) != 0 {
		c.mute()
		return
	}
	if c.tls != nil {
		c.readTLS()
		return
	}
	n, err := c.sock.read(c.loop.buf)
	if err == nil {
		c.loop.n.bytesIn += int64(n)
		c.arrived(c.loop.buf[:n])
	} else if !isAgain(err) {
		c.ended(err)
	}
}

// present hands b, behind what was kept, to the handler.
func (c *Conn) present(b []byte) {
	kept := len(c.in) > 0
	if kept || c.flags&(fPaused|fMoving) != 0 {
		if len(b) > 0 {
			c.keep(b)
		}
		b = c.in[c.inOff:]
	}
	c.flags &^= fRefeed
	if len(b) == 0 || c.flags&(fPaused|fMoving) != 0 {
		return
	}
	debugEnter(c.loop, "data")
	n, err := c.h.Data(b)
	debugLeave(c.loop)
	n = max(0, min(n, len(b)))
	switch {
	case c.state != stOpen:
		c.dropInput()
		return
	case kept && n == len(b):
		c.dropInput()
	case kept:
		c.inOff += uint32(n)
	case n < len(b):
		c.keep(b[n:])
	}
	if err != nil {
		c.CloseAfterFlush(err, flushLimit)
		return
	}
	if c.flags&fNewHandler != 0 {
		c.handOver()
		return
	}
	if len(c.in)-int(c.inOff) > c.maxPartial() && c.flags&(fPaused|fMoving) == 0 {
		c.loop.n.inputFull++
		c.CloseAfterFlush(ErrInputFull, flushLimit)
	}
}

// keep appends to the kept input.
func (c *Conn) keep(b []byte) {
	p := &c.loop.pool
	if c.in == nil {
		c.in = append(p.get(len(b), 0), b...)
		return
	}
	if c.inOff > 0 && cap(c.in)-len(c.in) < len(b) {
		c.in = c.in[:copy(c.in, c.in[c.inOff:])]
		c.inOff = 0
	}
	c.in = append(p.grow(c.in, len(b)), b...)
}

func (c *Conn) dropInput() {
	if c.in != nil {
		c.loop.pool.put(c.in)
		c.in, c.inOff = nil, 0
	}
}

// ended is called when the peer closed or the socket failed.
func (c *Conn) ended(err error) {
	var broken syscall.Errno
	if !errors.As(err, &broken) {
		c.flush() // answers to what came together with the end, or an alert
	}
	if c.state == stOpen {
		c.Close(err)
	}
}

// discard throws input away so that the peer gets to read our last bytes: closing a socket with unread input would
// make the kernel drop them.
func (c *Conn) discard() {
	n, err := c.sock.read(c.loop.buf)
	c.loop.n.bytesIn += int64(n)
	if err == nil || isAgain(err) {
		return
	}
	if c.state == stFlush {
		c.Close(c.x.err)
		return
	}
	c.gone()
}

// flush writes what is pending, as far as the socket takes it.
func (c *Conn) flush() {
	if c.state != stOpen && c.state != stFlush {
		return
	}
	var err error
	if c.tls != nil {
		err = c.flushTLS()
	} else {
		err = c.flushPlain()
	}
	switch {
	case err == nil:
		if c.flags&fWantW != 0 {
			c.flags &^= fWantW
			c.watch()
		}
	case isAgain(err):
		if c.flags&fWantW == 0 {
			c.flags |= fWantW
			c.watch()
		}
		if c.Pending() > c.loop.g.opt.MaxOut {
			c.overflow()
			return
		}
	default:
		if c.state == stFlush {
			err = c.x.err
		}
		c.Close(err)
		return
	}
	p := c.Pending()
	if p > c.loop.g.opt.HighWater {
		c.flags |= fHigh
	}
	if c.state == stFlush {
		if p == 0 {
			c.linger()
		}
		return
	}
	if c.flags&fHigh != 0 && p <= c.loop.g.opt.LowWater {
		c.flags &^= fHigh
		debugEnter(c.loop, "writable")
		c.h.Writable()
		debugLeave(c.loop)
	}
}

// drain writes a queue to the socket. errAgain: there is more.
func (c *Conn) drain(q *[]byte, off *uint32) error {
	for int(*off) < len(*q) {
		n, err := c.sock.write((*q)[*off:])
		if n > 0 {
			*off += uint32(n)
			c.loop.n.bytesOut += int64(n)
			continue
		}
		if isAgain(err) && int(*off) > len(*q)/2 {
			*q = (*q)[:copy(*q, (*q)[*off:])]
			*off = 0
		}
		return err
	}
	return nil
}

// dropOutput gives the empty output buffer back and remembers what size was good.
func (c *Conn) dropOutput() {
	cl := min(class(len(c.out)), numClasses-1)
	if c.hint > 0 {
		cl = max(cl, c.hint-1)
	}
	c.hint = cl
	c.loop.pool.put(c.out)
	c.out, c.outOff = nil, 0
}

// linger ends a flushed connection: the handler is told, the socket stays until the peer has closed its end or a
// second has passed.
func (c *Conn) linger() {
	c.loop.finish(c)
	c.state = stLinger
	c.sock.shutdownWrite()
	c.watch()
	c.loop.Arm(&c.x.timer, c.loop.now+int64(lingerLimit))
}
