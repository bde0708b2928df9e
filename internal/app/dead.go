package app

import (
	"sync"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// maxDead bounds the dead letters of sessions.
const maxDead = 1000

// deadLetter is an event that a session had acknowledged and could not deliver. Immutable.
type deadLetter struct {
	at     time.Time
	ev     *event.Kept
	client string
	reason string
}

// deadLetters keeps the newest dead letters of sessions. Safe for concurrent use.
type deadLetters struct {
	mu    sync.Mutex // guards what follows
	ring  []deadLetter
	next  int
	total uint64
}

// Dead implements session.DeadLetters.
func (d *deadLetters) Dead(ev *event.Kept, client, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.total++
	x := deadLetter{time.Now(), ev, client, reason}
	if len(d.ring) < maxDead {
		d.ring = append(d.ring, x)
		return
	}
	d.ring[d.next] = x
	d.next = (d.next + 1) % maxDead
}

// newest returns up to limit, the newest first.
func (d *deadLetters) newest(limit int) []deadLetter {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(limit, len(d.ring))
	out := make([]deadLetter, 0, n)
	for i := range n {
		out = append(out, d.ring[(d.next-1-i+2*len(d.ring))%len(d.ring)])
	}
	return out
}

func (d *deadLetters) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.ring)
}
