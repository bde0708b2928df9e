package loop

// FrameRoom is how many bytes before the payload a Framing may use for its header.
const FrameRoom = 10

// Framing is a layer between the bytes of a connection, behind TLS, and its handler: WebSocket, for instance. Every
// method is called on the connection's loop and must not block.
type Framing interface {
	// Unframe takes all of what arrived, which it may change, and returns what of it is for the handler, a part of b;
	// answers of the framing itself are appended to reply and sent. An error ends the connection as one of Handler.Data
	// does, but when the handler has seen what came before; then Unframe is given more, it ignores that.
	Unframe(b, reply []byte) (data, replies []byte, err error)
	// Frame makes one frame of the bytes behind the first FrameRoom: it writes a header into the end of those, and
	// returns where it begins.
	Frame(b []byte) int
	// Bye appends the last bytes of a connection that ends for that reason. It is called at most once.
	Bye(b []byte, why error) []byte
}

// frames is the framing of a connection. Owned by the connection's loop.
type frames struct {
	f   Framing
	out []byte // what the handler wrote since the last frame was made, behind FrameRoom; nil: nothing
	end error  // what Unframe said, while the handler has not seen everything
	bye bool   // the last frame is made
}

// SetFraming puts f between the connection and its handler, from the next byte in and the next byte out on. What was
// written before goes out as it is. In Accept, or in Data together with SetHandler. On the loop only, once.
func (c *Conn) SetFraming(f Framing) {
	if c.state == stOpen {
		c.extra().frames = &frames{f: f}
		c.flags |= fFramed
	}
}

// SetHandler gives the connection another handler, in Data: what that does not consume is presented to the new one,
// and Closed is called on that alone. On the loop only.
func (c *Conn) SetHandler(h Handler) {
	if c.state == stOpen {
		c.h = h
		c.flags |= fNewHandler
	}
}

// arrived hands what was read to the handler, through the framing where there is one.
func (c *Conn) arrived(b []byte) {
	if c.flags&fFramed == 0 {
		c.present(b)
		return
	}
	fr, l := c.x.frames, c.loop
	data, replies, err := fr.f.Unframe(b, l.reply[:0])
	if len(replies) > 0 {
		l.reply = replies[:0]
		c.out = append(l.pool.grow(c.out, len(replies)), replies...)
		c.checkPending()
	}
	if fr.end == nil {
		fr.end = err
	}
	if len(data) > 0 && c.state == stOpen {
		c.present(data)
	}
	c.frameEnd()
}

// frameEnd ends the connection as the framing said, unless the handler is still to see what came before.
func (c *Conn) frameEnd() {
	if c.flags&(fFramed|fPaused|fMoving|fRefeed) == fFramed && c.x.frames.end != nil {
		c.CloseAfterFlush(c.x.frames.end, flushLimit)
	}
}

// handOver presents to a new handler what the old one left.
func (c *Conn) handOver() {
	c.flags &^= fNewHandler
	if c.state != stOpen || len(c.in) == 0 {
		return
	}
	in, off := c.in, c.inOff
	c.in, c.inOff = nil, 0
	c.arrived(in[off:])
	c.loop.pool.put(in)
}

// frameOut is Reserve behind the room for a header.
func (c *Conn) frameOut(n int) []byte {
	fr, p := c.x.frames, &c.loop.pool
	if fr.out == nil {
		return append(p.get(FrameRoom+n, c.hint), make([]byte, FrameRoom)...)
	}
	return p.grow(fr.out, n)
}

// setFrameOut is SetOut behind the room for a header; false: there is nothing to send.
func (c *Conn) setFrameOut(b []byte) bool {
	fr := c.x.frames
	if len(b) <= FrameRoom {
		c.loop.pool.put(b)
		fr.out = nil
		return false
	}
	fr.out = b
	return true
}

// nextFrame is called when everything was sent: it makes the next frame of what the handler has written meanwhile, and
// the last one when the connection ends. false: there is nothing more.
func (c *Conn) nextFrame() bool {
	fr := c.x.frames
	bye := c.state == stFlush && !fr.bye
	if fr.out == nil && !bye {
		return false
	}
	if c.out != nil {
		c.dropOutput()
	}
	if fr.out != nil {
		c.out, c.outOff, fr.out = fr.out, uint32(fr.f.Frame(fr.out)), nil
	}
	if bye {
		fr.bye = true
		c.out = fr.f.Bye(c.loop.pool.grow(c.out, 1), c.x.err)
	}
	return len(c.out) > int(c.outOff)
}

// pending is what was written and is not yet a frame.
func (fr *frames) pending() int { return max(0, len(fr.out)-FrameRoom) }

// drop takes the buffer back when the connection is gone.
func (fr *frames) drop(p *buffers) {
	if fr.out != nil {
		p.put(fr.out)
		fr.out = nil
	}
}

// flushPlain writes what is pending without TLS, as far as the socket takes it; errAgain: there is more.
func (c *Conn) flushPlain() error {
	for {
		if err := c.drain(&c.out, &c.outOff); err != nil {
			return err
		}
		if c.out != nil {
			c.dropOutput()
		}
		if c.flags&fFramed == 0 || !c.nextFrame() {
			return nil
		}
	}
}

// excuse ends a framed connection whose handler panicked with the words that the framing has for that; false: it has none.
func (c *Conn) excuse() bool {
	if c.state != stOpen || c.flags&fFramed == 0 {
		return false
	}
	c.x.frames.drop(&c.loop.pool) // the panic may have left half a packet in it
	c.CloseAfterFlush(ErrPanic, flushLimit)
	return true
}
