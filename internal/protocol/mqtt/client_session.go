package mqtt

import (
	"errors"
	"math/rand/v2"
	"sync"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// ClientSession is what a client remembers between connections (section 4.1): its own QoS 1 and 2 publishes that wait
// for an answer, in the order of Publish, and the QoS 2 packets that it received and the server has not released. Give
// the same one to each Dial of the same client identifier, one connection at a time. When the server still has the
// session, publishes are sent again with DUP and releases as PUBREL; when it has lost it, all of them are published as
// new, so QoS 2 is then at least once. Their done functions are called in the connection that brings the answer.
//
// A server may hold packet identifiers of an earlier process for the same client identifier; a new ClientSession starts
// at a random one, so that they hardly ever meet. Safe for concurrent use: guarded by mu.
type ClientSession struct {
	mu   sync.Mutex
	room sync.Cond // told when a publish may enter, the writer has taken ctrl, or the connection is over
	cur  *Client   // the connection that uses it

	nextID      uint16
	flights     map[uint16]*clientFlight // by packet identifier, once they have one
	first, last *clientFlight            // all of them, by age
	count       int

	received2 map[uint16]*clientReceipt // QoS 2, until PUBREL
	order2    []*clientReceipt          // those without an answer, by age
}

// clientFlight is one publish of ours. Guarded by the session's mu.
type clientFlight struct {
	ev     *event.Kept
	topic  []byte
	qos    byte
	retain bool
	done   func(wire.Reason, error)

	id         uint16
	sent       bool    // PUBLISH was sent once: from then on DUP
	released   bool    // PUBREC came: what is due is PUBREL
	on         *Client // the connection on which the exchange was begun last
	prev, next *clientFlight
}

// clientReceipt is one publish of the server. Guarded by the session's mu.
type clientReceipt struct {
	id       uint16
	qos      byte
	on       *Client // the connection that brought it last
	answered bool
	ok       bool
}

// errClientSession refuses a second connection.
var errClientSession = errors.New("session is in use by another connection")

// NewClientSession returns an empty session.
func NewClientSession() *ClientSession {
	s := &ClientSession{nextID: uint16(rand.Uint32()), flights: make(map[uint16]*clientFlight), received2: make(map[uint16]*clientReceipt)}
	s.room.L = &s.mu
	return s
}

// Len is how many publishes wait for an answer.
func (s *ClientSession) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Drop gives up everything that waits for an answer: the done functions are told err. Not while a connection uses the
// session: then it does nothing and returns false.
func (s *ClientSession) Drop(err error) bool {
	s.mu.Lock()
	if s.cur != nil {
		s.mu.Unlock()
		return false
	}
	ends := s.takeAll(nil, err)
	s.mu.Unlock()
	callAll(ends)
	return true
}

func (s *ClientSession) attach(c *Client) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur != nil {
		return errClientSession
	}
	s.cur = c
	return nil
}

func (s *ClientSession) detach() {
	s.mu.Lock()
	s.cur = nil
	s.mu.Unlock()
}

// resume makes c go on where the last connection ended (section 4.4).
func (s *ClientSession) resume(c *Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.unsent = s.first
	if !c.server.SessionPresent {
		clear(s.received2)
		s.order2 = nil
	}
	for f := s.first; f != nil; f = f.next {
		switch {
		case !c.server.SessionPresent:
			f.sent, f.released = false, false
		case f.released:
			f.on = c
			c.open++
			c.ctrl = wire.AppendAck(c.ctrl, c.version, wire.PUBREL, f.id, wire.Success, "")
		}
	}
}

func (s *ClientSession) push(f *clientFlight) {
	f.prev = s.last
	if s.last == nil {
		s.first = f
	} else {
		s.last.next = f
	}
	s.last = f
	s.count++
}

// remove takes f out; c is the connection that answers it.
func (s *ClientSession) remove(c *Client, f *clientFlight) {
	if c.unsent == f {
		c.unsent = f.next
	}
	if f.on == c {
		c.open--
	}
	if f.prev == nil {
		s.first = f.next
	} else {
		f.prev.next = f.next
	}
	if f.next == nil {
		s.last = f.prev
	} else {
		f.next.prev = f.prev
	}
	if f.id != 0 {
		delete(s.flights, f.id)
	}
	s.count--
	s.room.Broadcast()
}

func (s *ClientSession) takeAll(ends []clientEnd, err error) []clientEnd {
	for f := s.first; f != nil; f = f.next {
		ends = append(ends, clientEnd{f.done, wire.ServerUnavailable, err})
	}
	s.first, s.last, s.count = nil, nil, 0
	clear(s.flights)
	return ends
}

// newID returns a packet identifier that neither an exchange nor a call of c uses; 0 when there is none.
func (s *ClientSession) newID(c *Client) uint16 {
	for range 0xffff {
		if s.nextID++; s.nextID == 0 {
			s.nextID = 1
		}
		if s.flights[s.nextID] == nil && c.calls[s.nextID] == nil {
			return s.nextID
		}
	}
	return 0
}
