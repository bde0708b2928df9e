package pool

import (
	"container/heap"
	"iter"
)

// node is a place in a list; it lives inside what is listed, so that listing allocates nothing. Guarded by Pool.mu.
type node[T any] struct {
	prev, next *node[T]
	of         T
	in         *list[T]
}

// list is a doubly linked list in the order of push. The zero list is empty. Guarded by Pool.mu.
type list[T any] struct {
	head, tail *node[T]
	n          int
}

// push adds at the end; a node that is listed already stays where it is.
func (l *list[T]) push(n *node[T], of T) {
	if n.in != nil {
		return
	}
	n.of, n.in, n.prev, n.next = of, l, l.tail, nil
	if l.tail != nil {
		l.tail.next = n
	} else {
		l.head = n
	}
	l.tail = n
	l.n++
}

// remove takes the node out of the list that it is in, if any.
func (n *node[T]) remove() {
	l := n.in
	if l == nil {
		return
	}
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		l.head = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	} else {
		l.tail = n.prev
	}
	l.n--
	var zero T
	n.in, n.prev, n.next, n.of = nil, nil, nil, zero
}

// front is the first, or the zero value.
func (l *list[T]) front() (of T) {
	if l.head != nil {
		return l.head.of
	}
	return of
}

// all walks the list; the one just given may be removed.
func (l *list[T]) all() iter.Seq[T] {
	return func(yield func(T) bool) {
		for n := l.head; n != nil; {
			next := n.next
			if !yield(n.of) {
				return
			}
			n = next
		}
	}
}

// laneHeap orders lanes by the time of their next attempt. Guarded by Pool.mu.
type laneHeap []*lane

func (h laneHeap) Len() int           { return len(h) }
func (h laneHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h laneHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapAt, h[j].heapAt = i, j
}

// Push implements heap.Interface.
func (h *laneHeap) Push(x any) {
	l := x.(*lane)
	l.heapAt = len(*h)
	*h = append(*h, l)
}

// Pop implements heap.Interface.
func (h *laneHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return l
}

func (h *laneHeap) add(l *lane) { heap.Push(h, l) }

func (h *laneHeap) drop(l *lane) { heap.Remove(h, l.heapAt) }
