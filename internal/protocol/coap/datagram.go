package coap

import (
	"net/netip"
	"time"

	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/protocol/coap/wire"
	"github.com/windrose-edc/windrose/internal/session"
)

const (
	// ackDelay is how long a response may take to travel in the acknowledgement (RFC 7252, section 5.2.1; it must stay below
	// ACK_TIMEOUT).
	ackDelay = 500 * time.Millisecond
	// firstMax is the longest datagram to an address that has not shown that it is reachable (RFC 9175, section 2.4).
	firstMax = 136
	// amplification bounds the bytes to such an address, in times of those from it (RFC 9175, section 2.4).
	amplification = 3
	// duplicateBytes bounds the answers that one loop keeps for duplicates.
	duplicateBytes = 16 << 20
)

// datagrams is the message layer of RFC 7252 (section 4) on one loop's socket. Owned by its loop.
type datagrams struct {
	*desk
	send  func(to loop.PacketAddr, b []byte)
	peers map[netip.AddrPort]*peer
	first *peer // the one that was heard of longest ago
	last  *peer
	heard *dedup
	in    wire.Message
	x     exchange // of the request that is taken
	out   []byte
	admit func(netip.Addr) bool // nil: everybody

	secure *secured // nil: datagrams are not protected
}

func newDatagrams(d *desk, send func(to loop.PacketAddr, b []byte)) *datagrams {
	return &datagrams{desk: d, send: send, peers: make(map[netip.AddrPort]*peer), heard: newDedup(d.cfg.duplicates, duplicateBytes)}
}

// Packet implements loop.PacketHandler. What must not be answered is not: resets, acknowledgements, responses, other versions,
// and what is too short to say what it is (RFC 7252, sections 3 and 4.2).
func (g *datagrams) Packet(from loop.PacketAddr, b []byte) {
	if g.secure == nil && g.admit != nil && !g.admit(from.Addr().Unmap()) {
		g.n.refused.Inc()
		return
	}
	m := &g.in
	err := wire.Parse(b, m)
	if len(b) < 4 || b[0]>>6 != 1 {
		g.n.ignored.Inc()
		return
	}
	switch {
	case m.Type == wire.ACK || m.Type == wire.RST:
		if p := g.peers[from.AddrPort]; p != nil && err == nil {
			p.hears(m)
		}
	case err != nil, m.Code == wire.Empty:
		g.n.malformed(err)
		if m.Type == wire.CON && !m.Code.IsResponse() { // malformed, or a ping (RFC 7252, sections 4.2 and 4.3)
			g.reset(from, m.ID)
		}
	case m.Code.IsRequest():
		g.request(from, m, len(b))
	case m.Code.IsResponse() || m.Type == wire.NON:
		g.n.ignored.Inc()
	default: // a code of a reserved class
		g.n.ignored.Inc()
		g.reset(from, m.ID)
	}
}

func (g *datagrams) reset(to loop.PacketAddr, id uint16) {
	g.out = wire.AppendEmpty(g.out[:0], wire.RST, id)
	g.send(to, g.out)
}

// request takes a request. Nothing is remembered of an address before its request turns out to be one.
func (g *datagrams) request(from loop.PacketAddr, m *wire.Message, size int) {
	now := g.host.Now()
	g.n.requests.Inc()
	x := &g.x
	*x = exchange{token: keepToken(m.Token), id: m.ID, con: m.Type == wire.CON, get: m.Code == wire.GET, in: size}
	if v, ok := m.Options.Usable(wire.NoResponse); ok {
		x.silent = byte(wire.Uint(v))
	}
	p := g.peers[from.AddrPort]
	if p != nil {
		p.met(from, now, size)
	}
	// A read may be done again instead of remembering it (RFC 7252, section 4.5): so the table is for what changes something.
	key := exchangeKey{from, m.ID}
	if !x.get {
		if n, ok := g.heard.find(key, now); ok {
			g.again(from, p, n, x)
			return
		}
	}
	if n, bad := m.Options.Problem(); bad {
		g.n.badOptions.Inc()
		if !x.con { // RFC 7252, section 5.4.1: rejected
			return
		}
		g.refuse(from, p, x, g.r.fail(wire.BadOption, badOption(n)))
		return
	}
	res, why := g.route(m)
	if why != nil {
		g.refuse(from, p, x, why)
		return
	}
	if p == nil {
		if p, why = g.meet(from, m, now, size); why != nil {
			g.refuse(from, nil, x, why)
			return
		}
	}
	if v, ok := m.Options.Usable(wire.Echo); ok && !p.proven {
		p.proven = g.echo.fresh(v, g.place(from.AddrPort), now)
	}
	if !x.get {
		life := exchangeLifetime
		if !x.con {
			life = nonLifetime
		}
		x.number, x.known = g.heard.add(key, now, life), true
		if n := g.heard.early; n > 0 {
			g.heard.early = 0
			g.n.forgotten.Add(n)
		}
	}
	p.handle(x, m, res)
}

// again answers a duplicate with what the first was answered with, or lets it wait for that.
func (g *datagrams) again(from loop.PacketAddr, p *peer, n uint64, x *exchange) {
	g.n.duplicates.Inc()
	if !x.con { // RFC 7252, section 4.3
		return
	}
	if b := g.heard.at(n).answer(); len(b) > 0 {
		if p == nil && len(b) <= amplification*x.in || p != nil && p.spend(len(b)) {
			g.send(from, b)
		}
		return
	}
	if p == nil {
		return
	}
	for i := range p.awaited {
		if w := &p.awaited[i].x; w.known && w.number == n && w.acked {
			p.empty(wire.ACK, w.id)
		}
	}
}

// refuse answers a request before, or without, a client. To an address that is not known it never says more than it may.
func (g *datagrams) refuse(from loop.PacketAddr, p *peer, x *exchange, r *reply) {
	if p != nil {
		p.answer(x, r)
		return
	}
	if x.unwanted(r.code) {
		if x.con {
			g.out = wire.AppendEmpty(g.out[:0], wire.ACK, x.id)
			g.send(from, g.out)
		}
		return
	}
	m := wire.Message{Type: wire.ACK, Code: r.code, ID: x.id, Token: x.token.bytes(), Options: r.opts, Payload: r.payload}
	if !x.con {
		m.Type, m.ID = wire.NON, uint16(g.chance.Uint32())
	}
	g.out = wire.Append(g.out[:0], &m)
	if len(g.out) > amplification*x.in || len(g.out) > firstMax {
		m.Payload = nil
		g.out = wire.Append(g.out[:0], &m)
	}
	if len(g.out) <= amplification*x.in {
		g.send(from, g.out)
	}
}

// meet makes a peer of an address. From three quarters of the bound on only of one that shows that it is reachable, so that
// forged addresses cannot fill the table.
func (g *datagrams) meet(from loop.PacketAddr, m *wire.Message, now int64, size int) (*peer, *reply) {
	id, cred, proven := g.stranger(from.AddrPort)
	if v, ok := m.Options.Usable(wire.Echo); ok && !proven {
		proven = g.echo.fresh(v, cred.Remote, now)
	}
	if !proven && len(g.peers) >= g.cfg.peers/4*3 {
		g.n.echoes.Inc()
		return nil, g.challenge(cred.Remote, now)
	}
	if len(g.peers) >= g.cfg.peers && !g.makeRoom() {
		g.n.refused.Inc()
		return nil, g.r.busy()
	}
	p := &peer{g: g, addr: from, proven: proven, mid: uint16(g.chance.Uint32())}
	p.d, p.via = g.desk, p
	p.timer.Init(p)
	if why := p.open("coap:"+g.cfg.name+"/"+id, &cred, 1); why != nil {
		return nil, why
	}
	g.peers[from.AddrPort] = p
	g.n.peers.Add(1)
	p.link()
	p.met(from, now, size)
	p.plan()
	return p, nil
}

// challenge is 4.01 with an Echo option (RFC 9175, section 2.3).
func (g *datagrams) challenge(a netip.AddrPort, now int64) *reply {
	var b [echoSize]byte
	g.r.reset(wire.Unauthorized).option(wire.Echo, g.echo.append(b[:0], a, now))
	return &g.r
}

// roomLooks bounds the peers that are looked at for one that can be forgotten.
const roomLooks = 16

// makeRoom forgets a peer that has nothing under way, one of those that were heard of longest ago.
func (g *datagrams) makeRoom() bool {
	for p, n := g.first, 0; p != nil && n < roomLooks; p, n = p.younger, n+1 {
		if p.idle() && len(p.obs) == 0 {
			g.n.evicted.Inc()
			p.forget(endIdle)
			return true
		}
	}
	return false
}

// close forgets everybody.
func (g *datagrams) close(w session.Why) {
	for g.first != nil {
		g.first.end(w)
	}
}
