package session

import (
	"errors"
	"maps"
	"sync"
	"sync/atomic"
)

// ErrShut is returned by Open while the door is shut.
var ErrShut = errors.New("no new sessions now")

// Closed says why no session is opened, and where else its client may go. Immutable.
type Closed struct {
	Why    Why
	Server string // where clients go instead, as MQTT 5 tells it (4.11); "": nowhere
	Moved  bool   // for good
}

// door is where new sessions come in. The pointers are read on every loop; changes are guarded by mu.
type door struct {
	mu        sync.Mutex
	all       atomic.Pointer[Closed]
	listeners atomic.Pointer[map[string]*Closed]
}

// Shut says that no session is opened any more, and why; nil opens the door again. Connections that are there stay. Any
// goroutine.
func (sh *Shared) Shut(c *Closed) { sh.door.all.Store(c) }

// ShutListener is Shut for the connections of one listener.
func (sh *Shared) ShutListener(name string, c *Closed) {
	d := &sh.door
	d.mu.Lock()
	defer d.mu.Unlock()
	m := map[string]*Closed{}
	if old := d.listeners.Load(); old != nil {
		maps.Copy(m, *old)
	}
	if m[name] = c; c == nil {
		delete(m, name)
	}
	d.listeners.Store(&m)
}

// Closed is why no session is opened for a connection of that listener; nil: it is. Any goroutine.
func (h *Host) Closed(listener string) *Closed {
	d := &h.shared.door
	if c := d.all.Load(); c != nil {
		return c
	}
	if m := d.listeners.Load(); m != nil {
		return (*m)[listener]
	}
	return nil
}

// Refuses is why a CONNECT is not answered with a session; nil: it is. Where memory is short, a client that returns to its
// session is let in: it takes what waits for it. Any goroutine.
func (h *Host) Refuses(listener, client string, clean bool) *Closed {
	c := h.Closed(listener)
	if c != nil && c.Why == NoMemory && !clean && h.shared.Directory.find(client) != nil {
		return nil
	}
	return c
}

// Hear says whether events of clients are taken. While they are not, an event that arrives is neither taken nor answered:
// its sender keeps it and, at QoS 1 and 2, sends it again by its next connection. When they are taken again, connections
// that were not heard are ended, so that their clients do that now. Only on the loop.
func (h *Host) Hear(yes bool) {
	if h.deaf = !yes; h.deaf {
		return
	}
	for _, s := range h.slots {
		if s == nil || !s.unheard {
			continue
		}
		if s.unheard = false; s.peer != nil {
			s.peer.Kick(Busy)
		}
	}
}

// sweepLooks bounds the sessions that one Sweep looks at, so that a turn stays short.
const sweepLooks = 8192

// Sweep says which connections are to end. A value.
type Sweep struct {
	Why        Why
	Max        int    // connections that end in one call
	Listener   string // only those that came in there; "": all
	Publishers bool   // only those of sessions without subscriptions
	Force      bool   // also where something is still to be answered or acknowledged
}

// Swept is what a call of Sweep did. A value.
type Swept struct {
	Ended   int
	Waiting int // connections that it would end, but not now
	Open    int // events on their way to or from those
	Next    int // where the next call goes on; 0: all were looked at
}

// Sweep ends connections, from the session at place from on. Their sessions stay as the clients asked. Only on the loop.
func (h *Host) Sweep(w *Sweep, from int) (r Swept) {
	end := min(from+sweepLooks, len(h.slots))
	for i := from; i < end; i++ {
		s := h.slots[i]
		switch {
		case s == nil || s.peer == nil || w.Listener != "" && s.Origin.Listener != w.Listener || w.Publishers && len(s.subs) > 0:
		case r.Ended >= w.Max || !w.Force && !s.settled():
			r.Waiting++
			r.Open += s.in.unanswered() + s.out.waiting() + int(s.out.open)
		default:
			r.Ended++
			s.peer.Kick(w.Why)
		}
	}
	if end < len(h.slots) {
		r.Next = end
	}
	return r
}

// settled says whether nothing is on its way between the session and its client.
func (s *Session) settled() bool {
	return s.in.unanswered() == 0 && s.out.waiting() == 0 && s.out.open == 0 && s.replays == nil
}

// Census is how many connections and sessions there are. A value.
type Census struct {
	Connected int // sessions with a connection
	Ending    int // of those: sessions that end with their connection
}

// Census counts the sessions whose connections came in by that listener; "": all. Only on the loop.
func (h *Host) Census(listener string) (c Census) {
	for _, s := range h.slots {
		if s == nil || s.peer == nil || listener != "" && s.Origin.Listener != listener {
			continue
		}
		if c.Connected++; s.Expiry == 0 {
			c.Ending++
		}
	}
	return c
}
