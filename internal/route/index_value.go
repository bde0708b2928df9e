package route

// The value of an edge whose only contents is one subscriber is that subscriber itself, with valInline in the place of the
// highest bit and without bit 31, which must be 0: most filters have one subscriber and nothing behind them. All other
// values are a child node, flags and a list.

func inlineVal(s Sub) (v uint64, ok bool) {
	return valInline | uint64(s)>>32<<31 | uint64(s)&(1<<31-1), s&(1<<31) == 0
}

func inlineSub(v uint64) Sub { return Sub(v<<1>>32<<32 | v&(1<<31-1)) }

func valNode(v uint64) uint32 {
	if v&valInline != 0 {
		return 0
	}
	return uint32(v >> valNodeShift)
}

func valFlagsOf(v uint64) uint64 {
	if v&valInline != 0 {
		return 0
	}
	return v & valFlags
}

// spill returns v with its subscriber, if that is inline, in a list. ok is false when the arena has no more room.
func (a *arena) spill(v uint64) (spilt uint64, ok bool) {
	if v&valInline == 0 {
		return v, true
	}
	list, _, _, ok := a.put(0, inlineSub(v))
	return uint64(list), ok
}

// putVal adds a subscriber to a value, in the place of the one with the same taker. added says that there was none, changed
// that the value means something else now; ok is false when the arena has no more room.
func (a *arena) putVal(v uint64, s Sub) (nv uint64, added, changed, ok bool) {
	nv, fits := inlineVal(s)
	switch {
	case v == 0 && fits:
		return nv, true, true, true
	case v&valInline != 0 && fits && inlineSub(v).Taker() == s.Taker():
		return nv, false, nv != v, true
	}
	if nv, ok = a.spill(v); !ok {
		return v, false, false, false
	}
	list, added, changed, ok := a.put(uint32(nv&valSubsMask), s)
	if !ok {
		if nv != v {
			a.release(uint32(nv))
		}
		return v, false, false, false
	}
	return nv&^valSubsMask | uint64(list), added, changed, true
}

// cutVal takes a subscriber out of a value.
func (a *arena) cutVal(v uint64, taker uint32) (nv uint64, removed bool) {
	if v&valInline != 0 {
		if inlineSub(v).Taker() == taker {
			return 0, true
		}
		return v, false
	}
	list := uint32(v & valSubsMask)
	if list == 0 {
		return v, false
	}
	list, removed = a.cut(list, taker)
	return v&^valSubsMask | uint64(list), removed
}

// takeVal appends the subscribers of a value to dst. Safe for everyone.
func (a *arena) takeVal(v uint64, dst []Sub) []Sub {
	switch {
	case v&valInline != 0:
		return append(dst, inlineSub(v))
	case v&valSubsMask != 0:
		return appendSubs(dst, a.block(uint32(v&valSubsMask)))
	}
	return dst
}
