package sets

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"unsafe"
)

// table is a hash table of strings without pointers: a million of them cost the garbage collector nothing. Immutable
// once it is built.
type table struct {
	seed   maphash.Seed
	slots  []uint32 // 1 + where the entry begins in data; 0: free
	data   []byte   // length and bytes of the key, then of the value where there are values
	valued bool
	n      int
}

// errSize is a table that grows beyond what its offsets reach.
var errSize = errors.New("the entries have more than 4 GiB")

// newTable makes a table for n entries.
func newTable(n int, valued bool) *table {
	size := 1 << bits.Len(uint(n+n/2)|7)
	return &table{seed: maphash.MakeSeed(), slots: make([]uint32, size), valued: valued}
}

// entry reads what begins at i: the string and the place after it.
func (t *table) entry(i int) (string, int) {
	n, w := binary.Uvarint(t.data[i:])
	i += w
	b := t.data[i : i+int(n)]
	return unsafe.String(unsafe.SliceData(b), len(b)), i + int(n)
}

// place finds the slot of key, and its entry where there is one.
func (t *table) place(key string) (slot int, entry int, ok bool) {
	mask := len(t.slots) - 1
	for i := int(maphash.String(t.seed, key)) & mask; ; i = (i + 1) & mask {
		at := t.slots[i]
		if at == 0 {
			return i, 0, false
		}
		if k, next := t.entry(int(at - 1)); k == key {
			return i, next, true
		}
	}
}

// add puts an entry in; of two with one key the first stays, and again says that there was one.
func (t *table) add(key, value string) (again bool, err error) {
	if t.n*4 >= len(t.slots)*3 {
		t.grow()
	}
	slot, _, ok := t.place(key)
	if ok {
		return true, nil
	}
	if len(t.data)+len(key)+len(value)+20 > math.MaxUint32 {
		return false, errSize
	}
	t.slots[slot] = uint32(len(t.data)) + 1
	t.data = append(binary.AppendUvarint(t.data, uint64(len(key))), key...)
	if t.valued {
		t.data = append(binary.AppendUvarint(t.data, uint64(len(value))), value...)
	}
	t.n++
	return false, nil
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]uint32, 2*len(old))
	for _, at := range old {
		if at != 0 {
			k, _ := t.entry(int(at - 1))
			slot, _, _ := t.place(k)
			t.slots[slot] = at
		}
	}
}

func (t *table) has(key string) bool {
	_, _, ok := t.place(key)
	return ok
}

func (t *table) get(key string) (string, bool) {
	_, at, ok := t.place(key)
	if !ok || !t.valued {
		return "", false
	}
	v, _ := t.entry(at)
	return v, true
}

func (t *table) size() int    { return t.n }
func (t *table) bytes() int64 { return int64(4*len(t.slots) + cap(t.data)) }

// builder collects entries of one kind. Owned by one load.
type builder struct {
	kind   Kind
	table  *table
	ranges []span
	trie   *node
	n      int
}

func newBuilder(kind Kind, n int) *builder {
	b := &builder{kind: kind}
	switch kind {
	case Strings, Map:
		b.table = newTable(n, kind == Map)
	case Topics:
		b.trie = &node{}
	case CIDRs:
	}
	return b
}

// add takes one entry; value is that of a Map.
func (b *builder) add(key, value string) error {
	if b.n++; b.n > MaxEntries {
		return fmt.Errorf("more than %d entries", MaxEntries)
	}
	switch b.kind {
	case Strings, Map:
		if len(key) > MaxLength || len(value) > MaxLength {
			return fmt.Errorf("an entry is longer than %d bytes", MaxLength)
		}
		again, err := b.table.add(key, value)
		if err == nil && again && b.kind == Map {
			if v, _ := b.table.get(key); v != value {
				return fmt.Errorf("%q occurs twice with different values", key)
			}
		}
		return err
	case CIDRs:
		s, err := parseSpan(key)
		b.ranges = append(b.ranges, s)
		return err
	default:
	}
	if b.n > MaxFilters {
		return fmt.Errorf("more than %d topic filters", MaxFilters)
	}
	return b.trie.add(key)
}

// build is the content of what was added.
func (b *builder) build() *held {
	switch b.kind {
	case Strings, Map:
		return &held{content: b.table, bytes: b.table.bytes()}
	case CIDRs:
		c := newCIDRs(b.ranges, b.n)
		return &held{content: c, bytes: int64(len(c.spans)) * int64(unsafe.Sizeof(span{}))}
	default:
	}
	return &held{content: &topics{root: b.trie, n: b.n}, bytes: b.trie.bytes()}
}
