package mqtt

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"syscall"
	"time"

	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
	"github.com/windrose-edc/windrose/internal/session"
	"github.com/windrose-edc/windrose/internal/ws"
)

// Deps is what a server works with. Immutable; Auth is asked for each connection.
type Deps struct {
	Loops   []*loop.Loop
	Hosts   []*session.Host // by loop
	Auth    func() *identity.Chain
	Slow    func(work func()) bool // runs work beside the loops; false when too much is waiting
	Metrics *observe.Registry
	Logger  *slog.Logger
	Limited *observe.LimitedLogger   // for lines that a peer can cause; may be nil
	Refused func(r *session.Refusal) // hears of each connection that gets no session, on its loop; may be nil
}

// Server is an MQTT listener's protocol end. Immutable after NewServer except its counters; safe for concurrent use.
type Server struct {
	name    string
	cfg     *settings
	deps    Deps
	scratch []*scratch // by loop
	ends    map[string]*observe.Counter
	opened  *observe.Counter
}

// Why a connection ended, as the metric says it.
const (
	endClient    = "client"
	endEOF       = "peer_closed"
	endKeepAlive = "keep_alive"
	endTakeover  = "taken_over"
	endKicked    = "kicked"
	endRefused   = "refused"
	endProtocol  = "protocol_error"
	endStopped   = "stopped"
	endTimeout   = "connect_timeout"
	endOverflow  = "outbox_full"
	endLimit     = "limit"
	endBusy      = "busy"
	endRejected  = "rejected"
	endPassword  = "bad_credentials"
	endRights    = "not_authorized"
	endClientID  = "client_id"
	endVersion   = "version"
	endExpired   = "expired"
	endOther     = "other"
)

// NewServer makes the protocol end of the listener of that name.
func NewServer(name string, spec ListenerSpec, d Deps) (*Server, error) {
	cfg, err := spec.settings(name, d.Hosts[0].Limits().Receive)
	if err != nil {
		return nil, err
	}
	s := &Server{name: name, cfg: cfg, deps: d, ends: make(map[string]*observe.Counter)}
	for range d.Loops {
		s.scratch = append(s.scratch, &scratch{})
	}
	for _, r := range []string{endClient, endEOF, endKeepAlive, endTakeover, endKicked, endRefused, endProtocol, endStopped, endTimeout, endOverflow,
		endLimit, endBusy, endRejected, endPassword, endRights, endClientID, endVersion, endExpired, endOther} {
		s.ends[r] = d.Metrics.Counter("windrose_mqtt_ended_connections_total", "Connections that ended, by reason.", "listener", name, "reason", r)
	}
	s.opened = d.Metrics.Counter("windrose_mqtt_accepted_connections_total", "Connections that were accepted.", "listener", name)
	return s, nil
}

// packetHead is the length of the longest fixed header.
const packetHead = 5

// PartialDefault is the bound on kept input for which the loops should be made: that of a listener with defaults.
const PartialDefault = 1<<20 + packetHead

// Accept gives a new connection its handler.
func (s *Server) Accept(c *loop.Conn) loop.Handler {
	s.opened.Inc()
	h := &conn{srv: s, c: c}
	h.timer.Init(h)
	if n := int(s.cfg.maxPacket) + packetHead; n > PartialDefault { // it costs memory for each connection
		c.SetMaxPartial(n)
	}
	h.init(h, s.cfg)
	return h
}

// refusals are the ends that the log tells about, at a limited rate.
var refusals = []string{endRefused, endPassword, endRights, endClientID, endVersion, endBusy, endLimit, endOverflow, endTimeout}

func (s *Server) closed(c *conn, err error) {
	why := reasonOf(err)
	s.ends[why].Inc()
	if c.refused && s.deps.Refused != nil {
		r := session.Refusal{Listener: s.name, Protocol: "mqtt", Reason: why, Remote: c.c.RemoteAddr(), Host: c.Host()}
		if h := c.hello; h != nil {
			r.Client, r.User = h.req.ClientID, h.cred.Username
		}
		s.deps.Refused(&r)
	}
	if s.deps.Limited != nil && (err != nil && (why == endProtocol || slices.Contains(refusals, why))) {
		s.deps.Limited.Info(s.name+why, "connection ended", slog.String("listener", s.name),
			slog.String("remote", c.c.RemoteAddr().String()), slog.String("reason", err.Error()))
	}
}

func reasonOf(err error) string {
	var we *wire.Error
	var framing *ws.Error
	switch {
	case err == nil, errors.Is(err, errBye):
		return endClient
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return endEOF
	case errors.Is(err, errKeepAlive):
		return endKeepAlive
	case errors.Is(err, errExpired):
		return endExpired
	case errors.Is(err, kicked[session.TakenOver]):
		return endTakeover
	case errors.Is(err, kicked[session.Kicked]):
		return endKicked
	case errors.Is(err, kicked[session.Shutdown]), errors.Is(err, kicked[session.Removed]), errors.Is(err, loop.ErrStopped):
		return endStopped
	case errors.Is(err, errNoConnect), errors.Is(err, errNoAuth):
		return endTimeout
	case errors.Is(err, errRejected):
		return endRejected
	case errors.Is(err, kicked[session.OutboxFull]):
		return endOverflow
	case errors.Is(err, kicked[session.Limited]), errors.Is(err, errHoldFull):
		return endLimit
	case errors.Is(err, kicked[session.Busy]), errors.Is(err, kicked[session.NoMemory]), errors.Is(err, loop.ErrOutputFull):
		return endBusy
	case errors.As(err, &we):
		if why := refusedBy[we.Code]; why != "" {
			return why
		}
		return endProtocol
	case errors.As(err, &framing):
		if framing.Code == ws.Policy {
			return endRefused
		}
		return endProtocol
	}
	return endOther
}

// refusedBy are the reasons that are no fault of the packet, as the metric says them.
var refusedBy = map[wire.Reason]string{wire.NotAuthorized: endRights, wire.BadUserNameOrPassword: endPassword, wire.ClientIDNotValid: endClientID,
	wire.ServerUnavailable: endBusy, wire.QuotaExceeded: endRefused, wire.UnsupportedVersion: endVersion, wire.BadAuthMethod: endRefused,
	wire.ServerBusy: endBusy, wire.UseAnotherServer: endStopped, wire.ServerMoved: endStopped}

func contextFor(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}
