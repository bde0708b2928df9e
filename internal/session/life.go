package session

import (
	"net/netip"

	"github.com/windrose-edc/windrose/internal/event"
)

// Life is a turn in the life of a session.
type Life uint8

// The turns.
const (
	Connected    Life = iota // a connection was attached
	Disconnected             // it ended
	Subscribed               // subscriptions are new, or changed
	Expired                  // the time without a connection is over
	NumLives
)

var lifeNames = [NumLives]string{"connected", "disconnected", "subscribed", "expired"}

// String is the word for it in topics.
func (l Life) String() string { return lifeNames[l] }

// LifeWatcher hears of the turns of all sessions, on their loops, in the middle of whatever happens there: it does not block,
// changes nothing and keeps neither s nor wants. What it has to say it says by Host.Announce.
type LifeWatcher interface {
	Lives(h *Host, s *Session, l Life, wants []Want)
}

func (s *Session) lives(l Life, wants []Want) {
	if w := s.host.shared.Lives; w != nil {
		w.Lives(s.host, s, l, wants)
	}
}

// Announce walks an event of the node itself: no policy looks at it, nobody waits for its outcome, and it counts as received
// from nobody. Any goroutine; it never blocks. The caller bounds how many there are.
func (h *Host) Announce(ev *event.Kept) {
	h.clock.Post(func() {
		e := ev.Event
		h.walk.Walk(&e, event.Ticket{})
	})
}

// Refusal is a connection that got no session. Borrowed by who is told of it; immutable.
type Refusal struct {
	Listener, Protocol, Client, User string // Client and User are claims, "" where they are not known
	Reason                           string // one of a small closed set
	Remote                           netip.AddrPort
	Host                             *Host // of its loop
}
