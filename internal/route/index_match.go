package route

// find returns the live edge of a level below a node and its value, nil when there is none.
func (x *trie) find(parent, path uint32, l *level) (*edge, uint64) {
	s := x.table.at(path).Load()
	if s == nil {
		return nil, 0
	}
	want := keyHalf(parent, l.hash)
	for i := s.start(path); ; {
		b := s.edges[i : i+bucketSize]
		for j := range b {
			e := &b[j]
			k := e.key.Load()
			if k == 0 {
				return nil, 0
			}
			if k&keyParentMask == want && labelIs(x.arena.block(keyLabel(k)), l) {
				// A dead edge may bear the freed label of the same text: the live one comes later.
				if v := e.val.Load(); v != 0 {
					return e, v
				}
			}
		}
		if i += bucketSize; i == len(s.edges) {
			i = 0
		}
	}
}

// branch is a node that match has yet to visit, and the level of the topic that is to be looked up below it.
type branch struct {
	val   uint64
	path  uint32
	depth uint32
	from  int
}

// matchAhead is how many levels of a topic are hashed before the walk. When the first one is found, the memory of the others
// is fetched at once.
const matchAhead = 10

// match appends the subscribers of all filters that match the topic. It visits each edge of the tree at most once. ok is
// false when two epochs have begun meanwhile: what was read may be wrong.
func (x *trie) match(topic []byte, dst []Sub) (subs []Sub, ok bool) {
	var (
		ahead [matchAhead]level
		paths [matchAhead]uint32
		room  [16]branch
		deep  level
	)
	epoch := x.arena.epoch.Load()
	path, known := uint32(rootPath), uint32(0)
	for from := 0; known < matchAhead && from <= len(topic); known++ {
		to := levelEnd(topic, from)
		l := &ahead[known]
		*l = makeLevel(x.seed, topic[from:to])
		path = childPath(path, l.hash)
		paths[known] = path
		from = to + 1
	}

	stack := room[:0] // at most one branch for each level of the topic
	at := branch{val: x.root.Load(), path: rootPath}
	if len(topic) > 0 && topic[0] == '$' {
		at.val &^= valPlus | valHash // section 4.7.2
	}
	for {
		var l *level
		if at.depth < known {
			l = &ahead[at.depth]
		} else {
			l = &deep
			*l = makeLevel(x.seed, topic[at.from:levelEnd(topic, at.from)])
		}
		to := at.from + len(l.text)
		last := to == len(topic)
		node, flags := valNode(at.val), valFlagsOf(at.val)
		if flags&valHash != 0 {
			dst = x.arena.takeVal(x.below(node, at.path, x.hashL, &x.hash), dst)
		}
		next := branch{depth: at.depth + 1, from: to + 1}
		if flags&valText != 0 {
			next.path = childPath(at.path, l.hash)
			_, next.val = x.find(node, next.path, l)
			if at.depth == 0 && next.val != 0 && known > 2 {
				for _, p := range paths[2:known] {
					x.table.touch(p)
				}
			}
			if last {
				dst = x.end(next.val, next.path, dst)
			}
		}
		if flags&valPlus != 0 {
			plus := childPath(at.path, x.plus.hash)
			v := x.table.get(node, plus, x.plusL, x.plus.hash)
			switch {
			case last:
				dst = x.end(v, plus, dst)
			case valNode(v) == 0:
			case valNode(next.val) == 0:
				next.val, next.path = v, plus
			default:
				stack = append(stack, branch{v, plus, next.depth, next.from})
			}
		}
		if last || valNode(next.val) == 0 {
			if len(stack) == 0 {
				break
			}
			next, stack = stack[len(stack)-1], stack[:len(stack)-1]
			if x.arena.epoch.Load()-epoch > 1 {
				return dst, false
			}
		}
		at = next
	}
	return dst, x.arena.epoch.Load()-epoch <= 1
}

// below returns the value of a wildcard below a node, 0 when there is none.
func (x *trie) below(node, path, label uint32, l *level) uint64 {
	return x.table.get(node, childPath(path, l.hash), label, l.hash)
}

// end appends the subscribers of an edge at which the topic ends, and those of a # behind it.
func (x *trie) end(v uint64, path uint32, dst []Sub) []Sub {
	dst = x.arena.takeVal(v, dst)
	if valFlagsOf(v)&valHash != 0 {
		dst = x.arena.takeVal(x.below(valNode(v), path, x.hashL, &x.hash), dst)
	}
	return dst
}
