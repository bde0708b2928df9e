package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/observe"
)

func newTestServer(n Node) *Server {
	r := observe.NewRegistry()
	observe.Runtime(r, "v0")
	return New(Options{Addr: "127.0.0.1:0", Node: n, Registry: r, Version: "v0.0.0-test", Loopback: Viewer})
}

// ask sends one request through the handlers as if it came to a loopback address.
func ask(t *testing.T, s *Server, method, target string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	ctx := context.WithValue(t.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8400})
	r := httptest.NewRequestWithContext(ctx, method, target, nil)
	r.Host = "localhost:8400"
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		} else {
			r.Header.Set(header[i], header[i+1])
		}
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func TestHealth(t *testing.T) {
	n := newFakeNode()
	s := newTestServer(n)
	if w := ask(t, s, "GET", "/livez"); w.Code != 200 || w.Body.String() != "ok\n" {
		t.Errorf("livez: %d %q", w.Code, w.Body)
	}
	if w := ask(t, s, "GET", "/readyz"); w.Code != 200 || w.Body.String() != "ok\n" {
		t.Errorf("readyz with a degraded optional check: %d %q", w.Code, w.Body)
	}
	want := "[+] config ok: loaded\n[+] listener/mqtt ok: 127.0.0.1:1883\n[~] pool/archive degraded: 1 of 2 members up\nok\n"
	if w := ask(t, s, "GET", "/readyz?verbose"); w.Body.String() != want {
		t.Errorf("verbose:\n%s", w.Body)
	}
	n.setChecks(Check{Name: "config", OK: true}, Check{Name: "listener/mqtt", Text: "address\nalready in use"})
	if w := ask(t, s, "GET", "/readyz?verbose"); w.Code != 503 || !strings.Contains(w.Body.String(), "[-] listener/mqtt failed: address already in use\nunhealthy\n") {
		t.Errorf("not ready: %d %q", w.Code, w.Body)
	}
	w := ask(t, s, "GET", "/readyz", "Accept", "application/json")
	var doc Ready
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != 503 || doc.Status != "unhealthy" || len(doc.Checks) != 2 {
		t.Errorf("JSON: %d %v %s", w.Code, err, w.Body)
	}
	if w := ask(t, s, "GET", "/livez"); w.Code != 200 {
		t.Error("a node that is not ready is not dead")
	}
}

func TestEveryAnswerForbidsStoringFramingAndOtherOrigins(t *testing.T) {
	s := newTestServer(newFakeNode())
	for _, path := range []string{"/", "/panels", "/livez", "/readyz", "/metrics", "/api/v1/status", "/assets/app.js", "/assets/nothing", "/nothing"} {
		h := ask(t, s, "GET", path).Header()
		for key, want := range map[string]string{
			"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
		} {
			if !strings.Contains(h.Get(key), want) {
				t.Errorf("%s: %s = %q", path, key, h.Get(key))
			}
		}
		if h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: answers another origin", path)
		}
	}
}

func TestHostHeaderAgainstRebinding(t *testing.T) {
	s := newTestServer(newFakeNode())
	s.o.Hosts = []string{"windrose.internal"}
	for host, want := range map[string]int{
		"localhost": 200, "LOCALHOST:8400": 200, "127.0.0.1:8400": 200, "[::1]:8400": 200, "[::ffff:127.0.0.1]": 200, "a.localhost": 200, "windrose.internal:80": 200,
		"evil.example": 421, "evil.example:8400": 421, "localhost.evil.example": 421, "10.0.0.7": 421, "127.0.0.1.evil.example": 421, "": 421,
	} {
		if w := ask(t, s, "GET", "/api/v1/status", "Host", host); w.Code != want {
			t.Errorf("Host %q: %d, want %d", host, w.Code, want)
		}
	}
	if n := s.refused["host"].Value(); n != 6 {
		t.Errorf("counted %d refusals, want 6", n)
	}
	// Off loopback a name is fine when no names are configured; an address always is.
	for _, tc := range []struct {
		hosts []string
		host  string
		want  bool
	}{
		{nil, "edge.example", true},
		{[]string{"edge.example"}, "edge.example", true},
		{[]string{"edge.example"}, "evil.example", false},
		{[]string{"edge.example"}, "10.0.0.7:8400", true},
	} {
		s.o.Hosts = tc.hosts
		r := httptest.NewRequestWithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7)}), "GET", "/", nil)
		r.Host = tc.host
		if got := s.hostAllowed(r); got != tc.want {
			t.Errorf("%q with %v off loopback: %v", tc.host, tc.hosts, got)
		}
	}
}

func TestReadOnly(t *testing.T) {
	s := newTestServer(newFakeNode())
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
		w := ask(t, s, method, "/api/v1/status")
		if w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %v", method, w.Code, w.Header())
		}
	}
	if w := ask(t, s, "HEAD", "/api/v1/status"); w.Code != 200 {
		t.Errorf("HEAD: %d", w.Code)
	}
}

func TestStatusDocument(t *testing.T) {
	s := newTestServer(newFakeNode())
	now := time.Now()
	s.history.add(total{at: now.Add(-2 * time.Second), received: 100, delivered: 200})
	s.history.add(total{at: now, received: 300, delivered: 220, refused: 8})
	var st Status
	w := ask(t, s, "GET", "/api/v1/status?pretty")
	if err := json.Unmarshal(w.Body.Bytes(), &st); err != nil {
		t.Fatal(err)
	}
	if st.Version != "v0.0.0-test" || !st.Ready || st.Rates != (Rates{100, 10, 4}) || len(st.Listeners) != 3 || len(st.Pools) != 2 ||
		len(st.Info.Try) != 2 || st.Totals.Sessions != 1240 || st.Uptime < 3*3600 {
		t.Errorf("status %+v", st)
	}
	n := newFakeNode()
	n.empty, n.checks = true, nil
	body := ask(t, newTestServer(n), "GET", "/api/v1/status").Body.String()
	if strings.Contains(body, "null") {
		t.Errorf("a list is null: %s", body)
	}
	for _, path := range []string{"info", "checks", "listeners", "pools", "routes", "policies", "totals", "history", "deadletters"} {
		w := ask(t, s, "GET", "/api/v1/"+path)
		if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestDeadLetters(t *testing.T) {
	s := newTestServer(newFakeNode())
	for query, want := range map[string]int{"": 3, "?pool=archive": 2, "?limit=1": 1} {
		var got Page[DeadLetter]
		w := ask(t, s, "GET", "/api/v1/deadletters"+query)
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || len(got.Items) != want {
			t.Errorf("%q: %d letters, want %d (%v)", query, len(got.Items), want, err)
		}
	}
	for _, query := range []string{"?limit=0", "?limit=x", "?limit=1001", "?limit=-1"} {
		if w := ask(t, s, "GET", "/api/v1/deadletters"+query); w.Code != 422 {
			t.Errorf("%q: %d", query, w.Code)
		}
	}
}

func TestHistory(t *testing.T) {
	s := newTestServer(newFakeNode())
	start := time.UnixMilli(1_000_000)
	for i := range 2 * historyLen {
		s.history.add(total{at: start.Add(time.Duration(i) * time.Second), received: uint64(i * 10)})
	}
	s.history.add(total{at: start.Add(2 * historyLen * time.Second)}) // the sum went back: a reload took a part away
	points := s.history.points()
	if len(points) != historyLen || points[0].Received != 10 || points[historyLen-1].Received != 0 {
		t.Errorf("%d points, first %v, last %v", len(points), points[0], points[len(points)-1])
	}
	var got []Point
	w := ask(t, s, "GET", "/api/v1/history?since="+"1597000")
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || len(got) != 3 {
		t.Errorf("%d points since, want 3 (%v): %s", len(got), err, w.Body)
	}
	if w := ask(t, s, "GET", "/api/v1/history?since=x"); w.Code != 422 {
		t.Errorf("since=x: %d", w.Code)
	}
}

func TestPageShowsTheNodeAndNamesNoOtherOrigin(t *testing.T) {
	s := newTestServer(newFakeNode())
	w := ask(t, s, "GET", "/")
	body := w.Body.String()
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	for _, want := range []string{
		"edge-berlin-1", "127.0.0.1:1883", "[::]:8883", "address already in use", "connection refused", "1,240", "5,312", "unauthorized", "431",
		"site/berlin/pump-7/state", "drop_old", "windrose sub", "Anonymous clients", "pool/archive",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(body, "<script>alert") {
		t.Error("a topic is not escaped")
	}
	// The style policy allows neither inline style nor inline script, and nothing is loaded from elsewhere.
	for _, pattern := range []string{`style="`, `<style`, `\son[a-z]+="`, `<script[^>]*>[^<]`, `(src|href)="(https?:)?//`} {
		if m := regexp.MustCompile(pattern).FindString(body); m != "" {
			t.Errorf("the page contains %q", m)
		}
	}
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(body, -1) {
		if a := ask(t, s, "GET", m[1]); a.Code != 200 {
			t.Errorf("%s: %d", m[1], a.Code)
		}
	}
	// Every number that the script refreshes has its place.
	script := ask(t, s, "GET", "/assets/app.js").Body.String()
	for _, m := range regexp.MustCompile(`set\("([a-z]+)"`).FindAllStringSubmatch(script, -1) {
		if !strings.Contains(body, `data-bind="`+m[1]+`"`) {
			t.Errorf("the script sets %q, which the page lacks", m[1])
		}
	}
}

func TestPageOfANodeWithNothing(t *testing.T) {
	n := newFakeNode()
	n.empty = true
	n.setChecks(Check{Name: "config", Text: "file unreadable"})
	body := ask(t, newTestServer(n), "GET", "/").Body.String()
	for _, want := range []string{"not ready", "Nothing listens", "No pools", "file unreadable"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestRequestsAtOnceAreBoundedAndLivenessIsNot(t *testing.T) {
	n := newFakeNode()
	n.blocking = make(chan struct{})
	s := newTestServer(n)
	var wg sync.WaitGroup
	for range MaxRequests {
		wg.Go(func() { ask(t, s, "GET", "/api/v1/routes") })
	}
	for len(s.requests) < MaxRequests {
		time.Sleep(time.Millisecond)
	}
	if w := ask(t, s, "GET", "/api/v1/status"); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("beyond the bound: %d", w.Code)
	}
	if w := ask(t, s, "GET", "/livez"); w.Code != 200 {
		t.Errorf("livez beyond the bound: %d", w.Code)
	}
	close(n.blocking)
	wg.Wait()
	if w := ask(t, s, "GET", "/api/v1/status"); w.Code != 200 {
		t.Errorf("after the rush: %d", w.Code)
	}
}

func TestRun(t *testing.T) {
	s := newTestServer(newFakeNode())
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	other := newTestServer(newFakeNode())
	other.o.Addr = s.Addr()
	if err := other.Listen(); err == nil || !strings.Contains(err.Error(), s.Addr()) {
		t.Errorf("a taken address: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Errorf("close a server that never listened: %v", err)
	}
	given := newTestServer(newFakeNode())
	if err := given.Listen(); err != nil {
		t.Fatal(err)
	}
	if err := given.Close(); err != nil {
		t.Error(err)
	}
	other.o.Addr = given.Addr()
	if err := errors.Join(other.Listen(), other.Close()); err != nil {
		t.Errorf("the address was not given back: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.Addr()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || !strings.Contains(string(b), "windrose_go_heap_bytes ") || res.Header.Get("Content-Type") != observe.ContentType {
		t.Errorf("metrics: %v\n%s", err, b)
	}
	// A connection that has asked nothing yet does not hold the end up.
	idle, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	for fresh := 0; fresh == 0; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		fresh = len(s.fresh)
		s.mu.Unlock()
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(DrainTime - time.Second):
		t.Fatal("Run does not end")
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestConnectionsAreBounded(t *testing.T) {
	s := newTestServer(newFakeNode())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bl := newBoundedListener(ln, 1, s.refused["connections"])
	defer bl.Close()
	accepted := make(chan net.Conn, 2)
	go func() {
		for {
			c, err := bl.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	first := dial(t, ln)
	served := <-accepted
	second := dial(t, ln)
	if _, err := second.Read(make([]byte, 1)); err == nil {
		t.Error("the second connection was not closed")
	}
	if s.refused["connections"].Value() != 1 {
		t.Error("the refusal was not counted")
	}
	served.Close()
	served.Close() // gives one slot back, not two
	first.Close()
	dial(t, ln)
	<-accepted
	if len(bl.slots) != 1 {
		t.Errorf("%d slots taken, want 1", len(bl.slots))
	}
}

func dial(t *testing.T, ln net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFormats(t *testing.T) {
	for got, want := range map[string]string{
		formatNumber(0): "0", formatNumber(999): "999", formatNumber(uint64(1234567)): "1,234,567", formatNumber(-1000): "-1,000",
		formatRate(0): "0", formatRate(1.25): "1.2", formatRate(12.5): "13", formatBytes(1023): "1023 B", formatBytes(1536): "1.5 KiB",
		formatBytes(5 << 40): "5.0 TiB", formatAge(time.Time{}): "", formatAge(time.Now().Add(-50 * time.Hour)): "2 d 2 h",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if percent(1, 10000) != 1 || percent(50, 100) != 50 || percent(5, 0) != 0 || percent(300, 100) != 100 {
		t.Error("percent")
	}
}
