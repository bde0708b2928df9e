package route

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/windrose-edc/windrose/internal/event"
)

var walkOutcomes = []event.Outcome{event.Accepted, event.Accepted, event.NoMatch, event.Throttled, event.Unavailable, event.Unauthorized}

var walkTopics = []string{"r/a", "r/b", "s/a", "r/s", "n"}

// walkWorld is the state machine of TestWalkProperty. Owned by the test.
type walkWorld struct {
	*walkNode
	boxes   []*walkBox
	targets []*walkTarget
	lanes   map[string][]int // walks by lane, in the order of publishing
}

// Any interleaving of publishing, turns, answers (at once, late, twice, never) and time settles each ticket exactly once,
// by the rule of legs; events reach a subscriber in the order of their lane; everything that was borrowed comes back.
func TestWalkProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		loops := rapid.IntRange(1, 3).Draw(rt, "loops")
		credit := rapid.SampledFrom([]int64{150, 600, 4000, 1 << 20}).Draw(rt, "credit")
		w := &walkWorld{walkNode: newWalkNode(rt, loops, credit), lanes: map[string][]int{}}
		for i := range rapid.IntRange(0, 4).Draw(rt, "boxes") {
			b := w.box(i % loops)
			w.boxes = append(w.boxes, b)
			w.subscribe(b, rapid.SampledFrom([]string{"r/#", "+/a", "s/#", "#", "r/s"}).Draw(rt, "filter"), 1)
			if rapid.Bool().Draw(rt, "overlap") {
				w.subscribe(b, "+/+", 2)
			}
		}
		var rs []*Route
		for i := range rapid.IntRange(0, 3).Draw(rt, "routes") {
			x := &walkTarget{n: w.walkNode}
			w.targets = append(w.targets, x)
			r := &Route{Name: fmt.Sprint("r", i), Topic: rapid.SampledFrom([]string{"r/#", "#", "r/{x}"}).Draw(rt, "topic"), Target: x}
			if x.decides = rapid.Bool().Draw(rt, "decides"); x.decides {
				r.Target = deciding{x}
			}
			r.Final = rapid.IntRange(0, 4).Draw(rt, "final") == 0
			rs = append(rs, r)
		}
		w.routes(rs...)
		rt.Repeat(map[string]func(*rapid.T){
			"publish": w.publish, "turn": w.someTurn, "answer": w.answer, "mode": w.mode, "time": w.time,
		})
		w.end()
	})
}

func (w *walkWorld) publish(rt *rapid.T) {
	i := rapid.IntRange(0, len(w.clocks)-1).Draw(rt, "loop")
	topic := rapid.SampledFrom(walkTopics).Draw(rt, "topic")
	q := event.QoS(rapid.IntRange(0, 2).Draw(rt, "qos"))
	size := rapid.SampledFrom([]int{0, 0, 100, 700, 5000, keepFrom}).Draw(rt, "size")
	r, ok := w.walk(i, topic, q, size)
	if !ok {
		return
	}
	lane := fmt.Sprint(i, topic, q)
	w.lanes[lane] = append(w.lanes[lane], r.id)
}

func (w *walkWorld) someTurn(rt *rapid.T) {
	var awake []int
	for i, c := range w.clocks {
		if c.woken {
			awake = append(awake, i)
		}
	}
	if len(awake) > 0 {
		w.turn(rapid.SampledFrom(awake).Draw(rt, "loop"))
	}
}

func (w *walkWorld) answer(rt *rapid.T) {
	for _, x := range w.targets {
		if len(x.open) == 0 || !rapid.Bool().Draw(rt, "answers") {
			continue
		}
		i := rapid.IntRange(0, len(x.open)-1).Draw(rt, "which")
		l := x.open[i]
		x.open = slices.Delete(x.open, i, i+1)
		l.answer(rapid.SampledFrom(walkOutcomes).Draw(rt, "outcome"))
		if rapid.IntRange(0, 5).Draw(rt, "twice") == 0 {
			l.answer(rapid.SampledFrom(walkOutcomes).Draw(rt, "outcome"))
		}
	}
}

func (w *walkWorld) mode(rt *rapid.T) {
	for _, x := range w.targets {
		x.how = rapid.IntRange(0, numAnswers-1).Draw(rt, "how")
		x.outcome = rapid.SampledFrom(walkOutcomes).Draw(rt, "outcome")
	}
	for _, b := range w.boxes {
		b.mode = rapid.SampledFrom(walkOutcomes).Draw(rt, "outcome")
	}
}

func (w *walkWorld) time(rt *rapid.T) {
	d := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, 20 * time.Second}).Draw(rt, "time")
	if d >= time.Second {
		w.run() // no loop that was woken sleeps that long
	}
	w.pass(d)
	for _, c := range w.clocks { // the timers of connections wake a loop now and then
		c.woken = true
	}
}

func (w *walkWorld) end() {
	for _, x := range w.targets { // half of what is open is answered, the rest never
		for i, l := range x.open {
			if i%2 == 0 {
				l.answer(x.outcome)
			}
		}
	}
	w.run()
	for _, r := range w.walks {
		open := false
		for _, l := range r.legs {
			open = open || l.answered == 0
		}
		if r.waits && r.settled == 0 && !open {
			w.t.Fatalf("every leg of walk %d has answered, nobody is awake, and its publisher waits", r.id)
		}
	}
	w.pass(DefaultDeadline + 2*deadlineGrace)
	for _, c := range w.clocks {
		c.woken = true
	}
	w.run()
	for _, r := range w.walks {
		if err := r.check(); err != nil {
			w.t.Fatalf("%v", err)
		}
	}
	w.checkOrder()
	w.checkIdle()
}

func (w *walkWorld) checkOrder() {
	lane := map[int]string{}
	for name, ids := range w.lanes {
		for _, id := range ids {
			lane[id] = name
		}
	}
	for i, b := range w.boxes {
		last := map[string]int{}
		for _, id := range b.got {
			l := lane[id]
			if prev, ok := last[l]; ok && id <= prev {
				w.t.Fatalf("subscriber %d: event %d of lane %s after %d", i, id, l, prev)
			}
			last[l] = id
		}
	}
}

// A final route ends the walk, for later routes and for subscribers.
func TestWalkFinal(t *testing.T) {
	n := newWalkNode(t, 2, 1<<20)
	first, second := &walkTarget{n: n}, &walkTarget{n: n}
	near, far := n.box(0), n.box(1)
	n.subscribe(near, "#", 1)
	n.subscribe(far, "#", 1)
	n.routes(&Route{Name: "1", Topic: "r/#", Target: first, Final: true}, &Route{Name: "2", Topic: "#", Target: second})
	_, _ = n.walk(0, "r/a", event.AtLeastOnce, 0)
	_, _ = n.walk(0, "s/a", event.AtLeastOnce, 0)
	n.allSettled()
	if !slices.Equal(near.got, []int{1}) || !slices.Equal(far.got, []int{1}) {
		t.Errorf("subscribers got %v and %v", near.got, far.got)
	}
	if rs := n.net.Table().Routes(); rs[0].Matched() != 1 || rs[1].Matched() != 1 {
		t.Errorf("routes matched %d and %d", rs[0].Matched(), rs[1].Matched())
	}
}

// An event that was read from a pool is not sent back to it.
func TestWalkNotBackToItsPool(t *testing.T) {
	n := newWalkNode(t, 1, 1<<20)
	x := &walkTarget{n: n}
	r := &Route{Name: "r", Topic: "#", Target: x, Pool: []string{"other", "here"}}
	n.routes(r)
	n.walks = append(n.walks, &walkRec{n: n, topic: "a"})
	for _, pool := range []string{"here", "elsewhere", ""} {
		n.net.Walker(0).Walk(&event.Event{Topic: []byte("a"), Payload: []byte("0|"), From: &event.Origin{Pool: pool}}, event.Ticket{})
	}
	if r.Matched() != 2 {
		t.Errorf("sent %d times, want 2", r.Matched())
	}
}

// What is remembered of a topic is forgotten when the index or the routes change.
func TestWalkFollowsTheIndex(t *testing.T) {
	n := newWalkNode(t, 1, 1<<20)
	a, b := n.box(0), n.box(0)
	walk := func() { n.t.Helper(); _, _ = n.walk(0, "s/a", event.AtLeastOnce, 0) }
	walk()
	n.subscribe(a, "s/#", 1)
	walk()
	n.subscribe(b, "s/a", 1)
	walk()
	n.apply(Change{Filter: []byte("s/#"), Sub: MakeSub(a.taker, 0, false, false, 0), Delete: true})
	walk()
	x := &walkTarget{n: n}
	n.routes(&Route{Name: "r", Topic: "s/+", Target: x})
	walk()
	n.net.SetTable(NewTable(2, nil)) // entries of the old table are still in the index
	walk()
	if !slices.Equal(a.got, []int{1, 2}) || !slices.Equal(b.got, []int{2, 3, 4, 5}) {
		t.Errorf("got %v and %v", a.got, b.got)
	}
	n.allSettled()
	if o := n.walks[0].outcome; o != event.NoMatch {
		t.Errorf("without a subscriber the outcome is %v", o)
	}
	if n.walks[4].legs == nil || n.walks[5].legs != nil {
		t.Error("routes")
	}
}

// More subscribers than a plan holds: each gets each event once, on both loops, and the next topic gets its own.
func TestWalkManySubscribers(t *testing.T) {
	n := newWalkNode(t, 2, 1<<20)
	var boxes []*walkBox
	for i := range planMax + 50 {
		b := n.box(i % 2)
		n.subscribe(b, "s/#", 1)
		n.subscribe(b, "s/a", 2)
		boxes = append(boxes, b)
	}
	_, _ = n.walk(0, "s/a", event.AtLeastOnce, 0)
	_, _ = n.walk(0, "n", event.AtLeastOnce, 0)
	_, _ = n.walk(1, "s/b", event.AtLeastOnce, 0)
	n.allSettled()
	for i, b := range boxes {
		slices.Sort(b.got)
		if !slices.Equal(b.got, []int{0, 2}) {
			t.Fatalf("subscriber %d got %v", i, b.got)
		}
	}
	n.checkIdle()
}

// A taker that left is not reached, neither from here nor by mail under way; its number is used again only after Reuse.
func TestWalkLeave(t *testing.T) {
	n := newWalkNode(t, 2, 1<<20)
	b := n.box(1)
	n.subscribe(b, "s/#", 1)
	w, _ := n.walk(0, "s/a", event.AtLeastOnce, 0)
	n.net.Walker(1).Leave(b.taker)
	b.left = true
	v, _ := n.walk(1, "s/a", event.AtLeastOnce, 0)
	n.allSettled()
	if w.outcome != event.NoMatch || v.outcome != event.NoMatch {
		t.Errorf("outcomes %v and %v", w.outcome, v.outcome)
	}
	if c := n.box(1); c.taker == b.taker {
		t.Error("a number that the index may name is used again")
	}
	n.net.Walker(1).Reuse(b.taker)
	if c := n.box(1); c.taker != b.taker {
		t.Error("a number is lost")
	}
}

// At fanMax open outcomes publishing is held, and goes on when some end; the deadline ends those that nobody answers.
func TestWalkHoldsAtFanMax(t *testing.T) {
	n := newWalkNode(t, 1, 1<<20)
	x := &walkTarget{n: n, how: answerNever}
	n.routes(&Route{Name: "r", Topic: "#", Target: x})
	w := n.net.Walker(0)
	if w.Due() != 0 {
		t.Error("something is due")
	}
	for i := range fanMax {
		if _, ok := n.walk(0, "r", event.AtLeastOnce, 0); !ok {
			t.Fatalf("held at %d", i)
		}
	}
	if _, ok := n.walk(0, "r", event.AtLeastOnce, 0); ok {
		t.Fatal("not held")
	}
	x.open[0].answer(event.Accepted)
	n.run()
	if _, ok := n.walk(0, "r", event.AtLeastOnce, 0); !ok {
		t.Fatal("still held")
	}
	if want := n.now + int64(DefaultDeadline+deadlineGrace); w.Due() != want {
		t.Errorf("due at %d, want %d", w.Due(), want)
	}
	n.now = w.Due()
	n.turn(0)
	n.allSettled()
	n.checkIdle()
	if n.walks[0].outcome != event.Accepted || n.walks[1].outcome != event.Indeterminate {
		t.Errorf("outcomes %v, %v", n.walks[0].outcome, n.walks[1].outcome)
	}
}

// No allocation from walk to settlement, on one loop, across two, and through a route whose target answers later.
func TestWalkAllocatesNothing(t *testing.T) {
	for _, q := range []event.QoS{event.AtMostOnce, event.AtLeastOnce} {
		for _, tt := range []string{"same loop", "other loop", "both", "target"} {
			t.Run(fmt.Sprintf("%s/qos=%d", tt, q), func(t *testing.T) {
				n := newWalkNode(t, 2, 1<<20)
				end := &countingSettler{}
				for i := range 2 {
					if b := (quietBox{}); tt == "both" || tt == "same loop" && i == 0 || tt == "other loop" && i == 1 {
						taker, _ := n.net.Walker(i).Join(b)
						n.apply(Change{Filter: []byte("s/#"), Sub: MakeSub(taker, 1, false, false, 0)})
					}
				}
				x := &quietTarget{}
				if tt == "target" {
					n.routes(&Route{Name: "r", Topic: "#", Target: x})
				}
				ev := event.Event{Topic: []byte("s/a"), Payload: make([]byte, 200), QoS: q}
				var ticket event.Ticket
				if q > 0 {
					ticket = event.Ticket{To: end}
				}
				round := func() {
					for range 10 {
						n.net.Walker(0).Walk(&ev, ticket)
					}
					n.net.Walker(0).Turn()
					n.net.Walker(1).Turn()
					for _, lt := range x.open {
						lt.Settle(event.Accepted)
					}
					x.open = x.open[:0]
					n.net.Walker(0).Turn()
				}
				for range 10 {
					round()
				}
				end.n = 0
				if a := testing.AllocsPerRun(100, round); a != 0 {
					t.Errorf("%v allocations per 10 events", a)
				}
				if want := 10 * 101 * min(1, int(q)); end.n != want {
					t.Errorf("%d settled, want %d", end.n, want)
				}
			})
		}
	}
}

// quietBox accepts. It has no state.
type quietBox struct{}

func (quietBox) Take(*event.Event, []Sub) event.Outcome             { return event.Accepted }
func (quietBox) TakeShared(*event.Event, Sub, *Group) event.Outcome { return event.Accepted }
func (quietBox) Client() string                                     { return "quiet" }

// quietTarget keeps tickets. Owned by the test.
type quietTarget struct{ open []event.Ticket }

func (x *quietTarget) Deliver(_ *event.Event, t event.Ticket) { x.open = append(x.open, t) }

func (x *quietTarget) Decide(uint64, bool) {}

// countingSettler counts. Owned by the test.
type countingSettler struct{ n int }

func (c *countingSettler) Settle(uint64, event.Outcome, int) { c.n++ }
