package session

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/policy"
)

// readers lets a client have the events on topics that contain its name.
type readers struct{ asked int }

func (*readers) Name() string { return "readers" }
func (*readers) Apply(*policy.Context, *event.Event) policy.Verdict {
	return policy.Verdict{}
}
func (*readers) Receives() bool { return true }
func (r *readers) Receive(_ *policy.Context, to *event.Origin, ev *event.Event) bool {
	r.asked++
	return strings.Contains(string(ev.Topic), to.Client)
}

// A policy that looks at deliveries keeps an event from one subscriber: a live one, a retained one, one of a shared
// subscription, for which another member is asked.
func TestReceivePolicy(t *testing.T) {
	s := newSim(t, 2, 1<<20, 30*time.Second, testLimits())
	s.chain = policy.NewChain(nil, &readers{})
	a, _ := s.connect(0, Hello{ClientID: "a", Clean: true})
	b, _ := s.connect(1, Hello{ClientID: "b", Clean: true})
	pub, _ := s.connect(0, Hello{ClientID: "pub", Clean: true})
	s.subscribe(a, "#", event.AtLeastOnce)
	s.subscribe(b, "#", event.AtMostOnce)
	for i, topic := range []string{"a", "b", "a/b", "c"} {
		pub.publish(topic, topic, event.AtLeastOnce, uint16(i+1), false)
	}
	s.settle()
	if !slices.Equal(a.payloads, []string{"a", "a/b"}) || !slices.Equal(b.payloads, []string{"b", "a/b"}) {
		t.Errorf("a has %v, b has %v", a.payloads, b.payloads)
	}
	if n := len(pub.answers); n != 4 || pub.answers[3].Outcome != event.NoMatch {
		t.Errorf("answers %v", pub.answers)
	}
	keep := &event.Event{Topic: []byte("a/kept"), Payload: []byte("k"), Retain: true, From: pub.s.Origin}
	pub.s.Publish(keep, 0, false)
	c, _ := s.connect(0, Hello{ClientID: "nobody", Clean: true})
	s.subscribe(c, "#", event.AtMostOnce)
	if len(c.payloads) != 0 {
		t.Errorf("retained: %v", c.payloads)
	}

	x, _ := s.connect(0, Hello{ClientID: "x", Clean: true})
	y, _ := s.connect(1, Hello{ClientID: "y", Clean: true})
	s.subscribe(x, "$share/g/of/#", event.AtLeastOnce)
	s.subscribe(y, "$share/g/of/#", event.AtLeastOnce)
	for i := range 4 {
		pub.publish("of/y", "y", event.AtLeastOnce, uint16(10+i), false)
	}
	s.settle()
	if len(x.payloads) != 0 || len(y.payloads) != 4 {
		t.Errorf("shared: x has %v, y has %v", x.payloads, y.payloads)
	}
}
