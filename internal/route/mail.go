package route

import (
	"sync/atomic"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/loop"
)

// What one loop has to tell another travels in batches: the events for the takers there, and the outcomes of the events
// that came from there. A batch is staged without locks and posted once per turn.

// keepFrom is the payload size from which an event crosses by reference (kept once) rather than by a copy into the batch.
const keepFrom = 16 << 10

// rec is one event of a batch. Its bytes lie in the batch's data, or in kept.
type rec struct {
	kept    *event.Kept
	from    *event.Origin
	time    int64
	expires int64
	token   uint64 // of the fan's leg on the sending loop; 0: nobody waits
	off     int
	topic   int
	meta    int
	payload int
	legs    int // index of the first leg in legs
	nlegs   int
	qos     event.QoS
	retain  bool
	dry     bool
	trace   uint32
}

// settlement is one outcome on its way back.
type settlement struct {
	token uint64
	n     int32
	o     event.Outcome
	// parked is what takers refused: a dead letter if the publisher is told success
	parked *undecided
}

// batch is the events for another loop of one turn. Owned by who holds it: the stager, the mailbox, the reader.
type batch struct {
	recs []rec
	legs []Sub
	data []byte
	kept int64 // what the events that cross by reference count
}

// answers is the outcomes for another loop of one turn. They need no credit: there can be no more of them than events
// whose outcome is open, and those are bounded where they come from. Owned like a batch.
type answers struct {
	list []settlement
}

// pair is the mail from one loop to another. Safe for concurrent use by its two loops.
type pair struct {
	events  *loop.Mailbox[batch]
	answers *loop.Mailbox[answers]
	starved atomic.Bool // the sender waits for credit: it is woken when some comes back
}

func newPair(to loop.Waker, credit int64) *pair {
	return &pair{events: loop.NewMailbox(to, credit, merge), answers: loop.NewMailbox(to, 0, mergeAnswers)}
}

// charge is what a batch takes of the credit: its size, but not more than there can be. A larger one goes alone.
func (p *pair) charge(b *batch) int64 { return min(b.size(), p.events.Limit()) }

// send posts a batch. Without credit the batch stays, and the sender will be woken.
func (p *pair) send(b *batch) {
	if p.events.Post(b, p.charge(b)) {
		return
	}
	p.starved.Store(true)
	p.events.Post(b, p.charge(b)) // credit that came back before the line above wakes nobody
}

// free gives back what a batch took.
func (p *pair) free(n int64, sender loop.Waker) {
	p.events.Return(n)
	if p.starved.Load() && p.starved.Swap(false) {
		sender.Wake()
	}
}

func mergeAnswers(into, from *answers) {
	into.list = append(into.list, from.list...)
	from.list = from.list[:0]
}

// size is what the batch counts against the pair's credit.
func (b *batch) size() int64 { return int64(len(b.data)+len(b.recs)*96+len(b.legs)*8) + b.kept }

func (b *batch) reset() {
	clear(b.recs)
	b.recs, b.legs, b.kept = b.recs[:0], b.legs[:0], 0
	if cap(b.data) > 4<<20 {
		b.data = nil // one burst must not hold its memory for ever
	}
	b.data = b.data[:0]
}

// add stages an event for takers of one loop.
func (b *batch) add(ev *event.Event, legs []Sub, token uint64) {
	r := rec{from: ev.From, time: ev.Time, expires: ev.Expires, token: token, off: len(b.data), qos: ev.QoS, retain: ev.Retain, dry: ev.Dry, trace: ev.Trace,
		legs: len(b.legs), nlegs: len(legs)}
	if len(ev.Payload) >= keepFrom {
		r.kept = ev.Keep()
		b.kept += int64(ev.Size())
	} else {
		r.topic, r.meta, r.payload = len(ev.Topic), len(ev.Meta), len(ev.Payload)
		b.data = append(append(append(b.data, ev.Topic...), ev.Meta...), ev.Payload...)
	}
	b.legs = append(b.legs, legs...)
	b.recs = append(b.recs, r)
}

// event rebuilds the i-th event in ev, which borrows the batch's bytes.
func (b *batch) event(r *rec, ev *event.Event) {
	if r.kept != nil {
		*ev = r.kept.Event
		return
	}
	t := r.off + r.topic
	m := t + r.meta
	*ev = event.Event{Topic: b.data[r.off:t:t], Meta: b.data[t:m:m], Payload: b.data[m : m+r.payload : m+r.payload],
		From: r.from, Time: r.time, Expires: r.expires, QoS: r.qos, Retain: r.retain, Dry: r.dry, Trace: r.trace}
}

// merge appends src to dst when the reader has not taken dst yet.
func merge(dst, src *batch) {
	o, l := len(dst.data), len(dst.legs)
	for _, r := range src.recs {
		r.off += o
		r.legs += l
		dst.recs = append(dst.recs, r)
	}
	dst.data = append(dst.data, src.data...)
	dst.legs = append(dst.legs, src.legs...)
	dst.kept += src.kept
	src.reset()
}
