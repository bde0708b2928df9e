package route

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/windrose-edc/windrose/internal/event"
)

// Events of one turn that are together larger than the credit of a pair of loops cross it, and credit comes back.
func TestMailLargerThanItsCredit(t *testing.T) {
	n := newWalkNode(t, 2, 1000)
	far := n.box(1)
	n.subscribe(far, "#", 1)
	for range 3 {
		for i := 0; ; i++ {
			if _, ok := n.walk(0, "s/a", event.AtLeastOnce, 700); !ok {
				if i == 0 {
					t.Fatal("publishing is held with nothing under way")
				}
				break
			}
		}
		n.allSettled()
		n.checkIdle()
	}
	if _, ok := n.walk(0, "s/a", event.AtLeastOnce, 5000); !ok {
		t.Fatal("held")
	}
	n.allSettled()
	n.checkIdle()
}

// A loop whose mail found no credit is woken when credit comes back, however much of it there was and is.
func TestMailWithoutCreditIsWoken(t *testing.T) {
	for _, first := range []int{100, 300, 500, 700, 900} {
		t.Run(fmt.Sprint(first), func(t *testing.T) {
			n := newWalkNode(t, 2, 1000)
			far := n.box(1)
			n.subscribe(far, "#", 1)
			for _, size := range []int{first, 950} { // QoS 0: no answer wakes the loop
				if _, ok := n.walk(0, "s/a", event.AtMostOnce, size-96-8-3); !ok {
					t.Fatal("held")
				}
				n.turn(0)
			}
			n.run()
			if len(far.got) != 2 {
				t.Errorf("%d of 2 events arrived, and nobody is awake", len(far.got))
			}
			n.checkIdle()
		})
	}
}

// An event for more than one taker of a loop crosses once, with each taker's own subscriptions; the bytes arrive as they
// were, also when batches are merged because the reader did not come.
func TestBatchKeepsEvents(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type want struct {
			ev   event.Event
			legs []Sub
			tok  uint64
		}
		var box, staged batch
		var wants []want
		size := int64(0)
		for i := range rapid.IntRange(1, 20).Draw(rt, "events") {
			gen := func(name string, most int) []byte {
				return bytes.Repeat([]byte{byte('a' + i)}, rapid.SampledFrom([]int{0, 1, 100, most}).Draw(rt, name))
			}
			w := want{tok: uint64(i), ev: event.Event{Topic: gen("topic", 300), Meta: gen("meta", 200), Payload: gen("payload", keepFrom),
				From: &event.Origin{Client: fmt.Sprint(i)}, Time: int64(i), Expires: int64(2 * i), QoS: event.QoS(i % 3), Retain: i%2 == 0}}
			for j := range rapid.IntRange(1, 3).Draw(rt, "legs") {
				w.legs = append(w.legs, MakeSub(Taker(1, j+1), byte(j), false, false, uint32(i)))
			}
			ev := w.ev
			before := staged.size()
			staged.add(&ev, w.legs, w.tok)
			size += staged.size() - before
			wants = append(wants, w)
			if rapid.Bool().Draw(rt, "post") {
				merge(&box, &staged)
				if len(staged.recs) != 0 || len(staged.data) != 0 || len(staged.legs) != 0 {
					rt.Fatalf("merging leaves something behind")
				}
			}
		}
		merge(&box, &staged)
		if box.size() != size {
			rt.Fatalf("size %d after merging, %d before", box.size(), size)
		}
		if len(box.recs) != len(wants) {
			rt.Fatalf("%d events of %d", len(box.recs), len(wants))
		}
		var ev event.Event
		for i := range box.recs {
			r, w := &box.recs[i], &wants[i]
			box.event(r, &ev)
			if !bytes.Equal(ev.Topic, w.ev.Topic) || !bytes.Equal(ev.Meta, w.ev.Meta) || !bytes.Equal(ev.Payload, w.ev.Payload) ||
				ev.From != w.ev.From || ev.Time != w.ev.Time || ev.Expires != w.ev.Expires || ev.QoS != w.ev.QoS || ev.Retain != w.ev.Retain {
				rt.Fatalf("event %d has changed on the way", i)
			}
			if got := box.legs[r.legs : r.legs+r.nlegs]; fmt.Sprint(got) != fmt.Sprint(w.legs) || r.token != w.tok {
				rt.Fatalf("event %d: legs %v token %d, want %v %d", i, got, r.token, w.legs, w.tok)
			}
		}
	})
}

// A burst does not hold its memory for ever, and an empty batch lets go of what its events pointed to.
func TestBatchLetsGo(t *testing.T) {
	var b batch
	ev := event.Event{Topic: []byte("t"), Payload: make([]byte, keepFrom-1)}
	for range 600 {
		b.add(&ev, []Sub{1}, 0)
	}
	big := event.Event{Topic: []byte("t"), Payload: make([]byte, keepFrom), From: &event.Origin{}}
	b.add(&big, []Sub{1}, 0)
	b.reset()
	if cap(b.data) != 0 {
		t.Errorf("%d bytes are held", cap(b.data))
	}
	for _, r := range b.recs[:cap(b.recs)] {
		if r.kept != nil || r.from != nil {
			t.Fatal("an empty batch points to an event")
		}
	}
}

// Events that cross by reference count what they hold, on either side and merged, so that large payloads use up the credit
// too.
func TestMailCountsLargePayloads(t *testing.T) {
	var dst, src batch
	ev := event.Event{Topic: []byte("t"), Payload: make([]byte, keepFrom)}
	dst.add(&ev, []Sub{1}, 0)
	src.add(&ev, []Sub{1}, 0)
	if s := dst.size(); s < keepFrom {
		t.Errorf("%d bytes of payload count %d", keepFrom, s)
	}
	each := dst.size()
	merge(&dst, &src)
	if dst.size() != 2*each || src.size() != 0 {
		t.Errorf("merged: %d and %d, want %d and 0", dst.size(), src.size(), 2*each)
	}
	dst.reset()
	if dst.size() != 0 {
		t.Errorf("an empty batch counts %d", dst.size())
	}
}

// An event that nobody asked Congested about is refused once twice the credit is staged, so that mail stays bounded.
func TestMailIsBounded(t *testing.T) {
	n := newWalkNode(t, 2, 1000)
	n.subscribe(n.box(1), "#", 1)
	w := n.net.Walker(0)
	ev := event.Event{Topic: []byte("s/a"), Payload: []byte("0|" + string(make([]byte, 398)))}
	n.walks = append(n.walks, &walkRec{n: n, topic: "s/a"})
	n.on = 0
	for range 100 {
		w.Walk(&ev, event.Ticket{})
	}
	if s := w.out[1].size(); s > 3000 {
		t.Errorf("%d bytes staged with a credit of 1000", s)
	}
	if w.Stats().MailDropped == 0 {
		t.Error("nothing is counted")
	}
	n.clocks[0].woken = true
	n.run()
	n.checkIdle()
}

// chanClock is a loop of its own goroutine that sleeps until it is woken. Safe for concurrent use.
type chanClock struct {
	id   int
	wake chan struct{}
}

func (c *chanClock) ID() int    { return c.id }
func (c *chanClock) Now() int64 { return time.Now().UnixNano() }
func (c *chanClock) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// flooder publishes to the takers of all loops as fast as it may. Owned by its loop.
type flooder struct {
	w               *Walker
	left, open, got int
}

func (f *flooder) Take(*event.Event, []Sub) event.Outcome             { f.got++; return event.Accepted }
func (f *flooder) TakeShared(*event.Event, Sub, *Group) event.Outcome { f.got++; return event.Accepted }
func (f *flooder) Client() string                                     { return "flooder" }

func (f *flooder) Settle(uint64, event.Outcome, int) { f.open-- }

// Loops that flood each other with tiny credit, each in its goroutine and asleep unless woken, all come to their end.
func TestMailFlood(t *testing.T) {
	const loops, events = 3, 3000
	n := newWalkNode(t, 1, 0)
	var clocks []Clock
	for i := range loops {
		clocks = append(clocks, &chanClock{id: i, wake: make(chan struct{}, 1)})
	}
	net := NewNet(n.index, clocks, 700, DefaultDeadline)
	net.SetTable(NewTable(1, nil))
	fs := make([]*flooder, loops)
	for i := range fs {
		fs[i] = &flooder{w: net.Walker(i), left: events}
		taker, _ := net.Walker(i).Join(fs[i])
		n.apply(Change{Filter: []byte("f/#"), Sub: MakeSub(taker, 1, false, false, 0)})
	}
	var wg sync.WaitGroup
	var done atomic.Int32 // loops that have published and heard everything
	for i, f := range fs {
		wg.Go(func() {
			ev := event.Event{Topic: []byte("f/x"), Payload: make([]byte, 50)}
			told := false
			for done.Load() < loops || f.got < loops*events {
				for k := 0; k < 20 && f.left > 0 && !f.w.Congested(); k++ {
					f.left--
					f.open++
					ev.QoS = event.QoS(k & 1)
					tk := event.Ticket{}
					if ev.QoS > 0 {
						tk.To = f
					} else {
						f.open--
					}
					f.w.Walk(&ev, tk)
				}
				f.w.Turn()
				if !told && f.left == 0 && f.open == 0 {
					told = true
					done.Add(1)
					for _, c := range clocks {
						c.Wake()
					}
				}
				if f.left > 0 && !f.w.Congested() {
					continue // as a loop with input
				}
				if told && done.Load() == loops && f.got == loops*events {
					return
				}
				select {
				case <-clocks[i].(*chanClock).wake:
				case <-time.After(20 * time.Second):
					t.Errorf("loop %d: asleep with %d to publish, %d open, %d received", i, f.left, f.open, f.got)
					return
				}
			}
		})
	}
	wg.Wait()
	for i, f := range fs {
		if f.got != loops*events || f.open != 0 {
			t.Errorf("loop %d: %d of %d received, %d open", i, f.got, loops*events, f.open)
		}
	}
	n.net, n.walks = net, nil
	n.checkIdle()
}

// Outcomes of batches that the other loop has not fetched are all there when it does, in their order.
func TestAnswersMerge(t *testing.T) {
	c := &walkClock{}
	p := newPair(c, 10)
	for i := range 4 {
		a := answers{list: []settlement{{token: uint64(2*i + 1), n: 1}, {token: uint64(2*i + 2), n: 1, o: event.Timeout}}}
		p.answers.PostReserved(&a)
		if len(a.list) != 0 {
			t.Fatal("what was posted stays")
		}
	}
	var got answers
	if !p.answers.Take(&got) || len(got.list) != 8 || !c.woken {
		t.Fatalf("taken: %v", got.list)
	}
	for i, s := range got.list {
		if s.token != uint64(i+1) || (s.o == event.Timeout) != (i%2 == 1) {
			t.Errorf("%d: %+v", i, s)
		}
	}
}
