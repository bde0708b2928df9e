package mqtt

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// fill reads once, behind what is in the buffer. The buffer grows with what arrives, never with what is announced.
func (c *Client) fill() error {
	if len(c.buf) == cap(c.buf) {
		b := make([]byte, len(c.buf), 2*cap(c.buf))
		copy(b, c.buf)
		c.buf = b
	}
	n, err := c.conn.Read(c.buf[len(c.buf):cap(c.buf)])
	c.buf = c.buf[:len(c.buf)+n]
	if n > 0 {
		c.lastRecv.Store(int64(c.clock()))
		return nil
	}
	return err
}

// use forgets the first n bytes of the buffer.
func (c *Client) use(n int) {
	rest := c.buf[n:]
	if len(rest) == 0 && cap(c.buf) > clientKeepBuf {
		c.buf = make([]byte, 0, 4096)
		return
	}
	c.buf = c.buf[:copy(c.buf, rest)]
}

// read is the reading goroutine.
func (c *Client) read() {
	defer c.leave()
	for {
		n, err := c.packets(c.buf)
		var broken *wire.Error
		switch {
		case errors.As(err, &broken):
			c.refuse(broken)
			_, _ = io.Copy(io.Discard, c.conn) // until the server has read why, see linger
			c.end(broken)
			return
		case err != nil:
			c.end(err)
			return
		}
		c.use(n)
		if !c.ctrlRoom() {
			return
		}
		if err := c.fill(); errors.Is(err, io.EOF) {
			c.end(errClientGone)
			return
		} else if err != nil {
			c.end(fmt.Errorf("read: %w", err))
			return
		}
	}
}

// ctrlRoom waits while the server does not take its acknowledgements; false when the connection is over.
func (c *Client) ctrlRoom() bool {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	for len(c.ctrl) > clientCtrlMax && !c.ended {
		c.session.room.Wait()
	}
	return !c.ended
}

// packets takes all whole packets in b and says how many bytes they were.
func (c *Client) packets(b []byte) (n int, err error) {
	for {
		first, body, size, err := wire.Next(b[n:], c.maxPacket)
		if err != nil || size == 0 {
			return n, err
		}
		if err := c.packet(first, body); err != nil {
			return n, err
		}
		n += size
	}
}

func (c *Client) packet(first byte, body []byte) error {
	k := wire.KindOf(first)
	if !k.FromServer(c.version) || k == wire.CONNACK {
		return errClientKind
	}
	if err := wire.CheckFlagsOf(c.version, first); err != nil {
		return err
	}
	var broken *wire.Error
	switch k {
	case wire.PUBLISH:
		var p wire.Publish
		if err := c.dec.Publish(c.version, first, body, &p); err != nil {
			return err
		}
		broken = c.publishIn(&p)
	case wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP:
		var a wire.Ack
		if err := c.dec.Ack(c.version, k, body, &a); err != nil {
			return err
		}
		if k == wire.PUBREL {
			c.released(&a)
		} else {
			broken = c.acked(k, &a)
		}
	case wire.SUBACK, wire.UNSUBACK:
		var a wire.Suback
		decode := c.dec.Suback
		if k == wire.UNSUBACK {
			decode = c.dec.Unsuback
		}
		if err := decode(c.version, body, &a); err != nil {
			return err
		}
		broken = c.answered(k, &a)
	case wire.PINGRESP:
		return wire.CheckEmpty(body)
	case wire.DISCONNECT:
		var d wire.Disconnect
		if err := c.dec.Disconnect(c.version, body, &d); err != nil {
			return err
		}
		return &ReasonError{What: "server disconnected", Reason: d.Reason, Text: string(d.ReasonString),
			Reference: string(d.ServerReference)}
	default: // AUTH: no method was offered
		return errClientKind
	}
	if broken != nil {
		return broken
	}
	return nil
}

// write is the writing goroutine.
func (c *Client) write() {
	defer c.leave()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	limit := clientWriteIdle
	if c.keepAlive > 0 {
		limit = c.keepAlive * 3 / 2
	}
	var buf []byte
	for {
		out, last, err := c.gather(buf[:0])
		if last {
			limit = clientLinger
		}
		if err == nil && len(out) > 0 {
			_ = c.conn.SetWriteDeadline(time.Now().Add(limit)) // a connection that is closed says so when it is written to
			if _, err = c.conn.Write(out); err != nil {
				err = fmt.Errorf("write: %w", err)
			}
			c.lastSend = c.clock()
		}
		if err != nil {
			c.unwritten()
			c.end(err)
			return
		}
		c.written()
		if last {
			c.linger()
			return
		}
		if len(out) > 0 {
			if buf = out; cap(buf) > 2*clientBatch {
				buf = nil
			}
			continue
		}
		if c.keepAlive > 0 {
			timer.Reset(max(c.due-c.clock(), time.Millisecond))
		}
		select {
		case <-c.wake:
		case <-timer.C:
		}
	}
}

// gather collects what is to be written next. last says that it ends with the last word of the connection, an error that
// this is over.
func (c *Client) gather(buf []byte) (out []byte, last bool, err error) {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.ended {
		return buf, false, c.err
	}
	if c.failing {
		if c.version == wire.V5 { // 3.x has no word for it, and DISCONNECT would take back the will
			buf = wire.AppendDisconnect(buf, c.version, c.reason, nil)
		}
		return buf, true, nil
	}
	if len(c.ctrl) > clientCtrlMax {
		s.room.Broadcast()
	}
	buf = append(buf, c.ctrl...)
	c.ctrl = c.ctrl[:0]
	if cap(c.ctrl) > clientKeepBuf {
		c.ctrl = nil
	}
	if c.closing {
		if buf = c.appendQueue0(buf); len(c.queue0) > 0 {
			return buf, false, nil
		}
		return wire.AppendDisconnect(buf, c.version, c.reason, nil), true, nil
	}
	buf, err = c.keepUp(c.appendQueue0(c.appendFlights(buf)))
	return buf, false, err
}

// keepUp appends a PINGREQ when one is due (section 3.1.2.10); an error says that the last one went without any answer.
// A server that sends nothing is asked as one that is sent nothing: its silence may mean that it is gone. It sets when
// to look again.
func (c *Client) keepUp(buf []byte) ([]byte, error) {
	if c.keepAlive == 0 {
		return buf, nil
	}
	now, heard := c.clock(), time.Duration(c.lastRecv.Load())
	if c.busy.Load() {
		heard = now // nobody listens: that is not the server's silence
	}
	if heard >= c.pingSent {
		c.pingSent = 0
	}
	if c.pingSent != 0 && now-c.pingSent >= c.pingLimit {
		return buf, errClientPing
	}
	if c.pingSent == 0 && (now-c.lastSend >= c.keepAlive && len(buf) == 0 || now-heard >= c.keepAlive) {
		c.pingSent = now
		buf = wire.AppendPingreq(buf)
	}
	if c.pingSent != 0 {
		c.due = c.pingSent + c.pingLimit
	} else {
		c.due = min(c.lastSend, heard) + c.keepAlive
	}
	return buf, nil
}

// written answers for the events of QoS 0 that were written and for those that could not be sent.
func (c *Client) written() {
	for i, f := range c.batch {
		if f.done != nil {
			f.done(wire.Success, nil)
		}
		c.batch[i] = nil
	}
	c.batch = c.batch[:0]
	callAll(c.failed)
	clear(c.failed)
	c.failed = c.failed[:0]
}

// unwritten gives the events of a write that failed back to the end of the connection, which answers for them.
func (c *Client) unwritten() {
	c.session.mu.Lock()
	c.queue0 = append(c.queue0, c.batch...)
	c.session.mu.Unlock()
	c.batch = nil
	callAll(c.failed)
	c.failed = nil
}

// linger gives the server time to read the last word: closing at once, with its bytes unread here, would reset the
// connection and take that word back.
func (c *Client) linger() {
	_ = c.conn.SetReadDeadline(time.Now().Add(clientLinger)) // on a connection that is closed nobody reads
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	timer := time.NewTimer(clientLinger)
	defer timer.Stop()
	select {
	case <-c.stop:
	case <-timer.C:
	}
	c.end(ErrClosed)
}
