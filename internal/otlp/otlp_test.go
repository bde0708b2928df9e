package otlp

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/tap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	parent  = "00-" + traceID + "-b7ad6b7169203331-01"
)

// collector is an OTLP receiver that answers with code. Guarded by mu.
type collector struct {
	*httptest.Server
	code atomic.Int32

	mu       sync.Mutex
	requests []request
	headers  []http.Header
}

func newCollector(t *testing.T) *collector {
	c := &collector{}
	c.code.Store(http.StatusOK)
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		var req request
		d := json.NewDecoder(strings.NewReader(string(b)))
		d.DisallowUnknownFields()
		if err := d.Decode(&req); err != nil || r.URL.Path != "/v1/traces" || r.Method != http.MethodPost {
			t.Errorf("%s %s: %v\n%s", r.Method, r.URL.Path, err, b)
		}
		c.mu.Lock()
		c.requests, c.headers = append(c.requests, req), append(c.headers, r.Header)
		c.mu.Unlock()
		w.WriteHeader(int(c.code.Load()))
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) spans() (out []span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.requests {
		out = append(out, r.ResourceSpans[0].ScopeSpans[0].Spans...)
	}
	return out
}

func (c *collector) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.requests)
}

// exporter runs one for the length of a test.
func exporter(t *testing.T, s Spec) (*tap.Hub, *observe.Registry, *Exporter) {
	t.Helper()
	hub, err := tap.New(tap.Spec{Taps: 8, For: time.Minute, Rate: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if s.Timeout == 0 {
		s.Timeout = 10 * time.Second
	}
	if s.Every == 0 {
		s.Every = 100 * time.Millisecond
	}
	m := observe.NewRegistry()
	x := New(Options{Hub: hub, Spec: func() Spec { return s }, Node: "n1", Version: "v", Logger: observe.Discard(), Metrics: m})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { _ = x.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	if s.OTLP != "" {
		until(t, func() bool { return hub.Stats().Taps == 1 })
	}
	return hub, m, x
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not happen")
		}
	}
}

// walk lets an event take its way.
func walk(hub *tap.Hub, headers ...string) {
	ev := event.Event{Topic: []byte("site/a"), Payload: []byte("hunter2"), From: &event.Origin{Client: "pump", Listener: "in", Protocol: "mqtt"}}
	for i := 0; i < len(headers); i += 2 {
		ev.Meta, _ = event.AppendHeader(ev.Meta, headers[i], headers[i+1])
	}
	hub.Begin(&ev, 0)
	hub.Step(ev.Trace, tap.Step{Step: tap.StepPolicy, Name: "acl", Verdict: "pass"}, 0)
	hub.Step(ev.Trace, tap.Step{Step: tap.StepTarget, Kind: tap.KindPool, Name: "hooks", Verdict: "queued"}, 1)
	hub.Step(ev.Trace, tap.Step{Step: tap.StepAttempt, Name: "hooks", Member: "http://a", Attempt: 1, Outcome: "unavailable"}, 0)
	hub.Step(ev.Trace, tap.Step{Step: tap.StepAck, Outcome: "unavailable"}, 0)
	hub.End(ev.Trace, 1)
}

func TestSpansOfTheWalk(t *testing.T) {
	c := newCollector(t)
	hub, m, _ := exporter(t, Spec{OTLP: c.URL, Queue: 10, Secrets: map[string]string{"Authorization": "Bearer x"}})
	walk(hub)                                                                            // no trace
	walk(hub, event.HeaderTraceparent, strings.TrimSuffix(parent, "1")+"0")              // not sampled
	walk(hub, event.HeaderTraceparent, parent+"0")                                       // not well formed
	walk(hub, event.HeaderTraceparent, parent, event.HeaderTracestate, "a=b", "x", "yz") // this one
	until(t, func() bool { return c.count() > 0 })
	spans := c.spans()
	if len(spans) != 2 {
		t.Fatalf("%d spans: %+v", len(spans), spans)
	}
	root, leg := spans[0], spans[1]
	if root.TraceID != traceID || root.ParentID != "b7ad6b7169203331" || root.TraceState != "a=b" || root.Kind != kindConsumer || root.Status == nil || root.Start > root.End {
		t.Errorf("root: %+v", root)
	}
	if leg.TraceID != traceID || leg.ParentID != root.SpanID || leg.SpanID == root.SpanID || len(leg.SpanID) != 16 || leg.Kind != kindProducer || leg.Status == nil || len(leg.Events) != 2 {
		t.Errorf("leg: %+v", leg)
	}
	if b, _ := json.Marshal(spans); strings.Contains(string(b), "hunter2") || strings.Contains(string(b), "yz") {
		t.Errorf("payload or headers are exported: %s", b)
	}
	if c.headers[0].Get("Authorization") != "Bearer x" || c.headers[0].Get("Content-Type") != "application/json" {
		t.Errorf("headers: %v", c.headers[0])
	}
	until(t, func() bool { return m.Counter("windrose_trace_sent_events_total", "").Value() == 1 })
}

func TestCollectorThatRefusesCostsItsSpansOnly(t *testing.T) {
	c := newCollector(t)
	c.code.Store(http.StatusBadRequest)
	hub, _, x := exporter(t, Spec{OTLP: c.URL, Queue: 10})
	walk(hub, event.HeaderTraceparent, parent)
	until(t, func() bool { return x.failed.Value() == 1 })
	c.code.Store(http.StatusServiceUnavailable) // this is tried again
	before := c.count()
	walk(hub, event.HeaderTraceparent, parent)
	until(t, func() bool { return c.count() > before })
	c.code.Store(http.StatusOK)
	until(t, func() bool { return x.sent.Value() == 1 })
}

func TestQueueIsBounded(t *testing.T) {
	c := newCollector(t)
	hub, _, x := exporter(t, Spec{OTLP: c.URL, Queue: 3, Every: time.Minute})
	for range 10 {
		walk(hub, event.HeaderTraceparent, parent)
	}
	until(t, func() bool { return x.dropped.Value() == 7 })
}

func TestOffIsOff(t *testing.T) {
	hub, _, _ := exporter(t, Spec{})
	ev := event.Event{Topic: []byte("a"), From: &event.Origin{}}
	ev.Meta, _ = event.AppendHeader(nil, event.HeaderTraceparent, parent)
	if n := testing.AllocsPerRun(1000, func() { hub.Begin(&ev, 0); hub.Step(ev.Trace, tap.Step{}, 0) }); n != 0 || hub.Stats().Taps != 0 || ev.Trace != 0 {
		t.Errorf("%v allocations, %d taps", n, hub.Stats().Taps)
	}
	if n := testing.AllocsPerRun(1000, func() { _, _ = sampled(&ev, 0) }); n != 0 {
		t.Errorf("the filter allocates %v times", n)
	}
}
