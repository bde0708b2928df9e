package retain

import (
	"bytes"

	"github.com/windrose-edc/windrose/internal/event"
)

// Cursor is a wildcard read under way. Between two steps the store may change: what is set after the cursor came by may
// be missing, what is cleared before it is not there, and nothing comes twice. Owned by its caller.
type Cursor struct {
	s      *Store
	levels [][]byte
	stack  []frame
	dollar bool // topics that begin with $ too, whatever the filter's first level
}

// frame is a node whose children are being looked at. Owned by its cursor.
type frame struct {
	kids  []*node
	next  int
	depth int  // of kids
	all   bool // below a #
}

// Scan begins to read what a filter matches. filter must be valid; it is copied.
func (s *Store) Scan(filter []byte) *Cursor { return s.scan(filter, false) }

func (s *Store) scan(filter []byte, dollar bool) *Cursor {
	c := &Cursor{s: s, levels: bytes.Split(bytes.Clone(filter), slash), dollar: dollar}
	s.mu.RLock()
	c.push(&s.root, 0, false)
	s.mu.RUnlock()
	return c
}

// push looks up the children of n that may match at that depth; mu is held for reading.
func (c *Cursor) push(n *node, depth int, all bool) {
	f := frame{depth: depth, all: all}
	switch {
	case all || depth < len(c.levels) && (string(c.levels[depth]) == "#" || string(c.levels[depth]) == "+"):
		f.all = all || string(c.levels[depth]) == "#"
		if len(n.kids) == 0 {
			return
		}
		f.kids = make([]*node, 0, len(n.kids))
		for name, k := range n.kids {
			if depth == 0 && !c.dollar && len(name) > 0 && name[0] == '$' {
				continue // [MQTT-4.7.2-1]
			}
			f.kids = append(f.kids, k)
		}
	case depth < len(c.levels):
		k := n.kids[string(c.levels[depth])]
		if k == nil {
			return
		}
		f.kids = []*node{k}
	default:
		return
	}
	c.stack = append(c.stack, f)
}

// step visits up to limit nodes and calls yield for those with an event that the filter matches, until it returns false.
// done says that there is no more.
func (c *Cursor) step(limit int, yield func(*node) bool) (done bool) {
	c.s.mu.RLock()
	defer c.s.mu.RUnlock()
	for ; limit > 0 && len(c.stack) > 0; limit-- {
		f := &c.stack[len(c.stack)-1]
		if f.next == len(f.kids) {
			c.stack = c.stack[:len(c.stack)-1]
			continue
		}
		n := f.kids[f.next]
		f.kids[f.next] = nil
		f.next++
		if n.gone {
			continue
		}
		depth, all := f.depth+1, f.all
		// "a/#" matches "a" too (4.7.1.2)
		last := all || depth == len(c.levels) || depth == len(c.levels)-1 && string(c.levels[depth]) == "#"
		c.push(n, depth, all)
		if last && n.ev != nil && !yield(n) {
			return len(c.stack) == 0
		}
	}
	return len(c.stack) == 0
}

// Next calls yield for some of the events that the filter matches, looking at no more than limit nodes of the tree, until
// yield returns false; that event counts as read. done says that there is no more. now is Unix nanoseconds: what has
// expired is left out.
func (c *Cursor) Next(now int64, limit int, yield func(*event.Kept) bool) (done bool) {
	found := make([]*event.Kept, 0, 16)
	done = c.step(limit, func(n *node) bool {
		if !n.ev.Expired(now) {
			found = append(found, n.ev)
		}
		return true
	})
	// the store is not held while the events are handed out
	for i, k := range found {
		if !yield(k) {
			c.rest(found[i+1:])
			return done && i == len(found)-1
		}
	}
	return done
}

// rest puts events back that were found and not handed out.
func (c *Cursor) rest(found []*event.Kept) {
	if len(found) == 0 {
		return
	}
	f := frame{kids: make([]*node, len(found)), depth: len(c.levels) - 1}
	for i, k := range found {
		f.kids[i] = &node{ev: k}
	}
	c.stack = append(c.stack, f)
}
