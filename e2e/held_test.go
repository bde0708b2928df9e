package e2e

import (
	"fmt"
	"testing"
	"time"
)

const heldConf = `windrose: v1
node: { name: n1, admin: "127.0.0.1:${ADMIN}", data: data, loops: 2 }
listeners: { mqtt: { mqtt: { bind: "127.0.0.1:${MQTT}", anonymous: true } } }
limits: { per_client: { events: 50/s, burst: 10 } }
`

// TestHeldPublishing: above its limit a client's publishing is held, and nothing else: pings and subscriptions are
// answered meanwhile, nothing is lost, the order is kept. A client that says goodbye right after its burst still has
// everything delivered.
func TestHeldPublishing(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers; not in -short")
	}
	t.Parallel()
	const events = 200 // at 50/s: 4 seconds
	for _, x := range []struct {
		v   byte
		bye bool
	}{{4, false}, {5, false}, {4, true}, {5, true}} {
		t.Run(fmt.Sprintf("MQTT %d bye %v", x.v, x.bye), func(t *testing.T) {
			t.Parallel()
			n := startNode(t, heldConf)
			sub := client(t, n.mqtt(), hello{id: "sub"})
			sub.subscribe("h/#", 1)
			pub := client(t, n.mqtt(), hello{id: "pub", v: x.v})
			var burst []byte
			for i := range events {
				id := uint16(0) // every other one with QoS 0
				if i%2 == 1 {
					id = uint16(i)
				}
				burst = appendPublish(burst, x.v, "h/x", numbered(i, 20), id)
			}
			begin := time.Now()
			if x.bye {
				pub.must(pub.send(append(burst, goodbye...)))
				pub.c.Close()
			} else {
				pub.must(pub.send(append(burst, pingreq...)))
				acks, pongs := 0, 0
				for acks < events/2 || pongs < 3 {
					p, err := pub.read(patience)
					if err != nil {
						t.Fatal(err)
					}
					switch p.kind() {
					case pubackKind:
						id, reason, _ := acked(p)
						if int(id) != acks*2+1 || reason != 0 {
							t.Fatalf("PUBACK of %d with %#x, want %d", id, reason, acks*2+1)
						}
						acks++
					case pingrespKind:
						if pongs++; pongs == 1 {
							took := time.Since(begin)
							t.Logf("the ping behind %d publishes is answered after %v, with %d PUBACKs before it", events, took.Round(time.Millisecond), acks)
							if acks > 25 || took > time.Second { // 10 at once, then 50/s
								t.Errorf("the ping waited %v and for %d acknowledgements", took, acks)
							}
						}
						if pongs < 3 {
							pub.must(pub.send(pingreq))
						}
					default:
						t.Fatalf("packet %#x", p.first)
					}
				}
			}
			last := [2]int{-1, -1} // by QoS
			for range events {
				p := sub.expect(publishKind)
				_, payload, qos, id := sub.message(p)
				i := number(payload)
				if i != last[qos]+2 && last[qos] >= 0 || i%2 != int(qos) {
					t.Fatalf("QoS %d: event %d after %d", qos, i, last[qos])
				}
				last[qos] = i
				if qos > 0 {
					sub.must(sub.send(appendPuback(nil, id)))
				}
			}
			took := time.Since(begin)
			t.Logf("%d events after %v", events, took.Round(time.Millisecond))
			if took < (events-10-1)*time.Second/50 {
				t.Errorf("%d events in %v: the limit of 50/s does not hold", events, took)
			}
			sub.silent(settle)
			n.await(0, "windrose_session_dropped_events_total")
			if n.metric("windrose_session_held_events_total") == 0 {
				t.Error("nothing counts as held")
			}
			if x.bye {
				n.await(1, "windrose_session_online_sessions")
				n.await(1, "windrose_mqtt_ended_connections_total", `reason="client"`)
			}
		})
	}
}

// TestHeldLost: a client whose connection breaks while its publishes are held loses them, and each counts.
func TestHeldLost(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	t.Parallel()
	n := startNode(t, heldConf)
	pub := client(t, n.mqtt(), hello{id: "pub"})
	const events = 100
	var burst []byte
	for i := range events {
		burst = appendPublish(burst, 5, "h/x", numbered(i, 20), 0)
	}
	pub.must(pub.send(append(burst, pingreq...)))
	pub.expect(pingrespKind)
	pub.c.Close()
	if err := until(patience, func() error {
		received, dropped := n.metric("windrose_session_received_events_total"), n.metric("windrose_session_dropped_events_total", `reason="held"`)
		if received+dropped != events || dropped == 0 {
			return fmt.Errorf("%d received, %d dropped, want %d together", received, dropped, events)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
