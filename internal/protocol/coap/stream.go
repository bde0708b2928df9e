package coap

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/protocol/coap/wire"
	"github.com/windrose-edc/windrose/internal/session"
)

const (
	csmLimit   = 10 * time.Second // within which the first message must be there
	closeLimit = 5 * time.Second  // how long the last bytes of a connection may take
	maxOutput  = 1 << 20          // unsent bytes from which on a connection has no room for notifications
	// overhead is what a message has beside its payload, at most, where this server makes it.
	overhead = 128 + wire.MaxToken
	// streamHead is the length of the longest header of a frame, with its token.
	streamHead = 8 + wire.MaxToken
)

var (
	errNoCSM    = errors.New("no CSM in time")
	errNotCSM   = errors.New("first message is not a CSM")
	errReleased = errors.New("client released the connection")
	errAborted  = errors.New("client aborted the connection")
	errSilent   = errors.New("no answer to a ping")
	errNobody   = errors.New("client was not admitted")
)

// wireEnd is what a stream needs of its connection. All methods are called on its loop.
type wireEnd interface {
	Out() []byte
	SetOut(b []byte)
	Pending() int
	WantWritable()
	CloseAfterFlush(err error, limit time.Duration)
	RemoteAddr() netip.AddrPort
}

// stream is the server end of one connection (RFC 8323). Owned by its loop.
type stream struct {
	client
	end0    wireEnd
	cred    identity.Credentials
	timer   loop.Timer
	in      wire.Message
	x       exchange // of the request that is taken
	settled bool     // the client's CSM came
	blocks  bool     // it does block-wise transfers
	leaving bool     // it released the connection: what is under way is answered
	closing bool
	pinged  bool
	maxSend int
	heard   int64
}

// maxMessage is the longest message that is taken, in bytes: a body as long as one may be, and what goes with it.
func (c *settings) maxMessage() int { return c.maxBody + 1152 }

// begin sends our CSM: each side sends one first (RFC 8323, section 5.3).
func (t *stream) begin() {
	t.maxSend = wire.DefaultMaxMessage
	t.heard = t.d.host.Now()
	o := wire.AppendUint(nil, 0, wire.Number(wire.CSMMaxMessageSize), uint32(t.d.cfg.maxMessage()))
	o = wire.AppendOption(o, wire.Number(wire.CSMMaxMessageSize), wire.Number(wire.CSMBlockWise), nil)
	t.put(&wire.Message{Code: wire.CSM, Options: o})
	t.timer.Init(t)
	t.d.host.Clock().Arm(&t.timer, t.heard+int64(csmLimit))
}

func (t *stream) put(m *wire.Message) { t.end0.SetOut(wire.AppendFrame(t.end0.Out(), m)) }

// Data implements loop.Handler.
func (t *stream) Data(b []byte) (n int, err error) {
	t.heard, t.pinged = t.d.host.Now(), false
	for n < len(b) && !t.closing {
		m := &t.in
		k, err := wire.Next(b[n:], t.d.cfg.maxMessage(), m)
		if err != nil {
			t.d.n.bad.Inc()
			t.abort(err, nil)
			return len(b), nil
		}
		if k == 0 {
			return n, nil
		}
		n += k
		t.take(m, k)
	}
	if t.closing {
		return len(b), nil
	}
	return n, nil
}

// take takes one message.
func (t *stream) take(m *wire.Message, size int) {
	switch {
	case m.Code == wire.CSM:
		t.csm(m)
	case !t.settled:
		t.abort(errNotCSM, nil)
	case m.Code == wire.Empty: // RFC 8323, section 3.4
	case m.Code.IsSignal():
		t.signal(m)
	case m.Code.IsRequest():
		t.request(m, size)
	default:
		t.d.n.ignored.Inc()
	}
}

// csm takes the client's capabilities (RFC 8323, section 5.3); there may be more than one.
func (t *stream) csm(m *wire.Message) {
	for it := m.Options.Iter(); ; {
		n, v, ok := it.Next()
		if !ok {
			break
		}
		switch {
		case n == wire.Number(wire.CSMMaxMessageSize) && len(v) <= 4:
			t.maxSend = int(wire.Uint(v))
		case n == wire.Number(wire.CSMBlockWise):
			t.blocks = true
		case n.Critical():
			t.abort(fmt.Errorf("option %d of a CSM", n), wire.AppendUint(nil, 0, wire.Number(wire.AbortBadCSMOption), uint32(n)))
			return
		}
	}
	if t.settled {
		return
	}
	t.settled = true
	if why := t.open("coap:"+t.d.cfg.name+"/"+t.end0.RemoteAddr().String(), &t.cred, 0); why != nil {
		t.abort(errNobody, nil)
	}
}

// signal takes a ping, a pong, a release or an abort (RFC 8323, sections 5.4 to 5.6).
func (t *stream) signal(m *wire.Message) {
	for it := m.Options.Iter(); ; {
		n, _, ok := it.Next()
		if !ok {
			break
		}
		if n.Critical() { // section 5.2
			t.abort(fmt.Errorf("option %d of a signal", n), nil)
			return
		}
	}
	switch m.Code { //nolint:exhaustive // what is no signal does not come here, and unknown ones are ignored
	case wire.Ping:
		pong := wire.Message{Code: wire.Pong, Token: m.Token}
		if _, ok := m.Options.Get(wire.Number(wire.PingCustody)); ok && len(t.awaited) == 0 {
			pong.Options = wire.AppendOption(nil, 0, wire.Number(wire.PingCustody), nil)
		}
		t.put(&pong)
	case wire.Release:
		t.leaving = true
		t.leave()
	case wire.Abort:
		t.shut(errAborted)
	}
}

// request takes a request.
func (t *stream) request(m *wire.Message, size int) {
	t.d.n.requests.Inc()
	if t.leaving {
		return
	}
	x := &t.x
	*x = exchange{token: keepToken(m.Token), con: true, get: m.Code == wire.GET, in: size}
	if v, ok := m.Options.Usable(wire.NoResponse); ok {
		x.silent = byte(wire.Uint(v))
	}
	if n, bad := m.Options.Problem(); bad {
		t.d.n.badOptions.Inc()
		t.answer(x, t.d.r.fail(wire.BadOption, badOption(n)))
		return
	}
	res, why := t.d.route(m)
	if why != nil {
		t.answer(x, why)
		return
	}
	t.handle(x, m, res)
}

// answer implements carrier.
func (t *stream) answer(x *exchange, r *reply) {
	if !x.unwanted(r.code) {
		t.reply(x.token, r)
	}
	t.leave()
}

func (t *stream) reply(k token, r *reply) {
	if _, blocked := wire.Options(r.opts).Get(wire.Block2); blocked && !t.blocks { // RFC 8323, section 5.3.2
		r = t.d.r.fail(wire.InternalServerError, "needs block-wise transfers")
	}
	m := wire.Message{Code: r.code, Token: k.bytes(), Options: r.opts, Payload: r.payload}
	t.put(&m)
}

// notify implements carrier: what is written arrives, so nothing waits for an acknowledgement (RFC 8323, section 7.1).
func (t *stream) notify(o *observation, r *reply, _ bool, _ uint16) bool {
	t.reply(o.token, r)
	return false
}

func (t *stream) room() bool {
	if t.closing || t.end0.Pending() < maxOutput {
		return !t.closing
	}
	t.end0.WantWritable()
	return false
}

func (t *stream) affords(*exchange, int) bool { return true }
func (t *stream) reachable() bool             { return true }
func (t *stream) ask() *reply                 { return t.d.r.reset(wire.Unauthorized) }
func (t *stream) awaits(*exchange)            {}

// big implements carrier. Where the client takes longer messages a body goes whole, or in blocks of BERT (RFC 8323, section 6).
func (t *stream) big() (szx uint8, bert int) {
	if n := t.maxSend - overhead; t.maxSend > wire.DefaultMaxMessage && n >= 1024 {
		return wire.BERT, n
	}
	return t.d.cfg.szx, 0
}

// leave ends a connection that was released, once everything is answered.
func (t *stream) leave() {
	if t.leaving && len(t.awaited) == 0 {
		t.shut(errReleased)
	}
}

// abort ends a connection for an error of the client (RFC 8323, section 5.6).
func (t *stream) abort(err error, o wire.Options) {
	if t.closing {
		return
	}
	t.put(&wire.Message{Code: wire.Abort, Options: o, Payload: []byte(err.Error())})
	t.shut(err)
}

func (t *stream) shut(err error) {
	if t.closing {
		return
	}
	t.closing = true
	t.d.host.Clock().Disarm(&t.timer)
	t.close(reasonOf(err))
	t.end0.CloseAfterFlush(err, closeLimit)
}

// end implements carrier.
func (t *stream) end(w session.Why) {
	if t.closing {
		return
	}
	t.put(&wire.Message{Code: wire.Release})
	t.shut(errors.New(endings[w]))
}

// Writable implements loop.Handler.
func (t *stream) Writable() {
	if t.s != nil {
		t.s.Writable()
	}
}

// Closed implements loop.Handler.
func (t *stream) Closed(err error) {
	t.closing = true
	t.d.host.Clock().Disarm(&t.timer)
	t.close(reasonOf(err))
	t.d.n.peers.Add(-1)
}

// Expire implements loop.Expirer: a client that is silent for long is asked whether it is there.
func (t *stream) Expire(_ *loop.Timer, now int64) {
	t.dropTransfers(now)
	switch check := t.d.cfg.check; {
	case t.closing:
		return
	case !t.settled:
		t.abort(errNoCSM, nil)
		return
	case now-t.heard >= 2*check && t.pinged:
		t.shut(errSilent)
		return
	case now-t.heard >= check && !t.pinged:
		t.pinged = true
		t.put(&wire.Message{Code: wire.Ping})
	}
	t.d.host.Clock().Arm(&t.timer, max(now+int64(time.Second), t.heard+t.d.cfg.check*int64(1+b2i(t.pinged))))
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// describe implements carrier.
func (t *stream) describe(f *session.PeerFacts) {
	f.Protocol, f.Remote = "CoAP over TCP", t.end0.RemoteAddr()
	f.Pending = t.end0.Pending()
}

// reasonOf is why a connection ended, as sessions say it.
func reasonOf(err error) string {
	switch {
	case err == nil, errors.Is(err, errReleased), errors.Is(err, errAborted):
		return "client"
	case errors.Is(err, errNoCSM), errors.Is(err, errSilent):
		return endLost
	case errors.Is(err, loop.ErrStopped):
		return endStopped
	case errors.Is(err, io.EOF):
		return "peer_closed"
	}
	for _, word := range endings {
		if err.Error() == word {
			return word
		}
	}
	return "protocol_error"
}
