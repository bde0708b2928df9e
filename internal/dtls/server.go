// Package dtls is the datagram front of protocols that are secured by DTLS 1.2 (RFC 6347) with pre-shared keys (RFC 4279) or
// certificates, and Connection IDs (RFC 9146).
//
// The front answers a first ClientHello with a cookie that it does not remember (RFC 6347, section 4.2.1): what costs memory
// begins with an address that has shown that it is reachable. Then pion/dtls does the handshake, in goroutines, within a
// deadline and under caps; afterwards the front takes the keys and protects records itself, on the loop that owns the socket:
// an established peer has no goroutine, no channel and no buffer.
//
// # Concurrency
//
// A Server is safe for concurrent use. Each loop has a front, which owns the loop's peers; a Handler and the methods of a Peer
// are called on that loop only. A record whose Connection ID names another loop is given to that loop's front through a bounded
// inbox. Handshakes run in goroutines, which reach their front by loop.Post only.
package dtls

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/observe"
)

// Handler is what a protocol is over DTLS. It is called on the loop that owns the peer, and may call the peer's methods.
type Handler interface {
	// Open is the first call for a peer: its handshake succeeded, so its address and identity are proven.
	Open(p *Peer)
	// Data is called for each record of application data; b is valid during the call.
	Data(p *Peer, b []byte)
	// Moved is called before Data when a peer's Connection ID came from another address, in an authentic record that is newer
	// than all before (RFC 9146, section 6). p.Addr is the new address, from the old one. Until Peer.Confirm no more than three
	// times the bytes that came from there are sent there.
	Moved(p *Peer, from loop.PacketAddr)
	// Closed is the last call, except after Peer.Close, which makes none. err is nil when the peer said goodbye.
	Closed(p *Peer, err error)
}

// Keys is a table of pre-shared keys (identity.PSKTable is one). Safe for concurrent use.
type Keys interface {
	Lookup(identity string) (key []byte, ok bool)
}

// Options of a Server. The zero value of a number takes the default that stands beside it. Immutable after New.
type Options struct {
	Name   string             // of the listener: for metrics and logs
	Keys   Keys               // nil: no pre-shared keys
	TLS    func() *tls.Config // certificates, client authorities and ClientAuth for each handshake; nil: no certificates
	Node   uint16             // stands in Connection IDs
	NoCID  bool               // Connection IDs are not negotiated
	Logger *slog.Logger       // nil: nobody is told
	// Metrics may be nil.
	Metrics *observe.Registry

	Handshakes          int           // under way at the same time; 512
	HandshakesPerPrefix int           // of one /24 (IPv4) or /48 (IPv6); 64
	HandshakeTimeout    time.Duration // 5 s
	Sessions            int           // established peers; from then on the one that was silent longest gives way; 100,000
	Idle                time.Duration // silence after which a peer without Connection ID is forgotten; 15 min
	IdleCID             time.Duration // the same with Connection ID, where a device may sleep; 7 days
}

func (o Options) withDefaults() Options {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&o.Handshakes, 512)
	def(&o.HandshakesPerPrefix, 64)
	def(&o.Sessions, 100_000)
	for _, t := range []struct {
		v *time.Duration
		d time.Duration
	}{{&o.HandshakeTimeout, 5 * time.Second}, {&o.Idle, 15 * time.Minute}, {&o.IdleCID, 7 * 24 * time.Hour}} {
		if *t.v <= 0 {
			*t.v = t.d
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = observe.NewRegistry()
	}
	return o
}

// What a peer ends with.
var (
	ErrIdle     = errors.New("silent for too long")
	ErrEvicted  = errors.New("room was needed for another peer")
	ErrReplaced = errors.New("a new handshake from the same address")
	ErrAlert    = errors.New("the peer sent a fatal alert")
	ErrStopped  = errors.New("stopped")
	ErrWornOut  = errors.New("the keys protected as much as they may")
)

// maxLoops is how many loops a Connection ID can name.
const maxLoops = 256

// Server is DTLS on all loops of a listener. Immutable after New but for what says otherwise; safe for concurrent use.
type Server struct {
	o       Options
	n       *counters
	cookies cookies
	dummy   [32]byte // makes the keys of identities that do not exist
	fronts  [maxLoops]atomic.Pointer[front]
	ids     atomic.Uint64
	peers   atomic.Int64

	ctx    context.Context // of the handshakes
	cancel context.CancelFunc
	wg     sync.WaitGroup // counts handshakes

	mu       sync.Mutex // guards what follows
	closed   bool
	total    int // handshakes under way
	byPrefix map[netip.Prefix]int
}

// New makes a server without sockets. It fails where neither keys nor certificates are given, and where the DTLS library is
// not the one that this package knows.
func New(o Options) (*Server, error) {
	o = o.withDefaults()
	if o.Keys == nil && o.TLS == nil {
		return nil, errors.New("dtls needs pre-shared keys or a certificate")
	}
	if err := checkLibrary(); err != nil {
		return nil, err
	}
	s := &Server{o: o, n: newCounters(o.Metrics, o.Name), byPrefix: make(map[netip.Prefix]int)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	_, _ = rand.Read(s.cookies.secret[:]) // never fails (crypto/rand)
	_, _ = rand.Read(s.dummy[:])
	return s, nil
}

// Packets is the handler of a loop's socket: for the function that loop.Group.ListenPackets is given. h hears of this loop's
// peers. On the loop.
func (s *Server) Packets(p *loop.Packets, h Handler) loop.PacketHandler {
	return s.attach(p.Loop(), p.Send, h)
}

func (s *Server) attach(l *loop.Loop, send func(loop.PacketAddr, []byte), h Handler) *front {
	f := newFront(s, l, send, h)
	s.fronts[l.ID()%maxLoops].Store(f)
	return f
}

// Peers is how many peers are established.
func (s *Server) Peers() int { return int(s.peers.Load()) }

// Close ends handshakes and peers, who are told, and waits for the goroutines. What comes later is dropped. Not on a loop.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
	for i := range s.fronts {
		if f := s.fronts[i].Load(); f != nil {
			f.loop.Post(f.stop)
		}
	}
}

// prefixOf is whom the cap of handshakes counts together.
func prefixOf(a netip.Addr) netip.Prefix {
	bits := 48
	if a = a.Unmap(); a.Is4() {
		bits = 24
	}
	p, _ := a.WithZone("").Prefix(bits)
	return p
}

// begin takes room for a handshake and runs it; false: there is none, counted.
func (s *Server) begin(from netip.Addr, run func()) bool {
	p := prefixOf(from)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		s.n.refused[refusedStopped].Inc()
		return false
	case s.total >= s.o.Handshakes:
		s.n.refused[refusedTotal].Inc()
		return false
	case s.byPrefix[p] >= s.o.HandshakesPerPrefix:
		s.n.refused[refusedPrefix].Inc()
		return false
	}
	s.total++
	s.byPrefix[p]++
	s.n.halfOpen.Add(1)
	s.wg.Go(func() {
		defer s.end(p)
		run()
	})
	return true
}

// end gives the room back.
func (s *Server) end(p netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n.halfOpen.Add(-1)
	s.total--
	if s.byPrefix[p]--; s.byPrefix[p] <= 0 {
		delete(s.byPrefix, p)
	}
}

// Identity is what the handshake proved of a peer. Immutable.
type Identity struct {
	PSK          string              // the identity whose key the peer has
	Certificates []*x509.Certificate // the peer's chain, verified, its own first
}
