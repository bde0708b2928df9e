package session

import (
	"errors"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// The sessions that a listener opened count by its name: one that a reload puts in its place, with bounds of its own, has
// room only for what the one before left, and less where its bound is lower.
func TestSessionsOfAReplacedListenerCount(t *testing.T) {
	s := newSim(t, 2, 1<<20, 30*time.Second, testLimits())
	open := func(loop int, id, listener string, b *Bounds) (*simPeer, error) {
		t.Helper()
		p := &simPeer{}
		x, _, _, err := s.hosts[loop].Open(&Hello{ClientID: id, Clean: true, Bounds: b, Origin: event.Origin{Listener: listener}}, p)
		p.s = x
		return p, err
	}
	before, after := &Bounds{Sessions: 2}, &Bounds{Sessions: 2}
	a, err := open(0, "a", "l", before)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(1, "b", "l", before); err != nil {
		t.Fatal(err)
	}
	if _, err := open(0, "c", "l", after); !errors.Is(err, ErrFull) {
		t.Errorf("a third session after the reload: %v", err)
	}
	if _, err := open(0, "c", "other", after); err != nil {
		t.Errorf("another listener: %v", err)
	}
	a.s.Detach(a, true)
	if _, err := open(0, "d", "l", &Bounds{Sessions: 1}); !errors.Is(err, ErrFull) {
		t.Errorf("above a lower bound: %v", err)
	}
	if _, err := open(0, "d", "l", after); err != nil {
		t.Errorf("room that the listener before made: %v", err)
	}
	if _, err := open(0, "e", "l", &Bounds{}); err != nil {
		t.Errorf("no bound: %v", err)
	}
	if n := s.hosts[0].shared.from.n["l"].Load(); n != 3 {
		t.Errorf("%d sessions of the listener, want 3", n)
	}
}
