package ws

import (
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/observe"
)

// handshakeLimit is how long a handshake may take when nothing else is said.
const handshakeLimit = 10 * time.Second

// Options say how a Server speaks. Immutable.
type Options struct {
	Listener  string   // its name, for metrics
	Spec      Spec     // what the configuration says
	Protocols []string // subprotocols that are spoken, for Sec-WebSocket-Protocol; a client must offer one of them
	// Code is the close code for an error that the protocol's handler ended a connection with, 0 where it has none of
	// its own; nil: none has.
	Code    func(error) Code
	Metrics *observe.Registry // may be nil
}

// Server gives the connections of a listener their framing. Immutable; safe for concurrent use.
type Server struct {
	o       Options
	terms   terms
	next    func(*loop.Conn) loop.Handler
	opened  *observe.Counter
	refused map[string]*observe.Counter
	closed  map[Code]*observe.Counter
}

// NewServer makes the framing before next, which makes the handlers of the protocol as loop.ListenOptions.Accept does.
func NewServer(o Options, next func(*loop.Conn) loop.Handler) *Server {
	s := &Server{o: o, next: next, refused: map[string]*observe.Counter{}, closed: map[Code]*observe.Counter{}}
	s.terms = terms{paths: o.Spec.paths(), origins: o.Spec.Origins, protocols: o.Protocols}
	s.opened = o.Metrics.Counter("windrose_websocket_opened_connections_total", "WebSocket connections whose handshake succeeded.", "listener", o.Listener)
	for _, r := range refusalReasons() {
		s.refused[r] = o.Metrics.Counter("windrose_websocket_refused_handshakes_total", "Requests that did not become a WebSocket connection, by reason.", "listener", o.Listener, "reason", r)
	}
	for _, c := range []Code{Normal, GoingAway, ProtocolError, Unacceptable, InvalidText, Policy, TooBig, Internal, 0} {
		s.closed[c] = o.Metrics.Counter("windrose_websocket_closed_connections_total", "Close frames that were sent, by code.", "listener", o.Listener, "code", c.word())
	}
	return s
}

// word is the code in metrics: a closed set, whatever peers send.
func (c Code) word() string {
	if c == 0 {
		return "other"
	}
	return strconv.Itoa(int(c))
}

// ended counts a close frame.
func (s *Server) ended(c Code) {
	n := s.closed[c]
	if n == nil {
		n = s.closed[0]
	}
	n.Inc()
}

// Accept is for loop.ListenOptions.Accept: it takes the connection through the handshake and gives it to the protocol.
func (s *Server) Accept(c *loop.Conn) loop.Handler {
	if s.o.Spec.Plain {
		return newDetector(s, c)
	}
	return newOpening(s, c)
}

// opening is a connection before and in its handshake. Owned by its loop.
type opening struct {
	s       *Server
	c       *loop.Conn
	timer   loop.Timer
	scanned int  // bytes that do not hold the end of the head
	unknown bool // it may still turn out to be no HTTP at all
}

func newOpening(s *Server, c *loop.Conn) *opening {
	u := &opening{s: s, c: c}
	u.timer.Init(u)
	l := c.Loop()
	l.Arm(&u.timer, l.Now()+int64(s.o.Spec.timeout()))
	return u
}

// Data implements loop.Handler: it waits for the whole request, and answers.
func (u *opening) Data(b []byte) (int, error) {
	n := headEnd(b, u.scanned)
	u.scanned = len(b)
	switch {
	case n > maxHead || n == 0 && len(b) > maxHead:
		return u.refuse(b, &Refusal{Status: 431, Reason: refusedTooLarge, Text: "the head of the request is over " + strconv.Itoa(maxHead) + " bytes"})
	case n == 0:
		if !mayBegin(b) {
			return u.refuse(b, malformed("this is not an HTTP request"))
		}
		return 0, nil
	}
	a, r := u.s.terms.check(b[:n])
	if r != nil {
		return u.refuse(b, r)
	}
	c := u.c
	c.Loop().Disarm(&u.timer)
	c.SetOut(a.append(c.Out()))
	u.s.begin(c)
	return n, nil
}

// mayBegin refuses what cannot become a request at once: other protocols on this port would wait for an answer.
func mayBegin(b []byte) bool {
	for i, c := range b[:min(len(b), 16)] {
		if c == ' ' {
			return i > 0
		}
		if !isToken(string(rune(c))) || c >= 0x80 {
			return false
		}
	}
	return true
}

// frame gives a connection whose answer is written its framing, and makes the protocol's handler; nil: it is refused.
func (s *Server) frame(c *loop.Conn) loop.Handler {
	s.opened.Inc()
	c.SetFraming(&framing{decoder: decoder{maxFrame: uint64(s.o.Spec.MaxFrame)}, s: s})
	return s.next(c)
}

// begin gives a connection that has its answer to the protocol.
func (s *Server) begin(c *loop.Conn) {
	h := s.frame(c)
	if h == nil {
		c.CloseAfterFlush(errRefused, handshakeLimit)
		return
	}
	c.SetHandler(h)
}

var errRefused = &Error{Code: Policy, Text: "connection refused"}

func (u *opening) refuse(b []byte, r *Refusal) (int, error) {
	u.s.refused[r.Reason].Inc()
	u.c.SetOut(r.append(u.c.Out()))
	return len(b), r
}

// Writable implements loop.Handler.
func (u *opening) Writable() {}

// Closed implements loop.Handler.
func (u *opening) Closed(err error) {
	u.c.Loop().Disarm(&u.timer)
	var r *Refusal
	if !errors.As(err, &r) && !errors.Is(err, io.EOF) && !errors.Is(err, loop.ErrStopped) {
		u.s.refused[refusedMalformed].Inc()
	}
}

// Expire implements loop.Expirer.
func (u *opening) Expire(*loop.Timer, int64) {
	defer u.c.Recover()
	if u.unknown { // who has said nothing gets no answer in HTTP
		u.s.refused[refusedTimeout].Inc()
		u.c.Close(&Refusal{Status: 408, Reason: refusedTimeout, Text: "nothing came in time"})
		return
	}
	r := &Refusal{Status: 408, Reason: refusedTimeout, Text: "the request did not come in time"}
	_, _ = u.refuse(nil, r)
	u.c.CloseAfterFlush(r, handshakeLimit)
}

// asError is errors.As for the framing's own errors.
func asError(err error) (e *Error, ok bool) {
	ok = errors.As(err, &e)
	return e, ok
}
