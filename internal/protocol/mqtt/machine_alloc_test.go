package mqtt

import (
	"fmt"
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// quickLink is a connection whose bytes go to the machine as they are. Owned by the test.
type quickLink struct {
	*simLink
	t   testing.TB
	v   wire.Version
	buf []byte
}

func (c *quickLink) feed(b []byte) {
	if n, err := c.machine.feed(b); n != len(b) || err != nil || c.closing {
		c.t.Fatalf("%d of %d bytes used, %v, closed for %v", n, len(b), err, c.err)
	}
}

// ids finds the packet ids of the PUBLISH packets in the output.
func (c *quickLink) answer(qos byte) {
	c.buf = c.buf[:0]
	for b := c.out; len(b) > 0; {
		first, body, n, err := wire.Next(b, 0)
		if err != nil || n == 0 {
			c.t.Fatal("output is not whole packets")
		}
		b = b[n:]
		if wire.KindOf(first) != wire.PUBLISH || first>>1&3 == 0 {
			continue
		}
		at := 2 + int(body[0])<<8 | int(body[1])
		id := uint16(body[at])<<8 | uint16(body[at+1])
		if qos == 1 {
			c.buf = wire.AppendAck(c.buf, c.v, wire.PUBACK, id, wire.Success, "")
			continue
		}
		c.buf = wire.AppendAck(c.buf, c.v, wire.PUBREC, id, wire.Success, "")
		c.buf = wire.AppendAck(c.buf, c.v, wire.PUBCOMP, id, wire.Success, "")
	}
	c.out = c.out[:0]
	c.feed(c.buf)
}

// From the bytes of PUBLISH packets to the bytes of deliveries and acknowledgements nothing is allocated: codec, machine,
// session, policies, routing, mail between loops, settlement, on one loop and across two.
func TestHotPathAllocatesNothing(t *testing.T) {
	for _, v := range []wire.Version{wire.V311, wire.V5} {
		for _, qos := range []byte{0, 1, 2} {
			for _, loops := range []int{1, 2} {
				for _, size := range []int{128, 4000} {
					t.Run(fmt.Sprintf("%v/qos=%d/loops=%d/size=%d", v, qos, loops, size), func(t *testing.T) {
						hotPath(t, v, qos, loops, size, "")
					})
					t.Run(fmt.Sprintf("shared/%v/qos=%d/loops=%d/size=%d", v, qos, loops, size), func(t *testing.T) {
						hotPath(t, v, qos, loops, size, "$share/group/")
					})
				}
			}
		}
	}
}

// hotBatch is how many events a round of hotRig publishes.
const hotBatch = 20

// hotRig is a publisher and two subscribers; round sends a batch all the way.
func hotRig(t testing.TB, v wire.Version, qos byte, loops, size int, prefix string) (n *simNode, round func()) {
	t.Helper()
	cfg := defaultSim()
	cfg.loops = loops
	limit, err := policy.NewLimit(policy.LimitSpec{Events: 1e9, Bytes: 1e12})
	if err != nil {
		t.Fatal(err)
	}
	acl, err := policy.NewACL([]policy.ACLSpec{{Allow: []string{"publish", "subscribe"}, Topic: "#"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.policies = []policy.Policy{limit, acl}
	n = newSimNode(t, cfg)
	open := func(id string, at int, filter string) *quickLink {
		c := &quickLink{simLink: n.link(at), t: t, v: v}
		c.stalled = true
		c.send(wire.AppendConnect(nil, &wire.Connect{Version: v, ClientID: []byte(id), Clean: true, ReceiveMax: 0xffff, RequestProblemInfo: true}))
		if filter != "" {
			c.send(wire.AppendSubscribe(nil, v, 1, 7, []wire.Filter{{Filter: filter, SubOptions: wire.SubOptions{QoS: qos}}}))
		}
		n.run()
		if c.phase != phOpen {
			t.Fatal("not connected")
		}
		c.out = c.out[:0]
		return c
	}
	near, far := open("near", 0, prefix+"site/+/state"), open("far", loops-1, prefix+"site/#")
	pub := open("pub", 0, "")
	var packets, releases []byte
	p := wire.PublishOut{Version: v, Topic: []byte("site/pump-7/state"), Payload: make([]byte, size), QoS: qos}
	if v == wire.V5 {
		p.Meta, _ = event.AppendMeta(nil, event.MetaContentType, "application/json")
		p.Meta, _ = event.AppendHeader(p.Meta, "unit", "bar")
	}
	for i := range hotBatch {
		p.PacketID = uint16(i + 1)
		packets = wire.AppendPublish(packets, &p)
		releases = wire.AppendAck(releases, v, wire.PUBREL, p.PacketID, wire.Success, "")
	}
	if qos < 2 {
		releases = nil
	}
	turn := func() {
		for _, h := range n.hosts {
			h.Turn()
		}
	}
	return n, func() {
		pub.feed(packets)
		turn()
		turn()
		near.answer(qos)
		far.answer(qos)
		pub.feed(releases)
		turn()
		pub.out = pub.out[:0]
	}
}

func hotPath(t *testing.T, v wire.Version, qos byte, loops, size int, prefix string) {
	const batch = hotBatch
	n, round := hotRig(t, v, qos, loops, size, prefix)
	for range 50 {
		round()
	}
	before, answered := n.hosts[0].Tally.Delivered+n.hosts[loops-1].Tally.Delivered, n.hosts[0].Tally.Outcomes[event.Accepted]
	const runs = 100
	if a := testing.AllocsPerRun(runs, round); a != 0 {
		t.Errorf("%v allocations for %d events with two subscribers each", a, batch)
	}
	after := n.hosts[0].Tally.Delivered + n.hosts[loops-1].Tally.Delivered
	each := uint64(2 * batch * (runs + 1))
	if loops == 1 {
		each *= 2 // one host, counted twice
	}
	if after-before != each {
		t.Errorf("%d deliveries, want %d", after-before, each)
	}
	if got := n.hosts[0].Tally.Outcomes[event.Accepted] - answered; got != uint64(min(qos, 1))*batch*(runs+1) {
		t.Errorf("%d acknowledged", got)
	}
}

// BenchmarkHotPath is what TestHotPathAllocatesNothing looks at, per event with two subscribers.
func BenchmarkHotPath(b *testing.B) {
	for _, v := range []wire.Version{wire.V311, wire.V5} {
		for _, qos := range []byte{0, 1, 2} {
			for _, prefix := range []string{"", "$share/group/"} {
				b.Run(fmt.Sprintf("%v/qos=%d/shared=%t", v, qos, prefix != ""), func(b *testing.B) {
					_, round := hotRig(b, v, qos, 2, 128, prefix)
					b.ReportAllocs()
					b.ResetTimer()
					for i := 0; i < b.N; i += hotBatch {
						round()
					}
				})
			}
		}
	}
}
