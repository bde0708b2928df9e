package mqtt

import (
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/policy"
)

// bomb panics where an event says so. It has no state.
type bomb struct{}

func (bomb) Deliver(ev *event.Event, t event.Ticket) {
	if string(ev.Payload) == "boom" {
		panic("planted")
	}
	t.Settle(event.Accepted)
}

// A panic that the bytes of a peer trigger ends its connection and nothing else: at once, and in a timer, where publishes
// that were held go on. The outcomes that it cost are settled by their deadline.
func TestPanicEndsOneConnection(t *testing.T) {
	limit, err := policy.NewLimit(policy.LimitSpec{Events: 20, Burst: 1})
	if err != nil {
		t.Fatal(err)
	}
	n := newRealNode(t, 2, realOptions{target: bomb{}, policies: []policy.Policy{limit}})
	var others []*realClient
	for i := range 4 {
		c := n.dial("other" + string(rune('0'+i)))
		c.send("SUBSCRIBE id=1 s/#:q1")
		c.expect("SUBACK id=1 01")
		others = append(others, c)
	}
	for _, packets := range [][]string{
		{"PUBLISH x/1 boom q1 id=1"},
		{"PUBLISH x/1 boom"},
		{"PUBLISH x/1 quiet", "PUBLISH x/1 boom q1 id=1", "PUBLISH x/1 after q1 id=2"}, // held, and in a timer
	} {
		bad := n.dial("bad")
		for _, p := range packets {
			bad.send(p)
		}
		bad.expect("end")
	}
	pub := n.dial("pub")
	pub.send("PUBLISH s/1 alive q1 id=1")
	pub.expect("PUBACK id=1 00")
	pub.send("PUBLISH x/1 alive q1 id=2")
	pub.expect("PUBACK id=2 00")
	for _, c := range others {
		c.send("PINGREQ")
		c.expect("PUBLISH s/1 alive q1 id=1")
		c.expect("PINGRESP")
	}
	if p := n.group.Stats().Panics; p != 3 {
		t.Errorf("%d panics are counted, want 3", p)
	}
	for end := time.Now().Add(10 * time.Second); n.open() > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d events are never settled", n.open())
		}
	}
}
