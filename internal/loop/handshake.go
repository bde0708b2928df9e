package loop

import (
	"net/netip"
	"sync/atomic"
)

// States of a handshake.
const (
	hsSilent  uint32 = iota // no byte of the peer has come
	hsQueued                // waits for a goroutine
	hsRunning               // has one
	hsAborted               // was closed before it had one
)

// handshake is what a TLS connection has until its handshake is done. crypto/tls does not survive a temporary error in
// it, so it runs in a goroutine that sleeps while the peer is silent. Safe for concurrent use.
type handshake struct {
	gate   *gate
	prefix netip.Prefix
	state  atomic.Uint32
	ready  chan struct{} // one token: the socket has something, or can take something
	abort  chan struct{} // closed when the connection was closed
	wantW  bool          // owned by the goroutine: told the loop that it has more to write
}

// ready is called on the loop when the socket has something for the handshake.
func (t *tlsConn) ready() {
	h := t.hs
	if h == nil {
		return
	}
	if h.state.CompareAndSwap(hsSilent, hsQueued) {
		h.gate.silence(h.prefix, -1)
		h.gate.begin(t)
		return
	}
	select {
	case h.ready <- struct{}{}:
	default:
	}
}

// abortHandshake is called on the loop when the connection is closed. true: a goroutine uses the socket, and will come
// back by handshakeDone.
func (t *tlsConn) abortHandshake() bool {
	h := t.hs
	if h == nil {
		return false
	}
	if h.state.CompareAndSwap(hsSilent, hsAborted) {
		h.gate.silence(h.prefix, -1)
		return false
	}
	if h.state.CompareAndSwap(hsQueued, hsAborted) {
		return false
	}
	close(h.abort)
	return true
}

// handshake runs in the goroutine.
func (t *tlsConn) handshake() {
	err := ErrStopped
	if t.hs.compute() {
		err = t.negotiate()
		t.hs.rest()
	}
	t.c.loop.Post(func() { t.c.handshakeDone(err) })
}

func (t *tlsConn) negotiate() (err error) {
	defer wrapPanic(&err)
	return t.conn.Handshake()
}

// compute takes one of the tokens; false: aborted.
func (h *handshake) compute() bool {
	select {
	case h.gate.tokens <- struct{}{}:
		return true
	case <-h.abort:
		return false
	}
}

func (h *handshake) rest() { <-h.gate.tokens }

// waitRead is Read in the handshake's goroutine.
func (t *tlsConn) waitRead(b []byte) (int, error) {
	for {
		if err := t.handshakeFlush(); err != nil {
			return 0, err
		}
		n, err := t.c.sock.read(b)
		if !isAgain(err) {
			return n, err
		}
		if err := t.await(); err != nil {
			return 0, err
		}
	}
}

// await gives the token back until the socket is ready.
func (t *tlsConn) await() error {
	h := t.hs
	h.rest()
	h.gate.silence(h.prefix, 1)
	var err error
	select {
	case <-h.ready:
	case <-h.abort:
		err = ErrStopped
	}
	h.gate.silence(h.prefix, -1)
	if err == nil {
		select {
		case h.gate.tokens <- struct{}{}:
			return nil
		case <-h.abort:
		}
	}
	h.gate.tokens <- struct{}{} // the caller gives it back
	return ErrStopped
}

// handshakeWrite is Write in the handshake's goroutine. A flight normally fits into the empty socket.
func (t *tlsConn) handshakeWrite(b []byte) (int, error) {
	t.out = append(t.out, b...)
	if err := t.handshakeFlush(); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (t *tlsConn) handshakeFlush() error {
	for t.pending() > 0 {
		n, err := t.c.sock.write(t.out[t.outOff:])
		if isAgain(err) {
			if !t.hs.wantW {
				t.hs.wantW = true
				t.c.loop.Post(t.c.wantWrite)
			}
			return nil
		}
		if err != nil {
			return err
		}
		t.outOff += uint32(n)
	}
	t.out, t.outOff = t.out[:0], 0
	return nil
}

// wantWrite asks for an event when the socket can take more.
func (c *Conn) wantWrite() {
	if c.state == stTLS {
		c.flags |= fWantW
		c.watch()
	}
}
