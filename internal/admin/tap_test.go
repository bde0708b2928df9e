package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/tap"
)

// lines is a log that can be read. Guarded by mu.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), text)
}

func tapServer(t *testing.T, spec tap.Spec, loopback Role) (*httptest.Server, *tap.Hub, *lines) {
	t.Helper()
	hub, err := tap.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	s := New(Options{Node: newFakeNode(), Tap: hub, Loopback: loopback, Logger: slog.New(slog.NewTextHandler(log, nil)),
		Explain: func(_ context.Context, q tap.Question) (tap.Record, error) {
			if q.Topic == "" {
				return tap.Record{}, errors.New("topic is empty")
			}
			return tap.Record{Topic: q.Topic, DryRun: true, Complete: true}, nil
		}})
	h := httptest.NewServer(s.Handler())
	t.Cleanup(h.Close)
	t.Cleanup(hub.CloseAll)
	return h, hub, log
}

// message is one of a stream.
type message struct{ kind, data string }

func nextMessage(t *testing.T, r *bufio.Reader) (m message) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("after %+v: %v", m, err)
		}
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "" && m.kind != "":
			return m
		case strings.HasPrefix(line, "event: "):
			m.kind = line[len("event: "):]
		case strings.HasPrefix(line, "data: "):
			m.data = line[len("data: "):]
		}
	}
}

func getTap(t *testing.T, base string, q url.Values) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/v1/tap?"+q.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func TestTapStream(t *testing.T) {
	srv, hub, log := tapServer(t, tap.Spec{Taps: 1}, Viewer)
	res := getTap(t, srv.URL, url.Values{"where": {`event.topic.startsWith("a/")`}, "max": {"1"}, "for": {"20s"}})
	defer func() { _ = res.Body.Close() }()
	if ct := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || ct != "text/event-stream" {
		t.Fatalf("%d %s", res.StatusCode, ct)
	}
	r := bufio.NewReader(res.Body)
	if m := nextMessage(t, r); m.kind != "begin" || !strings.Contains(m.data, "until") {
		t.Fatalf("%+v", m)
	}
	second := getTap(t, srv.URL, nil)
	defer func() { _ = second.Body.Close() }()
	if second.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a second tap: %d", second.StatusCode)
	}
	for _, topic := range []string{"b/1", "a/1"} {
		ev := &event.Event{Topic: []byte(topic), From: &event.Origin{Client: "c"}, Time: time.Now().UnixNano()}
		hub.Begin(ev, 1)
		hub.Step(ev.Trace, tap.Step{Step: tap.StepAck, Outcome: "accepted"}, 0)
	}
	m := nextMessage(t, r)
	var rec tap.Record
	if err := json.Unmarshal([]byte(m.data), &rec); err != nil || m.kind != "record" || rec.Topic != "a/1" || !rec.Complete {
		t.Fatalf("%+v: %v", m, err)
	}
	if m = nextMessage(t, r); m.kind != "end" || !strings.Contains(m.data, `"records":1`) {
		t.Fatalf("%+v", m)
	}
	if _, err := io.ReadAll(r); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"a tap is opened", "by=loopback", "startsWith", "a tap is closed", "events=1"} {
		if !log.has(want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if n := hub.Stats().Taps; n != 0 {
		t.Errorf("%d taps are open", n)
	}
}

func TestTapRefusals(t *testing.T) {
	srv, hub, _ := tapServer(t, tap.Spec{Taps: 1}, Viewer)
	for query, want := range map[string]struct {
		code int
		text string
	}{
		"where=evnt.topic":                 {http.StatusUnprocessableEntity, "did you mean"},
		"for=soon":                         {http.StatusUnprocessableEntity, "not a time"},
		"topic=a%2F%23%2Fb":                {http.StatusUnprocessableEntity, "not a topic filter"},
		"payload=true":                     {http.StatusForbidden, "operator"},
		"max=-1":                           {http.StatusUnprocessableEntity, "max"},
		"where=event.text.startsWith('s')": {http.StatusForbidden, "operator"},
		"where=event.qos > 0 || event.json.password == 'a'":      {http.StatusForbidden, "operator"},
		"where=event.headers.exists(k, event.headers[k] == 'x')": {http.StatusForbidden, "operator"},
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		res := getTap(t, srv.URL, q)
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != want.code || !strings.Contains(string(b), want.text) {
			t.Errorf("%s: %d %s", query, res.StatusCode, b)
		}
	}
	if n := hub.Stats().Opened; n != 0 {
		t.Errorf("%d taps were opened", n)
	}
}

func TestTapEndsWhenItsReaderGoes(t *testing.T) {
	srv, hub, _ := tapServer(t, tap.Spec{Taps: 1}, Operator)
	res := getTap(t, srv.URL, url.Values{"payload": {"true"}})
	nextMessage(t, bufio.NewReader(res.Body))
	_ = res.Body.Close()
	for end := time.Now().Add(20 * time.Second); hub.Stats().Taps > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the tap is still open")
		}
	}
}

func TestExplainRequest(t *testing.T) {
	srv, _, _ := tapServer(t, tap.Spec{Taps: 1}, Viewer)
	for body, want := range map[string]int{`{"topic":"a"}`: http.StatusOK, `{"topic":""}`: http.StatusUnprocessableEntity, `{"topic":"a","qos":3}`: http.StatusUnprocessableEntity} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/api/v1/explain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: %d %s", body, res.StatusCode, b)
		}
	}
}

func TestWhereFilterAllocatesNothing(t *testing.T) {
	f, _, err := whereFilter(`event.topic.endsWith("/7") && event.qos > 0`, 2)
	if err != nil {
		t.Fatal(err)
	}
	ev := &event.Event{Topic: []byte("bench/1/8"), QoS: 1, From: &event.Origin{Client: "c"}}
	if n := testing.AllocsPerRun(1000, func() {
		if ok, err := f(ev, 1); ok || err != nil {
			t.Fatal(ok, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
