package coap

import (
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	mathrand "math/rand/v2"
	"net/netip"
	"slices"

	"github.com/windrose-edc/windrose/internal/dtls"
	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/retain"
	"github.com/windrose-edc/windrose/internal/session"
)

// Deps is what a server works with. Immutable; Auth and Chain are asked for each client.
type Deps struct {
	Loops    []*loop.Loop
	Hosts    []*session.Host // by loop
	Retained *retain.Store
	Auth     func() *identity.Chain
	Chain    func() *policy.Chain
	Metrics  *observe.Registry
	Logger   *slog.Logger
	Security Security // of transport dtls
}

// Server is a CoAP listener's protocol end. Immutable after NewServer except its counters; safe for concurrent use.
type Server struct {
	name  string
	cfg   *settings
	deps  Deps
	desks []*desk      // by loop
	grams []*datagrams // by loop; nil: no socket yet. Each is touched on its loop only
	n     *counters
	admit func(netip.Addr) bool // nil: everybody
	dtls  *dtls.Server          // nil: another transport
}

// counters are what a listener counts, on all loops. Safe for concurrent use.
type counters struct {
	requests, duplicates, ignored, bad, badOptions       *observe.Counter
	echoes, withheld, retransmissions, timeouts          *observe.Counter
	notifications, coalesced, overflow, transfersDropped *observe.Counter
	unauthorized, refused, evicted, forgotten            *observe.Counter
	peers, observers                                     *observe.Gauge
}

func newCounters(m *observe.Registry, listener string) *counters {
	drop := func(reason string) *observe.Counter {
		return m.Counter("windrose_coap_dropped_messages_total", "Messages that were not acted upon, or not sent, by reason.", "listener", listener, "reason", reason)
	}
	return &counters{
		requests:         m.Counter("windrose_coap_received_requests_total", "Requests that came, duplicates included.", "listener", listener),
		duplicates:       m.Counter("windrose_coap_duplicate_requests_total", "Requests that came again and were not done again.", "listener", listener),
		notifications:    m.Counter("windrose_coap_notified_events_total", "Notifications to observers.", "listener", listener),
		retransmissions:  m.Counter("windrose_coap_sent_again_messages_total", "Confirmable messages that were sent again.", "listener", listener),
		echoes:           m.Counter("windrose_coap_echo_requests_total", "Requests whose sender was asked to show that it is reachable.", "listener", listener),
		ignored:          drop("not_a_request"),
		bad:              drop("malformed"),
		badOptions:       drop("bad_option"),
		withheld:         drop("amplification"),
		timeouts:         drop("no_acknowledgement"),
		overflow:         drop("queue_full"),
		coalesced:        drop("newer_value"),
		transfersDropped: drop("transfer_given_up"),
		unauthorized:     drop("unauthorized"),
		refused:          drop("no_room"),
		evicted:          drop("peer_evicted"),
		forgotten:        drop("duplicate_forgotten_early"),
		peers:            m.Gauge("windrose_coap_known_peers", "Addresses of which something is remembered.", "listener", listener),
		observers:        m.Gauge("windrose_coap_open_subscriptions", "Observations.", "listener", listener),
	}
}

func (n *counters) malformed(err error) {
	if err != nil {
		n.bad.Inc()
	}
}

// NewServer makes the protocol end of the listener of that name.
func NewServer(name string, spec ListenerSpec, d Deps) (*Server, error) {
	cfg, err := spec.settings(name, len(d.Loops))
	if err != nil {
		return nil, err
	}
	var key echoKey
	_, _ = rand.Read(key[:]) // never fails (crypto/rand)
	n := newCounters(d.Metrics, name)
	s := &Server{name: name, cfg: cfg, deps: d, n: n, grams: make([]*datagrams, len(d.Loops))}
	if s.admit, err = spec.Admits(); err != nil {
		return nil, err
	}
	for i := range d.Loops {
		var seed [16]byte
		_, _ = rand.Read(seed[:])
		s.desks = append(s.desks, &desk{cfg: cfg, host: d.Hosts[i], retained: d.Retained, auth: d.Auth, chain: d.Chain, echo: &key, n: n,
			chance: mathrand.New(mathrand.NewPCG(binary.LittleEndian.Uint64(seed[:]), binary.LittleEndian.Uint64(seed[8:])))})
	}
	if spec.Transport == overDTLS {
		if err := s.secure(&spec); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Packets is the handler of a loop's socket.
func (s *Server) Packets(p *loop.Packets) loop.PacketHandler {
	i := slices.Index(s.deps.Loops, p.Loop())
	g := newDatagrams(s.desks[i], p.Send)
	g.admit = s.admit
	s.grams[i] = g
	if s.dtls != nil {
		g.secure = &secured{g: g, peers: make(map[netip.AddrPort]*dtls.Peer)}
		g.send = g.secure.send
		return &gate{g: g, next: s.dtls.Packets(p, g.secure)}
	}
	return g
}

// Accept gives a new connection its handler (RFC 8323).
func (s *Server) Accept(c *loop.Conn) loop.Handler {
	t := &stream{end0: c}
	t.d, t.via = s.desks[c.Loop().ID()], t
	t.cred.Remote, t.cred.Certificates = c.RemoteAddr(), c.PeerCertificates()
	if n := s.cfg.maxMessage() + streamHead; n > 1<<20 {
		c.SetMaxPartial(n)
	}
	s.n.peers.Add(1)
	t.begin()
	return t
}

// Peers is how many addresses are known. Any goroutine.
func (s *Server) Peers() int64 { return s.n.peers.Value() }

// Stop ends what is known of every peer, on each loop; it waits for handshakes only, which it ends. Not on a loop.
func (s *Server) Stop() {
	for i, l := range s.deps.Loops {
		l.Post(func() {
			if g := s.grams[i]; g != nil {
				g.close(session.Removed)
			}
		})
	}
	if s.dtls != nil {
		s.dtls.Close()
	}
}

// MaxDatagram is the longest datagram that is taken, in bytes: a block of 1,024 with options beside it.
const MaxDatagram = 2048
