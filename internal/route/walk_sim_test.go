package route

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// walkClock is a loop of the simulation: it turns when something woke it. Owned by the test.
type walkClock struct {
	id    int
	now   *int64
	woken bool
}

func (c *walkClock) ID() int    { return c.id }
func (c *walkClock) Now() int64 { return *c.now }
func (c *walkClock) Wake()      { c.woken = true }

// walkNode is a node of walkers on simulated loops. The index is changed at once, by the test. Owned by the test.
type walkNode struct {
	t      failer
	now    int64
	index  *Index
	net    *Net
	clocks []*walkClock
	on     int // the loop that works just now, -1: none
	walks  []*walkRec
}

// failer is a *testing.T or a *rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func newWalkNode(t failer, loops int, credit int64) *walkNode {
	n := &walkNode{t: t, now: 1_700_000_000_000_000_000, index: NewIndex(IndexOptions{}), on: -1}
	var clocks []Clock
	for i := range loops {
		c := &walkClock{id: i, now: &n.now}
		n.clocks = append(n.clocks, c)
		clocks = append(clocks, c)
	}
	n.net = NewNet(n.index, clocks, credit, DefaultDeadline)
	n.net.SetTable(NewTable(1, nil))
	return n
}

func (n *walkNode) apply(cs ...Change) {
	if !n.index.Apply(cs, nil) {
		n.t.Fatalf("the index refused a change")
	}
	n.index.mu.Lock()
	var b changeQueue
	b, n.index.queue = n.index.queue, b
	n.index.mu.Unlock()
	n.index.work(&b)
}

func (n *walkNode) routes(rs ...*Route) {
	for _, r := range rs {
		p, err := event.ParsePattern(r.Topic)
		if err != nil {
			n.t.Fatalf("route: %v", err)
		}
		r.Filter = p
	}
	tbl := NewTable(1, rs)
	n.apply(tbl.Changes(false)...)
	n.net.SetTable(tbl)
}

func (n *walkNode) subscribe(b *walkBox, filter string, q byte) {
	n.apply(Change{Filter: []byte(filter), Sub: MakeSub(b.taker, q, false, false, 0)})
}

// box makes a subscriber on a loop.
func (n *walkNode) box(i int) *walkBox {
	b := &walkBox{n: n, loop: i}
	t, ok := n.net.Walker(i).Join(b)
	if !ok {
		n.t.Fatalf("no taker number")
	}
	b.taker = t
	return b
}

func (n *walkNode) turn(i int) {
	n.clocks[i].woken = false
	n.on = i
	n.net.Walker(i).Turn()
	n.on = -1
}

// run turns the loops that were woken until none is. A loop that nobody wakes does nothing, as in the real node.
func (n *walkNode) run() {
	n.t.Helper()
	for range 1000 {
		busy := false
		for i, c := range n.clocks {
			if c.woken {
				busy = true
				n.turn(i)
			}
		}
		if !busy {
			return
		}
	}
	n.t.Fatalf("the loops wake each other for ever")
}

// walkRec is one event under way: what its legs said and what its publisher heard. Owned by the test.
type walkRec struct {
	n       *walkNode
	id      int
	loop    int
	at      int64
	waits   bool
	settled int
	outcome event.Outcome
	boxes   []event.Outcome // what subscribers answered
	legs    []*legRec       // of targets
	topic   string
}

// legRec is one delivery to a target. Owned by the test.
type legRec struct {
	w        *walkRec
	target   *walkTarget
	t        event.Ticket
	answered int           // how often
	outcome  event.Outcome // the first answer
	late     bool          // that came after the walk had settled
	decided  []bool        // park of each Decide
}

// Settle implements event.Settler for the walks: the token is the number of the walk.
func (n *walkNode) Settle(token uint64, o event.Outcome, legs int) {
	w := n.walks[token]
	if w.settled++; w.settled > 1 {
		n.t.Fatalf("walk %d is settled twice: %v, then %v", token, w.outcome, o)
	}
	if legs != 1 {
		n.t.Fatalf("walk %d is settled for %d legs", token, legs)
	}
	if n.on != w.loop {
		n.t.Fatalf("walk %d of loop %d is settled on loop %d", token, w.loop, n.on)
	}
	w.outcome = o
}

// walk publishes an event on a loop, in a turn of it; ok is false where publishing is to be held.
func (n *walkNode) walk(i int, topic string, q event.QoS, size int) (w *walkRec, ok bool) {
	n.clocks[i].woken = true // the turn in which the publish came ends with Turn
	wk := n.net.Walker(i)
	if wk.Congested() {
		return nil, false
	}
	w = &walkRec{n: n, id: len(n.walks), loop: i, at: n.now, waits: q > 0, topic: topic}
	n.walks = append(n.walks, w)
	payload := strconv.Itoa(w.id) + "|"
	if pad := size - len(payload); pad > 0 {
		payload += strings.Repeat("x", pad)
	}
	ev := event.Event{Topic: []byte(topic), Payload: []byte(payload), QoS: q, Time: n.now}
	var t event.Ticket
	if w.waits {
		t = event.Ticket{To: n, Token: uint64(w.id)}
	}
	n.on = i
	wk.Walk(&ev, t)
	n.on = -1
	return w, true
}

// of finds the walk that an event belongs to, and fails when the event is not what was published.
func (n *walkNode) of(ev *event.Event) *walkRec {
	id, _, ok := strings.Cut(string(ev.Payload), "|")
	i, err := strconv.Atoi(id)
	if !ok || err != nil || i >= len(n.walks) {
		n.t.Fatalf("an event that nobody published: %.40q", ev.Payload)
	}
	if w := n.walks[i]; string(ev.Topic) != w.topic {
		n.t.Fatalf("event %d of topic %s arrives with topic %s", i, w.topic, ev.Topic)
	}
	return n.walks[i]
}

// walkBox is a subscriber. Owned by the test.
type walkBox struct {
	n     *walkNode
	loop  int
	taker uint32
	mode  event.Outcome // what it answers
	got   []int
	subs  [][]Sub
	hook  func() // called within Take
	left  bool
}

func (b *walkBox) Take(ev *event.Event, subs []Sub) event.Outcome {
	w := b.n.of(ev)
	if b.n.on != b.loop {
		b.n.t.Fatalf("taker of loop %d is reached on loop %d", b.loop, b.n.on)
	}
	if b.left {
		b.n.t.Fatalf("a taker that left is given an event")
	}
	for _, s := range subs {
		if s.Taker() != b.taker {
			b.n.t.Fatalf("given a subscription of another taker")
		}
	}
	b.got = append(b.got, w.id)
	b.subs = append(b.subs, append([]Sub(nil), subs...))
	w.boxes = append(w.boxes, b.mode)
	if b.hook != nil {
		b.hook()
	}
	return b.mode
}

func (b *walkBox) TakeShared(ev *event.Event, s Sub, _ *Group) event.Outcome {
	return b.Take(ev, []Sub{s})
}

func (b *walkBox) Client() string { return fmt.Sprint(b.taker) }

// How a target answers.
const (
	answerNow = iota
	answerLater
	answerNever
	answerTwice
	numAnswers
)

// walkTarget is what a route leads to. Owned by the test.
type walkTarget struct {
	n       *walkNode
	how     int
	decides bool // stands behind a deciding
	outcome event.Outcome
	open    []*legRec          // not answered
	all     map[uint64]*legRec // by token; nil: not yet
}

func (x *walkTarget) Deliver(ev *event.Event, t event.Ticket) {
	w := x.n.of(ev)
	l := &legRec{w: w, target: x, t: t}
	if w.waits != t.Waits() {
		x.n.t.Fatalf("walk %d waits: %v, its leg: %v", w.id, w.waits, t.Waits())
	}
	w.legs = append(w.legs, l)
	if t.Waits() {
		if x.all == nil {
			x.all = map[uint64]*legRec{}
		}
		if o := x.all[t.Token]; o != nil && o.w.settled == 0 {
			x.n.t.Fatalf("walks %d and %d are open at a target with the same token %x", o.w.id, w.id, t.Token)
		}
		x.all[t.Token] = l
	}
	switch x.how {
	case answerNow:
		l.answer(x.outcome)
	case answerTwice:
		l.answer(x.outcome)
		l.answer(event.Accepted)
	default:
		x.open = append(x.open, l)
	}
}

func (l *legRec) answer(o event.Outcome) {
	if l.answered++; l.answered == 1 {
		l.outcome = o
		l.late = l.w.settled > 0
	}
	l.t.Settle(o)
}

// deciding is a walkTarget that may refuse late. Owned by the test.
type deciding struct{ *walkTarget }

func (d deciding) Decide(token uint64, park bool) {
	l := d.all[token]
	if l == nil {
		d.n.t.Fatalf("Decide with the unknown token %x", token)
		return
	}
	if l.w.settled != 0 {
		d.n.t.Fatalf("walk %d: Decide after its publisher was told", l.w.id)
	}
	if d.n.on != l.w.loop {
		d.n.t.Fatalf("walk %d of loop %d: Decide on loop %d", l.w.id, l.w.loop, d.n.on)
	}
	l.decided = append(l.decided, park)
}

// ofTarget is what a target's outcome becomes: one that is full keeps nothing.
func ofTarget(o event.Outcome) event.Outcome {
	if o == event.Throttled {
		return event.Released
	}
	return o
}

// check holds a settled walk against the rule of legs. expired says that its deadline passed.
func (w *walkRec) check() error {
	if !w.waits {
		if w.settled != 0 {
			return fmt.Errorf("walk %d waits for nothing and is settled", w.id)
		}
		return nil
	}
	if w.settled != 1 {
		return fmt.Errorf("walk %d is settled %d times", w.id, w.settled)
	}
	accepted, open := false, false
	refusals := map[event.Outcome]bool{}
	said := func(o event.Outcome) {
		switch {
		case o == event.Accepted:
			accepted = true
		case o != event.NoMatch:
			refusals[o] = true
		}
	}
	for _, o := range w.boxes {
		said(o)
	}
	for _, l := range w.legs {
		if l.answered == 0 || l.late {
			open = true
			continue
		}
		said(ofTarget(l.outcome))
	}
	switch {
	case accepted:
		if w.outcome != event.Accepted {
			return fmt.Errorf("walk %d was accepted by someone and is %v", w.id, w.outcome)
		}
	case len(refusals) > 0:
		if !refusals[w.outcome] {
			return fmt.Errorf("walk %d was refused with %v and is %v", w.id, refusals, w.outcome)
		}
	case open:
		if w.outcome != event.Indeterminate {
			return fmt.Errorf("walk %d has no answer and is %v", w.id, w.outcome)
		}
	case w.outcome != event.NoMatch:
		return fmt.Errorf("nobody took walk %d and it is %v", w.id, w.outcome)
	}
	for i, l := range w.legs {
		if !l.target.decides {
			continue
		}
		refused := l.answered > 0 && !l.late && l.outcome != event.Accepted && l.outcome != event.NoMatch
		want := 0
		if refused || l.answered == 0 || l.late {
			want = 1
		}
		if len(l.decided) != want {
			return fmt.Errorf("walk %d leg %d (refused %v, answered %d): Decide %v, want %d", w.id, i, refused, l.answered, l.decided, want)
		}
		if want == 1 && l.decided[0] != w.outcome.OK() {
			return fmt.Errorf("walk %d is %v and leg %d is decided with park %v", w.id, w.outcome, i, l.decided[0])
		}
	}
	return nil
}

// checkIdle fails unless everything that a walk borrows was given back.
func (n *walkNode) checkIdle() {
	n.t.Helper()
	for i, w := range n.net.walkers {
		if w.Open() != 0 || w.fan.head != -1 || w.fan.tail != -1 || len(w.fan.free) != len(w.fan.slots) {
			n.t.Fatalf("loop %d: %d fan slots open, %d of %d free", i, w.Open(), len(w.fan.free), len(w.fan.slots))
		}
		for j := range w.in {
			if c, l := w.in[j].events.Credit(), w.in[j].events.Limit(); c != l {
				n.t.Fatalf("mail from %d to %d: credit %d of %d", j, i, c, l)
			}
			if len(w.out[j].recs) != 0 || len(w.out[j].data) != 0 || len(w.back[j].list) != 0 {
				n.t.Fatalf("mail from %d to %d: something is still staged", i, j)
			}
		}
	}
}

// settled runs what is awake and fails when a walk is not settled then.
func (n *walkNode) allSettled() {
	n.t.Helper()
	n.run()
	for _, w := range n.walks {
		if w.waits && w.settled == 0 {
			n.t.Fatalf("nobody is awake and walk %d of loop %d is not settled", w.id, w.loop)
		}
	}
}

func (n *walkNode) pass(d time.Duration) { n.now += int64(d) }
