package loop

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// lines consumes whole lines and echoes them.
func lines(c *Conn, b []byte) (int, error) {
	n := bytes.LastIndexByte(b, '\n') + 1
	c.SetOut(append(c.Out(), b[:n]...))
	return n, nil
}

func TestPartialInputComesAgain(t *testing.T) {
	g := testGroup(t, Options{})
	var calls atomic.Int64
	accept, made := handlers(func(c *Conn, b []byte) (int, error) {
		calls.Add(1)
		return lines(c, b)
	})
	c := dial(t, testListen(t, g, ListenOptions{Accept: accept}))
	f := wait(t, made)
	want := strings.Repeat("0123456789\n", 500)
	go func() {
		for i := 0; i < len(want); i += 7 {
			_, _ = io.WriteString(c, want[i:min(i+7, len(want))])
			if i < 700 {
				time.Sleep(100 * time.Microsecond)
			}
		}
	}()
	expect(t, c, want)
	on(t, f.c.Loop(), func() {
		if f.c.in != nil || f.c.out != nil {
			t.Error("an idle connection holds a buffer")
		}
	})
	if calls.Load() < 10 {
		t.Errorf("the test is too coarse: %d calls", calls.Load())
	}
}

func TestPartialInputIsBounded(t *testing.T) {
	g := testGroup(t, Options{MaxPartial: 10_000, ReadBuffer: 4096})
	accept, made := handlers(lines)
	n := testListen(t, g, ListenOptions{Accept: accept})
	c := dial(t, n)
	go func(c net.Conn) { _, _ = c.Write(make([]byte, 1<<20)) }(c)
	if err := wait(t, wait(t, made).closed); !errors.Is(err, ErrInputFull) {
		t.Errorf("closed with %v", err)
	}
	if s := stats(t, g); s.InputFull != 1 {
		t.Errorf("counted %d", s.InputFull)
	}
	// one connection may be given more
	c = dial(t, n)
	f := wait(t, made)
	on(t, f.c.Loop(), func() { f.c.SetMaxPartial(100_000) })
	go func() { _, _ = io.WriteString(c, strings.Repeat("x", 50_000)+"\n") }()
	expect(t, c, strings.Repeat("x", 50_000)+"\n")
}

func TestPauseResume(t *testing.T) {
	g := testGroup(t, Options{})
	var got atomic.Int64
	accept, made := handlers(func(c *Conn, b []byte) (int, error) {
		got.Add(1)
		c.PauseRead()
		return 1, nil
	})
	c := dial(t, testListen(t, g, ListenOptions{Accept: accept}))
	f := wait(t, made)
	send(t, c, "abc")
	for i := range int64(5) {
		if i == 2 { // arrives while paused, comes behind what is kept
			send(t, c, "de")
			time.Sleep(20 * time.Millisecond)
		}
		for got.Load() != i+1 {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(5 * time.Millisecond)
		if n := got.Load(); n != i+1 {
			t.Fatalf("%d calls while paused after %d", n, i+1)
		}
		on(t, f.c.Loop(), f.c.ResumeRead)
	}
	_ = c.Close()
	if err := wait(t, f.closed); err == nil {
		t.Error("closed without a reason")
	}
}

// While reading is paused the peer's bytes stay in the kernel: memory does not grow.
func TestPauseHoldsThePeer(t *testing.T) {
	g := testGroup(t, Options{MaxPartial: 1 << 20})
	accept, made := handlers(func(c *Conn, b []byte) (int, error) {
		c.PauseRead()
		return 0, nil
	})
	c := dial(t, testListen(t, g, ListenOptions{Accept: accept}))
	f := wait(t, made)
	_ = c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	if n, err := io.Copy(c, io.LimitReader(zeros{}, 64<<20)); err == nil {
		t.Errorf("a paused connection took %d bytes", n)
	}
	on(t, f.c.Loop(), func() {
		if n := len(f.c.in); n > 1<<20 {
			t.Errorf("%d bytes kept", n)
		}
	})
}

// zeros reads as zeros.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestRefeed(t *testing.T) {
	g := testGroup(t, Options{})
	open := false
	calls := 0
	accept, made := handlers(func(c *Conn, b []byte) (int, error) {
		if calls++; !open {
			return 0, nil
		}
		if calls < 10 { // from inside Data it means the next time
			c.Refeed()
			return 0, nil
		}
		return echo(c, b)
	})
	c := dial(t, testListen(t, g, ListenOptions{Accept: accept}))
	f := wait(t, made)
	send(t, c, "kept")
	time.Sleep(20 * time.Millisecond)
	on(t, f.c.Loop(), func() {
		if calls != 1 {
			t.Errorf("%d calls before Refeed", calls)
		}
		open = true
		f.c.Refeed()
	})
	expect(t, c, "kept")
	on(t, f.c.Loop(), func() {
		f.c.Refeed() // nothing kept: nothing happens
		calls = 0
	})
	time.Sleep(10 * time.Millisecond)
	on(t, f.c.Loop(), func() {
		if calls != 0 {
			t.Error("Data without anything kept")
		}
	})
}

func TestOutputFull(t *testing.T) {
	for _, tlsOn := range []bool{false, true} {
		g := testGroup(t, Options{MaxOut: 1 << 20})
		accept, made := handlers(echo)
		o := ListenOptions{Accept: accept}
		if tlsOn {
			o.TLS = testTLS(t).server
		}
		n := testListen(t, g, o)
		var c net.Conn
		if tlsOn {
			c = dialTLS(t, n, nil)
		} else {
			c = dial(t, n)
		}
		f := wait(t, made)
		chunk := make([]byte, 64<<10)
		most := 0
		stuck := false
		for range 4096 { // the peer never reads
			on(t, f.c.Loop(), func() {
				f.c.SetOut(append(f.c.Out(), chunk...))
				most = max(most, f.c.Pending())
				stuck = f.c.state != stOpen
			})
			if stuck {
				break
			}
		}
		if err := wait(t, f.closed); !errors.Is(err, ErrOutputFull) {
			t.Errorf("tls %v: closed with %v", tlsOn, err)
		}
		if most > 1<<20+len(chunk) || most < 1<<20-2*len(chunk) {
			t.Errorf("tls %v: up to %d bytes pending", tlsOn, most)
		}
		if s := stats(t, g); s.OutputFull != 1 {
			t.Errorf("counted %d", s.OutputFull)
		}
		_ = c
	}
}

func TestWritable(t *testing.T) {
	g := testGroup(t, Options{MaxOut: 64 << 20, HighWater: 1 << 20, LowWater: 100_000})
	accept, made := handlers(echo)
	c := dial(t, testListen(t, g, ListenOptions{Accept: accept}))
	f := wait(t, made)
	writable := make(chan int, 10)
	const size = 24 << 20
	on(t, f.c.Loop(), func() {
		f.writable = func(c *Conn) { writable <- c.Pending() }
		f.c.SetOut(append(f.c.Out(), make([]byte, size)...))
		if !f.c.Congested() {
			t.Error("not congested")
		}
	})
	select {
	case <-writable:
		t.Fatal("writable before the peer read")
	case <-time.After(30 * time.Millisecond):
	}
	if _, err := io.CopyN(io.Discard, c, size); err != nil {
		t.Fatal(err)
	}
	if p := wait(t, writable); p > 100_000 {
		t.Errorf("writable with %d pending", p)
	}
	on(t, f.c.Loop(), func() {
		if f.c.Congested() || f.c.Pending() != 0 {
			t.Error("still congested")
		}
	})
	if len(writable) != 0 {
		t.Error("told more than once")
	}
}

// What is appended while the socket is full comes behind what waits, in order.
func TestOutputKeepsOrder(t *testing.T) {
	for _, tlsOn := range []bool{false, true} {
		g := testGroup(t, Options{MaxOut: 64 << 20})
		accept, made := handlers(echo)
		o := ListenOptions{Accept: accept}
		if tlsOn {
			o.TLS = testTLS(t).server
		}
		n := testListen(t, g, o)
		var c net.Conn
		if tlsOn {
			c = dialTLS(t, n, nil)
		} else {
			c = dial(t, n)
		}
		f := wait(t, made)
		const total = 12 << 20
		go func() {
			for i := 0; i < total; {
				done := make(chan int)
				f.c.loop.Post(func() {
					b := f.c.Reserve(1000)
					for k := range min(1+i%70_000, total-i) {
						b = append(b, byte((i+k)%251))
					}
					f.c.SetOut(b)
					done <- min(1+i%70_000, total-i)
				})
				i += <-done
			}
		}()
		buf := make([]byte, 33_333)
		for i := 0; i < total; {
			m, err := c.Read(buf)
			if err != nil {
				t.Fatalf("tls %v: after %d: %v", tlsOn, i, err)
			}
			for _, b := range buf[:m] {
				if b != byte(i%251) {
					t.Fatalf("tls %v: byte %d is %d", tlsOn, i, b)
				}
				i++
			}
			if i%5 == 0 {
				time.Sleep(100 * time.Microsecond)
			}
		}
	}
}

var errBye = errors.New("bye")

// The peer gets the last answer even when it goes on sending: its unread bytes must not make the kernel drop it.
func TestCloseAfterFlush(t *testing.T) {
	g := testGroup(t, Options{})
	accept, made := handlers(func(c *Conn, b []byte) (int, error) {
		c.SetOut(append(c.Out(), "last words"...))
		c.CloseAfterFlush(errBye, time.Second)
		c.SetOut(append(c.Out(), "not these"...))
		return len(b), nil
	})
	n := testListen(t, g, ListenOptions{Accept: accept})
	for range 20 {
		c := dial(t, n)
		send(t, c, "x")
		f := wait(t, made)
		for range 20 {
			_, _ = io.WriteString(c, strings.Repeat("more", 5000))
		}
		if err := wait(t, f.closed); !errors.Is(err, errBye) {
			t.Fatalf("closed with %v", err)
		}
		got, err := io.ReadAll(c)
		if string(got) != "last words" || err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
		_ = c.Close()
	}
}

func TestDataErrorClosesAfterFlush(t *testing.T) {
	g := testGroup(t, Options{})
	accept, made := handlers(func(c *Conn, b []byte) (int, error) {
		c.SetOut(append(c.Out(), "refused"...))
		return 0, errBye
	})
	c := dial(t, testListen(t, g, ListenOptions{Accept: accept}))
	send(t, c, "junk")
	if got, err := io.ReadAll(c); string(got) != "refused" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if err := wait(t, wait(t, made).closed); !errors.Is(err, errBye) {
		t.Errorf("closed with %v", err)
	}
}

func TestCloseAfterFlushHasALimit(t *testing.T) {
	g := testGroup(t, Options{MaxOut: 64 << 20})
	accept, made := handlers(echo)
	dial(t, testListen(t, g, ListenOptions{Accept: accept})) // never reads
	f := wait(t, made)
	start := time.Now()
	on(t, f.c.Loop(), func() {
		f.c.SetOut(append(f.c.Out(), make([]byte, 32<<20)...))
		f.c.CloseAfterFlush(errBye, 100*time.Millisecond)
	})
	if err := wait(t, f.closed); !errors.Is(err, errBye) {
		t.Errorf("closed with %v", err)
	}
	if d := time.Since(start); d < 100*time.Millisecond || d > 5*time.Second {
		t.Errorf("after %v", d)
	}
}

func TestCloseAtOnceAndOnce(t *testing.T) {
	g := testGroup(t, Options{})
	accept, made := handlers(func(c *Conn, b []byte) (int, error) {
		c.Close(errBye)
		c.Close(io.EOF)
		c.CloseAfterFlush(io.EOF, time.Second)
		c.PauseRead()
		c.ResumeRead()
		c.Refeed()
		c.SetOut(append(c.Out(), "x"...))
		return len(b), io.EOF
	})
	n := testListen(t, g, ListenOptions{Accept: accept})
	c := dial(t, n)
	send(t, c, "x")
	f := wait(t, made)
	if err := wait(t, f.closed); !errors.Is(err, errBye) {
		t.Errorf("closed with %v", err)
	}
	if got, _ := io.ReadAll(c); len(got) != 0 {
		t.Errorf("got %q", got)
	}
	on(t, f.c.Loop(), func() {})
	if len(f.closed) != 0 {
		t.Error("Closed was called twice")
	}
	if n.Open() != 0 {
		t.Errorf("%d open", n.Open())
	}
}

func TestAcceptMayRefuseAndGreet(t *testing.T) {
	g := testGroup(t, Options{})
	n := testListen(t, g, ListenOptions{Accept: func(*Conn) Handler { return nil }})
	c := dial(t, n)
	if got, err := io.ReadAll(c); len(got) != 0 {
		t.Errorf("got %q, %v", got, err)
	}
	if n.Refused(RefusedHandler) != 1 || stats(t, g).Refused[RefusedHandler] != 1 {
		t.Error("not counted")
	}
	accept, made := handlers(echo)
	n = testListen(t, g, ListenOptions{Accept: func(c *Conn) Handler {
		c.SetOut(append(c.Out(), "hello"...))
		c.CloseAfterFlush(errBye, time.Second)
		return accept(c)
	}})
	c = dial(t, n)
	expect(t, c, "hello")
	if err := wait(t, wait(t, made).closed); !errors.Is(err, errBye) {
		t.Errorf("closed with %v", err)
	}
}

// safeBuffer is a log that is read while it is written. Guarded by mu.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestPanicHarmsOneConnection(t *testing.T) {
	log := &safeBuffer{}
	g := testGroup(t, Options{Loops: 1, Logger: slog.New(slog.NewTextHandler(log, nil))})
	accept, made := handlers(func(c *Conn, b []byte) (int, error) {
		if b[0] == '!' {
			panic("planted")
		}
		return echo(c, b)
	})
	n := testListen(t, g, ListenOptions{Accept: accept, Name: "test"})
	good := dial(t, n)
	wait(t, made)
	for range 3 {
		bad := dial(t, n)
		f := wait(t, made)
		send(t, bad, "!")
		if err := wait(t, f.closed); !errors.Is(err, ErrPanic) {
			t.Errorf("closed with %v", err)
		}
	}
	send(t, good, "still here")
	expect(t, good, "still here")
	bad := dial(t, n)
	f := wait(t, made)
	on(t, f.c.Loop(), func() { // a timer of the handler
		defer f.c.Recover()
		panic("planted")
	})
	if err := wait(t, f.closed); !errors.Is(err, ErrPanic) {
		t.Errorf("closed with %v", err)
	}
	_ = bad
	if s := stats(t, g); s.Panics != 4 {
		t.Errorf("counted %d", s.Panics)
	}
	if s := log.String(); strings.Count(s, "planted") != 1 || !strings.Contains(s, "conn_test.go") || !strings.Contains(s, "listener=test") {
		t.Errorf("log: %s", s)
	}
}
