package route

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/windrose-edc/windrose/internal/event"
)

// groupLoop is the loop number of takers that are groups: shared subscriptions (MQTT 5, 4.8.2).
const groupLoop = 254

// Balance says how a group chooses the member that gets an event.
type Balance uint8

// The choices. Order per publisher and topic is kept by the last three for as long as the members stay the same, by
// Sticky also when one comes.
const (
	RoundRobin    Balance = iota // one after the other; who has a full window is passed over
	LeastInFlight                // who has the fewest events of shared subscriptions open
	HashTopic                    // a topic stays with one member
	HashPublisher                // a client stays with one member
	Sticky                       // a client stays with the member it was first given, until that goes
)

var balanceNames = [...]string{"round_robin", "least_inflight", "hash_topic", "hash_publisher", "sticky"}

// String is the word of the configuration.
func (b Balance) String() string {
	if int(b) < len(balanceNames) {
		return balanceNames[b]
	}
	return fmt.Sprintf("balance(%d)", uint8(b))
}

// ParseBalance reads the word of the configuration; the empty word is round_robin.
func ParseBalance(s string) (Balance, error) {
	for i, n := range balanceNames {
		if s == n {
			return Balance(i), nil
		}
	}
	if s == "" {
		return RoundRobin, nil
	}
	return 0, fmt.Errorf("unknown balance %q: round_robin, least_inflight, hash_topic, hash_publisher or sticky", s)
}

// Load is what a session tells the groups that it is in. Safe for concurrent use: written by the session's loop, read by
// all.
type Load struct {
	Open   atomic.Int32 // events of shared subscriptions that the session has and that are not acknowledged
	Window atomic.Int32 // from how many on others are preferred
}

// Member is one session's place in a group. Safe for concurrent use: written by the session's loop, read by all.
type Member struct {
	group  *Group
	sub    atomic.Uint64 // of the session: its taker and the options of its subscription
	load   *Load
	hash   uint64
	online atomic.Bool
}

// Group is the group that the member is in.
func (m *Member) Group() *Group { return m.group }

// Sub is the member's own subscription.
func (m *Member) Sub() Sub { return Sub(m.sub.Load()) }

// Set changes the options of the member's subscription; the taker stays.
func (m *Member) Set(s Sub) { m.sub.Store(uint64(s)) }

func (m *Member) busy() bool { return m.load.Open.Load() >= m.load.Window.Load() }

// Group is one shared subscription: those who subscribed to the same filter under the same name. Each event that matches
// goes to one of them. Safe for concurrent use: members change under the mutex of Groups and are read without.
type Group struct {
	Key    string // $share/NAME/FILTER
	filter string
	taker  uint32
	on     atomic.Pointer[[]*Member] // members with a connection
	off    atomic.Pointer[[]*Member] // members without
	next   atomic.Uint32
	ended  bool // guarded by the mutex of Groups
}

var noMembers []*Member

// Taker is the group's number in the index.
func (g *Group) Taker() uint32 { return g.taker }

// Change is the group's entry in the index. Who joins puts it there, also when another has done so: an answer to the
// subscriber must follow it.
func (g *Group) Change(remove bool) Change {
	return Change{Filter: []byte(g.filter), Sub: MakeSub(g.taker, 0, false, false, 0), Delete: remove}
}

// Online says whether a member has a connection.
func (g *Group) Online() bool { return len(*g.on.Load()) > 0 }

const (
	groupChunk  = 1 << 10
	groupChunks = 1 << 10
	groupMax    = groupChunk * groupChunks // groups of a node
	memberMax   = 1 << 14                  // members of a group
)

// groupPart is a piece of the table of groups by number. Safe for concurrent use.
type groupPart [groupChunk]atomic.Pointer[Group]

// Groups is all shared subscriptions of a node. Safe for concurrent use: loops find a group by its number without a lock.
type Groups struct {
	balance atomic.Uint32
	parts   [groupChunks]atomic.Pointer[groupPart]

	mu    sync.Mutex // guards what follows, and who is in which list of each group
	byKey map[string]*Group
	spare []int32
	used  int32 // numbers that were ever given out
}

func newGroups() *Groups { return &Groups{byKey: make(map[string]*Group)} }

// SetBalance changes how members are chosen from now on.
func (gs *Groups) SetBalance(b Balance) { gs.balance.Store(uint32(b)) }

// Len is how many groups there are.
func (gs *Groups) Len() int {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	return len(gs.byKey)
}

// Find is the group of a key, nil when there is none now.
func (gs *Groups) Find(key string) *Group {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	return gs.byKey[key]
}

// at is the group of a number.
func (gs *Groups) at(slot int) *Group {
	if slot >= groupMax {
		return nil
	}
	p := gs.parts[slot/groupChunk].Load()
	if p == nil {
		return nil
	}
	return p[slot%groupChunk].Load()
}

// Join makes a session, which is online, a member of the group of key, $share/NAME/FILTER. It returns nil when the group
// or the node has no room for it. The caller puts Group().Change into the index.
func (gs *Groups) Join(key []byte, s Sub, load *Load) *Member {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	g := gs.byKey[string(key)]
	if g == nil {
		if g = gs.create(string(key)); g == nil {
			return nil
		}
	}
	on := *g.on.Load()
	if len(on)+len(*g.off.Load()) >= memberMax {
		return nil
	}
	m := &Member{group: g, load: load, hash: mix(uint64(s.Taker()))}
	m.Set(s)
	m.online.Store(true)
	on = append(on, m) // behind what readers of the old list see
	g.on.Store(&on)
	return m
}

func (gs *Groups) create(key string) *Group {
	_, filter, shared, ok := event.SplitShared([]byte(key))
	if !shared || !ok {
		return nil
	}
	var no int32
	if n := len(gs.spare); n > 0 {
		no, gs.spare = gs.spare[n-1], gs.spare[:n-1]
	} else if gs.used < groupMax {
		no = gs.used
		gs.used++
	} else {
		return nil
	}
	g := &Group{Key: key, filter: key[len(key)-len(filter):], taker: Taker(groupLoop, int(no))}
	g.on.Store(&noMembers)
	g.off.Store(&noMembers)
	part := gs.parts[no/groupChunk].Load()
	if part == nil {
		part = &groupPart{}
		gs.parts[no/groupChunk].Store(part)
	}
	part[no%groupChunk].Store(g)
	gs.byKey[key] = g
	return g
}

// Leave ends a membership. last says that the group has no members any more and is gone: the caller takes its entry out
// of the index, and gives its number back with Retire when no loop can name it any more.
func (gs *Groups) Leave(m *Member) (last bool) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	g := m.group
	if m.online.Swap(false) {
		without(&g.on, m)
	} else {
		without(&g.off, m)
	}
	if g.ended || len(*g.on.Load())+len(*g.off.Load()) > 0 {
		return false
	}
	g.ended = true
	delete(gs.byKey, g.Key)
	return true
}

// Retire frees the number of a group that is gone.
func (gs *Groups) Retire(taker uint32) {
	no := Sub(uint64(taker) << 32).Slot()
	gs.mu.Lock()
	defer gs.mu.Unlock()
	gs.parts[no/groupChunk].Load()[no%groupChunk].Store(nil)
	gs.spare = append(gs.spare, int32(no))
}

// Online says that a member's connection came or went.
func (gs *Groups) Online(m *Member, on bool) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if m.online.Swap(on) == on {
		return
	}
	from, to := &m.group.on, &m.group.off
	if on {
		from, to = to, from
	}
	without(from, m)
	list := append(*to.Load(), m)
	to.Store(&list)
}

// without takes m out of a list, in a copy: readers may have the old one.
func without(p *atomic.Pointer[[]*Member], m *Member) {
	old := *p.Load()
	list := make([]*Member, 0, len(old))
	for _, x := range old {
		if x != m {
			list = append(list, x)
		}
	}
	p.Store(&list)
}

// groupScan bounds how many members are looked at for a free one, and how many are asked to take an event.
const groupScan = 32

// pick chooses the member for an event: one with a connection where there is any, else, for an event that can wait, one
// without. nil: there is nobody.
func (w *Walker) pick(g *Group, ev *event.Event) *Member {
	list := *g.on.Load()
	if len(list) == 0 && ev.QoS != event.AtMostOnce {
		list = *g.off.Load()
	}
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	switch Balance(w.net.groups.balance.Load()) {
	case RoundRobin:
	case LeastInFlight:
		return g.least(list, ev)
	case HashTopic:
		return highest(list, uint64(hash(ev.Topic)))
	case HashPublisher:
		return highest(list, publisher(ev))
	case Sticky:
		return w.stuck.member(g, list, publisher(ev))
	}
	n := uint32(len(list))
	start := g.turn(ev)
	for i := range min(n, groupScan) {
		if m := list[(start+i)%n]; !m.busy() {
			return m
		}
	}
	return list[start%n]
}

// turn is whose turn it is. One that is not sent takes nobody's.
func (g *Group) turn(ev *event.Event) uint32 {
	if ev.Dry {
		return g.next.Load()
	}
	return g.next.Add(1) - 1
}

// least is the member with the fewest open events; of those that have equally few, each in its turn. Of a large group it
// looks at a part, another one each time.
func (g *Group) least(list []*Member, ev *event.Event) *Member {
	n := uint32(len(list))
	start := g.turn(ev)
	var best *Member
	var open int32
	for i := range min(n, groupScan) {
		m := list[(start+i)%n]
		if o := m.load.Open.Load(); best == nil || o < open {
			best, open = m, o
		}
	}
	return best
}

// highest is rendezvous hashing: when a member comes or goes, only what is its own moves.
func highest(list []*Member, key uint64) *Member {
	best, top := list[0], uint64(0)
	for _, m := range list {
		if h := mix(key ^ m.hash); h >= top {
			best, top = m, h
		}
	}
	return best
}

// publisher is a number of the client that published, the same after it has connected again.
func publisher(ev *event.Event) uint64 {
	if ev.From == nil {
		return 0
	}
	return uint64(hashString(ev.From.Client))
}

func hashString(s string) uint32 {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h ^ h>>15
}

// mix spreads a number over all bits (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// after is who is asked when a member did not take an event: the others in turn, first those with a connection, then, for
// an event that can wait, those without. tries is how many were asked. ok is false when that is enough.
func (g *Group) after(s Sub, tries int, ev *event.Event) (next Sub, ok bool) {
	if tries >= groupScan {
		return 0, false
	}
	on := *g.on.Load()
	if tries < len(on) {
		i := 0
		for j, m := range on {
			if m.Sub().Taker() == s.Taker() {
				i = (j + 1) % len(on)
				break
			}
		}
		return on[i].Sub(), true
	}
	off := *g.off.Load()
	if i := tries - len(on); i < len(off) && ev.QoS != event.AtMostOnce {
		return off[i].Sub(), true
	}
	return 0, false
}

const (
	stuckSets = 1 << 10
	stuckWays = 4
)

// stuckEntry remembers which member of a group a publisher was given. Owned by its walker.
type stuckEntry struct {
	g   *Group
	key uint64
	m   *Member
}

// stuck is what Sticky remembers: the latest few thousand publishers of a loop. Who is forgotten is given the member that
// the hash names, which is the same unless members came or went meanwhile. Owned by its walker.
type stuck struct {
	sets *[stuckSets][stuckWays]stuckEntry // nil until it is needed
}

func (s *stuck) member(g *Group, list []*Member, key uint64) *Member {
	if s.sets == nil {
		s.sets = new([stuckSets][stuckWays]stuckEntry)
	}
	set := &s.sets[mix(key^uint64(g.taker)<<32)%stuckSets]
	for i := range set {
		e := &set[i]
		if e.g != g || e.key != key {
			continue
		}
		found := *e
		if !found.m.online.Load() && len(*g.on.Load()) > 0 {
			found.m = highest(list, key)
		}
		copy(set[1:i+1], set[:i]) // the latest used comes first
		set[0] = found
		return found.m
	}
	m := highest(list, key)
	copy(set[1:], set[:])
	set[0] = stuckEntry{g, key, m}
	return m
}
