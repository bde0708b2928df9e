package route

import (
	"math/bits"
	"slices"
	"sync/atomic"
)

// The trie of levels is one hash table of edges: (node, level) -> what lies behind it. A node is only a number, and a node
// without children not even that, so that most filters cost one edge or two.
//
//	key   label handle (31 bits) | parent node (26) | tag: part of the level's hash (7)
//	value 0: the edge is dead; or one subscriber and no children (see inlineVal);
//	      or child node (26, 0: no children) | flags (3) | subscribers (31, a handle, 0: none)
//
// An edge is placed by the hash of its whole path from the root. So a reader knows where the edges of all levels of a
// topic are before it has read the first one, and waits for memory once, not once for each level.
//
// The edges of node 0, which is none, are the dictionary: each label once, with its number of uses as the value.
//
// The table is cut into segments by hash. A segment is a bucketed open-addressing table in which keys are only ever
// added; a dead edge keeps its key. When it is full the writer makes a new one of the live edges, a matter of
// microseconds, and publishes it by one pointer. So readers need no lock, no key is ever seen half written, and no growth
// of the whole table delays a change.

const (
	segmentBits = 10
	bucketBits  = 32 - segmentBits
	bucketSize  = 4 // edges in a cache line
	segmentMin  = 2 * bucketSize

	nodeBits = 26
	nodeMax  = 1<<nodeBits - 1

	keyTagBits    = 7
	keyTagMask    = 1<<keyTagBits - 1
	keyParentMask = 1<<(keyTagBits+nodeBits) - 1
	keyLabelShift = keyTagBits + nodeBits

	valSubsMask  = 1<<(blockClassBits+blockIndexBits) - 1
	valPlus      = 1 << 31 // there is a child +
	valHash      = 1 << 32 // there is a child #
	valText      = 1 << 33 // there is any other child
	valFlags     = valPlus | valHash | valText
	valNodeShift = 34
	valInline    = 1 << 63
)

func keyOf(label, parent uint32, level uint64) uint64 {
	return uint64(label)<<keyLabelShift | keyHalf(parent, level)
}

// keyHalf is the key without the label.
func keyHalf(parent uint32, level uint64) uint64 {
	return uint64(parent)<<keyTagBits | level&keyTagMask
}

func keyLabel(k uint64) uint32  { return uint32(k >> keyLabelShift) }
func keyParent(k uint64) uint32 { return uint32(k>>keyTagBits) & nodeMax }

// childPath is the hash of the path to a level below a node whose own path is known.
func childPath(parent uint32, level uint64) uint32 {
	hi, lo := bits.Mul64(level^uint64(parent)*0x9e3779b97f4a7c15, 0xd6e8feb86659fd93)
	return uint32((hi ^ lo) >> 32)
}

// edge is one slot of the table. Read by everyone, written by the index's goroutine; key is written once, after val.
type edge struct{ key, val atomic.Uint64 }

// segment is one part of the table. The slice is immutable; used and dead are owned by the index's goroutine.
type segment struct {
	edges []edge
	used  int // slots with a key
	dead  int // of those, the ones without a value
}

// table is all edges. Read by everyone, written by the index's goroutine.
type table struct {
	segments [1 << segmentBits]atomic.Pointer[segment]

	live, dead, slots int
	rebuilds          uint64
}

func (t *table) at(path uint32) *atomic.Pointer[segment] { return &t.segments[path>>bucketBits] }

// start is the slot at which the search for a path begins.
func (s *segment) start(path uint32) int {
	return int(uint64(path&(1<<bucketBits-1))*uint64(len(s.edges)/bucketSize)>>bucketBits) * bucketSize
}

// touch has the processor fetch the memory in which a path's edge is.
func (t *table) touch(path uint32) {
	if s := t.at(path).Load(); s != nil {
		s.edges[s.start(path)].key.Load()
	}
}

// get returns the value of the edge with exactly this label, 0 when there is none. Safe for everyone.
func (t *table) get(parent, path, label uint32, level uint64) uint64 {
	s := t.at(path).Load()
	if s == nil {
		return 0
	}
	want := keyOf(label, parent, level)
	for i := s.start(path); ; {
		b := s.edges[i : i+bucketSize]
		for j := range b {
			switch b[j].key.Load() {
			case want:
				return b[j].val.Load()
			case 0:
				return 0
			}
		}
		if i += bucketSize; i == len(s.edges) {
			i = 0
		}
	}
}

// add puts in an edge that is not there. val is not 0. It returns false when the segment must be rebuilt before. Edges that
// were found before stay where they are.
func (t *table) add(path uint32, key, val uint64) bool {
	s := t.at(path).Load()
	if s == nil {
		return false
	}
	for i := s.start(path); ; {
		e := &s.edges[i]
		switch e.key.Load() {
		case key: // it was here before and died
			e.val.Store(val)
			s.dead--
			t.dead--
			t.live++
			return true
		case 0:
			if s.used+1 > len(s.edges)*7/8 {
				return false
			}
			e.val.Store(val)
			e.key.Store(key)
			s.used++
			t.live++
			return true
		}
		if i++; i == len(s.edges) {
			i = 0
		}
	}
}

// kill ends an edge that was found. It returns true when the segment had better be rebuilt.
func (t *table) kill(e *edge, path uint32) bool {
	e.val.Store(0)
	s := t.at(path).Load()
	s.dead++
	t.dead++
	t.live--
	return s.dead > s.used/2 && len(s.edges) > 2*segmentMin
}

// rebuild publishes a new segment of the live edges of the one to which path belongs, with room for some more. pathOf
// returns the path of a key. Edges that were found before are not to be written any more.
func (t *table) rebuild(path uint32, pathOf func(key uint64) uint32) {
	p := t.at(path)
	old := p.Load()
	if old == nil {
		old = &segment{}
	}
	// How much room differs between segments, so that they do not all become full at the same time.
	n := old.used - old.dead
	room := n/4 + n*int(path>>bucketBits&15)/32 + bucketSize
	edges := slices.Grow([]edge(nil), max(segmentMin, n+room)) // Grow also gives what the allocator would waste
	s := &segment{edges: edges[:cap(edges)/bucketSize*bucketSize], used: n}
	for i := range old.edges {
		k, v := old.edges[i].key.Load(), old.edges[i].val.Load()
		if v == 0 {
			continue
		}
		j := s.start(pathOf(k))
		for s.edges[j].key.Load() != 0 {
			if j++; j == len(s.edges) {
				j = 0
			}
		}
		s.edges[j].val.Store(v)
		s.edges[j].key.Store(k)
	}
	t.dead -= old.dead
	t.slots += len(s.edges) - len(old.edges)
	t.rebuilds++
	p.Store(s)
}
