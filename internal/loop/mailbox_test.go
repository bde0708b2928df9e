package loop

import (
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// batch is what the mailboxes of the tests carry.
type batch struct{ v []int }

func mergeBatch(into, from *batch) {
	into.v = append(into.v, from.v...)
	from.v = from.v[:0]
}

// bell counts wakes.
type bell struct{ n atomic.Int64 }

func (b *bell) Wake() { b.n.Add(1) }

// TestMailboxAgainstQueue: whatever the producer and the consumer do in turn, everything posted is taken once and in
// order, the credit is right, the consumer was woken for every box that became full, and no batch is both the
// producer's and the consumer's.
func TestMailboxAgainstQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 40
		b := &bell{}
		m := NewMailbox[batch](b, limit, mergeBatch)
		var staged, taken batch
		var sent, got []int
		next, outstanding, wakes := 0, 0, int64(0)
		inBox := 0
		t.Repeat(map[string]func(*rapid.T){
			"stage": func(*rapid.T) {
				staged.v = append(staged.v, next)
				next++
			},
			"post": func(t *rapid.T) {
				n := len(staged.v)
				if n == 0 {
					t.Skip()
				}
				want := append([]int(nil), staged.v...)
				if ok := m.Post(&staged, int64(n)); ok != (outstanding+n <= limit) {
					t.Fatalf("post of %d with %d outstanding: %v", n, outstanding, ok)
				} else if !ok {
					if len(staged.v) != n {
						t.Fatal("a refused batch was touched")
					}
					staged.v = staged.v[:0] // the overflow rule: drop
					return
				}
				if len(staged.v) != 0 {
					t.Fatal("the producer got a batch that is not empty")
				}
				if inBox == 0 {
					wakes++
				}
				inBox += n
				outstanding += n
				sent = append(sent, want...)
			},
			"take": func(t *rapid.T) {
				taken.v = taken.v[:0]
				if ok := m.Take(&taken); ok != (inBox > 0) {
					t.Fatalf("take: %v with %d in the box", ok, inBox)
				}
				got = append(got, taken.v...)
				inBox = 0
			},
			"return": func(t *rapid.T) {
				n := rapid.IntRange(0, outstanding-inBox).Draw(t, "n")
				m.Return(int64(n))
				outstanding -= n
			},
			"": func(t *rapid.T) {
				if m.Credit() != int64(limit-outstanding) {
					t.Fatalf("credit %d, want %d", m.Credit(), limit-outstanding)
				}
				if b.n.Load() != wakes {
					t.Fatalf("%d wakes, want %d", b.n.Load(), wakes)
				}
				for i, v := range got {
					if sent[i] != v {
						t.Fatalf("took %v of %v", got, sent)
					}
				}
				if len(got)+inBox != len(sent) {
					t.Fatalf("%d sent, %d taken, %d in the box", len(sent), len(got), inBox)
				}
			},
		})
	})
}

func TestMailboxReserve(t *testing.T) {
	m := NewMailbox[batch](&bell{}, 10, mergeBatch)
	if !m.Reserve(7) || m.Reserve(4) || !m.Reserve(3) || m.Credit() != 0 {
		t.Error("reserve")
	}
	b := batch{v: []int{1}}
	if m.Post(&b, 1) || len(b.v) != 1 {
		t.Error("posted without credit")
	}
	m.PostReserved(&b)
	var got batch
	if !m.Take(&got) || len(got.v) != 1 {
		t.Error("what was reserved did not arrive")
	}
	m.Return(10)
	if m.Credit() != m.Limit() {
		t.Error("credit did not come back")
	}
}

// TestMailboxesFullInBothDirections: two loops that flood each other, each processing only what it took before it posts
// again, never wait: without credit they drop, and both go on. A wait would hang the test.
func TestMailboxesFullInBothDirections(t *testing.T) {
	const limit, each, rounds = 64, 16, 20_000
	g := testGroup(t, Options{Loops: 2})
	boxes := [2]*Mailbox[batch]{}
	for i := range boxes {
		boxes[i] = NewMailbox[batch](g.Loops()[i], limit, mergeBatch) // to loop i
	}
	var wg sync.WaitGroup
	var posted, dropped, received [2]int
	for i := range 2 {
		in, out := boxes[i], boxes[1-i]
		l := g.Loops()[i]
		var staged, taken batch
		round := 0
		var step func()
		wg.Add(1)
		step = func() {
			for range 3 { // more than the other takes
				for range each {
					staged.v = append(staged.v, round)
				}
				if out.Post(&staged, each) {
					posted[i] += each
				} else {
					dropped[i] += each
					staged.v = staged.v[:0]
				}
			}
			if round++; round%5 == 0 { // slow
				taken.v = taken.v[:0]
				if in.Take(&taken) {
					received[i] += len(taken.v)
					in.Return(int64(len(taken.v)))
				}
			}
			if round < rounds {
				l.Post(step)
			} else {
				wg.Done()
			}
		}
		l.Post(step)
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	wait(t, done)
	for i := range 2 {
		var rest batch
		boxes[1-i].Take(&rest)
		if posted[i] != received[1-i]+len(rest.v) || posted[i] == 0 || dropped[i] == 0 {
			t.Errorf("loop %d posted %d and dropped %d, %d arrived", i, posted[i], dropped[i], received[1-i]+len(rest.v))
		}
	}
}

func TestMailboxAllocatesNothing(t *testing.T) {
	m := NewMailbox[batch](&bell{}, 1<<40, mergeBatch)
	var staged, taken batch
	step := func() {
		for range 2 { // the second is merged
			for i := range 100 {
				staged.v = append(staged.v, i)
			}
			m.Post(&staged, 100)
		}
		taken.v = taken.v[:0]
		m.Take(&taken)
		m.Return(int64(len(taken.v)))
	}
	for range 4 {
		step()
	}
	if n := testing.AllocsPerRun(100, step); n != 0 {
		t.Errorf("%v allocations per round", n)
	}
}
