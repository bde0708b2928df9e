package loop

import "math/bits"

// Expirer is what a Timer calls. now is the loop's time (Unix nanoseconds); t is disarmed and may be armed again.
type Expirer interface {
	Expire(t *Timer, now int64)
}

// Timer is armed and disarmed in constant time and without allocation; it is meant to be a field of what it belongs
// to. Owned by the loop it is armed on; it must not be copied while armed.
type Timer struct {
	next, prev *Timer
	e          Expirer
	when       uint64 // millisecond it expires in, and in the lowest slotBits: level<<6 | index, plus one; 0: not armed
}

// Init says whom the timer calls. It must not be armed.
func (t *Timer) Init(e Expirer) { t.e = e }

// Armed says whether Expire is still to come.
func (t *Timer) Armed() bool { return t.when != 0 }

const (
	wheelBits   = 6
	wheelSlots  = 1 << wheelBits
	wheelLevels = 7 // 42 bits of milliseconds: until the year 2109
	maxTick     = 1<<(wheelBits*wheelLevels) - 1
	tickNs      = 1_000_000
	slotBits    = 10 // of Timer.when; 42 are left for the tick, and more
)

// wheel is a hierarchical timer wheel with millisecond ticks: level n has 64 slots of 64^n ms. A timer stands in the
// level of the highest group of six bits in which its tick differs from the current one, so it moves down at most
// wheelLevels-1 times. It never fires early. Owned by its loop.
type wheel struct {
	cur   int64 // every tick up to here has expired
	floor int64 // while expiring: no timer may be put at or before this tick
	count int
	call  func(t *Timer, now int64) // instead of Expire, nil: as it is
	used  [wheelLevels]uint64
	slots [wheelLevels][wheelSlots]*Timer
}

func (w *wheel) init(now int64) { w.cur = now / tickNs; w.floor = w.cur }

func (w *wheel) arm(t *Timer, at int64) {
	if t.when != 0 {
		w.disarm(t)
	}
	tick := at / tickNs
	if at%tickNs > 0 {
		tick++
	}
	w.place(t, min(max(tick, w.floor+1), maxTick))
	w.count++
}

func (w *wheel) place(t *Timer, tick int64) {
	level := 0
	if diff := uint64(tick ^ w.cur); diff != 0 {
		level = (bits.Len64(diff) - 1) / wheelBits
	}
	i := int(tick>>(level*wheelBits)) & (wheelSlots - 1)
	head := &w.slots[level][i]
	t.prev, t.next = nil, *head
	if t.next != nil {
		t.next.prev = t
	}
	*head = t
	w.used[level] |= 1 << i
	t.when = uint64(tick)<<slotBits | uint64(level<<wheelBits|i) + 1
}

func (w *wheel) disarm(t *Timer) {
	if t.when == 0 {
		return
	}
	w.unlink(t)
	w.count--
}

func (w *wheel) unlink(t *Timer) {
	s := int(t.when&(1<<slotBits-1)) - 1
	level, i := s>>wheelBits, s&(wheelSlots-1)
	if t.prev != nil {
		t.prev.next = t.next
	} else if w.slots[level][i] = t.next; t.next == nil {
		w.used[level] &^= 1 << i
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	t.next, t.prev, t.when = nil, nil, 0
}

// next returns the next tick in which something is to be done: a timer expires or moves down a level.
func (w *wheel) next() (tick int64, ok bool) {
	if w.count == 0 {
		return 0, false
	}
	for level := range wheelLevels {
		shift := level * wheelBits
		i := int(w.cur>>shift) & (wheelSlots - 1)
		// 2<<63 is 0, so that nothing is left over the last slot
		if u := w.used[level] &^ (2<<i - 1); u != 0 {
			block := w.cur >> (shift + wheelBits) << (shift + wheelBits)
			return block | int64(bits.TrailingZeros64(u))<<shift, true
		}
	}
	return 0, false
}

// nextAt is the time, in Unix nanoseconds, at which advance has something to do.
func (w *wheel) nextAt() (at int64, ok bool) {
	tick, ok := w.next()
	return tick * tickNs, ok
}

// advance calls every timer that is due at now. A timer armed meanwhile is not called before the next advance.
func (w *wheel) advance(now int64) {
	to := now / tickNs
	if to <= w.cur {
		return
	}
	w.floor = to
	for {
		tick, ok := w.next()
		if !ok || tick > to {
			break
		}
		w.cur = tick
		for level := wheelLevels - 1; level > 0; level-- {
			shift := level * wheelBits
			if tick&(1<<shift-1) != 0 {
				continue
			}
			i := int(tick>>shift) & (wheelSlots - 1)
			for t := w.slots[level][i]; t != nil; t = w.slots[level][i] {
				at := int64(t.when >> slotBits)
				w.unlink(t)
				w.place(t, at)
			}
		}
		i := int(tick) & (wheelSlots - 1)
		for t := w.slots[0][i]; t != nil; t = w.slots[0][i] {
			w.disarm(t)
			if w.call != nil {
				w.call(t, now)
			} else {
				t.e.Expire(t, now)
			}
		}
	}
	w.cur = to
}
