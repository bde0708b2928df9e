package coap

import (
	"time"

	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/protocol/coap/wire"
	"github.com/windrose-edc/windrose/internal/session"
)

// flight is a confirmable message on its way, or one that waits for its turn. Owned by its peer.
type flight struct {
	b     []byte // the datagram
	id    uint16
	tries int
	wait  int64 // until the next try
	next  int64 // when it is
	obs   *observation
	note  uint16 // of the delivery; 0: none
	ping  bool
}

// queueMax bounds the confirmable messages of one peer that wait for the one on its way (NSTART is 1: RFC 7252, section 4.7).
const queueMax = 64

// peer is an endpoint behind datagrams. Owned by its loop.
type peer struct {
	client
	g      *datagrams
	addr   loop.PacketAddr
	proven bool // it has shown that it is reachable
	in     int64
	out    int64
	mid    uint16
	heard  int64 // when it was heard of last
	fly    *flight
	queue  []*flight
	timer  loop.Timer
	at     int64 // when the timer is due; 0: it is not armed

	older, younger *peer
}

// link puts the peer behind all others.
func (p *peer) link() {
	g := p.g
	p.older, p.younger = g.last, nil
	if g.last != nil {
		g.last.younger = p
	} else {
		g.first = p
	}
	g.last = p
}

func (p *peer) unlink() {
	g := p.g
	if p.older != nil {
		p.older.younger = p.younger
	} else {
		g.first = p.younger
	}
	if p.younger != nil {
		p.younger.older = p.older
	} else {
		g.last = p.older
	}
	p.older, p.younger = nil, nil
}

// met notes that a valid message came from the peer.
func (p *peer) met(from loop.PacketAddr, now int64, size int) {
	p.addr, p.heard = from, now
	p.in += int64(size)
	if p.g.last != p {
		p.unlink()
		p.link()
	}
}

// spend says whether n bytes may go to the peer, and counts them.
func (p *peer) spend(n int) bool {
	if !p.proven && (n > firstMax || p.out+int64(n) > amplification*p.in) {
		p.g.n.withheld.Inc()
		return false
	}
	p.out += int64(n)
	return true
}

func (p *peer) affords(x *exchange, n int) bool {
	n += 4 + len(x.token.bytes())
	return p.proven || n <= firstMax && p.out+int64(n) <= amplification*p.in
}

func (p *peer) reachable() bool { return p.proven }

func (p *peer) big() (szx uint8, bert int) { return p.g.cfg.szx, 0 }

func (p *peer) nextID() uint16 {
	p.mid++
	return p.mid
}

func (p *peer) empty(t wire.Type, id uint16) {
	p.g.out = wire.AppendEmpty(p.g.out[:0], t, id)
	if p.spend(len(p.g.out)) {
		p.g.send(p.addr, p.g.out)
	}
}

// answer implements carrier: in the acknowledgement, as a separate response, or as a NON (RFC 7252, section 5.2).
func (p *peer) answer(x *exchange, r *reply) {
	g := p.g
	if x.unwanted(r.code) {
		if x.con && !x.acked {
			p.empty(wire.ACK, x.id)
			if x.known {
				g.heard.answered(x.number, g.out)
			}
		}
		return
	}
	m := wire.Message{Type: wire.ACK, Code: r.code, ID: x.id, Token: x.token.bytes(), Options: r.opts, Payload: r.payload}
	switch {
	case !x.con:
		m.Type, m.ID = wire.NON, p.nextID()
	case x.acked:
		m.Type, m.ID = wire.CON, p.nextID()
		p.launch(&flight{b: wire.Append(nil, &m), id: m.ID})
		return
	}
	g.out = wire.Append(g.out[:0], &m)
	if !p.spend(len(g.out)) {
		if r.code == wire.Unauthorized || !x.get { // what changes something is answered in few bytes
			m.Payload = nil
			if g.out = wire.Append(g.out[:0], &m); !p.spend(len(g.out)) {
				return
			}
		} else {
			p.answer(x, p.ask())
			return
		}
	}
	if x.known && x.con {
		g.heard.answered(x.number, g.out)
	}
	g.send(p.addr, g.out)
}

// ask is the reply that has the client show that it is reachable.
func (p *peer) ask() *reply {
	p.g.n.echoes.Inc()
	return p.g.challenge(p.g.place(p.addr.AddrPort), p.g.host.Now())
}

// notify implements carrier.
func (p *peer) notify(o *observation, r *reply, con bool, id uint16) bool {
	now := p.g.host.Now()
	if now-o.proof >= p.g.cfg.check { // RFC 7641, section 4.5; and that nobody floods who is gone
		con = true
	}
	m := wire.Message{Type: wire.NON, Code: r.code, ID: p.nextID(), Token: o.token.bytes(), Options: r.opts, Payload: r.payload}
	if !con {
		o.sent[o.sends%uint8(len(o.sent))] = m.ID
		o.sends++
		p.g.out = wire.Append(p.g.out[:0], &m)
		if p.spend(len(p.g.out)) {
			p.g.send(p.addr, p.g.out)
		}
		return false
	}
	m.Type = wire.CON
	o.proof = now
	return p.launch(&flight{b: wire.Append(nil, &m), id: m.ID, obs: o, note: id})
}

// room implements carrier.
func (p *peer) room() bool { return len(p.queue) < queueMax/2 }

// launch sends a confirmable message, or lets it wait behind the one that is on its way.
func (p *peer) launch(f *flight) bool {
	if p.fly != nil {
		if len(p.queue) >= queueMax {
			p.g.n.overflow.Inc()
			return false
		}
		p.queue = append(p.queue, f)
		return true
	}
	p.start(f)
	return true
}

func (p *peer) start(f *flight) {
	g, now := p.g, p.g.host.Now()
	p.fly = f
	// ACK_RANDOM_FACTOR is 1.5 (RFC 7252, section 4.2)
	f.wait = g.cfg.ackTimeout + g.chance.Int64N(g.cfg.ackTimeout/2+1)
	f.next = now + f.wait
	if p.spend(len(f.b)) {
		g.send(p.addr, f.b)
	}
	p.plan()
}

// landed ends the message that is on its way and starts the next.
func (p *peer) landed() {
	p.fly = nil
	for p.fly == nil && len(p.queue) > 0 && !p.gone {
		f := p.queue[0]
		p.queue[0] = nil
		if p.queue = p.queue[1:]; len(p.queue) == 0 {
			p.queue = nil
		}
		if f.obs != nil && f.obs.ended {
			p.noted(f.note)
			continue
		}
		p.start(f)
	}
	if s := p.s; s != nil && len(p.queue) == queueMax/2-1 {
		s.Writable()
	}
	p.plan()
}

// hears takes an acknowledgement or a reset.
func (p *peer) hears(m *wire.Message) {
	f := p.fly
	if f == nil || f.id != m.ID {
		if m.Type == wire.RST {
			p.disowned(m.ID)
		}
		return
	}
	p.heard = p.g.host.Now()
	if f.obs != nil {
		f.obs.proof = p.heard
	}
	if m.Type == wire.RST && f.obs != nil {
		p.cancel(f.obs)
	}
	p.noted(f.note)
	p.landed()
}

// disowned ends the observation of which a NON notification was reset (RFC 7641, section 3.6).
func (p *peer) disowned(id uint16) {
	for _, o := range p.obs {
		for i := range min(o.sends, uint8(len(o.sent))) {
			if o.sent[i] == id {
				p.heard = p.g.host.Now()
				p.cancel(o)
				return
			}
		}
	}
}

// awaits implements carrier.
func (p *peer) awaits(x *exchange) {
	if x.con {
		p.due(x.ackAt)
	}
}

// due has the timer fire not later than at.
func (p *peer) due(at int64) {
	if p.at != 0 && p.at <= at {
		return
	}
	p.at = at
	p.g.host.Clock().Arm(&p.timer, at)
}

// plan arms the timer for what comes first.
func (p *peer) plan() {
	if p.gone {
		return
	}
	if f := p.fly; f != nil {
		p.due(f.next)
	}
	for i := range p.awaited {
		if x := &p.awaited[i].x; x.con && !x.acked {
			p.due(x.ackAt)
		}
	}
	for _, u := range p.ups {
		p.due(u.at + int64(exchangeLifetime))
	}
	switch {
	case len(p.obs) > 0:
		p.due(p.heard + p.g.cfg.check)
	default:
		p.due(p.heard + p.g.cfg.idle)
	}
}

// idle says whether nothing is under way.
func (p *peer) idle() bool {
	return p.fly == nil && len(p.queue) == 0 && len(p.awaited) == 0 && len(p.ups) == 0
}

// Expire implements loop.Expirer.
func (p *peer) Expire(_ *loop.Timer, now int64) {
	p.at = 0
	if p.gone {
		return
	}
	for i := range p.awaited {
		if x := &p.awaited[i].x; x.con && !x.acked && x.ackAt <= now {
			x.acked = true
			p.empty(wire.ACK, x.id)
		}
	}
	p.dropTransfers(now)
	if f := p.fly; f != nil && f.next <= now && !p.retransmit(f, now) {
		return
	}
	if p.idle() && len(p.obs) == 0 && now-p.heard >= p.g.cfg.idle {
		p.forget(endIdle)
		return
	}
	if p.fly == nil && len(p.obs) > 0 && now-p.heard >= p.g.cfg.check {
		id := p.nextID()
		p.launch(&flight{b: wire.AppendEmpty(nil, wire.CON, id), id: id, ping: true})
	}
	p.plan()
}

// retransmit sends a message again, with twice the wait (RFC 7252, section 4.2). After the last try the peer is taken for gone;
// false: it was forgotten.
func (p *peer) retransmit(f *flight, now int64) bool {
	if f.tries >= p.g.cfg.retransmit {
		p.g.n.timeouts.Inc()
		if f.obs == nil && !f.ping { // a response that nobody took: its request is over
			p.landed()
			return true
		}
		p.forget(endLost)
		return false
	}
	f.tries++
	f.wait *= 2
	f.next = now + f.wait
	p.g.n.retransmissions.Inc()
	if p.spend(len(f.b)) {
		p.g.send(p.addr, f.b)
	}
	return true
}

// Why a client is forgotten, as sessions say it.
const (
	endIdle    = "idle"
	endLost    = "no acknowledgement"
	endStopped = "stopped"
	endTaken   = "taken_over"
	endKicked  = "kicked"
	endClosed  = "closed"
)

// endings are the words for what took the session away.
var endings = [...]string{session.TakenOver: endTaken, session.Shutdown: endStopped, session.Kicked: endKicked, session.OutboxFull: "outbox_full",
	session.Limited: "limit", session.Busy: "busy", session.Removed: endStopped, session.NoMemory: "busy"}

// end implements carrier. The observations end with the client: each hears 5.03 (RFC 7641, section 4.2).
func (p *peer) end(w session.Why) {
	if p.gone {
		return
	}
	for _, o := range p.obs {
		r := p.g.r.busy()
		m := wire.Message{Type: wire.NON, Code: r.code, ID: p.nextID(), Token: o.token.bytes(), Options: r.opts}
		p.g.out = wire.Append(p.g.out[:0], &m)
		if p.spend(len(p.g.out)) {
			p.g.send(p.addr, p.g.out)
		}
	}
	p.forget(endings[w])
	if p.g.secure != nil {
		p.g.secure.hangUp(p.addr.AddrPort)
	}
}

// forget drops all that is known of the peer.
func (p *peer) forget(why string) {
	if p.g.peers[p.addr.AddrPort] != p {
		return
	}
	delete(p.g.peers, p.addr.AddrPort)
	p.g.n.peers.Add(-1)
	p.unlink()
	p.g.host.Clock().Disarm(&p.timer)
	p.fly, p.queue = nil, nil
	p.close(why)
}

// describe implements carrier.
func (p *peer) describe(f *session.PeerFacts) {
	f.Protocol, f.Remote = "CoAP", p.g.place(p.addr.AddrPort)
	f.KeepAlive = time.Duration(0)
}
