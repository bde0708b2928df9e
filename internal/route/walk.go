package route

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr"
	"github.com/windrose-edc/windrose/internal/tap"
)

// Outbox takes events for one subscriber, on its home loop. Take borrows ev; subs are the subscriber's own that matched,
// at least one. It answers at once: Accepted (taken over), NoMatch (not meant for it after all), or a refusal. It is in the
// middle of a walk: what would begin another (the end of a connection with a will) waits until it has returned.
//
// TakeShared is Take for an event of a group that it is in, by its subscription s; with anything but Accepted another
// member is asked. Client says who it is.
type Outbox interface {
	Take(ev *event.Event, subs []Sub) event.Outcome
	TakeShared(ev *event.Event, s Sub, g *Group) event.Outcome
	Client() string
}

// DeadLetters takes the events that were acknowledged and cannot be delivered. Safe for concurrent use.
type DeadLetters interface {
	Dead(ev *event.Kept, client, reason string)
}

// Clock is what a walker needs of its loop.
type Clock interface {
	ID() int
	Now() int64 // Unix nanoseconds of this turn
	Wake()      // any goroutine
}

// DefaultDeadline is how long a publisher waits for the outcome of an event.
const DefaultDeadline = 30 * time.Second

// deadlineGrace is how much longer the fan waits than its targets, so that a target's own answer comes first.
const deadlineGrace = time.Second

// planMax bounds the matches that are cached with their topic.
const (
	planSlots = 1 << 10
	planMax   = 1 << 11
)

// plan is the sorted match of one topic. Owned by its walker.
type plan struct {
	gen    uint64
	topic  []byte
	subs   []Sub // sorted: runs of one taker are neighbours, so are the takers of one loop; routes last
	groups int   // where the groups begin, behind the takers of all loops
	routes int   // where the routes begin
}

// Stats counts what a walker did. Owned by its loop; read it there.
type Stats struct {
	Walked, NoMatch, Legs, Remote, Refused, MailDropped, Expired, Late uint64

	Shared      uint64 // events that a member of a group took on this loop
	SharedAgain uint64 // times that another member was asked because one did not take an event
	SharedLost  uint64 // events that no member of a group took
}

// Net is all walkers of a node and what they share. Immutable after NewNet except the table, which is swapped whole, and the
// deadline.
type Net struct {
	index    *Index
	table    atomic.Pointer[Table]
	walkers  []*Walker
	groups   *Groups
	deadline atomic.Int64
	tap      *tap.Hub // nil: nobody ever looks
}

// NewNet makes the walkers of a node, one for each loop. credit bounds the bytes of events under way between two loops.
func NewNet(ix *Index, clocks []Clock, credit int64, deadline time.Duration) *Net {
	n := &Net{index: ix, groups: newGroups()}
	n.SetDeadline(deadline)
	for i, c := range clocks {
		w := &Walker{net: n, id: i, clock: c, fan: newFan(i), out: make([]batch, len(clocks)), back: make([]answers, len(clocks))}
		for range clocks {
			w.in = append(w.in, newPair(c, credit))
		}
		n.walkers = append(n.walkers, w)
	}
	return n
}

// SetTap says where the steps of traced events go. Before the first walk.
func (n *Net) SetTap(h *tap.Hub) { n.tap = h }

// SetDeadline says how long publishers wait for outcomes from now on. A shorter one may come into force only once the
// deadlines of the events under way have passed.
func (n *Net) SetDeadline(d time.Duration) { n.deadline.Store(int64(d)) }

// SetTable swaps the routes. The caller puts their filters into the index before and takes the old ones out after.
func (n *Net) SetTable(t *Table) { n.table.Store(t) }

// Table is the routes in force.
func (n *Net) Table() *Table { return n.table.Load() }

// Index is the subscription index.
func (n *Net) Index() *Index { return n.index }

// Groups is the shared subscriptions.
func (n *Net) Groups() *Groups { return n.groups }

// Walker is the i-th loop's.
func (n *Net) Walker(i int) *Walker { return n.walkers[i] }

// Walker is one loop's end of the walk. Owned by its loop, except Settle, which is safe for concurrent use.
type Walker struct {
	net    *Net
	id     int
	clock  Clock
	takers []Outbox
	spare  []int32 // free places in takers
	plans  [planSlots]plan
	big    plan // matches too many to cache
	fan    fan
	out    []batch     // staged, by destination loop
	back   []answers   // staged, by destination loop
	in     []*pair     // mail, by source loop
	cur    batch       // being read
	heard  answers     // being read
	ev     event.Event // of cur, rebuilt for each record
	look   expr.Input  // what conditions look at
	stats  Stats
	stuck  stuck
	dead   DeadLetters // may be nil
	passes uint64      // fan-outs to several takers of this loop, ever
	passed uint64      // the one that is under way; 0: none
	no     []refuser   // that refused the event of this walk, while nobody knows what its publisher will be told

	outside struct { // outcomes from other goroutines; guarded by mu
		mu      sync.Mutex
		settles []settlement
	}
	taken []settlement
}

// Parks says where events go that were acknowledged and cannot be delivered. Called before the loop runs.
func (w *Walker) Parks(d DeadLetters) {
	t := &tracedLetters{net: w.net, d: d}
	w.dead, w.fan.dead = t, t
}

// Stats is the walker's counters. Only on its loop.
func (w *Walker) Stats() *Stats {
	w.stats.Late = w.fan.late
	return &w.stats
}

// Open is how many events wait for an outcome. Only on the loop.
func (w *Walker) Open() int { return w.fan.n }

// Due is when the oldest event that waits for an outcome passes its deadline, Unix nanoseconds; 0: none waits. Turn must
// be called then, whatever else happens. Only on the loop.
func (w *Walker) Due() int64 {
	if w.fan.head < 0 {
		return 0
	}
	return w.fan.slots[w.fan.head].deadline
}

// Join gives a subscriber a taker number on this loop; ok is false when the loop has no more.
func (w *Walker) Join(o Outbox) (taker uint32, ok bool) {
	if n := len(w.spare); n > 0 {
		i := w.spare[n-1]
		w.spare = w.spare[:n-1]
		w.takers[i] = o
		return Taker(w.id, int(i)), true
	}
	if len(w.takers) == 0 {
		w.takers = append(w.takers, nil) // number 0 means: no taker
	}
	if len(w.takers) >= MaxTakers {
		return 0, false
	}
	w.takers = append(w.takers, o)
	return Taker(w.id, len(w.takers)-1), true
}

// Leave ends deliveries to a taker. Its number stays reserved until Reuse.
func (w *Walker) Leave(taker uint32) { w.takers[Sub(uint64(taker)<<32).Slot()] = nil }

// Reuse gives the number of a taker or a group back; only when no entry of the index names it any more.
func (w *Walker) Reuse(taker uint32) {
	if Sub(uint64(taker)<<32).Loop() == groupLoop {
		w.net.groups.Retire(taker)
		return
	}
	w.spare = append(w.spare, int32(Sub(uint64(taker)<<32).Slot()))
}

// Congested says that a loop has no room for more events now: publishing is to be held until Walk is tried again in a
// later turn. Acknowledgements are not affected.
func (w *Walker) Congested() bool {
	if w.fan.n >= fanMax {
		return true
	}
	for i := range w.out {
		if i == w.id {
			continue
		}
		if mail := w.net.walkers[i].in[w.id]; w.out[i].size() >= mail.events.Credit() {
			mail.starved.Store(true) // who holds its publishing now is woken
			return true
		}
	}
	return false
}

// Walk hands the event to everyone who matched and settles t exactly once, during the call or later on this loop. ev is
// borrowed for the call.
func (w *Walker) Walk(ev *event.Event, t event.Ticket) {
	w.walk(ev, t)
	if w.look.Event != nil {
		w.look.End()
	}
}

func (w *Walker) walk(ev *event.Event, t event.Ticket) {
	w.stats.Walked++
	if t.Waits() && w.fan.n >= fanSlots { // only when the caller did not ask Congested
		w.stats.MailDropped++
		t.Settle(event.Throttled)
		return
	}
	p := w.match(ev.Topic)
	slot := int32(-1)
	var accepted, refused bool
	var refusal event.Outcome
	final := false
	if p.routes < len(p.subs) {
		tbl := w.net.table.Load()
		for _, s := range p.subs[p.routes:] {
			r := tbl.at(s.Slot())
			if r == nil {
				continue
			}
			back := comesFrom(ev, r.Pool)
			if (r.When != nil || r.Class != nil) && !back && !w.takes(r, ev) {
				continue
			}
			if ev.Trace != 0 {
				w.traceRoute(ev, r, back)
			}
			if back {
				continue
			}
			w.stats.Legs++
			if !ev.Dry {
				r.matched.Add(1)
			}
			lt := event.Ticket{}
			if t.Waits() {
				if slot < 0 {
					slot = w.fan.begin(t, w.clock.Now()+w.net.deadline.Load()+int64(deadlineGrace))
				}
				d, _ := r.Target.(Decider)
				lt = event.Ticket{To: w, Token: w.fan.leg(slot, d)}
			}
			r.Target.Deliver(ev, lt)
			if r.Final {
				final = true
				break
			}
		}
	}
	told := t.Waits() && (ev.From == nil || !ev.From.NoRefusal)
	if !final {
		for subs := p.subs[:p.groups]; len(subs) > 0; {
			l := subs[0].Loop()
			if l != w.id {
				n := 1
				for n < len(subs) && subs[n].Loop() == l {
					n++
				}
				slot = w.remote(ev, l, subs[:n], t, slot)
				subs = subs[n:]
				continue
			}
			n := run(subs)
			if w.passed == 0 && n < len(subs) && subs[n].Loop() == w.id {
				w.pass()
			}
			switch o := w.take(ev, subs[:n], told); {
			case o == event.Accepted:
				accepted = true
			case o != event.NoMatch && !refused:
				refused, refusal = true, o
			}
			subs = subs[n:]
		}
		w.passed = 0
		for _, gs := range p.subs[p.groups:p.routes] {
			g := w.net.groups.at(gs.Slot())
			if g == nil {
				continue // it is gone; the index does not know yet
			}
			o, gs, next := w.offer(ev, g, gs)
			switch {
			case next != 0:
				slot = w.remote(ev, next.Loop(), []Sub{gs, next}, t, slot)
			case o == event.Accepted:
				accepted = true
			case o != event.NoMatch:
				if !refused {
					refused, refusal = true, o
				}
				if told {
					w.no = append(w.no, g)
				} else {
					w.park(ev, g.Key, noMember)
				}
			}
		}
	}
	if slot < 0 {
		o := verdict(accepted, refused, refusal)
		if o == event.NoMatch {
			w.stats.NoMatch++
		}
		if len(w.no) > 0 {
			w.parkAll(ev, o.OK())
		}
		t.Settle(o)
		return
	}
	s := &w.fan.slots[slot]
	s.accepted = s.accepted || accepted
	if refused && !s.refused {
		s.refused, s.refusal = true, refusal
	}
	if len(w.no) > 0 {
		s.parked = w.undecided(ev, s.parked)
	}
	w.fan.settle(fanToken(w.id, slot, 0, s.gen), event.NoMatch, 1, nil) // the walk's own leg: it says nothing, it only ends
}

// remote stages the event for the takers of another loop.
func (w *Walker) remote(ev *event.Event, l int, subs []Sub, t event.Ticket, slot int32) int32 {
	b := &w.out[l]
	if b.size() > 2*w.net.walkers[l].in[w.id].events.Limit() { // only when the caller did not ask Congested
		w.stats.MailDropped += uint64(len(subs))
		if ev.Trace != 0 {
			w.traceHop(ev, l, true)
		}
		if t.Waits() {
			if slot < 0 {
				slot = w.fan.begin(t, w.clock.Now()+w.net.deadline.Load()+int64(deadlineGrace))
			}
			s := &w.fan.slots[slot]
			if !s.refused {
				s.refused, s.refusal = true, event.Throttled
			}
		}
		return slot
	}
	var tok uint64
	if t.Waits() {
		if slot < 0 {
			slot = w.fan.begin(t, w.clock.Now()+w.net.deadline.Load()+int64(deadlineGrace))
		}
		tok = w.fan.leg(slot, nil)
	}
	w.stats.Remote++
	if ev.Trace != 0 {
		w.traceHop(ev, l, false)
	}
	b.add(ev, subs, tok)
	return slot
}

// run is how many of the first subs belong to the first one's taker.
func run(subs []Sub) int {
	n := 1
	for n < len(subs) && subs[n].Taker() == subs[0].Taker() {
		n++
	}
	return n
}

// take hands the event to one taker of this loop. What it refuses becomes a dead letter at once where the publisher cannot
// be told; else that is decided by what the publisher will be told.
func (w *Walker) take(ev *event.Event, subs []Sub, told bool) event.Outcome {
	i := subs[0].Slot()
	if i >= len(w.takers) || w.takers[i] == nil {
		return event.NoMatch // it left; the index does not know yet
	}
	w.stats.Legs++
	o := w.takers[i].Take(ev, subs)
	if !o.OK() {
		w.stats.Refused++
		if told {
			w.no = append(w.no, w.takers[i])
		} else {
			w.park(ev, w.takers[i].Client(), outboxFull)
		}
	}
	return o
}

func (w *Walker) pass() {
	w.passes++
	w.passed = w.passes
}

// Passing is the number of the fan-out that is under way, when one event is being handed to several takers of this loop: all of
// them are handed the same bytes, and what one makes of them is good for the next. 0: none is. Only on the loop.
func (w *Walker) Passing() uint64 { return w.passed }

func comesFrom(ev *event.Event, pools []string) bool {
	if ev.From == nil || ev.From.Pool == "" {
		return false
	}
	return slices.Contains(pools, ev.From.Pool)
}

// match answers from the cache where the index has not changed since.
func (w *Walker) match(topic []byte) *plan {
	gen := w.net.index.Generation()
	p := &w.plans[hash(topic)&(planSlots-1)]
	if p.gen == gen && len(p.topic) == len(topic) && string(p.topic) == string(topic) {
		return p
	}
	w.big.subs = w.net.index.Match(topic, w.big.subs[:0])
	if len(w.big.subs) > planMax {
		p = &w.big
	} else {
		p.subs = append(p.subs[:0], w.big.subs...)
		p.topic = append(p.topic[:0], topic...)
		p.gen = gen
	}
	if len(p.subs) > 1 {
		slices.Sort(p.subs)
	}
	p.routes = len(p.subs)
	for p.routes > 0 && p.subs[p.routes-1].Loop() == routeLoop {
		p.routes--
	}
	p.groups = p.routes
	for p.groups > 0 && p.subs[p.groups-1].Loop() == groupLoop {
		p.groups--
	}
	return p
}

// hash is FNV-1a: short topics, no seed needed, for a collision only costs a miss.
func hash(b []byte) uint32 {
	h := uint32(2166136261)
	for _, c := range b {
		h = (h ^ uint32(c)) * 16777619
	}
	return h ^ h>>15
}

// Settle implements event.Settler for the legs of targets that answer from other goroutines.
func (w *Walker) Settle(token uint64, o event.Outcome, n int) {
	if o == event.Throttled {
		// A target that is full has not taken the event, and nobody keeps it. Throttled is what an outbox says, where it
		// has become a dead letter.
		o = event.Released
	}
	w.outside.mu.Lock()
	w.outside.settles = append(w.outside.settles, settlement{token: token, n: int32(n), o: o})
	first := len(w.outside.settles) == 1
	w.outside.mu.Unlock()
	if first {
		w.clock.Wake()
	}
}

// Turn does what is due once in each turn of the loop: it takes the outcomes and events that arrived, ends what is past
// its deadline, and posts what was staged.
func (w *Walker) Turn() {
	w.settleOutside()
	for from := range w.in {
		if from != w.id {
			w.read(from, w.in[from])
		}
	}
	if w.fan.head >= 0 {
		w.stats.Expired += uint64(w.fan.expire(w.clock.Now()))
	}
	for to := range w.out {
		w.post(to)
	}
}

// post hands over what was staged for a loop. Events for which there is no credit stay; that loop will wake this one.
func (w *Walker) post(to int) {
	if to == w.id {
		return
	}
	mail := w.net.walkers[to].in[w.id]
	if b := &w.out[to]; len(b.recs) > 0 {
		mail.send(b)
	}
	if len(w.back[to].list) > 0 {
		mail.answers.PostReserved(&w.back[to])
	}
}

func (w *Walker) settleOutside() {
	w.outside.mu.Lock()
	w.taken, w.outside.settles = w.outside.settles, w.taken[:0]
	w.outside.mu.Unlock()
	for _, s := range w.taken {
		w.fan.settle(s.token, s.o, int(s.n), nil)
	}
}

// read takes one loop's mail.
func (w *Walker) read(from int, mail *pair) {
	if mail.answers.Take(&w.heard) {
		for _, s := range w.heard.list {
			w.fan.settle(s.token, s.o, int(s.n), s.parked)
		}
		clear(w.heard.list)
		w.heard.list = w.heard.list[:0]
	}
	if !mail.events.Take(&w.cur) {
		return
	}
	b, ev := &w.cur, &w.ev
	for i := range b.recs {
		r := &b.recs[i]
		b.event(r, ev)
		if r.trace == 0 {
			w.readOne(ev, b.legs[r.legs:r.legs+r.nlegs], r.token)
		} else {
			w.readTraced(ev, b.legs[r.legs:r.legs+r.nlegs], r.token)
		}
	}
	n := mail.charge(b)
	b.reset()
	mail.free(n, w.net.walkers[from].clock)
}

// readOne hands an event of another loop to its takers here.
func (w *Walker) readOne(ev *event.Event, legs []Sub, token uint64) {
	told := token != 0 && (ev.From == nil || !ev.From.NoRefusal)
	if legs[0].Loop() == groupLoop {
		w.readShared(ev, legs[0], legs[1], token, told)
		return
	}
	var accepted, refused bool
	var refusal event.Outcome
	if run(legs) < len(legs) {
		w.pass()
	}
	for subs := legs; len(subs) > 0; {
		n := run(subs)
		switch o := w.take(ev, subs[:n], told); {
		case o == event.Accepted:
			accepted = true
		case o != event.NoMatch && !refused:
			refused, refusal = true, o
		}
		subs = subs[n:]
	}
	w.passed = 0
	if token != 0 {
		w.answer(token, verdict(accepted, refused, refusal), ev)
	}
}
