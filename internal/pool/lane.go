package pool

import (
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// state is where an event stands.
type state uint8

const (
	queued    state = iota // in the queue: waiting or in flight
	undecided              // refused; what the publisher was told is not known yet
	parked                 // a dead letter
	gone                   // delivered, expired, dropped or forgotten
)

// item is one event in the pool. Guarded by Pool.mu; id, ev, size and promised are immutable once it is pushed.
type item struct {
	id       ID
	ev       *event.Kept
	t        event.Ticket // who waits for the outcome; kept while undecided, to be found by its token
	ack      Ack
	size     int
	promised bool // the sender has, or waits for, an acknowledgement

	state    state
	attempts int
	queued   int64 // Unix nanoseconds
	ended    int64 // when it was refused for good
	reason   reason
	outcome  event.Outcome // of the last attempt, or of the refusal
	err      string        // of the last attempt
	cur      *attempt      // in flight

	lane       *lane
	inLane     node[*item]
	byAge      node[*item] // in Pool.age, Pool.open or the dead letters
	byDeadline node[*item]
	sameToken  *item
	letterID   uint64
}

// attempt is one Send. Guarded by Pool.mu.
type attempt struct {
	it     *item
	c      *conn
	sent   int64
	bySent node[*attempt] // in Pool.flying or member.held while it has a place in the window
}

// place says in which list of lanes a lane is.
type place uint8

const (
	idle   place = iota // nothing to send now
	ready               // Pool.ready
	pinned              // member.pinned
	timed               // Pool.timed
)

// lane is the events of one publisher, topic and QoS, in order. It exists while it has events. Guarded by Pool.mu.
type lane struct {
	key    uint64
	items  list[*item]
	next   *node[*item] // the first to send; those before it are in flight or wait for the others in flight
	flying int
	hold   bool    // an event is to be tried again: nothing more is sent until all in flight are answered
	due    int64   // not before; Unix nanoseconds
	m      *member // where its events in flight are
	at     place
	inList node[*lane]
	heapAt int
}

// push puts an event into the queue and its lane; mu is held.
func (p *Pool) push(it *item, key uint64) {
	l := p.lanes[key]
	if l == nil {
		if n := len(p.spare); n > 0 {
			l, p.spare = p.spare[n-1], p.spare[:n-1]
		} else {
			l = new(lane)
		}
		l.key = key
		p.lanes[key] = l
	}
	it.state, it.lane = queued, l
	l.items.push(&it.inLane, it)
	if l.next == nil && !l.hold {
		l.next = &it.inLane
	}
	p.age.push(&it.byAge, it)
	p.bytes += int64(it.size)
	p.place(l)
}

// leave takes an event out of the queue and its lane, whatever it was doing; mu is held. An attempt in flight keeps its
// place in the window until it is answered or overdue.
func (p *Pool) leave(it *item) {
	l := it.lane
	if l.next == &it.inLane {
		l.next = it.inLane.next
	}
	if l.items.head == &it.inLane && it.cur == nil {
		l.due = 0 // the pause was this event's
	}
	it.inLane.remove()
	it.byAge.remove()
	it.byDeadline.remove()
	p.bytes -= int64(it.size)
	it.lane = nil
	if it.cur != nil {
		it.cur = nil
		p.landed(l)
	}
	p.place(l)
}

// landed says that one event of the lane is no longer in flight; mu is held.
func (p *Pool) landed(l *lane) {
	l.flying--
	if l.flying > 0 {
		return
	}
	l.m = nil
	l.hold = false
	l.next = l.items.head
}

// place puts a lane where it belongs after any change; mu is held.
func (p *Pool) place(l *lane) {
	at := idle
	switch {
	case l.next == nil || l.hold:
	case l.due > 0:
		at = timed
	case l.flying == 0:
		at = ready
	case l.m.ordered():
		at = pinned
	}
	if at != l.at || at == timed {
		p.displace(l)
		l.at = at
		switch at {
		case ready:
			p.ready.push(&l.inList, l)
		case pinned:
			l.m.pinned.push(&l.inList, l)
		case timed:
			p.timed.add(l)
		case idle:
		}
	}
	if l.items.n == 0 {
		delete(p.lanes, l.key)
		*l = lane{}
		if len(p.spare) < spareLanes {
			p.spare = append(p.spare, l)
		}
	}
}

// displace takes a lane out of the list that it is in; mu is held.
func (p *Pool) displace(l *lane) {
	switch l.at {
	case ready, pinned:
		l.inList.remove()
	case timed:
		p.timed.drop(l)
	case idle:
	}
	l.at = idle
}

// spareLanes bounds the lanes that are kept to be used again.
const spareLanes = 1024

// again makes an event wait for its next attempt, and its lane with it; mu is held.
func (p *Pool) again(it *item, pause time.Duration, now int64) {
	l := it.lane
	it.cur = nil
	l.hold = true
	if pause > 0 {
		l.due = max(l.due, now+int64(pause))
	}
	p.landed(l)
	p.place(l)
}
