package mqtt

import (
	"fmt"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// flood is a client that publishes as much as it may to the other, reads slowly, and sends again what is refused. Owned by
// the test.
type flood struct {
	*simLink
	t       *testing.T
	v       wire.Version
	topic   string // of the other
	left    []int  // numbers to be published
	open    map[uint16]int
	nextID  uint16
	seen    map[int]int
	refused int
	dec     wire.Decoder
}

func (f *flood) publish(quota int) {
	var b []byte
	for len(f.left) > 0 && len(f.open) < quota {
		f.nextID++
		k := f.left[0]
		f.left = f.left[1:]
		f.open[f.nextID] = k
		p := wire.PublishOut{Version: f.v, Topic: []byte(f.topic), Payload: fmt.Appendf(nil, "%d %0100d", k, 0), QoS: 1, PacketID: f.nextID}
		b = wire.AppendPublish(b, &p)
	}
	f.send(b)
}

// read takes what has arrived and acknowledges it.
func (f *flood) read() {
	var out []byte
	for len(f.got) > 0 {
		first, body, n, err := wire.Next(f.got, 0)
		if err != nil || n == 0 {
			f.t.Fatalf("%s: half a packet", f.name)
		}
		f.got = f.got[n:]
		switch wire.KindOf(first) {
		case wire.PUBLISH:
			var p wire.Publish
			if err := f.dec.Publish(f.v, first, body, &p); err != nil {
				f.t.Fatal(err)
			}
			var k int
			if _, err := fmt.Sscan(string(p.Payload), &k); err != nil {
				f.t.Fatal(err)
			}
			f.seen[k]++
			out = wire.AppendAck(out, f.v, wire.PUBACK, p.PacketID, wire.Success, "")
		case wire.PUBACK:
			var a wire.Ack
			if err := f.dec.Ack(f.v, wire.PUBACK, body, &a); err != nil {
				f.t.Fatal(err)
			}
			k, ok := f.open[a.PacketID]
			if !ok {
				f.t.Fatalf("%s: an answer to nothing", f.name)
			}
			delete(f.open, a.PacketID)
			if a.Reason.Failed() {
				f.refused++
				f.left = append(f.left, k)
			}
		case wire.DISCONNECT:
			f.t.Fatalf("%s is disconnected", f.name)
		}
	}
	f.send(out)
}

// Two clients that flood each other with QoS 1 and read slowly never deadlock, on one loop or two, however little credit
// there is between the loops: all is delivered once, or refused to its publisher and sent again.
func TestFloodEachOther(t *testing.T) {
	for _, v := range []wire.Version{wire.V311, wire.V5} {
		for _, credit := range []int64{200, 3000, 1 << 20} {
			for _, loops := range []int{1, 2} {
				t.Run(fmt.Sprintf("%v/credit=%d/loops=%d", v, credit, loops), func(t *testing.T) { floodEachOther(t, v, credit, loops) })
			}
		}
	}
}

func floodEachOther(t *testing.T, v wire.Version, credit int64, loops int) {
	const events = 500
	cfg := defaultSim()
	cfg.loops, cfg.credit = loops, credit
	cfg.limits.Queue, cfg.limits.Window, cfg.limits.Receive = 1000, 4, 64
	if v == wire.V5 {
		cfg.limits.Queue = 10
	}
	cfg.spec.MaxOutput, cfg.spec.HoldBytes = 600, 2000
	n := newSimNode(t, cfg)
	var fs []*flood
	for i, name := range []string{"a", "b"} {
		f := &flood{simLink: n.link(i % loops), t: t, v: v, topic: string("ba"[i]), open: map[uint16]int{}, seen: map[int]int{}, dec: wire.Decoder{Client: true}}
		f.name = name
		for k := range events {
			f.left = append(f.left, k)
		}
		f.send(wire.AppendConnect(nil, &wire.Connect{Version: v, ClientID: []byte(name), Clean: true, KeepAlive: 60, ReceiveMax: 0xffff, RequestProblemInfo: true}))
		f.send(wire.AppendSubscribe(nil, v, 1, 0, []wire.Filter{{Filter: name, SubOptions: wire.SubOptions{QoS: 1}}}))
		fs = append(fs, f)
	}
	n.run()
	for _, f := range fs {
		f.got = nil
	}
	for round := 0; ; round++ {
		if round > 20_000 {
			for _, f := range fs {
				t.Logf("%s: %d to publish, %d open, %d received, paused %v, held %v, closed %v", f.name, len(f.left), len(f.open), len(f.seen), f.isPaused, f.hold != nil, f.err)
			}
			t.Fatal("stuck")
		}
		done := true
		for i, f := range fs {
			f.publish([]int{64, 20}[i])
			f.stalled = round%[]int{5, 3}[i] != 0
			f.loop().Wake()
			f.read()
			done = done && len(f.left) == 0 && len(f.open) == 0 && len(f.seen) == events
		}
		n.advance(2 * time.Millisecond)
		if done {
			break
		}
	}
	refused := 0
	for _, f := range fs {
		for k, times := range f.seen {
			if times != 1 {
				t.Errorf("%s got %d %d times", f.name, k, times)
			}
		}
		refused += f.refused
	}
	if v == wire.V5 && refused == 0 {
		t.Error("nobody was ever slow")
	}
	for i, h := range n.hosts {
		if h.Walker().Open() != 0 || h.Tally.Queued != 0 {
			t.Errorf("loop %d: %d tickets open, %d events queued", i, h.Walker().Open(), h.Tally.Queued)
		}
	}
}
