package mqtt

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// Whatever order packets are asked for in, a shared form is the packet that would have been encoded.
func TestFormsAreWhatWouldBeEncoded(t *testing.T) {
	var f forms
	meta, _ := event.AppendHeader(nil, "unit", "bar")
	id := uint16(0)
	for pass := range uint64(4) { // 0: no fan-out
		for _, topic := range []string{"site/pump-7/state", ""} {
			for _, v := range []wire.Version{wire.V311, wire.V5} {
				for range 3 {
					for qos := range byte(3) {
						for _, subs := range [][]uint32{nil, {7}, {300_000}, {7, 8}} {
							for _, expiry := range []uint32{0, 60} {
								id++
								p := wire.PublishOut{Version: v, Topic: []byte(topic), Payload: fmt.Appendf(nil, "payload %d", pass), QoS: qos, Retain: id%2 == 0, Dup: id%7 == 0}
								if qos > 0 {
									p.PacketID = id
								}
								if v == wire.V5 {
									p.Meta, p.SubIDs, p.Expiry, p.HasExpiry = meta, subs, expiry, expiry > 0
									if topic == "" {
										p.Alias = 3
									}
								} else if topic == "" {
									p.Topic = []byte("t")
								}
								got, want := f.append([]byte("before"), &p, pass), wire.AppendPublish([]byte("before"), &p)
								if !bytes.Equal(got, want) {
									t.Fatalf("pass %d, %+v\ngot  %x\nwant %x", pass, p, got, want)
								}
							}
						}
					}
				}
			}
			f.pass = 0 // the topic changes: another event
		}
	}
}

// A fan-out to 500 subscribers of both versions and two QoS encodes four packets on each loop, and each subscriber gets its own
// packet id.
func TestFanOutEncodesEachFormOnce(t *testing.T) {
	for _, loops := range []int{1, 2} {
		t.Run(fmt.Sprint(loops, " loops"), func(t *testing.T) {
			n, round, subs := fanRig(t, loops, 500)
			encoded := func() (sum uint64) {
				for _, s := range n.scratch {
					sum += s.forms.encoded
				}
				return sum
			}
			before := encoded()
			round()
			if got, most := encoded()-before, uint64(4*loops); got != most {
				t.Errorf("%d packets encoded, want %d", got, most)
			}
			var texts = map[string]int{}
			for _, c := range subs {
				text, rest, ok := textOf(c.out, c.v)
				if !ok || len(rest) > 0 {
					t.Fatalf("%x", c.out)
				}
				texts[text]++
			}
			for text, count := range map[string]int{
				"PUBLISH site/pump-7/state xxxxxxxx q0": 125, "PUBLISH site/pump-7/state xxxxxxxx q1 id=2": 125,
				"PUBLISH site/pump-7/state xxxxxxxx q0 sub=7 type=application/json user=unit:bar":      125,
				"PUBLISH site/pump-7/state xxxxxxxx q1 id=2 sub=7 type=application/json user=unit:bar": 125,
			} {
				if texts[text] != count {
					t.Errorf("%d times %q\n%v", texts[text], text, texts)
				}
			}
			if a := testing.AllocsPerRun(20, func() {
				for _, c := range subs {
					c.answer(1)
				}
				round()
			}); a != 0 {
				t.Errorf("%v allocations for a fan-out", a)
			}
		})
	}
}

// fanRig is a node with subscribers of MQTT 3.1.1 and 5, with QoS 0 and 1 in turn; round publishes one event to all.
func fanRig(t testing.TB, loops, count int) (n *simNode, round func(), subs []*quickLink) {
	t.Helper()
	cfg := defaultSim()
	cfg.loops = loops
	n = newSimNode(t, cfg)
	open := func(id string, at int, v wire.Version, qos byte, filter string) *quickLink {
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
	for i := range count {
		subs = append(subs, open(fmt.Sprint("s", i), i/4%loops, []wire.Version{wire.V311, wire.V5}[i%2], byte(i/2%2), "site/+/state"))
	}
	pub := open("pub", 0, wire.V5, 0, "")
	p := wire.PublishOut{Version: wire.V5, Topic: []byte("site/pump-7/state"), Payload: []byte("xxxxxxxx"), QoS: 1, PacketID: 1}
	p.Meta, _ = event.AppendMeta(nil, event.MetaContentType, "application/json")
	p.Meta, _ = event.AppendHeader(p.Meta, "unit", "bar")
	packet := wire.AppendPublish(nil, &p)
	round = func() {
		pub.feed(packet)
		for range 2 {
			for _, h := range n.hosts {
				h.Turn()
			}
		}
		pub.out = pub.out[:0]
	}
	round() // packet ids, buffers
	for _, c := range subs {
		c.answer(1)
	}
	return n, round, subs
}

// BenchmarkFanOut is a publish to 500 subscribers of both versions, from bytes to bytes, without the system calls.
func BenchmarkFanOut(b *testing.B) {
	_, round, subs := fanRig(b, 1, 500)
	b.ReportAllocs()
	for b.Loop() {
		round()
		b.StopTimer()
		for _, c := range subs {
			c.answer(1)
		}
		b.StartTimer()
	}
}

// BenchmarkForms is one PUBLISH of MQTT 5 with properties for one of many, encoded and copied.
func BenchmarkForms(b *testing.B) {
	p := wire.PublishOut{Version: wire.V5, Topic: []byte("site/pump-7/state"), Payload: make([]byte, 128), QoS: 1, PacketID: 1, SubIDs: []uint32{7}, Expiry: 60, HasExpiry: true}
	p.Meta, _ = event.AppendMeta(nil, event.MetaContentType, "application/json")
	p.Meta, _ = event.AppendHeader(p.Meta, "unit", "bar")
	for _, pass := range []uint64{0, 1} {
		b.Run([]string{"encoded", "shared"}[pass], func(b *testing.B) {
			var f forms
			var out []byte
			for b.Loop() {
				out = f.append(out[:0], &p, pass)
			}
		})
	}
}
