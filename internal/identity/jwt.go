package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/windrose-edc/windrose/internal/clienttls"
	"github.com/windrose-edc/windrose/internal/expr"
)

// JWTSpec is `jwt:` in the list of authenticators. Immutable after it is read.
type JWTSpec struct {
	JWKS       string            `yaml:"jwks" unit:"url" enum:"https|http" doc:"URL of the issuer's key set (JWKS). It is read again when it is old and when a token names a key that is not in it; while it cannot be read the known keys stay. http only on loopback." example:"https://idp.example/jwks"`
	File       string            `yaml:"jwks_file" unit:"file" doc:"File with the key set, instead of a URL."`
	User       string            `yaml:"user" unit:"expr" default:"claims.sub" doc:"Name of the principal, an expression over claims."`
	Client     string            `yaml:"client" unit:"expr" doc:"Client id that the token fixes, an expression over claims: a client that names another is refused, one that names none gets it. Empty: any." example:"claims.sub"`
	Attrs      map[string]string `yaml:"attrs" unit:"expr" doc:"Attributes of the principal, expressions over claims; one without a value is left out." example:"{ tenant: claims.tenant }"`
	Issuer     string            `yaml:"issuer" doc:"What iss must be; tokens of others are left to the rest of the list. Empty: any."`
	Audience   []string          `yaml:"audience" single:"true" doc:"One of these must be in aud. Empty: any."`
	Algorithms []string          `yaml:"algorithms" single:"true" enum:"RS256|RS384|RS512|PS256|PS384|PS512|ES256|ES384|ES512|EdDSA" default:"[RS256, ES256, EdDSA]" doc:"Signatures that are accepted. There is no none and none with a shared secret."`
	Leeway     time.Duration     `yaml:"leeway" default:"30s" min:"0s" max:"5m" doc:"How far the clock of the issuer may be off."`
	MaxToken   int64             `yaml:"max_token" unit:"size" default:"8KiB" min:"256" max:"64KiB" doc:"Longer tokens are refused unread."`
	Refresh    time.Duration     `yaml:"refresh" default:"15m" min:"10s" max:"24h" doc:"Age at which the key set is read again."`
	Timeout    time.Duration     `yaml:"timeout" default:"5s" min:"100ms" max:"30s" doc:"How long reading the key set may take."`
	Remember   time.Duration     `yaml:"remember" default:"5m" min:"0s" max:"1h" doc:"How long a token that was right is not verified again; 0s verifies each time."`
	TLS        clienttls.Spec    `yaml:"tls" doc:"The client side of TLS towards the URL."`
}

// Validate says what is wrong with a specification.
func (s *JWTSpec) Validate() error {
	if (s.JWKS == "") == (s.File == "") {
		return &fieldError{"jwks", errors.New("name either a URL in jwks or a file in jwks_file")}
	}
	if s.JWKS != "" {
		if err := checkURL(s.JWKS); err != nil {
			return &fieldError{"jwks", err}
		}
	}
	_, err := s.naming()
	return err
}

func (s *JWTSpec) naming() (naming, error) {
	return newNaming([]expr.RowField{{Name: "claims", Kind: expr.Map}}, s.User, s.Client, s.Attrs)
}

// Environment is what authenticators that count, log and work beside the loops need of the node. Immutable.
type Environment struct {
	Meter  *Meter                 // may be nil
	Beside func(work func()) bool // runs work in a goroutine that somebody waits for; nil: nothing is done in advance
}

// JWT admits the bearer of a signed token (RFC 7519), shown as the password or by the exchange "JWT". The token's expiry is
// the principal's. Safe for concurrent use.
type JWT struct {
	spec    JWTSpec
	names   naming
	algs    []jwtAlgorithm
	keys    *keys
	tokens  *cache[Principal]
	places  chan struct{} // one for each signature that may be verified now
	waiting atomic.Int64
}

// NewJWT returns the authenticator of a specification. A key set in a file is read; one at a URL is read when it is first
// needed, so that a node starts while its issuer is down.
func NewJWT(spec JWTSpec, env Environment) (*JWT, error) {
	if spec.User == "" {
		spec.User = "claims.sub"
	}
	if len(spec.Algorithms) == 0 {
		spec.Algorithms = []string{"RS256", "ES256", "EdDSA"}
	}
	if spec.MaxToken == 0 {
		spec.MaxToken = 8 << 10
	}
	if spec.Timeout == 0 {
		spec.Timeout = 5 * time.Second
	}
	if spec.Refresh == 0 {
		spec.Refresh = 15 * time.Minute
	}
	if err := spec.Validate(); err != nil {
		return nil, fmt.Errorf("jwt: %w", err)
	}
	j := &JWT{spec: spec, tokens: newCache[Principal](maxRemembered), places: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	var err error
	if j.names, err = spec.naming(); err != nil {
		return nil, fmt.Errorf("jwt: %w", err)
	}
	for _, a := range jwtAlgorithms() {
		if slices.Contains(spec.Algorithms, a.name) {
			j.algs = append(j.algs, a)
		}
	}
	if len(j.algs) != len(spec.Algorithms) {
		return nil, errors.New("jwt: algorithms: unknown or twice")
	}
	j.keys = &keys{timeout: spec.Timeout, refresh: spec.Refresh, beside: env.Beside, meter: env.Meter, changed: j.tokens.clear}
	if spec.File != "" {
		j.keys.source, j.keys.read = spec.File, readFile(spec.File)
		commit, err := j.Stage()
		if err != nil {
			return nil, err
		}
		commit()
		return j, nil
	}
	tc, err := spec.TLS.Config()
	if err != nil {
		return nil, fmt.Errorf("jwt: tls: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: tc, MaxConnsPerHost: 1, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	j.keys.source, j.keys.read = spec.JWKS, readURL(client, spec.JWKS)
	if env.Beside != nil {
		env.Beside(func() { j.keys.update(context.Background()) })
	}
	return j, nil
}

// Stage reads a key set in a file again and returns what makes it take effect. For a URL it does nothing.
func (j *JWT) Stage() (commit func(), err error) {
	if j.spec.File == "" {
		return func() {}, nil
	}
	b, err := j.keys.read(context.Background())
	if err != nil {
		return nil, err
	}
	s, err := parseKeySet(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", j.spec.File, err)
	}
	return func() { j.keys.put(s) }, nil
}

// Name is "jwt".
func (j *JWT) Name() string { return "jwt" }

// Slow says yes: a signature takes CPU time, a key that is not known a request.
func (j *JWT) Slow() bool { return true }

// TryAuthenticate decides where no signature has to be verified: what is no token, one that is too long, or one that was found
// right a short while ago.
func (j *JWT) TryAuthenticate(c *Credentials) (p Principal, d Decision, done bool) {
	switch {
	case !looksLikeToken(c.Password):
		return Principal{}, Unknown, true
	case int64(len(c.Password)) > j.spec.MaxToken:
		return Principal{refusal: whyTooLarge}, Refused, true
	}
	now := time.Now()
	if p, ok := j.tokens.get(j.tokens.key(c.Password), now, false); ok && now.Before(p.Expires) {
		return p, Admitted, true
	}
	return Principal{}, Unknown, false
}

// Authenticate verifies a token. What is no token is Unknown, and so is one of another issuer where the specification names
// one. A token of a key that is not in the set is Refused, after the set was read again. The error says that there is no key
// set yet, or that too many wait.
func (j *JWT) Authenticate(ctx context.Context, c *Credentials) (Principal, Decision, error) {
	if p, d, done := j.TryAuthenticate(c); done {
		return p, d, nil
	}
	t, ok := splitToken(c.Password)
	if !ok {
		return Principal{}, Unknown, nil
	}
	refused := func(why string) (Principal, Decision, error) { return Principal{refusal: why}, Refused, nil }
	claims, err := parseObject(unbase64(string(t.payload)))
	if iss, _ := claims["iss"].(string); j.spec.Issuer != "" && err == nil && iss != j.spec.Issuer {
		return Principal{}, Unknown, nil
	}
	i := slices.IndexFunc(j.algs, func(a jwtAlgorithm) bool { return a.name == t.alg })
	sig := unbase64(string(t.sig))
	switch {
	case err != nil || t.crit:
		return refused(whyMalformed)
	case i < 0:
		return refused(whyAlgorithm)
	case len(sig) == 0:
		return refused(whySignature)
	}
	key, known, err := j.keys.find(ctx, t.kid, &j.algs[i])
	switch {
	case err != nil:
		return Principal{refusal: whyDown}, Refused, err
	case !known:
		return refused(whyKey)
	case key == nil:
		return refused(whyAlgorithm)
	}
	ok, err = j.verify(ctx, &j.algs[i], key, t.signed, sig)
	switch {
	case err != nil:
		return Principal{refusal: whyDown}, Refused, err
	case !ok:
		return refused(whySignature)
	}
	p, why := j.principal(claims, time.Now())
	if why != "" {
		return refused(why)
	}
	now := time.Now()
	j.tokens.put(j.tokens.key(c.Password), p, now, now.Add(j.spec.Remember))
	return p, Admitted, nil
}

// verify checks a signature when a place is free for it.
func (j *JWT) verify(ctx context.Context, a *jwtAlgorithm, key *jwk, signed, sig []byte) (bool, error) {
	defer j.waiting.Add(-1)
	if j.waiting.Add(1) > maxWaiting {
		return false, errTokens
	}
	select {
	case j.places <- struct{}{}:
	case <-ctx.Done():
		return false, fmt.Errorf("wait to verify a token: %w", ctx.Err())
	}
	defer func() { <-j.places }()
	return a.ok(key.pub, a.hash, signed, sig), nil
}

var errTokens = errors.New("too many tokens to verify")

// principal holds claims whose signature is right against the specification (RFC 7519, section 4.1).
func (j *JWT) principal(claims map[string]any, now time.Time) (p Principal, why string) {
	exp, ok := numericDate(claims["exp"])
	if !ok {
		return p, whyMalformed // a token that is good for ever is none
	}
	if exp = exp.Add(j.spec.Leeway); !now.Before(exp) {
		return p, whyExpired
	}
	if v, there := claims["nbf"]; there {
		nbf, ok := numericDate(v)
		if !ok {
			return p, whyMalformed
		}
		if now.Add(j.spec.Leeway).Before(nbf) {
			return p, whyEarly
		}
	}
	if !j.meant(claims["aud"]) {
		return p, whyAudience
	}
	p = Principal{Method: j.Name(), Expires: exp}
	if !j.names.name(&p, func(string) any { return claims }) {
		return Principal{}, whyName
	}
	return p, ""
}

// meant says whether aud, a text or a list of texts, names one of ours.
func (j *JWT) meant(aud any) bool {
	if len(j.spec.Audience) == 0 {
		return true
	}
	if s, ok := aud.(string); ok {
		return slices.Contains(j.spec.Audience, s)
	}
	list, _ := aud.([]any)
	return slices.ContainsFunc(list, func(a any) bool { s, ok := a.(string); return ok && slices.Contains(j.spec.Audience, s) })
}

// numericDate is a time in seconds (RFC 7519, section 2); ok is false for what is none, or beyond the year 9999.
func numericDate(v any) (t time.Time, ok bool) {
	switch x := v.(type) {
	case int64:
		return time.Unix(x, 0), x >= 0 && x <= maxDate
	case float64:
		return time.Unix(int64(min(max(x, 0), maxDate)), 0), x >= 0 && x <= maxDate
	}
	return t, false
}

const maxDate = 253402300799

// JWTStats is what a JWT authenticator holds.
type JWTStats struct {
	Keys       int // 0: none could be read yet
	Waiting    int // signatures to verify; at most 4,096
	Remembered int // tokens that are not verified again for now; at most 65,536
}

// Stats tells what to show.
func (j *JWT) Stats() JWTStats {
	s := JWTStats{Waiting: int(j.waiting.Load()), Remembered: j.tokens.len()}
	if set := j.keys.set.Load(); set != nil {
		s.Keys = len(set.keys)
	}
	return s
}

// MethodJWT is the exchange that takes a token: its first and only message. A client renews its token with it while it stays
// connected (MQTT 5, section 4.12.1).
const MethodJWT = "JWT"

// Exchange implements Exchanger.
func (j *JWT) Exchange(method string) (Exchange, bool) {
	if method != MethodJWT {
		return nil, false
	}
	return &jwtExchange{j: j}, true
}

// jwtExchange is one token. Owned by the session that runs it.
type jwtExchange struct {
	j     *JWT
	asked bool
}

func (x *jwtExchange) Method() string { return MethodJWT }

// Slow implements Exchange.
func (x *jwtExchange) Slow() bool { return true }

func (x *jwtExchange) Step(ctx context.Context, msg []byte) ([]byte, Principal, bool, error) {
	if len(msg) == 0 && !x.asked {
		x.asked = true
		return nil, Principal{}, false, nil
	}
	p, d, err := x.j.Authenticate(ctx, &Credentials{Password: msg})
	switch {
	case err != nil:
		return nil, Principal{}, false, fmt.Errorf("%w: %w", ErrExchangeBusy, err)
	case d != Admitted:
		x.j.keys.meter.refuse(x.j.Name(), p.reason(), &Credentials{})
		return nil, Principal{}, false, errTokenRefused
	}
	x.j.keys.meter.admit()
	return nil, p, true, nil
}

var errTokenRefused = errors.New("token refused")
