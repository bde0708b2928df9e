package admin

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// fakeNode is a node with a bit of everything. Guarded by mu.
type fakeNode struct {
	mu       sync.Mutex
	totals   Totals
	checks   []Check
	empty    bool
	purged   int
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

func (f *fakeNode) Sources() []Source {
	if f.empty {
		return nil
	}
	return []Source{{Name: "alerts", Type: "mqtt", Pool: "archive", Filters: []string{"alerts/#"}, PendingBound: 16 << 20}}
}

func (f *fakeNode) letters() []DeadLetter {
	if f.empty {
		return nil
	}
	return []DeadLetter{
		{ID: 2, Time: time.Now().Add(-42 * time.Second), Pool: "archive", Topic: "site/berlin/pump-7/state", Reason: "unavailable", Text: "no member up for 30 s", Attempts: 6, Bytes: 212},
		{ID: 1, Time: time.Now().Add(-9 * time.Minute), Pool: "archive", Topic: "site/<script>alert(1)</script>", Reason: "timeout", Attempts: 4, Bytes: 90},
		{ID: 1, Time: time.Now().Add(-70 * time.Minute), Pool: "north", Topic: "site/hamburg/valve-2/state", Reason: "bad_payload", Text: "HTTP 422", Attempts: 1, Bytes: 1904},
	}
}

func (f *fakeNode) DeadLetters(ctx context.Context, pool, from string, yield func(*DeadLetter) bool) (string, error) {
	return steps(slices.DeleteFunc(f.letters(), func(d DeadLetter) bool { return pool != "" && d.Pool != pool }))(ctx, from, yield)
}

func (f *fakeNode) DeadLetter(pool string, id uint64) (*DeadLetterDetail, error) {
	for _, d := range f.letters() {
		if d.Pool == pool && d.ID == id {
			return &DeadLetterDetail{DeadLetter: d, Event: Event{Publisher: "pump-7", QoS: 1, Payload: NewPayload([]byte("21.5 °C"))}}, nil
		}
	}
	return nil, ErrNotFound
}

func (f *fakeNode) DeadLettersVersion(pool string) (string, error) {
	if pool != "archive" && pool != "north" {
		return "", ErrNotFound
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return "v" + strconv.Itoa(f.purged), nil
}

func (f *fakeNode) Replay(_ context.Context, _ string, ids []uint64) (int, error) {
	if len(ids) == 0 {
		return 1, errors.New("queue is full")
	}
	return len(ids), nil
}

func (f *fakeNode) Purge(_ string, ids []uint64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.purged++
	return max(len(ids), 2), nil
}

// fakeSessions is how many sessions the fake has; every fourth has no connection.
const fakeSessions = 1240

func (f *fakeNode) Sessions(_ context.Context, from string, yield func(*Session) bool) (string, error) {
	i, _ := strconv.Atoi(from)
	for end := min(i+128, fakeSessions); i < end; {
		s := fakeSession(i)
		i++
		if !yield(&s) {
			break
		}
	}
	if i >= fakeSessions || f.empty {
		return "", nil
	}
	return strconv.Itoa(i), nil
}

func fakeSession(i int) Session {
	s := Session{ID: "client/" + strconv.Itoa(i), User: "user-" + strconv.Itoa(i%10), Listener: "mqtt", Protocol: "mqtt", Since: time.Now().Add(-time.Hour), Queued: i % 7}
	if i%4 != 0 {
		s.Connected, s.Protocol, s.Address = true, "MQTT 5", "192.0.2.7:40000"
	}
	return s
}

func (f *fakeNode) Session(_ context.Context, id string) (*SessionDetail, error) {
	i, err := strconv.Atoi(strings.TrimPrefix(id, "client/"))
	if err != nil || i >= fakeSessions {
		return nil, ErrNotFound
	}
	return &SessionDetail{Session: fakeSession(i), Version: "c1"}, nil
}

func (f *fakeNode) Kick(ctx context.Context, id, match string, forget bool) (Kicked, string, error) {
	s, err := f.Session(ctx, id)
	if err != nil {
		return Kicked{}, "", err
	}
	if match != "" && match != s.Version {
		return Kicked{}, s.Version, nil
	}
	return Kicked{s.Connected, forget}, s.Version, nil
}

func (f *fakeNode) Subscriptions(ctx context.Context, session, from string, yield func(*Subscription) bool) (string, error) {
	return steps([]Subscription{{Session: "client/1", Filter: "site/#", QoS: 1}})(ctx, from, yield)
}

func (f *fakeNode) Retained(ctx context.Context, filter, from string, yield func(*Retained) bool) (string, error) {
	return steps([]Retained{{Topic: "site/a", Bytes: 5, Time: time.Now(), Publisher: "client/1"}})(ctx, from, yield)
}

func (f *fakeNode) RetainedEvent(topic string) (*RetainedDetail, error) {
	if topic != "site/a" {
		return nil, ErrNotFound
	}
	return &RetainedDetail{Retained: Retained{Topic: topic, Bytes: 5}, Event: Event{QoS: 1, Payload: NewPayload([]byte("hello"))}}, nil
}

func (f *fakeNode) setChecks(c ...Check) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.checks = c
}
