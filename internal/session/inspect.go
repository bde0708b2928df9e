package session

import (
	"net/netip"
	"time"
	"unique"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/route"
)

// note is what is remembered of a session only to be told to whoever looks. Owned by its session.
type note struct {
	received  uint64 // events that the client published and the session took
	delivered uint64
	dropped   uint32 // deliveries, for whatever reason; it wraps
	since     uint32 // Unix seconds: when the connection was attached, or when it ended
	endAt     uint32 // Unix seconds: when the last connection ended, 0 when none has
	end       unique.Handle[string]
}

// countSent counts a delivery.
func (s *Session) countSent() {
	s.host.Tally.Delivered++
	s.note.delivered++
	if r := s.host.ranks.subscribers; r.Due() {
		r.AddString(s.ID, s.host.clock.Now())
	}
}

// drop counts a delivery that is dropped.
func (s *Session) drop(d Drop) {
	s.host.Tally.Dropped[d]++
	s.note.dropped++
	if d == DropSlow || d == DropQueueFull {
		s.rankSlow()
	}
}

// PeerFacts is what a connection tells of itself. A value.
type PeerFacts struct {
	Remote    netip.AddrPort
	Protocol  string // with its version: "MQTT 5"
	TLS       bool
	KeepAlive time.Duration // 0: none
	Pending   int           // unsent bytes
	Held      int           // publishes that wait for a limit or for room
}

// Describer is implemented by peers that tell about their connection. It is called on the session's home loop.
type Describer interface {
	Describe(f *PeerFacts)
}

// Facts is what is told of a session. A value; its strings are shared with the session and never written.
type Facts struct {
	ID, User, Listener, Protocol string
	Attrs                        map[string]string // never written

	Online    bool
	Peer      PeerFacts // while Online
	Since     time.Time // of the connection, or without one
	Expiry    uint32    // seconds that the session is kept without a connection
	Expires   time.Time // when it ends; zero while Online, and when it does not end by time
	End       string    // why the last connection ended, "" when none has
	EndAt     time.Time
	Loop      int
	Version   uint64 // another one for each connection and each session
	Will      string // topic, "" without a will
	Receiving int    // events of the client without an answer

	Subscriptions, Window, Unacked, Queued int
	QueuedBytes                            int64
	Received, Delivered                    uint64
	Dropped                                uint32
}

// Why a connection ended that the host ends by itself, in the words of the protocols.
const (
	endTakenOver = "taken_over"
	endStopped   = "stopped"
)

// Ended notes why the session's connection p is about to end, for whoever looks; nothing happens when another one is
// attached. reason is one of a small closed set.
func (s *Session) Ended(p Peer, reason string) {
	if s.peer == p || s.peer == nil {
		s.note.end, s.note.endAt = unique.Make(reason), uint32(s.host.clock.Now()/int64(time.Second))
	}
}

// Facts tells about the session. On its home loop.
func (s *Session) Facts() Facts {
	n := &s.note
	f := Facts{
		ID: s.ID, Online: s.peer != nil, Since: time.Unix(int64(n.since), 0), Expiry: s.Expiry, Loop: s.host.clock.ID(),
		Version:       uint64(s.taker)<<32 | uint64(s.gen)<<24 ^ uint64(n.since),
		Subscriptions: len(s.subs), Window: int(s.window), Unacked: int(s.out.open), Queued: s.out.waiting(), QueuedBytes: s.out.bytes(),
		Received: n.received, Delivered: n.delivered, Dropped: n.dropped,
	}
	if s.in != nil {
		f.Receiving = s.Unanswered()
	}
	if o := s.Origin; o != nil {
		f.User, f.Listener, f.Protocol, f.Attrs = o.User, o.Listener, o.Protocol, o.Attrs
	}
	if n.endAt != 0 {
		f.End, f.EndAt = n.end.Value(), time.Unix(int64(n.endAt), 0)
	}
	if s.will != nil {
		f.Will = string(s.will.Event.Topic)
	}
	if d, ok := s.peer.(Describer); ok {
		d.Describe(&f.Peer)
	}
	if s.away != nil && s.away.expires != 0 {
		f.Expires = time.Unix(0, s.away.expires)
	}
	return f
}

// SubscriptionAt is the session's subscription number i, of Subscriptions. The order changes with unsubscribing. On its
// home loop.
func (s *Session) SubscriptionAt(i int) (filter string, sub route.Sub) {
	return s.subs[i].Filter, s.subs[i].Sub
}

// Slots is the bound of the places that Session takes. On the loop only.
func (h *Host) Slots() int { return len(h.slots) }

// Session is the session in a place of the host's table, nil where there is none. A session keeps its place for its
// life. On the loop only.
func (h *Host) Session(slot int) *Session {
	if slot < 0 || slot >= len(h.slots) {
		return nil
	}
	return h.slots[slot]
}

// Find is the session of a client id when it lives on this loop. On the loop only.
func (h *Host) Find(id string) *Session {
	if s := h.shared.Directory.find(id); s != nil && s.host == h {
		return s
	}
	return nil
}

// LoopOf is the number of the loop on which the session of a client id lives. Any goroutine; the session may be gone when
// that loop is asked.
func (d *Directory) LoopOf(id string) (loop int, ok bool) {
	s := d.find(id)
	if s == nil {
		return 0, false
	}
	return s.host.clock.ID(), true
}

// Kick ends the session's connection for the given reason; it reports whether there was one. forget ends the session
// too: what waits in it is dropped and counted. On its home loop.
func (s *Session) Kick(w Why, forget bool) bool {
	p := s.peer
	if forget {
		s.Expiry = 0 // the end of the connection ends the session
	}
	if p != nil {
		p.Kick(w)
		return true
	}
	if forget {
		s.End()
	}
	return false
}

// Redeliver puts an event that became a dead letter back into the session's outbox; false: there is no room. On its home
// loop.
func (s *Session) Redeliver(ev *event.Kept) bool {
	if s.ended || s.out.waiting() >= s.maxQueue() || s.out.bytes()+int64(ev.Size()) > s.maxBytes() {
		return false
	}
	e := ev.Event
	s.Take(&e, []route.Sub{route.MakeSub(s.taker, byte(e.QoS), false, false, 0)})
	return true
}
