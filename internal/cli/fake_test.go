package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
)

// fakeServer is a broker in memory: it delivers every event to each connection whose filter matches, in order. Guarded
// by mu.
type fakeServer struct {
	mu      sync.Mutex
	clients []*fakeClient
	dialled []connection
	n       int // events so far

	refuse    func(m *message) error      // a publish is refused with that
	filterErr func(filter string) error   // a subscription is refused with that
	deliver   func(n int, m *message) int // how often event n is delivered; nil: once
	delay     func(n int) bool            // event n of a connection is delivered after the next one
	silent    bool                        // publishes are never acknowledged
	dialErr   error                       // every connection is refused with that
	after     func(s *fakeServer, n int)  // called after event n
}

// fakeClient is one connection. Guarded by the server's mu, but for out.
type fakeClient struct {
	s       *fakeServer
	c       connection
	filters []string
	out     chan message
	held    *message
	gone    chan struct{}
	once    sync.Once
	why     error
	wg      sync.WaitGroup
}

func (s *fakeServer) dial(_ context.Context, c *connection) (client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dialErr != nil {
		return nil, s.dialErr
	}
	f := &fakeClient{s: s, c: *c, out: make(chan message, 1<<16), gone: make(chan struct{})}
	s.clients, s.dialled = append(s.clients, f), append(s.dialled, *c)
	if c.onMessage != nil {
		f.wg.Go(func() {
			for m := range f.out {
				f.c.onMessage(&m)
			}
		})
	}
	return f, nil
}

func (f *fakeClient) publish(_ context.Context, m *message, done func(error)) error {
	s := f.s
	s.mu.Lock()
	n := s.n
	s.n++
	var err error
	if s.refuse != nil {
		err = s.refuse(m)
	}
	if err == nil {
		s.fanOut(n, m)
	}
	silent, after := s.silent, s.after
	s.mu.Unlock()
	if after != nil {
		after(s, n)
	}
	if !silent {
		done(err)
	}
	return nil
}

func (s *fakeServer) fanOut(n int, m *message) {
	times := 1
	if s.deliver != nil {
		times = s.deliver(n, m)
	}
	for _, c := range s.clients {
		if c.why != nil || !c.wants(m.topic) {
			continue
		}
		one := *m
		one.payload = bytes.Clone(m.payload)
		for range times {
			c.send(one, s.delay != nil && s.delay(n))
		}
	}
}

func (f *fakeClient) wants(topic string) bool {
	for _, filter := range f.filters {
		if event.Match([]byte(filter), []byte(topic)) {
			return true
		}
	}
	return false
}

func (f *fakeClient) send(m message, hold bool) {
	if hold {
		f.held = &m
		return
	}
	f.out <- m
	if f.held != nil {
		f.out <- *f.held
		f.held = nil
	}
}

func (f *fakeClient) subscribe(_ context.Context, filters []string, _ byte) ([]error, error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	out := make([]error, len(filters))
	for i, filter := range filters {
		if f.s.filterErr != nil {
			out[i] = f.s.filterErr(filter)
		}
		if out[i] == nil {
			f.filters = append(f.filters, filter)
		}
	}
	return out, nil
}

func (f *fakeClient) ended() <-chan struct{} { return f.gone }

func (f *fakeClient) err() error {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	return f.why
}

// cut ends the connection from the server's side.
func (f *fakeClient) cut(why error) {
	f.once.Do(func() {
		f.s.mu.Lock()
		f.why, f.filters = why, nil
		f.s.mu.Unlock()
		close(f.out)
		f.wg.Wait() // as the product's client: its end comes after its last event
		close(f.gone)
	})
}

func (f *fakeClient) close() error {
	f.cut(errors.New("closed here"))
	return nil
}

// lockedBuffer is guarded by mu.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// result is what a command line came to.
type result struct {
	code     int
	out, err string
}

// runWith executes one command line against a fake server.
func runWith(ctx context.Context, s *fakeServer, stdin string, args ...string) result {
	var out, errw lockedBuffer
	e := &env{in: strings.NewReader(stdin), out: &out, err: &errw, exit: func(int) {}, dial: s.dial}
	code := e.run(ctx, args)
	return result{code, out.String(), errw.String()}
}

// cli executes one command line that needs no server.
func cli(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	return runWith(t.Context(), &fakeServer{dialErr: errors.New("no server in this test")}, stdin, args...)
}

// want compares a result; text is what stderr must contain.
func (r result) want(t *testing.T, code int, out, text string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", r.code, code, r.out, r.err)
	}
	if out != "*" && r.out != out {
		t.Errorf("stdout:\n%s\nwant:\n%s", r.out, out)
	}
	if !strings.Contains(r.err, text) {
		t.Errorf("stderr: %q, want %q in it", r.err, text)
	}
	if n := strings.Count(r.err, "windrose: "); code != exitOK && r.err != "" && (n != 1 || !strings.HasSuffix(r.err, "\n")) {
		t.Errorf("%d error lines: %s", n, r.err)
	}
}
