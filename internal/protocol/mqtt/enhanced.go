package mqtt

import (
	"bytes"
	"context"
	"errors"

	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// enhanced is the enhanced authentication of a connection (MQTT 5, 4.12). Owned by its machine.
type enhanced struct {
	method string
	user   string            // whom it has authenticated
	x      identity.Exchange // under way; nil: none
	steps  int               // of x
	busy   bool              // a step is being worked out beside the loop
	answer []byte            // of the last step, for CONNACK
}

// authSteps bounds the messages of one exchange, so that nobody can stay in front of the door with them.
const authSteps = 16

var (
	errAuthMethod  = &wire.Error{Code: wire.BadAuthMethod, Text: "authentication method is not the one of CONNECT"}
	errAuthChanged = &wire.Error{Code: wire.ProtocolError, Text: "authentication method is not the one of CONNECT"} // 0x8C is not a code of DISCONNECT (3.14.2.1)
	errNoMethod    = &wire.Error{Code: wire.ProtocolError, Text: "AUTH without an authentication method in CONNECT"}
	errAuthTurn    = &wire.Error{Code: wire.ProtocolError, Text: "AUTH out of turn"}
	errBeforeAuth  = &wire.Error{Code: wire.ProtocolError, Text: "packet before the authentication is complete"}
	errAuthRefused = &wire.Error{Code: wire.NotAuthorized, Text: "authentication refused"}
	errNoAuth      = errors.New("authentication not completed in time")
)

// enhance begins the exchange that a CONNECT asks for.
func (m *machine) enhance(x identity.Exchange, data []byte) {
	m.enh = &enhanced{method: x.Method(), x: x, busy: true}
	m.env.Step(x, data)
}

// beforeOpen takes a packet that comes before CONNACK: the next message, or a goodbye ([MQTT-3.1.2-30]).
func (m *machine) beforeOpen(kind wire.Kind, body []byte) error {
	switch kind { //nolint:exhaustive // nothing else may come
	case wire.AUTH:
		return m.auth(body)
	case wire.DISCONNECT:
		d := wire.Disconnect{}
		if err := m.env.Scratch().dec.Disconnect(m.version, body, &d); err != nil {
			return err
		}
		m.close(errBye)
		return nil
	}
	return errBeforeAuth
}

// auth takes an AUTH (3.15): the next message of an exchange, or the first of one that authenticates again (4.12.1).
func (m *machine) auth(body []byte) error {
	a := wire.Auth{}
	if err := m.env.Scratch().dec.Auth(body, &a); err != nil {
		return err
	}
	e := m.enh
	switch {
	case e == nil:
		return errNoMethod
	case string(a.Method) != e.method && m.phase == phAuth: // [MQTT-4.12.0-5]
		return errAuthMethod
	case string(a.Method) != e.method: // [MQTT-4.12.1-1]
		return errAuthChanged
	case e.busy, (a.Reason == wire.ReAuthenticate) != (e.x == nil):
		return errAuthTurn
	}
	if e.x == nil {
		x, ok := m.env.Exchange(e.method)
		if !ok { // the configuration has changed
			return errAuthRefused
		}
		e.x, e.steps = x, 0
	}
	e.busy = true
	if m.phase == phAuth {
		m.phase = phWait
	}
	m.env.Step(e.x, a.Data)
	return nil
}

// stepped is the answer to env.Step.
func (m *machine) stepped(x identity.Exchange, answer []byte, p identity.Principal, done bool, err error) {
	e := m.enh
	if e == nil || e.x != x || m.phase != phWait && m.phase != phOpen {
		return
	}
	e.busy = false
	e.steps++
	switch {
	case errors.Is(err, identity.ErrExchangeBusy):
		m.unproven(&wire.Error{Code: wire.ServerBusy, Text: "too many authentications at once"})
	case err != nil, !done && e.steps >= authSteps:
		m.unproven(errAuthRefused)
	case !done:
		if m.sendAuth(wire.ContinueAuthentication, answer) && m.phase == phWait {
			m.phase = phAuth
			m.env.Resume()
		}
	case m.phase == phWait:
		e.x, e.user, e.answer = nil, p.Name, answer
		m.authenticated(p, identity.Admitted, nil)
	case p.Name != e.user, p.Client != "" && p.Client != m.s.ID: // a session belongs to one principal
		m.unproven(errAuthRefused)
	default:
		e.x = nil
		o := *m.s.Origin // shared with events that are under way
		o.Attrs = p.Attrs
		m.s.Origin = &o
		m.expires(p.Expires)
		m.lasts()
		m.sendAuth(wire.Success, answer)
	}
}

// unproven ends a connection whose client did not prove who it is: by CONNACK before it is open ([MQTT-4.12.0-4]), by DISCONNECT
// later ([MQTT-4.12.1-2]).
func (m *machine) unproven(e *wire.Error) {
	if m.phase == phOpen {
		m.fail(e)
		return
	}
	_ = m.refuse(e.Code)
}

// sendAuth puts an AUTH into the output. What the client's maximum packet size does not allow is the end of the connection.
func (m *machine) sendAuth(r wire.Reason, data []byte) bool {
	b := m.env.Out()
	out := wire.AppendAuth(b, &wire.Auth{Reason: r, Method: []byte(m.enh.method), Data: data, HasData: len(data) > 0})
	if m.maxSend != 0 && len(out)-len(b) > int(m.maxSend) { // [MQTT-3.1.2-24]
		m.close(&wire.Error{Code: wire.PacketTooLarge, Text: "maximum packet size smaller than AUTH"})
		return false
	}
	m.env.SetOut(out)
	return true
}

// proved adds to CONNACK what the exchange ended with ([MQTT-4.12.0-5]).
func (m *machine) proved(p *wire.ConnackProps) {
	if e := m.enh; e != nil {
		p.AuthMethod, p.HasAuthMethod, p.AuthData = []byte(e.method), true, e.answer
		e.answer = nil
	}
}

// Exchange implements env.
func (c *conn) Exchange(method string) (identity.Exchange, bool) {
	return c.srv.deps.Auth().Exchange(method)
}

// Step implements env. What may take long runs beside the loop, a bounded number at once; before the session is open the
// connection is not read meanwhile.
func (c *conn) Step(x identity.Exchange, msg []byte) {
	if !x.Slow() {
		answer, p, done, err := x.Step(context.Background(), msg)
		c.stepped(x, answer, p, done, err)
		return
	}
	if c.phase == phWait {
		c.c.PauseRead()
	}
	msg = bytes.Clone(msg)
	l := c.c.Loop()
	if !c.srv.deps.Slow(func() {
		ctx, cancel := contextFor(c.cfg.connectIn)
		answer, p, done, err := x.Step(ctx, msg)
		cancel()
		l.Post(func() {
			defer c.c.Recover()
			if c.phase == phWait {
				c.c.ResumeRead()
			}
			c.stepped(x, answer, p, done, err)
		})
	}) {
		c.stepped(x, nil, identity.Principal{}, false, identity.ErrExchangeBusy)
	}
}
