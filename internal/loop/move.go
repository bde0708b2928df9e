package loop

// Move takes an open connection to another loop and calls then there; from then on the connection belongs to that loop.
// It is not read meanwhile, and what was kept of its input is presented again on the new loop. When the connection ends
// on the way, Handler.Closed is called on the loop it is on and then is not called. On the connection's loop only; the
// caller must not use the connection after it returns until then is called.
func (c *Conn) Move(to *Loop, then func()) {
	if to == c.loop {
		then()
		return
	}
	c.PauseRead()
	c.loop.Post(func() { c.depart(to, then) })
}

// depart runs on the old loop, outside of any method of the handler.
func (c *Conn) depart(to *Loop, then func()) {
	if c.state != stOpen {
		return
	}
	l := c.loop
	if c.flags&(fAgain|fDirty|fWantW) != 0 {
		l.Post(func() { c.depart(to, then) }) // the loop still has to do with it in this turn
		return
	}
	l.poller.remove(c)
	l.forget(c)
	l.load.Add(-1)
	to.load.Add(1)
	c.loop = to
	to.Post(func() { c.arrive(then) })
}

// arrive runs on the new loop.
func (c *Conn) arrive(then func()) {
	l := c.loop
	defer l.guard(c)
	if err := l.enroll(c); err != nil {
		c.Close(err)
		return
	}
	c.ResumeRead()
	then()
	c.Refeed()
}
