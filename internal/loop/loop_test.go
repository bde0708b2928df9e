package loop

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(Procs(3))
	goleak.VerifyTestMain(m)
}

// testGroup is a running group that ends with the test.
func testGroup(t testing.TB, o Options) *Group {
	t.Helper()
	if o.Loops == 0 {
		o.Loops = 2
	}
	o.Gather = true // as the application does
	g, err := NewGroup(o)
	if err != nil {
		t.Fatal(err)
	}
	runGroup(t, g)
	return g
}

func runGroup(t testing.TB, g *Group) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := g.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

func testListen(t testing.TB, g *Group, o ListenOptions) *Listener {
	t.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	n, err := g.Listen(ln, o)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func dial(t testing.TB, n *Listener) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", n.Addr().String(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// funcs is a Handler made of functions. Owned by its loop, closed is written once.
type funcs struct {
	c        *Conn
	data     func(c *Conn, b []byte) (int, error)
	writable func(c *Conn)
	closed   chan error
}

func (f *funcs) Data(b []byte) (int, error) { return f.data(f.c, b) }
func (f *funcs) Writable() {
	if f.writable != nil {
		f.writable(f.c)
	}
}
func (f *funcs) Closed(err error) { f.closed <- err }

// handlers makes funcs and tells of each.
func handlers(data func(c *Conn, b []byte) (int, error)) (accept func(*Conn) Handler, made chan *funcs) {
	made = make(chan *funcs, 1000)
	return func(c *Conn) Handler {
		f := &funcs{c: c, data: data, closed: make(chan error, 2)}
		made <- f
		return f
	}, made
}

func wait[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came for 10 s")
		panic("unreachable")
	}
}

// on runs fn on the loop and waits for it.
func on(t testing.TB, l *Loop, fn func()) {
	t.Helper()
	done := make(chan struct{})
	l.Post(func() { fn(); close(done) })
	wait(t, done)
}

// stats are those of a group whose loops have finished their turn.
func stats(t testing.TB, g *Group) Stats {
	t.Helper()
	for range 2 {
		for _, l := range g.Loops() {
			on(t, l, func() {})
		}
	}
	return g.Stats()
}

func echo(c *Conn, b []byte) (int, error) {
	c.SetOut(append(c.Out(), b...))
	return len(b), nil
}

func expect(t testing.TB, c io.Reader, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("got %q, %v, want %q", b, err, want)
	}
}

func send(t testing.TB, c io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func TestEcho(t *testing.T) {
	g := testGroup(t, Options{})
	accept, made := handlers(echo)
	n := testListen(t, g, ListenOptions{Accept: accept})
	for range 3 {
		c := dial(t, n)
		send(t, c, "hello")
		expect(t, c, "hello")
		f := wait(t, made)
		if f.c.RemoteAddr().String() != c.LocalAddr().String() {
			t.Errorf("remote %v, want %v", f.c.RemoteAddr(), c.LocalAddr())
		}
		on(t, f.c.Loop(), func() {
			if f.c.LocalAddr().String() != c.RemoteAddr().String() {
				t.Errorf("local %v, want %v", f.c.LocalAddr(), c.RemoteAddr())
			}
		})
		_ = c.Close()
		if err := wait(t, f.closed); !errors.Is(err, io.EOF) {
			t.Errorf("closed with %v", err)
		}
	}
}
