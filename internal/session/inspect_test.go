package session

import (
	"fmt"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/windrose-edc/windrose/internal/event"
)

// TestNotesAreSmall: what is remembered only for operators is; a node has a million sessions.
func TestNotesAreSmall(t *testing.T) {
	if n := unsafe.Sizeof(note{}); n > 40 {
		t.Errorf("the notes of a session take %d bytes", n)
	}
}

// What an operator sees of a session is what happened to it, and a kick ends what was seen.
func TestFactsAndKick(t *testing.T) {
	lim := testLimits()
	lim.Window, lim.Queue = 1, 2
	s := newSim(t, 1, 1<<20, 30*time.Second, lim)
	h := s.hosts[0]
	sub, _ := s.connect(0, Hello{ClientID: "sub", Expiry: Never})
	s.subscribe(sub, "x", event.AtLeastOnce)
	pub, _ := s.connect(0, Hello{ClientID: "pub", Clean: true})
	for i := range 4 {
		pub.publish("x", fmt.Sprint(i), event.AtLeastOnce, uint16(i+1), false)
	}
	f := h.Find("sub").Facts()
	if !f.Online || f.Subscriptions != 1 || f.Delivered != 1 || f.Unacked != 1 || f.Queued != 2 || f.QueuedBytes == 0 || f.Dropped != 1 || f.Window != 1 {
		t.Errorf("subscriber: %+v", f)
	}
	if p := h.Find("pub").Facts(); p.Received != 4 || p.Delivered != 0 {
		t.Errorf("publisher: %+v", p)
	}
	if filter, sub := h.Find("sub").SubscriptionAt(0); filter != "x" || sub.QoS() != 1 {
		t.Errorf("subscription %q %v", filter, sub)
	}
	seen := map[string]bool{}
	for i := range h.Slots() {
		if x := h.Session(i); x != nil {
			seen[x.ID] = true
		}
	}
	if len(seen) != 2 || h.Session(-1) != nil || h.Session(h.Slots()) != nil || h.Find("nobody") != nil {
		t.Errorf("places: %v", seen)
	}
	if loop, ok := s.sh.Directory.LoopOf("sub"); !ok || loop != 0 {
		t.Errorf("loop %d %v", loop, ok)
	}

	x := h.Find("sub")
	if !x.Kick(Kicked, false) || !slices.Equal(sub.kicked, []Why{Kicked}) {
		t.Errorf("kicked: %v", sub.kicked)
	}
	x.Ended(sub, "kicked")
	x.Detach(sub, false)
	g := x.Facts()
	if g.Online || g.End != "kicked" || g.EndAt.IsZero() || g.Queued != 2 {
		t.Errorf("after the kick: %+v", g)
	}
	again, _ := s.connect(0, Hello{ClientID: "sub", Expiry: Never})
	x.Ended(sub, "late") // an old connection has nothing to say about a new one
	if y := x.Facts(); y.End != "kicked" || !y.Online {
		t.Errorf("after it came back: %+v", y)
	}
	kept := (&event.Event{Topic: []byte("x"), Payload: []byte("dead"), QoS: event.AtLeastOnce}).Keep()
	if x.Redeliver(kept) {
		t.Error("a full outbox took a dead letter")
	}
	for i := 0; i < len(again.got); i++ {
		x.Acked(again.got[i].ID)
	}
	if !x.Redeliver(kept) || again.payloads[len(again.payloads)-1] != "dead" {
		t.Errorf("delivered %v", again.payloads)
	}
	if !x.Kick(Kicked, true) {
		t.Error("it is connected")
	}
	x.Detach(again, false)
	if h.Find("sub") != nil || x.Kick(Kicked, true) {
		t.Error("a forgotten session is there")
	}
}
