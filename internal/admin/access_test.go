package admin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// from sends a request as if it came to an address: "socket", "loopback" or "elsewhere".
func from(t *testing.T, s *Server, where, method, target, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	var local net.Addr
	switch where {
	case "socket":
		local = &net.UnixAddr{Name: "admin.sock", Net: "unix"}
	case "loopback":
		local = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8400}
	default:
		local = &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 8400}
	}
	r := httptest.NewRequestWithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, local), method, target, strings.NewReader(body))
	r.Host = "localhost:8400"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func newTokenServer(t *testing.T) (s *Server, secrets map[Role]string) {
	t.Helper()
	s = newTestServer(newFakeNode())
	file := filepath.Join(t.TempDir(), "new", TokensFile)
	s.tokens = &tokens{file: file}
	secrets = map[Role]string{}
	for r := Viewer; r <= Admin; r++ {
		secret, _, err := CreateToken(file, "for-"+r.String(), r, time.Hour, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		secrets[r] = secret
	}
	return s, secrets
}

// TestWhoMayAskWhat: beyond loopback nothing but the probes without a token; a role includes those below it.
func TestWhoMayAskWhat(t *testing.T) {
	s, secrets := newTokenServer(t)
	const kick = "/api/v1/sessions/client%2F1/kick"
	for _, tc := range []struct {
		where, method, path, body string
		token                     string
		want                      int
	}{
		{"elsewhere", "GET", "/livez", "", "", 200},
		{"elsewhere", "GET", "/readyz", "", "", 200},
		{"elsewhere", "GET", "/metrics", "", "", 401},
		{"elsewhere", "GET", "/", "", "", 401},
		{"elsewhere", "GET", "/nothing", "", "", 401},
		{"elsewhere", "GET", "/openapi.yaml", "", "", 401},
		{"elsewhere", "GET", "/api/v1/sessions", "", "", 401},
		{"elsewhere", "GET", "/api/v1/sessions", "", secrets[Viewer], 200},
		{"elsewhere", "POST", kick, "{}", "", 401},
		{"elsewhere", "POST", kick, "{}", secrets[Viewer], 403},
		{"elsewhere", "POST", kick, "{}", secrets[Operator], 200},
		{"elsewhere", "POST", kick, "{}", secrets[Admin], 200},
		{"elsewhere", "GET", "/api/v1/sessions", "", secrets[Viewer] + "x", 401},
		{"elsewhere", "GET", "/api/v1/sessions", "", "wrt_", 401},
		{"loopback", "GET", "/api/v1/sessions", "", "", 200},
		{"loopback", "POST", kick, "{}", "", 403},
		{"loopback", "POST", kick, "{}", secrets[Operator], 200},
		{"loopback", "GET", "/api/v1/sessions", "", "wrt_for-admin_wrong", 401},
		{"loopback", "POST", "/api/v1/deadletters/archive/purge", `{"ids":[1]}`, secrets[Operator], 403},
		{"loopback", "POST", "/api/v1/deadletters/archive/purge", `{"ids":[1]}`, secrets[Admin], 200},
		{"loopback", "GET", "/api/v1/deadletters/archive/1?payload=true", "", "", 403},
		{"loopback", "GET", "/api/v1/deadletters/archive/1?payload=true", "", secrets[Operator], 200},
		{"socket", "POST", kick, "{}", "", 200},
		{"socket", "POST", "/api/v1/deadletters/archive/purge", `{"ids":[1]}`, "", 200},
	} {
		var header []string
		if tc.token != "" {
			header = []string{"Authorization", "Bearer " + tc.token}
		}
		w := from(t, s, tc.where, tc.method, tc.path, tc.body, header...)
		if w.Code != tc.want {
			t.Errorf("%s %s %s with %.14q: %d, want %d: %s", tc.where, tc.method, tc.path, tc.token, w.Code, tc.want, w.Body)
		}
		if w.Code == 401 && len(w.Header().Values("WWW-Authenticate")) != 2 {
			t.Errorf("%s %s: no challenge", tc.method, tc.path)
		}
	}
	// Who comes through a proxy on this machine does not come from this machine.
	if w := from(t, s, "loopback", "GET", "/api/v1/sessions", "", "X-Forwarded-For", "203.0.113.9"); w.Code != 401 {
		t.Errorf("through a proxy: %d", w.Code)
	}
	// A browser asks its user, who gives the token as a password.
	r := httptest.NewRequest("GET", "/", nil)
	r.SetBasicAuth("anybody", secrets[Viewer])
	if w := from(t, s, "elsewhere", "GET", "/", "", "Authorization", r.Header.Get("Authorization")); w.Code != 200 {
		t.Errorf("a browser: %d", w.Code)
	}
	// A page of another origin may not write, whoever its reader is.
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "http://evil.example"}, {"Sec-Fetch-Site", "same-site"}} {
		if w := from(t, s, "socket", "POST", kick, "{}", header...); w.Code != 403 {
			t.Errorf("%v: %d", header, w.Code)
		}
	}
	if w := from(t, s, "socket", "POST", kick, "{}", "Sec-Fetch-Site", "same-origin"); w.Code != 200 {
		t.Errorf("the own page: %d", w.Code)
	}
}

func TestTokensExpireAndGoAtOnce(t *testing.T) {
	s, secrets := newTokenServer(t)
	now := time.Now()
	file := s.tokens.file
	if name, role := s.tokens.check(secrets[Operator], now); name != "for-operator" || role != Operator {
		t.Errorf("%q %v", name, role)
	}
	if _, role := s.tokens.check(secrets[Operator], now.Add(time.Hour+time.Second)); role != None {
		t.Errorf("after its time: %v", role)
	}
	if err := RemoveToken(file, "for-operator"); err != nil {
		t.Fatal(err)
	}
	if err := RemoveToken(file, "for-operator"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	if _, role := s.tokens.check(secrets[Operator], now.Add(2*tokensAge)); role != None {
		t.Errorf("after it was removed: %v", role)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range secrets {
		if strings.Contains(string(b), secret[len(secret)-20:]) {
			t.Error("the file holds a secret")
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, _, err := CreateToken(file, "for-admin", Viewer, 0, now); err == nil {
		t.Error("a name twice")
	}
	if _, _, err := CreateToken(file, "for-admin", Viewer, 0, now.Add(2*time.Hour)); err != nil {
		t.Errorf("the name of one whose time has passed: %v", err)
	}
	for _, name := range []string{"", "a_b", "a b", "../x", strings.Repeat("x", 65)} {
		if _, _, err := CreateToken(file, name, Viewer, 0, now); err == nil {
			t.Errorf("name %q", name)
		}
	}
	// A file that cannot be read changes nothing, and says why.
	if err := os.WriteFile(file, []byte(`{"tokens":[{"name":"x","role":"root","hash":""}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, role := s.tokens.check(secrets[Viewer], now.Add(4*tokensAge)); role != Viewer || s.tokens.broken() == nil {
		t.Errorf("after the file broke: %v, %v", role, s.tokens.broken())
	}
}

func TestWrongTokensAreLimitedByAddressAndRightOnesAreNot(t *testing.T) {
	s, secrets := newTokenServer(t)
	codes := map[int]int{}
	for range 3 * attemptsBurst {
		codes[from(t, s, "elsewhere", "GET", "/api/v1/status", "", "Authorization", "Bearer wrt_guess").Code]++
	}
	if codes[401] < attemptsBurst || codes[429] < attemptsBurst || s.refused["throttled"].Value() != uint64(codes[429]) {
		t.Errorf("answers %v, counted %d", codes, s.refused["throttled"].Value())
	}
	if w := from(t, s, "elsewhere", "GET", "/api/v1/status", "", "Authorization", "Bearer "+secrets[Viewer]); w.Code != 200 {
		t.Errorf("a right token: %d", w.Code)
	}
	var a attempts
	now := time.Now()
	for i := range 10 * maxAttempts {
		a.fail(net.JoinHostPort(net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)).String(), "1"), now)
	}
	if len(a.by) > maxAttempts {
		t.Errorf("%d addresses are remembered", len(a.by))
	}
	if !a.fail("[2001:db8::1]:7", now.Add(time.Hour)) || prefixOf("[2001:db8::1]:7") != prefixOf("[2001:db8::2]:7") {
		t.Error("later, and by /64")
	}
}

// TestWritesCompareVersions: RFC 9110, 13.1.1 (If-Match) and RFC 6585, 3 (428).
func TestWritesCompareVersions(t *testing.T) {
	s := newTestServer(newFakeNode())
	get := from(t, s, "socket", "GET", "/api/v1/deadletters?pool=archive", "")
	tag := get.Header().Get("ETag")
	const purge = "/api/v1/deadletters/archive/purge"
	if w := from(t, s, "socket", "POST", purge, "{}"); w.Code != 428 || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("without If-Match: %d %s", w.Code, w.Body)
	}
	if w := from(t, s, "socket", "POST", purge, "{}", "If-Match", `"old"`); w.Code != 412 || !strings.Contains(w.Body.String(), "came or went") {
		t.Errorf("with another version: %d %s", w.Code, w.Body)
	}
	if w := from(t, s, "socket", "POST", purge, "{}", "If-Match", tag); w.Code != 200 || !strings.Contains(w.Body.String(), `"done":2`) {
		t.Errorf("with %s: %d %s", tag, w.Code, w.Body)
	}
	if w := from(t, s, "socket", "POST", purge, "{}", "If-Match", tag); w.Code != 412 {
		t.Errorf("again with %s: %d %s", tag, w.Code, w.Body)
	}
	if w := from(t, s, "socket", "POST", "/api/v1/deadletters/none/purge", `{"ids":[1]}`); w.Code != 404 {
		t.Errorf("a pool that is not there: %d %s", w.Code, w.Body)
	}
	const kick = "/api/v1/sessions/client%2F1/kick"
	for tag, want := range map[string]int{"": 200, "*": 200, `"c1"`: 200, `W/"c1"`: 200, `"c0"`: 412} {
		if w := from(t, s, "socket", "POST", kick, "{}", "If-Match", tag); w.Code != want {
			t.Errorf("kick with %q: %d %s", tag, w.Code, w.Body)
		}
	}
	if w := from(t, s, "socket", "POST", "/api/v1/sessions/client%2F1/kick", `{"forgot":true}`); w.Code != 422 {
		t.Errorf("an unknown field: %d %s", w.Code, w.Body)
	}
}

func TestSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.sock")
	if len(path) > 100 {
		t.Skip("the folder's name is too long for a socket")
	}
	for _, group := range []bool{false, true} {
		ln, err := listenSocket(path, group)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		want := os.FileMode(0o600)
		if group {
			want = 0o660
		}
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if _, err := listenSocket(path, group); err == nil || !strings.Contains(err.Error(), "another process") {
			t.Errorf("twice: %v", err)
		}
		ln.(*net.UnixListener).SetUnlinkOnClose(false) // as a process that was killed leaves it
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenSocket(file, false); err == nil {
		t.Error("a file was taken for a socket")
	}

	s := New(Options{Socket: path, Node: newFakeNode(), SocketNeeded: true})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://localhost/api/v1/sessions/client%2F1/kick", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.Do(req)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%v %v", res, err)
	}
	_ = res.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket was left behind")
	}
}
