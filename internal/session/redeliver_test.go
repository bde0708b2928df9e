package session

import (
	"fmt"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// A redelivery names all subscriptions that the first delivery named ([MQTT-3.3.4-4]).
func TestRedeliveryNamesAllSubscriptions(t *testing.T) {
	s := newSim(t, 1, 1<<20, 30*time.Second, testLimits())
	sub, _ := s.connect(0, Hello{ClientID: "sub", Expiry: Never})
	for i, f := range []string{"a/#", "a/+"} {
		sub.s.Subscribe([]Want{{Filter: []byte(f), QoS: 1, ID: uint32(i + 5)}}, func() {})
	}
	s.settle()
	pub, _ := s.connect(0, Hello{ClientID: "pub", Clean: true})
	pub.publish("a/b", "x", 1, 1, false)
	sub.s.Detach(sub, false)
	again, _ := s.connect(0, Hello{ClientID: "sub", Expiry: Never})
	if len(sub.got) != 1 || len(again.got) != 1 || !again.got[0].Dup {
		t.Fatalf("first %v, again %v", sub.got, again.got)
	}
	if len(sub.got[0].Subs) != 2 || fmt.Sprint(again.got[0].Subs) != fmt.Sprint(sub.got[0].Subs) {
		t.Errorf("first %v, again %v", sub.got[0].Subs, again.got[0].Subs)
	}
}

// [MQTT-4.3.3-7]: the expiry of an exactly-once event that was sent no longer counts. It is sent again and can be
// completed, so its place in the window is not lost.
func TestRedeliveryAfterExpiry(t *testing.T) {
	s := newSim(t, 1, 1<<20, 30*time.Second, testLimits())
	for _, q := range []event.QoS{event.AtLeastOnce, event.ExactlyOnce} {
		id := fmt.Sprint("sub", q)
		sub, _ := s.connect(0, Hello{ClientID: id, Expiry: Never, Window: 1})
		s.subscribe(sub, "x", q)
		pub, _ := s.connect(0, Hello{ClientID: "pub", Clean: true})
		ev := &event.Event{Topic: []byte("x"), QoS: q, From: pub.s.Origin, Expires: s.now + int64(time.Second)}
		pub.s.Publish(ev, 1, false)
		sub.s.Detach(sub, false)
		s.pass(2 * time.Second)
		again, _ := s.connect(0, Hello{ClientID: id, Expiry: Never, Window: 1})
		want := 0
		if q == event.ExactlyOnce {
			want = 1
		}
		if len(again.got) != want {
			t.Fatalf("QoS %d: sent again %d times, want %d", q, len(again.got), want)
		}
		if q == event.ExactlyOnce && (again.s.Got(again.got[0].ID, false) != AckOK || again.s.Completed(again.got[0].ID) != AckOK) {
			t.Error("cannot be completed")
		}
		pub.publish("x", "next", q, 2, false)
		if len(again.got) != want+1 {
			t.Errorf("QoS %d: the window is not free", q)
		}
		again.s.End()
	}
}

// A client that subscribes again and again and does not read is disconnected before what it would get grows without bound.
func TestWaitingReplaysAreBounded(t *testing.T) {
	lim := testLimits()
	lim.QueueBytes = 10 * replayCost
	s := newSim(t, 1, 1<<20, 30*time.Second, lim)
	sub, _ := s.connect(0, Hello{ClientID: "sub", Clean: true})
	sub.full, sub.leaves = true, true
	n := 0
	for ; n < 30 && len(sub.kicked) == 0; n++ {
		sub.s.Subscribe([]Want{{Filter: []byte("#")}}, func() {})
		s.settle()
	}
	if n < 10 || n > 12 || len(sub.kicked) != 1 || sub.kicked[0] != Busy {
		t.Errorf("after %d subscriptions: %v", n, sub.kicked)
	}
}
