package session

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// An at-least-once event to a subscriber on the same loop and on another one is answered accepted, once, in order.
func TestPublishAcrossLoops(t *testing.T) {
	s := newSim(t, 2, 1<<20, 30*time.Second, testLimits())
	near, _ := s.connect(0, Hello{ClientID: "near", Clean: true})
	far, _ := s.connect(1, Hello{ClientID: "far", Clean: true})
	s.subscribe(near, "a/+", event.AtLeastOnce)
	s.subscribe(far, "a/#", event.ExactlyOnce)
	pub, _ := s.connect(0, Hello{ClientID: "pub", Clean: true})
	for i := range 5 {
		if h := pub.publish("a/b", fmt.Sprint(i), event.AtLeastOnce, uint16(i+1), false); h != Go {
			t.Fatalf("publish %d is held: %d", i, h)
		}
	}
	if len(pub.answers) != 0 {
		t.Fatalf("answered before the far loop took the events: %v", pub.answers)
	}
	s.settle()
	var ids []uint16
	for _, a := range pub.answers {
		if a.Outcome != event.Accepted {
			t.Errorf("outcome %v", a.Outcome)
		}
		ids = append(ids, a.ID)
	}
	if !slices.Equal(ids, []uint16{1, 2, 3, 4, 5}) {
		t.Errorf("answers %v", ids)
	}
	want := []string{"0", "1", "2", "3", "4"}
	if !slices.Equal(near.payloads, want) || !slices.Equal(far.payloads, want) {
		t.Errorf("near %v far %v", near.payloads, far.payloads)
	}
	if far.got[0].QoS != event.AtLeastOnce {
		t.Errorf("QoS %d to the far one, want the lower of the two", far.got[0].QoS)
	}
}

// [MQTT-4.6.0-2]: answers go out in the order of the events, also when the first takes longer.
func TestAnswersKeepTheOrder(t *testing.T) {
	s := newSim(t, 2, 1<<20, 30*time.Second, testLimits())
	far, _ := s.connect(1, Hello{ClientID: "far", Clean: true})
	s.subscribe(far, "far", event.AtLeastOnce)
	near, _ := s.connect(0, Hello{ClientID: "near", Clean: true})
	s.subscribe(near, "near", event.AtLeastOnce)
	pub, _ := s.connect(0, Hello{ClientID: "pub", Clean: true})
	pub.publish("far", "", event.AtLeastOnce, 7, false)
	pub.publish("near", "", event.AtLeastOnce, 8, false)
	pub.publish("nobody", "", event.ExactlyOnce, 9, false)
	if len(pub.answers) != 0 {
		t.Fatalf("overtaken: %v", pub.answers)
	}
	s.settle()
	if got := fmt.Sprint(pub.answers); got != "[{7 1 accepted false} {8 1 accepted false} {9 2 no_match false}]" {
		t.Error(got)
	}
}

// A subscription of the same client that matches twice gets the event once, at the highest QoS ([MQTT-3.3.4-2]).
func TestOverlapOnceAtHighestQoS(t *testing.T) {
	s := newSim(t, 1, 1<<20, 30*time.Second, testLimits())
	sub, _ := s.connect(0, Hello{ClientID: "sub", Clean: true})
	s.subscribe(sub, "a/#", event.AtMostOnce)
	s.subscribe(sub, "a/+", event.ExactlyOnce)
	s.subscribe(sub, "+/b", event.AtLeastOnce)
	pub, _ := s.connect(0, Hello{ClientID: "pub", Clean: true})
	pub.publish("a/b", "x", event.ExactlyOnce, 1, false)
	if len(sub.got) != 1 || sub.got[0].QoS != event.ExactlyOnce {
		t.Errorf("got %+v", sub.got)
	}
}

// A QoS 2 event that comes again while its ticket is open joins it; after the answer it is answered again; after the
// release the id is free ([MQTT-4.3.3-10] to -12).
func TestExactlyOnceJoins(t *testing.T) {
	s := newSim(t, 2, 1<<20, 30*time.Second, testLimits())
	far, _ := s.connect(1, Hello{ClientID: "far", Clean: true})
	s.subscribe(far, "x", event.ExactlyOnce)
	pub, _ := s.connect(0, Hello{ClientID: "pub", Expiry: Never})
	pub.publish("x", "1", event.ExactlyOnce, 5, false)
	pub.publish("x", "1", event.ExactlyOnce, 5, true)
	s.settle()
	if len(pub.answers) != 1 || len(far.got) != 1 {
		t.Fatalf("answers %v, deliveries %v", pub.answers, far.got)
	}
	pub.publish("x", "1", event.ExactlyOnce, 5, true)
	if len(pub.answers) != 2 {
		t.Fatalf("a retry after the answer is not answered: %v", pub.answers)
	}
	if !pub.s.Released(5) || pub.s.Released(5) {
		t.Error("release")
	}
	pub.publish("x", "2", event.ExactlyOnce, 5, false)
	s.settle()
	if len(far.got) != 2 || len(pub.answers) != 3 {
		t.Errorf("a free id does not walk: %v %v", far.payloads, pub.answers)
	}
}

// A retry on a new connection joins the receipt that the old one left, whether its outcome is there or not.
func TestRetryAcrossConnectionsJoins(t *testing.T) {
	for _, settledFirst := range []bool{true, false} {
		for _, q := range []event.QoS{event.AtLeastOnce, event.ExactlyOnce} {
			t.Run(fmt.Sprintf("settled=%v/qos=%d", settledFirst, q), func(t *testing.T) {
				s := newSim(t, 2, 1<<20, 30*time.Second, testLimits())
				far, _ := s.connect(1, Hello{ClientID: "far", Clean: true})
				s.subscribe(far, "x", q)
				pub, _ := s.connect(0, Hello{ClientID: "pub", Expiry: Never})
				pub.publish("x", "1", q, 5, false)
				pub.s.Detach(pub, false)
				if settledFirst {
					s.settle()
				}
				again, present := s.connect(1, Hello{ClientID: "pub", Expiry: Never})
				if !present {
					t.Fatal("session lost")
				}
				again.publish("x", "1", q, 5, true)
				s.settle()
				if len(far.got) != 1 {
					t.Errorf("delivered %d times", len(far.got))
				}
				if len(again.answers) != 1 || again.answers[0].Outcome != event.Accepted || len(pub.answers) != 0 {
					t.Errorf("answers %v, to the old connection %v", again.answers, pub.answers)
				}
			})
		}
	}
}

// What is open when a connection goes is sent again, in order, with DUP; what waits follows; releases are repeated
// ([MQTT-4.4.0-1]).
func TestResume(t *testing.T) {
	s := newSim(t, 1, 1<<20, 30*time.Second, testLimits())
	sub, _ := s.connect(0, Hello{ClientID: "sub", Expiry: Never, Window: 3})
	s.subscribe(sub, "x", event.ExactlyOnce)
	pub, _ := s.connect(0, Hello{ClientID: "pub", Clean: true})
	for i := range 6 {
		pub.publish("x", fmt.Sprint(i), event.ExactlyOnce, uint16(i+1), false)
	}
	if !slices.Equal(sub.payloads, []string{"0", "1", "2"}) {
		t.Fatalf("window of 3: %v", sub.payloads)
	}
	if sub.s.Got(sub.got[0].ID, false) != AckOK {
		t.Fatal("PUBREC")
	}
	sub.s.Detach(sub, false)
	pub.publish("x", "6", event.ExactlyOnce, 9, false)
	again, present := s.connect(0, Hello{ClientID: "sub", Expiry: Never, Window: 3})
	if !present {
		t.Fatal("session lost")
	}
	if !slices.Equal(again.released, []uint16{sub.got[0].ID}) || !slices.Equal(again.payloads, []string{"1", "2"}) {
		t.Fatalf("released %v, sent %v", again.released, again.payloads)
	}
	for _, d := range again.got {
		if !d.Dup {
			t.Error("sent again without DUP")
		}
	}
	again.s.Completed(sub.got[0].ID)
	for i := 0; i < len(again.got); i++ {
		again.s.Got(again.got[i].ID, false)
		again.s.Completed(again.got[i].ID)
	}
	if !slices.Equal(again.payloads, []string{"1", "2", "3", "4", "5", "6"}) {
		t.Errorf("after all: %v", again.payloads)
	}
	for i, d := range again.got {
		if i >= 2 && d.Dup {
			t.Errorf("first delivery of %s has DUP", again.payloads[i])
		}
	}
	if s.hosts[0].Tally.Queued != 0 || s.hosts[0].Tally.QueuedBytes != 0 {
		t.Errorf("queue gauge %d, %d bytes", s.hosts[0].Tally.Queued, s.hosts[0].Tally.QueuedBytes)
	}
}

// An outbox at its bound follows its rule, and its publisher is told where nobody else took the event.
func TestOutboxFull(t *testing.T) {
	for _, rule := range []Overflow{DropNew, DropOld, Disconnect} {
		lim := testLimits()
		lim.Window, lim.Queue, lim.Rule = 1, 2, rule
		s := newSim(t, 1, 1<<20, 30*time.Second, lim)
		slow, _ := s.connect(0, Hello{ClientID: "slow", Clean: true})
		s.subscribe(slow, "x", event.AtLeastOnce)
		pub, _ := s.connect(0, Hello{ClientID: "pub", Clean: true})
		for i := range 4 {
			pub.publish("x", fmt.Sprint(i), event.AtLeastOnce, uint16(i+1), false)
		}
		want := event.Throttled
		if rule == DropOld {
			want = event.Accepted
		}
		if got := pub.answers[3].Outcome; got != want {
			t.Errorf("rule %d: the fourth event is %v", rule, got)
		}
		if n := s.hosts[0].Tally.Dropped[DropQueueFull]; n != 1 {
			t.Errorf("rule %d: %d drops counted", rule, n)
		}
		s.run()
		if rule == Disconnect && !slices.Equal(slow.kicked, []Why{OutboxFull}) {
			t.Errorf("not disconnected: %v", slow.kicked)
		}
	}
}

// A takeover ends the old connection, keeps the session and moves nothing twice.
func TestTakeover(t *testing.T) {
	s := newSim(t, 2, 1<<20, 30*time.Second, testLimits())
	old, _ := s.connect(0, Hello{ClientID: "c", Expiry: Never})
	s.subscribe(old, "x", event.AtLeastOnce)
	young, present := s.connect(1, Hello{ClientID: "c", Expiry: Never})
	if !present || !slices.Equal(old.kicked, []Why{TakenOver}) {
		t.Fatalf("present %v, old one told %v", present, old.kicked)
	}
	pub, _ := s.connect(1, Hello{ClientID: "pub", Clean: true})
	pub.publish("x", "1", event.AtLeastOnce, 1, false)
	s.settle()
	if len(old.got) != 0 || len(young.got) != 1 {
		t.Errorf("old %v, young %v", old.got, young.got)
	}
	clean, present := s.connect(0, Hello{ClientID: "c", Clean: true})
	if present {
		t.Error("a clean start found a session")
	}
	pub.publish("x", "2", event.AtLeastOnce, 2, false)
	s.settle()
	if len(clean.got) != 0 {
		t.Error("a clean start kept subscriptions")
	}
	if n := s.sh.Directory.Len(); n != 2 {
		t.Errorf("%d sessions", n)
	}
}

// 3.1.3.2.2: the will goes out after the smaller of its delay and the session's expiry, not at all on resume in time,
// and at once when the session ends.
func TestWillDelay(t *testing.T) {
	will := func() *Will {
		return &Will{Delay: 10, Event: *(&event.Event{Topic: []byte("will"), Payload: []byte("gone")}).Keep()}
	}
	tests := []struct {
		name   string
		expiry uint32
		after  time.Duration // the client comes back
		clean  bool
		want   []string // payloads seen at 0 s, 5 s, 11 s
	}{
		{"delayed", 60, 0, false, []string{"", "", "gone"}},
		{"session ends first", 3, 0, false, []string{"", "gone", "gone"}},
		{"no session", 0, 0, false, []string{"gone", "gone", "gone"}},
		{"resumed", 60, 4 * time.Second, false, []string{"", "", ""}},
		{"ended by a clean start", 60, 4 * time.Second, true, []string{"", "gone", "gone"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSim(t, 1, 1<<20, 30*time.Second, testLimits())
			sub, _ := s.connect(0, Hello{ClientID: "sub", Clean: true})
			s.subscribe(sub, "will", 0)
			c, _ := s.connect(0, Hello{ClientID: "c", Expiry: tt.expiry, Will: will()})
			c.s.Detach(c, false)
			seen := func() string {
				s.settle()
				if len(sub.payloads) > 1 {
					t.Error("the will went out twice")
				}
				if len(sub.payloads) == 0 {
					return ""
				}
				return sub.payloads[0]
			}
			got := []string{seen()}
			if tt.after > 0 {
				s.pass(tt.after)
				s.settle()
				s.connect(0, Hello{ClientID: "c", Expiry: tt.expiry, Clean: tt.clean})
			}
			s.pass(5*time.Second - tt.after)
			got = append(got, seen())
			s.pass(6 * time.Second)
			got = append(got, seen())
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Session expiry (3.1.2.11.2): the session ends when its time has passed without a connection, and takes its
// subscriptions and its number with it.
func TestSessionExpiry(t *testing.T) {
	s := newSim(t, 1, 1<<20, 30*time.Second, testLimits())
	c, _ := s.connect(0, Hello{ClientID: "c", Expiry: 10})
	s.subscribe(c, "x", 1)
	c.s.Detach(c, true)
	s.pass(9 * time.Second)
	s.settle()
	if s.sh.Directory.Len() != 1 {
		t.Fatal("ended too early")
	}
	s.pass(2 * time.Second)
	s.settle()
	if s.sh.Directory.Len() != 0 || s.index.Stats().Subs != 0 {
		t.Fatalf("%d sessions, %d subscriptions left", s.sh.Directory.Len(), s.index.Stats().Subs)
	}
	if _, present := s.connect(0, Hello{ClientID: "c"}); present {
		t.Error("found an ended session")
	}
}

// Retained events come after the subscription's answer, flagged, and obey the choice of the client (3.3.1.3, 3.8.3.1).
func TestRetainedReplay(t *testing.T) {
	s := newSim(t, 1, 1<<20, 30*time.Second, testLimits())
	pub, _ := s.connect(0, Hello{ClientID: "pub", Clean: true})
	for i := range 20 {
		ev := &event.Event{Topic: fmt.Appendf(nil, "r/%02d", i), Payload: fmt.Appendf(nil, "%d", i), QoS: 1, Retain: true, From: pub.s.Origin}
		if h, _ := pub.s.Publish(ev, uint16(i+1), false); h != Go {
			t.Fatal(h)
		}
	}
	sub, _ := s.connect(0, Hello{ClientID: "sub", Clean: true})
	s.subscribe(sub, "r/#", 1) // window 8: the rest waits for acknowledgements
	for i := 0; i < len(sub.got); i++ {
		if !sub.got[i].Retain {
			t.Error("without the retain flag")
		}
		sub.s.Acked(sub.got[i].ID)
	}
	if len(sub.got) != 20 {
		t.Fatalf("%d retained events", len(sub.got))
	}
	n := len(sub.got)
	sub.s.Subscribe([]Want{{Filter: []byte("r/#"), QoS: 1, Replay: ReplayNew}}, func() {})
	s.settle()
	if len(sub.got) != n {
		t.Error("an existing subscription was replayed")
	}
}
