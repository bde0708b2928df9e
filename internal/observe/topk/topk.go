// Package topk finds the keys that come most often in a stream of any number of keys, in bounded memory: the space-saving
// sketch of Metwally, Agrawal and El Abbadi ("Efficient Computation of Frequent and Top-k Elements in Data Streams", 2005).
//
// # Concurrency
//
// A Sketch and a Sampler belong to one loop, which is their only writer; what List returns is a copy. Merge works on copies.
package topk

import (
	"hash/maphash"
	"slices"
	"strings"
)

// MaxKey is how many bytes of a key are looked at: longer ones count as one where they begin alike.
const MaxKey = 512

// usualKey is the room for a key that is made beforehand.
const usualKey = 48

// Item is one key with its estimate. Immutable.
type Item struct {
	Key   string
	Count uint64 // at least as many as there were
	Error uint64 // at most so many of Count were others
}

// entry is one key that is counted. Owned by its sketch.
type entry struct {
	key   []byte
	hash  uint64
	count uint64
	over  uint64
	place int32 // in the heap
}

// Sketch counts the size keys that come most often: each key that makes more than 1/size of the stream is among them. Adding
// allocates only until the memory of its keys has grown. Owned by one loop.
type Sketch struct {
	seed    maphash.Seed
	entries []entry
	heap    []int32 // of entries, the least counted first
	table   []int32 // open addressing over hash: number of an entry + 1; a power of two, at most half full
	total   uint64
}

// New makes an empty sketch of size keys, at least 1.
func New(size int) *Sketch {
	size = max(size, 1)
	n := 8
	for n < 2*size {
		n *= 2
	}
	s := &Sketch{seed: maphash.MakeSeed(), entries: make([]entry, size), heap: make([]int32, 0, size), table: make([]int32, n)}
	keys := make([]byte, size*usualKey)
	for i := range s.entries {
		s.entries[i].key = keys[i*usualKey : i*usualKey : (i+1)*usualKey]
	}
	s.entries = s.entries[:0]
	return s
}

// Add counts a key n times. It borrows key.
func (s *Sketch) Add(key []byte, n uint64) {
	if len(key) > MaxKey {
		key = key[:MaxKey]
	}
	s.total += n
	h := maphash.Bytes(s.seed, key)
	if i := s.find(key, h); i >= 0 {
		s.entries[i].count += n
		s.down(int(s.entries[i].place))
		return
	}
	if len(s.entries) < cap(s.entries) {
		i := int32(len(s.entries))
		s.entries = s.entries[:i+1]
		e := &s.entries[i]
		e.key, e.hash, e.count, e.over, e.place = append(e.key[:0], key...), h, n, 0, int32(len(s.heap))
		s.heap = append(s.heap, i)
		s.up(len(s.heap) - 1)
		s.put(i)
		return
	}
	i := s.heap[0] // the least gives way, and what it had is the new one's error
	e := &s.entries[i]
	s.remove(i)
	e.key, e.hash, e.over = append(e.key[:0], key...), h, e.count
	e.count += n
	s.put(i)
	s.down(0)
}

// Total is how much was added.
func (s *Sketch) Total() uint64 { return s.total }

// Reset empties the sketch and keeps its memory.
func (s *Sketch) Reset() {
	s.entries, s.heap, s.total = s.entries[:0], s.heap[:0], 0
	clear(s.table)
}

// List is a copy of the n keys with the highest counts, highest first; equal ones by key.
func (s *Sketch) List(n int) []Item {
	out := make([]Item, 0, len(s.entries))
	for i := range s.entries {
		e := &s.entries[i]
		out = append(out, Item{Key: string(e.key), Count: e.count, Error: e.over})
	}
	return first(out, n)
}

// Merge is the n highest of several lists; a key that is in several has the sum.
func Merge(n int, lists ...[]Item) []Item {
	at := make(map[string]int)
	var out []Item
	for _, l := range lists {
		for _, x := range l {
			if i, ok := at[x.Key]; ok {
				out[i].Count += x.Count
				out[i].Error += x.Error
				continue
			}
			at[x.Key] = len(out)
			out = append(out, x)
		}
	}
	return first(out, n)
}

func first(items []Item, n int) []Item {
	slices.SortFunc(items, func(a, b Item) int {
		switch {
		case a.Count > b.Count:
			return -1
		case a.Count < b.Count:
			return 1
		}
		return strings.Compare(a.Key, b.Key)
	})
	return items[:min(n, len(items))]
}

func (s *Sketch) slot(h uint64) int { return int(h & uint64(len(s.table)-1)) }

func (s *Sketch) find(key []byte, h uint64) int32 {
	for i := s.slot(h); ; i = (i + 1) & (len(s.table) - 1) {
		x := s.table[i]
		if x == 0 {
			return -1
		}
		if e := &s.entries[x-1]; e.hash == h && string(e.key) == string(key) {
			return x - 1
		}
	}
}

func (s *Sketch) put(n int32) {
	i := s.slot(s.entries[n].hash)
	for s.table[i] != 0 {
		i = (i + 1) & (len(s.table) - 1)
	}
	s.table[i] = n + 1
}

// remove takes an entry out of the table and closes the gap.
func (s *Sketch) remove(n int32) {
	mask := len(s.table) - 1
	i := s.slot(s.entries[n].hash)
	for s.table[i] != n+1 {
		i = (i + 1) & mask
	}
	for j := (i + 1) & mask; s.table[j] != 0; j = (j + 1) & mask {
		home := s.slot(s.entries[s.table[j]-1].hash)
		if (j-home)&mask >= (j-i)&mask { // it may stand at i
			s.table[i] = s.table[j]
			i = j
		}
	}
	s.table[i] = 0
}

func (s *Sketch) less(a, b int) bool {
	return s.entries[s.heap[a]].count < s.entries[s.heap[b]].count
}

func (s *Sketch) swap(a, b int) {
	s.heap[a], s.heap[b] = s.heap[b], s.heap[a]
	s.entries[s.heap[a]].place, s.entries[s.heap[b]].place = int32(a), int32(b)
}

func (s *Sketch) up(i int) {
	for i > 0 && s.less(i, (i-1)/2) {
		s.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (s *Sketch) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(s.heap) {
			return
		}
		if c+1 < len(s.heap) && s.less(c+1, c) {
			c++
		}
		if !s.less(c, i) {
			return
		}
		s.swap(i, c)
		i = c
	}
}
