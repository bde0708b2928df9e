package session

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/retain"
	"github.com/windrose-edc/windrose/internal/route"
	"github.com/windrose-edc/windrose/internal/tap"
)

// Clock is what a host needs of its loop.
type Clock interface {
	route.Clock
	Post(fn func()) // any goroutine
	Arm(t *loop.Timer, at int64)
	Disarm(t *loop.Timer)
}

// DeadLetters takes the events that were acknowledged and cannot be delivered.
type DeadLetters interface {
	Dead(ev *event.Kept, client, reason string)
}

// Shared is what the hosts of all loops have in common. Immutable after the node is built, except Chain, which is asked
// for each event, and what SetLimits, Shut and ShutListener change.
type Shared struct {
	Directory *Directory
	Net       *route.Net
	Retained  *retain.Store
	Chain     func() *policy.Chain   // never nil
	Classes   func() *policy.Classes // nil: devices have no classes
	Limits    Limits
	Tap       *tap.Hub      // nil: nobody ever looks
	Dead      DeadLetters   // may be nil
	Lives     LifeWatcher   // may be nil
	Observe   func(h *Host) // called at the end of each turn with the host's counters; may be nil

	live atomic.Pointer[Limits] // in place of Limits; nil: those
	door door
	from origins
}

// SetLimits changes the limits: from the next turn of each loop on. What is above a new limit stays; the window of a
// connection is that of its CONNECT. Any goroutine.
func (sh *Shared) SetLimits(l Limits) {
	sh.live.Store(&l)
	sh.Net.Groups().SetBalance(l.Balance)
}

func (sh *Shared) limits() *Limits {
	if l := sh.live.Load(); l != nil {
		return l
	}
	return &sh.Limits
}

// quarantine is how long the number of a taker that left stays unused: longer than any loop takes to post its mail.
const quarantine = 10 * time.Second

// resting is a taker number on its way back.
type resting struct {
	taker uint32
	at    int64
}

// Host is the sessions of one loop. Owned by its loop, except Settle, which is only called on it too: the walker is what
// other goroutines call.
type Host struct {
	Tally Tally

	shared  *Shared
	limits  *Limits
	clock   Clock
	walk    *route.Walker
	slots   []*Session // by place of the taker
	gens    []uint8
	resting []resting
	due     loop.Timer // deadline of the oldest event that waits for its outcome
	ctx     policy.Context
	reading policy.Context // for deliveries, which are in the middle of the walk of an event
	sourced []sourced      // events of sources and groups that wait for room
	again   loop.Timer     // when to try them again

	ghosts  map[uint32]*ghost // sessions that left outcomes open, by the upper half of their tokens
	lingers map[string]int    // how many, by client

	free  *share // for the next delivery of a group
	frees int

	ranks Ranks

	deaf bool // the intake is shut, see Hear

	held     map[*Session]uint32 // traces of events that wait, by publisher; nil: none
	watching bool                // the event that is being answered has a trace
	said     string              // what its publisher was told

	sourcedBytes atomic.Int64  // of sourced and on the way to it
	sourcedDrops atomic.Uint64 // not counted in Tally yet

	lastAddress     netip.Addr // of the client that came last
	lastAddressText string
}

// sourced is an event that no session published.
type sourced struct {
	ev    *event.Kept
	t     event.Ticket
	group *route.Group // that has taken it, and whose member is gone; nil: it is new
}

// NewHost makes the host of one loop.
func NewHost(sh *Shared, c Clock) *Host {
	h := &Host{shared: sh, limits: sh.limits(), clock: c, walk: sh.Net.Walker(c.ID()), ranks: newRanks()}
	h.ctx.In = h.walk.Input()
	h.due.Init(h)
	h.again.Init(h)
	h.walk.Parks(sh.Dead)
	sh.Net.Groups().SetBalance(h.limits.Balance)
	return h
}

// Walker is the loop's walker.
func (h *Host) Walker() *route.Walker { return h.walk }

// Limits is what bounds the host's sessions. Any goroutine.
func (h *Host) Limits() *Limits { return h.shared.limits() }

// Now is the time of this turn, Unix nanoseconds.
func (h *Host) Now() int64 { return h.clock.Now() }

// Clock is the host's loop.
func (h *Host) Clock() Clock { return h.clock }

// Turn does what is due once in each turn.
func (h *Host) Turn() {
	h.limits = h.shared.limits()
	h.walkSourced()
	h.walk.Turn()
	if at := h.walk.Due(); at != 0 && !h.due.Armed() {
		h.clock.Arm(&h.due, at)
	}
	for now := h.clock.Now(); len(h.resting) > 0 && h.resting[0].at <= now; h.resting = h.resting[1:] {
		h.walk.Reuse(h.resting[0].taker)
	}
	if h.shared.Observe != nil {
		h.shared.Observe(h)
	}
}

// Expire implements loop.Expirer: a deadline may have passed. The turn that this begins looks at it.
func (h *Host) Expire(*loop.Timer, int64) {}

// Flush adds what the policies counted for this loop to the shared counters.
func (h *Host) Flush() {
	h.ctx.Flush()
	h.reading.Flush()
}

// Hello is what a protocol knows when a client asks for a session.
type Hello struct {
	ClientID string
	Clean    bool   // no earlier state is wanted
	Expiry   uint32 // seconds the session is kept without a connection
	Window   int    // deliveries without acknowledgement that the client takes; 0: no limit of its own
	Quota    bool   // the client was told our limit, and counts exactly-once events until their release (MQTT 5, 4.9)
	Origin   event.Origin
	Will     *Will
	Bounds   *Bounds // of the listener; nil: none
}

// Open gives the client its session and attaches p to it. present says that earlier state was found. When the session's
// home is another loop, s is nil and home is that loop's number: the connection must move there and ask again.
//
// While the door is shut the error is ErrShut: see Closed.
func (h *Host) Open(hello *Hello, p Peer) (s *Session, present bool, home int, err error) {
	if h.Refuses(hello.Origin.Listener, hello.ClientID, hello.Clean) != nil {
		return nil, false, h.clock.ID(), ErrShut
	}
	for {
		old := h.shared.Directory.find(hello.ClientID)
		switch {
		case old == nil:
			if s, err = h.create(hello); err != nil {
				return nil, false, h.clock.ID(), err
			}
			if !h.shared.Directory.claim(s) {
				h.leave(s, nil, nil)
				continue
			}
			h.Tally.Sessions++
			h.attach(s, hello, p)
			return s, false, h.clock.ID(), nil
		case old.host != h:
			return nil, false, old.host.clock.ID(), nil
		}
		if q := old.peer; q != nil {
			h.Tally.TakenOver++
			resumed := !hello.Clean && old.Expiry != 0
			old.Ended(q, endTakenOver)
			old.detach(resumed)
			q.Kick(TakenOver)
		}
		if old.ended {
			continue
		}
		if hello.Clean {
			h.end(old)
			continue
		}
		h.attach(old, hello, p)
		return old, true, h.clock.ID(), nil
	}
}

func (h *Host) create(hello *Hello) (*Session, error) {
	if m := h.limits.Sessions; m > 0 && h.shared.Directory.Len() >= m {
		return nil, ErrFull
	}
	n, ok := h.shared.from.enter(hello.Origin.Listener, hello.Bounds)
	if !ok {
		return nil, ErrFull
	}
	s := &Session{ID: hello.ClientID, host: h, counted: n}
	t, ok := h.walk.Join(s)
	if !ok {
		n.Add(-1)
		return nil, ErrFull
	}
	s.taker = t
	i := route.Sub(uint64(t) << 32).Slot()
	for i >= len(h.slots) {
		h.slots = append(h.slots, nil)
		h.gens = append(h.gens, 0)
	}
	h.slots[i] = s
	h.gens[i]++
	s.gen = h.gens[i]
	return s, nil
}

// addressText is the text of an address. Clients behind one gateway share it.
func (h *Host) addressText(a netip.Addr) string {
	if a != h.lastAddress {
		h.lastAddress, h.lastAddressText = a, a.String()
	}
	return h.lastAddressText
}

func (h *Host) attach(s *Session, hello *Hello, p Peer) {
	o := hello.Origin
	o.Taker, o.Lane, o.Client = s.taker, s.taker, s.ID
	if d, ok := p.(Describer); ok && o.Address == "" {
		var f PeerFacts
		if d.Describe(&f); f.Remote.IsValid() {
			o.Address = h.addressText(f.Remote.Addr().Unmap().WithZone(""))
		}
	}
	h.classify(&o)
	s.Origin = &o
	s.bounds = hello.Bounds
	s.peer, s.Expiry, s.will = p, hello.Expiry, hello.Will
	s.window = uint16(min(s.maxWindow(), 0xffff))
	if hello.Window > 0 {
		s.window = min(s.window, uint16(min(hello.Window, 0xffff)))
	}
	s.leaving, s.quota = false, hello.Quota
	s.note.since = uint32(h.clock.Now() / int64(time.Second))
	s.back()
	s.meet(true)
	h.Tally.Online++
	s.lives(Connected, nil)
}

// Start sends what an earlier connection left open and what waits. The protocol calls it after it has told the client
// that the session is open.
func (s *Session) Start() { s.pump() }

// SetExpiry changes how long the session is kept after this connection (MQTT 5, 3.14.2.2.2).
func (s *Session) SetExpiry(seconds uint32) { s.Expiry = seconds }

// ForgetWill drops the will: the client said goodbye, though its connection may stay for a moment.
func (s *Session) ForgetWill() { s.will = nil }

// Detach ends the connection of a session. p must be the attached peer, else nothing happens (it was taken over).
// graceful says that the client said goodbye, so its will is not published.
func (s *Session) Detach(p Peer, graceful bool) {
	if s.peer != p || p == nil {
		return
	}
	if graceful {
		s.will = nil
	}
	s.detach(false)
}

// detach ends the connection. resumed: another connection takes the session over at once.
func (s *Session) detach(resumed bool) {
	h := s.host
	s.peer = nil
	s.replays = nil
	h.Tally.Online--
	s.unlook()
	s.in.detach(orphanMax * s.maxReceive())
	s.out.interrupted()
	s.meet(false)
	now := h.clock.Now()
	s.note.since = uint32(now / int64(time.Second))
	s.lives(Disconnected, nil)
	a := &away{s: s}
	if w := s.will; w != nil {
		delay := min(w.Delay, s.Expiry) // [MQTT-3.1.3-9] and 3.1.3.2.2
		switch {
		case delay == 0:
			s.publishWill()
		case !resumed:
			a.willAt = now + int64(delay)*int64(time.Second)
		}
	}
	if s.Expiry == 0 {
		h.end(s)
		return
	}
	if h.limits.HandOn == HandOnDisconnect && !resumed {
		s.handOn(false)
	}
	if s.Expiry != Never {
		a.expires = now + int64(s.Expiry)*int64(time.Second)
	}
	a.timer.Init(a)
	s.away = a
	a.arm()
}

// back ends the time without a connection.
func (s *Session) back() {
	if s.away != nil {
		s.host.clock.Disarm(&s.away.timer)
		s.away = nil
	}
}

func (a *away) arm() {
	at := a.expires
	if a.willAt != 0 && (at == 0 || a.willAt < at) {
		at = a.willAt
	}
	if at != 0 {
		a.s.host.clock.Arm(&a.timer, at)
	}
}

// Expire implements loop.Expirer: the will's delay or the session's time has passed.
func (a *away) Expire(_ *loop.Timer, now int64) {
	s := a.s
	if s.away != a {
		return
	}
	if a.willAt != 0 && a.willAt <= now {
		a.willAt = 0
		s.publishWill()
	}
	if a.expires != 0 && a.expires <= now {
		s.lives(Expired, nil)
		s.host.end(s)
		return
	}
	a.arm()
}

// End drops a session and all it remembers.
func (s *Session) End() {
	if !s.ended {
		s.host.end(s)
	}
}

func (h *Host) end(s *Session) {
	if s.ended {
		return
	}
	s.ended = true
	if s.peer != nil {
		s.peer = nil
		h.Tally.Online--
	}
	if s.will != nil {
		s.publishWill() // its delay ends with the session
	}
	s.unlook()
	h.shared.Directory.release(s)
	s.back()
	h.Tally.Sessions--
	h.Tally.Subs -= int64(len(s.subs))
	h.linger(s)
	changes, gone := h.unsubscribeAll(s)
	s.handOn(true)
	h.Tally.Dropped[DropUnacked] += uint64(s.out.open)
	for s.out.waiting() > 0 {
		s.pop()
		h.Tally.Dropped[DropEnded]++
	}
	s.out = outbox{}
	s.in = nil
	s.replays = nil
	h.leave(s, changes, gone)
}

// unsubscribeAll ends the session's memberships of groups, and says what is to be taken out of the index.
func (h *Host) unsubscribeAll(s *Session) (cs []route.Change, gone []uint32) {
	if len(s.subs) == 0 {
		return nil, nil
	}
	cs = make([]route.Change, 0, len(s.subs))
	for _, x := range s.subs {
		if f := []byte(x.Filter); isShared(f) {
			cs, gone = s.part(f, cs, gone)
		} else {
			cs = append(cs, route.Change{Filter: f, Sub: x.Sub, Delete: true})
		}
	}
	s.subs, s.byName = nil, nil
	return cs, gone
}

// leave takes the session out of the index and its number out of use; gone are the numbers of groups that end with it.
func (h *Host) leave(s *Session, cs []route.Change, gone []uint32) {
	i := route.Sub(uint64(s.taker) << 32).Slot()
	h.slots[i] = nil
	s.counted.Add(-1)
	h.walk.Leave(s.taker)
	taker := s.taker
	if len(cs) == 0 {
		h.rest(taker)
		return
	}
	h.removed(cs, gone, func() { h.rest(taker) })
}

func (h *Host) rest(taker uint32) {
	h.resting = append(h.resting, resting{taker, h.clock.Now() + int64(quarantine)})
}

// Inject walks an event of a source and settles t exactly once. Any goroutine; it never blocks. The events of one caller
// keep their order. The source bounds those whose outcome it waits for; of the others no more than sourcedMax bytes wait,
// the rest is dropped and counted.
func (h *Host) Inject(ev *event.Kept, t event.Ticket) {
	if !t.Waits() && h.sourcedBytes.Load() > sourcedMax {
		h.sourcedDrops.Add(1)
		return
	}
	h.sourcedBytes.Add(int64(ev.Size()))
	h.clock.Post(func() { h.sourced = append(h.sourced, sourced{ev: ev, t: t}) })
}

// sourcedMax bounds the bytes of events from sources that wait for their walk and for whose outcome nobody waits.
const sourcedMax = 16 << 20

// walkSourced walks what sources brought while there is room.
func (h *Host) walkSourced() {
	n := 0
	for ; n < len(h.sourced) && !h.walk.Congested(); n++ {
		x := h.sourced[n]
		h.sourcedBytes.Add(-int64(x.ev.Size()))
		ev := x.ev.Event // a policy may change it
		if x.group != nil {
			h.walk.Share(&ev, x.group)
			continue
		}
		h.shared.Tap.Begin(&ev, h.clock.ID())
		t := h.traceSource(&ev, x.t)
		h.Tally.Received[ev.QoS]++
		v := h.judge(&ev, nil, true)
		if v.Kind == policy.Pass {
			h.keepRetained(&ev)
			h.walk.Walk(&ev, t)
		} else {
			h.Tally.Outcomes[v.Outcome]++
			t.Settle(v.Outcome)
		}
		if !t.Waits() {
			h.traceAck(&ev, refusal(v), "the source waits for no answer")
		}
	}
	switch n {
	case 0:
	case len(h.sourced):
		clear(h.sourced)
		h.sourced = h.sourced[:0]
	default:
		h.sourced = slices.Delete(h.sourced, 0, n)
	}
	if d := h.sourcedDrops.Swap(0); d > 0 {
		h.Tally.Dropped[DropSource] += d
	}
	if len(h.sourced) > 0 && !h.again.Armed() {
		h.clock.Arm(&h.again, h.clock.Now()+int64(time.Millisecond))
	}
}

// Close takes all connections away, at the end of the node's life. Sessions stay as they are.
func (h *Host) Close() {
	for _, s := range h.slots {
		if s != nil && s.peer != nil {
			p := s.peer
			s.Ended(p, endStopped)
			s.detach(false)
			p.Kick(Shutdown)
		}
	}
}

// publishWill publishes and forgets the will.
func (s *Session) publishWill() {
	w := s.will
	s.will = nil
	if w == nil {
		return
	}
	h := s.host
	ev := w.Event.Event
	ev.From, ev.Time = s.Origin, h.clock.Now()
	if w.Life != 0 {
		ev.Expires = ev.Time + int64(w.Life)*int64(time.Second)
	}
	ev.Changed()
	h.shared.Tap.Begin(&ev, h.clock.ID())
	v := h.judge(&ev, &s.policy, true) // a will cannot wait: its connection is gone
	if v.Kind != policy.Pass {
		h.Tally.Outcomes[v.Outcome]++
		h.traceAck(&ev, refusal(v), "a will")
		return
	}
	h.keepRetained(&ev)
	h.walk.Walk(&ev, event.Ticket{})
	h.traceAck(&ev, "", "a will")
	h.clock.Wake() // this turn's mail may have gone already: a lost connection is noticed late in it
}

func (h *Host) dead(ev *event.Kept, s *Session, reason string) {
	if h.shared.Dead != nil {
		h.shared.Dead.Dead(ev, s.ID, reason)
	}
}
