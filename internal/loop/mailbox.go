package loop

import (
	"sync"
	"sync/atomic"
)

// Waker is the consumer's end of a Mailbox that is told about a batch: a *Loop.
type Waker interface {
	Wake()
}

// Mailbox carries batches from one producer to one consumer, usually from loop to loop, and never makes either wait: a
// batch for which there is no credit is refused, and the producer applies its overflow rule. Three values of T go
// round (the producer's, the one in the box, the consumer's), so a T made of slices allocates nothing in the steady
// state. Safe for concurrent use by its producer and its consumer.
type Mailbox[T any] struct {
	to     Waker
	merge  func(into, from *T)
	credit atomic.Int64
	limit  int64

	mu   sync.Mutex // guards what follows
	box  T
	full bool
}

// NewMailbox returns a mailbox to a consumer with a credit in bytes (or whatever unit the two agree on). merge appends
// from to into and leaves from empty with its storage; it is used when the consumer has not taken the last batch yet.
func NewMailbox[T any](to Waker, credit int64, merge func(into, from *T)) *Mailbox[T] {
	m := &Mailbox[T]{to: to, merge: merge, limit: credit}
	m.credit.Store(credit)
	return m
}

// Credit is what is left. A producer that stages a batch holds back what would go over it.
func (m *Mailbox[T]) Credit() int64 { return m.credit.Load() }

// Limit is the credit the mailbox was made with.
func (m *Mailbox[T]) Limit() int64 { return m.limit }

// Reserve takes n of the credit for a batch that will be given to PostReserved later; false: there is not enough, and
// nothing was taken. Any goroutine: the receiver of answers reserves room for them before it asks.
func (m *Mailbox[T]) Reserve(n int64) bool {
	for {
		c := m.credit.Load()
		if n > c {
			return false
		}
		if m.credit.CompareAndSwap(c, c-n) {
			return true
		}
	}
}

// Post takes size of the credit and puts the batch into the box; *batch becomes an empty one with storage to stage the
// next in. false: there is not enough credit and nothing happened. It never blocks.
func (m *Mailbox[T]) Post(batch *T, size int64) bool {
	if !m.Reserve(size) {
		return false
	}
	m.PostReserved(batch)
	return true
}

// PostReserved is Post for a batch whose credit was taken by Reserve.
func (m *Mailbox[T]) PostReserved(batch *T) {
	m.mu.Lock()
	first := !m.full
	if first {
		m.box, *batch = *batch, m.box
		m.full = true
	} else {
		m.merge(&m.box, batch)
	}
	m.mu.Unlock()
	if first { // otherwise the consumer has been told and has not come yet
		m.to.Wake()
	}
}

// Take exchanges *empty, a batch that the consumer has finished with and emptied, for what is in the box. false: there
// is nothing. The consumer gives the credit back with Return when it has let go of the contents.
func (m *Mailbox[T]) Take(empty *T) bool {
	m.mu.Lock()
	ok := m.full
	if ok {
		m.box, *empty = *empty, m.box
		m.full = false
	}
	m.mu.Unlock()
	return ok
}

// Return gives credit back.
func (m *Mailbox[T]) Return(n int64) { m.credit.Add(n) }
