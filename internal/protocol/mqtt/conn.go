package mqtt

import (
	"errors"
	"time"

	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/session"
)

// closeLimit is how long the last bytes of a connection may take.
const closeLimit = 5 * time.Second

// conn ties a machine to its connection: it is the machine's env and the connection's handler. Owned by its loop.
type conn struct {
	machine
	srv   *Server
	c     *loop.Conn
	timer loop.Timer
}

// Data implements loop.Handler.
func (c *conn) Data(b []byte) (int, error) { return c.feed(b) }

// Writable implements loop.Handler.
func (c *conn) Writable() {
	if c.s != nil {
		c.s.Writable()
	}
}

// Closed implements loop.Handler.
func (c *conn) Closed(err error) {
	c.dead = true
	if c.phase == phBye {
		err = errBye // it said goodbye before; what is held goes its way without it
	}
	c.ends(err)
	c.gone()
	if c.phase == phClosed {
		c.c.Loop().Disarm(&c.timer)
	}
	c.srv.closed(c, err)
}

// Expire implements loop.Expirer.
func (c *conn) Expire(_ *loop.Timer, now int64) {
	defer c.c.Recover()
	c.tick(now)
}

// Now implements env.
func (c *conn) Now() int64 { return c.c.Loop().Now() }

// Host implements env.
func (c *conn) Host() *session.Host { return c.srv.deps.Hosts[c.c.Loop().ID()] }

// Scratch implements env.
func (c *conn) Scratch() *scratch { return c.srv.scratch[c.c.Loop().ID()] }

// Out implements env.
func (c *conn) Out() []byte {
	if c.dead {
		return c.Scratch().sink[:0]
	}
	return c.c.Out()
}

// SetOut implements env.
func (c *conn) SetOut(b []byte) {
	if c.dead {
		c.Scratch().sink = b
		return
	}
	c.c.SetOut(b)
}

// Pending implements env.
func (c *conn) Pending() int { return c.c.Pending() }

// WantRoom implements env.
func (c *conn) WantRoom() { c.c.WantWritable() }

// WakeAt implements env.
func (c *conn) WakeAt(at int64) { c.c.Loop().Arm(&c.timer, at) }

// Pause implements env.
func (c *conn) Pause() { c.c.PauseRead() }

// Resume implements env.
func (c *conn) Resume() {
	c.c.ResumeRead()
	c.c.Refeed()
}

// Close implements env.
func (c *conn) Close(err error) {
	c.c.Loop().Disarm(&c.timer)
	if !c.dead {
		c.c.CloseAfterFlush(err, closeLimit)
	}
}

// Move implements env.
func (c *conn) Move(to int) {
	l := c.srv.deps.Loops[to]
	c.c.Loop().Disarm(&c.timer)
	c.wakeAt = 0
	c.c.Move(l, func() {
		c.wake(l.Now() + int64(c.cfg.connectIn))
		c.moved()
	})
}

// Authenticate implements env. What may take long runs beside the loop, a bounded number at once; meanwhile the
// connection is not read.
func (c *conn) Authenticate(cr *identity.Credentials) {
	cr.Remote = c.c.RemoteAddr()
	cr.Certificates = c.c.PeerCertificates()
	chain := c.srv.deps.Auth()
	if p, d, done := chain.Try(cr); done {
		c.authenticated(p, d, nil)
		return
	}
	c.c.PauseRead()
	l := c.c.Loop()
	if !c.srv.deps.Slow(func() {
		ctx, cancel := contextFor(c.cfg.connectIn)
		p, d, err := chain.Authenticate(ctx, cr)
		cancel()
		l.Post(func() {
			defer c.c.Recover()
			c.c.ResumeRead()
			c.authenticated(p, d, err)
		})
	}) {
		c.c.ResumeRead()
		c.authenticated(identity.Principal{}, identity.Refused, errBusy)
	}
}

var errBusy = errors.New("too many authentications at once")
