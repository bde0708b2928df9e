package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/windrose-edc/windrose/internal/clienttls"
	"github.com/windrose-edc/windrose/internal/event"
)

// CalloutSpec is `http:` in the list of authenticators. Immutable after it is read.
type CalloutSpec struct {
	URL          string         `yaml:"url" required:"true" unit:"url" enum:"https|http" doc:"Where credentials are sent as a POST of JSON: listener, client, user, password, remote, psk_identity and cert (subject, cn, fingerprint). The answer is status 200 and JSON: result (allow, deny, or ignore: the rest of the list decides), user, client (the client id that it fixes), attrs, expires (Unix seconds). http only on loopback." example:"https://auth.example/check"`
	Token        string         `yaml:"token" unit:"secret" doc:"Secret sent as Authorization: Bearer."`
	SendPassword bool           `yaml:"send_password" default:"true" doc:"Send the password; else only who the client says it is and what TLS proved."`
	Timeout      time.Duration  `yaml:"timeout" default:"2s" min:"10ms" max:"30s" doc:"How long a call may take; then it counts as failed."`
	Concurrent   int            `yaml:"concurrent" default:"16" min:"1" max:"1024" doc:"Calls at once; the others wait."`
	Cache        time.Duration  `yaml:"cache" default:"5m" min:"0s" max:"24h" doc:"How long an allow is remembered, for the same credentials; 0s asks each time."`
	CacheDeny    time.Duration  `yaml:"cache_deny" default:"10s" min:"0s" max:"1h" doc:"How long a deny is remembered, for the same credentials."`
	Stale        time.Duration  `yaml:"stale" default:"1h" min:"0s" max:"168h" doc:"How long after its allow a known client still gets in while the callout fails. Unknown clients are refused then."`
	Remembered   int            `yaml:"remembered" default:"65536" min:"0" max:"1000000" doc:"Answers that are remembered, a few hundred bytes each."`
	TLS          clienttls.Spec `yaml:"tls" doc:"The client side of TLS towards the URL."`
}

// Validate says what is wrong with a specification.
func (s *CalloutSpec) Validate() error {
	if err := checkURL(s.URL); err != nil {
		return &fieldError{"url", err}
	}
	return nil
}

// The pauses after calls that failed: as long, nobody waits for a call.
const (
	calloutRetry  = 500 * time.Millisecond // it doubles
	calloutPauses = 15 * time.Second
	maxCallout    = 64 << 10 // bytes of an answer
)

var (
	errCalloutBusy = errors.New("too many credentials wait for the callout")
	errCalloutDown = errors.New("the callout has failed a moment ago")
)

// Callout asks an HTTP endpoint. It fails closed: without an answer only those get in whom it has allowed before with the same
// credentials, not too long ago. Safe for concurrent use.
type Callout struct {
	spec    CalloutSpec
	meter   *Meter
	client  *http.Client
	answers *cache[verdict]
	places  chan struct{} // one for each call that may be made now
	waiting atomic.Int64

	mu    sync.Mutex
	until time.Time // no calls before. Guarded by mu.
	fails int       // in a row. Guarded by mu.
}

// verdict is an answer. Immutable.
type verdict struct {
	p     Principal
	d     Decision
	fresh time.Time // until then it needs no call
}

// NewCallout returns the authenticator of a specification. Nothing is called yet.
func NewCallout(spec CalloutSpec, env Environment) (*Callout, error) {
	if err := spec.Validate(); err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	tc, err := spec.TLS.Config()
	if err != nil {
		return nil, fmt.Errorf("http: tls: %w", err)
	}
	n := max(spec.Concurrent, 1)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: tc, MaxConnsPerHost: n, MaxIdleConnsPerHost: n, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &Callout{spec: spec, meter: env.Meter, client: client, answers: newCache[verdict](spec.Remembered), places: make(chan struct{}, n)}, nil
}

// Stage has no files to read again.
func (*Callout) Stage() (commit func(), err error) { return func() {}, nil }

// Name is "http".
func (*Callout) Name() string { return "http" }

// Slow says yes: a call takes time.
func (*Callout) Slow() bool { return true }

// CalloutStats is what a callout holds.
type CalloutStats struct {
	Waiting    int // for a call, or its answer
	Remembered int
}

// Stats tells what to show.
func (h *Callout) Stats() CalloutStats {
	return CalloutStats{Waiting: int(h.waiting.Load()), Remembered: h.answers.len()}
}

func (h *Callout) key(c *Credentials) recentKey {
	var cert, name []byte
	if len(c.Certificates) > 0 {
		cert = c.Certificates[0].Raw
	}
	if c.HasUsername {
		name = append([]byte("u"), c.Username...)
	}
	return h.answers.key([]byte(c.Listener), []byte(c.ClientID), name, c.Password, cert, []byte(c.PSKIdentity))
}

// TryAuthenticate decides what needs no call: a peer that showed nothing, and what is remembered; while calls fail, what was
// allowed before.
func (h *Callout) TryAuthenticate(c *Credentials) (p Principal, d Decision, done bool) {
	switch {
	case !c.presented():
		return Principal{}, Unknown, true
	case h.spec.SendPassword && !utf8.Valid(c.Password): // JSON would make another of it
		return Principal{refusal: whyMalformed}, Refused, true
	}
	return h.remembered(h.key(c), time.Now(), false)
}

func (h *Callout) remembered(k recentKey, now time.Time, wait bool) (p Principal, d Decision, done bool) {
	v, ok := h.answers.get(k, now, wait)
	switch {
	case !ok || !v.p.Expires.IsZero() && !now.Before(v.p.Expires):
		return Principal{}, Unknown, false
	case now.Before(v.fresh):
		h.meter.called(callCached)
		return v.p, v.d, true
	case v.d == Admitted && h.down(now):
		h.meter.called(callStale)
		return v.p, v.d, true
	}
	return Principal{}, Unknown, false
}

// down says whether calls failed so that none is made now.
func (h *Callout) down(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return now.Before(h.until)
}

// Authenticate asks the endpoint. An error is a call that failed, or one that could not be made in time, where nothing is
// remembered.
func (h *Callout) Authenticate(ctx context.Context, c *Credentials) (Principal, Decision, error) {
	if p, d, done := h.TryAuthenticate(c); done {
		return p, d, nil
	}
	k := h.key(c)
	if p, d, done := h.remembered(k, time.Now(), true); done {
		return p, d, nil
	}
	if _, known := h.known(k); known { // it need not wait for a place as long as others
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, h.spec.Timeout)
		defer cancel()
	}
	v, err := h.ask(ctx, k, c)
	if err == nil {
		return v.p, v.d, nil
	}
	if p, known := h.known(k); known {
		h.meter.called(callStale)
		return p, Admitted, nil
	}
	return Principal{refusal: whyDown}, Refused, err
}

// known is who was allowed before with the credentials of that key.
func (h *Callout) known(k recentKey) (Principal, bool) {
	now := time.Now()
	v, ok := h.answers.get(k, now, true)
	return v.p, ok && v.d == Admitted && (v.p.Expires.IsZero() || now.Before(v.p.Expires))
}

// ask makes a call when a place is free for it, and remembers the answer.
func (h *Callout) ask(ctx context.Context, k recentKey, c *Credentials) (v verdict, err error) {
	defer h.waiting.Add(-1)
	if h.waiting.Add(1) > maxWaiting {
		h.meter.called(callBusy)
		return v, errCalloutBusy
	}
	select {
	case h.places <- struct{}{}:
	case <-ctx.Done():
		h.meter.called(callBusy)
		return v, fmt.Errorf("wait for the callout: %w", ctx.Err())
	}
	defer func() { <-h.places }()
	if h.down(time.Now()) { // it failed while this one waited
		h.meter.called(callFailed)
		return v, errCalloutDown
	}
	own, cancel := context.WithTimeout(ctx, h.spec.Timeout)
	defer cancel()
	v, ttl, err := h.call(own, c)
	now := time.Now()
	if h.ended(err, now); err != nil {
		h.meter.called(callFailed)
		h.meter.warn("callout/"+h.spec.URL, "callout fails; only clients it has allowed before get in", slog.String("url", h.spec.URL), slog.String("error", err.Error()))
		return v, err
	}
	v.fresh = now.Add(ttl)
	keep := v.fresh
	switch v.d {
	case Admitted:
		h.meter.called(callAllow)
		keep = now.Add(max(ttl, h.spec.Stale))
	case Refused:
		h.meter.called(callDeny)
	case Unknown:
		h.meter.called(callIgnore)
	}
	h.answers.put(k, v, now, keep)
	return v, nil
}

// ended notes how a call ended.
func (h *Callout) ended(err error, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.fails, h.until = 0, time.Time{}
		return
	}
	if now.Before(h.until) {
		return // others that were under way with the one that failed first
	}
	h.until = now.Add(min(calloutRetry<<min(h.fails, 10), calloutPauses))
	h.fails++
}

// question is what an endpoint is asked.
type question struct {
	Listener string  `json:"listener"`
	Client   string  `json:"client"`
	User     *string `json:"user,omitempty"`
	Password *string `json:"password,omitempty"`
	Remote   string  `json:"remote,omitempty"`
	PSK      string  `json:"psk_identity,omitempty"`
	Cert     *asked  `json:"cert,omitempty"`
}

// asked is the verified certificate of a question.
type asked struct {
	Subject     string `json:"subject"`
	CN          string `json:"cn"`
	Fingerprint string `json:"fingerprint"` // SHA-256
}

func (h *Callout) call(ctx context.Context, c *Credentials) (v verdict, ttl time.Duration, err error) {
	q := question{Listener: c.Listener, Client: c.ClientID, PSK: c.PSKIdentity}
	if c.HasUsername {
		q.User = &c.Username
	}
	if h.spec.SendPassword && len(c.Password) > 0 {
		s := string(c.Password)
		q.Password = &s
	}
	if c.Remote.IsValid() {
		q.Remote = c.Remote.String()
	}
	if len(c.Certificates) > 0 {
		leaf := c.Certificates[0]
		q.Cert = &asked{Subject: leaf.Subject.String(), CN: leaf.Subject.CommonName, Fingerprint: fingerprint(leaf)}
	}
	b, err := json.Marshal(&q)
	if err != nil {
		return v, 0, fmt.Errorf("encode question: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.spec.URL, bytes.NewReader(b))
	if err != nil {
		return v, 0, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if h.spec.Token != "" {
		req.Header.Set("Authorization", "Bearer "+h.spec.Token)
	}
	res, err := h.client.Do(req)
	if err != nil {
		return v, 0, fmt.Errorf("call: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return v, 0, fmt.Errorf("call: status %d", res.StatusCode)
	}
	if b, err = io.ReadAll(io.LimitReader(res.Body, maxCallout+1)); err != nil {
		return v, 0, fmt.Errorf("read answer: %w", err)
	}
	return h.answer(b, c)
}

var errAnswer = errors.New("answer is not as it should be: JSON with result allow, deny or ignore, and text in user, client and attrs")

// answer reads what an endpoint says. All that is wrong in it is a call that failed.
func (h *Callout) answer(b []byte, c *Credentials) (v verdict, ttl time.Duration, err error) {
	if len(b) > maxCallout {
		return v, 0, errAnswer
	}
	m, err := parseObject(b)
	if err != nil {
		return v, 0, errAnswer
	}
	switch m["result"] {
	case "allow":
	case "deny":
		return verdict{p: Principal{refusal: whyDenied}, d: Refused}, h.spec.CacheDeny, nil
	case "ignore":
		return verdict{d: Unknown}, h.spec.CacheDeny, nil
	default:
		return v, 0, errAnswer
	}
	v.d, v.p = Admitted, Principal{Name: c.Username, Method: h.Name()}
	switch {
	case v.p.Name != "":
	case c.PSKIdentity != "":
		v.p.Name = c.PSKIdentity
	case len(c.Certificates) > 0:
		v.p.Name = c.Certificates[0].Subject.CommonName
	}
	ok := texts(m, "user", &v.p.Name) && texts(m, "client", &v.p.Client)
	if e, there := m["expires"]; there && ok {
		v.p.Expires, ok = numericDate(e)
	}
	if a, there := m["attrs"]; there && ok {
		var attrs map[string]any
		attrs, ok = a.(map[string]any)
		v.p.Attrs = make(map[string]string, len(attrs))
		for name, x := range attrs {
			s, is := x.(string)
			ok = ok && is && attrName(name) && len(s) <= maxValue && event.ValidUTF8([]byte(s))
			v.p.Attrs[name] = s
		}
	}
	if !ok {
		return verdict{}, 0, errAnswer
	}
	if !v.p.Expires.IsZero() && !time.Now().Before(v.p.Expires) {
		return verdict{p: Principal{refusal: whyExpired}, d: Refused}, h.spec.CacheDeny, nil
	}
	return v, h.spec.Cache, nil
}

// texts reads an optional text of an answer into s; ok is false where it is there and is no name.
func texts(m map[string]any, name string, s *string) (ok bool) {
	x, there := m[name]
	if !there {
		return true
	}
	t, is := x.(string)
	if !is || t == "" || len(t) > maxValue || !event.ValidUTF8([]byte(t)) {
		return false
	}
	*s = t
	return true
}
