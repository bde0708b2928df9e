package retain

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"sort"

	"github.com/windrose-edc/windrose/internal/event"
)

// entry is a topic that has a retained event. Guarded by the mutex of its Store.
type entry struct {
	topic string
	kept  *event.Kept
}

// compare orders topics by their levels: the separator comes before every other byte, so that a topic is followed by
// everything below it and only then by its next sibling.
func compare(a, b string) int {
	n, i := min(len(a), len(b)), 0
	for ; n-i >= 8; i += 8 {
		if d := word(a[i:]) ^ word(b[i:]); d != 0 {
			i += bits.TrailingZeros64(d) / 8
			return rank(a[i]) - rank(b[i])
		}
	}
	for ; i < n; i++ {
		if a[i] != b[i] {
			return rank(a[i]) - rank(b[i])
		}
	}
	return len(a) - len(b)
}

func word(s string) uint64 {
	_ = s[7]
	var b [8]byte
	copy(b[:], s)
	return binary.LittleEndian.Uint64(b[:])
}

func rank(c byte) int {
	if c == '/' {
		return 0
	}
	return int(c) + 1
}

// afterSubtree, appended to a topic, makes the least string behind everything below that topic.
const afterSubtree = "\x00"

// blockMax bounds a block; a full one is split in half.
const blockMax = 512

// ordered is entries in the order of compare, in blocks: a change moves a few kilobytes at most, and a search is two binary
// searches. Guarded by the mutex of its Store.
type ordered struct {
	blocks [][]*entry // none is empty
}

// place is a position in ordered: a block and an entry in it. A value; it holds until the next change.
type place struct{ block, at int }

// seek returns the place of the first entry whose topic is not before topic (or, with past, is behind it).
func (o *ordered) seek(topic string, past bool) place {
	limit := 0
	if past {
		limit = 1
	}
	b := sort.Search(len(o.blocks), func(i int) bool {
		return compare(o.blocks[i][len(o.blocks[i])-1].topic, topic) >= limit
	})
	if b == len(o.blocks) {
		return place{b, 0}
	}
	block := o.blocks[b]
	return place{b, sort.Search(len(block), func(i int) bool { return compare(block[i].topic, topic) >= limit })}
}

// get returns the entry at p, nil at the end.
func (o *ordered) get(p place) *entry {
	if p.block >= len(o.blocks) {
		return nil
	}
	return o.blocks[p.block][p.at]
}

func (o *ordered) next(p place) place {
	if p.at++; p.at == len(o.blocks[p.block]) {
		return place{p.block + 1, 0}
	}
	return p
}

// insert puts in an entry that is not there.
func (o *ordered) insert(e *entry) {
	if len(o.blocks) == 0 {
		o.blocks = [][]*entry{{e}}
		return
	}
	p := o.seek(e.topic, false)
	if p.block == len(o.blocks) {
		p.block--
		p.at = len(o.blocks[p.block])
	}
	b := slices.Insert(o.blocks[p.block], p.at, e)
	if len(b) > blockMax {
		half := len(b) / 2
		if p.block == len(o.blocks)-1 && p.at == len(b)-1 {
			half = len(b) - 1 // topics that come in order fill their blocks
		}
		o.blocks = slices.Insert(o.blocks, p.block+1, slices.Clone(b[half:]))
		clear(b[half:])
		b = b[:half]
	}
	o.blocks[p.block] = b
}

// remove takes out the entry of that topic.
func (o *ordered) remove(topic string) {
	p := o.seek(topic, false)
	if e := o.get(p); e == nil || e.topic != topic {
		return
	}
	b := slices.Delete(o.blocks[p.block], p.at, p.at+1)
	o.blocks[p.block] = b
	// Two neighbours that fit into half a block become one.
	for i := max(p.block-1, 0); i <= p.block && i+1 < len(o.blocks); i++ {
		if len(o.blocks[i])+len(o.blocks[i+1]) <= blockMax/2 {
			o.blocks[i] = append(o.blocks[i], o.blocks[i+1]...)
			o.blocks = slices.Delete(o.blocks, i+1, i+2)
			return
		}
	}
	if len(b) == 0 {
		o.blocks = slices.Delete(o.blocks, p.block, p.block+1)
	}
}
