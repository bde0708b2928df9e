// Package retain keeps the last retained event of each topic, in memory (MQTT 5, section 3.3.1.3), and answers the
// wildcard reads of new subscriptions.
//
// # Concurrency
//
// A Store is safe for concurrent use: one read-write mutex, held for microseconds. Reads of many topics are cut into
// pieces, so that neither a subscription to everything nor a sweep holds up a loop that stores an event. A Cursor
// belongs to whoever made it.
package retain

import (
	"errors"
	"sync"

	"github.com/windrose-edc/windrose/internal/event"
)

// Why Set does not store an event. The topic then has no retained event, also when it had one: the old one would be
// taken for the last.
var (
	ErrFull     = errors.New("retained store is full")
	ErrTooLarge = errors.New("retained payload is too large")
)

// Limits bound a Store. Immutable. A zero means that there is no limit.
type Limits struct {
	MaxMessages int   // topics
	MaxBytes    int64 // of topics, metadata and payloads with bookkeeping, as Bytes counts them
	MaxPayload  int   // bytes of one payload
}

// Stats counts what a Store holds and what it did. A value.
type Stats struct {
	Messages int
	Bytes    int64
	Stored   uint64 // events stored, replacements included
	Cleared  uint64 // topics cleared by an empty payload
	Expired  uint64 // events dropped because their time had passed
	Full     uint64 // events refused by MaxMessages or MaxBytes
	TooLarge uint64 // events refused by MaxPayload
	Stale    uint64 // events ignored because a newer one or a newer clearing was there
}

// Store is the retained events. Safe for concurrent use.
type Store struct {
	mu      sync.RWMutex
	limits  Limits            // guarded by mu
	byTopic map[string]*entry // guarded by mu
	order   ordered           // guarded by mu
	bytes   int64             // guarded by mu
	cleared clearings         // guarded by mu
	stats   Stats             // guarded by mu
}

// New makes an empty store.
func New(l Limits) *Store {
	return &Store{limits: l, byTopic: map[string]*entry{}, cleared: clearings{at: map[string]int64{}}}
}

// SetLimits changes the limits. What is stored stays, also above them: then new topics are refused until there is room.
func (s *Store) SetLimits(l Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits = l
}

// cost is what an event counts against MaxBytes.
func cost(k *event.Kept) int64 { return int64(k.Size() + len(k.Topic) + 64) }

// Set makes k the retained event of its topic; an empty payload clears the topic. An event that is older (by its Time) than
// what the topic has, or than the topic's clearing, is ignored. The error is ErrFull or ErrTooLarge.
func (s *Store) Set(k *event.Kept) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byTopic[string(k.Topic)]
	if e != nil && k.Time < e.kept.Time || k.Time < s.cleared.at[string(k.Topic)] {
		s.stats.Stale++
		return nil
	}
	if len(k.Payload) == 0 {
		if e != nil {
			s.drop(e)
			s.stats.Cleared++
		}
		s.cleared.add(string(k.Topic), k.Time)
		return nil
	}
	old := int64(0)
	if e != nil {
		old = cost(e.kept)
	}
	var err error
	switch {
	case s.limits.MaxPayload > 0 && len(k.Payload) > s.limits.MaxPayload:
		s.stats.TooLarge++
		err = ErrTooLarge
	case s.limits.MaxBytes > 0 && s.bytes-old+cost(k) > s.limits.MaxBytes,
		s.limits.MaxMessages > 0 && e == nil && len(s.byTopic) >= s.limits.MaxMessages:
		s.stats.Full++
		err = ErrFull
	}
	if err != nil {
		if e != nil {
			s.drop(e)
		}
		return err
	}
	if e == nil {
		e = &entry{topic: string(k.Topic)}
		s.byTopic[e.topic] = e
		s.order.insert(e)
	}
	e.kept = k
	s.bytes += cost(k) - old
	s.stats.Stored++
	return nil
}

// drop takes an entry out. mu is held.
func (s *Store) drop(e *entry) {
	delete(s.byTopic, e.topic)
	s.order.remove(e.topic)
	s.bytes -= cost(e.kept)
}

// Get returns the retained event of a topic, nil when it has none. It may have expired.
func (s *Store) Get(topic []byte) *event.Kept {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.byTopic[string(topic)]; e != nil {
		return e.kept
	}
	return nil
}

// Match calls yield with the retained events whose topics match a filter, in the order of their topics, until yield
// returns false. Expired ones are dropped. now is Unix nanoseconds. The store is not locked during yield. It takes as long
// as there are topics below the filter's fixed part: a loop uses Scan.
func (s *Store) Match(filter []byte, now int64, yield func(*event.Kept) bool) {
	c, more := s.Scan(filter), true
	for more && !c.Next(now, 1024, func(k *event.Kept) bool {
		more = yield(k)
		return more
	}) {
	}
}

// sweepChunk is how many topics a sweep looks at before it lets others in.
const sweepChunk = 256

// Sweep drops the events that have expired, and forgets the clearings of more than a minute ago. now is Unix nanoseconds.
// It returns how many events it dropped. Not for a loop: it looks at every topic.
func (s *Store) Sweep(now int64) int {
	dropped, topic := 0, ""
	for {
		var expired []*event.Kept
		s.mu.RLock()
		p := s.order.seek(topic, topic != "")
		e := s.order.get(p)
		for n := 0; e != nil && n < sweepChunk; n++ {
			if e.kept.Expired(now) {
				expired = append(expired, e.kept)
			}
			topic = e.topic
			p = s.order.next(p)
			e = s.order.get(p)
		}
		s.mu.RUnlock()
		dropped += s.expire(expired)
		if e == nil {
			break
		}
	}
	s.mu.Lock()
	s.cleared.forget(now - clearedFor)
	s.mu.Unlock()
	return dropped
}

// expire drops events that were seen to have expired and are still there.
func (s *Store) expire(ks []*event.Kept) int {
	if len(ks) == 0 {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, k := range ks {
		if e := s.byTopic[string(k.Topic)]; e != nil && e.kept == k {
			s.drop(e)
			n++
		}
	}
	s.stats.Expired += uint64(n)
	return n
}

// Len is how many topics have a retained event.
func (s *Store) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.byTopic)
}

// Bytes is what the retained events count against MaxBytes.
func (s *Store) Bytes() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.bytes
}

// Stats counts what the store holds and did.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := s.stats
	st.Messages, st.Bytes = len(s.byTopic), s.bytes
	return st
}

const (
	clearedMax   = 4096
	clearedBytes = 1 << 20
	clearedFor   = 60e9 // nanoseconds
)

// clearings remembers when topics were cleared, so that an event which was published before that and arrives after it does
// not come to life. It is bounded: the oldest are forgotten first. Guarded by the mutex of its Store.
type clearings struct {
	at    map[string]int64 // Unix nanoseconds
	order []string         // topics in the order of their clearing; one that was cleared again is there twice
	bytes int              // of order
}

func (c *clearings) add(topic string, at int64) {
	for len(c.order) >= clearedMax || c.bytes >= clearedBytes {
		c.pop()
	}
	c.at[topic] = at
	c.order = append(c.order, topic)
	c.bytes += len(topic)
}

// forget drops the clearings before a time.
func (c *clearings) forget(before int64) {
	for len(c.order) > 0 && c.at[c.order[0]] < before {
		c.pop()
	}
	if len(c.order) == 0 {
		c.order = nil
	}
}

func (c *clearings) pop() {
	delete(c.at, c.order[0])
	c.bytes -= len(c.order[0])
	c.order[0] = ""
	c.order = c.order[1:]
}
