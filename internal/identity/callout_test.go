package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/observe"
)

// endpoint is a callout of the test. Its handler may be changed; guarded by mu.
type endpoint struct {
	*httptest.Server
	calls atomic.Int64
	mu    sync.Mutex
	h     func(w http.ResponseWriter, q map[string]any)
}

func newEndpoint(t *testing.T) *endpoint {
	t.Helper()
	e := &endpoint{h: func(w http.ResponseWriter, _ map[string]any) { _, _ = io.WriteString(w, `{"result":"allow"}`) }}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.calls.Add(1)
		var q map[string]any
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.Method != http.MethodPost {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		q["authorization"] = r.Header.Get("Authorization")
		e.mu.Lock()
		h := e.h
		e.mu.Unlock()
		h(w, q)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) says(h func(w http.ResponseWriter, q map[string]any)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.h = h
}

func (e *endpoint) answers(s string) {
	e.says(func(w http.ResponseWriter, _ map[string]any) { _, _ = io.WriteString(w, s) })
}

func mustCallout(t *testing.T, s CalloutSpec, env Environment) *Callout {
	t.Helper()
	s.Timeout = max(s.Timeout, time.Duration(0))
	if s.Timeout == 0 {
		s.Timeout = 10 * time.Second
	}
	if s.Remembered == 0 {
		s.Remembered = 100
	}
	h, err := NewCallout(s, env)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func shown(user, password string) *Credentials {
	return &Credentials{Listener: "mqtt", ClientID: "c-" + user, Username: user, HasUsername: true, Password: []byte(password)}
}

// What is asked, what an answer gives, and that all that is wrong in an answer lets nobody in.
func TestCallout(t *testing.T) {
	e := newEndpoint(t)
	h := mustCallout(t, CalloutSpec{URL: e.URL, Token: "s3cret", SendPassword: true}, Environment{})
	e.says(func(w http.ResponseWriter, q map[string]any) {
		if fmt.Sprint(q) != "map[authorization:Bearer s3cret client:c-a listener:mqtt password:pw user:a]" {
			t.Error("asked", q)
		}
		_, _ = io.WriteString(w, `{"result":"allow","user":"anna","client":"c-a","attrs":{"tenant":"acme"},"expires":4000000000}`)
	})
	p, d, err := h.Authenticate(t.Context(), shown("a", "pw"))
	if d != Admitted || err != nil || p.Name != "anna" || p.Client != "c-a" || p.Attrs["tenant"] != "acme" || p.Expires.Unix() != 4000000000 || p.Method != "http" {
		t.Error(p, d, err)
	}
	if _, d, done := h.TryAuthenticate(&Credentials{}); !done || d != Unknown {
		t.Error("who shows nothing is asked about")
	}
	if p, d, _ := h.Authenticate(t.Context(), shown("a", "\xff")); d != Refused || p.reason() != whyMalformed {
		t.Error("a password that JSON cannot carry:", d)
	}
	for i, bad := range []string{``, `allow`, `{}`, `{"result":"Allow"}`, `{"result":true}`, `{"result":"deny","result":"allow"}`, `{"result":"allow"} {}`,
		`{"result":"allow","user":7}`, `{"result":"allow","client":""}`, `{"result":"allow","client":"a\u0000"}`, `{"result":"allow","attrs":{"a":1}}`,
		`{"result":"allow","attrs":{"a b":"x"}}`, `{"result":"allow","expires":"never"}`, `{"result":"allow","x":"` + strings.Repeat("x", maxCallout) + `"}`} {
		e.answers(bad)
		h.ended(nil, time.Now())
		if _, d, err := h.Authenticate(t.Context(), shown(fmt.Sprint("bad", i), "pw")); d != Refused || err == nil {
			t.Errorf("%.60s: %v, %v", bad, d, err)
		}
	}
	for what, w := range map[string]struct {
		d   Decision
		why string
	}{`{"result":"deny"}`: {Refused, whyDenied}, `{"result":"ignore"}`: {Unknown, whyPassword}, `{"result":"allow","expires":1}`: {Refused, whyExpired}} {
		e.answers(what)
		h.ended(nil, time.Now())
		if p, d, err := h.Authenticate(t.Context(), shown("w"+what, "pw")); d != w.d || p.reason() != w.why || err != nil {
			t.Errorf("%s: %v for %s, %v", what, d, p.reason(), err)
		}
	}
	e.says(func(w http.ResponseWriter, _ map[string]any) {
		w.Header().Set("Location", "/other")
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	h.ended(nil, time.Now())
	if _, d, err := h.Authenticate(t.Context(), shown("r", "pw")); d != Refused || err == nil {
		t.Error("a redirect is followed:", d, err)
	}
	secret := mustCallout(t, CalloutSpec{URL: e.URL}, Environment{})
	e.says(func(w http.ResponseWriter, q map[string]any) {
		if _, there := q["password"]; there {
			t.Error("the password is sent")
		}
		w.WriteHeader(http.StatusTeapot)
	})
	_, _, _ = secret.Authenticate(t.Context(), shown("a", "pw"))
	if _, err := NewCallout(CalloutSpec{URL: "http://auth.example/x"}, Environment{}); err == nil {
		t.Error("passwords would cross a network in clear text")
	}
}

// Answers are remembered for the very credentials; while the callout is down those who were allowed get in, others do not, and
// nobody waits for it again and again.
func TestCalloutIsDown(t *testing.T) {
	e := newEndpoint(t)
	m := NewMeter(observe.NewRegistry(), nil, nil)
	h := mustCallout(t, CalloutSpec{URL: e.URL, SendPassword: true, Cache: time.Nanosecond, CacheDeny: time.Hour, Stale: time.Hour, Concurrent: 2}, Environment{Meter: m})
	chain := NewChain(h).WithMeter(m)
	if _, d, err := chain.Authenticate(t.Context(), shown("a", "pw")); d != Admitted || err != nil {
		t.Fatal(d, err)
	}
	e.answers(`{"result":"deny"}`)
	for range 5 {
		if _, d, err := chain.Authenticate(t.Context(), shown("b", "pw")); d != Refused || err != nil {
			t.Fatal(d, err)
		}
	}
	if n := e.calls.Load(); n != 2 {
		t.Errorf("%d calls, want 2: denials are remembered", n)
	}
	e.says(func(w http.ResponseWriter, _ map[string]any) { w.WriteHeader(http.StatusBadGateway) })
	before := e.calls.Load()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if _, d, err := chain.Authenticate(t.Context(), shown("a", "pw")); d != Admitted || err != nil {
				t.Error("known:", d, err)
			}
			if _, d, err := chain.Authenticate(t.Context(), shown("a", "other")); d != Refused || err == nil {
				t.Error("known with another password:", d, err)
			}
			if _, d, err := chain.Authenticate(t.Context(), shown(fmt.Sprint("u", i), "pw")); d != Refused || err == nil {
				t.Error("unknown:", d, err)
			}
		})
	}
	wg.Wait()
	if n := e.calls.Load() - before; n > 100 {
		t.Errorf("%d calls to what is down", n)
	}
	if m.calls[callStale].Value() != 200 || m.refusals[whyDown].Value() != 400 || m.refusals[whyDenied].Value() != 5 {
		t.Error("counted", m.calls[callStale].Value(), m.refusals[whyDown].Value(), m.refusals[whyDenied].Value())
	}
	if p, d, done := chain.Try(shown("a", "pw")); h.down(time.Now()) && (!done || d != Admitted || p.Name != "a") {
		t.Error("a loop would wait for what is down")
	}
	e.answers(`{"result":"allow"}`)
	h.ended(nil, time.Now())
	if _, d, err := chain.Authenticate(t.Context(), shown("new", "pw")); d != Admitted || err != nil {
		t.Error("after it came back:", d, err)
	}
}

// No more calls at once than configured; what is remembered has a bound.
func TestCalloutIsBounded(t *testing.T) {
	e := newEndpoint(t)
	var now, most atomic.Int64
	e.says(func(w http.ResponseWriter, _ map[string]any) {
		most.Store(max(most.Load(), now.Add(1)))
		time.Sleep(time.Millisecond)
		now.Add(-1)
		_, _ = io.WriteString(w, `{"result":"allow"}`)
	})
	h := mustCallout(t, CalloutSpec{URL: e.URL, Cache: time.Hour, Concurrent: 3, Remembered: 10}, Environment{})
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if _, d, err := h.Authenticate(t.Context(), shown(fmt.Sprint(i), "pw")); d != Admitted {
				t.Error(d, err)
			}
		})
	}
	wg.Wait()
	if most.Load() > 3 || h.Stats().Remembered > 10 || h.Stats().Waiting != 0 {
		t.Errorf("%d at once, %+v", most.Load(), h.Stats())
	}
	h.waiting.Store(maxWaiting)
	if _, d, err := h.Authenticate(t.Context(), shown("one more", "pw")); d != Refused || !errors.Is(err, errCalloutBusy) {
		t.Error("too many wait:", d, err)
	}
}

// The client id that a user fixes, and the theft of another's.
func TestUsersFixClient(t *testing.T) {
	path := t.TempDir() + "/users.yaml"
	u := NewUsers(path)
	cost := Cost{Memory: 64, Time: 1, Threads: 1}
	for name, attrs := range map[string]map[string]string{"anna": {"device": "pump-1"}, "bert": nil} {
		if err := u.Add(name, []byte("pw"), AddOptions{Cost: cost, Attrs: attrs}); err != nil {
			t.Fatal(err)
		}
	}
	if err := u.Save(); err != nil {
		t.Fatal(err)
	}
	m := NewMeter(observe.NewRegistry(), nil, nil)
	by := func(client string) *Chain {
		u, err := OpenUsers(UsersSpec{File: path, Workers: 1, Remember: time.Hour, Client: client})
		if err != nil {
			t.Fatal(err)
		}
		return NewChain(u).WithMeter(m)
	}
	who := func(id, user string) *Credentials {
		return &Credentials{ClientID: id, Username: user, HasUsername: true, Password: []byte("pw")}
	}
	for _, tt := range []struct {
		expr, id, user, client string
		d                      Decision
	}{
		{"", "anything", "anna", "", Admitted},
		{"user", "anna", "anna", "anna", Admitted},
		{"user", "", "anna", "anna", Admitted},
		{"attrs.device", "pump-1", "anna", "pump-1", Admitted},
		{`"x-" + user`, "x-bert", "bert", "x-bert", Admitted},
		{"attrs.device", "pump-1", "bert", "", Refused}, // it has none
	} {
		c := by(tt.expr)
		for range 2 { // the second time from what is remembered
			if p, d, err := c.Authenticate(t.Context(), who(tt.id, tt.user)); d != tt.d || p.Client != tt.client || err != nil {
				t.Errorf("%+v: %+v %v %v", tt, p, d, err)
			}
		}
	}
	before := m.refusals[whyClient].Value()
	if p, d, err := by("user").Authenticate(t.Context(), who("anna", "bert")); d != Admitted || p.Client != "bert" || err != nil {
		t.Error("the protocol must learn whose the id is:", p, d, err)
	}
	if m.refusals[whyClient].Value() != before+1 || m.refusals[whyName].Value() != 2 {
		t.Error("a theft is not counted")
	}
	if _, err := OpenUsers(UsersSpec{File: path, Client: "usr"}); err == nil || !strings.Contains(err.Error(), "user") {
		t.Error(err)
	}
}

// A refusal says why in the log, and no secret.
func TestRefusalIsLogged(t *testing.T) {
	var b strings.Builder
	log := logTo(&b)
	reg := observe.NewRegistry()
	m := NewMeter(reg, observe.Limited(log, reg), log)
	i := newIssuer(t)
	c := NewChain(mustJWT(t, JWTSpec{File: i.file("e")}, Environment{Meter: m})).WithMeter(m)
	token := i.token("EdDSA", "e", nil)
	cr := bearer(token)
	cr.ClientID = strings.Repeat("x", 500)
	for range 50 {
		_, _, _ = c.Authenticate(t.Context(), cr)
	}
	text := b.String()
	if n := strings.Count(text, "client refused"); n != observe.LimitBurst || !strings.Contains(text, "reason=algorithm") || strings.Contains(text, token[:40]) || len(text) > 2000 {
		t.Errorf("%d lines:\n%s", n, text)
	}
	if m.refusals[whyAlgorithm].Value() != 50 {
		t.Error("not counted")
	}
}

func logTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
