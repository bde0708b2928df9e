// Package admin is the window into a node: HTTP with liveness, readiness, metrics, an API and a first page. It has a
// budget of its own (connections, requests and streams at once, time) so that whoever looks never takes the node down.
//
// The API is declared in Go and described by itself at /openapi.yaml: a group of operations is a function registerX in a
// file of its own, called by routes; register and operation are in rest.go, who may ask what in access.go.
//
// What it shows comes from the Node interface, which the composition root implements. Every answer forbids storing and
// framing and names no other origin; on a loopback address the Host header must name loopback too, so that a web site
// cannot read the node through a name that it points there (DNS rebinding).
//
// # Concurrency
//
// Server is safe for concurrent use; handlers run on the goroutines of net/http and the sampler on one more, all ended
// before Run returns.
package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/tap"
)

// The budget of the admin server.
const (
	MaxConnections = 256
	MaxRequests    = 32       // at once, without /livez and streams
	MaxStreams     = 16       // at once
	MaxAnswer      = 16 << 20 // bytes of one answer that is no stream
	DrainTime      = 3 * time.Second
)

// Options are what a Server is built from. Registry and Logger may be nil.
type Options struct {
	Addr   string // host:port; empty: no TCP
	Socket string // path of a unix socket; empty: none
	// SocketNeeded: without its socket the server does not start; else it says so and goes on.
	SocketNeeded bool
	Group        bool               // the socket is for the process's group too: mode 0660, else 0600
	TLS          func() *tls.Config // asked at each handshake; nil: plain
	Tokens       string             // tokens file; empty: no token is valid
	Hosts        []string           // names in the Host header that are served besides loopback's own; empty off loopback: all
	Registry     *observe.Registry
	Node         Node
	Logger       *slog.Logger
	Logs         *observe.Logs // what the API may change of the log; nil: nothing
	Version      string
	Loopback     Role // what a loopback address gives without a token
	// Upgrade takes a request away that is for a protocol that shares the address; false: it is for this server. It has
	// passed the bound on connections and the check of Host, nothing else. nil: nobody shares it.
	Upgrade  func(http.ResponseWriter, *http.Request) bool
	Operable Operable // what can be told to reload and to drain; nil: nothing
	Tap      *tap.Hub // where single events are watched; nil: nowhere
	// Explain answers about an event that is not sent; nil: nobody does. An error that is no deadline is about the question.
	Explain func(ctx context.Context, q tap.Question) (tap.Record, error)
}

// Server serves one admin address. Immutable after New, but for bound, addr and fresh (guarded by mu) and the history (guarded by
// its own lock).
type Server struct {
	o        Options
	http     *http.Server
	handler  http.Handler
	mux      *http.ServeMux
	api      huma.API
	need     map[string]access // by pattern of the mux; never written after New
	requests chan struct{}
	streams  chan struct{}
	history  history
	log      *slog.Logger
	origin   *http.CrossOriginProtection
	tokens   *tokens // nil: none is known
	attempts attempts
	taps     openTaps
	top      topper

	refused map[string]*observe.Counter // by reason; never written after New
	handled map[string]*observe.Counter // by class of status code

	stopping chan struct{} // closed when the server begins to stop: streams end

	mu    sync.Mutex
	bound []net.Listener // nil before Listen
	addr  string
	fresh map[net.Conn]struct{} // connections that have not sent a byte, as browsers open them in advance
}

// New builds a server; nothing listens yet.
func New(o Options) *Server {
	s := &Server{o: o, requests: make(chan struct{}, MaxRequests), streams: make(chan struct{}, MaxStreams), log: o.Logger, origin: http.NewCrossOriginProtection(), fresh: map[net.Conn]struct{}{}, need: map[string]access{}, stopping: make(chan struct{})}
	if o.Tokens != "" {
		s.tokens = &tokens{file: o.Tokens}
	}
	if s.log == nil {
		s.log = observe.Discard()
	}
	s.refused, s.handled = map[string]*observe.Counter{}, map[string]*observe.Counter{}
	for _, reason := range []string{"busy", "connections", "host", "method", "origin", "token", "throttled", "role"} {
		s.refused[reason] = o.Registry.Counter("windrose_admin_refused_requests_total", "Requests and connections that the admin server did not take.", "reason", reason)
	}
	for _, code := range []string{"2xx", "3xx", "4xx", "5xx"} {
		s.handled[code] = o.Registry.Counter("windrose_admin_handled_requests_total", "Requests that the admin server answered.", "code", code)
	}
	s.mux = s.routes()
	s.handler = s.guard(s.mux)
	s.http = &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ConnState:         s.connState,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	return s
}

// Handler serves requests without a listener, for tests.
func (s *Server) Handler() http.Handler { return s.handler }

// Listen binds the address and the socket, so that Addr is known and a taken port is an error before anything else starts.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bound != nil {
		return nil
	}
	if s.o.Addr != "" {
		ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", s.o.Addr)
		if err != nil {
			return fmt.Errorf("listen for the admin server on %q: %w", s.o.Addr, err)
		}
		s.addr = ln.Addr().String()
		ln = newBoundedListener(ln, MaxConnections, s.refused["connections"])
		if s.o.TLS != nil {
			ln = tls.NewListener(ln, &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				return s.o.TLS(), nil
			}})
		}
		s.bound = append(s.bound, ln)
	}
	if s.o.Socket != "" {
		ln, err := listenSocket(s.o.Socket, s.o.Group)
		if err != nil && s.o.SocketNeeded {
			return errors.Join(err, s.closeBound())
		}
		if err != nil {
			s.log.Warn("no admin socket", "error", err)
		} else {
			s.bound = append(s.bound, newBoundedListener(ln, MaxConnections, s.refused["connections"]))
		}
	}
	return nil
}

// Close gives the address and the socket back when Run was never called.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closeBound()
}

// closeBound closes the listeners; mu is held.
func (s *Server) closeBound() error {
	var errs []error
	for _, ln := range s.bound {
		errs = append(errs, ln.Close())
	}
	s.bound = nil
	return errors.Join(errs...)
}

// Addr is the bound address, "" before Listen and without one.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Run serves until ctx is done, then lets open requests end for DrainTime. It binds first when Listen was not called.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	s.mu.Lock()
	bound := s.bound
	s.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { s.sample(ctx) })
	wg.Go(func() { s.rank(ctx) })
	errs := make(chan error, len(bound))
	for _, ln := range bound {
		wg.Go(func() {
			err := s.http.Serve(ln)
			if errors.Is(err, http.ErrServerClosed) {
				err = nil
			} else {
				err = fmt.Errorf("serve admin requests on %q: %w", ln.Addr(), err)
			}
			errs <- err
			cancel() // without one of its listeners the server is not what was configured
		})
	}
	<-ctx.Done()
	drain, stop := context.WithTimeout(context.WithoutCancel(ctx), DrainTime)
	defer stop()
	close(s.stopping)
	s.closeFresh() // Shutdown would wait for them
	s.o.Tap.CloseAll()
	if s.http.Shutdown(drain) != nil {
		_ = s.http.Close() // the drain time is over: nothing better can be done for those requests
	}
	wg.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

func (s *Server) connState(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateNew {
		s.fresh[c] = struct{}{}
	} else {
		delete(s.fresh, c)
	}
}

func (s *Server) closeFresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.fresh {
		_ = c.Close() // nothing was asked on it
	}
}

// boundedListener closes connections beyond its bound at once: blocking in Accept instead would let idle connections
// keep the liveness probe out. Safe for concurrent use.
type boundedListener struct {
	net.Listener
	slots   chan struct{}
	refused *observe.Counter
}

func newBoundedListener(ln net.Listener, n int, refused *observe.Counter) *boundedListener {
	return &boundedListener{Listener: ln, slots: make(chan struct{}, n), refused: refused}
}

// Accept implements net.Listener.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &boundedConn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
		default:
			l.refused.Inc()
			_ = c.Close() // refused: its error has no reader
		}
	}
}

// boundedConn gives its slot back when closed. Safe for concurrent use.
type boundedConn struct {
	net.Conn
	release func()
}

// NetConn is the connection itself.
func (c *boundedConn) NetConn() net.Conn { return c.Conn }

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
