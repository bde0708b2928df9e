package e2e

import (
	"fmt"
	"testing"
	"time"
)

const (
	refused400 = 0x99 // payload format invalid: what a webhook's 400 says
	refusedOut = 0x83 // implementation specific error: unavailable, or no answer in time
	quota      = 0x97
)

// TestAckAfterUpstream is "acks are promises": a webhook answers 500 three times, then 200. The publisher gets exactly
// one PUBACK, after the 200 was written.
func TestAckAfterUpstream(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	t.Parallel()
	for _, v := range []byte{4, 5} {
		h := newHook(t, func(i int) int {
			if i < 3 {
				return 500
			}
			return 200
		})
		n := startNode(t, `windrose: v1
node: { name: n1, admin: "127.0.0.1:${ADMIN}", data: data }
listeners: { mqtt: { mqtt: { bind: "127.0.0.1:${MQTT}", anonymous: true } } }
pools: { hooks: { webhook: { urls: ["`+h.URL+`/in"] }, backoff: 50ms..100ms } }
routes: [ { name: all, topic: "site/#", to: hooks, ack: upstream } ]
`)
		c := client(t, n.mqtt(), hello{id: "pub", v: v})
		sent := time.Now()
		c.publish("site/a", []byte("x"), 7)
		reason, _ := c.puback(7)
		at := time.Now()
		posts := h.posts()
		if len(posts) != 4 || reason != 0 {
			t.Fatalf("MQTT %d: PUBACK %#x after %d posts %v, want 0 after 4", v, reason, len(posts), posts)
		}
		if last := posts[3]; last.status != 200 || at.Before(last.at) {
			t.Errorf("MQTT %d: acknowledged at %v, the 200 was written at %v", v, at, last.at)
		}
		ids := h.byID(t)
		if len(ids) != 1 {
			t.Errorf("the attempts have different ids: %v", ids)
		}
		c.silent(settle) // once
		c.ping()
		t.Logf("MQTT %d: attempts after %v, PUBACK after %v", v, since(sent, posts), at.Sub(sent).Round(time.Millisecond))
		n.await(3, "windrose_pool_retried_attempts_total", `pool="hooks"`)
		n.await(1, "windrose_session_answered_events_total", `outcome="accepted"`)
		n.await(0, "windrose_route_open_events")
		if got := len(h.posts()); got != 4 {
			t.Errorf("%d posts in the end, want 4", got)
		}
	}
}

func since(t0 time.Time, ps []post) (out []string) {
	for _, p := range ps {
		out = append(out, fmt.Sprintf("%v=%d", p.at.Sub(t0).Round(time.Millisecond), p.status))
	}
	return out
}

// TestAckPastDeadline: a webhook is down past the deadline. MQTT 5 is told so with a reason string, 3.1.1 loses its
// connection without an acknowledgement, counters tell, and what was refused is not delivered when the webhook is back.
func TestAckPastDeadline(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	t.Parallel()
	n := startNode(t, `windrose: v1
node: { name: n1, admin: "127.0.0.1:${ADMIN}", data: data, deadline: 2s }
listeners: { mqtt: { mqtt: { bind: "127.0.0.1:${MQTT}", anonymous: true } } }
pools: { hooks: { webhook: { urls: ["http://127.0.0.1:${HOOK}/in"] }, backoff: 50ms..200ms, reconnect: 50ms..200ms } }
routes: [ { name: all, topic: "site/#", to: hooks, ack: upstream } ]
`)
	c5, c4 := client(t, n.mqtt(), hello{id: "five"}), client(t, n.mqtt(), hello{id: "four", v: 4})
	t0 := time.Now()
	c5.publish("site/a", []byte("five"), 9)
	c4.publish("site/a", []byte("four"), 9)
	c5.ping() // answered while the acknowledgement is held
	reason, text := c5.puback(9)
	took := time.Since(t0)
	if reason != refusedOut || text == "" {
		t.Errorf("MQTT 5: reason %#x %q, want %#x and a text", reason, text, refusedOut)
	}
	if took < 1900*time.Millisecond {
		t.Errorf("refused after %v, before the deadline of 2 s", took)
	}
	for _, p := range c4.ended() {
		if p.kind() == pubackKind {
			t.Errorf("MQTT 3.1.1 was acknowledged: % x", p.body)
		}
	}
	t.Logf("MQTT 5: %#x %q after %v; 3.1.1 closed after %v", reason, text, took.Round(time.Millisecond), time.Since(t0).Round(time.Millisecond))
	n.await(2, "windrose_pool_refused_events_total", `pool="hooks"`)
	if got := n.metric("windrose_session_answered_events_total", `outcome="accepted"`); got != 0 {
		t.Errorf("%d events count as accepted", got)
	}
	n.await(2, "windrose_session_answered_events_total")
	if dead := n.deadLetters(""); len(dead) != 0 {
		t.Errorf("the publishers were told, yet there are dead letters: %v", dead)
	}

	// The webhook comes back: the connection that stayed publishes again, and only that arrives.
	s, err := newSink(n.ports["HOOK"], []answer{{status: 200}})
	if err != nil {
		t.Fatal(err)
	}
	n.w.sinks["hook"] = s
	c5.publish("site/a", []byte("again"), 10)
	if reason, text := c5.puback(10); reason != 0 {
		t.Errorf("PUBACK %#x %q once the webhook is back", reason, text)
	}
	c5.silent(settle)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.got) != 1 {
		t.Errorf("the webhook got %d requests, want the one that was accepted:\n%v", len(s.got), s.got)
	}
}
