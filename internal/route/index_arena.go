package route

import (
	"math/bits"
	"sync/atomic"
)

// The index keeps everything of variable length, the text of levels and lists of subscribers, in blocks of 64-bit words
// that a 31-bit handle names. The garbage collector sees a few hundred pointer-free chunks however many blocks there are.
//
// Readers hold no lock, so a block that is given back must not be handed out again while a reader may still look at it.
// Blocks (and the numbers of nodes) rest in a limbo for two epochs: whoever read the epoch first and sees at the end that
// it advanced by at most one knows that nothing it looked at had been reused; else it reads again (see Index.Match).

const (
	blockClassBits = 5
	blockIndexBits = 26
	blockMax       = 1<<blockIndexBits - 1
	chunkWords     = 4096 // a chunk is 32 KiB, or one block where that is larger
)

// blockWords are the sizes of blocks. Most are a power of two; the small ones, which are many, come in finer steps.
var blockWords = [...]uint32{
	1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 1 << 7, 1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15,
	1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 22, 1 << 23, 1 << 24,
}

type word = atomic.Uint64

// slab is the blocks of one size. Chunks are read by everyone, the rest is owned by the index's goroutine.
type slab struct {
	chunks atomic.Pointer[[][]word]
	shift  uint // log2 of the blocks in a chunk
	next   uint32
	free   []uint32
}

// arena is all blocks and the limbo. Read by everyone, written by the index's goroutine.
type arena struct {
	slabs [len(blockWords)]slab
	epoch atomic.Uint64
	fresh []uint32 // handles freed in this epoch
	aged  []uint32 // handles freed in the epoch before
	bytes int64
}

func (a *arena) init() {
	for c := range a.slabs {
		s := &a.slabs[c]
		s.shift = uint(bits.Len32(chunkWords/min(chunkWords, blockWords[c])) - 1)
		s.chunks.Store(new([][]word))
	}
	a.slabs[0].next = 1 // the handle 0 means none
}

// block returns the words of a block. Any handle that was ever handed out is safe.
func (a *arena) block(h uint32) []word {
	c, i := h>>blockIndexBits, h&blockMax
	s, w := &a.slabs[c], blockWords[c]
	off := (i & (1<<s.shift - 1)) * w
	return (*s.chunks.Load())[i>>s.shift][off : off+w]
}

// alloc hands out a block of at least n words; their content is undefined. ok is false when there are no more handles.
func (a *arena) alloc(n int) (h uint32, ok bool) {
	c := 0
	for c < len(blockWords) && int(blockWords[c]) < n {
		c++
	}
	if c == len(blockWords) {
		return 0, false
	}
	s := &a.slabs[c]
	if n := len(s.free); n > 0 {
		h, s.free = s.free[n-1], s.free[:n-1]
		return h, true
	}
	if s.next > blockMax {
		return 0, false
	}
	if chunks := *s.chunks.Load(); int(s.next>>s.shift) == len(chunks) {
		chunks = append(chunks, make([]word, blockWords[c]<<s.shift))
		s.chunks.Store(&chunks)
		a.bytes += int64(blockWords[c]) << s.shift * 8
	}
	h = uint32(c)<<blockIndexBits | s.next
	s.next++
	return h, true
}

// release gives a block back.
func (a *arena) release(h uint32) { a.fresh = append(a.fresh, h) }

// advance begins a new epoch: what was freed in the epoch before the last may be handed out again.
func (a *arena) advance() {
	a.epoch.Add(1)
	for _, h := range a.aged {
		s := &a.slabs[h>>blockIndexBits]
		s.free = append(s.free, h)
	}
	a.fresh, a.aged = a.aged[:0], a.fresh
}

// limbo is how many blocks wait for their epoch.
func (a *arena) limbo() int { return len(a.fresh) + len(a.aged) }
