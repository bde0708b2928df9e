package route

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// Index holds all filters and who subscribed to them. Loops read it without locks while one goroutine at a time changes it in
// place: that of Run, or who calls Apply while little happens. Safe for concurrent use.
//
// It is one tree of levels in a hash table, without pointers: some 90 bytes for a filter of a fleet. See index_table.go
// for how edges are published, index_arena.go for how memory is reused under readers that hold no lock.
type Index struct {
	trie trie

	gen     atomic.Uint64
	pins    atomic.Int32 // readers that must not see two epochs begin
	retries atomic.Uint64
	wake    chan struct{}
	options IndexOptions

	mu     sync.Mutex
	queue  changeQueue // guarded by mu
	open   bool        // Run runs; guarded by mu
	closed bool        // guarded by mu
	full   uint64      // guarded by mu
	stats  IndexStats  // as of the last publication; guarded by mu

	writing sync.Mutex  // held by who changes the trie; taken before mu, or tried
	refused uint64      // guarded by writing
	last    time.Time   // of the last publication; guarded by writing
	few     changeQueue // of Apply; guarded by writing
}

// IndexOptions are the bounds of an Index; zero values mean the defaults. Immutable after NewIndex.
type IndexOptions struct {
	Queue      int           // changes that may wait; default 262,144
	QueueBytes int           // bytes of their filters; default 64 MiB
	Interval   time.Duration // least time between two publications; default 0.5 ms, so that a change is seen within 1; negative: none
}

// Change is one change of the index. Insert replaces an earlier entry of the same filter and taker; Delete needs only the
// taker of Sub. A value.
type Change struct {
	Filter []byte // a valid topic filter, without $share/group
	Sub    Sub
	Delete bool
}

// IndexStats describes an index as of its last publication. A value.
type IndexStats struct {
	Filters  int   // distinct filters
	Subs     int   // subscribers of all of them
	Nodes    int   // levels with others behind them
	Edges    int   // slots of the table that are in use
	Dead     int   // slots whose edge is gone and that wait for their segment's next rebuild
	Slots    int   // all slots
	Limbo    int   // blocks of memory that wait until no reader can see them
	Bytes    int64 // memory held
	Rebuilds uint64
	Refused  uint64 // changes that could not be made: not a filter, no taker, or no numbers left
	Queued   int    // changes that wait
	Full     uint64 // calls of Apply that were refused because too many waited
	Retries  uint64 // matches that had to be read twice
}

// publishEvery bounds how many changes are made before they are published.
const publishEvery = 512

// atOnce is how many changes a caller of Apply makes by itself, so that a loop is held up for some microseconds at most.
const atOnce = 8

// NewIndex makes an empty index. Nothing changes in it until Run runs.
func NewIndex(o IndexOptions) *Index {
	if o.Queue <= 0 {
		o.Queue = 1 << 18
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = 64 << 20
	}
	if o.Interval == 0 {
		o.Interval = 500 * time.Microsecond
	}
	x := &Index{options: o, wake: make(chan struct{}, 1)}
	x.trie.init()
	x.gen.Store(1)
	x.stats = x.describe()
	return x
}

// Apply makes or queues changes; they are made in the order of the calls. It copies what it is given and does not wait. done
// (may be nil) is called once every reader sees the changes, from the goroutine of Run or, when few changes come while nothing
// else is to do, before Apply returns: then an event that is published after a SUBSCRIBE was read meets the subscription. It
// must not block.
//
// It returns false, and takes nothing, when the queue is full or Run has ended. Changes that only delete are taken however
// full the queue is: there can be no more of them than there were inserts.
func (x *Index) Apply(changes []Change, done func()) bool {
	inserts, size := 0, 0
	for i := range changes {
		size += len(changes[i].Filter)
		if !changes[i].Delete {
			inserts++
		}
	}
	x.mu.Lock()
	q := &x.queue
	if x.closed || inserts > 0 && (len(q.items)+len(changes) > x.options.Queue || len(q.text)+size > x.options.QueueBytes) {
		x.full++
		x.mu.Unlock()
		return false
	}
	if x.open && len(q.items)+len(q.dones) == 0 && len(changes) <= atOnce && x.writing.TryLock() {
		x.mu.Unlock()
		defer x.writing.Unlock()
		if now := time.Now(); now.Sub(x.last) >= x.options.Interval {
			x.last = now
			x.few.add(changes, done)
			x.work(&x.few)
			x.few.reset()
			return true
		}
		x.mu.Lock()
		if x.closed && inserts > 0 {
			x.full++
			x.mu.Unlock()
			return false
		}
	}
	q.add(changes, done)
	x.mu.Unlock()
	select {
	case x.wake <- struct{}{}:
	default:
	}
	return true
}

// add copies changes and what is to be called after them.
func (q *changeQueue) add(changes []Change, done func()) {
	for i := range changes {
		c := &changes[i]
		q.text = append(q.text, c.Filter...)
		q.items = append(q.items, changeItem{end: len(q.text), sub: c.Sub, remove: c.Delete})
	}
	if done != nil {
		q.dones = append(q.dones, changeDone{after: len(q.items), call: done})
	}
}

// Run makes the changes until ctx ends; it then makes those that wait and returns nil. Changes are published at most once
// in an Interval, so that what callers remember by Generation lives that long at least, and the first one at once.
func (x *Index) Run(ctx context.Context) error {
	var (
		batch changeQueue
		pause = time.NewTimer(0)
		ended bool
	)
	defer pause.Stop()
	x.mu.Lock()
	x.open = true
	x.mu.Unlock()
	for !ended {
		select {
		case <-ctx.Done():
			ended = true
		case <-x.wake:
			if d := x.options.Interval - x.sinceLast(); d > 0 {
				pause.Reset(d)
				select {
				case <-ctx.Done():
					ended = true
				case <-pause.C:
				}
			}
		}
		x.writing.Lock()
		x.mu.Lock()
		x.queue, batch = batch, x.queue
		x.open, x.closed = !ended, ended
		x.mu.Unlock()
		x.work(&batch)
		batch.reset()
		x.last = time.Now()
		x.writing.Unlock()
	}
	return nil
}

func (x *Index) sinceLast() time.Duration {
	x.writing.Lock()
	defer x.writing.Unlock()
	return time.Since(x.last)
}

// work makes the changes of a batch, publishes them and says so.
func (x *Index) work(b *changeQueue) {
	changed, start, called := false, 0, 0
	for i := range b.items {
		c := &b.items[i]
		if x.change(b.text[start:c.end], c) {
			changed = true
		}
		start = c.end
		if n := i + 1; n%publishEvery == 0 || n == len(b.items) {
			x.publish(changed)
			changed = false
			for called < len(b.dones) && b.dones[called].after <= n {
				b.dones[called].call()
				called++
			}
		}
	}
	for ; called < len(b.dones); called++ {
		b.dones[called].call() // of a call without changes
	}
}

func (x *Index) change(filter []byte, c *changeItem) (changed bool) {
	if len(filter) == 0 || len(filter) > event.MaxTopic || c.sub.Taker() == noTaker {
		x.refused++
		return false
	}
	if c.remove {
		return x.trie.remove(filter, c.sub.Taker())
	}
	changed, ok := x.trie.insert(filter, c.sub)
	if !ok {
		x.refused++
	}
	return changed
}

// noTaker cannot be stored (see index_list.go).
const noTaker = 1<<32 - 1

// publish makes it known that the content changed and begins a new epoch where one is needed and nobody is in the way.
func (x *Index) publish(changed bool) {
	if changed {
		x.gen.Add(1)
	}
	if x.trie.waiting() && x.pins.Load() == 0 {
		x.trie.advance()
	}
	s := x.describe()
	x.mu.Lock()
	x.stats = s
	x.mu.Unlock()
}

func (x *Index) describe() IndexStats {
	t := &x.trie
	return IndexStats{
		Filters: t.filters, Subs: t.subs, Nodes: t.inUse(),
		Edges: t.table.live, Dead: t.table.dead, Slots: t.table.slots, Limbo: t.arena.limbo(), Rebuilds: t.table.rebuilds,
		Bytes: t.bytes(), Refused: x.refused,
	}
}

// Match appends the subscribers of all filters that match a topic name to dst, in no order; who subscribed with several
// filters that match is there several times. The topic must be valid (event.CheckTopic). Topics that start with $ are not
// matched by a leading wildcard (MQTT 5, section 4.7.2). It takes no lock and allocates only where dst lacks room (or a
// topic matches in very many levels).
func (x *Index) Match(topic []byte, dst []Sub) []Sub {
	if len(topic) > event.MaxTopic {
		return dst
	}
	start := len(dst)
	dst, ok := x.trie.match(topic, dst)
	if ok {
		return dst
	}
	// Memory was reused under this reader, which must have been asleep. With a pin at most one more epoch begins.
	x.retries.Add(1)
	x.pins.Add(1)
	defer x.pins.Add(-1)
	for {
		if dst, ok = x.trie.match(topic, dst[:start]); ok {
			return dst
		}
	}
}

// Generation changes whenever what Match answers may have changed: who read it before Match may use the answer until it
// differs. It is never 0.
func (x *Index) Generation() uint64 { return x.gen.Load() }

// Stats describes the index.
func (x *Index) Stats() IndexStats {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.stats
	s.Queued, s.Full, s.Retries = len(x.queue.items), x.full, x.retries.Load()
	return s
}

// changeQueue is changes in the order they came. Guarded by the mutex of the Index, or owned by the goroutine of Run.
type changeQueue struct {
	items []changeItem
	text  []byte // their filters
	dones []changeDone
}

// changeItem is a change; its filter ends at end and begins where the one before ends. A value.
type changeItem struct {
	end    int
	sub    Sub
	remove bool
}

// changeDone is to be called when that many items are done. A value.
type changeDone struct {
	after int
	call  func()
}

// reset empties the queue; what a rare big batch needed is not kept.
func (q *changeQueue) reset() {
	clear(q.dones)
	if cap(q.items) > 1<<14 || cap(q.text) > 1<<20 {
		*q = changeQueue{}
		return
	}
	q.items, q.text, q.dones = q.items[:0], q.text[:0], q.dones[:0]
}
