package topk

// Recent is the keys that come most often now: two sketches, of which one is filled and the other is what came in the span
// before. Only one in a number of keys is looked at, chosen at random, so that a stream pays next to nothing. Its memory is made
// with the first key. Owned by one loop.
type Recent struct {
	size     int
	every    uint64 // one in so many is looked at
	span     int64  // nanoseconds of one sketch
	skip     uint64 // keys that are passed over until the next look
	rand     uint64
	cur, old *Sketch
	begin    int64 // of cur, Unix nanoseconds
	oldBegin int64 // of old; 0: there is none
}

// NewRecent makes an empty one: of size keys, looking at one key in every, over one to two times span nanoseconds.
func NewRecent(size, every int, span int64) *Recent {
	return &Recent{size: size, every: uint64(max(every, 1)), span: span, rand: 0x9e3779b97f4a7c15}
}

// Due says whether the next key is to be given to Add; else it is passed over. This is what a hot path pays for each key.
func (r *Recent) Due() bool {
	if r.skip > 0 {
		r.skip--
		return false
	}
	return true
}

// Add counts a key for all that were passed over. now is Unix nanoseconds. It borrows key.
func (r *Recent) Add(key []byte, now int64) {
	r.turn(now)
	r.cur.Add(key, r.every)
	r.next()
}

// AddString is Add.
func (r *Recent) AddString(key string, now int64) {
	var b [MaxKey]byte
	r.Add(b[:copy(b[:], key)], now)
}

// next draws how many keys are passed over: 0 to 2*(every-1), so that what comes in step is not looked at in step.
func (r *Recent) next() {
	r.rand ^= r.rand << 13
	r.rand ^= r.rand >> 7
	r.rand ^= r.rand << 17
	r.skip = (r.rand >> 33) % (2*r.every - 1)
}

// turn begins a new sketch where the span is over.
func (r *Recent) turn(now int64) {
	switch {
	case r.cur == nil:
		r.cur, r.old, r.begin = New(r.size), New(r.size), now
	case now-r.begin >= 2*r.span: // nothing came for long
		r.cur.Reset()
		r.old.Reset()
		r.begin, r.oldBegin = now, 0
	case now-r.begin >= r.span:
		r.cur, r.old = r.old, r.cur
		r.cur.Reset()
		r.begin, r.oldBegin = now, r.begin
	}
}

// List is a copy of the n keys with the highest counts, and over how many nanoseconds they were counted.
func (r *Recent) List(n int, now int64) (items []Item, span int64) {
	if r.cur == nil {
		return nil, 0
	}
	r.turn(now)
	begin := r.begin
	if r.oldBegin != 0 {
		begin = r.oldBegin
	}
	return Merge(n, r.cur.List(r.size), r.old.List(r.size)), now - begin
}
