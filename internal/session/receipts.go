package session

import (
	"slices"

	"github.com/windrose-edc/windrose/internal/event"
)

// Receipt is what a session remembers of an event that its client sent, from the packet to the answer.
type Receipt struct {
	ID      uint16
	QoS     event.QoS
	Outcome event.Outcome
	Policy  bool // the outcome is a policy's, not that of a delivery
}

// inbound is one receipt in the order of arrival. Owned by its session.
type inbound struct {
	Receipt
	settled bool
	repeat  bool // an answer that was given before; ID 0: and is not wanted any more
}

// orphan is a receipt whose connection went away before its answer. It keeps the outcome for the client's retry, which
// joins it and never walks again. Owned by its session.
type orphan struct {
	inbound
	seq    uint32 // the number that its ticket carries
	joined bool   // a retry is in the ring, with number to
	to     uint32
}

// receipts are a session's inbound receipts; nil has none. Answers go out in the order in which the events came ([MQTT-4.6.0-2],
// [MQTT-4.6.0-3]), so one open event holds the answers behind it, never the events. Owned by its session.
type receipts struct {
	ring    []inbound // fifo from head on; ring[head+i] has number first+i
	head    int
	first   uint32
	orphans []orphan
	// exactly-once events that were answered (PUBREC) and not yet released (PUBREL), [MQTT-4.3.3-10], with the number of
	// the connection on which they were
	open    map[uint16]uint32
	conn    uint32            // number of this connection
	counted int               // of open, those of this connection
	repeats int               // of ring
	traces  map[uint32]uint32 // of events at which somebody looks, by number; nil: none
}

// orphanMax bounds, in times of the client's quota, the receipts that are kept for a retry which may as well walk again.
const orphanMax = 2

// unanswered is how many events count against the client's send quota: those without an answer, and the exactly-once
// ones without a release. A new connection has the whole quota (MQTT 5, 4.9).
func (r *receipts) unanswered() int {
	if r == nil {
		return 0
	}
	return len(r.ring) - r.head + r.counted
}

// hold notes that an exactly-once event was answered and waits for its release.
func (r *receipts) hold(id uint16) {
	if r.open == nil {
		r.open = make(map[uint16]uint32)
	}
	if c, ok := r.open[id]; !ok || c != r.conn {
		r.counted++
	}
	r.open[id] = r.conn
}

// holdLate is hold for an event of an earlier connection: a retry will be answered.
func (r *receipts) holdLate(id uint16) {
	if r.open == nil {
		r.open = make(map[uint16]uint32)
	}
	if _, ok := r.open[id]; !ok {
		r.open[id] = r.conn - 1
	}
}

// repeat lets an exactly-once event that was taken be answered again, in its turn.
func (r *receipts) repeat(id uint16) bool {
	if _, ok := r.open[id]; !ok {
		return false
	}
	r.push(id, event.ExactlyOnce)
	x := &r.ring[len(r.ring)-1]
	x.settled, x.repeat = true, true
	r.repeats++
	return true
}

// release forgets an exactly-once event; it reports whether the id was known.
func (r *receipts) release(id uint16) bool {
	if r == nil {
		return false
	}
	c, ok := r.open[id]
	if !ok {
		return false
	}
	delete(r.open, id)
	if c == r.conn {
		r.counted--
	}
	for i := r.head; r.repeats > 0 && i < len(r.ring); i++ { // the id is free: a repeat must not take it again
		if x := &r.ring[i]; x.repeat && x.ID == id {
			x.ID = 0
		}
	}
	return true
}

// push adds a receipt and returns its number.
func (r *receipts) push(id uint16, q event.QoS) uint32 {
	r.ring = append(r.ring, inbound{Receipt: Receipt{ID: id, QoS: q}})
	return r.first + uint32(len(r.ring)-r.head) - 1
}

// walking says whether the packet id belongs to an event of this connection that has no answer yet.
func (r *receipts) walking(id uint16, q event.QoS) bool {
	for i := r.head; i < len(r.ring); i++ {
		if r.ring[i].ID == id && r.ring[i].QoS == q {
			return true
		}
	}
	return false
}

// taken says that an exactly-once event must never walk again: all that is left is to say so.
func (x *inbound) taken() bool { return x.settled && x.QoS == event.ExactlyOnce && x.Outcome.OK() }

// settle notes an outcome; it reports whether the receipt still exists.
func (r *receipts) settle(seq uint32, o event.Outcome) bool {
	if r == nil {
		return false
	}
	if i := seq - r.first; i < uint32(len(r.ring)-r.head) {
		x := &r.ring[r.head+int(i)]
		x.settled, x.Outcome = true, o
		return true
	}
	for i := range r.orphans {
		x := &r.orphans[i]
		if x.seq != seq || x.settled {
			continue
		}
		x.settled, x.Outcome = true, o
		switch {
		case x.joined:
			to := x.to
			r.drop(i)
			return r.settle(to, o)
		case x.taken():
			r.holdLate(x.ID)
			r.drop(i)
		}
		return true
	}
	return false
}

// refuse notes a policy's refusal of an event that was just pushed.
func (r *receipts) refuse(seq uint32, o event.Outcome) {
	x := &r.ring[r.head+int(seq-r.first)]
	x.settled, x.Outcome, x.Policy = true, o, true
}

func (r *receipts) drop(i int) {
	if r.orphans = slices.Delete(r.orphans, i, i+1); len(r.orphans) == 0 {
		r.orphans = nil
	}
}

// join lets a retry take the place of a receipt that an earlier connection left. It reports whether there was one; then
// the event must not walk again, and an answer may be due at once.
func (r *receipts) join(id uint16, q event.QoS) bool {
	for i := range r.orphans {
		x := &r.orphans[i]
		if x.ID != id || x.QoS != q || x.joined {
			continue
		}
		seq := r.push(id, q)
		if x.settled {
			o := x.Outcome
			r.drop(i)
			r.settle(seq, o)
		} else {
			x.joined, x.to = true, seq
		}
		return true
	}
	return false
}

// forget drops what an earlier connection left for a packet id that the client uses anew.
func (r *receipts) forget(id uint16) {
	for i := range r.orphans {
		if r.orphans[i].ID == id && !r.orphans[i].joined {
			r.drop(i)
			return
		}
	}
}

// detach turns the open receipts into orphans: their connection is gone. At most keep stay, the latest, besides those of
// exactly-once events that are under way: a client that is back sends what it has no answer for again, so these are few.
func (r *receipts) detach(keep int) {
	if r == nil {
		return
	}
	r.conn++
	r.counted = 0
	for i := range r.orphans { // a retry that is itself cut off: the next retry joins the first ticket again
		r.orphans[i].joined = false
	}
	known := make(map[Receipt]struct{}, len(r.orphans))
	for i := range r.orphans {
		known[Receipt{ID: r.orphans[i].ID, QoS: r.orphans[i].QoS}] = struct{}{}
	}
	for i, x := range r.ring[r.head:] {
		_, ok := known[Receipt{ID: x.ID, QoS: x.QoS}]
		switch {
		case x.repeat:
		case x.taken():
			r.holdLate(x.ID)
		case !ok:
			r.orphans = append(r.orphans, orphan{inbound: x, seq: r.first + uint32(i)})
		}
	}
	r.first += uint32(len(r.ring) - r.head)
	r.ring, r.head, r.repeats = nil, 0, 0
	excess := len(r.orphans) - keep
	if excess <= 0 {
		return
	}
	r.orphans = slices.DeleteFunc(r.orphans, func(x orphan) bool {
		if excess <= 0 || x.QoS == event.ExactlyOnce && !x.settled {
			return false
		}
		excess--
		return true
	})
}

// ringKeep is how much room an empty ring may hold on to.
const ringKeep = 64

// next takes the first receipt off when its answer is due.
func (r *receipts) next() (Receipt, bool) {
	for r != nil && r.head < len(r.ring) && r.ring[r.head].settled {
		x := r.ring[r.head]
		r.head++
		r.first++
		switch {
		case r.head == len(r.ring) && cap(r.ring) > ringKeep:
			r.ring, r.head = nil, 0
		case r.head == len(r.ring):
			r.ring, r.head = r.ring[:0], 0
		case r.head >= ringKeep && r.head > len(r.ring)/2:
			r.ring, r.head = r.ring[:copy(r.ring, r.ring[r.head:])], 0
		}
		if x.repeat {
			r.repeats--
		}
		if x.ID != 0 {
			return x.Receipt, true
		}
	}
	return Receipt{}, false
}
