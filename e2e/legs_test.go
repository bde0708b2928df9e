package e2e

import (
	"fmt"
	"testing"
	"time"
)

func always(status int) func(int) int { return func(int) int { return status } }

const legsConf = `windrose: v1
node: { name: n1, admin: "127.0.0.1:${ADMIN}", data: data, deadline: 10s }
listeners:
  mqtt: { mqtt: { bind: "127.0.0.1:${MQTT}", anonymous: true } }
  drop: { mqtt: { bind: "127.0.0.1:${DROP}", anonymous: true, on_reject: disconnect } }
  mute: { mqtt: { bind: "127.0.0.1:${MUTE}", anonymous: true, on_reject: silent } }
pools:
  one: { webhook: { urls: ["%s/in"] }, attempts: 3, backoff: 20ms..50ms }
  two: { webhook: { urls: ["%s/in"] }, attempts: 3, backoff: 20ms..50ms }
routes:
  - { name: one, topic: "site/#", to: one, ack: upstream }
  - { name: two, topic: "site/#", to: two, ack: upstream }
`

// TestLegs is "legs": one webhook accepts, the other refuses, for good (400) or again and again (500). The publisher sees
// acceptance, the other leg is tried as configured and becomes a dead letter with its reason, and the first gets each
// event once.
func TestLegs(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers; not in -short")
	}
	t.Parallel()
	const events = 20
	for _, x := range []struct {
		status, attempts int
		reason           string
	}{{400, 1, "refused"}, {500, 3, "attempts"}} {
		good, bad := newHook(t, always(200)), newHook(t, always(x.status))
		n := startNode(t, fmt.Sprintf(legsConf, good.URL, bad.URL))
		for v := byte(4); v <= 5; v++ {
			c := client(t, n.mqtt(), hello{id: "pub", v: v})
			for i := range uint16(events / 2) {
				c.publish(fmt.Sprintf("site/%d/%d", v, i), fmt.Appendf(nil, "%d-%d", v, i), i+1)
				if reason, text := c.puback(i + 1); reason != 0 {
					t.Errorf("%d: PUBACK %#x %q, want acceptance", x.status, reason, text)
				}
			}
			c.disconnect()
		}
		n.await(events, "windrose_pool_dead_letters", `pool="two"`)
		dead := n.deadLetters("?pool=two")
		if len(dead) != events {
			t.Errorf("%d: %d dead letters, want %d", x.status, len(dead), events)
		}
		for _, d := range dead {
			if d.Attempts != x.attempts || d.Reason != x.reason || d.Text != fmt.Sprintf("status %d", x.status) {
				t.Errorf("%d: dead letter %+v, want %q after %d attempts", x.status, d, x.reason, x.attempts)
			}
		}
		if other := n.deadLetters("?pool=one"); len(other) != 0 {
			t.Errorf("dead letters of the pool that accepts: %v", other)
		}
		checkCounts(t, good, events, 1)
		checkCounts(t, bad, events, x.attempts)
		n.await(events*(x.attempts-1), "windrose_pool_retried_attempts_total", `pool="two"`)
		n.await(0, "windrose_route_open_events")
		if len(dead) > 0 {
			t.Logf("%d: %d events accepted once each; the other leg: %+v", x.status, events, dead[0])
		}
	}
}

// checkCounts checks that a hook got so many events, each so many times.
func checkCounts(t *testing.T, h *hook, events, times int) {
	t.Helper()
	ids := h.byID(t)
	if len(ids) != events {
		t.Errorf("%d events arrived, want %d", len(ids), events)
	}
	for id, n := range ids {
		if n != times {
			t.Errorf("event %s was posted %d times, want %d", id, n, times)
		}
	}
}

// TestAllLegsRefuse: nobody accepts, so the publisher sees the first refusal: MQTT 5 its code, 3.1.1 a closed
// connection, whatever its listener does with what policies refuse. What is refused is no dead letter.
func TestAllLegsRefuse(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers; not in -short")
	}
	t.Parallel()
	for _, x := range []struct {
		one, two int
		reason   byte
	}{{400, 400, refused400}, {400, 500, refused400}, {500, 500, refusedOut}} {
		one, two := newHook(t, always(x.one)), newHook(t, always(x.two))
		n := startNode(t, fmt.Sprintf(legsConf, one.URL, two.URL))
		c := client(t, n.mqtt(), hello{id: "five"})
		c.publish("site/a", []byte("x"), 1)
		reason, text := c.puback(1)
		if reason != x.reason || text == "" {
			t.Errorf("%d and %d: PUBACK %#x %q, want %#x and a text", x.one, x.two, reason, text, x.reason)
		}
		t.Logf("%d and %d: MQTT 5 sees %#x %q", x.one, x.two, reason, text)
		c.ping()
		events := 1
		// MQTT 3.1.1 has no refusal, and on_reject is for policies: whatever the listener says there, nobody is told success
		// for what nobody has. The connection ends and the client sends it again.
		for _, port := range []string{"MQTT", "DROP", "MUTE"} {
			c := client(t, n.ports[port], hello{id: "four" + port, v: 4})
			c.publish("site/a", []byte("x"), 1)
			events++
			if before := c.ended(); len(before) != 0 {
				t.Errorf("%s: %d packets before the end", port, len(before))
			}
		}
		n.await(events, "windrose_session_answered_events_total")
		n.await(0, "windrose_session_answered_events_total", `outcome="accepted"`)
		n.await(0, "windrose_pool_undecided_events")
		time.Sleep(settle)
		if dead := n.deadLetters(""); len(dead) != 0 {
			t.Errorf("%d and %d: dead letters although every publisher was refused: %+v", x.one, x.two, dead)
		}
	}
}
