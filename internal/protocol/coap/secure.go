package coap

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"strconv"

	"github.com/windrose-edc/windrose/internal/dtls"
	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/listen"
	"github.com/windrose-edc/windrose/internal/loop"
)

// secured is CoAP over DTLS (RFC 7252, section 9.1) on one loop: the message layer knows each peer under an address that is
// made of its number, so that exchanges, observations and blocks go on when the peer's own address changes (RFC 9146). Owned by
// its loop.
type secured struct {
	g     *datagrams
	peers map[netip.AddrPort]*dtls.Peer
}

// endpoint is the address under which the message layer knows a peer.
func endpoint(p *dtls.Peer) loop.PacketAddr {
	id := p.ID()
	b := [16]byte{0: 0xfd}
	for i := range 8 {
		b[15-i] = byte(id >> (8 * i))
	}
	return loop.PacketAddr{AddrPort: netip.AddrPortFrom(netip.AddrFrom16(b), 1)}
}

// Open implements dtls.Handler.
func (s *secured) Open(p *dtls.Peer) { s.peers[endpoint(p).AddrPort] = p }

// Data implements dtls.Handler.
func (s *secured) Data(p *dtls.Peer, b []byte) { s.g.Packet(endpoint(p), b) }

// Moved implements dtls.Handler: the client must show that it is reachable there before it gets much.
func (s *secured) Moved(p *dtls.Peer, _ loop.PacketAddr) {
	if c := s.g.peers[endpoint(p).AddrPort]; c != nil {
		c.proven, c.in, c.out = p.Confirmed(), 0, 0
	}
}

// Closed implements dtls.Handler.
func (s *secured) Closed(p *dtls.Peer, _ error) {
	a := endpoint(p).AddrPort
	delete(s.peers, a)
	if c := s.g.peers[a]; c != nil {
		c.forget(endClosed)
	}
}

// send is how the message layer reaches a peer. What it knows of the address counts for DTLS, too.
func (s *secured) send(to loop.PacketAddr, b []byte) {
	p := s.peers[to.AddrPort]
	if p == nil {
		return
	}
	if c := s.g.peers[to.AddrPort]; c != nil && c.proven && !p.Confirmed() {
		p.Confirm()
	}
	p.Send(b)
}

// hangUp ends the DTLS session of a client whose session was taken away.
func (s *secured) hangUp(a netip.AddrPort) {
	if p := s.peers[a]; p != nil {
		delete(s.peers, a)
		p.Close()
	}
}

// place is where an endpoint is: what an Echo option vouches for.
func (g *datagrams) place(a netip.AddrPort) netip.AddrPort {
	if g.secure != nil {
		if p := g.secure.peers[a]; p != nil {
			return p.Addr().AddrPort
		}
	}
	return a
}

// stranger is the name of a new client's session, what is known of who it is, and whether it is reachable where it is.
func (g *datagrams) stranger(a netip.AddrPort) (id string, c identity.Credentials, proven bool) {
	c.Remote = a
	if g.secure == nil {
		return a.String(), c, false
	}
	p := g.secure.peers[a]
	if p == nil {
		return a.String(), c, false
	}
	who := p.Identity()
	c.Remote, c.PSKIdentity, c.Certificates = p.Addr().AddrPort, who.PSK, who.Certificates
	return "dtls-" + strconv.FormatUint(p.ID(), 10), c, p.Confirmed()
}

// gate keeps out who may not write, before anything is computed. Owned by its loop.
type gate struct {
	g    *datagrams
	next loop.PacketHandler
}

// Packet implements loop.PacketHandler.
func (t *gate) Packet(from loop.PacketAddr, b []byte) {
	if t.g.admit != nil && !t.g.admit(from.Addr().Unmap()) {
		t.g.n.refused.Inc()
		return
	}
	t.next.Packet(from, b)
}

// Security is what a listener with transport dtls proves itself with. Immutable.
type Security struct {
	TLS  *listen.TLS // nil: no certificate
	Node uint16      // stands in Connection IDs
}

// certificates are those in force.
func (s *Security) certificates() *tls.Config {
	c := s.TLS.Config()
	if c.GetConfigForClient == nil {
		return c
	}
	now, err := c.GetConfigForClient(nil) // of listen.TLS: it chooses by nothing and cannot fail
	if err != nil {
		return c
	}
	return now
}

// secure makes the DTLS of a server.
func (s *Server) secure(spec *ListenerSpec) (err error) {
	o := dtls.Options{Name: s.name, Node: s.deps.Security.Node, NoCID: !spec.ConnectionID, Metrics: s.deps.Metrics,
		Logger: s.deps.Logger, Handshakes: spec.Handshakes, HandshakesPerPrefix: spec.HandshakesPerPrefix, Sessions: spec.Peers, IdleCID: spec.SleepsFor}
	if s.deps.Security.TLS != nil {
		o.TLS = s.deps.Security.certificates
	}
	if !spec.PSK.IsZero() {
		keys, err := identity.ParsePSK(spec.PSK.Name(), []byte(spec.PSK.Reveal()))
		if err != nil {
			return err
		}
		o.Keys = keys
	}
	if o.Keys == nil && o.TLS == nil {
		return errors.New("transport dtls needs psk, the table of pre-shared keys, or tls")
	}
	s.dtls, err = dtls.New(o)
	return err
}
