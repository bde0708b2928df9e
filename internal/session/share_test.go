package session

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/route"
)

// grave keeps dead letters. Safe for concurrent use.
type grave struct {
	mu   sync.Mutex
	dead map[string]int
}

func (g *grave) Dead(ev *event.Kept, _, _ string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dead == nil {
		g.dead = map[string]int{}
	}
	g.dead[string(ev.Payload)]++
}

// 4.8.2: whatever members of a shared subscription do, an event that its publisher was told is taken is sent to a member
// until one acknowledges it, waits for one, or becomes a dead letter; none is acknowledged by two members unless it was
// under way when its member went.
func TestSharedLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lim := testLimits()
		lim.Queue, lim.Window = rapid.IntRange(1, 5).Draw(t, "queue"), rapid.IntRange(1, 4).Draw(t, "window")
		lim.Balance = route.Balance(rapid.IntRange(0, 4).Draw(t, "balance"))
		lim.HandOn = HandOn(rapid.IntRange(0, 1).Draw(t, "hand on"))
		s := newSim(t, 3, 1<<20, 30*time.Second, lim)
		end := &grave{}
		s.sh.Dead = end
		for _, h := range s.hosts {
			h.walk.Parks(end)
		}
		told := rapid.Bool().Draw(t, "the publisher can be told") // MQTT 5
		pub, _ := s.connect(0, Hello{ClientID: "pub", Clean: true, Origin: event.Origin{NoRefusal: !told}})
		members := make([]*simPeer, 4)
		acked := map[string]int{} // by members
		hello := func(i int) Hello {
			h := Hello{ClientID: fmt.Sprint("m", i)}
			if i%2 == 0 {
				h.Expiry = Never
			}
			return h
		}
		open := func(p *simPeer) (ids []int) { // deliveries of this connection that can be acknowledged
			for i, d := range p.got {
				if d.ID != 0 {
					ids = append(ids, i)
				}
			}
			return ids
		}
		taken := map[string]bool{}
		n := 0
		t.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) { s.run() },
			"publish": func(t *rapid.T) {
				n++
				if pub.publish("jobs/"+fmt.Sprint(n%3), fmt.Sprint(n), event.AtLeastOnce, uint16(n), false) != Go {
					t.Skip("held")
				}
				s.loops[0].Wake() // the turn in which the packet was read
				s.run()
				a := pub.answers[len(pub.answers)-1]
				if a.ID != uint16(n) {
					t.Fatalf("event %d is not answered", n)
				}
				if a.Outcome == event.Accepted || a.Outcome == event.Throttled && !told {
					taken[fmt.Sprint(n)] = true
				} else if end.dead[fmt.Sprint(n)] > 0 {
					t.Fatalf("event %d is refused with %v and a dead letter", n, a.Outcome)
				}
			},
			"join": func(t *rapid.T) {
				i := rapid.IntRange(0, 3).Draw(t, "member")
				if members[i] == nil {
					members[i], _ = s.connect(rapid.IntRange(0, 2).Draw(t, "loop"), hello(i))
				}
				p := members[i]
				p.s.Subscribe([]Want{{Filter: []byte("$share/g/jobs/#"), QoS: event.AtLeastOnce}}, func() {})
			},
			"part": func(t *rapid.T) {
				if p := members[rapid.IntRange(0, 3).Draw(t, "member")]; p != nil {
					p.s.Unsubscribe([][]byte{[]byte("$share/g/jobs/#")}, make([]bool, 1), func() {})
				}
			},
			"ack": func(t *rapid.T) {
				p := members[rapid.IntRange(0, 3).Draw(t, "member")]
				if p == nil {
					t.Skip("not there")
				}
				ids := open(p)
				if len(ids) == 0 {
					t.Skip("nothing to acknowledge")
				}
				i := rapid.SampledFrom(ids).Draw(t, "delivery")
				id := p.got[i].ID
				p.got[i].ID = 0
				if p.s.Acked(id) == AckOK {
					acked[p.payloads[i]]++
				}
			},
			"go": func(t *rapid.T) {
				i := rapid.IntRange(0, 3).Draw(t, "member")
				if members[i] != nil {
					members[i].s.Detach(members[i], true)
					members[i] = nil
				}
			},
			"clean": func(t *rapid.T) {
				i := rapid.IntRange(0, 3).Draw(t, "member")
				h := hello(i)
				h.Clean = true
				members[i], _ = s.connect(rapid.IntRange(0, 2).Draw(t, "loop"), h)
			},
		})
		s.run()
		// what is still in sessions
		held := map[string]bool{}
		for _, h := range s.hosts {
			for _, x := range h.slots {
				if x == nil {
					continue
				}
				for _, d := range x.out.ring {
					switch {
					case d.state != dlSent:
					case d.ev != nil:
						held[string(d.ev.Payload)] = true
					case d.share != nil:
						held[string(d.share.ev.Payload)] = true
					}
				}
				if q := x.out.queue; q != nil {
					for _, w := range q.list[q.head:] {
						held[string(w.ev.Payload)] = true
					}
				}
				var load int32
				for _, d := range x.out.ring {
					if d.share != nil {
						load++
					}
				}
				if q := x.out.queue; q != nil {
					for _, w := range q.list[q.head:] {
						if w.group != nil {
							load++
						}
					}
				}
				if x.shares != nil && x.shares.load.Open.Load() != load {
					t.Fatalf("%s says it has %d open events, it has %d", x.ID, x.shares.load.Open.Load(), load)
				}
			}
		}
		for p := range taken {
			if acked[p] == 0 && !held[p] && end.dead[p] == 0 {
				t.Fatalf("event %s is lost", p)
			}
			if acked[p] > 1 {
				t.Fatalf("event %s is acknowledged by %d members", p, acked[p])
			}
		}
	})
}
