package dtls

import "github.com/windrose-edc/windrose/internal/loop"

// amplification bounds the bytes to an address that is not confirmed, in times of those from it.
const amplification = 3

// finalTimes bounds how often the last flight of a handshake is sent again.
const finalTimes = 16

// Peer is one end that has proven who it is. Owned by its loop.
type Peer struct {
	// Value is the protocol's own.
	Value any

	f       *front
	id      uint64
	addr    loop.PacketAddr
	home    loop.PacketAddr // the last address that was confirmed
	proven  bool            // addr is confirmed
	hasOwn  bool
	gone    bool
	again   uint8  // times that final was sent again
	in, sum uint32 // bytes from and to addr while it is not confirmed
	own     cid
	peerCID []byte
	who     Identity
	keys    keys
	final   []byte // our last flight, until the peer shows that it has it (RFC 6347, section 4.2.4)
	last    int64  // when it was heard of

	older, younger *Peer
}

// list is peers by when they were heard of. Owned by its front.
type list struct{ first, last *Peer }

// ID is the peer's number in its Server: never used twice.
func (p *Peer) ID() uint64 { return p.id }

// Addr is where the peer's newest record came from.
func (p *Peer) Addr() loop.PacketAddr { return p.addr }

// Identity is what the handshake proved.
func (p *Peer) Identity() *Identity { return &p.who }

// HasCID says whether the peer will be known when its address changes.
func (p *Peer) HasCID() bool { return p.hasOwn }

// Confirmed says whether the peer has shown that it is reachable at Addr.
func (p *Peer) Confirmed() bool { return p.proven }

// Confirm tells that the peer answered something that only its address was told since it moved (an Echo option, an
// acknowledgement of an unpredictable message): from now on there is no bound on what is sent there.
func (p *Peer) Confirm() { p.proven, p.home = true, p.addr }

// Send protects b and sends it at the end of the turn; b is not kept. false: the peer is gone, b is longer than a record may be
// (16 KiB), or the address is not confirmed and would get more than three times what came from it.
func (p *Peer) Send(b []byte) bool { return p.write(typeData, b) }

func (p *Peer) write(kind byte, b []byte) bool {
	if p.gone || len(b) > maxPlain {
		return false
	}
	if p.keys.sent >= maxSeq {
		p.end(ErrWornOut)
		return false
	}
	if n := uint32(p.keys.tx.size(len(p.peerCID), len(b))); !p.proven {
		if p.sum+n > amplification*p.in {
			p.f.drop(dropBudget)
			return false
		}
		p.sum += n
	}
	out := p.keys.tx.seal(&p.f.scratch, kind, p.keys.sent, p.peerCID, b)
	p.keys.sent++
	p.f.send(p.addr, out)
	return true
}

// Close says goodbye and forgets the peer. Handler.Closed is not called.
func (p *Peer) Close() {
	p.goodbye()
	p.forget()
}

// goodbye sends close_notify (RFC 5246, section 7.2.1).
func (p *Peer) goodbye() { p.write(typeAlert, []byte{1, 0}) }

// record takes a record of epoch 1. size is that of its datagram, where it is the first.
func (p *Peer) record(from loop.PacketAddr, r *record, size int) {
	f := p.f
	if p.hasOwn != (r.kind == typeCID) { // RFC 9146, section 3
		f.drop(dropForged)
		return
	}
	if r.seq >= maxSeq || !p.keys.seen.fresh(r.seq) {
		f.drop(dropReplayed)
		if p.final != nil { // there are clients that repeat their Finished under its old number
			if kind, b, ok := p.keys.rx.open(&f.scratch, r); ok && kind == typeHandshake {
				p.finished(b)
			}
		}
		return
	}
	kind, b, ok := p.keys.rx.open(&f.scratch, r)
	if !ok {
		f.drop(dropForged)
		return
	}
	newest := p.keys.seen.note(r.seq)
	if newest && from != p.addr {
		p.move(from)
		if p.gone {
			return
		}
	}
	if !p.proven && from == p.addr {
		p.in = min(p.in+uint32(size), 1<<28)
	}
	p.touch()
	switch kind {
	case typeData:
		p.final = nil
		f.h.Data(p, b)
	case typeHandshake:
		p.finished(b)
	case typeAlert:
		p.alert(b)
	}
}

// finished takes a handshake message: a Finished says that the peer did not get our last flight, which is sent again as it was
// (RFC 6347, section 4.2.4). Anything else asks for a renegotiation, which is not done.
func (p *Peer) finished(b []byte) {
	const finished = 20
	if len(b) > 0 && b[0] == finished && p.final != nil && p.proven && p.again < finalTimes {
		p.again++
		p.f.send(p.addr, p.final)
	}
}

// move makes the source of the newest record the peer's address (RFC 9146, section 6).
func (p *Peer) move(from loop.PacketAddr) {
	f, old := p.f, p.addr
	p.addr, p.proven, p.in, p.sum = from, from == p.home, 0, 0
	f.s.n.moved.Inc()
	f.h.Moved(p, old)
}

// alert takes an alert of the peer's (RFC 5246, section 7.2).
func (p *Peer) alert(b []byte) {
	const fatal = 2
	switch {
	case len(b) != 2:
	case b[1] == 0:
		p.goodbye()
		p.end(nil)
	case b[0] == fatal:
		p.end(ErrAlert)
	}
}

// touch puts the peer behind all others.
func (p *Peer) touch() {
	p.last = p.f.loop.Now()
	l := p.list()
	if l.last == p {
		return
	}
	p.unlink()
	if p.older = l.last; p.older != nil {
		p.older.younger = p
	} else {
		l.first = p
	}
	l.last = p
}

func (p *Peer) list() *list {
	if p.hasOwn {
		return &p.f.heard[1]
	}
	return &p.f.heard[0]
}

func (p *Peer) unlink() {
	l := p.list()
	if p.older != nil {
		p.older.younger = p.younger
	} else if l.first == p {
		l.first = p.younger
	}
	if p.younger != nil {
		p.younger.older = p.older
	} else if l.last == p {
		l.last = p.older
	}
	p.older, p.younger = nil, nil
}

// end forgets the peer and tells the protocol.
func (p *Peer) end(err error) {
	if p.forget() {
		p.f.h.Closed(p, err)
	}
}

func (p *Peer) forget() bool {
	if p.gone {
		return false
	}
	p.gone = true
	p.unlink()
	f := p.f
	if p.hasOwn {
		delete(f.byCID, p.own)
	} else if f.byAddr[p.addr] == p {
		delete(f.byAddr, p.addr)
	}
	f.s.peers.Add(-1)
	f.s.n.sessions.Add(-1)
	return true
}
