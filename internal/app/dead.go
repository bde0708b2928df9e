package app

import (
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
}

// Dead implements session.DeadLetters.
func (d *deadLetters) Dead(ev *event.Kept, client, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, deadLetter{time.Now(), ev, client, reason})
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

// newest returns up to limit, the newest first.
func (d *deadLetters) newest(limit int) []deadLetter {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]deadLetter, 0, min(limit, len(d.list)-d.head))
	for i := len(d.list) - 1; i >= d.head && len(out) < limit; i-- {
		out = append(out, d.list[i])
	}
	return out
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
