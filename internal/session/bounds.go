package session

import (
	"sync"
	"sync/atomic"
)

// Bounds are what a listener sets in place of the node's limits; where a value is 0 the node's holds. Immutable.
type Bounds struct {
	Queue         int
	QueueBytes    int64
	Window        int
	Receive       int
	Subscriptions int
	Sessions      int // sessions that were opened by the listener, by its name; 0: no bound of its own
}

// origins count the sessions that each listener opened. They go by name: a listener that a reload replaces goes on with the
// sessions of the one before it. Guarded by mu; the counts are atomics.
type origins struct {
	mu sync.Mutex
	n  map[string]*atomic.Int64
}

// enter counts a session of that listener and returns its count; ok is false, and none is counted, when there are as many as
// may be.
func (o *origins) enter(listener string, b *Bounds) (n *atomic.Int64, ok bool) {
	o.mu.Lock()
	n = o.n[listener]
	if n == nil {
		if o.n == nil {
			o.n = make(map[string]*atomic.Int64)
		}
		n = new(atomic.Int64)
		o.n[listener] = n
	}
	o.mu.Unlock()
	if n.Add(1) <= int64(b.max()) || b.max() == 0 {
		return n, true
	}
	n.Add(-1)
	return nil, false
}

func (b *Bounds) max() int {
	if b == nil {
		return 0
	}
	return b.Sessions
}

func (s *Session) maxQueue() int {
	if b := s.bounds; b != nil && b.Queue > 0 {
		return b.Queue
	}
	return s.host.limits.Queue
}

func (s *Session) maxBytes() int64 {
	if b := s.bounds; b != nil && b.QueueBytes > 0 {
		return b.QueueBytes
	}
	return s.host.limits.QueueBytes
}

func (s *Session) maxReceive() int {
	if b := s.bounds; b != nil && b.Receive > 0 {
		return b.Receive
	}
	return s.host.limits.Receive
}

func (s *Session) maxSubscriptions() int {
	if b := s.bounds; b != nil && b.Subscriptions > 0 {
		return b.Subscriptions
	}
	return s.host.limits.Subscriptions
}

func (s *Session) maxWindow() int {
	if b := s.bounds; b != nil && b.Window > 0 {
		return b.Window
	}
	return s.host.limits.Window
}
