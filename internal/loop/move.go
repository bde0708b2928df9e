package loop

import "slices"

// Move takes an open connection to another loop and calls then there; from then on the connection belongs to that loop.
// It is not read meanwhile; kept input is presented again, and pending output written, on the new loop. When the
// connection ends on the way, Handler.Closed is called on the loop it is on and then is not called. On the connection's
// loop only; the caller must not use the connection between the return of Move and the call of then, and Data should
// return at once.
func (c *Conn) Move(to *Loop, then func()) {
	if c.state != stOpen || c.flags&fMoving != 0 {
		return
	}
	if to == c.loop {
		then()
		return
	}
	c.flags |= fMoving
	c.loop.Post(func() { c.depart(to, then) }) // outside of any method of the handler
}

func (c *Conn) depart(to *Loop, then func()) {
	if c.state != stOpen {
		return
	}
	to.mu.Lock()
	over := to.over
	if !over {
		to.coming++
	}
	to.mu.Unlock()
	if over {
		c.Close(ErrStopped)
		return
	}
	l := c.loop
	l.poller.remove(c)
	l.forget(c)
	drop := func(list *[]*Conn) {
		if i := slices.Index(*list, c); i >= 0 {
			*list = slices.Delete(*list, i, i+1)
		}
	}
	drop(&l.dirty)
	drop(&l.again)
	c.flags &^= fAgain | fDirty | fWantW | fMuted
	l.load.Add(-1)
	to.load.Add(1)
	c.loop = to
	to.Post(func() { c.arrive(then) })
}

func (c *Conn) arrive(then func()) {
	l := c.loop
	defer c.Recover()
	l.mu.Lock()
	l.coming--
	l.mu.Unlock()
	c.flags &^= fMoving
	if err := l.enroll(c); err != nil {
		c.Close(err)
		return
	}
	then()
	if c.Pending() > 0 {
		c.markDirty()
	}
	c.Refeed()
}
