// Package session remembers clients: who they are, what they subscribed to, what was sent to them and not yet
// acknowledged, what they sent and was not yet answered, and what waits for them. It is the narrow waist between the
// protocols above it and the walk of an event: a protocol opens a session, publishes into it and implements Peer to be
// reached; everything else reaches a session only through tickets and as a taker of the route package.
//
// # Concurrency
//
// A Session belongs to its home loop, and so does the Host that made it; there is one Host per loop. The Directory is
// shared by all loops and guarded by its own locks.
package session

import (
	"sync/atomic"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/route"
)

// Never is the expiry of a session that does not end by time (MQTT 5, 3.1.2.11.2).
const Never = 0xffffffff

// Why says why a session's connection is taken from it.
type Why uint8

// The reasons.
const (
	TakenOver  Why = iota // the same client connected again
	Shutdown              // the node stops
	Kicked                // an operator or a rule says so
	OutboxFull            // and its rule is to disconnect
	Limited               // it published above a limit whose rule is to disconnect
	Busy                  // the node cannot take its subscriptions now
	Removed               // its listener is no longer configured
	NoMemory              // the node is short of memory
)

// Peer is a session's connection, on the session's home loop.
type Peer interface {
	// Send puts the event into the connection's output. It reports false when the event does not fit what the client
	// accepts; then nothing was sent.
	Send(ev *event.Event, d Delivery) bool
	// Release sends the second half of an exactly-once delivery (PUBREL).
	Release(id uint16)
	// Room says whether the output has room for more.
	Room() bool
	// Answer tells the publisher what became of its event.
	Answer(r Receipt)
	// Kick ends the connection; the peer calls Detach while it does so or later.
	Kick(w Why)
}

// Delivery is how an event is sent to one subscriber.
type Delivery struct {
	ID     uint16 // packet id, 0 for QoS 0
	QoS    event.QoS
	Dup    bool
	Retain bool
	Subs   []route.Sub // the subscriptions that matched, for their identifiers
	SubID  uint32      // the identifier where Subs is empty and it is not 0
}

// Will is what is published for a client that goes without saying goodbye. Immutable.
type Will struct {
	Event event.Kept
	Delay uint32 // seconds
	Life  uint32 // message expiry in seconds from the publication; 0: none
}

// Subscription is one entry of a session.
type Subscription struct {
	Filter string
	Sub    route.Sub // taker and options
}

// Session is what is remembered of one client. Owned by its home loop.
type Session struct {
	ID     string
	Origin *event.Origin

	host    *Host
	peer    Peer
	taker   uint32
	Expiry  uint32        // seconds after the connection ended; 0: at once; Never
	bounds  *Bounds       // of the listener of its connection; nil: none
	counted *atomic.Int64 // sessions of the listener that opened it
	window  uint16        // how many deliveries with an acknowledgement may be open
	gen     uint8         // of the taker number, for tickets
	ended   bool
	// leaving: the connection is to end after the walk that is under way
	leaving bool
	quota   bool // exactly-once events count until their release
	unheard bool // it published while the intake was shut, and was not answered

	subs    []Subscription
	byName  map[string]int // index of subs, from manySubs on
	out     outbox
	walking int       // events whose outcome is open, also those of earlier connections
	shares  *shares   // nil until there is a shared subscription
	in      *receipts // nil until the client publishes with an acknowledgement
	replays *replays  // nil while none waits
	policy  policy.State
	will    *Will
	away    *away // nil while a connection is attached
	note    note
}

// away is what a session knows while it has no connection. Owned by its session.
type away struct {
	s       *Session
	timer   loop.Timer // whichever is next
	expires int64      // when the session ends; 0: not by time
	willAt  int64      // when the delayed will goes out; 0: there is none
}

// manySubs is from how many subscriptions on a session keeps a map of them.
const manySubs = 16

// Taker is the session's number in the route table.
func (s *Session) Taker() uint32 { return s.taker }

// Online says whether a connection is attached.
func (s *Session) Online() bool { return s.peer != nil }

// Subscriptions is how many the session has.
func (s *Session) Subscriptions() int { return len(s.subs) }

// Policy is the session's policy state.
func (s *Session) Policy() *policy.State { return &s.policy }

func (s *Session) find(filter []byte) int {
	if s.byName != nil {
		if i, ok := s.byName[string(filter)]; ok {
			return i
		}
		return -1
	}
	for i := range s.subs {
		if s.subs[i].Filter == string(filter) {
			return i
		}
	}
	return -1
}

// set stores a subscription and reports whether its filter was new.
func (s *Session) set(filter []byte, sub route.Sub) (isNew bool) {
	if i := s.find(filter); i >= 0 {
		s.subs[i].Sub = sub
		return false
	}
	f := string(filter)
	if s.subs == nil {
		s.subs = make([]Subscription, 0, 1) // most devices have one
	}
	s.subs = append(s.subs, Subscription{f, sub})
	switch {
	case s.byName != nil:
		s.byName[f] = len(s.subs) - 1
	case len(s.subs) > manySubs:
		s.byName = make(map[string]int, 2*len(s.subs))
		for i := range s.subs {
			s.byName[s.subs[i].Filter] = i
		}
	}
	return true
}

// unset removes a subscription and reports whether there was one.
func (s *Session) unset(filter []byte) bool {
	i := s.find(filter)
	if i < 0 {
		return false
	}
	last := len(s.subs) - 1
	if s.byName != nil {
		delete(s.byName, s.subs[i].Filter)
		if i != last {
			s.byName[s.subs[last].Filter] = i
		}
	}
	s.subs[i] = s.subs[last]
	s.subs[last] = Subscription{}
	s.subs = s.subs[:last]
	return true
}
