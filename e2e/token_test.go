package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// tokens signs JWTs with one key. Immutable.
type tokens struct{ key ed25519.PrivateKey }

// newTokens makes a key and writes its set to jwks.json in dir.
func newTokens(t *testing.T, dir string) *tokens {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set := fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","use":"sig","x":%q}]}`, base64.RawURLEncoding.EncodeToString(pub))
	if err := os.WriteFile(filepath.Join(dir, "jwks.json"), []byte(set), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tokens{key}
}

func (k *tokens) token(sub string, life time.Duration) string {
	return k.sign(`{"alg":"EdDSA","kid":"k1"}`, sub, life)
}

func (k *tokens) sign(header, sub string, life time.Duration) string {
	payload, _ := json.Marshal(map[string]any{"sub": sub, "exp": time.Now().Add(life).Unix()})
	e := base64.RawURLEncoding.EncodeToString
	signed := e([]byte(header)) + "." + e(payload)
	return signed + "." + e(ed25519.Sign(k.key, []byte(signed)))
}

// TestTokens: a token decides which client one may be; its end is the end of the connection; nothing else gets in.
func TestTokens(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	t.Parallel()
	dir, program := t.TempDir(), filepath.Join(build(t), "windrose")
	k := newTokens(t, dir)
	n := startNodeIn(t, dir, program, `windrose: v1
node: { name: n1, admin: "127.0.0.1:${ADMIN}", data: data }
listeners: { mqtt: { mqtt: { bind: "127.0.0.1:${MQTT}" } } }
auth: [ { jwt: { jwks_file: jwks.json, client: claims.sub, attrs: { who: claims.sub }, leeway: 0s } } ]
acl: [ { allow: [publish, subscribe], topic: "site/{attrs.who}/#" } ]
`)
	code := func(h hello) byte {
		t.Helper()
		c := open(t, n.mqtt(), h)
		defer func() { _ = c.c.Close() }()
		return c.expect(connackKind).body[1]
	}
	owner := client(t, n.mqtt(), hello{id: "pump-1", user: "x", pass: k.token("pump-1", time.Hour)})
	stranger := newTokens(t, t.TempDir())
	for _, x := range []struct {
		what     string
		h        hello
		v5, v311 byte
	}{
		{"another device's id", hello{id: "pump-1", user: "x", pass: k.token("pump-2", time.Hour)}, 0x85, 2},
		{"another device's id as the user", hello{id: "pump-1", user: "pump-1", pass: k.token("pump-2", time.Hour)}, 0x85, 2},
		{"another issuer's key", hello{id: "pump-1", user: "x", pass: stranger.token("pump-1", time.Hour)}, 0x86, 4},
		{"alg none", hello{id: "pump-1", user: "x", pass: k.sign(`{"alg":"none"}`, "pump-1", time.Hour)}, 0x86, 4},
		{"HS256", hello{id: "pump-1", user: "x", pass: k.sign(`{"alg":"HS256","kid":"k1"}`, "pump-1", time.Hour)}, 0x86, 4},
		{"expired", hello{id: "pump-1", user: "x", pass: k.token("pump-1", -time.Hour)}, 0x86, 4},
		{"no token", hello{id: "pump-1"}, 0x87, 5},
	} {
		for v, want := range map[byte]byte{5: x.v5, 4: x.v311} {
			x.h.v = v
			if got := code(x.h); got != want {
				t.Errorf("%s, version %d: CONNACK %#x, want %#x", x.what, v, got, want)
			}
		}
	}
	owner.ping() // nobody has taken its place
	for reason, want := range map[string]int{"client_id": 4, "signature": 2, "algorithm": 4, "expired": 2, "unknown": 2} {
		n.await(want, "windrose_auth_refused_clients_total", `reason="`+reason+`"`)
	}
	owner.publish("site/pump-1/t", []byte("x"), 1)
	if got, _ := owner.puback(1); got != 0x10 && got != 0 {
		t.Errorf("publish to its own topic: %#x", got)
	}

	// RFC 7519, section 4.1.4, on a live connection.
	begin := time.Now()
	short := map[byte]*raw{}
	for v := byte(4); v <= 5; v++ {
		short[v] = client(t, n.mqtt(), hello{id: fmt.Sprint("short-", v), v: v, user: "x", pass: k.token(fmt.Sprint("short-", v), 5*time.Second)})
	}
	for v, c := range short {
		before := c.ended()
		if lived := time.Since(begin); lived < 3*time.Second {
			t.Errorf("version %d: ended after %v, before its token", v, lived)
		}
		if v == 5 && (len(before) != 1 || before[0].first != 0xe0 || len(before[0].body) == 0 || before[0].body[0] != 0x87) || v == 4 && len(before) != 0 {
			t.Errorf("version %d: told %v", v, before)
		}
	}
	n.await(2, "windrose_mqtt_ended_connections_total", `reason="expired"`)
	owner.ping()
}

// pinger measures how long PINGRESP takes, of some clients in turn. Guarded by mu.
type pinger struct {
	mu   sync.Mutex
	took []time.Duration
}

// next returns what was measured since the last call, in words.
func (p *pinger) next(t *testing.T, what string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.Sort(p.took)
	if len(p.took) == 0 {
		t.Errorf("%s: no PINGRESP", what)
		return
	}
	t.Logf("%-36s %6d PINGRESP, p50 %v, p99 %v, worst %v", what, len(p.took), p.took[len(p.took)/2], p.took[len(p.took)*99/100], p.took[len(p.took)-1])
	p.took = p.took[:0]
}

// TestCalloutDies: clients with tokens reconnect in a storm while the callout hangs and then is gone. No loop waits for it, known
// clients get in by what is remembered, unknown ones are told that the server is unavailable. WINDROSE_CLIENTS says how many
// (150), WINDROSE_MEASURE names a binary without the race detector.
func TestCalloutDies(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	program := os.Getenv("WINDROSE_MEASURE")
	if program == "" {
		t.Parallel()
		program = filepath.Join(build(t), "windrose")
	}
	clients := 150
	if v, err := strconv.Atoi(os.Getenv("WINDROSE_CLIENTS")); err == nil {
		clients = v
	}
	var hangs atomic.Bool
	callout := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if hangs.Load() {
			<-r.Context().Done() // the node gives up
			return
		}
		_, _ = io.WriteString(w, `{"result":"allow"}`)
	}))
	defer callout.Close()
	dir := t.TempDir()
	k := newTokens(t, dir)
	n := startNodeIn(t, dir, program, `windrose: v1
node: { name: n1, admin: "127.0.0.1:${ADMIN}", data: data }
listeners: { mqtt: { mqtt: { bind: "127.0.0.1:${MQTT}" } } }
auth:
  - { jwt: { jwks_file: jwks.json, client: claims.sub } }
  - { http: { url: "`+callout.URL+`", timeout: 2s, concurrent: 8, cache: 0s } }
`)
	// storm opens connections without waiting for an answer, then reads the answers.
	storm := func(what string, count int, v byte, of func(i int) hello, want byte) {
		t.Helper()
		begin := time.Now()
		cs := make([]*raw, count)
		for i := range cs {
			h := of(i)
			h.v = v
			cs[i] = open(t, n.mqtt(), h)
		}
		for _, c := range cs {
			if got := c.expect(connackKind).body[1]; got != want {
				t.Errorf("%s: CONNACK %#x, want %#x", what, got, want)
				break
			}
		}
		for _, c := range cs {
			_ = c.c.Close()
		}
		t.Logf("%-36s %6d CONNACK %#x in %v", what, count, want, time.Since(begin).Round(time.Millisecond))
	}
	withToken := func(i int) hello {
		id := fmt.Sprint("token-", i)
		return hello{id: id, user: "x", pass: k.token(id, time.Hour)}
	}
	known := func(i int) hello { return hello{id: fmt.Sprint("known-", i), user: "known", pass: "pw"} }
	unknown := func(round int) func(i int) hello {
		return func(i int) hello { return hello{id: fmt.Sprint("new-", round, "-", i), user: "new", pass: "pw"} }
	}

	var p pinger
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var others []*raw
	for i := range 8 {
		others = append(others, client(t, n.mqtt(), withToken(1_000_000+i)))
	}
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			c := others[i%len(others)]
			begin := time.Now()
			if err := c.send([]byte{0xc0, 0}); err != nil {
				t.Error(err)
				return
			}
			if pk, err := c.read(patience); err != nil || pk.first != 0xd0 {
				t.Errorf("waiting for PINGRESP: %#x, %v", pk.first, err)
				return
			}
			p.mu.Lock()
			p.took = append(p.took, time.Since(begin))
			p.mu.Unlock()
		}
	})
	time.Sleep(500 * time.Millisecond)
	p.next(t, "nothing else")

	storm("known, callout well", 20, 5, known, 0)
	storm("tokens, callout well", clients, 5, withToken, 0)
	p.next(t, "storm, callout well")

	hangs.Store(true)
	var waiting []*raw
	for i := range 50 { // these wait for the callout now, on no loop
		waiting = append(waiting, open(t, n.mqtt(), unknown(1)(i)))
	}
	storm("tokens, callout hangs", clients, 5, withToken, 0)
	storm("known, callout hangs", 20, 5, known, 0)
	for _, c := range waiting {
		if got := c.expect(connackKind).body[1]; got != 0x88 {
			t.Errorf("unknown, callout hangs: CONNACK %#x, want 0x88", got)
		}
	}
	p.next(t, "storm, callout hangs")

	hangs.Store(false)
	callout.Close()
	storm("tokens, callout gone", clients, 4, withToken, 0)
	storm("known, callout gone", 20, 5, known, 0)
	storm("unknown, callout gone", 50, 5, unknown(2), 0x88)
	storm("unknown, callout gone, MQTT 3.1.1", 50, 4, unknown(3), 3)
	p.next(t, "storm, callout gone")
	close(stop)
	wg.Wait()
	if got := n.metric("windrose_auth_callout_checks_total", `outcome="stale"`); got != 40 {
		t.Errorf("%d known clients got in by what was remembered, want 40", got)
	}
	if got := n.metric("windrose_auth_refused_clients_total", `reason="unavailable"`); got != 150 {
		t.Errorf("%d refusals are counted, want 150", got)
	}
}
