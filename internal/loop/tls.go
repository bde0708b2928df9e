package loop

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"
)

// encryptChunk bounds how much ciphertext waits in a connection: more is encrypted when that has been sent.
const encryptChunk = 128 << 10

// recordOverhead is more than what TLS adds to each record of 16 KiB or less.
const recordOverhead = 256

// tlsConn is the TLS layer of a connection and at the same time the transport under crypto/tls, whose Read answers a
// temporary error when there is nothing and whose Write always accepts: a failed write would end the session for good.
// Owned by the connection's loop; while hs is running, everything but hs itself is owned by the handshake's goroutine.
type tlsConn struct {
	conn *tls.Conn
	c    *Conn
	hs   *handshake // nil after the handshake

	src    []byte // ciphertext to decrypt: in the loop's buffer, or what was read together with the PROXY header
	srcErr error  // what comes behind it
	out    []byte // ciphertext to send
	outOff uint32
	ended  bool // close notify was sent
}

func (t *tlsConn) pending() int { return len(t.out) - int(t.outOff) }

func (t *tlsConn) peerCertificates() []*x509.Certificate {
	return t.conn.ConnectionState().PeerCertificates
}

// Read implements net.Conn.
func (t *tlsConn) Read(b []byte) (int, error) {
	if len(t.src) > 0 {
		n := copy(b, t.src)
		t.src = t.src[n:]
		return n, nil
	}
	if t.hs != nil {
		return t.waitRead(b)
	}
	if t.srcErr != nil {
		return 0, t.srcErr
	}
	return 0, errAgain
}

// Write implements net.Conn.
func (t *tlsConn) Write(b []byte) (int, error) {
	if t.hs != nil {
		return t.handshakeWrite(b)
	}
	t.out = append(t.c.loop.pool.grow(t.out, len(b)), b...)
	return len(b), nil
}

// Close implements net.Conn; the loop closes the socket.
func (t *tlsConn) Close() error { return nil }

// LocalAddr implements net.Conn.
func (t *tlsConn) LocalAddr() net.Addr { return t.c.ln.addr }

// RemoteAddr implements net.Conn.
func (t *tlsConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(t.c.RemoteAddr()) }

// SetDeadline implements net.Conn; the loop has timers of its own.
func (t *tlsConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (t *tlsConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (t *tlsConn) SetWriteDeadline(time.Time) error { return nil }

// readTLS reads once from the socket, decrypts all of it and presents it.
func (c *Conn) readTLS() {
	l, t := c.loop, c.tls
	if l.plain == nil {
		l.plain = make([]byte, len(l.buf)+32<<10) // what was read, and a record that waited for its end
	}
	n, err := c.sock.read(l.buf)
	l.n.bytesIn += int64(n)
	t.src, t.srcErr = l.buf[:n], nil
	if err != nil && !isAgain(err) {
		t.srcErr = err
	}
	fill := 0
	for err = nil; err == nil && c.state == stOpen; {
		if fill == len(l.plain) {
			c.arrived(l.plain)
			fill = 0
			continue
		}
		n, err = t.conn.Read(l.plain[fill:])
		fill += n
	}
	t.src, t.srcErr = nil, nil
	if t.pending() > 0 { // an answer of TLS itself
		c.markDirty()
	}
	if fill > 0 && c.state == stOpen {
		c.arrived(l.plain[:fill])
	}
	if err != nil && !isAgain(err) && c.state == stOpen {
		c.ended(err)
	}
}

// flushTLS encrypts and writes what is pending, as far as the socket takes it; errAgain: there is more.
func (c *Conn) flushTLS() error {
	t, p := c.tls, &c.loop.pool
	for {
		if err := c.drain(&t.out, &t.outOff); err != nil {
			if isAgain(err) && int(c.outOff) > len(c.out)/2 {
				c.out = c.out[:copy(c.out, c.out[c.outOff:])]
				c.outOff = 0
			}
			return err
		}
		if t.out != nil {
			p.put(t.out)
			t.out, t.outOff = nil, 0
		}
		if int(c.outOff) == len(c.out) && c.flags&fFramed != 0 {
			c.nextFrame()
		}
		rest := c.out[c.outOff:]
		switch {
		case len(rest) > 0:
			rest = rest[:min(len(rest), encryptChunk)]
			t.out = p.get(len(rest)+(len(rest)>>14+1)*recordOverhead, 0)
			n, err := t.conn.Write(rest)
			if err != nil {
				return err
			}
			c.outOff += uint32(n)
		case c.state == stFlush && !t.ended:
			t.ended = true
			if err := t.conn.CloseWrite(); err != nil {
				return err
			}
		default:
			if c.out != nil {
				c.dropOutput()
			}
			return nil
		}
	}
}

// drop takes the ciphertext buffer back when the connection is gone.
func (t *tlsConn) drop(p *buffers) {
	if t.hs == nil && t.out != nil {
		p.put(t.out)
		t.out, t.outOff = nil, 0
	}
}

// startTLS begins the TLS handshake with what was read ahead.
func (c *Conn) startTLS() {
	c.state = stTLS
	x, g, cfg := c.extra(), c.loop.g, c.ln.opt.TLS()
	t := &tlsConn{c: c, hs: &handshake{
		gate: g.gate, prefix: prefixOf(c.RemoteAddr().Addr()), ready: make(chan struct{}, 1), abort: make(chan struct{}),
	}}
	if len(c.in) > 0 {
		t.src = append(t.src, c.in[c.inOff:]...)
	}
	c.dropInput()
	if !g.gate.enter(t.hs.prefix) {
		c.refuse(RefusedHandshakes)
		c.Close(nil)
		return
	}
	t.conn = tls.Server(t, cfg)
	c.tls = t
	c.loop.Arm(&x.timer, c.loop.now+int64(g.opt.HandshakeTimeout))
	c.watch()
	if len(t.src) > 0 {
		t.ready()
	}
}

// handshakeDone is called on the loop when the handshake's goroutine has ended: the socket is the loop's again.
func (c *Conn) handshakeDone(err error) {
	defer c.Recover()
	t, gate := c.tls, c.loop.g.gate
	t.hs = nil
	c.flags &^= fWantW // what is left to write is tried again below
	if c.state == stClosed {
		c.release()
		return
	}
	c.loop.Disarm(&c.x.timer)
	if err != nil {
		gate.failed.Add(1)
		if ok, missed := c.loop.g.tlsLog.allow(c.loop.now); ok {
			c.loop.g.opt.Logger.Info("tls handshake failed", "listener", c.ln.opt.Name, "remote", c.RemoteAddr().String(), "err", err,
				"suppressed", missed)
		}
		c.extra().err = err
		c.linger() // the alert should arrive
		return
	}
	gate.ok.Add(1)
	if t.conn.ConnectionState().DidResume {
		gate.resumed.Add(1)
	}
	if !c.x.local.IsValid() {
		c.x = nil
	}
	c.open()
	c.watch()
	if t.pending() > 0 {
		c.markDirty()
	}
	if c.state == stOpen {
		c.read() // application data may have come with the last flight
	}
}

// wrapPanic turns a panic in the handshake, which runs callbacks of the configuration, into an error.
func wrapPanic(err *error) {
	if v := recover(); v != nil {
		*err = errors.Join(*err, fmt.Errorf("tls handshake panicked: %v", v))
	}
}
