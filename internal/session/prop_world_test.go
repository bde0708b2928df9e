package session

import (
	"fmt"
	"slices"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/route"
)

// propKind is a packet from the node to a client.
type propKind int

const (
	pkPublish propKind = iota
	pkAnswer
	pkRelease  // PUBREL
	pkComplete // PUBCOMP
)

type propPacket struct {
	kind    propKind
	id      uint16
	d       Delivery
	payload string
	answer  Receipt
}

// propEvent is what was published. Owned by the test.
type propEvent struct {
	payload string
	from    *propClient
	topic   string
	qos     event.QoS
	seq     int // in its lane
	session int // of its publisher: lanes end with it
	walks   int
	walked  int  // when it walked first, in walks of the world
	refused bool // by the last answer
	taken   bool
	outcome event.Outcome
	heard   bool
}

// propPub is a publish that a client has no final answer to. Owned by the test.
type propPub struct {
	id  uint16
	ev  *propEvent
	rec bool // PUBREC was read
}

// propClient is a conforming client: it reads what it is sent when it likes, acknowledges it, and sends again what it has
// no answer for. Owned by the test.
type propClient struct {
	w       *propWorld
	id      string
	p       *propPeer // nil: no connection
	nextID  uint16
	out     []*propPub
	in      map[uint16]string // exactly-once events that were received and not released
	seqs    map[string]int    // by lane
	subs    map[string]event.QoS
	since   map[string]int      // when a subscription was confirmed, in walks of the world
	seen    map[string]int      // payloads, and how often they came
	fresh   map[string]int      // without DUP
	last    map[string]int      // highest seq that was new, by lane
	unacked map[uint16]struct{} // deliveries that the server must not exceed the window with
	window  int
	server  *Session // the session that it talked to last
	session int      // its number
}

// propPeer is one connection. Owned by the test.
type propPeer struct {
	c     *propClient
	s     *Session
	loop  int
	inbox []propPacket
	acks  []propPacket // deliveries that were read and not acknowledged
	room  int
	held  []propHeld
	wake  loop.Timer
	owed  map[uint16]int // publishes sent on this connection without an answer, by id
	gone  bool
	full  bool // and is to say when it no longer is
	done  int  // subscriptions confirmed
}

type propHeld struct {
	pub *propPub // nil: QoS 0
	ev  *propEvent
	dup bool
}

func (p *propPeer) Send(ev *event.Event, d Delivery) bool {
	c := p.c
	c.w.check(!p.gone, "%s: sent to a connection that is gone", c.id)
	d.Subs = append([]route.Sub(nil), d.Subs...)
	if d.QoS > 0 {
		_, open := c.unacked[d.ID]
		c.w.check(d.ID != 0, "%s: packet id 0", c.id)
		c.w.check(!open, "%s: packet id %d is in use", c.id, d.ID)
		c.unacked[d.ID] = struct{}{}
		c.w.check(len(c.unacked) <= c.window, "%s: %d deliveries without acknowledgement, window %d", c.id, len(c.unacked), c.window)
	}
	p.inbox = append(p.inbox, propPacket{kind: pkPublish, id: d.ID, d: d, payload: string(ev.Payload)})
	return true
}

func (p *propPeer) Release(id uint16) {
	p.c.unacked[id] = struct{}{}
	p.inbox = append(p.inbox, propPacket{kind: pkRelease, id: id})
}

func (p *propPeer) Room() bool {
	if len(p.inbox) < p.room {
		return true
	}
	p.full = true
	return false
}

// drained says that there is room again, as a connection does: not before half of it is free.
func (p *propPeer) drained() {
	if p.full && !p.gone && len(p.inbox) <= p.room/2 {
		p.full = false
		p.s.Writable()
	}
}

func (p *propPeer) Answer(r Receipt) {
	p.c.w.check(!p.gone, "%s: answered on a connection that is gone", p.c.id)
	p.owed[r.ID]--
	p.c.w.check(p.owed[r.ID] >= 0, "%s: id %d is answered more often than it was published", p.c.id, r.ID)
	p.inbox = append(p.inbox, propPacket{kind: pkAnswer, id: r.ID, answer: r})
	for _, x := range p.c.out {
		if x.id == r.ID {
			x.ev.refused, x.ev.taken = !r.Outcome.OK(), r.Outcome.OK()
		}
	}
	if len(p.held) > 0 {
		p.c.w.s.loops[p.loop].Wake()
	}
}

// Kick ends the connection behind what was sent before: the client reads the answers among it.
func (p *propPeer) Kick(Why) {
	if !p.gone && p.c.w.calm {
		for _, k := range p.inbox {
			if k.kind == pkAnswer {
				p.c.answered(k, false)
			}
		}
	}
	p.end()
}

func (p *propPeer) end() {
	if p.gone {
		return
	}
	p.gone = true
	p.c.w.s.loops[p.loop].Disarm(&p.wake)
	if p.c.p == p {
		p.c.p = nil
	}
	p.s.Detach(p, false)
}

// Expire implements loop.Expirer: what is held is tried again in the turn that this begins.
func (p *propPeer) Expire(*loop.Timer, int64) {}

// propWorld is the node, its clients and what happened. Owned by the test.
type propWorld struct {
	s        *sim
	clients  []*propClient
	targets  []*propTarget
	events   map[string]*propEvent
	walks    int
	window   int
	calm     bool // the end: clients read what they are sent before they are disconnected
	complete bool // no outbox is ever full and no session ends by time: everything must arrive
}

func (w *propWorld) check(ok bool, format string, args ...any) {
	if !ok {
		w.s.t.Helper()
		w.s.t.Fatalf(format, args...)
	}
}

// touch says that a loop had input: its turn will come.
func (w *propWorld) touch(i int) { w.s.loops[i].Wake() }

func (w *propWorld) turn(i int) {
	w.s.sync()
	l := w.s.loops[i]
	l.now = w.s.now
	for _, c := range w.clients {
		if p := c.p; p != nil && p.loop == i {
			p.retry()
		}
	}
	w.s.turn(i)
}

// run turns what is awake until nothing is.
func (w *propWorld) run() {
	for range 10_000 {
		w.s.sync()
		busy := false
		for i, l := range w.s.loops {
			if l.awake() {
				busy = true
				w.turn(i)
			}
		}
		if !busy {
			return
		}
	}
	w.s.t.Fatal("the loops wake each other for ever")
}

// advance lets time pass, timer by timer.
func (w *propWorld) advance(d time.Duration) {
	for to := w.s.now + int64(d); ; {
		w.run()
		first, at := -1, to
		for i, l := range w.s.loops {
			if x, ok := l.next(); ok && x <= at {
				first, at = i, x
			}
		}
		w.s.now = max(w.s.now, (at+tick-1)/tick*tick)
		w.s.pass(0)
		if first < 0 {
			w.run()
			return
		}
		w.turn(first)
	}
}

// connect opens or resumes the client's session by a connection to loop i, which moves to the session's home.
func (c *propClient) connect(i int, clean bool, expiry uint32, window, room int) {
	w := c.w
	c.window = min(window, w.window)
	p := &propPeer{c: c, loop: i, room: room, owed: map[uint16]int{}}
	p.wake.Init(p)
	hello := Hello{ClientID: c.id, Clean: clean, Expiry: expiry, Window: window, Quota: c.id != "c0"}
	s, present, home, err := w.s.hosts[i].Open(&hello, p)
	if s == nil && err == nil {
		w.touch(i)
		p.loop = home
		s, present, _, err = w.s.hosts[home].Open(&hello, p)
	}
	w.check(err == nil && s != nil, "%s: open: %v", c.id, err)
	w.check(!clean || !present, "%s: a clean start finds a session", c.id)
	p.s, c.p = s, p
	c.unacked = map[uint16]struct{}{}
	w.touch(p.loop)
	if !present {
		c.session++
		c.forget()
	} else {
		w.check(s == c.server, "%s: another session is there", c.id)
	}
	c.server = s
	s.Start()
	if !present && len(c.subs) > 0 {
		c.subscribe()
	}
	again := c.out
	for _, x := range again { // [MQTT-4.4.0-1]
		if c.p != p {
			return
		}
		if x.rec {
			c.release(x)
		} else {
			p.try(propHeld{x, x.ev, true})
		}
	}
}

// forget drops what the client knew of a session that is no more.
func (c *propClient) forget() {
	c.out = nil
	c.in = map[uint16]string{}
	c.since = map[string]int{}
	c.last = map[string]int{}
}

func (c *propClient) subscribe() {
	p := c.p
	var wants []Want
	for _, f := range propFilters {
		if q, ok := c.subs[f]; ok {
			wants = append(wants, Want{Filter: []byte(f), QoS: q})
		}
	}
	p.s.Subscribe(wants, func() {
		p.done++
		for f := range c.subs {
			if _, ok := c.since[f]; !ok {
				c.since[f] = c.w.walks
			}
		}
	})
	c.w.touch(p.loop)
	c.w.s.sync()
}

func (c *propClient) publish(topic string, q event.QoS) {
	lane := fmt.Sprintf("%s|%s|%d", c.id, topic, q)
	c.seqs[lane]++
	ev := &propEvent{payload: fmt.Sprintf("%s|%d", lane, c.seqs[lane]), from: c, topic: topic, qos: q, seq: c.seqs[lane], session: c.session}
	c.w.events[ev.payload] = ev
	h := propHeld{ev: ev}
	if q > 0 {
		for {
			if c.nextID++; c.nextID > 40 { // a small space, so that ids come again
				c.nextID = 1
			}
			if !slices.ContainsFunc(c.out, func(x *propPub) bool { return x.id == c.nextID }) {
				break
			}
		}
		h.pub = &propPub{id: c.nextID, ev: ev}
		c.out = append(c.out, h.pub)
	}
	c.p.try(h)
	if c.p != nil {
		c.w.touch(c.p.loop)
	}
}

// try publishes, behind what is held.
func (p *propPeer) try(h propHeld) {
	if len(p.held) > 0 || !p.walk(h) {
		p.held = append(p.held, h)
	}
}

func (p *propPeer) retry() {
	for len(p.held) > 0 && !p.gone {
		h := p.held[0]
		if !p.walk(h) {
			return
		}
		p.held = p.held[1:]
	}
}

// walk hands a publish to the session; it reports whether it was taken.
func (p *propPeer) walk(h propHeld) bool {
	w := p.c.w
	ev := &event.Event{Topic: []byte(h.ev.topic), Payload: []byte(h.ev.payload), QoS: h.ev.qos, From: p.s.Origin}
	id := uint16(0)
	if h.pub != nil {
		id = h.pub.id
		p.owed[id]++
	}
	host := w.s.hosts[p.loop]
	before := host.Tally.Received
	first := h.ev.walks == 0
	if first {
		h.ev.walked = w.walks
	}
	refused, taken := h.ev.refused, h.ev.taken
	h.ev.refused = false // Answer says, if it comes within
	why, until := p.s.Publish(ev, id, h.dup)
	if why != Go {
		h.ev.refused = refused
		if h.pub != nil {
			p.owed[id]--
		}
		switch why {
		case HoldMail:
			w.s.loops[p.loop].Arm(&p.wake, max(until, w.s.loops[p.loop].now+int64(time.Millisecond)))
		case HoldLimit:
			w.s.loops[p.loop].Arm(&p.wake, until)
		case HoldQuota, Go:
		}
		return false
	}
	if host.Tally.Received != before {
		w.walks++
		if h.ev.qos == event.ExactlyOnce {
			w.check(!taken, "%s walks again", h.ev.payload)
		}
		if h.ev.qos == event.AtMostOnce {
			w.check(first, "%s walks again", h.ev.payload)
		}
		h.ev.walks++
	} else {
		h.ev.refused = h.ev.refused || refused
		w.check(!first || h.dup, "%s is taken and does not walk", h.ev.payload)
	}
	return true
}

// release sends PUBREL.
func (c *propClient) release(x *propPub) {
	p := c.p
	p.s.Released(x.id)
	p.inbox = append(p.inbox, propPacket{kind: pkComplete, id: x.id})
	c.w.touch(p.loop)
}

// read takes n packets of the connection and answers them.
func (c *propClient) read(n int) {
	p := c.p
	for ; n > 0 && len(p.inbox) > 0 && !p.gone; n-- {
		k := p.inbox[0]
		p.inbox = p.inbox[1:]
		switch k.kind {
		case pkPublish:
			c.take(p, k)
		case pkAnswer:
			c.answered(k, true)
		case pkRelease:
			delete(c.in, k.id)
			delete(c.unacked, k.id)
			a := p.s.Completed(k.id)
			c.w.check(a == AckOK, "%s: PUBCOMP %d: %d", c.id, k.id, a)
		case pkComplete:
			c.out = slices.DeleteFunc(c.out, func(x *propPub) bool { return x.id == k.id && x.rec })
		}
		p.drained()
		c.w.touch(p.loop)
	}
}

func (c *propClient) take(p *propPeer, k propPacket) {
	w := c.w
	ev := w.events[k.payload]
	w.check(ev != nil, "%s: an event that nobody published: %q", c.id, k.payload)
	if _, open := c.in[k.id]; k.d.QoS != event.ExactlyOnce || !open {
		c.note(ev, k.d)
	} else {
		w.check(c.in[k.id] == k.payload, "%s: id %d is %s and was %s", c.id, k.id, k.payload, c.in[k.id])
	}
	if k.d.QoS == event.ExactlyOnce {
		c.in[k.id] = k.payload
	}
	if k.d.QoS > event.AtMostOnce {
		p.acks = append(p.acks, k)
	}
}

// ack acknowledges the first n deliveries that were read.
func (c *propClient) ack(n int) {
	p := c.p
	for ; n > 0 && len(p.acks) > 0 && !p.gone; n-- {
		k := p.acks[0]
		p.acks = p.acks[1:]
		if k.d.QoS == event.AtLeastOnce {
			delete(c.unacked, k.id)
			a := p.s.Acked(k.id)
			c.w.check(a == AckOK, "%s: PUBACK %d: %d", c.id, k.id, a)
		} else {
			a := p.s.Got(k.id, false)
			c.w.check(a == AckOK, "%s: PUBREC %d: %d", c.id, k.id, a)
			p.Release(k.id)
		}
		c.w.touch(p.loop)
	}
}

// again sends an exactly-once event again on the same connection, unless its refusal is on its way.
func (c *propClient) again(x *propPub) {
	if !x.rec && !x.ev.refused && len(c.p.held) == 0 {
		c.p.walk(propHeld{x, x.ev, true})
		if c.p != nil {
			c.w.touch(c.p.loop)
		}
	}
}

// note holds a delivery against what may be delivered.
func (c *propClient) note(ev *propEvent, d Delivery) {
	w := c.w
	lane := fmt.Sprintf("%s|%d|%s|%d", ev.from.id, ev.session, ev.topic, ev.qos)
	if !d.Dup {
		c.fresh[ev.payload]++
		n := c.fresh[ev.payload]
		w.check(n <= ev.walks && (ev.qos < event.ExactlyOnce || n == 1), "%s: %s is delivered %d times and walked %d times", c.id, ev.payload, n, ev.walks)
	}
	if c.seen[ev.payload]++; c.seen[ev.payload] > 1 {
		return
	}
	if ev.seq < c.last[lane] {
		w.check(ev.walks > 1, "%s: %s after number %d of its lane", c.id, ev.payload, c.last[lane])
		return
	}
	c.last[lane] = ev.seq
}

func (c *propClient) answered(k propPacket, release bool) {
	i := slices.IndexFunc(c.out, func(x *propPub) bool { return x.id == k.id })
	if i < 0 {
		return // of a retry that crossed its answer
	}
	x := c.out[i]
	c.w.check(x.ev.qos == k.answer.QoS, "%s: the answer to id %d is for QoS %d", c.id, k.id, k.answer.QoS)
	x.ev.outcome, x.ev.heard = k.answer.Outcome, true
	if k.answer.QoS == event.ExactlyOnce && k.answer.Outcome.OK() {
		if x.rec = true; release {
			c.release(x)
		}
		return
	}
	c.out = slices.Delete(c.out, i, i+1)
}

// propTarget is what a route leads to. Owned by the test.
type propTarget struct {
	w       *propWorld
	how     int // 0 accepts, 1 refuses, 2 answers later or never, 3 answers twice
	open    []event.Ticket
	got     map[string]int
	decided map[uint64]int
}

func (x *propTarget) Deliver(ev *event.Event, t event.Ticket) {
	p := x.w.events[string(ev.Payload)]
	x.w.check(p != nil, "a target gets what nobody published: %q", ev.Payload)
	x.got[p.payload]++
	x.w.check(x.got[p.payload] <= p.walks+1, "a target gets %s %d times, it walked %d times", p.payload, x.got[p.payload], p.walks+1)
	switch x.how {
	case 0:
		t.Settle(event.Accepted)
	case 1:
		t.Settle(event.Unavailable)
	case 2:
		if t.Waits() {
			x.open = append(x.open, t)
		}
	case 3:
		t.Settle(event.Unavailable)
		t.Settle(event.Accepted)
	}
}

func (x *propTarget) Decide(token uint64, _ bool) {
	x.decided[token]++
	x.w.check(x.decided[token] == 1, "a target is told twice about token %x", token)
}
