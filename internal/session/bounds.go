package session

import "sync/atomic"

// Bounds are what a listener sets in place of the node's limits; where a value is 0 the node's holds. Immutable, except the
// count; safe for concurrent use.
type Bounds struct {
	Queue         int
	QueueBytes    int64
	Window        int
	Receive       int
	Subscriptions int
	Sessions      int // sessions that were opened by the listener; 0: no bound of its own

	sessions atomic.Int64
}

// enter counts a session; it reports false, and counts none, when there are as many as may be.
func (b *Bounds) enter() bool {
	if b == nil || b.sessions.Add(1) <= int64(b.Sessions) || b.Sessions == 0 {
		return true
	}
	b.sessions.Add(-1)
	return false
}

func (b *Bounds) leave() {
	if b != nil {
		b.sessions.Add(-1)
	}
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
