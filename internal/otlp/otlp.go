// Package otlp exports the decision paths of traced events as OpenTelemetry spans, by OTLP over HTTP in JSON. It exports
// events whose publisher sent a W3C trace context that says sampled, and no others: a trace is never begun here.
//
// It is a tap (package tap) with a filter of its own, so while it is off an event costs what it costs anyway: one atomic
// load. An event has one span, the child of its publisher's, and one span below it for each target; policies, routes and
// attempts are events of the spans.
//
// # Concurrency
//
// An Exporter belongs to the goroutine that calls Run. Its filter runs on the loops and reads the event alone.
package otlp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/tap"
)

// Spec is the section traces of the configuration. Immutable after it is read.
type Spec struct {
	OTLP    string            `yaml:"otlp" unit:"url" enum:"http|https" doc:"Where spans are posted by OTLP over HTTP, JSON: the URL of a collector, without /v1/traces. Empty: spans are not exported." example:"http://127.0.0.1:4318"`
	Headers map[string]string `yaml:"headers" doc:"Further headers of each request."`
	Secrets map[string]string `yaml:"secret_headers" unit:"secret" doc:"Further headers whose values are secrets, such as Authorization."`
	Queue   int               `yaml:"queue" default:"2048" min:"1" max:"100000" doc:"Events whose spans may wait for the collector; what does not fit is dropped and counted."`
	Every   time.Duration     `yaml:"every" default:"2s" min:"100ms" max:"1m" doc:"How long spans wait to be sent together."`
	Timeout time.Duration     `yaml:"timeout" default:"10s" min:"100ms" doc:"How long the collector may take for one request."`
}

const (
	batchMax  = 256             // events of one request
	attempts  = 3               // of one request, where the collector says that it is worth it
	pauseMax  = 5 * time.Second // between two of them
	answerMax = 64 << 10
	idle      = time.Second // how often an exporter that is off looks whether it is on
)

// Options are what an Exporter is made of. Immutable.
type Options struct {
	Hub     *tap.Hub
	Spec    func() Spec // the one in force; any goroutine
	Node    string
	Version string
	Logger  *slog.Logger
	Metrics *observe.Registry
}

// Exporter sends spans. Owned by the goroutine that calls Run.
type Exporter struct {
	o      Options
	client *http.Client
	queue  []tap.Record
	ids    idSource

	sent, dropped, failed *observe.Counter
	missed                uint64 // of the present tap, already counted
}

// New makes an exporter that does nothing before Run.
func New(o Options) *Exporter {
	const help = "Traced events whose spans were not exported, by reason."
	return &Exporter{
		o: o, client: &http.Client{Transport: &http.Transport{MaxConnsPerHost: 2, IdleConnTimeout: time.Minute}},
		sent:    o.Metrics.Counter("windrose_trace_sent_events_total", "Traced events whose spans the collector took."),
		dropped: o.Metrics.Counter("windrose_trace_dropped_events_total", help, "reason", "queue"),
		failed:  o.Metrics.Counter("windrose_trace_dropped_events_total", help, "reason", "collector"),
	}
}

// sampled is the filter of the tap. It does not allocate.
func sampled(ev *event.Event, _ int) (bool, error) {
	tc, ok := event.TraceOf(ev)
	return ok && tc.Sampled, nil
}

// Run exports until ctx is done; what waits then is sent once more.
func (x *Exporter) Run(ctx context.Context) error {
	defer x.client.CloseIdleConnections()
	for {
		s := x.o.Spec()
		if s.OTLP == "" {
			x.queue = nil
			if !sleep(ctx, idle) {
				return nil
			}
			continue
		}
		t, err := x.o.Hub.Listen(tap.Options{Where: sampled, Payload: true, Who: "traces"})
		if err != nil { // as many taps as may be: the next moment may have room
			x.o.Logger.Warn("spans are not exported", "error", err)
			if !sleep(ctx, 10*idle) {
				return nil
			}
			continue
		}
		err = x.follow(ctx, t, s)
		t.Close()
		if err != nil {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Timeout)
			x.flush(last, s)
			cancel()
			return nil //nolint:nilerr // the end was asked for
		}
	}
}

// follow reads a tap until it ends by itself or the configuration changes (nil), or ctx is done.
func (x *Exporter) follow(ctx context.Context, t *tap.Tap, s Spec) error {
	x.missed = 0
	due := time.Now().Add(s.Every)
	for {
		wait, cancel := context.WithDeadline(ctx, due)
		records, err := t.Next(wait)
		cancel()
		for i := range records {
			x.keep(&records[i], s)
		}
		if d := t.Count().Dropped; d > x.missed {
			x.dropped.Add(d - x.missed)
			x.missed = d
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return nil //nolint:nilerr // the tap's time is over: the next one follows
		}
		if len(x.queue) >= batchMax || time.Now().After(due) {
			x.flush(ctx, s)
			due = time.Now().Add(s.Every)
			if now := x.o.Spec(); now.OTLP != s.OTLP || now.Queue != s.Queue || now.Every != s.Every || now.Timeout != s.Timeout || !same(now.Headers, s.Headers) || !same(now.Secrets, s.Secrets) {
				return nil
			}
		}
	}
}

func same(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// keep queues a record that is complete. One that was shown too early comes again.
func (x *Exporter) keep(r *tap.Record, s Spec) {
	if !r.Complete {
		return
	}
	if len(x.queue) >= s.Queue {
		x.dropped.Inc()
		return
	}
	r.Payload, r.PayloadBase64 = nil, nil // only the headers were wanted
	x.queue = append(x.queue, *r)
}

// flush sends what waits. What the collector does not take is dropped and counted: events never wait for it.
func (x *Exporter) flush(ctx context.Context, s Spec) {
	for len(x.queue) > 0 && ctx.Err() == nil {
		n := min(len(x.queue), batchMax)
		body := x.document(x.queue[:n])
		if err := x.post(ctx, s, body); err != nil {
			x.failed.Add(uint64(n))
			x.o.Logger.Warn("the collector did not take spans", "events", n, "error", err)
		} else {
			x.sent.Add(uint64(n))
		}
		x.queue = append(x.queue[:0], x.queue[n:]...)
	}
}

// post sends one request, again where OTLP says that it may be taken later (OTLP, "Retryable Response Codes").
func (x *Exporter) post(ctx context.Context, s Spec, body []byte) error {
	target, err := url.JoinPath(s.OTLP, "v1", "traces")
	if err != nil {
		return errors.New("the URL is wrong")
	}
	pause := 200 * time.Millisecond
	for i := 1; ; i++ {
		again, after, err := x.try(ctx, s, target, body)
		if err == nil || !again || i == attempts {
			return err
		}
		if after > 0 {
			pause = after
		}
		if !sleep(ctx, min(pause, pauseMax)) {
			return err
		}
		pause *= 2
	}
}

func (x *Exporter) try(ctx context.Context, s Spec, target string, body []byte) (again bool, after time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return false, 0, errors.New("the request cannot be made")
	}
	for _, headers := range []map[string]string{s.Headers, s.Secrets} {
		for k, v := range headers {
			req.Header.Set(k, v)
		}
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := x.client.Do(req)
	if err != nil {
		if ue := (*url.Error)(nil); errors.As(err, &ue) { // without the URL: it may hold credentials
			err = ue.Err
		}
		return true, 0, err
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.CopyN(io.Discard, res.Body, answerMax) // so that the connection can be used again
	switch res.StatusCode {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		return false, 0, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if n, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && n > 0 {
			after = time.Duration(min(n, 60)) * time.Second
		}
		again = true
	}
	return again, after, fmt.Errorf("HTTP %d", res.StatusCode)
}

// sleep waits; false: ctx is done.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
