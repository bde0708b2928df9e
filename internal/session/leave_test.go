package session

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// join opens a session whose connection leaves when it is told to.
func join(s *sim, h Hello) *simPeer {
	p, _ := s.connect(0, h)
	p.leaves = true
	return p
}

func wasKicked(p *simPeer, w Why) bool { return slices.Contains(p.kicked, w) }

func TestSweep(t *testing.T) {
	s := newSim(t, 1, 1<<20, 30*time.Second, testLimits())
	h := s.hosts[0]
	pub := join(s, Hello{ClientID: "pub", Clean: true, Origin: event.Origin{Listener: "a"}})
	idle := join(s, Hello{ClientID: "idle", Clean: true, Origin: event.Origin{Listener: "b"}})
	sub := join(s, Hello{ClientID: "sub", Expiry: 60, Origin: event.Origin{Listener: "a"}})
	s.subscribe(sub, "x", event.AtLeastOnce)
	pub.publish("x", "1", event.AtLeastOnce, 1, false)
	s.settle()
	if c := h.Census("a"); c != (Census{Connected: 2, Ending: 1}) {
		t.Errorf("census of a: %+v", c)
	}
	if c := h.Census(""); c.Connected != 3 {
		t.Errorf("census: %+v", c)
	}
	if r := h.Sweep(&Sweep{Why: Removed, Max: 9, Listener: "b"}, 0); r != (Swept{Ended: 1}) || !wasKicked(idle, Removed) {
		t.Errorf("listener b: %+v", r)
	}
	if r := h.Sweep(&Sweep{Why: Shutdown, Max: 0, Publishers: true}, 0); r.Ended != 0 || r.Waiting != 1 || wasKicked(pub, Shutdown) {
		t.Errorf("nobody may end: %+v", r)
	}
	if r := h.Sweep(&Sweep{Why: Shutdown, Max: 9, Publishers: true}, 0); r.Ended != 1 || r.Waiting != 0 || !wasKicked(pub, Shutdown) {
		t.Errorf("publishers: %+v", r)
	}
	// The subscriber has not acknowledged what it was sent.
	if r := h.Sweep(&Sweep{Why: Shutdown, Max: 9}, 0); r != (Swept{Waiting: 1, Open: 1}) {
		t.Errorf("with an open delivery: %+v", r)
	}
	sub.s.Acked(1)
	if r := h.Sweep(&Sweep{Why: Shutdown, Max: 9}, 0); r != (Swept{Ended: 1}) || !wasKicked(sub, Shutdown) {
		t.Errorf("after the acknowledgement: %+v", r)
	}
}

// While the intake is shut an event is neither taken nor answered; when it opens its sender is sent away, to send it again.
func TestHear(t *testing.T) {
	s := newSim(t, 1, 1<<20, 30*time.Second, testLimits())
	sub := join(s, Hello{ClientID: "sub", Clean: true})
	s.subscribe(sub, "x", event.AtLeastOnce)
	pub := join(s, Hello{ClientID: "pub", Expiry: 60})
	s.hosts[0].Hear(false)
	pub.publish("x", "1", event.AtLeastOnce, 1, false)
	s.settle()
	if len(sub.payloads) != 0 || len(pub.answers) != 0 {
		t.Fatalf("taken (%v) or answered (%v) while the intake is shut", sub.payloads, pub.answers)
	}
	s.hosts[0].Hear(true)
	if !wasKicked(pub, Busy) || wasKicked(sub, Busy) {
		t.Error("who was not heard must come again, and nobody else")
	}
	again := join(s, Hello{ClientID: "pub", Expiry: 60})
	again.publish("x", "1", event.AtLeastOnce, 1, true)
	s.settle()
	if len(sub.payloads) != 1 || len(again.answers) != 1 {
		t.Errorf("the repetition: %v, %v", sub.payloads, again.answers)
	}
}

func TestShutDoor(t *testing.T) {
	s := newSim(t, 1, 1<<20, 30*time.Second, testLimits())
	h := s.hosts[0]
	old := join(s, Hello{ClientID: "old", Expiry: 60})
	old.s.Detach(old, true)
	open := func(listener, id string, clean bool) error {
		_, _, _, err := h.Open(&Hello{ClientID: id, Clean: clean, Expiry: 60, Origin: event.Origin{Listener: listener}}, &simPeer{})
		return err
	}
	s.sh.ShutListener("gone", &Closed{Why: Removed})
	if err := open("gone", "x", true); !errors.Is(err, ErrShut) {
		t.Errorf("by the listener that is gone: %v", err)
	}
	if err := open("other", "x", true); err != nil {
		t.Errorf("by another listener: %v", err)
	}
	s.sh.ShutListener("gone", nil)
	if err := open("gone", "y", true); err != nil {
		t.Errorf("by the listener that is there again: %v", err)
	}
	s.sh.Shut(&Closed{Why: Shutdown})
	if err := open("a", "old", false); !errors.Is(err, ErrShut) {
		t.Errorf("while the node stops: %v", err)
	}
	s.sh.Shut(&Closed{Why: NoMemory})
	if err := open("a", "new", false); !errors.Is(err, ErrShut) {
		t.Errorf("without memory, a new client: %v", err)
	}
	if err := open("a", "old", true); !errors.Is(err, ErrShut) {
		t.Errorf("without memory, a client that wants a new session: %v", err)
	}
	if err := open("a", "old", false); err != nil {
		t.Errorf("without memory, a client that comes back to its session: %v", err)
	}
	s.sh.Shut(nil)
	if err := open("a", "new", false); err != nil {
		t.Error(err)
	}
}

func TestSetLimits(t *testing.T) {
	s := newSim(t, 1, 1<<20, 30*time.Second, testLimits())
	l := testLimits()
	l.Sessions = 1
	s.sh.SetLimits(l)
	s.settle()
	if _, _, _, err := s.hosts[0].Open(&Hello{ClientID: "a"}, &simPeer{}); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := s.hosts[0].Open(&Hello{ClientID: "b"}, &simPeer{}); !errors.Is(err, ErrFull) {
		t.Errorf("above the new limit: %v", err)
	}
}
