package retain

import (
	"strings"

	"github.com/windrose-edc/windrose/internal/event"
)

const (
	cursorChunk = 32 // events read while the store is locked
	cursorLooks = 8  // topics looked at for each event asked for, at most
)

// Cursor reads the retained events that match a filter piece by piece. A topic that has an event from Scan to the end is
// yielded exactly once, with the value of that moment; one that comes or goes meanwhile, at most once. It holds no memory
// of the store and need not be closed. Owned by whoever made it: not safe for concurrent use.
type Cursor struct {
	store  *Store
	filter string
	at     string // where to go on
	past   bool   // behind at, not with it
	done   bool
}

// Scan makes a cursor for a valid topic filter. It copies the filter.
func (s *Store) Scan(filter []byte) *Cursor {
	c := &Cursor{store: s, filter: string(filter), done: len(filter) == 0}
	c.at = c.filter[:fixedPart(c.filter)]
	return c
}

// ScanFrom makes a cursor that goes on where another one of the same filter was, as its Place says; "" is the beginning.
func (s *Store) ScanFrom(filter []byte, place string) *Cursor {
	c := s.Scan(filter)
	if place != "" {
		c.at, c.past = place[1:], place[0] == '>'
	}
	return c
}

// Place says where the cursor is, for ScanFrom: a mark and a topic.
func (c *Cursor) Place() string {
	if c.past {
		return ">" + c.at
	}
	return "=" + c.at
}

// fixedPart is the length of a filter up to its first wildcard, without the separator before that.
func fixedPart(filter string) int {
	i := strings.IndexAny(filter, "+#")
	if i < 0 {
		return len(filter)
	}
	return max(i-1, 0)
}

// Next calls yield with up to limit further events, in the order of their topics, until yield returns false; that event
// counts as taken. done says that there are no more. Expired events are dropped. now is Unix nanoseconds.
//
// Next bounds its work: where few of the topics match it may yield less than limit, even nothing, and not be done. The
// caller goes on in a later turn. The store is not locked during yield.
func (c *Cursor) Next(now int64, limit int, yield func(*event.Kept) bool) (done bool) {
	looks := limit*cursorLooks + cursorChunk
	for limit > 0 && looks > 0 && !c.done {
		var found, expired [cursorChunk]*event.Kept
		n, gone, looked := c.read(now, found[:min(limit, cursorChunk)], expired[:], looks)
		looks -= looked
		limit -= n
		c.store.expire(expired[:gone])
		for i, k := range found[:n] {
			if !yield(k) {
				if i < n-1 { // go on behind this one
					c.done = false
					c.at, c.past = string(k.Topic), true
				}
				return c.done
			}
		}
	}
	return c.done
}

// read fills found with events from where the cursor is and moves it on.
func (c *Cursor) read(now int64, found, expired []*event.Kept, looks int) (n, gone, looked int) {
	s := c.store
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.order.seek(c.at, c.past)
	for n < len(found) && gone < len(expired) && looked < looks && looked < 4*cursorChunk {
		e := s.order.get(p)
		if e == nil {
			c.done = true
			return n, gone, looked
		}
		looked++
		to, more := skip(c.filter, e.topic)
		switch {
		case to == "" && more: // it matches
			if e.kept.Expired(now) {
				expired[gone] = e.kept
				gone++
			} else {
				found[n] = e.kept
				n++
			}
			c.at, c.past = e.topic, true
			p = s.order.next(p)
		case more:
			c.at, c.past = to, false
			p = s.order.seek(to, false)
		default:
			c.done = true
			return n, gone, looked
		}
	}
	return n, gone, looked
}

// skip says where to look on in the order of topics, given one that was found: to is "" when topic matches; else it is the
// least string behind topic at which a match can be. more is false when there can be none.
func skip(filter, topic string) (to string, more bool) {
	if topic != "" && topic[0] == '$' && (filter[0] == '+' || filter[0] == '#') {
		return "%", true // the byte behind $
	}
	plus := -1 // end of the topic's last level that a + stands for
	f, t := 0, 0
	for {
		fEnd, tEnd := levelEnd(filter, f), levelEnd(topic, t)
		fl, tl := filter[f:fEnd], topic[t:tEnd]
		switch {
		case fl == "#":
			return "", true
		case fl == "+":
			plus = tEnd
		case tl < fl:
			return topic[:t] + fl, true
		case tl > fl:
			return behind(topic, plus)
		}
		fMore, tMore := fEnd < len(filter), tEnd < len(topic)
		switch {
		case !fMore && !tMore:
			return "", true
		case !fMore:
			return behind(topic, plus)
		case !tMore:
			if filter[fEnd+1:] == "#" {
				return "", true
			}
			return topic + "/", true
		}
		f, t = fEnd+1, tEnd+1
	}
}

// behind is where the level that ends at end has its next value; -1 means that it has none.
func behind(topic string, end int) (to string, more bool) {
	if end < 0 {
		return "", false
	}
	return topic[:end] + afterSubtree, true
}

func levelEnd(s string, from int) int {
	if i := strings.IndexByte(s[from:], '/'); i >= 0 {
		return from + i
	}
	return len(s)
}
