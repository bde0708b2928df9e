package webhook

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/windrose-edc/windrose/internal/clienttls"
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/pool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "s3cr3t"

func kept(t *testing.T, payload string) *event.Kept {
	t.Helper()
	m, _ := event.AppendMeta(nil, event.MetaContentType, "application/json")
	m, _ = event.AppendHeader(m, "batch", "7")
	e := event.Event{
		Topic: []byte("site/a b"), Payload: []byte(payload), Meta: m, QoS: 1, Time: time.Now().UnixNano(),
		From: &event.Origin{Client: "pump", Listener: "in"},
	}
	return e.Keep()
}

func dial(t *testing.T, s Spec, url string) pool.Link {
	t.Helper()
	d, err := New(s, Options{Node: "n1", Pool: "hooks", Metrics: observe.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	l, err := d.Dial(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.Close()
		d.Close()
	})
	return l
}

func post(t *testing.T, l pool.Link, ev *event.Kept) pool.Result {
	t.Helper()
	got := make(chan pool.Result, 2)
	l.Send(pool.ID{Pool: 0xabc, N: 5}, ev, func(r pool.Result) { got <- r })
	select {
	case r := <-got:
		return r
	case <-time.After(10 * time.Second):
		t.Fatal("no answer")
		return pool.Result{}
	}
}

// serve runs a server for the length of a test.
func serve(t *testing.T, f http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s
}

// hang keeps a request without an answer until its client leaves.
func hang(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the client left
	<-r.Context().Done()
}

func TestModes(t *testing.T) {
	type request struct {
		method, body string
		header       http.Header
	}
	var last request
	var mu sync.Mutex
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		last = request{r.Method, string(b), r.Header}
		mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
	})
	for mode, want := range map[string]map[string]string{
		BinaryMode: {
			"Ce-Specversion": "1.0", "Ce-Id": "abc-5", "Ce-Source": "/windrose/n1/in", "Ce-Type": "my.type", "Ce-Subject": "site/a%20b",
			"Ce-Batch": "7", "Ce-Edcclient": "pump", "Content-Type": "application/json", "Authorization": "Bearer " + secret, "X-Site": "b",
		},
		StructuredMode: {"Content-Type": "application/cloudevents+json", "Ce-Id": "", "X-Site": "b"},
		RawMode:        {"Content-Type": "application/json", "Ce-Id": "", TopicHeader: "site/a%20b"},
	} {
		t.Run(mode, func(t *testing.T) {
			l := dial(t, Spec{
				Mode: mode, Method: "PUT", Type: "my.type", Headers: map[string]string{"x-site": "b"},
				SecretHeaders: map[string]string{"Authorization": "Bearer " + secret},
			}, s.URL)
			if r := post(t, l, kept(t, `{"a":1}`)); r.Outcome != event.Accepted || r.Err != nil {
				t.Fatalf("result %+v", r)
			}
			mu.Lock()
			defer mu.Unlock()
			for name, value := range want {
				if got := last.header.Get(name); got != value {
					t.Errorf("header %s: %q, want %q", name, got, value)
				}
			}
			if last.method != "PUT" {
				t.Errorf("method %s", last.method)
			}
			if mode != StructuredMode {
				if last.body != `{"a":1}` {
					t.Errorf("body %q", last.body)
				}
				return
			}
			var doc map[string]any
			if err := json.Unmarshal([]byte(last.body), &doc); err != nil || doc["subject"] != "site/a b" || doc["id"] != "abc-5" {
				t.Errorf("%v in %s", err, last.body)
			}
		})
	}
}

func TestStatuses(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	type want struct {
		o     event.Outcome
		retry bool
		after time.Duration
	}
	for _, c := range []struct {
		status int
		header string
		want   want
	}{
		{200, "", want{event.Accepted, false, 0}},
		{202, "30", want{event.Accepted, false, 0}},
		{204, "", want{event.Accepted, false, 0}},
		{301, "", want{event.BadTopic, false, 0}},
		{307, "30", want{event.BadTopic, false, 0}},
		{400, "", want{event.BadPayload, false, 0}},
		{401, "", want{event.Unauthorized, false, 0}},
		{403, "", want{event.Unauthorized, false, 0}},
		{404, "", want{event.BadTopic, false, 0}},
		{408, "", want{event.Timeout, true, 0}},
		{410, "", want{event.BadTopic, false, 0}},
		{413, "", want{event.TooLarge, false, 0}},
		{415, "", want{event.BadPayload, false, 0}},
		{418, "", want{event.BadPayload, false, 0}},
		{422, "", want{event.BadPayload, false, 0}},
		{425, "", want{event.Unavailable, true, 0}},
		{429, "7", want{event.Throttled, true, 7 * time.Second}},
		{429, "Thu, 01 Jan 2026 00:01:00 GMT", want{event.Throttled, true, time.Minute}},
		{429, "Thu, 01 Jan 2015 00:01:00 GMT", want{event.Throttled, true, 0}},
		{429, "-7", want{event.Throttled, true, 0}},
		{429, "99999999999999999999", want{event.Throttled, true, 0}},
		{500, "30", want{event.Unavailable, true, 0}},
		{501, "", want{event.Unavailable, true, 0}},
		{503, " 2 ", want{event.Unavailable, true, 2 * time.Second}},
		{504, "", want{event.Timeout, true, 0}},
		{599, "", want{event.Unavailable, true, 0}},
	} {
		r := ofStatus(c.status, c.header, now)
		if got := (want{r.Outcome, r.Retry, r.After}); got != c.want || r.Down || (r.Err == nil) != r.Outcome.OK() {
			t.Errorf("%d %q: %+v, want %+v", c.status, c.header, r, c.want)
		}
	}
}

func TestEveryOutcomeHasAStatus(t *testing.T) {
	for o := range event.NumOutcomes {
		status := StatusOf(o)
		if (status/100 == 2) != o.OK() || status < 200 {
			t.Errorf("%v: status %d", o, status)
		}
	}
	if StatusOf(event.NumOutcomes) != http.StatusInternalServerError {
		t.Error("an unknown outcome is an internal error")
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	var hits atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	if r := post(t, dial(t, Spec{}, s.URL), kept(t, "x")); r.Outcome != event.BadTopic || r.Retry {
		t.Errorf("result %+v", r)
	}
	if hits.Load() != 1 {
		t.Errorf("%d requests", hits.Load())
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	var conns atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(make([]byte, 10_000)) // must be drained
	}))
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	l := dial(t, Spec{}, s.URL)
	for range 20 {
		if r := post(t, l, kept(t, "x")); r.Outcome != event.Accepted {
			t.Fatalf("result %+v", r)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for 20 requests", n)
	}
}

func TestAnswerWithoutEndIsBounded(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 8192)); err != nil {
				return
			}
		}
	})
	if r := post(t, dial(t, Spec{}, s.URL), kept(t, "x")); r.Outcome != event.Accepted {
		t.Errorf("result %+v", r)
	}
}

func TestHTTP2AndTLS(t *testing.T) {
	var proto atomic.Value
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { proto.Store(r.Proto) }))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := post(t, dial(t, Spec{TLS: clienttls.Spec{CA: ca}}, s.URL), kept(t, "x")); r.Outcome != event.Accepted {
		t.Fatalf("result %+v", r)
	}
	if proto.Load() != "HTTP/2.0" {
		t.Errorf("spoke %v", proto.Load())
	}
	r := post(t, dial(t, Spec{}, s.URL), kept(t, "x"))
	if r.Outcome != event.Unavailable || !r.Retry || !r.Down || r.Err == nil {
		t.Errorf("unknown authority: %+v", r)
	}
	if r := post(t, dial(t, Spec{TLS: clienttls.Spec{CA: ca, ServerName: "other.example"}}, s.URL), kept(t, "x")); r.Outcome != event.Unavailable || !r.Down {
		t.Errorf("wrong name: %+v", r)
	}
	if r := post(t, dial(t, Spec{TLS: clienttls.Spec{Insecure: true}}, s.URL), kept(t, "x")); r.Outcome != event.Accepted {
		t.Errorf("insecure: %+v", r)
	}
}

func TestFailuresWithoutAnAnswer(t *testing.T) {
	silent := serve(t, func(_ http.ResponseWriter, r *http.Request) { hang(r) })
	if r := post(t, dial(t, Spec{Timeout: 50 * time.Millisecond}, silent.URL), kept(t, "x")); r.Outcome != event.Timeout || !r.Retry || r.Down {
		t.Errorf("no answer: %+v", r)
	}
	cut := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = c.Close()
		}
	})
	if r := post(t, dial(t, Spec{}, cut.URL), kept(t, "x")); r.Outcome != event.Unavailable || !r.Retry || r.Down {
		t.Errorf("connection cut: %+v", r)
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	withSecret := strings.Replace(gone.URL, "http://", "http://user:"+secret+"@", 1) + "/path?token=" + secret
	r := post(t, dial(t, Spec{}, withSecret), kept(t, "x"))
	if r.Outcome != event.Unavailable || !r.Retry || !r.Down {
		t.Errorf("nobody listens: %+v", r)
	}
	if strings.Contains(fmt.Sprint(r.Err), secret) || strings.Contains(fmt.Sprint(r.Err), "path") {
		t.Errorf("the error shows the URL: %v", r.Err)
	}
}

func TestCloseEndsRunningRequests(t *testing.T) {
	running := make(chan struct{}, 1)
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		running <- struct{}{}
		hang(r)
	})
	l := dial(t, Spec{}, s.URL)
	got := make(chan pool.Result, 1)
	l.Send(pool.ID{}, kept(t, "x"), func(r pool.Result) { got <- r })
	<-running
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-got:
		if !r.Retry || r.Outcome.OK() {
			t.Errorf("result %+v", r)
		}
	default:
		t.Error("Close returned before the request was answered")
	}
	<-l.Done()
	if r := post(t, l, kept(t, "x")); !r.Retry || !r.Down {
		t.Errorf("after Close: %+v", r)
	}
}

func TestConfigurationErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]Spec{
		"mode":         {Mode: "smoke"},
		"header":       {Headers: map[string]string{"a b": "c"}},
		"header value": {SecretHeaders: map[string]string{"Authorization": secret + "\r\nX: y"}},
		"no CA":        {TLS: clienttls.Spec{CA: file + "x"}},
		"empty CA":     {TLS: clienttls.Spec{CA: file}},
		"empty cert":   {TLS: clienttls.Spec{Cert: file, Key: file}},
	} {
		if _, err := New(s, Options{Pool: "hooks"}); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	d, err := New(Spec{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{"", "ftp://x", "http://", "http://user:" + secret + "@h:x/"} {
		if _, err := d.Dial(t.Context(), u); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("Dial(%q): %v", u, err)
		}
	}
}

type ticket struct{ got chan event.Outcome }

func (s *ticket) Settle(_ uint64, o event.Outcome, _ int) { s.got <- o }

// TestPoolAcknowledgesAfterTheWebhook is the walk's promise (ack: upstream): an endpoint that answers 500 three times
// and then 200 is one acknowledgement, after the 200, and one id for all attempts.
func TestPoolAcknowledgesAfterTheWebhook(t *testing.T) {
	var mu sync.Mutex
	var ids []string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, r.Header.Get("Ce-Id"))
		if len(ids) < 4 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	d, err := New(Spec{}, Options{Node: "n", Pool: "hooks"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	p := pool.New("hooks", pool.Spec{Backoff: pool.Range{Min: 10 * time.Millisecond, Max: 50 * time.Millisecond}}, d, []string{s.URL}, pool.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	tk := &ticket{make(chan event.Outcome, 2)}
	p.Leg(pool.Upstream).Deliver(&kept(t, "x").Event, event.Ticket{To: tk, Token: 1})
	select {
	case o := <-tk.got:
		mu.Lock()
		defer mu.Unlock()
		if o != event.Accepted || len(ids) != 4 || ids[0] == "" || ids[0] != ids[3] {
			t.Errorf("%v after requests %v", o, ids)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("never settled")
	}
}
