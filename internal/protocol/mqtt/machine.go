package mqtt

import (
	"errors"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
	"github.com/windrose-edc/windrose/internal/session"
)

// env is what a machine has done for it: everything that is not thinking. All methods are called on the machine's loop.
type env interface {
	Now() int64 // Unix nanoseconds of this turn
	Host() *session.Host
	Scratch() *scratch
	Out() []byte // the output to append to
	SetOut(b []byte)
	Pending() int                          // unsent bytes
	WantRoom()                             // have the session told when there are fewer
	WakeAt(at int64)                       // call tick not later than then; 0: no need
	Authenticate(cr *identity.Credentials) // calls authenticated, at once or later
	Exchange(method string) (identity.Exchange, bool)
	Step(x identity.Exchange, msg []byte) // calls stepped, at once or later; msg is borrowed
	Move(loop int)                        // take the connection to another loop and call moved there
	Pause()                               // stop reading
	Resume()                              // read again and feed what was not consumed
	Close(err error)                      // after what is in the output is sent
}

// scratch is what the machines of one loop share. Owned by its loop.
type scratch struct {
	dec   wire.Decoder
	ev    event.Event
	pub   wire.Publish
	out   wire.PublishOut
	ids   []uint32
	want  []session.Want
	forms forms
	sink  []byte // output for connections that are gone
}

// aliased is the topic of a topic alias.
type aliased []byte

// phases of a connection.
const (
	phConnect = iota // CONNECT awaited
	phWait           // who it is or where its session lives is being found out
	phAuth           // the next message of an enhanced authentication is awaited
	phOpen
	phBye // DISCONNECT came while publishes are held
	phClosed
)

// machine is the server end of one MQTT connection: it takes bytes and says what is to be done, without I/O, clock or
// goroutine. Owned by its loop.
type machine struct {
	env env
	cfg *settings
	s   *session.Session

	version   wire.Version
	phase     uint8
	problems  bool // the client wants reason strings
	bridge    bool // the client is a bridge: retain flags are passed on as they came, its own events are not
	graceful  bool
	refused   bool // CONNECT was answered with a refusal
	paused    bool
	dead      bool   // the connection is gone; there may still be publishes that are held
	keepAlive uint16 // seconds; 0: none
	changing  uint16 // changes of subscriptions that are not answered yet
	maxSend   uint32 // the client's maximum packet size; 0: none
	wakeAt    int64
	lastIn    int64
	until     int64      // when the credential expires, and with it the connection; 0: never
	aliases   *[]aliased // of the client, by number; nil: none yet
	sent      *outAliases
	aliasMax  uint16 // aliases that the client takes from us; 0: none
	part      uint16 // KiB that are here of a packet that is not complete, modulo 65,536
	asked     bool   // CONNECT asked for a session that outlives its connection
	hold      *held  // publishes that wait; nil: none
	hello     *hello // until the session is open
	enh       *enhanced
}

// held is publishing that waits for a limit, for another loop or for an answer. Owned by its machine.
type held struct {
	packets  []byte // whole PUBLISH packets, in order, each behind the time of its arrival (8 bytes)
	why      session.Hold
	until    int64 // when to try again; 0: when something happens
	n        int   // how many packets
	acked    int   // of packets, those that want an answer; their sender keeps them until it has one
	since    int64 // when reading was paused, or goodbye was said
	dropping bool  // the pause has lasted as long as it may
	changing bool  // until the client's own subscriptions that came before are in force
}

// hello is a CONNECT that is being answered. Owned by its machine.
type hello struct {
	req      session.Hello
	cred     identity.Credentials
	keep     uint16
	asked    uint32 // session expiry that the client asked for
	assigned bool   // the client id is ours
	respond  bool   // the client asks where it may have responses sent
}

// byeLimit is how long publishes that came before a goodbye may be held.
const byeLimit = 10 * time.Second

var (
	errKeepAlive = errors.New("keep alive time passed without a packet")
	errNoConnect = errors.New("no CONNECT in time")
	errBye       = errors.New("client disconnected")
	errExpired   = &wire.Error{Code: wire.NotAuthorized, Text: "session expired"}
)

// init makes the machine ready for its first byte.
func (m *machine) init(e env, cfg *settings) {
	*m = machine{env: e, cfg: cfg, problems: true}
	m.lastIn = e.Now()
	m.wake(m.lastIn + int64(cfg.connectIn))
}

// wake asks for a tick not later than at.
func (m *machine) wake(at int64) {
	if m.wakeAt == 0 || at < m.wakeAt {
		m.wakeAt = at
		m.env.WakeAt(at)
	}
}

// feed takes what arrived and returns how much of it was used. The rest must come again, in front of what follows it.
func (m *machine) feed(b []byte) (n int, err error) {
	defer func() { m.heard(n, len(b)-n) }()
	for n < len(b) {
		if m.phase == phWait || m.phase == phBye || m.phase == phClosed || m.paused {
			if m.phase == phBye || m.phase == phClosed {
				return len(b), nil
			}
			return n, nil
		}
		first, body, k, err := wire.Next(b[n:], m.cfg.maxPacket)
		if err != nil {
			m.fail(err)
			return n, nil
		}
		if k == 0 {
			return n, nil
		}
		if m.version == wire.V5 && wire.Overlong(b[n:n+k], body) { // of CONNECT: see connect
			m.fail(wire.ErrOverlong)
			return n, nil
		}
		used, err := m.step(first, body, b[n:n+k])
		if err != nil {
			m.fail(err)
			return n, nil
		}
		if !used {
			return n, nil
		}
		n += k
	}
	return n, nil
}

// heard notes that used bytes of packets arrived, and that rest bytes are there of one that is not complete. The keep alive
// asks for whole packets ([MQTT-3.1.2-22]): half of one counts for each KiB that arrives of it, so that a large packet has
// the time that it needs, and who trickles does not live for ever. Before CONNECT nothing wins time.
func (m *machine) heard(used, rest int) {
	part := uint16(rest >> 10)
	if m.phase != phConnect && m.phase != phAuth && (used > 0 || part != m.part) {
		m.lastIn = m.env.Now()
	}
	m.part = part
}

// step takes one packet. used is false when it cannot be taken now and must come again.
func (m *machine) step(first byte, body, packet []byte) (used bool, err error) {
	kind := wire.KindOf(first)
	if m.phase == phConnect {
		if kind != wire.CONNECT {
			return false, errNotConnect
		}
		return true, m.connect(first, body, packet)
	}
	if err := wire.CheckFlagsOf(m.version, first); err != nil {
		return false, err
	}
	if m.phase == phAuth {
		return true, m.beforeOpen(kind, body)
	}
	switch kind {
	case wire.PUBLISH:
		return m.publish(first, body, packet)
	case wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP:
		return true, m.ack(kind, body)
	case wire.SUBSCRIBE:
		return true, m.subscribe(body)
	case wire.UNSUBSCRIBE:
		return true, m.unsubscribe(body)
	case wire.PINGREQ:
		if err := wire.CheckEmpty(body); err != nil {
			return false, err
		}
		m.env.SetOut(wire.AppendPingresp(m.env.Out()))
		return true, nil
	case wire.DISCONNECT:
		return true, m.disconnect(body)
	case wire.AUTH:
		return true, m.auth(body)
	case wire.CONNECT, wire.CONNACK, wire.SUBACK, wire.UNSUBACK, wire.PINGRESP:
	}
	return false, wire.ErrKind // a second CONNECT ([MQTT-3.1.0-2]) or what only servers send
}

var errNotConnect = &wire.Error{Code: wire.ProtocolError, Text: "first packet is not CONNECT"}

// fail ends the connection for an error of the peer: MQTT 5 clients are told, others are not ([MQTT-4.8.0-1] of 3.1.1).
func (m *machine) fail(err error) {
	if m.phase == phClosed {
		return
	}
	var we *wire.Error
	switch is := errors.As(err, &we) && m.version == wire.V5; {
	case is && m.phase == phAuth:
		m.env.SetOut(wire.AppendConnack(m.env.Out(), m.version, false, we.Code, nil))
	case is && m.phase >= phOpen:
		m.say(we.Code, we.Text)
	}
	m.close(err)
}

// say puts a DISCONNECT with a reason into the output (MQTT 5, 3.14).
func (m *machine) say(r wire.Reason, text string) {
	if m.version != wire.V5 {
		return
	}
	var p wire.DisconnectProps
	if m.problems {
		p.ReasonString = []byte(text)
	}
	b := m.env.Out()
	out := wire.AppendDisconnect(b, m.version, r, &p)
	if m.maxSend != 0 && len(out)-len(b) > int(m.maxSend) {
		out = wire.AppendDisconnect(b, m.version, r, nil)
	}
	m.env.SetOut(out)
}

// close ends the connection and leaves the session.
func (m *machine) close(err error) {
	if m.phase == phClosed {
		return
	}
	m.phase = phClosed
	m.ends(err)
	m.leave()
	m.env.Close(err)
}

func (m *machine) leave() {
	if h := m.hold; h != nil && m.s != nil {
		m.env.Host().Tally.Dropped[session.DropHeld] += uint64(h.n - h.acked)
		m.hold = nil
	}
	if s := m.s; s != nil {
		m.s = nil
		s.Detach(m, m.graceful)
	}
}

// gone is called when the connection has ended. Publishes that came before a goodbye and are held still go their way.
func (m *machine) gone() {
	if m.phase == phBye {
		return
	}
	if m.phase != phClosed {
		m.phase = phClosed
		m.leave()
	}
}

// tick is called at the time that was asked for, or later.
func (m *machine) tick(now int64) {
	m.wakeAt = 0
	switch m.phase {
	case phConnect, phAuth:
		at := m.lastIn + int64(m.cfg.connectIn)
		switch {
		case now < at:
			m.wake(at)
		case m.phase == phAuth:
			m.close(errNoAuth)
		default:
			m.close(errNoConnect)
		}
	case phWait:
		m.wake(now + int64(m.cfg.connectIn))
	case phOpen, phBye:
		if m.hold != nil {
			m.unhold(now)
		}
		switch {
		case m.phase == phOpen && m.until != 0 && now >= m.until:
			m.fail(errExpired)
		case m.phase == phOpen:
			m.checkAlive(now)
			m.lasts()
		case m.phase == phBye && m.hold != nil:
			m.checkBye(now)
		}
	}
}

// checkBye ends the wait of what was held when its client said goodbye: an acknowledgement that will not come, or a limit
// that would take for ever, must not keep the connection's state.
func (m *machine) checkBye(now int64) {
	h := m.hold
	at := h.since + int64(byeLimit)
	if now >= at {
		m.close(errBye)
		return
	}
	m.wake(at)
}

// checkAlive closes a connection that was silent for one and a half times its keep alive ([MQTT-3.1.2-22]). Reading that
// we paused is not the client's silence.
func (m *machine) checkAlive(now int64) {
	if m.keepAlive == 0 {
		return
	}
	if m.paused {
		m.lastIn = now
	}
	at := m.lastIn + int64(m.keepAlive)*int64(time.Second)*3/2
	if now >= at {
		m.say(wire.KeepAliveTimeout, "")
		m.close(errKeepAlive)
		return
	}
	m.forgetAliases()
	m.wake(at)
}

// lasts asks for a tick when the credential of an open connection expires.
func (m *machine) lasts() {
	if m.until != 0 && m.phase == phOpen {
		m.wake(m.until)
	}
}

// expires sets when the credential ends; the zero time is never.
func (m *machine) expires(at time.Time) {
	m.until = 0
	if !at.IsZero() {
		m.until = at.UnixNano()
	}
}

// disconnect is the client's goodbye (3.14).
func (m *machine) disconnect(body []byte) error {
	d := wire.Disconnect{}
	if err := m.env.Scratch().dec.Disconnect(m.version, body, &d); err != nil {
		return err
	}
	if d.HasSessionExpiry {
		if !m.asked && d.SessionExpiry != 0 {
			return &wire.Error{Code: wire.ProtocolError, Text: "session expiry raised from 0"}
		}
		m.s.SetExpiry(min(d.SessionExpiry, m.cfg.expiry))
	}
	m.graceful = d.Reason == wire.Success // with any other reason the will is published (3.1.2.5)
	if m.graceful {                       // [MQTT-3.14.4-3]; who takes the session over now must not publish it
		m.s.ForgetWill()
	}
	if h := m.hold; h != nil {
		m.phase = phBye
		h.since = m.env.Now()
		m.wake(h.since + int64(byeLimit))
		return nil
	}
	m.close(errBye)
	return nil
}

// Kick implements session.Peer.
func (m *machine) Kick(w session.Why) {
	switch w {
	case session.TakenOver:
		m.say(wire.SessionTakenOver, "")
	case session.Shutdown:
		m.sayClosed()
	case session.OutboxFull:
		m.say(wire.QuotaExceeded, "outbox full")
	case session.Limited:
		m.say(wire.MessageRateTooHigh, "")
	case session.Busy:
		m.say(wire.ServerBusy, "")
	case session.Kicked:
		m.say(wire.AdministrativeAction, "")
	case session.Removed:
		m.say(wire.AdministrativeAction, "listener removed")
	case session.NoMemory:
		m.say(wire.ServerBusy, "")
	}
	m.close(kicked[w])
}

var kicked = [...]error{
	session.TakenOver:  errors.New("session taken over"),
	session.Shutdown:   errors.New("node stops"),
	session.Kicked:     errors.New("disconnected by an operator or a rule"),
	session.OutboxFull: errors.New("outbox full"),
	session.Limited:    errors.New("published above the limit"),
	session.Busy:       errors.New("too many subscriptions at once"),
	session.Removed:    errors.New("listener is no longer configured"),
	session.NoMemory:   errors.New("node is short of memory"),
}
