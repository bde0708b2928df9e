package dtls

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/windrose-edc/windrose/internal/loop"
)

// Bounds of the inbox of a front: datagrams of its peers that other loops' sockets received and that it has not handled yet.
const (
	inboxDatagrams = 4096
	inboxBytes     = 2 << 20
)

// front is DTLS on one loop's socket. Owned by its loop, but for the inbox.
type front struct {
	s    *Server
	loop *loop.Loop
	out  func(to loop.PacketAddr, b []byte)
	h    Handler

	shakes map[loop.PacketAddr]*shake
	byAddr map[loop.PacketAddr]*Peer // without Connection ID
	byCID  map[cid]*Peer
	heard  [2]list // without and with Connection ID, the longest silent first
	timer  loop.Timer
	ended  bool

	baker   *baker
	scratch scratch
	verify  []byte

	inbox inbox
}

// inbox is what other loops' sockets received for this one. Guarded by mu.
type inbox struct {
	mu    sync.Mutex
	items []letter
	bytes int
}

type letter struct {
	from loop.PacketAddr
	b    []byte
}

func newFront(s *Server, l *loop.Loop, send func(loop.PacketAddr, []byte), h Handler) *front {
	f := &front{s: s, loop: l, out: send, h: h, baker: newBaker(&s.cookies), shakes: make(map[loop.PacketAddr]*shake),
		byAddr: make(map[loop.PacketAddr]*Peer), byCID: make(map[cid]*Peer)}
	f.timer.Init(f)
	return f
}

func (f *front) send(to loop.PacketAddr, b []byte) { f.out(to, b) }

// Packet implements loop.PacketHandler.
func (f *front) Packet(from loop.PacketAddr, b []byte) {
	if f.ended {
		return
	}
	if len(b) < recordHeader {
		f.drop(dropMalformed)
		return
	}
	if isHello(b) {
		f.hello(from, b)
		return
	}
	if b[0] == typeCID {
		f.identified(from, b)
		return
	}
	// During a handshake the address speaks of that, unless it is data for what was established before.
	if sh := f.shakes[from]; sh != nil && (b[0] != typeData || f.byAddr[from] == nil) {
		sh.take(b)
		return
	}
	f.records(from, b)
}

// identified takes a datagram whose first record has a Connection ID: it goes to the loop that is named in it.
func (f *front) identified(from loop.PacketAddr, b []byte) {
	if len(b) < recordHeader+cidSize {
		f.drop(dropMalformed)
		return
	}
	id := cid(binary.BigEndian.Uint64(b[11:]))
	switch {
	case id.node() != f.s.o.Node:
		f.drop(dropNode)
	case id.loop() != f.loop.ID():
		to := f.s.fronts[id.loop()].Load()
		if to == nil {
			f.drop(dropLoop)
			return
		}
		to.forwarded(from, b)
	case f.byCID[id] == nil && f.shakes[from] != nil:
		f.shakes[from].take(b)
	default:
		f.records(from, b)
	}
}

// forwarded puts a datagram into the inbox. On any loop.
func (f *front) forwarded(from loop.PacketAddr, b []byte) {
	q := &f.inbox
	q.mu.Lock()
	if len(q.items) >= inboxDatagrams || q.bytes+len(b) > inboxBytes {
		q.mu.Unlock()
		f.drop(dropInbox)
		return
	}
	first := len(q.items) == 0
	q.items = append(q.items, letter{from, append([]byte(nil), b...)})
	q.bytes += len(b)
	q.mu.Unlock()
	f.s.n.forwarded.Inc()
	if first {
		f.loop.Post(f.empty)
	}
}

// empty handles the inbox.
func (f *front) empty() {
	q := &f.inbox
	q.mu.Lock()
	items := q.items
	q.items, q.bytes = nil, 0
	q.mu.Unlock()
	f.letters(items)
}

// letters handles datagrams of the inbox. A panic of the handler costs one of them.
func (f *front) letters(items []letter) {
	at := 0
	defer func() {
		if rest := items[at:]; len(rest) > 0 {
			f.loop.Post(func() { f.letters(rest) })
		}
	}()
	for at < len(items) {
		l := items[at]
		at++
		if !f.ended {
			f.records(l.from, l.b)
		}
	}
}

// records goes through the records of a datagram that belong to established peers.
func (f *front) records(from loop.PacketAddr, b []byte) {
	size := len(b) // counted to the address once
	for len(b) > 0 {
		r, rest, ok := cutRecord(b)
		if !ok {
			f.drop(dropMalformed)
			return
		}
		b = rest
		if r.epoch != 1 {
			continue // what is left of a handshake
		}
		var p *Peer
		if r.kind == typeCID {
			p = f.byCID[r.cid]
		} else {
			p = f.byAddr[from]
		}
		if p == nil {
			f.drop(dropUnknown)
			return // the others are of the same peer (RFC 9146, section 3)
		}
		p.record(from, &r, size)
		size = 0
		if f.ended {
			return
		}
	}
}

// hello answers a ClientHello: without a cookie by a cookie, with the right one by a handshake.
func (f *front) hello(from loop.PacketAddr, b []byte) {
	n := f.s.n
	n.hellos.Inc()
	h, ok := parseHello(b)
	if !ok {
		f.drop(dropMalformed)
		return
	}
	now := f.loop.Now()
	if len(h.cookie) == 0 {
		if h.messageSeq != 0 {
			f.drop(dropCookie)
			return
		}
		f.verify = h.appendVerify(f.verify[:0], f.baker.bake(from, &h, now/int64(cookieLife)))
		if len(f.verify) > len(b) {
			f.drop(dropMalformed)
			return
		}
		n.cookies.Inc()
		f.send(from, f.verify)
		return
	}
	if h.messageSeq != 1 || !f.baker.holds(from, &h, now) {
		f.drop(dropCookie)
		return
	}
	if sh := f.shakes[from]; sh != nil {
		if sh.random == [randomSize]byte(h.random) {
			sh.take(b)
			return
		}
		// The device began again.
		n.refused[refusedReplaced].Inc()
		delete(f.shakes, from)
		_ = sh.Close()
	}
	sh := newShake(f, from, &h, b)
	if f.s.begin(from.Addr(), sh.run) {
		f.shakes[from] = sh
	}
}

// shaken takes the result of a handshake.
func (f *front) shaken(sh *shake, r *result) {
	if f.shakes[sh.from] != sh { // replaced
		return
	}
	delete(f.shakes, sh.from)
	n := f.s.n
	switch {
	case f.ended || f.s.ctx.Err() != nil:
		n.refused[refusedStopped].Inc()
		return
	case timedOut(r.err):
		n.refused[refusedTimeout].Inc()
		return
	case r.err != nil || r.hasOwn && f.byCID[r.own] != nil:
		n.refused[refusedFailed].Inc()
		return
	}
	if f.s.Peers() >= f.s.o.Sessions {
		f.makeRoom()
	}
	n.handshakes.Inc()
	p := &Peer{f: f, id: f.s.ids.Add(1), addr: sh.from, home: sh.from, proven: true, who: r.who, keys: *r.keys, own: r.own, hasOwn: r.hasOwn,
		peerCID: r.peerCID, final: r.final}
	if r.hasOwn {
		f.byCID[r.own] = p
	} else {
		if old := f.byAddr[sh.from]; old != nil {
			old.end(ErrReplaced)
		}
		f.byAddr[sh.from] = p
	}
	f.s.peers.Add(1)
	n.sessions.Add(1)
	p.touch()
	f.plan()
	f.h.Open(p)
	for _, b := range sh.rest() {
		f.Packet(sh.from, b)
	}
}

// makeRoom ends the peer of this loop that was silent longest.
func (f *front) makeRoom() {
	a, b := f.heard[0].first, f.heard[1].first
	if a == nil || b != nil && b.last < a.last {
		a = b
	}
	if a != nil {
		a.goodbye()
		a.end(ErrEvicted)
	}
}

// idle is how long peers of a list may be silent.
func (f *front) idle(i int) time.Duration {
	if i == 1 {
		return f.s.o.IdleCID
	}
	return f.s.o.Idle
}

// plan arms the timer for the peer that expires first.
func (f *front) plan() {
	at := int64(0)
	for i := range f.heard {
		if p := f.heard[i].first; p != nil {
			if t := p.last + int64(f.idle(i)); at == 0 || t < at {
				at = t
			}
		}
	}
	if at == 0 {
		f.loop.Disarm(&f.timer)
	} else {
		f.loop.Arm(&f.timer, at)
	}
}

// Expire implements loop.Expirer.
func (f *front) Expire(_ *loop.Timer, now int64) {
	for i := range f.heard {
		for p := f.heard[i].first; p != nil && p.last+int64(f.idle(i)) <= now; p = f.heard[i].first {
			p.end(ErrIdle)
		}
	}
	f.plan()
}

// stop says goodbye to everybody.
func (f *front) stop() {
	for i := range f.heard {
		for p := f.heard[i].first; p != nil; p = f.heard[i].first {
			p.goodbye()
			p.end(ErrStopped)
		}
	}
	f.ended = true
	f.loop.Disarm(&f.timer)
}

func (f *front) drop(why int) { f.s.n.dropped[why].Inc() }
