// Package retain keeps the last event of each topic that its sender wanted kept, in memory, and finds what a filter
// matches (MQTT 5, 3.3.1.3).
//
// # Concurrency
//
// A Store is safe for concurrent use: loops write to it and read from it. One lock guards the tree; a wildcard read goes
// on in steps (Cursor), so that a large store never holds a writer, or a loop, for long. A Cursor belongs to its caller.
package retain

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/windrose-edc/windrose/internal/event"
)

// Errors of Set. The event itself may still be delivered.
var (
	ErrFull     = errors.New("retained store is full")
	ErrTooLarge = errors.New("event too large to be retained")
)

// Limits bound a store; 0 means no bound. Immutable after New.
type Limits struct {
	MaxMessages int   // topics
	MaxBytes    int64 // as counted by event.Size
	MaxPayload  int   // bytes of one payload
}

// node is one level of the tree. Guarded by the store's mu.
type node struct {
	kids map[string]*node
	up   *node
	name string // its level
	ev   *event.Kept
	gone bool // taken out of the tree
}

// Store is the retained events. Safe for concurrent use.
type Store struct {
	limits Limits
	mu     sync.RWMutex // guards the tree
	root   node
	n      atomic.Int64
	bytes  atomic.Int64
	refuse atomic.Uint64
}

// New makes an empty store.
func New(l Limits) *Store { return &Store{limits: l} }

// Len is how many topics have a retained event.
func (s *Store) Len() int { return int(s.n.Load()) }

// Bytes is what they hold.
func (s *Store) Bytes() int64 { return s.bytes.Load() }

// Refused is how often Set found no room.
func (s *Store) Refused() uint64 { return s.refuse.Load() }

// Set keeps k as the last event of its topic; an empty payload clears the topic ([MQTT-3.3.1-6]). An event that is older
// than what is kept is ignored. It copies nothing: k is immutable.
func (s *Store) Set(k *event.Kept) error {
	if len(k.Payload) > 0 && s.limits.MaxPayload > 0 && len(k.Payload) > s.limits.MaxPayload {
		s.refuse.Add(1)
		return ErrTooLarge
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(k.Payload) == 0 {
		if n := s.find(k.Topic); n != nil && n.ev != nil && n.ev.Time <= k.Time {
			s.drop(n)
		}
		return nil
	}
	if n := s.find(k.Topic); n != nil && n.ev != nil {
		if n.ev.Time > k.Time {
			return nil
		}
		more := int64(k.Size() - n.ev.Size())
		if s.limits.MaxBytes > 0 && more > 0 && s.bytes.Load()+more > s.limits.MaxBytes {
			s.refuse.Add(1)
			return ErrFull
		}
		s.bytes.Add(more)
		n.ev = k
		return nil
	}
	size := int64(k.Size())
	if s.limits.MaxMessages > 0 && s.n.Load() >= int64(s.limits.MaxMessages) || s.limits.MaxBytes > 0 && s.bytes.Load()+size > s.limits.MaxBytes {
		s.refuse.Add(1)
		return ErrFull
	}
	n := &s.root
	for rest, more := k.Topic, true; more; {
		var level []byte
		level, rest, more = bytes.Cut(rest, slash)
		kid := n.kids[string(level)]
		if kid == nil {
			kid = &node{up: n, name: string(level)}
			if n.kids == nil {
				n.kids = make(map[string]*node)
			}
			n.kids[kid.name] = kid
		}
		n = kid
	}
	n.ev = k
	s.n.Add(1)
	s.bytes.Add(size)
	return nil
}

var slash = []byte{'/'}

// find returns the node of a topic; mu is held.
func (s *Store) find(topic []byte) *node {
	n := &s.root
	for rest, more := topic, true; more; {
		var level []byte
		level, rest, more = bytes.Cut(rest, slash)
		if n = n.kids[string(level)]; n == nil {
			return nil
		}
	}
	return n
}

// drop takes a node's event out, and the branch that held nothing else; mu is held.
func (s *Store) drop(n *node) {
	s.n.Add(-1)
	s.bytes.Add(-int64(n.ev.Size()))
	n.ev = nil
	for n.up != nil && n.ev == nil && len(n.kids) == 0 {
		n.gone = true
		delete(n.up.kids, n.name)
		n = n.up
	}
}

// Get returns the event of a topic, nil when there is none or its time has passed. now is Unix nanoseconds.
func (s *Store) Get(topic []byte, now int64) *event.Kept {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if n := s.find(topic); n != nil && n.ev != nil && !n.ev.Expired(now) {
		return n.ev
	}
	return nil
}

// Match calls yield for each event that the filter matches, until it returns false. It holds the store for its whole
// time: a loop uses Scan.
func (s *Store) Match(filter []byte, now int64, yield func(*event.Kept) bool) {
	c := s.Scan(filter)
	for stop := false; !stop; {
		if c.Next(now, 1024, func(k *event.Kept) bool {
			stop = !yield(k)
			return !stop
		}) {
			return
		}
	}
}

// Sweep drops what has expired, looking at no more than max topics in one go, and returns how many it dropped.
func (s *Store) Sweep(now int64, limit int) (dropped int) {
	var old []*node
	c := s.scan([]byte("#"), true)
	for done := false; !done; {
		old = old[:0]
		done = c.step(limit, func(n *node) bool {
			if n.ev.Expired(now) {
				old = append(old, n)
			}
			return true
		})
		if len(old) == 0 {
			continue
		}
		s.mu.Lock()
		for _, n := range old {
			if n.ev != nil && n.ev.Expired(now) && !n.gone {
				s.drop(n)
				dropped++
			}
		}
		s.mu.Unlock()
	}
	return dropped
}
