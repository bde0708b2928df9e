// Package webhook is the pool driver that posts events to HTTP endpoints: as CloudEvents in binary or structured mode,
// or as the bare payload, over HTTP/1.1 or HTTP/2. One request is one event; what its status means is in outcome.go.
// Redirects are not followed, for they would send events where nobody configured it.
//
// # Concurrency
//
// A Driver is immutable after New and safe for concurrent use; its links share one transport, which keeps connections
// open between requests. Each request runs in a goroutine that its link waits for; the pool's window bounds their
// number.
package webhook

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/windrose-edc/windrose/internal/clienttls"
	"github.com/windrose-edc/windrose/internal/cloudevents"
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/pool"
)

// The modes of a request.
const (
	BinaryMode     = "cloudevents-binary"
	StructuredMode = "cloudevents-structured"
	RawMode        = "raw"
)

// TopicHeader holds the percent-encoded topic in raw mode.
const TopicHeader = "Windrose-Topic"

// maxBody bounds how much of an answer is read, so that its connection can be used again.
const maxBody = 64 << 10

// Spec is the configuration of a webhook pool. Immutable after New.
type Spec struct {
	URLs          []string          `yaml:"urls" unit:"url" enum:"http|https" required:"true" doc:"Endpoints, all equivalent; each is a member of the pool." example:"[https://hooks.example/in]"`
	Mode          string            `yaml:"mode" enum:"cloudevents-binary|cloudevents-structured|raw" default:"cloudevents-binary" doc:"Shape of the request; raw sends the payload alone, with its topic in the header Windrose-Topic."`
	Method        string            `yaml:"method" enum:"POST|PUT|PATCH" default:"POST" doc:"Method of the request."`
	Headers       map[string]string `yaml:"headers" doc:"Further headers of each request."`
	SecretHeaders map[string]string `yaml:"secret_headers" unit:"secret" doc:"Further headers whose values are secrets, such as Authorization."`
	Timeout       time.Duration     `yaml:"timeout" default:"10s" min:"10ms" doc:"Time for one request, from connecting to the end of the answer."`
	MaxInFlight   int               `yaml:"max_in_flight" default:"16" min:"1" max:"10000" doc:"Requests at the same time to each endpoint."`
	Source        string            `yaml:"source" doc:"CloudEvents attribute source; /windrose/NODE/LISTENER when empty."`
	Type          string            `yaml:"type" default:"windrose.event" doc:"CloudEvents attribute type."`
	TLS           clienttls.Spec    `yaml:"tls" doc:"How endpoints with https are checked."`
}

// Options are the surroundings of a driver.
type Options struct {
	Node    string // part of the CloudEvents source
	Pool    string // label of the metrics
	Metrics *observe.Registry
}

// Driver implements pool.Driver. Immutable after New; safe for concurrent use.
type Driver struct {
	spec    Spec
	encoder *cloudevents.Encoder
	header  http.Header
	host    string
	client  *http.Client
	dropped *observe.Counter
}

// New reads the files that s names and returns a driver. Zero fields of s take their defaults.
func New(s Spec, o Options) (*Driver, error) {
	s.Mode = cmp.Or(s.Mode, BinaryMode)
	s.Method = cmp.Or(s.Method, http.MethodPost)
	s.Timeout = cmp.Or(s.Timeout, 10*time.Second)
	s.MaxInFlight = cmp.Or(s.MaxInFlight, 16)
	if !slices.Contains([]string{BinaryMode, StructuredMode, RawMode}, s.Mode) {
		return nil, fmt.Errorf("configure webhook %q: unknown mode %q", o.Pool, s.Mode)
	}
	d := &Driver{
		spec: s, encoder: cloudevents.New(cloudevents.Options{Node: o.Node, Source: s.Source, Type: s.Type}), header: make(http.Header),
		dropped: o.Metrics.Counter("windrose_webhook_dropped_values_total", "Metadata that has no place in the request.", "pool", o.Pool),
	}
	d.header.Set("User-Agent", "windrose")
	for _, headers := range []map[string]string{s.Headers, s.SecretHeaders} {
		for name, value := range headers {
			if !isToken(name) || strings.ContainsAny(value, "\r\n\x00") {
				return nil, fmt.Errorf("configure webhook %q: header %q cannot be sent", o.Pool, name)
			}
			if strings.EqualFold(name, "Host") {
				d.host = value
				continue
			}
			d.header.Set(name, value)
		}
	}
	conf, err := s.TLS.Config()
	if err != nil {
		return nil, fmt.Errorf("configure webhook %q: %w", o.Pool, err)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	d.client = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: s.Timeout, KeepAlive: 15 * time.Second}).DialContext,
			TLSClientConfig:        conf,
			TLSHandshakeTimeout:    s.Timeout,
			Protocols:              &protocols,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: s.Timeout},
			MaxIdleConnsPerHost:    s.MaxInFlight,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: maxBody,
			DisableCompression:     true,
		},
	}
	return d, nil
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// Dial implements pool.Driver. It does not connect: the first request does.
func (d *Driver) Dial(_ context.Context, member string) (pool.Link, error) {
	u, err := url.Parse(member)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("endpoint is not an http or https URL") // without the URL: it may hold credentials
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &link{d: d, url: u, ctx: ctx, cancel: cancel, done: make(chan struct{})}, nil
}

// Close closes the connections that are idle. Links end by their own Close.
func (d *Driver) Close() { d.client.CloseIdleConnections() }

// link is one endpoint. Safe for concurrent use: immutable after Dial but for closed, which is guarded by mu.
type link struct {
	d      *Driver
	url    *url.URL
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
}

// Done implements pool.Link.
func (l *link) Done() <-chan struct{} { return l.done }

// Window implements pool.Link.
func (l *link) Window() int { return l.d.spec.MaxInFlight }

// Ordered implements pool.Link: requests overtake each other.
func (l *link) Ordered() bool { return false }

// Close implements pool.Link. It ends running requests and waits for their answers to be told.
func (l *link) Close() error {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	l.mu.Unlock()
	if first {
		l.cancel()
		close(l.done)
	}
	l.wg.Wait()
	return nil
}

var errClosed = errors.New("link is closed")

// Send implements pool.Link.
func (l *link) Send(id pool.ID, ev *event.Kept, done func(pool.Result)) {
	l.mu.Lock()
	closed := l.closed
	if !closed {
		l.wg.Add(1)
	}
	l.mu.Unlock()
	if closed {
		done(pool.Result{Outcome: event.Unavailable, Retry: true, Down: true, Err: errClosed})
		return
	}
	go func() {
		defer l.wg.Done()
		done(l.post(id, ev))
	}()
}

// post makes one request.
func (l *link) post(id pool.ID, ev *event.Kept) pool.Result {
	ctx, cancel := context.WithTimeout(l.ctx, l.d.spec.Timeout)
	defer cancel()
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	req, err := l.d.request(ctx, l.url, id, ev)
	if err != nil {
		return pool.Result{Outcome: event.Internal, Err: err}
	}
	resp, err := l.d.client.Do(req)
	if err != nil {
		return failure(err, connected.Load())
	}
	// The answer's status says it all; its body is read only so that the connection can be used again.
	_, _ = io.CopyN(io.Discard, resp.Body, maxBody)
	_ = resp.Body.Close()
	return ofStatus(resp.StatusCode, resp.Header.Get("Retry-After"), time.Now())
}

// request is the event as a request.
func (d *Driver) request(ctx context.Context, u *url.URL, id pool.ID, ev *event.Kept) (*http.Request, error) {
	header := d.header.Clone()
	set := func(name, value string) { header.Set(name, value) }
	body, dropped := ev.Payload, 0
	switch d.spec.Mode {
	case BinaryMode:
		body, dropped = d.encoder.HTTP(&ev.Event, id.String(), set)
	case StructuredMode:
		var contentType string
		body, contentType, dropped = d.encoder.JSON(make([]byte, 0, 512+2*len(ev.Payload)), &ev.Event, id.String())
		header.Set("Content-Type", contentType)
	default:
		d.raw(ev, header)
	}
	if dropped > 0 {
		d.dropped.Add(uint64(dropped))
	}
	if tc, ok := event.TraceOf(&ev.Event); ok { // W3C trace context, section 3.2: the receiver goes on where the sender was
		header.Set(event.HeaderTraceparent, string(tc.Parent))
		if tc.State != nil {
			header.Set(event.HeaderTracestate, string(tc.State))
		}
	}
	req, err := http.NewRequestWithContext(ctx, d.spec.Method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("cannot make the request") // without the URL: it may hold credentials
	}
	req.Header = header
	if d.host != "" {
		req.Host = d.host
	}
	return req, nil
}

// raw is the payload alone.
func (d *Driver) raw(ev *event.Kept, header http.Header) {
	header.Set(TopicHeader, (&url.URL{Path: string(ev.Topic)}).EscapedPath())
	if ct := string(ev.MetaValue(event.MetaContentType)); ct != "" && !strings.ContainsFunc(ct, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		header.Set("Content-Type", ct)
	}
}

// failure is what a request without an answer means. Errors of net/http hold the URL, which is cut off.
func failure(err error, connected bool) pool.Result {
	var withURL *url.Error
	if errors.As(err, &withURL) {
		err = withURL.Err
	}
	r := pool.Result{Outcome: event.Unavailable, Retry: true, Down: !connected, Err: err}
	var timeout net.Error
	if connected && errors.As(err, &timeout) && timeout.Timeout() {
		r.Outcome = event.Timeout
	}
	return r
}
