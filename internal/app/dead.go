package app

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// maxDead and maxDeadBytes bound the dead letters of sessions; beyond, the oldest are dropped and counted.
const (
	maxDead      = 1000
	maxDeadBytes = 16 << 20
)

// deadLetter is an event that a session had acknowledged and could not deliver. Immutable.
type deadLetter struct {
	id     uint64 // ascending
	at     time.Time
	ev     *event.Kept
	client string
	reason string
}

// deadLetters keeps the newest dead letters of sessions. Safe for concurrent use.
type deadLetters struct {
	mu      sync.Mutex // guards what follows
	list    []deadLetter
	head    int // of list: the oldest
	bytes   int64
	dropped uint64
	last    uint64 // id
	removed uint64 // how many were taken out
}

// Dead implements session.DeadLetters.
func (d *deadLetters) Dead(ev *event.Kept, client, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last++
	d.list = append(d.list, deadLetter{d.last, time.Now(), ev, client, reason})
	d.bytes += int64(ev.Size())
	for len(d.list)-d.head > maxDead || d.bytes > maxDeadBytes && len(d.list)-d.head > 1 {
		d.bytes -= int64(d.list[d.head].ev.Size())
		d.list[d.head] = deadLetter{}
		d.head++
		d.dropped++
	}
	if d.head > maxDead {
		n := copy(d.list, d.list[d.head:])
		clear(d.list[n:])
		d.list, d.head = d.list[:n], 0
	}
}

// newest returns up to limit whose id is less than before (0: any), the newest first.
func (d *deadLetters) newest(before uint64, limit int) []deadLetter {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]deadLetter, 0, min(limit, len(d.list)-d.head))
	for i := len(d.list) - 1; i >= d.head && len(out) < limit; i-- {
		if x := d.list[i]; before == 0 || x.id < before {
			out = append(out, x)
		}
	}
	return out
}

// find returns one of them, by its id.
func (d *deadLetters) find(id uint64) (deadLetter, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := d.at(id)
	if i < 0 {
		return deadLetter{}, false
	}
	return d.list[i], true
}

// at is the place of an id, -1 when it is not there; mu is held.
func (d *deadLetters) at(id uint64) int {
	i, found := slices.BinarySearchFunc(d.list[d.head:], id, func(x deadLetter, id uint64) int { return cmp.Compare(x.id, id) })
	if !found {
		return -1
	}
	return d.head + i
}

// remove takes one out; false: it is not there.
func (d *deadLetters) remove(id uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := d.at(id)
	if i < 0 {
		return false
	}
	d.bytes -= int64(d.list[i].ev.Size())
	d.list = slices.Delete(d.list, i, i+1)
	d.removed++
	return true
}

// ids lists them all, the oldest first.
func (d *deadLetters) ids() []uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]uint64, 0, len(d.list)-d.head)
	for _, x := range d.list[d.head:] {
		out = append(out, x.id)
	}
	return out
}

// version is another number when the list is another.
func (d *deadLetters) version() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last<<24 ^ d.removed ^ d.dropped<<12
}

// size is how many there are, their bytes, and how many were dropped to stay within the bounds.
func (d *deadLetters) size() (n int, bytes int64, dropped uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.list) - d.head, d.bytes, d.dropped
}

func (d *deadLetters) len() int {
	n, _, _ := d.size()
	return n
}
