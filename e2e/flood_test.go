package e2e

import (
	bin "encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// floodConf has bounds so small that every one of them is hit.
const floodConf = `windrose: v1
node: { name: n1, admin: "127.0.0.1:${ADMIN}", data: data, loops: 2 }
listeners: { mqtt: { mqtt: { bind: "127.0.0.1:${MQTT}", anonymous: true, max_output: 16KiB, hold_bytes: 4KiB } } }
sessions: { overflow: %s, queue: 50, queue_bytes: 64KiB, max_inflight: 20, receive_maximum: 100 }
`

// flooder publishes with QoS 1 as fast as its window allows and reads slowly. Its reader is one goroutine and its writer
// another; mu guards what both use.
type flooder struct {
	*raw
	to   string
	stop atomic.Bool

	acks, got, pongs atomic.Int64 // progress

	mu       sync.Mutex
	free     *sync.Cond     // of mu: open has shrunk
	open     map[uint16]int // packet id -> number of the event
	sent     int
	pings    int64
	accepted []int // numbers that were acknowledged with success
	refused  int
	received []int // numbers that arrived from the other
	err      error
}

func newFlooder(t *testing.T, port, id, to string, v byte) *flooder {
	f := &flooder{raw: client(t, port, hello{id: id, v: v, rcvbuf: 4096}), to: to, open: map[uint16]int{}}
	f.free = sync.NewCond(&f.mu)
	if code := f.subscribe("to/"+id, 1); code != 1 {
		t.Fatalf("SUBACK %#x", code)
	}
	return f
}

// write publishes until it is stopped, with a ping among each hundred events.
func (f *flooder) write(window int) {
	for id := uint16(1); !f.stop.Load(); id = id%60000 + 1 {
		f.mu.Lock()
		for len(f.open) >= window && f.err == nil {
			f.free.Wait()
		}
		if f.err != nil {
			f.mu.Unlock()
			return
		}
		i := f.sent
		f.sent++
		f.open[id] = i
		var b []byte
		if i%100 == 99 {
			f.pings++
			b = append(b, pingreq...)
		}
		f.mu.Unlock()
		if err := f.send(appendPublish(b, f.v, "to/"+f.to, numbered(i, 200), id)); err != nil {
			f.end(err)
			return
		}
	}
}

// read takes what comes, slowly while it is not stopped, until all is answered and nothing came for two seconds.
func (f *flooder) read() {
	for n := 0; ; n++ {
		p, err := f.raw.read(2 * time.Second)
		if err != nil {
			f.mu.Lock()
			done := f.stop.Load() && len(f.open) == 0
			f.mu.Unlock()
			if !done {
				f.end(fmt.Errorf("the client that sends to %s waits in vain: %w", f.to, err))
			}
			return
		}
		switch p.kind() {
		case pubackKind:
			id, reason, _ := acked(p)
			f.mu.Lock()
			if i, ok := f.open[id]; ok && reason == 0 {
				f.accepted = append(f.accepted, i)
			} else if ok {
				f.refused++
			}
			delete(f.open, id)
			f.free.Signal()
			f.mu.Unlock()
			f.acks.Add(1)
		case publishKind:
			_, payload, _, id := f.message(p)
			f.mu.Lock()
			f.received = append(f.received, int(bin.BigEndian.Uint64(payload)))
			f.mu.Unlock()
			f.got.Add(1)
			if err := f.send(appendPuback(nil, id)); err != nil {
				f.end(err)
				return
			}
		case pingrespKind:
			f.pongs.Add(1)
		default:
			f.end(fmt.Errorf("packet %#x % x", p.first, p.body[:min(len(p.body), 16)]))
			return
		}
		if n%50 == 0 && !f.stop.Load() {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func (f *flooder) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
	f.free.Broadcast()
}

// TestFlood is "never stuck": two clients flood each other with QoS 1 through small buffers and read slowly, on one loop
// and on two. Both make progress in each second, pings of theirs and of a bystander are answered, and in the end what was
// acknowledged has arrived, in order and once, or is counted.
func TestFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers; not in -short")
	}
	t.Parallel()
	for _, x := range []struct {
		name, rule string
		v          byte
		window     int
		apart      bool
	}{
		{"two loops, MQTT 5", "drop_new", 5, 100, true},
		{"one loop, MQTT 5", "drop_new", 5, 100, false},
		{"two loops, MQTT 3.1.1", "drop_new", 4, 1000, true}, // over the receive maximum: the node must hold, not stop
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, fmt.Sprintf(floodConf, x.rule))
			a := newFlooder(t, n.mqtt(), "a", "b", x.v)
			if !x.apart { // connections are dealt out in turn
				client(t, n.mqtt(), hello{id: "between"})
			}
			b := newFlooder(t, n.mqtt(), "b", "a", x.v)
			one, two := n.metric("windrose_loop_open_connections", `loop="0"`), n.metric("windrose_loop_open_connections", `loop="1"`)
			if x.apart && (one != 1 || two != 1) || !x.apart && one != 2 && two != 2 {
				t.Errorf("connections: %d on one loop, %d on the other", one, two)
			}
			idle := client(t, n.mqtt(), hello{id: "bystander"})

			both := []*flooder{a, b}
			var writers, readers sync.WaitGroup
			for _, f := range both {
				writers.Go(func() { f.write(x.window) })
				readers.Go(f.read)
			}
			for second := range 5 {
				var before [2][2]int64
				for i, f := range both {
					before[i] = [2]int64{f.acks.Load(), f.got.Load()}
				}
				next := time.Now().Add(time.Second)
				for time.Now().Before(next) {
					idle.ping()
					time.Sleep(20 * time.Millisecond)
				}
				for i, f := range both {
					if acks, got := f.acks.Load()-before[i][0], f.got.Load()-before[i][1]; acks == 0 || got == 0 {
						t.Errorf("second %d: to %s %d acknowledgements, %d events: stuck", second, f.to, acks, got)
					}
				}
			}
			for _, f := range both {
				f.stop.Store(true)
			}
			writers.Wait()
			for _, f := range both { // the last answer, behind everything
				if err := f.send(pingreq); err != nil {
					t.Error(err)
				}
				f.mu.Lock()
				f.pings++
				f.mu.Unlock()
			}
			readers.Wait()
			lost := 0
			for i, f := range both {
				if f.err != nil {
					t.Fatal(f.err)
				}
				other := both[1-i]
				if got := f.pongs.Load(); got != f.pings {
					t.Errorf("%d of %d pings are answered", got, f.pings)
				}
				if len(f.open) != 0 || len(f.accepted)+f.refused != f.sent {
					t.Errorf("%d sent, %d accepted, %d refused, %d without an answer", f.sent, len(f.accepted), f.refused, len(f.open))
				}
				for k := 1; k < len(other.received); k++ {
					if other.received[k] <= other.received[k-1] {
						t.Fatalf("event %d arrives after %d", other.received[k], other.received[k-1])
					}
				}
				missing := len(f.accepted) + f.refused - len(other.received)
				if x.v == 5 && missing != f.refused { // 3.1.1 has no way to say that it was refused
					t.Errorf("%d accepted, %d arrived", len(f.accepted), len(other.received))
				}
				lost += missing
				t.Logf("to %s: %d sent, %d accepted, %d refused, %d arrived, %d pings answered", f.to, f.sent, len(f.accepted), f.refused, len(other.received), f.pongs.Load())
			}
			n.await(lost, "windrose_session_dropped_events_total")
			n.await(lost, "windrose_session_dropped_events_total", `reason="queue_full"`)
			n.await(0, "windrose_route_open_events")
			n.await(0, "windrose_session_queued_events")
		})
	}
}
