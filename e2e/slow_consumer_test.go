package e2e

import (
	bin "encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"time"
)

const slowConf = `windrose: v1
node: { name: n1, admin: "127.0.0.1:${ADMIN}", data: data, loops: 2 }
listeners: { mqtt: { mqtt: { bind: "127.0.0.1:${MQTT}", anonymous: true, max_output: 256KiB } } }
sessions: { overflow: %s, queue: 50, queue_bytes: 4MiB, max_inflight: 20 }
`

// numbered is a payload of that size whose first bytes are a number.
func numbered(i, size int) []byte {
	return append(bin.BigEndian.AppendUint64(nil, uint64(i)), make([]byte, size-8)...)
}

func number(payload []byte) int { return int(bin.BigEndian.Uint64(payload)) }

// pour publishes n events past a subscriber that reads each of them, at most ahead of it by window, and returns what
// the subscriber got, in order. With QoS 1 every event must be acknowledged as accepted.
func pour(t *testing.T, pub, sub *raw, topic string, n, size int, qos byte) {
	t.Helper()
	const window = 4 // within max_output: a quick reader never counts as slow
	sent, got := 0, 0
	for got < n {
		for ; sent < n && sent-got < window; sent++ {
			id := uint16(0)
			if qos > 0 {
				id = uint16(sent%60000 + 1)
			}
			pub.publish(topic, numbered(sent, size), id)
		}
		p := sub.expect(publishKind)
		_, payload, _, id := sub.message(p)
		if number(payload) != got {
			t.Fatalf("the quick subscriber got event %d, want %d", number(payload), got)
		}
		if id != 0 {
			sub.must(sub.send(appendPuback(nil, id)))
		}
		if qos > 0 {
			if reason, _ := pub.puback(uint16(got%60000 + 1)); reason != 0 {
				t.Fatalf("event %d: PUBACK %#x", got, reason)
			}
		}
		got++
	}
}

// drain reads what waits for a slow subscriber until nothing comes any more or the connection ends, acknowledging it.
// end is the packet that ended it, where there was one.
func drain(t *testing.T, c *raw) (got []int, end packet, open bool) {
	t.Helper()
	for {
		p, err := c.read(time.Second)
		var ne net.Error
		switch {
		case errors.As(err, &ne) && ne.Timeout():
			return got, packet{}, true
		case err != nil:
			return got, end, false
		case p.kind() == disconnectKind:
			end = p
			continue
		case p.kind() != publishKind:
			t.Fatalf("packet %#x", p.first)
		}
		_, payload, _, id := c.message(p)
		got = append(got, number(payload))
		if id != 0 {
			if err := c.send(appendPuback(nil, id)); err != nil {
				return got, end, false
			}
		}
	}
}

// TestSlowConsumer is "slow consumer": one subscriber stops reading while 200 MB go past it to another on the same topic.
// The other gets everything in order, the process stays small, the rule of the queue applies, and what the slow one
// lacks is exactly what the counters say.
func TestSlowConsumer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers; not in -short")
	}
	t.Parallel()
	const (
		size   = 50_000
		volume = 200_000_000 / size
		events = 1_000 // where the whole volume would show nothing more
		grow   = 256   // MiB, with the race detector, under which 50 MB that are kept cost 370
	)
	for _, rule := range []string{"drop_new", "drop_old", "disconnect"} {
		t.Run(rule, func(t *testing.T) {
			n := startNode(t, fmt.Sprintf(slowConf, rule))
			pub, quick := client(t, n.mqtt(), hello{id: "pub"}), client(t, n.mqtt(), hello{id: "quick"})
			quick.subscribe("s/#", 1)
			dropped := func(reason string) int {
				return n.metric("windrose_session_dropped_events_total", `reason="`+reason+`"`)
			}

			pour(t, pub, quick, "s/warm", 200, size, 0)
			before := n.rss("VmRSS")

			// QoS 0: whatever the rule of the queue, what finds no room is dropped and counted.
			slow0 := client(t, n.mqtt(), hello{id: "slow0", rcvbuf: 4096})
			slow0.subscribe("s/0/#", 0)
			count := volume
			if rule != "drop_new" {
				count = events
			}
			pour(t, pub, quick, "s/0/x", count, size, 0)
			got, _, alive := drain(t, slow0)
			n.await(count-len(got), "windrose_session_dropped_events_total", `reason="slow_consumer"`)
			if len(got) == count || !alive || !slices.IsSorted(got) {
				t.Errorf("the slow one got %d of %d events of QoS 0, connected: %v, in order: %v", len(got), count, alive, slices.IsSorted(got))
			}
			t.Logf("QoS 0: %d MB past it; %d delivered, %d dropped as slow_consumer", count*size/1e6, len(got), count-len(got))

			// QoS 1: the rule of the queue.
			slow1, _ := connect(t, n.mqtt(), hello{id: "slow1", rcvbuf: 4096, keep: true})
			slow1.subscribe("s/1/#", 1)
			count = volume
			if rule != "drop_old" {
				count = events
			}
			pour(t, pub, quick, "s/1/x", count, size, 1)
			lost := 0
			if err := until(patience, func() error {
				if lost = dropped("queue_full"); lost == 0 {
					return errors.New("nothing is counted as dropped")
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			got, end, alive := drain(t, slow1)
			if alive == (rule == "disconnect") {
				t.Errorf("the slow one is connected: %v", alive)
			}
			if !alive {
				if end.first != 0 && end.body[0] != quota {
					t.Errorf("DISCONNECT % x, want %#x", end.body, quota)
				}
				var present bool
				if slow1, present = connect(t, n.mqtt(), hello{id: "slow1", keep: true}); !present {
					t.Error("the session is gone")
				}
				more, _, _ := drain(t, slow1)
				got = append(got, more...)
				slices.Sort(got) // what was not acknowledged comes again, first
				got = slices.Compact(got)
			}
			if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
				t.Error("the slow one got events twice or out of order")
			}
			n.await(count-len(got), "windrose_session_dropped_events_total", `reason="queue_full"`)
			switch last := got[len(got)-1]; {
			case rule == "drop_old" && last != count-1:
				t.Errorf("drop_old: the last event that came is %d, want the newest, %d", last, count-1)
			case rule == "drop_new" && last != len(got)-1:
				t.Errorf("drop_new: %d events came, the last is %d: not the oldest", len(got), last)
			}
			dead := n.deadLetters("?limit=1000")
			if away := n.metric("windrose_session_dropped_letters_total"); rule == "drop_old" &&
				(len(dead) == 0 || len(dead)+away != count-len(got) || dead[0].Reason != "outbox full" || dead[0].Topic != "s/1/x") {
				t.Errorf("drop_old: %d dead letters and %d that gave way to newer ones, want one for each of the %d that made room", len(dead), away, count-len(got))
			}
			t.Logf("QoS 1: %d MB past it; %d delivered, %d counted as queue_full, connected: %v, DISCONNECT % x, %d dead letters listed",
				count*size/1e6, len(got), count-len(got), alive, end.body, len(dead))
			n.await(0, "windrose_session_queued_events")
			n.await(0, "windrose_session_queued_bytes")

			peak := n.rss("VmHWM")
			t.Logf("RSS %d MiB before, %d MiB at most", before>>10, peak>>10)
			if peak-before > grow<<10 {
				t.Errorf("the process grew by %d MiB, want at most %d", (peak-before)>>10, grow)
			}
		})
	}
}

// TestSlowConsumerAlone: where the slow subscriber is the only taker, its publisher is told, and MQTT 3.1.1 by its rule.
func TestSlowConsumerAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	t.Parallel()
	n := startNode(t, fmt.Sprintf(slowConf, "drop_new"))
	pub, slow := client(t, n.mqtt(), hello{id: "pub"}), client(t, n.mqtt(), hello{id: "slow", rcvbuf: 4096})
	slow.subscribe("s/#", 1)
	const events = 200
	refused := 0
	for i := range events {
		id := uint16(i + 1)
		pub.publish("s/x", numbered(i, 50_000), id)
		switch reason, _ := pub.puback(id); reason {
		case 0:
			if refused > 0 {
				t.Errorf("event %d is accepted after a refusal, though nobody reads", i)
			}
		case quota:
			refused++
		default:
			t.Fatalf("PUBACK %#x", reason)
		}
	}
	got, _, _ := drain(t, slow)
	if refused == 0 || len(got)+refused != events {
		t.Errorf("%d delivered, %d refused, want %d together", len(got), refused, events)
	}
	n.await(refused, "windrose_session_dropped_events_total", `reason="queue_full"`)
	n.await(refused, "windrose_session_answered_events_total", `outcome="throttled"`)
	t.Logf("%d events: %d delivered, %d refused with 0x97", events, len(got), refused)
}

// TestSlowConsumerLatency measures, it asserts nothing: the latency to a quick subscriber with and without a slow one
// beside it, in turns of one run. WINDROSE_MEASURE names a binary without the race detector.
func TestSlowConsumerLatency(t *testing.T) {
	program := os.Getenv("WINDROSE_MEASURE")
	if program == "" {
		t.Skip("a measurement: WINDROSE_MEASURE names the binary to measure")
	}
	const (
		rounds, events = 10, 1000
		size           = 2000
		pause          = time.Millisecond
	)
	for _, qos := range []byte{0, 1} {
		n := startNodeIn(t, t.TempDir(), program, fmt.Sprintf(slowConf, "drop_new"))
		pub, quick := client(t, n.mqtt(), hello{id: "pub"}), client(t, n.mqtt(), hello{id: "quick"})
		quick.subscribe("s/#", qos)
		turn := func() (out []time.Duration) {
			for i := range events {
				begin, id := time.Now(), uint16(0)
				if qos > 0 {
					id = uint16(i + 1)
				}
				pub.publish("s/x", numbered(i, size), id)
				_, _, _, mid := quick.message(quick.expect(publishKind))
				out = append(out, time.Since(begin))
				if qos > 0 {
					quick.must(quick.send(appendPuback(nil, mid)))
					pub.puback(id)
				}
				time.Sleep(pause - min(pause, time.Since(begin)))
			}
			return out
		}
		// The same burst goes before each turn; where there is a slow one it is full then.
		burst := func() {
			for i := range 1500 {
				id := uint16(0)
				if qos > 0 {
					id = uint16(i + 1)
				}
				pub.publish("s/x", numbered(i, size), id)
				_, _, _, mid := quick.message(quick.expect(publishKind))
				if qos > 0 {
					quick.must(quick.send(appendPuback(nil, mid)))
					pub.puback(id)
				}
			}
		}
		turn()
		var with, without []time.Duration
		for range rounds {
			burst()
			without = append(without, turn()...)
			slow := client(t, n.mqtt(), hello{id: "slow", rcvbuf: 4096})
			slow.subscribe("s/#", qos)
			burst()
			with = append(with, turn()...)
			slow.c.Close()
		}
		slices.Sort(with)
		slices.Sort(without)
		at := func(x []time.Duration, q float64) time.Duration {
			return x[int(q*float64(len(x)))].Round(time.Microsecond)
		}
		t.Logf("QoS %d, %d events each: without p50 %v p99 %v p99.9 %v; with p50 %v p99 %v p99.9 %v; dropped: slow_consumer %d, queue_full %d", qos, len(with),
			at(without, .5), at(without, .99), at(without, .999), at(with, .5), at(with, .99), at(with, .999),
			n.metric("windrose_session_dropped_events_total", `reason="slow_consumer"`), n.metric("windrose_session_dropped_events_total", `reason="queue_full"`))
	}
}
