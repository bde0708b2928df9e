package route

import "github.com/windrose-edc/windrose/internal/event"

// A fan makes one outcome of the outcomes of many legs. A slot exists only while legs are open that answer later; an
// event whose legs all answered during the walk never has one.
//
// The rule of legs (architecture, section 2): the publisher hears when every leg has answered or the deadline passes.
// One acceptance makes the outcome accepted; then the refusals of other legs are parked by their targets (Decide).
// Without any acceptance the outcome is the first refusal.

// fanMax bounds the open slots of a loop. At the bound publishing is held, so settlement space is always reserved.
// fanSlots is how many a token can name: who does not ask whether to hold is refused there.
const (
	fanMax   = 1 << 17
	fanSlots = 1 << 20
)

// legRef is a leg whose target may refuse late. Owned by its slot.
type legRef struct {
	d     Decider
	token uint64
}

// fanSlot is one event whose outcome is open. Owned by the walker's loop.
type fanSlot struct {
	t        event.Ticket
	deadline int64
	gen      uint32
	pending  int32
	numbered uint8  // legs that have a number of their own
	answered uint64 // of the first legs, by number: what answers twice speaks for no other
	prev     int32  // neighbours by deadline; -1: none
	next     int32
	refusal  event.Outcome
	refused  bool
	accepted bool
	open     bool
	legs     []legRef
	parked   *undecided // what outboxes refused
}

// fan is the table of slots. Owned by the walker's loop.
type fan struct {
	slots      []fanSlot
	free       []int32
	loop       int
	head, tail int32 // by deadline: all deadlines have the same length, so the order of opening is theirs
	n          int
	dead       DeadLetters // may be nil
	late       uint64      // settlements of slots that are gone and of legs that had answered
}

func newFan(loop int) fan { return fan{loop: loop, head: -1, tail: -1} }

// A token names a slot (20 bits), a leg (8 bits; 0 is the walk itself, the last number is shared by all further legs),
// the loop (8 bits: targets know events of all loops by their tokens) and the slot's generation (28 bits).
func fanToken(loop int, slot int32, leg uint8, gen uint32) uint64 {
	return uint64(gen)<<36 | uint64(loop&0xff)<<28 | uint64(leg)<<20 | uint64(slot)
}

const (
	fanGens  = 1 << 28
	lastLeg  = 255
	onceLegs = 64 // legs whose second answer is noticed
)

// begin opens a slot with one pending leg: the walk itself, settled by the walk's end.
func (f *fan) begin(t event.Ticket, deadline int64) int32 {
	var i int32
	if n := len(f.free); n > 0 {
		i, f.free = f.free[n-1], f.free[:n-1]
	} else {
		i = int32(len(f.slots))
		f.slots = append(f.slots, fanSlot{gen: 1})
	}
	s := &f.slots[i]
	s.t, s.deadline, s.pending, s.open = t, deadline, 1, true
	s.refused, s.accepted, s.numbered, s.answered = false, false, 0, 0
	s.prev, s.next = f.tail, -1
	if f.tail >= 0 {
		f.slots[f.tail].next = i
	} else {
		f.head = i
	}
	f.tail = i
	f.n++
	return i
}

// leg adds a pending leg and returns its token.
func (f *fan) leg(i int32, d Decider) uint64 {
	s := &f.slots[i]
	s.pending++
	if s.numbered < lastLeg {
		s.numbered++
	}
	tok := fanToken(f.loop, i, s.numbered, s.gen)
	if d != nil {
		s.legs = append(s.legs, legRef{d, tok})
	}
	return tok
}

// settle takes the outcome of n legs; it finishes the slot when it was the last.
// parked is what takers refused, in the hands of the slot from now on; a slot that is gone cannot decide any more, and
// then it becomes a dead letter: one too many, never an event too few.
func (f *fan) settle(token uint64, o event.Outcome, n int, parked *undecided) {
	i := int32(token & (fanSlots - 1))
	if int(i) >= len(f.slots) || f.slots[i].gen != uint32(token>>36) || !f.slots[i].open {
		f.late++
		parked.park(f.dead)
		return
	}
	s := &f.slots[i]
	if parked != nil {
		s.parked = parked.before(s.parked)
	}
	if leg := token >> 20 & 0xff; leg < onceLegs {
		if s.answered>>leg&1 != 0 {
			f.late++
			return
		}
		s.answered |= 1 << leg
	}
	if o.OK() {
		s.took(token)
	}
	switch {
	case o == event.Accepted:
		s.accepted = true
	case o != event.NoMatch && !s.refused:
		s.refused, s.refusal = true, o
	}
	if s.pending -= int32(n); s.pending <= 0 {
		f.finish(i)
	}
}

// took forgets a leg whose target did not refuse: there is nothing to decide.
func (s *fanSlot) took(token uint64) {
	for i := range s.legs {
		if s.legs[i].token == token {
			s.legs[i].d = nil
			return
		}
	}
}

// finish tells the targets that refused or did not answer what is to become of the event, then the publisher.
func (f *fan) finish(i int32) {
	s := &f.slots[i]
	o := verdict(s.accepted, s.refused, s.refusal)
	for _, l := range s.legs {
		if l.d != nil {
			l.d.Decide(l.token, o.OK())
		}
	}
	if o.OK() {
		s.parked.park(f.dead)
	}
	f.release(i).Settle(o)
}

// verdict is the rule of legs.
func verdict(accepted, refused bool, refusal event.Outcome) event.Outcome {
	switch {
	case accepted:
		return event.Accepted
	case refused:
		return refusal
	}
	return event.NoMatch
}

func (f *fan) release(i int32) event.Ticket {
	s := &f.slots[i]
	t := s.t
	if s.prev >= 0 {
		f.slots[s.prev].next = s.next
	} else {
		f.head = s.next
	}
	if s.next >= 0 {
		f.slots[s.next].prev = s.prev
	} else {
		f.tail = s.prev
	}
	s.t, s.open, s.parked = event.Ticket{}, false, nil
	s.gen = (s.gen + 1) % fanGens
	clear(s.legs)
	s.legs = s.legs[:0]
	f.free = append(f.free, i)
	f.n--
	return t
}

// expire ends the slots whose deadline has passed: the publisher hears accepted where some target took the event (the
// open legs are parked by their targets), and that the outcome is not known where none did.
func (f *fan) expire(now int64) (n int) {
	for f.head >= 0 && f.slots[f.head].deadline <= now {
		s := &f.slots[f.head]
		if !s.accepted && !s.refused {
			s.refused, s.refusal = true, event.Indeterminate
		}
		f.finish(f.head)
		n++
	}
	return n
}
