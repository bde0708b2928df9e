package admin

import (
	"sync"
	"time"
)

// fakeNode is a node with a bit of everything. Guarded by mu.
type fakeNode struct {
	mu       sync.Mutex
	totals   Totals
	checks   []Check
	empty    bool
	blocking chan struct{} // Routes waits for it, when set
}

func newFakeNode() *fakeNode {
	return &fakeNode{
		totals: Totals{
			Received: 1_204_332, Delivered: 3_481_020, Connections: 1183, Sessions: 1240, Offline: 57, Subscriptions: 5312, Retained: 214, Queued: 930,
			DeadLetters: 3,
			Refusals:    []Count{{"bad_topic", 12}, {"unauthorized", 431}, {"throttled", 88}, {"malformed_packet", 3}, {"too_large", 0}},
			Drops:       []Count{{"outbox_full", 17}, {"expired", 4}},
		},
		checks: []Check{
			{Name: "config", OK: true, Text: "loaded"},
			{Name: "listener/mqtt", OK: true, Text: "127.0.0.1:1883"},
			{Name: "pool/archive", Optional: true, Text: "1 of 2 members up"},
		},
	}
}

func (f *fakeNode) Info() Info {
	return Info{
		Name: "edge-berlin-1", Mode: "dev", Authority: "defaults", ConfigHash: "9f3c1a07", Started: time.Now().Add(-3*time.Hour - 12*time.Minute), Loops: 2,
		Durability: "memory", Notes: []string{"Anonymous clients are admitted on loopback.", "Persistent sessions live in memory: an acknowledgement means received."},
		Try: []string{"windrose sub -v -t 'site/#'", "windrose pub -q 1 -t site/a -m hello"},
	}
}

func (f *fakeNode) Listeners() []Listener {
	if f.empty {
		return nil
	}
	return []Listener{
		{Name: "mqtt", Protocol: "mqtt", Address: "127.0.0.1:1883", State: "listening", Anonymous: true, Connections: 1100, Accepted: 20412, Refused: 12},
		{Name: "devices", Protocol: "mqtt", Address: "[::]:8883", State: "listening", TLS: true, Connections: 83, Accepted: 912, Refused: 419},
		{Name: "old", Protocol: "mqtt", Address: "10.0.0.7:1884", State: "failed", Error: "address already in use"},
	}
}

func (f *fakeNode) Pools() []Pool {
	if f.empty {
		return nil
	}
	return []Pool{
		{Name: "north", Type: "webhook", State: "up", Members: []Member{{Name: "a", Address: "https://events.example.com/in", State: "up", InFlight: 8, Since: time.Now().Add(-time.Hour)}}, Queued: 30, QueueBound: 10000, QueuedBytes: 91_233, Overflow: "reject", InFlight: 8, Delivered: 812_000, Retried: 31, DeadLetters: 1},
		{Name: "archive", Type: "mqtt", State: "degraded", Members: []Member{
			{Name: "b1", Address: "mqtts://b1.example.com:8883", State: "up", Since: time.Now().Add(-26 * time.Hour)},
			{Name: "b2", Address: "mqtts://b2.example.com:8883", State: "connecting", Error: "dial tcp 192.0.2.7:8883: connection refused", Since: time.Now().Add(-40 * time.Second)},
		}, Queued: 900, QueueBound: 1000, QueuedBytes: 4_312_001, Overflow: "drop_old", InFlight: 64, Delivered: 391_002, Retried: 2210, Failed: 4, DeadLetters: 2},
	}
}

func (f *fakeNode) Routes() []Route {
	if f.blocking != nil {
		<-f.blocking
	}
	if f.empty {
		return nil
	}
	return []Route{
		{Name: "north", Topic: "site/{site}/+/state", To: []string{"north"}, Ack: "upstream", Matched: 812_044},
		{Name: "archive", Topic: "site/#", To: []string{"archive"}, Ack: "received", Matched: 1_201_112},
	}
}

func (f *fakeNode) Policies() []Policy {
	if f.empty {
		return nil
	}
	return []Policy{{Name: "acl", Type: "acl", Passed: 1_203_901, Rejected: 431}, {Name: "limit", Type: "rate", Passed: 1_203_813, Rejected: 88}}
}

func (f *fakeNode) Totals() Totals {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.empty {
		return Totals{}
	}
	return f.totals
}

func (f *fakeNode) Checks() []Check {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.checks
}

func (f *fakeNode) DeadLetters(pool string, limit int) []DeadLetter {
	var out []DeadLetter
	for _, d := range []DeadLetter{
		{Time: time.Now().Add(-42 * time.Second), Pool: "archive", Topic: "site/berlin/pump-7/state", Reason: "unavailable", Text: "no member up for 30 s", Attempts: 6, Bytes: 212},
		{Time: time.Now().Add(-9 * time.Minute), Pool: "archive", Topic: "site/<script>alert(1)</script>", Reason: "timeout", Attempts: 4, Bytes: 90},
		{Time: time.Now().Add(-70 * time.Minute), Pool: "north", Topic: "site/hamburg/valve-2/state", Reason: "bad_payload", Text: "HTTP 422", Attempts: 1, Bytes: 1904},
	} {
		if !f.empty && (pool == "" || pool == d.Pool) && len(out) < limit {
			out = append(out, d)
		}
	}
	return out
}

func (f *fakeNode) setChecks(c ...Check) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.checks = c
}
