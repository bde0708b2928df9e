package coap

import (
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	mathrand "math/rand/v2"
	"net/netip"
	"slices"

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
}

// Server is a CoAP listener's protocol end. Immutable after NewServer except its counters; safe for concurrent use.
type Server struct {
	name  string
	cfg   *settings
	deps  Deps
	desks []*desk // by loop
	nets  []netip.Prefix
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
		notifications:    m.Counter("windrose_coap_sent_notifications_total", "Notifications to observers.", "listener", listener),
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
	s := &Server{name: name, cfg: cfg, deps: d}
	n := newCounters(d.Metrics, name)
	for i := range d.Loops {
		var seed [16]byte
		_, _ = rand.Read(seed[:])
		s.desks = append(s.desks, &desk{cfg: cfg, host: d.Hosts[i], retained: d.Retained, auth: d.Auth, chain: d.Chain, echo: &key, n: n,
			chance: mathrand.New(mathrand.NewPCG(binary.LittleEndian.Uint64(seed[:]), binary.LittleEndian.Uint64(seed[8:])))})
	}
	return s, nil
}

// Packets is the handler of a loop's socket.
func (s *Server) Packets(p *loop.Packets) loop.PacketHandler {
	return newDatagrams(s.desks[slices.Index(s.deps.Loops, p.Loop())], p.Send)
}

// MaxDatagram is the longest datagram that is taken, in bytes: a block of 1,024 with options beside it.
const MaxDatagram = 2048
