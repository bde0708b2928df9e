package route

import (
	"bytes"
	"hash/maphash"
	"sync/atomic"
)

// trie is the filters as a tree of levels. Read by everyone (index_match.go); owned by the index's goroutine is all that no
// comment calls shared.
type trie struct {
	arena arena         // shared
	table table         // shared
	seed  maphash.Seed  // shared
	root  atomic.Uint64 // shared: the value of the edge that leads to the root, which has no subscribers
	plus  level         // shared
	hash  level         // shared
	plusL uint32        // shared: label of +
	hashL uint32        // shared: label of #

	nodes     []node
	maxNode   int
	freeNodes []uint32
	limbo     [2][]uint32 // nodes freed in this epoch, in the one before
	path      []step
	text      []byte // room for the text of a label

	filters, subs int
}

// node is what the writer must know of a node. Owned by the index's goroutine.
type node struct {
	kids uint32 // live edges
	path uint32 // hash of the path that leads to it
}

// step is one edge on the way from the root: its parent, its path's hash and where its level is in the filter.
type step struct {
	parent, path uint32
	from, to     int
}

const (
	rootNode = 1
	rootPath = 0x5bd1e995
)

func (x *trie) init() {
	x.seed = maphash.MakeSeed()
	x.arena.init()
	x.nodes, x.maxNode = []node{{}, {path: rootPath}}, nodeMax
	x.root.Store(rootNode << valNodeShift)
	x.plus, x.hash = makeLevel(x.seed, []byte("+")), makeLevel(x.seed, []byte("#"))
	x.plusL, _ = x.intern(&x.plus)
	x.hashL, _ = x.intern(&x.hash)
}

// child is the path of a level below a node.
func (x *trie) child(parent uint32, l *level) uint32 { return childPath(x.nodes[parent].path, l.hash) }

// pathOf is the path of an edge.
func (x *trie) pathOf(key uint64) uint32 {
	x.text = appendLabel(x.text[:0], x.arena.block(keyLabel(key)))
	return childPath(x.nodes[keyParent(key)].path, maphash.Bytes(x.seed, x.text))
}

func (x *trie) addEdge(parent, path, label uint32, l *level, val uint64) {
	key := keyOf(label, parent, l.hash)
	if !x.table.add(path, key, val) {
		x.table.rebuild(path, x.pathOf)
		x.table.add(path, key, val)
	}
}

func (x *trie) killEdge(e *edge, path uint32) {
	if x.table.kill(e, path) {
		x.table.rebuild(path, x.pathOf)
	}
}

// intern returns the label of a level, with one more use.
func (x *trie) intern(l *level) (label uint32, ok bool) {
	path := x.child(0, l)
	if e, v := x.find(0, path, l); e != nil {
		e.val.Store(v + 1)
		return keyLabel(e.key.Load()), true
	}
	if label, ok = x.arena.alloc(labelWords(len(l.text))); ok {
		storeLabel(x.arena.block(label), l)
		x.addEdge(0, path, label, l, 1)
	}
	return label, ok
}

// drop takes a use of a level's label back.
func (x *trie) drop(l *level) {
	path := x.child(0, l)
	e, v := x.find(0, path, l)
	if v > 1 {
		e.val.Store(v - 1)
		return
	}
	label := keyLabel(e.key.Load())
	x.killEdge(e, path)
	x.arena.release(label)
}

func (x *trie) newNode(path uint32) (n uint32, ok bool) {
	if f := len(x.freeNodes); f > 0 {
		n, x.freeNodes = x.freeNodes[f-1], x.freeNodes[:f-1]
		x.nodes[n] = node{path: path}
		return n, true
	}
	if len(x.nodes) > x.maxNode {
		return 0, false
	}
	x.nodes = append(x.nodes, node{path: path})
	return uint32(len(x.nodes) - 1), true
}

// kind is the flag of a level in the value of its parent.
func kind(text []byte) uint64 {
	if len(text) == 1 {
		switch text[0] {
		case '+':
			return valPlus
		case '#':
			return valHash
		}
	}
	return valText
}

// at is the value of the edge of step i of the path, the root's for -1. Not to be written after the table has changed.
func (x *trie) at(filter []byte, i int) *atomic.Uint64 {
	if i < 0 {
		return &x.root
	}
	s := x.path[i]
	l := makeLevel(x.seed, filter[s.from:s.to])
	e, _ := x.find(s.parent, s.path, &l)
	return &e.val
}

// insert adds a subscriber to a filter. ok is false when the index has no more numbers to give.
func (x *trie) insert(filter []byte, s Sub) (changed, ok bool) {
	x.path = x.path[:0]
	val := &x.root
	for from := 0; from <= len(filter); {
		to := levelEnd(filter, from)
		l := makeLevel(x.seed, filter[from:to])
		n := valNode(val.Load())
		var e *edge
		if n != 0 {
			e, _ = x.find(n, x.child(n, &l), &l)
		}
		if e == nil {
			last := to == len(filter)
			if n, ok = x.extend(filter, &l, last, s); !ok {
				x.prune(filter, false)
				return false, false
			}
			if last {
				x.filters++
				x.subs++
				return true, true
			}
			e, _ = x.find(n, x.child(n, &l), &l)
		}
		x.path = append(x.path, step{n, x.child(n, &l), from, to})
		val = &e.val
		from = to + 1
	}
	v := val.Load()
	nv, added, changed, ok := x.arena.putVal(v, s)
	if !ok {
		return false, false // the path was there before: nothing to prune
	}
	val.Store(nv)
	if v&valInline == 0 && v&valSubsMask == 0 {
		x.filters++
	}
	if added {
		x.subs++
	}
	return changed, true
}

// extend adds the edge of a level behind the path, with its first subscriber or a node behind it, and returns the node that
// it hangs on.
func (x *trie) extend(filter []byte, l *level, last bool, s Sub) (parent uint32, ok bool) {
	label, ok := x.intern(l)
	if !ok {
		return 0, false
	}
	end := len(x.path) - 1
	val := x.at(filter, end)
	old := val.Load()
	v, ok := x.arena.spill(old)
	if !ok {
		x.drop(l)
		return 0, false
	}
	parent = valNode(v)
	if parent == 0 {
		parent, ok = x.newNode(x.path[end].path)
	}
	var path uint32
	var behind uint64
	if ok {
		path = x.child(parent, l)
		if last {
			behind, _, _, ok = x.arena.putVal(0, s)
		} else {
			var n uint32
			n, ok = x.newNode(path)
			behind = uint64(n) << valNodeShift
		}
		if !ok && valNode(v) == 0 {
			x.freeNodes = append(x.freeNodes, parent)
		}
	}
	if !ok {
		if v != old {
			x.arena.release(uint32(v))
		}
		x.drop(l)
		return 0, false
	}
	x.nodes[parent].kids++
	val.Store(v&(valSubsMask|valFlags) | uint64(parent)<<valNodeShift | kind(l.text))
	x.addEdge(parent, path, label, l, behind)
	return parent, true
}

// remove takes a subscriber from a filter.
func (x *trie) remove(filter []byte, taker uint32) (changed bool) {
	x.path = x.path[:0]
	v := x.root.Load()
	var e *edge
	for from := 0; from <= len(filter); {
		to := levelEnd(filter, from)
		n := valNode(v)
		if n == 0 {
			return false
		}
		l := makeLevel(x.seed, filter[from:to])
		path := x.child(n, &l)
		if e, v = x.find(n, path, &l); e == nil {
			return false
		}
		x.path = append(x.path, step{n, path, from, to})
		from = to + 1
	}
	v, removed := x.arena.cutVal(v, taker)
	if !removed {
		return false
	}
	x.subs--
	if v&valInline == 0 && v&valSubsMask == 0 {
		x.filters--
	}
	if v == 0 {
		x.prune(filter, true)
	} else {
		e.val.Store(v)
	}
	return true
}

// prune takes away the end of the path as far as there is neither a child nor a subscriber. Those of the last step count
// as gone where gone says so.
func (x *trie) prune(filter []byte, gone bool) {
	for i := len(x.path) - 1; i >= 0; i-- {
		s := x.path[i]
		l := makeLevel(x.seed, filter[s.from:s.to])
		e, v := x.find(s.parent, s.path, &l)
		if n := valNode(v); n != 0 {
			if x.nodes[n].kids != 0 {
				return
			}
			x.limbo[0] = append(x.limbo[0], n)
			v &= valSubsMask
		}
		if v != 0 && !gone {
			e.val.Store(v)
			return
		}
		gone = false
		x.killEdge(e, s.path)
		x.drop(&l)
		x.nodes[s.parent].kids--
		x.unflag(filter, i, kind(l.text))
	}
}

// unflag tells the parent of step i of the path that it has lost a child of that kind.
func (x *trie) unflag(filter []byte, i int, kind uint64) {
	val := x.at(filter, i-1)
	v := val.Load()
	if wild := uint32(v>>31&1 + v>>32&1); kind != valText || x.nodes[x.path[i].parent].kids == wild {
		val.Store(v &^ kind)
	}
}

// advance begins a new epoch.
func (x *trie) advance() {
	x.arena.advance()
	x.freeNodes = append(x.freeNodes, x.limbo[1]...)
	x.limbo[0], x.limbo[1] = x.limbo[1][:0], x.limbo[0]
}

// waiting says whether anything waits for an epoch.
func (x *trie) waiting() bool { return x.arena.limbo()+len(x.limbo[0])+len(x.limbo[1]) > 0 }

// inUse is how many nodes there are, without the root.
func (x *trie) inUse() int {
	return len(x.nodes) - rootNode - 1 - len(x.freeNodes) - len(x.limbo[0]) - len(x.limbo[1])
}

// bytes is the memory held, without what the Index itself needs.
func (x *trie) bytes() int64 {
	words := cap(x.freeNodes) + cap(x.limbo[0]) + cap(x.limbo[1]) + cap(x.arena.fresh) + cap(x.arena.aged)
	for i := range x.arena.slabs {
		words += cap(x.arena.slabs[i].free)
	}
	return x.arena.bytes + int64(x.table.slots)*16 + int64(cap(x.nodes))*8 + int64(words)*4
}

// levelEnd is where the level that begins at from ends.
func levelEnd(topic []byte, from int) int {
	if i := bytes.IndexByte(topic[from:], '/'); i >= 0 {
		return from + i
	}
	return len(topic)
}
