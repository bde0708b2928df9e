package mqtt

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
	"github.com/windrose-edc/windrose/internal/session"
)

// connect answers CONNECT (3.1) with a session or a refusal.
func (m *machine) connect(first byte, body, packet []byte) error {
	c := wire.Connect{}
	err := m.env.Scratch().dec.Connect(body, &c)
	if err == nil {
		err = wire.CheckFlagsOf(c.Version, first)
	}
	if err == nil && c.Version == wire.V5 && wire.Overlong(packet, body) {
		err = wire.ErrOverlong
	}
	if v := c.Version; v == wire.V31 || v == wire.V311 || v == wire.V5 {
		m.version = v
	}
	if err != nil {
		return m.badConnect(err)
	}
	if !m.cfg.accept[c.Version] {
		return m.refuse(wire.UnsupportedVersion)
	}
	var x identity.Exchange
	if c.HasAuthMethod {
		var ok bool
		if x, ok = m.env.Exchange(string(c.AuthMethod)); !ok {
			return m.refuse(wire.BadAuthMethod)
		}
	}
	m.maxSend = c.MaxPacket
	if shut := m.env.Host().Refuses(m.cfg.name, string(c.ClientID), c.Clean); shut != nil && (shut.Why != session.NoMemory || len(c.ClientID) > 0) {
		return m.refuseClosed(shut)
	}
	m.bridge = c.Bridge
	m.aliasMax = min(c.TopicAliasMax, m.cfg.aliasesOut)
	m.maxSend, m.problems = c.MaxPacket, c.Version != wire.V5 || c.RequestProblemInfo
	h := &hello{respond: c.RequestResponseInfo, keep: c.KeepAlive, asked: c.SessionExpiry}
	h.req = session.Hello{ClientID: string(c.ClientID), Clean: c.Clean,
		Origin: event.Origin{Listener: m.cfg.name, Protocol: "mqtt", NoRefusal: c.Version != wire.V5}}
	switch {
	case c.Version != wire.V5 && c.Clean:
		h.req.Expiry = 0
	case c.Version != wire.V5:
		h.req.Expiry = m.cfg.expiry
	default:
		h.req.Expiry = min(c.SessionExpiry, m.cfg.expiry)
		h.req.Window, h.req.Quota = int(c.ReceiveMax), true
	}
	h.req.Bounds = m.cfg.bounds
	if r := m.cfg.refusedWill(&c.Will); r != wire.Success {
		return m.refuse(r)
	}
	if len(c.ClientID) == 0 {
		if c.Version == wire.V31 || c.Version == wire.V311 && !c.Clean { // [MQTT-3.1.3-8]
			return m.refuse(wire.ClientIDNotValid)
		}
		h.assigned = true
	}
	if w := c.Will; w.Present {
		ev := event.Event{Topic: w.Topic, Payload: w.Payload, Meta: w.Meta, QoS: event.QoS(w.QoS), Retain: w.Retain}
		h.req.Will = &session.Will{Event: *ev.Keep(), Delay: w.Delay}
		if w.HasExpiry {
			h.req.Will.Life = max(w.Expiry, 1)
		}
	}
	h.cred = identity.Credentials{Listener: m.cfg.name, ClientID: h.req.ClientID, Username: string(c.Username), HasUsername: c.HasUsername}
	if c.HasPassword {
		h.cred.Password = append([]byte(nil), c.Password...)
	}
	m.hello, m.phase = h, phWait
	if x != nil {
		m.enhance(x, c.AuthData)
		return nil
	}
	m.env.Authenticate(&h.cred)
	return nil
}

// badConnect refuses a CONNECT that does not parse. Where the version is known the client is told (3.1.4).
func (m *machine) badConnect(err error) error {
	m.refused = true
	var we *wire.Error
	if ok := errors.As(err, &we); ok && m.version == 0 && we.Code == wire.UnsupportedVersion {
		// [MQTT-3.1.2-2] of 3.1.1: return code 1, in the only format that every client reads
		m.env.SetOut(wire.AppendConnack(m.env.Out(), wire.V311, false, wire.UnsupportedVersion, nil))
		m.close(err)
		return nil
	} else if ok && m.version == wire.V5 {
		m.env.SetOut(wire.AppendConnack(m.env.Out(), m.version, false, we.Code, nil))
	} else if ok && (we.Code == wire.ClientIDNotValid || we.Code == wire.UnsupportedVersion) {
		m.env.SetOut(wire.AppendConnack(m.env.Out(), m.version, false, we.Code, nil))
	}
	m.close(err)
	return nil
}

func (m *machine) refuse(r wire.Reason) error {
	m.refused = true
	b := m.env.Out()
	if out := wire.AppendConnack(b, m.version, false, r, nil); m.maxSend == 0 || len(out)-len(b) <= int(m.maxSend) { // [MQTT-3.1.2-24]
		m.env.SetOut(out)
	}
	m.close(&wire.Error{Code: r, Text: "connection refused: " + r.String()})
	return nil
}

// authenticated is the answer to env.Authenticate.
func (m *machine) authenticated(p identity.Principal, d identity.Decision, err error) {
	if m.phase != phWait {
		return
	}
	h := m.hello
	clear(h.cred.Password)
	h.cred.Password = nil
	switch {
	case err != nil:
		_ = m.refuse(wire.ServerUnavailable)
		return
	case d != identity.Admitted && h.cred.HasUsername:
		_ = m.refuse(wire.BadUserNameOrPassword)
		return
	case d != identity.Admitted:
		_ = m.refuse(wire.NotAuthorized)
		return
	}
	if p.Client != "" { // the credential says which client it is
		if h.req.ClientID != "" && h.req.ClientID != p.Client {
			_ = m.refuse(wire.ClientIDNotValid)
			return
		}
		h.assigned = h.assigned && m.version == wire.V5
		h.req.ClientID = p.Client
	}
	if h.req.ClientID == "" {
		h.req.ClientID = newClientID()
	}
	h.req.Origin.User, h.req.Origin.Attrs = p.Name, p.Attrs
	m.expires(p.Expires)
	m.open()
}

func newClientID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return "wr-" + hex.EncodeToString(b[:])
}

// moved goes on with CONNECT on the loop where the session lives.
func (m *machine) moved() { m.open() }

func (m *machine) open() {
	if m.phase != phWait {
		return
	}
	h, host := m.hello, m.env.Host()
	s, present, home, err := host.Open(&h.req, m)
	if shut := host.Closed(m.cfg.name); errors.Is(err, session.ErrShut) && shut != nil {
		_ = m.refuseClosed(shut)
		return
	}
	if err != nil {
		_ = m.refuse(wire.QuotaExceeded)
		return
	}
	if s == nil {
		m.env.Move(home)
		return
	}
	m.s, m.phase, m.hello, m.asked = s, phOpen, nil, h.asked != 0
	m.keepAlive = h.keep
	p := wire.ConnackProps{}
	if m.version == wire.V5 {
		if k := m.cfg.keepMax; k != 0 && (h.keep == 0 || h.keep > k) {
			m.keepAlive = k
		} else if h.keep != 0 && h.keep < m.cfg.keepMin {
			m.keepAlive = m.cfg.keepMin
		}
		if m.keepAlive != h.keep {
			p.ServerKeepAlive, p.HasServerKeepAlive = m.keepAlive, true
		}
		if h.assigned {
			p.AssignedClientID = []byte(s.ID)
		}
		if s.Expiry != h.asked {
			p.SessionExpiry, p.HasSessionExpiry = s.Expiry, true
		}
		p.ReceiveMax = m.cfg.receiveMax
		p.MaxPacket = m.cfg.maxPacket
		p.TopicAliasMax = m.cfg.aliases
		m.announce(&p)
		if h.respond {
			p.ResponseInfo = m.cfg.responseTo(s.ID)
		}
		m.proved(&p)
	}
	b := m.env.Out()
	out := wire.AppendConnack(b, m.version, present, wire.Success, &p)
	if m.maxSend != 0 && len(out)-len(b) > int(m.maxSend) { // [MQTT-3.1.2-24]: then there is no way to answer
		m.close(&wire.Error{Code: wire.PacketTooLarge, Text: "maximum packet size smaller than CONNACK"})
		return
	}
	m.env.SetOut(out)
	m.lastIn = m.env.Now()
	if m.keepAlive != 0 {
		m.wake(m.lastIn + int64(m.keepAlive)*int64(time.Second)*3/2)
	}
	m.lasts()
	s.Start()
	m.env.Resume()
}
