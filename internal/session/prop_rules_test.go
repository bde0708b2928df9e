package session

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/route"
)

// simTarget is what a route leads to. It answers when the test says so. Owned by the test.
type simTarget struct {
	open    []event.Ticket
	decided []bool
	got     []string
}

func (x *simTarget) Deliver(ev *event.Event, t event.Ticket) {
	x.got = append(x.got, string(ev.Payload))
	if t.Waits() {
		x.open = append(x.open, t)
	}
}

func (x *simTarget) Decide(_ uint64, park bool) { x.decided = append(x.decided, park) }

// routeTo sends events of a topic to x.
func (s *sim) routeTo(topic string, x event.Target) {
	s.t.Helper()
	p, err := event.ParsePattern(topic)
	if err != nil {
		s.t.Fatal(err)
	}
	tbl := route.NewTable(1, []*route.Route{{Name: "r", Topic: topic, Filter: p, Target: x}})
	s.index.Apply(tbl.Changes(false), nil)
	s.sync()
	s.net.SetTable(tbl)
}

// A publisher hears when the deadline of its event has passed, also when nothing else happens on the node.
func TestDeadlineWakesTheLoop(t *testing.T) {
	s := newSim(t, 1, 1<<20, 30*time.Second, testLimits())
	x := &simTarget{}
	s.routeTo("x", x)
	pub, _ := s.connect(0, Hello{ClientID: "pub", Clean: true})
	s.run()
	for i := range 3 {
		pub.publish("x", "", event.AtLeastOnce, uint16(i+1), false)
		s.loops[0].Wake() // the turn in which it came
		s.advance(10 * time.Second)
	}
	if len(pub.answers) != 0 {
		t.Fatalf("answered before the deadline: %v", pub.answers)
	}
	s.advance(2 * time.Second)
	if fmt.Sprint(pub.answers) != "[{1 1 indeterminate false}]" {
		t.Errorf("32 s after the first: %v", pub.answers)
	}
	x.open[1].Settle(event.Accepted)
	s.advance(20 * time.Second)
	if fmt.Sprint(pub.answers) != "[{1 1 indeterminate false} {2 1 accepted false} {3 1 indeterminate false}]" {
		t.Errorf("after all: %v", pub.answers)
	}
	if !slices.Equal(x.decided, []bool{false, false}) {
		t.Errorf("decided %v", x.decided)
	}
	x.open[2].Settle(event.Accepted) // too late
	s.run()
	if len(pub.answers) != 3 {
		t.Error("answered twice")
	}
}

// A connection that ends because its outbox is full publishes its will in the middle of the walk that filled it: the walk
// goes on undisturbed, to the subscribers that are its own.
func TestWillOfAFullOutboxDoesNotDisturbTheWalk(t *testing.T) {
	lim := testLimits()
	lim.Window, lim.Queue, lim.Rule = 1, 1, Disconnect
	s := newSim(t, 1, 1<<20, 30*time.Second, lim)
	rw, err := policy.NewRewrite(policy.RewriteSpec{Topic: "dev/#", To: "in/{client}/x"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.chain = policy.NewChain(observe.NewRegistry(), rw)
	will := func(id string) *Will {
		return &Will{Event: *(&event.Event{Topic: []byte("dev/" + id), Payload: []byte("gone")}).Keep()}
	}
	var subs []*simPeer
	for i := range 4 {
		id := fmt.Sprint("sub", i)
		p, _ := s.connect(0, Hello{ClientID: id, Clean: true, Will: will(id)})
		p.leaves = true
		s.subscribe(p, "in/pub/x", 1)
		subs = append(subs, p)
	}
	other, _ := s.connect(0, Hello{ClientID: "other", Clean: true})
	s.subscribe(other, "in/+/x", 0)
	pub, _ := s.connect(0, Hello{ClientID: "pub", Clean: true})
	for i := range 4 {
		pub.publish("dev/long/enough/topic", fmt.Sprint(i), event.AtLeastOnce, uint16(i+1), false)
	}
	for _, p := range subs {
		if len(p.kicked) > 0 {
			t.Error("disconnected within the walk")
		}
	}
	s.run()
	for i, p := range subs {
		if !slices.Equal(p.kicked, []Why{OutboxFull}) {
			t.Errorf("subscriber %d is told %v", i, p.kicked)
		}
	}
	got := strings.Join(other.payloads, " ")
	if got != "0 1 2 3 gone gone gone gone" {
		t.Errorf("the other one got %s", got)
	}
	for i, a := range pub.answers {
		if a.Outcome != event.Accepted { // the other one took each
			t.Errorf("event %d is %v", i, a.Outcome)
		}
	}
}

// An event that is larger than an outbox may be is refused and drives nothing else out.
func TestOutboxRefusesWhatCannotFit(t *testing.T) {
	lim := testLimits()
	lim.Window, lim.Rule, lim.QueueBytes = 1, DropOld, 1000
	s := newSim(t, 1, 1<<20, 30*time.Second, lim)
	slow, _ := s.connect(0, Hello{ClientID: "slow", Clean: true})
	s.subscribe(slow, "x", 1)
	pub, _ := s.connect(0, Hello{ClientID: "pub", Clean: true})
	for i, payload := range []string{"0", "1", "2", strings.Repeat("x", 2000), "4"} {
		pub.publish("x", payload, 1, uint16(i+1), false)
	}
	if o := pub.answers[3].Outcome; o != event.Throttled {
		t.Errorf("the large one is %v", o)
	}
	for i := 0; i < len(slow.got); i++ {
		slow.s.Acked(slow.got[i].ID)
	}
	if !slices.Equal(slow.payloads, []string{"0", "1", "2", "4"}) {
		t.Errorf("got %.20q", slow.payloads)
	}
}

// [MQTT-3.3.4-9], 4.9: the quota is that of the connection. What an earlier one left unreleased does not count.
func TestQuotaIsOfTheConnection(t *testing.T) {
	lim := testLimits()
	lim.Receive = 4
	s := newSim(t, 1, 1<<20, 30*time.Second, lim)
	pub, _ := s.connect(0, Hello{ClientID: "pub", Expiry: Never, Quota: true})
	for i := range 4 {
		if h := pub.publish("x", "", event.ExactlyOnce, uint16(i+1), false); h != Go {
			t.Fatalf("event %d is held", i)
		}
	}
	if h := pub.publish("x", "", event.ExactlyOnce, 5, false); h != HoldQuota {
		t.Error("the quota is not kept")
	}
	pub.s.Detach(pub, false)
	again, present := s.connect(0, Hello{ClientID: "pub", Expiry: Never, Quota: true})
	if !present {
		t.Fatal("session lost")
	}
	for i := range 4 {
		if h := again.publish("x", "", event.ExactlyOnce, uint16(i+5), false); h != Go {
			t.Errorf("event %d of the new connection is held", i)
		}
	}
	for i := range 4 {
		if !again.s.Released(uint16(i + 1)) {
			t.Errorf("id %d is forgotten", i+1)
		}
	}
	if h := again.publish("x", "", event.ExactlyOnce, 9, false); h != HoldQuota {
		t.Error("releases of an earlier connection's ids make room on this one")
	}
	again.s.Released(5)
	if h := again.publish("x", "", event.ExactlyOnce, 9, false); h != Go {
		t.Error("a release makes no room")
	}
}

// What connections leave without an answer is bounded, however often a client comes back to its session: beyond twice its
// quota its events are held, until outcomes come. None of the receipts is lost by that: retries join them, and an
// exactly-once event that was taken stays until its release.
func TestOrphansAreBounded(t *testing.T) {
	for _, q := range []event.QoS{event.AtLeastOnce, event.ExactlyOnce} {
		t.Run(fmt.Sprint("qos=", q), func(t *testing.T) {
			lim := testLimits()
			lim.Receive = 8
			const most = orphanMax * 8
			s := newSim(t, 1, 1<<20, 30*time.Second, lim)
			x := &simTarget{}
			s.routeTo("x", x)
			id, held := uint16(0), 0
			for range 100 {
				pub, _ := s.connect(0, Hello{ClientID: "pub", Expiry: Never})
				for range 8 {
					if pub.publish("x", "", q, id+1, false) == Go {
						id++
					} else {
						held++
					}
				}
				pub.s.Detach(pub, false)
			}
			if id != most || held != 800-most {
				t.Errorf("%d events walk, %d were held; want %d and the rest", id, held, most)
			}
			pub, _ := s.connect(0, Hello{ClientID: "pub", Expiry: Never})
			in := pub.s.in
			if n := len(in.orphans); n != most {
				t.Errorf("%d receipts of earlier connections, want %d", n, most)
			}
			for i := range uint16(8) {
				if pub.publish("x", "", q, id-7+i, true) != Go {
					t.Error("a retry is held: it takes no more space than is taken")
				}
			}
			other, _ := s.connect(0, Hello{ClientID: "other", Expiry: Never})
			if other.publish("x", "", q, 1, false) != Go {
				t.Error("another client is held")
			}
			if len(x.got) != most+1 {
				t.Errorf("%d deliveries, want %d: a retry walks again", len(x.got), most+1)
			}
			for i, lt := range x.open {
				lt.Settle([]event.Outcome{event.Accepted, event.Unavailable}[i%2])
			}
			s.run()
			if len(pub.answers) != 8 {
				t.Errorf("answers %v", pub.answers)
			}
			if pub.publish("x", "", q, id+1, false) != Go {
				t.Error("held although every outcome is known")
			}
			pub.s.Detach(pub, false)
			if n := len(in.orphans); n > most {
				t.Errorf("%d receipts when one is under way", n)
			}
			if n, want := len(in.open), map[event.QoS]int{1: 0, 2: most / 2}[q]; n != want {
				t.Errorf("%d wait for their release, want %d", n, want)
			}
		})
	}
}

// An exactly-once event that was sent again, and released before its repeated answer had its turn: the answer is not sent,
// and the id is free for another event.
func TestReleaseOvertakesARepeatedAnswer(t *testing.T) {
	s := newSim(t, 1, 1<<20, 30*time.Second, testLimits())
	x := &simTarget{}
	s.routeTo("x", x)
	sub, _ := s.connect(0, Hello{ClientID: "sub", Clean: true})
	s.subscribe(sub, "t", 0)
	pub, _ := s.connect(0, Hello{ClientID: "pub", Expiry: Never, Quota: true})
	pub.publish("t", "one", event.ExactlyOnce, 5, false)
	pub.publish("x", "", event.AtLeastOnce, 6, false) // has no answer yet
	pub.publish("t", "one", event.ExactlyOnce, 5, true)
	if !pub.s.Released(5) {
		t.Fatal("not known")
	}
	pub.publish("t", "two", event.ExactlyOnce, 5, false)
	x.open[0].Settle(event.Accepted)
	s.run()
	if got := fmt.Sprint(pub.answers); strings.Count(got, "{5 2 ") != 2 || strings.Count(got, "{6 1 ") != 1 || len(pub.answers) != 3 {
		t.Errorf("answers %v", got)
	}
	if !slices.Equal(sub.payloads, []string{"one", "two"}) {
		t.Errorf("delivered %v", sub.payloads)
	}
	if pub.s.Released(5); pub.s.Unanswered() != 0 {
		t.Errorf("%d of the quota are lost", pub.s.Unanswered())
	}
}

// Packet ids go round without 0 and never name two open deliveries, also when the client acknowledges the oldest last.
func TestPacketIDsGoRound(t *testing.T) {
	lim := testLimits()
	lim.Window, lim.Queue = 4, 10
	s := newSim(t, 1, 1<<20, 30*time.Second, lim)
	sub, _ := s.connect(0, Hello{ClientID: "sub", Clean: true})
	s.subscribe(sub, "x", 1)
	pub, _ := s.connect(0, Hello{ClientID: "pub", Clean: true})
	open := map[uint16]bool{}
	seen := 0
	for range 50_000 {
		for range 3 {
			pub.publish("x", "", event.AtLeastOnce, 1, false)
		}
		if len(sub.got) == 0 {
			t.Fatal("nothing is delivered")
		}
		var ids []uint16
		for _, d := range sub.got {
			if d.ID == 0 || open[d.ID] {
				t.Fatalf("id %d is used, open are %v", d.ID, open)
			}
			open[d.ID] = true
			ids = append(ids, d.ID)
		}
		seen += len(ids)
		sub.got, sub.payloads, pub.answers = nil, nil, nil
		slices.Reverse(ids)
		for _, id := range ids {
			delete(open, id)
			if a := sub.s.Acked(id); a != AckOK {
				t.Fatalf("id %d: %d", id, a)
			}
		}
	}
	if seen < 140_000 || s.hosts[0].Tally.Dropped[DropQueueFull] != 0 {
		t.Errorf("%d deliveries, %d dropped", seen, s.hosts[0].Tally.Dropped[DropQueueFull])
	}
}

// An event that no session published (of a source) walks when there is room, in order, and its ticket is settled once.
func TestInjectedEventsWalkInOrder(t *testing.T) {
	s := newSim(t, 2, 300, 30*time.Second, testLimits())
	far, _ := s.connect(1, Hello{ClientID: "far", Clean: true, Window: 100})
	s.subscribe(far, "x", 0)
	settled := &simSettler{got: map[uint64]event.Outcome{}, t: t}
	const events = 50
	for i := range events {
		ev := event.Event{Topic: []byte("x"), Payload: fmt.Appendf(nil, "%03d", i), QoS: event.AtLeastOnce}
		s.hosts[0].Inject(ev.Keep(), event.Ticket{To: settled, Token: uint64(i)})
	}
	s.advance(time.Second)
	if len(settled.got) != events {
		t.Errorf("%d of %d settled", len(settled.got), events)
	}
	if len(far.payloads) != events || !slices.IsSorted(far.payloads) {
		t.Errorf("delivered %v", far.payloads)
	}
}

// simSettler notes outcomes. Owned by the test.
type simSettler struct {
	t   *testing.T
	got map[uint64]event.Outcome
}

func (x *simSettler) Settle(token uint64, o event.Outcome, _ int) {
	if _, ok := x.got[token]; ok {
		x.t.Errorf("event %d is settled twice", token)
	}
	x.got[token] = o
}

// [MQTT-4.6.0-6], [MQTT-4.4.0-1]: an event that comes when there is room again, but nobody has said so yet, goes behind what
// waits and behind what is to be sent again.
func TestNewEventsDoNotOvertake(t *testing.T) {
	s := newSim(t, 1, 1<<20, 30*time.Second, testLimits())
	sub, _ := s.connect(0, Hello{ClientID: "sub", Expiry: Never})
	s.subscribe(sub, "x", event.AtLeastOnce)
	pub, _ := s.connect(0, Hello{ClientID: "pub", Clean: true})
	send := func(payload string) { pub.publish("x", payload, event.AtLeastOnce, 1, false) }
	send("1")
	sub.full = true
	send("2")
	sub.full = false
	send("3")
	if !slices.Equal(sub.payloads, []string{"1"}) {
		t.Errorf("sent %v while 2 waits", sub.payloads)
	}
	sub.s.Writable()
	if !slices.Equal(sub.payloads, []string{"1", "2", "3"}) {
		t.Errorf("sent %v", sub.payloads)
	}
	sub.s.Detach(sub, false)
	again := &simPeer{full: true}
	ses, _, _, err := s.hosts[0].Open(&Hello{ClientID: "sub", Expiry: Never}, again)
	if err != nil {
		t.Fatal(err)
	}
	again.s = ses
	ses.Start()
	again.full = false
	send("4")
	if len(again.payloads) != 0 {
		t.Errorf("sent %v before what is to be sent again", again.payloads)
	}
	ses.Writable()
	if !slices.Equal(again.payloads, []string{"1", "2", "3", "4"}) {
		t.Errorf("sent %v", again.payloads)
	}
}
