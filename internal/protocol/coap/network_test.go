package coap

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/coap/wire"
)

// flying is a datagram in the simulated network.
type flying struct {
	at     int64
	port   int
	toward bool // to the server
	b      []byte
}

type air []flying

func (a air) Len() int           { return len(a) }
func (a air) Less(i, j int) bool { return a[i].at < a[j].at }
func (a air) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *air) Push(x any)        { *a = append(*a, x.(flying)) }
func (a *air) Pop() any {
	old := *a
	x := old[len(old)-1]
	*a = old[:len(old)-1]
	return x
}

// network loses, delays, repeats and reorders. Owned by the test.
type network struct {
	chance       *rand.Rand
	air          air
	loss, double int // of 100
	delay        int // milliseconds at most
}

func (w *network) put(now int64, f flying) {
	for range 1 + b2i(w.chance.IntN(100) < w.double) {
		if w.chance.IntN(100) < w.loss {
			continue
		}
		f.at = now + int64(time.Millisecond)*int64(1+w.chance.IntN(w.delay))
		heap.Push(&w.air, f)
	}
}

// device is a client that sends numbered events as CON, one after the other, as RFC 7252 says.
type device struct {
	port      int
	next      int // number of the event under way
	last      int
	id        uint16
	b         []byte
	tries     int
	wait, due int64
	acked     bool // an empty acknowledgement came: it waits for the response
	over      bool
	responses []string
	lost      int
}

func (d *device) begin(now int64) {
	if d.next++; d.next > d.last {
		d.over = true
		return
	}
	d.id++
	o := wire.AppendOption(nil, 0, wire.URIPath, []byte("ps"))
	o = wire.AppendOption(o, wire.URIPath, wire.URIPath, []byte("route"))
	o = wire.AppendOption(o, wire.URIPath, wire.URIPath, []byte("x"))
	d.b = wire.Append(nil, &wire.Message{Type: wire.CON, Code: wire.POST, ID: d.id, Token: []byte{byte(d.next)}, Options: o, Payload: fmt.Appendf(nil, "%d-%d", d.port, d.next)})
	d.tries, d.wait, d.acked = 0, int64(2500*time.Millisecond), false
	d.due = now
}

// TestNetwork (RFC 7252, 4.2, 4.5): whatever the network does, as long as a device gets an answer within its tries, each of its CON
// events is taken exactly once, and events that got no answer are not taken twice either.
func TestNetwork(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := newSim(rt, nil)
		w := &network{chance: rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1)), loss: rapid.IntRange(0, 40).Draw(rt, "loss"),
			double: rapid.IntRange(0, 40).Draw(rt, "double"), delay: rapid.IntRange(1, 6000).Draw(rt, "delay")}
		slow := rapid.IntRange(0, 3000).Draw(rt, "slow") // how long the route takes
		n.took.hold = true
		var ds []*device
		for i := range rapid.IntRange(1, 3).Draw(rt, "devices") {
			d := &device{port: i + 1, last: 6, id: uint16(i * 1000)}
			d.begin(n.loop.now)
			ds = append(ds, d)
		}
		var settles []int64
		for step := 0; ; step++ {
			if step > 100_000 {
				rt.Fatal("it does not end")
			}
			now := n.loop.now
			busy := false
			for _, d := range ds {
				if !d.over && d.due <= now {
					d.turn(w, now)
				}
				busy = busy || !d.over
			}
			if !busy {
				break
			}
			for len(settles) > 0 && settles[0] <= now {
				k := n.took.tickets[0]
				n.took.tickets, settles = n.took.tickets[1:], settles[1:]
				k.Settle(event.Accepted)
				n.run()
			}
			for len(w.air) > 0 && w.air[0].at <= now {
				f := heap.Pop(&w.air).(flying)
				if f.toward {
					n.packet(f.port, f.b)
					for len(settles) < len(n.took.tickets) {
						settles = append(settles, now+int64(slow)*int64(time.Millisecond))
					}
				} else {
					ds[f.port-1].hears(w, f.b, now)
				}
			}
			for _, p := range n.sent() {
				w.put(now, flying{port: int(p.peer.Port()), b: p.b})
			}
			next := now + int64(100*time.Second) // nothing happens before then
			for _, d := range ds {
				if !d.over {
					next = min(next, d.due)
				}
			}
			if len(w.air) > 0 {
				next = min(next, w.air[0].at)
			}
			if len(settles) > 0 {
				next = min(next, settles[0])
			}
			if at, ok := n.next(); ok {
				next = min(next, at)
			}
			n.advance(time.Duration(max(next-now, tick)))
		}
		count := map[string]int{}
		for _, e := range n.took.events {
			_, payload, _ := strings.Cut(e, " ")
			count[payload]++
		}
		for _, d := range ds {
			for i := 1; i <= d.last; i++ {
				if c := count[fmt.Sprintf("%d-%d", d.port, i)]; c > 1 {
					rt.Fatalf("event %d of device %d was taken %d times", i, d.port, c)
				}
			}
			for _, r := range d.responses {
				if count[r] != 1 {
					rt.Fatalf("event %s was acknowledged and taken %d times", r, count[r])
				}
			}
			if len(d.responses)+d.lost != d.last {
				rt.Fatalf("device %d: %d answers and %d without, of %d", d.port, len(d.responses), d.lost, d.last)
			}
			if w.loss == 0 && w.delay < 2000 && d.lost > 0 {
				rt.Fatalf("device %d: %d events without an answer, and nothing was lost", d.port, d.lost)
			}
		}
	})
}

// turn sends again, or gives up.
func (d *device) turn(w *network, now int64) {
	if d.acked || d.tries > 4 {
		d.lost++
		d.begin(now)
	}
	if d.over {
		return
	}
	w.put(now, flying{port: d.port, toward: true, b: d.b})
	d.due = now + d.wait
	d.tries++
	d.wait *= 2
}

func (d *device) hears(w *network, b []byte, now int64) {
	var m wire.Message
	if wire.Parse(b, &m) != nil || d.over {
		return
	}
	if m.Type == wire.CON {
		w.put(now, flying{port: d.port, toward: true, b: wire.AppendEmpty(nil, wire.ACK, m.ID)})
	}
	switch {
	case m.Code == wire.Empty && m.Type == wire.ACK && m.ID == d.id && !d.acked:
		d.acked = true
		d.due = now + int64(100*time.Second)
	case m.Code.IsResponse() && len(m.Token) == 1 && int(m.Token[0]) == d.next:
		d.responses = append(d.responses, fmt.Sprintf("%d-%d", d.port, d.next))
		d.begin(now)
	}
}
