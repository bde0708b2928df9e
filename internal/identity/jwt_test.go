package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windrose-edc/windrose/internal/observe"
)

// issuer makes keys and tokens. Owned by its test.
type issuer struct {
	t   *testing.T
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
	ed  ed25519.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{t: t}
	var err1, err2, err3 error
	i.rsa, err1 = rsa.GenerateKey(rand.Reader, 2048)
	i.ec, err2 = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, i.ed, err3 = ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return i
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// set is the JWKS with the keys of these kids: r, e and d are the issuer's kinds, any suffix makes another name.
func (i *issuer) set(kids ...string) []byte {
	var keys []map[string]string
	for _, kid := range kids {
		k := map[string]string{"kid": kid, "use": "sig"}
		switch kid[0] {
		case 'r':
			k["kty"], k["n"], k["e"] = "RSA", b64(i.rsa.N.Bytes()), "AQAB"
		case 'e':
			p, err := i.ec.PublicKey.Bytes()
			if err != nil {
				i.t.Fatal(err)
			}
			k["kty"], k["crv"], k["x"], k["y"] = "EC", "P-256", b64(p[1:33]), b64(p[33:])
		case 'd':
			k["kty"], k["crv"], k["x"] = "OKP", "Ed25519", b64(i.ed.Public().(ed25519.PublicKey))
		}
		keys = append(keys, k)
	}
	b, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		i.t.Fatal(err)
	}
	return b
}

func (i *issuer) sign(alg, signed string) []byte {
	sum := sha256.Sum256([]byte(signed))
	switch alg {
	case "RS256":
		sig, err := rsa.SignPKCS1v15(nil, i.rsa, crypto.SHA256, sum[:])
		if err != nil {
			i.t.Fatal(err)
		}
		return sig
	case "PS256":
		sig, err := rsa.SignPSS(rand.Reader, i.rsa, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		if err != nil {
			i.t.Fatal(err)
		}
		return sig
	case "ES256":
		r, s, err := ecdsa.Sign(rand.Reader, i.ec, sum[:])
		if err != nil {
			i.t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case "EdDSA":
		return ed25519.Sign(i.ed, []byte(signed))
	}
	return nil
}

func (i *issuer) raw(header, payload string, sign string) string {
	signed := b64([]byte(header)) + "." + b64([]byte(payload))
	return signed + "." + b64(i.sign(sign, signed))
}

// token signs claims; exp is in five minutes unless they say otherwise.
func (i *issuer) token(alg, kid string, claims map[string]any) string {
	c := map[string]any{"sub": "pump-1", "exp": time.Now().Add(5 * time.Minute).Unix()}
	maps.Copy(c, claims)
	b, err := json.Marshal(c)
	if err != nil {
		i.t.Fatal(err)
	}
	return i.raw(fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, kid), string(b), alg)
}

func (i *issuer) file(kids ...string) string {
	path := filepath.Join(i.t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, i.set(kids...), 0o600); err != nil {
		i.t.Fatal(err)
	}
	return path
}

func mustJWT(t *testing.T, s JWTSpec, env Environment) *JWT {
	t.Helper()
	if s.Leeway == 0 {
		s.Leeway = 30 * time.Second
	}
	j, err := NewJWT(s, env)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func bearer(token string) *Credentials {
	return &Credentials{Listener: "l", Username: "ignored", HasUsername: true, Password: []byte(token)}
}

// RFC 7519, section 4.1; RFC 8725, sections 2 and 3: what is admitted, and why the rest is not.
func TestJWT(t *testing.T) {
	i := newIssuer(t)
	other := newIssuer(t)
	j := mustJWT(t, JWTSpec{File: i.file("r", "e", "d"), Client: "claims.sub", Attrs: map[string]string{"tenant": "claims.tenant", "gone": "claims.gone", "n": "claims.deep.n"},
		Issuer: "https://idp", Audience: []string{"fleet"}, Algorithms: []string{"RS256", "ES256", "EdDSA", "PS256"}}, Environment{})
	good := func(more map[string]any) map[string]any {
		c := map[string]any{"iss": "https://idp", "aud": []string{"x", "fleet"}, "tenant": "acme", "deep": map[string]any{"n": 7}}
		maps.Copy(c, more)
		return c
	}
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	pub, err := x509.MarshalPKIXPublicKey(&i.rsa.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub}))
	// confused is a token whose HMAC key is the public key, for a reader that lets the header choose (RFC 8725, section 2.1).
	confused := func(key []byte) string {
		payload, _ := json.Marshal(good(map[string]any{"sub": "root", "exp": in(time.Minute)}))
		signed := b64([]byte(`{"alg":"HS256","kid":"r"}`)) + "." + b64(payload)
		h := hmac.New(sha256.New, key)
		_, _ = h.Write([]byte(signed))
		return signed + "." + b64(h.Sum(nil))
	}
	valid := i.token("RS256", "r", good(nil))
	parts := strings.Split(valid, ".")
	payload := fmt.Sprintf(`{"iss":"https://idp","aud":"fleet","sub":"a","exp":%d}`, in(time.Minute))
	deep := strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20)
	for _, tt := range []struct {
		what, token string
		want        Decision
		why         string
	}{
		{"RS256", valid, Admitted, ""},
		{"PS256", i.token("PS256", "r", good(nil)), Admitted, ""},
		{"ES256", i.token("ES256", "e", good(nil)), Admitted, ""},
		{"EdDSA", i.token("EdDSA", "d", good(nil)), Admitted, ""},
		{"no kid, one key fits", i.token("ES256", "", good(nil)), Admitted, ""},
		{"expired within the leeway", i.token("ES256", "e", good(map[string]any{"exp": in(-10 * time.Second)})), Admitted, ""},
		{"a password", "correct horse", Unknown, ""},
		{"nothing", "", Unknown, ""},
		{"two dots only", "eyJ..", Unknown, ""},
		{"another issuer", i.token("ES256", "e", good(map[string]any{"iss": "https://evil"})), Unknown, ""},
		{"no issuer", i.token("ES256", "e", map[string]any{"aud": "fleet"}), Unknown, ""},
		{"alg none", i.raw(`{"alg":"none","kid":"r"}`, payload, ""), Refused, whyAlgorithm},
		{"alg None", i.raw(`{"alg":"nOnE","kid":"r"}`, payload, ""), Refused, whyAlgorithm},
		{"HS256 with the PEM", confused([]byte(text)), Refused, whyAlgorithm},
		{"HS256 with the DER", confused(pub), Refused, whyAlgorithm},
		{"HS256 with the modulus", confused(i.rsa.N.Bytes()), Refused, whyAlgorithm},
		{"RS256 for a key of EC", i.raw(`{"alg":"RS256","kid":"e"}`, payload, "RS256"), Refused, whyAlgorithm},
		{"an algorithm that is not allowed", i.raw(`{"alg":"RS512","kid":"r"}`, payload, "RS256"), Refused, whyAlgorithm},
		{"no signature", parts[0] + "." + parts[1] + ".", Refused, whySignature},
		{"another payload", parts[0] + "." + b64([]byte(payload)) + "." + parts[2], Refused, whySignature},
		{"another issuer's key", other.token("RS256", "r", good(nil)), Refused, whySignature},
		{"unknown kid", i.token("RS256", "r9", good(nil)), Refused, whyKey},
		{"a key in the header", i.raw(`{"alg":"ES256","kid":"x","jwk":{"kty":"EC"},"jku":"http://evil"}`, payload, "ES256"), Refused, whyKey},
		{"crit", i.raw(`{"alg":"ES256","kid":"e","crit":["exp"]}`, payload, "ES256"), Refused, whyMalformed},
		{"expired", i.token("ES256", "e", good(map[string]any{"exp": in(-time.Minute)})), Refused, whyExpired},
		{"exp as text", i.token("ES256", "e", good(map[string]any{"exp": "soon"})), Refused, whyMalformed},
		{"exp beyond all time", i.token("ES256", "e", good(map[string]any{"exp": 1e300})), Refused, whyMalformed},
		{"no exp", i.raw(`{"alg":"ES256","kid":"e"}`, `{"iss":"https://idp","aud":"fleet","sub":"a"}`, "ES256"), Refused, whyMalformed},
		{"not yet", i.token("ES256", "e", good(map[string]any{"nbf": in(time.Minute)})), Refused, whyEarly},
		{"another audience", i.token("ES256", "e", good(map[string]any{"aud": "fleet2"})), Refused, whyAudience},
		{"aud with numbers", i.token("ES256", "e", good(map[string]any{"aud": []any{1, nil}})), Refused, whyAudience},
		{"no sub", i.token("ES256", "e", good(map[string]any{"sub": ""})), Refused, whyName},
		{"sub is a list", i.token("ES256", "e", good(map[string]any{"sub": []string{"a"}})), Refused, whyName},
		{"sub with a control character", i.token("ES256", "e", good(map[string]any{"sub": "a\x00b"})), Refused, whyName},
		{"sub twice", i.raw(`{"alg":"ES256","kid":"e"}`, payload[:len(payload)-1]+`,"sub":"root"}`, "ES256"), Refused, whyMalformed},
		{"deep claims", i.raw(`{"alg":"ES256","kid":"e"}`, deep, "ES256"), Refused, whyMalformed},
		{"many claims", i.raw(`{"alg":"ES256","kid":"e"}`, `{"a":[`+strings.Repeat("1,", 600)+`1]}`, "ES256"), Refused, whyMalformed},
		{"oversized claims", i.token("ES256", "e", good(map[string]any{"x": strings.Repeat("x", 9000)})), Refused, whyTooLarge},
		{"oversized name", i.token("ES256", "e", good(map[string]any{"sub": strings.Repeat("x", 2000)})), Refused, whyName},
	} {
		for range 2 { // the second time from what is remembered
			p, d, err := j.Authenticate(t.Context(), bearer(tt.token))
			if err != nil || d != tt.want || d == Refused && p.reason() != tt.why {
				t.Errorf("%s: %v for %q, %v, want %v for %q", tt.what, d, p.reason(), err, tt.want, tt.why)
			}
			if d == Admitted && (p.Name != "pump-1" || p.Client != "pump-1" || p.Attrs["tenant"] != "acme" || p.Attrs["n"] != "7" || len(p.Attrs) != 2 || p.Expires.IsZero()) {
				t.Errorf("%s: %+v", tt.what, p)
			}
		}
	}
}

// A token that was right is decided on the loop, until it expires.
func TestJWTRemembers(t *testing.T) {
	i := newIssuer(t)
	file := i.file("e")
	synctest.Test(t, func(t *testing.T) {
		j := mustJWT(t, JWTSpec{File: file, Remember: time.Hour}, Environment{})
		token := i.token("ES256", "e", nil)
		if _, _, done := j.TryAuthenticate(bearer(token)); done {
			t.Error("decided without a signature")
		}
		if _, d, err := j.Authenticate(t.Context(), bearer(token)); d != Admitted {
			t.Fatal(d, err)
		}
		if _, d, done := j.TryAuthenticate(bearer(token)); !done || d != Admitted {
			t.Error("not remembered")
		}
		time.Sleep(6 * time.Minute)
		if _, _, done := j.TryAuthenticate(bearer(token)); done {
			t.Error("remembered beyond its end")
		}
		if p, d, _ := j.Authenticate(t.Context(), bearer(token)); d != Refused || p.reason() != whyExpired {
			t.Error(d, p.reason())
		}
	})
}

// JWKS rotates, goes down, comes back: known keys stay, unknown ones are refused, and nobody can make the node ask all the time.
func TestJWKSRotates(t *testing.T) {
	i := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		j := &JWT{spec: JWTSpec{MaxToken: 8192, Leeway: time.Second}, algs: jwtAlgorithms(), tokens: newCache[Principal](8), places: make(chan struct{}, 1)}
		var err error
		if j.names, err = (&JWTSpec{User: "claims.sub"}).naming(); err != nil {
			t.Fatal(err)
		}
		var reads int
		set := []byte(nil)
		j.keys = &keys{timeout: time.Second, refresh: 15 * time.Minute, changed: j.tokens.clear, read: func(context.Context) ([]byte, error) {
			reads++
			if set == nil {
				return nil, errors.New("down")
			}
			return set, nil
		}}
		try := func(kid string, want Decision, why string) {
			t.Helper()
			alg := map[byte]string{'e': "ES256", 'd': "EdDSA"}[kid[0]]
			p, d, err := j.Authenticate(t.Context(), bearer(i.token(alg, kid, nil)))
			if d != want || d == Refused && p.reason() != why || (err != nil) != (why == whyDown) {
				t.Errorf("%s: %v for %q, %v; want %v for %q", kid, d, p.reason(), err, want, why)
			}
		}
		for range 100 {
			try("e1", Refused, whyDown) // never seen a set: nobody is told that the token is bad
		}
		if reads != 1 {
			t.Errorf("%d readings at once of what is down, want 1", reads)
		}
		set = i.set("e1")
		time.Sleep(2 * time.Second)
		try("e1", Admitted, "")
		set = i.set("e1", "d2") // rotated
		time.Sleep(keysAgain + time.Second)
		try("d2", Admitted, "")
		reads = 0
		for n := range 100 {
			try(fmt.Sprintf("e-guess-%d", n), Refused, whyKey)
		}
		if reads > 1 {
			t.Errorf("100 tokens with guessed kids caused %d readings", reads)
		}
		set = nil // down
		time.Sleep(time.Hour)
		try("e1", Admitted, "")
		try("d2", Admitted, "")
		try("e3", Refused, whyKey)
		reads = 0
		for range 600 {
			time.Sleep(time.Second)
			try("e3", Refused, whyKey)
		}
		if reads > 12 { // 1, 2, 4 ... 256 s, then every 5 minutes
			t.Errorf("%d readings in ten minutes of what is down", reads)
		}
		set = i.set("e3") // back, without the old ones
		time.Sleep(keysPauses + time.Second)
		try("e3", Admitted, "")
		try("e1", Refused, whyKey)
	})
}

// The set at a URL: first needed, then beside; redirects and wrong answers are no set.
func TestJWKSByURL(t *testing.T) {
	i := newIssuer(t)
	var down atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/away":
			http.Redirect(w, r, "/jwks", http.StatusFound)
		case down.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			_, _ = w.Write(i.set("r", "e"))
		}
	}))
	defer srv.Close()
	reg := observe.NewRegistry()
	m := NewMeter(reg, nil, nil)
	j := mustJWT(t, JWTSpec{JWKS: srv.URL + "/jwks"}, Environment{Meter: m})
	if _, d, err := j.Authenticate(t.Context(), bearer(i.token("RS256", "r", nil))); d != Admitted {
		t.Fatal(d, err)
	}
	down.Store(true)
	if _, d, err := j.Authenticate(t.Context(), bearer(i.token("ES256", "e", nil))); d != Admitted {
		t.Error("known key while the issuer is down:", d, err)
	}
	away := mustJWT(t, JWTSpec{JWKS: srv.URL + "/away"}, Environment{Meter: m})
	_, d, err := NewChain(away).WithMeter(m).Authenticate(t.Context(), bearer(i.token("RS256", "r", nil)))
	if d != Refused || !errors.Is(err, errNoKeys) {
		t.Error("a redirect was followed:", d, err)
	}
	if m.keys[1].Value() != 1 || m.keys[0].Value() != 1 || m.refusals[whyDown].Value() != 1 {
		t.Error("counted", m.keys[1].Value(), m.keys[0].Value(), m.refusals[whyDown].Value())
	}
	for _, bad := range []JWTSpec{{}, {JWKS: "http://idp.example/jwks"}, {JWKS: srv.URL, File: "x"}, {JWKS: "https://u:p@idp.example"}, {JWKS: srv.URL, Client: "claims."},
		{JWKS: srv.URL, Client: "claim.sub"}, {JWKS: srv.URL, Attrs: map[string]string{"a b": "claims.x"}}} {
		if _, err := NewJWT(bad, Environment{}); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// Keys that must not verify anything are left out of a set (RFC 7517; RFC 8725, section 3.2).
func TestKeySetLeavesOut(t *testing.T) {
	i := newIssuer(t)
	weak := "AMSHxFKhw1-xV3NyBm5vXyKIm_MXqZiwyZ0G5PpKEB2mEuZ1" // far below 2048 bits
	for what, keys := range map[string]string{
		"symmetric":     `{"kty":"oct","k":"AAAA","kid":"r"}`,
		"weak":          `{"kty":"RSA","n":"` + weak + `","e":"AQAB"}`,
		"encryption":    `{"kty":"RSA","use":"enc","n":"` + b64(i.rsa.N.Bytes()) + `","e":"AQAB"}`,
		"exponent 1":    `{"kty":"RSA","n":"` + b64(i.rsa.N.Bytes()) + `","e":"AQ"}`,
		"off the curve": `{"kty":"EC","crv":"P-256","x":"` + b64(make([]byte, 32)) + `","y":"` + b64(make([]byte, 32)) + `"}`,
		"short":         `{"kty":"OKP","crv":"Ed25519","x":"AAAA"}`,
	} {
		if s, err := parseKeySet([]byte(`{"keys":[` + keys + `]}`)); err == nil {
			t.Errorf("%s: %d keys", what, len(s.keys))
		}
	}
}

// MQTT 5, section 4.12: the exchange JWT takes a token, at the beginning and again.
func TestJWTExchange(t *testing.T) {
	i := newIssuer(t)
	c := NewChain(mustJWT(t, JWTSpec{File: i.file("e")}, Environment{}))
	x, ok := c.Exchange("JWT")
	if !ok || !x.Slow() || x.Method() != "JWT" {
		t.Fatal("not offered")
	}
	if _, _, done, err := x.Step(t.Context(), nil); done || err != nil {
		t.Error("an empty first message asks to begin", done, err)
	}
	if _, p, done, err := x.Step(t.Context(), []byte(i.token("ES256", "e", nil))); !done || err != nil || p.Name != "pump-1" {
		t.Error(p, done, err)
	}
	x, _ = c.Exchange("JWT")
	if _, p, _, err := x.Step(t.Context(), []byte("eyJ.x.y")); err == nil || p.Name != "" {
		t.Error("nonsense is taken")
	}
}

func FuzzJWT(f *testing.F) {
	for _, s := range []string{"eyJ.e30.x", "eyJhbGciOiJub25lIn0.e30.", "..", `{"a":[1,{"b":null}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = parseObject(b)
		_, _ = parseKeySet(b)
		if t, ok := splitToken(b); ok {
			_, _ = parseObject(unbase64(string(t.payload)))
		}
	})
}
