package session

import (
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/route"
)

// Overflow is what an outbox does when it is full.
type Overflow uint8

// The rules. There is no "block": a subscriber never holds a publisher.
const (
	DropNew    Overflow = iota // the new event is refused
	DropOld                    // the oldest waiting event makes room; it becomes a dead letter
	Disconnect                 // the new event is refused and the connection ends
)

// Limits bound a session. Immutable.
type Limits struct {
	Queue      int   // events that wait
	QueueBytes int64 // bytes that wait
	Window     int   // deliveries without acknowledgement, at most 65,535
	Rule       Overflow
	Receive    int           // events of the client without answer (Receive Maximum)
	HandOn     HandOn        // of shared subscriptions
	Balance    route.Balance // of shared subscriptions

	Sessions      int // of the node, with and without a connection; 0: no bound
	Subscriptions int // of one session; 0: no bound
}

// delivery states.
const (
	dlSent     = iota // PUBLISH is out
	dlReleased        // exactly once: PUBREL is out
	dlDone            // acknowledged; waits for its turn to leave the ring
)

// sent is one delivery that waits for its acknowledgement. Owned by its outbox.
type sent struct {
	ev    *event.Kept // nil where the session ends with its connection, and after PUBREC
	id    uint16
	qos   event.QoS
	state uint8
	flags uint8
	subID uint32
	more  *[]route.Sub // where several subscriptions with identifiers matched and ev is set
	share *share       // where it is of a group
}

const (
	flagRetain = 1 << iota
	flagAgain  // left open by an earlier connection, not repeated on this one yet
)

// waiting is one event of the queue. Owned by its outbox.
type waiting struct {
	ev    *event.Kept
	subID uint32
	qos   event.QoS
	flags uint8
	more  []route.Sub  // where several subscriptions with identifiers matched
	group *route.Group // whose event it is; nil: the session's own
}

// outbox is what goes to one client: the window of deliveries without acknowledgement and the queue behind it. Owned by
// its session.
type outbox struct {
	ring   []sent // by packet id, contiguous: ring[i].id follows ring[i-1].id
	open   int32  // of ring, not done
	again  int32  // of ring, flagAgain
	lastID uint16
	queue  *queue // nil while nothing waits
}

// queue is what waits behind the window. Owned by its outbox.
type queue struct {
	list  []waiting
	head  int
	bytes int64
}

func (o *outbox) waiting() int {
	if o.queue == nil {
		return 0
	}
	return len(o.queue.list) - o.queue.head
}

func (o *outbox) bytes() int64 {
	if o.queue == nil {
		return 0
	}
	return o.queue.bytes
}

// ringMax bounds the ring against a client that acknowledges everything but the first.
const ringMax = 4

// nextID takes the next packet id; ids in the ring are contiguous, so a fresh one is never in use.
func (o *outbox) nextID() uint16 {
	if o.lastID++; o.lastID == 0 {
		o.lastID = 1
	}
	return o.lastID
}

func (o *outbox) prevID() {
	if o.lastID--; o.lastID == 0 {
		o.lastID = 0xffff
	}
}

// at finds the open delivery of a packet id.
func (o *outbox) at(id uint16) *sent {
	if len(o.ring) == 0 || id == 0 {
		return nil
	}
	i := int(id) - int(o.ring[0].id)
	if i < 0 {
		i += 0xffff // 0 is not an id
	}
	if i >= len(o.ring) || o.ring[i].id != id || o.ring[i].state == dlDone {
		return nil
	}
	return &o.ring[i]
}

// finish ends a delivery and moves the ring on.
func (o *outbox) finish(x *sent) {
	if x.flags&flagAgain != 0 {
		o.again--
	}
	x.state, x.ev, x.more, x.flags = dlDone, nil, nil, 0
	o.open--
	o.trim()
}

func (o *outbox) trim() {
	n := 0
	for n < len(o.ring) && o.ring[n].state == dlDone {
		n++
	}
	switch {
	case n == len(o.ring):
		o.ring = o.ring[:0]
		if cap(o.ring) > 1024 {
			o.ring = nil // a burst must not hold its memory
		}
	case n >= 64 || n > len(o.ring)/2:
		o.ring = o.ring[:copy(o.ring, o.ring[n:])]
	}
}

// merged is the subscription options of a run: the highest QoS, retain as published if any says so.
func merged(subs []route.Sub) (qos event.QoS, retainAs bool, ids int) {
	for _, s := range subs {
		qos = max(qos, event.QoS(s.QoS()))
		retainAs = retainAs || s.RetainAsPublished()
		if s.ID() != 0 {
			ids++
		}
	}
	return qos, retainAs, ids
}

// Client implements route.Outbox.
func (s *Session) Client() string { return s.ID }

// Take implements route.Outbox. An acknowledged event is taken when it is in the window or in the queue; a QoS 0 event
// when it is in the connection's output, else it is dropped and counted.
func (s *Session) Take(ev *event.Event, subs []route.Sub) event.Outcome {
	if ev.From != nil && ev.From.Taker == s.taker {
		if subs = s.notOwn(subs); len(subs) == 0 {
			if ev.Trace != 0 {
				s.traceTake(ev, fateOwn, 0)
			}
			return event.NoMatch
		}
	}
	qos, retainAs, ids := merged(subs)
	qos = min(qos, ev.QoS)
	f := s.fate(ev, qos)
	if ev.Dry {
		s.traceTake(ev, f, qos)
		return f.outcome(ev)
	}
	d := Delivery{QoS: qos, Retain: ev.Retain && retainAs}
	if ids > 0 {
		d.Subs = subs
	}
	switch f {
	case fateWithheld:
	case fateExpired:
		s.drop(DropExpired)
	case fateOffline:
		s.drop(DropOffline)
	case fateSlow:
		s.drop(DropSlow)
	case fateSent:
		switch {
		case qos > 0 && s.send(ev, d):
		case qos > 0:
			f = fateTooLarge
		case s.peer.Send(ev, d):
			s.countSent()
		default:
			f = fateTooLarge
			s.drop(DropTooLarge)
		}
	default:
		if s.enqueue(ev, d) != event.Accepted && f < fateRefused {
			f = fateRefused
		}
	}
	if ev.Trace != 0 {
		s.traceTake(ev, f, qos)
	}
	return f.outcome(ev)
}

// notOwn leaves out the subscriptions that do not want the session's own events. It allocates only where some do.
func (s *Session) notOwn(subs []route.Sub) []route.Sub {
	n := 0
	for _, x := range subs {
		if x.NoLocal() {
			n++
		}
	}
	switch n {
	case 0:
		return subs
	case len(subs):
		return nil
	}
	left := make([]route.Sub, 0, len(subs)-n)
	for _, x := range subs {
		if !x.NoLocal() {
			left = append(left, x)
		}
	}
	return left
}

func (s *Session) windowOpen() bool {
	return int(s.out.open) < int(s.window) && len(s.out.ring) < ringMax*int(s.window) && len(s.out.ring) < 0xffff
}

// send puts a delivery with acknowledgement into the window. It reports false when the event does not fit what the client
// accepts: then it is dropped, as if it had been sent ([MQTT-3.1.2-25]).
func (s *Session) send(ev *event.Event, d Delivery) bool {
	if !s.sendOf(ev, d, nil) {
		s.drop(DropTooLarge)
		return false
	}
	return true
}

// sendOf is send for an event of a group; without one it is the session's own. What does not fit is not counted yet.
func (s *Session) sendOf(ev *event.Event, d Delivery, g *route.Group) bool {
	d.ID = s.out.nextID()
	if !s.peer.Send(ev, d) {
		s.out.prevID()
		return false
	}
	x := sent{id: d.ID, qos: d.QoS, subID: firstID(d)}
	if d.Retain {
		x.flags = flagRetain
	}
	if s.Expiry != 0 {
		x.ev = ev.Keep() // only a session that outlives its connection sends it again
		if countIDs(d.Subs) > 1 {
			more := append([]route.Sub(nil), d.Subs...)
			x.more = &more
		}
	}
	if g != nil {
		s.shares.load.Open.Add(1)
		x.share = s.host.lend(ev, g, x.ev == nil && d.QoS == event.AtLeastOnce)
	}
	s.out.ring = append(s.out.ring, x)
	s.out.open++
	s.countSent()
	return true
}

func firstID(d Delivery) uint32 {
	for _, x := range d.Subs {
		if x.ID() != 0 {
			return x.ID()
		}
	}
	return d.SubID
}

// enqueue lets an event wait behind the window.
func (s *Session) enqueue(ev *event.Event, d Delivery) event.Outcome {
	h := s.host
	size := int64(ev.Size())
	if size > s.maxBytes() {
		return s.overflow()
	}
	for s.out.waiting() >= s.maxQueue() || s.out.bytes()+size > s.maxBytes() {
		if h.limits.Rule != DropOld || s.out.waiting() == 0 {
			if h.limits.Rule == Disconnect && s.peer != nil {
				s.kickLater(OutboxFull)
			}
			return s.overflow()
		}
		w := s.pop()
		s.drop(DropQueueFull)
		h.dead(w.ev, s, "outbox full")
	}
	s.put(ev, d, nil)
	if s.peer != nil {
		s.rankSlow()
	}
	return event.Accepted
}

// put lets an event, of a group where g is not nil, wait; there is room.
func (s *Session) put(ev *event.Event, d Delivery, g *route.Group) {
	w := waiting{ev: ev.Keep(), qos: d.QoS, subID: firstID(d), group: g}
	if d.Retain {
		w.flags = flagRetain
	}
	if n := countIDs(d.Subs); n > 1 {
		w.more = append([]route.Sub(nil), d.Subs...)
	}
	s.push(w)
}

// push puts an event behind those that wait.
func (s *Session) push(w waiting) {
	if s.out.queue == nil {
		s.out.queue = &queue{}
	}
	q := s.out.queue
	if q.head > 64 && q.head > len(q.list)/2 {
		n := copy(q.list, q.list[q.head:])
		clear(q.list[n:])
		q.list, q.head = q.list[:n], 0
	}
	size := int64(w.ev.Size())
	q.list = append(q.list, w)
	q.bytes += size
	s.host.Tally.Queued++
	s.host.Tally.QueuedBytes += size
	if w.group != nil {
		s.shares.load.Open.Add(1)
	}
}

// overflow refuses an event for which there is no room. Whether it becomes a dead letter, because its publisher is told
// success all the same, the walk decides.
func (s *Session) overflow() event.Outcome {
	s.drop(DropQueueFull)
	return event.Throttled
}

// kickLater ends the connection, but not within the walk that is under way: its will is a walk too.
func (s *Session) kickLater(w Why) {
	if s.leaving {
		return
	}
	s.leaving = true
	p := s.peer
	s.host.clock.Post(func() {
		if s.peer == p {
			p.Kick(w)
		}
	})
}

func countIDs(subs []route.Sub) (n int) {
	for _, x := range subs {
		if x.ID() != 0 {
			n++
		}
	}
	return n
}

// pop takes the oldest waiting event.
func (s *Session) pop() waiting {
	q := s.out.queue
	w := q.list[q.head]
	q.list[q.head] = waiting{}
	size := int64(w.ev.Size())
	q.bytes -= size
	if q.head++; q.head == len(q.list) {
		s.out.queue = nil
	}
	s.host.Tally.Queued--
	s.host.Tally.QueuedBytes -= size
	if w.group != nil {
		s.shares.load.Open.Add(-1)
	}
	return w
}

// pump moves waiting events into the window while there is room.
func (s *Session) pump() {
	if s.out.again > 0 && (s.peer == nil || !s.resend()) {
		return
	}
	for s.peer != nil && s.out.waiting() > 0 && s.windowOpen() && s.peer.Room() {
		w := s.pop()
		if w.ev.Expired(s.host.clock.Now()) {
			s.drop(DropExpired)
			continue
		}
		d := Delivery{QoS: w.qos, Retain: w.flags&flagRetain != 0, Subs: w.more, SubID: w.subID}
		if w.group == nil {
			s.send(&w.ev.Event, d)
		} else if !s.sendOf(&w.ev.Event, d, w.group) {
			s.drop(DropTooLarge)
		}
	}
	s.replay()
}

// Ack says what became of an acknowledgement that the client sent.
type Ack uint8

// The answers.
const (
	AckOK      Ack = iota
	AckUnknown     // no open delivery has that packet id
	AckWrong       // the delivery is open and wants another acknowledgement: a protocol error
)

// Acked ends an at-least-once delivery (PUBACK).
func (s *Session) Acked(id uint16) Ack {
	x := s.out.at(id)
	switch {
	case x == nil:
		return AckUnknown
	case x.qos != event.AtLeastOnce:
		return AckWrong
	}
	s.finish(x)
	s.pump()
	return AckOK
}

// Got notes the first acknowledgement of an exactly-once delivery (PUBREC); refused ends the delivery ([MQTT-4.3.3-4]).
func (s *Session) Got(id uint16, refused bool) Ack {
	x := s.out.at(id)
	switch {
	case x == nil:
		return AckUnknown
	case x.qos != event.ExactlyOnce:
		return AckWrong
	}
	if refused {
		s.finish(x)
		s.pump()
		return AckOK
	}
	x.state, x.ev, x.more = dlReleased, nil, nil
	if x.flags&flagAgain != 0 { // it answers what an earlier connection sent, and is released now: not once more ([MQTT-4.4.0-1])
		x.flags &^= flagAgain
		s.out.again--
	}
	return AckOK
}

// Completed ends an exactly-once delivery (PUBCOMP).
func (s *Session) Completed(id uint16) Ack {
	x := s.out.at(id)
	switch {
	case x == nil:
		return AckUnknown
	case x.qos != event.ExactlyOnce || x.state != dlReleased:
		return AckWrong
	}
	s.finish(x)
	s.pump()
	return AckOK
}

// interrupted marks what is open when a connection goes: the next one must repeat it.
func (o *outbox) interrupted() {
	o.again = 0
	for i := range o.ring {
		if x := &o.ring[i]; x.state != dlDone {
			x.flags |= flagAgain
			o.again++
		}
	}
}

// resend repeats, in order, what an earlier connection left open ([MQTT-4.4.0-1]): events with DUP, releases again. It
// goes on as the client's window and the output allow, and reports whether all is out; nothing new is sent before.
func (s *Session) resend() bool {
	o := &s.out
	for i := 0; o.again > 0 && i < len(o.ring); i++ {
		x := &o.ring[i]
		if x.flags&flagAgain == 0 || x.state == dlDone {
			continue
		}
		if !s.peer.Room() || int(o.open-o.again) >= int(s.window) {
			return false
		}
		x.flags &^= flagAgain
		o.again--
		if x.state == dlReleased {
			s.peer.Release(x.id)
			continue
		}
		drop := DropTooLarge
		d := Delivery{ID: x.id, QoS: x.qos, Dup: true, Retain: x.flags&flagRetain != 0, SubID: x.subID}
		if x.more != nil {
			d.Subs = *x.more
		}
		if x.ev.Expired(s.host.clock.Now()) && x.qos == event.AtLeastOnce { // not exactly once: [MQTT-4.3.3-7]
			drop = DropExpired
		} else if s.peer.Send(&x.ev.Event, d) {
			continue
		}
		if x.share != nil {
			s.returned(x)
		}
		x.state, x.ev, x.more = dlDone, nil, nil
		o.open--
		s.drop(drop)
	}
	o.trim()
	return true
}

// Writable is called by the peer when its output has room again.
func (s *Session) Writable() { s.pump() }
