package route

import "math/bits"

// A list of the subscribers of one filter is a block of words. Each word is a Sub with its bits inverted, so that 0 is an
// empty place; only the taker 0xffffffff, which nobody has, could not be told from it. A place keeps its subscriber until
// that leaves; a list that is full or mostly empty is copied into another block. So a reader sees each subscriber that
// stays exactly once, whichever block it has.
//
// Up to listLinear places are searched one by one. Larger lists are hash tables over the takers, for the sake of filters
// with a hundred thousand subscribers: their first word counts, and listGone keeps the place of who left.

const (
	listLinear = 16
	listGone   = 1
)

func subWord(s Sub) uint64          { return ^uint64(s) }
func takerWord(taker uint32) uint64 { return uint64(^taker) }

// appendSubs appends the subscribers of a list to dst. Safe for everyone.
func appendSubs(dst []Sub, b []word) []Sub {
	if len(b) > listLinear {
		b = b[1:]
	}
	for i := range b {
		if w := b[i].Load(); w > listGone {
			dst = append(dst, Sub(subWord(Sub(w))))
		}
	}
	return dst
}

// The count of a large list: places in use with those of listGone in the low half, subscribers in the high half.
func listCount(b []word) (used, live int) {
	w := b[0].Load()
	return int(w & 0xffffffff), int(w >> 32)
}

func setListCount(b []word, used, live int) { b[0].Store(uint64(live)<<32 | uint64(used)) }

// place finds the place of a taker, or the empty one where it belongs; found says which. In a small list without an empty
// place it is -1.
func place(b []word, taker uint32) (at int, found bool) {
	want := takerWord(taker)
	if len(b) <= listLinear {
		at = -1
		for i := range b {
			switch w := b[i].Load(); {
			case w == 0:
				at = i
			case w>>32 == want:
				return i, true
			}
		}
		return at, false
	}
	b = b[1:]
	hi, _ := bits.Mul64(uint64(taker)*0x9e3779b97f4a7c15, uint64(len(b)))
	for i, gone := int(hi), -1; ; {
		switch w := b[i].Load(); {
		case w == 0:
			if gone >= 0 {
				i = gone
			}
			return i + 1, false
		case w == listGone:
			if gone < 0 {
				gone = i
			}
		case w>>32 == want:
			return i + 1, true
		}
		if i++; i == len(b) {
			i = 0
		}
	}
}

// put adds a subscriber to the list h (0: none), in the place of the one with the same taker. It returns the list's new
// handle; ok is false when the arena is full.
func (a *arena) put(h uint32, s Sub) (list uint32, added, changed, ok bool) {
	w := subWord(s)
	if h == 0 {
		if h, ok = a.alloc(1); ok {
			a.block(h)[0].Store(w)
		}
		return h, ok, ok, ok
	}
	b := a.block(h)
	at, found := place(b, s.Taker())
	if found {
		changed = b[at].Load() != w
		b[at].Store(w)
		return h, false, changed, true
	}
	if len(b) > listLinear {
		used, live := listCount(b)
		if b[at].Load() == 0 {
			used++
		}
		if used > (len(b)-1)*3/4 {
			at = -1
		} else {
			setListCount(b, used, live+1)
		}
	}
	if at >= 0 {
		b[at].Store(w)
		return h, true, true, true
	}
	if list, ok = a.copyList(b, 1); !ok {
		return h, false, false, false
	}
	a.release(h)
	list, _, _, _ = a.put(list, s)
	return list, true, true, true
}

// cut takes a subscriber out of the list h. It returns the list's new handle, 0 when it was the last.
func (a *arena) cut(h uint32, taker uint32) (list uint32, removed bool) {
	b := a.block(h)
	at, found := place(b, taker)
	if !found {
		return h, false
	}
	var live int
	if len(b) > listLinear {
		b[at].Store(listGone)
		var used int
		used, live = listCount(b)
		live--
		setListCount(b, used, live)
	} else {
		b[at].Store(0)
		for i := range b {
			if b[i].Load() != 0 {
				live++
			}
		}
	}
	if live == 0 {
		a.release(h)
		return 0, true
	}
	// A smaller copy is made where it has less than half the size, so that a list at the brink is not copied to and fro.
	if live*3 > len(b) || len(b) > listLinear && live*6 > len(b) {
		return h, true
	}
	if c, ok := a.copyList(b, 0); ok {
		a.release(h)
		return c, true
	}
	return h, true
}

// copyList makes a list of the subscribers of b with room for more.
func (a *arena) copyList(b []word, more int) (h uint32, ok bool) {
	live := 0
	if len(b) > listLinear {
		_, live = listCount(b)
		b = b[1:]
	} else {
		for i := range b {
			if b[i].Load() != 0 {
				live++
			}
		}
	}
	n := live + more
	if n > listLinear {
		n = 2*n + 1
	}
	if h, ok = a.alloc(n); !ok {
		return 0, false
	}
	c := a.block(h)
	for i := range c {
		c[i].Store(0)
	}
	for i := range b {
		w := b[i].Load()
		if w <= listGone {
			continue
		}
		at, _ := place(c, Sub(subWord(Sub(w))).Taker())
		c[at].Store(w)
	}
	if len(c) > listLinear {
		setListCount(c, live, live)
	}
	return h, true
}
