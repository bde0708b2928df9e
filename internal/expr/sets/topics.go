package sets

import (
	"fmt"
	"strings"

	"github.com/windrose-edc/windrose/internal/event"
)

// node is a level of topic filters. Owned by its builder, then immutable.
type node struct {
	next map[string]*node
	plus *node
	rest bool // # stands here
	end  bool // a filter ends here
}

func (n *node) add(filter string) error {
	if !event.ValidFilter([]byte(filter)) {
		return fmt.Errorf("%q is no topic filter: + stands alone in its level, # alone in the last one", filter)
	}
	for level := range strings.SplitSeq(filter, "/") {
		switch level {
		case "#":
			n.rest = true
			return nil
		case "+":
			if n.plus == nil {
				n.plus = &node{}
			}
			n = n.plus
			continue
		}
		if n.next == nil {
			n.next = map[string]*node{}
		}
		k := n.next[level]
		if k == nil {
			k = &node{}
			n.next[strings.Clone(level)] = k
		}
		n = k
	}
	n.end = true
	return nil
}

// bytes is a guess at what the tree below n takes.
func (n *node) bytes() int64 {
	size := int64(32)
	if n.plus != nil {
		size += n.plus.bytes()
	}
	for k, v := range n.next {
		size += int64(len(k)) + 40 + v.bytes()
	}
	return size
}

// match is section 4.7 of MQTT: first says that no level was matched yet, where wildcards do not take a $.
func (n *node) match(topic string, first bool) bool {
	wild := !first || !strings.HasPrefix(topic, "$")
	if n.rest && wild {
		return true
	}
	level, rest, more := strings.Cut(topic, "/")
	if k := n.next[level]; k != nil && k.matchRest(rest, more) {
		return true
	}
	return n.plus != nil && wild && n.plus.matchRest(rest, more)
}

func (n *node) matchRest(rest string, more bool) bool {
	if more {
		return n.match(rest, false)
	}
	return n.end || n.rest // sport/# takes sport too
}

// topics is a set of topic filters. Immutable.
type topics struct {
	root *node
	n    int
}

func (t *topics) has(key string) bool       { return key != "" && t.root.match(key, true) }
func (t *topics) get(string) (string, bool) { return "", false }
func (t *topics) size() int                 { return t.n }
