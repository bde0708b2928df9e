package loop

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestStopTellsEveryHandler(t *testing.T) {
	g, err := NewGroup(Options{Loops: 2})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.Run(ctx) })
	accept, made := handlers(echo)
	n := testListen(t, g, ListenOptions{Accept: accept})
	var fs []*funcs
	for range 10 {
		dial(t, n)
		fs = append(fs, wait(t, made))
	}
	cancel()
	wg.Wait()
	for _, f := range fs {
		if err := wait(t, f.closed); !errors.Is(err, ErrStopped) {
			t.Errorf("closed with %v", err)
		}
	}
	if _, err := net.Dial("tcp", n.Addr().String()); err == nil {
		t.Error("still accepts")
	}
	g.Loops()[0].Post(func() { t.Error("ran after the end") })
	if err := g.Run(t.Context()); err == nil {
		t.Error("ran twice")
	}
}

func TestListenerClose(t *testing.T) {
	g := testGroup(t, Options{})
	accept, made := handlers(echo)
	n := testListen(t, g, ListenOptions{Accept: accept})
	c := dial(t, n)
	wait(t, made)
	n.Close()
	n.Close()
	ln, err := net.Listen("tcp", n.Addr().String())
	if err != nil {
		t.Fatalf("the address is not free: %v", err)
	}
	_ = ln.Close()
	send(t, c, "still here")
	expect(t, c, "still here")
	if n.Open() != 1 {
		t.Errorf("%d open", n.Open())
	}
}

func TestLimits(t *testing.T) {
	g := testGroup(t, Options{})
	accept, made := handlers(echo)
	n := testListen(t, g, ListenOptions{Accept: accept, MaxConnections: 2})
	a, b := dial(t, n), dial(t, n)
	fa := wait(t, made)
	wait(t, made)
	if _, err := dial(t, n).Read(make([]byte, 1)); err == nil {
		t.Error("a third was let in")
	}
	if n.Refused(RefusedMaxConnections) != 1 {
		t.Error("not counted")
	}
	_, _ = a.Close(), b.Close()
	wait(t, fa.closed)
	for n.Open() > 0 {
		time.Sleep(time.Millisecond)
	}
	c := dial(t, n)
	send(t, c, "x")
	expect(t, c, "x")
	if s := stats(t, g); s.Accepted != 3 || s.Refused[RefusedMaxConnections] != 1 {
		t.Errorf("%+v", s)
	}
}

func TestConnectionsSpread(t *testing.T) {
	g := testGroup(t, Options{Loops: 3})
	accept, made := handlers(echo)
	n := testListen(t, g, ListenOptions{Accept: accept})
	for range 30 {
		dial(t, n)
		wait(t, made)
	}
	for i, open := range stats(t, g).Open {
		if open != 10 {
			t.Errorf("loop %d has %d of 30 connections", i, open)
		}
	}
}

func TestPostAndWakeFromEverywhere(t *testing.T) {
	g := testGroup(t, Options{Loops: 2})
	var n atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 5000 {
				g.Loops()[i%2].Post(func() { n.Add(1) })
				if i%100 == 0 {
					time.Sleep(time.Duration(i%7) * 10 * time.Microsecond)
				}
				g.Loops()[i%2].Wake()
			}
		})
	}
	wg.Wait()
	for _, l := range g.Loops() {
		on(t, l, func() {})
	}
	if n.Load() != 20_000 {
		t.Errorf("%d of 20000 ran", n.Load())
	}
}

// TestWakeIsNeverLost: a loop that is about to sleep when it is woken must take its turn.
func TestWakeIsNeverLost(t *testing.T) {
	g, err := NewGroup(Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	l := g.Loops()[0]
	var box atomic.Int64
	seen := make(chan int64, 1)
	l.OnTurn(func() {
		if v := box.Swap(0); v != 0 {
			seen <- v
		}
	})
	runGroup(t, g)
	for i := range int64(3000) {
		box.Store(i + 1)
		l.Wake()
		if i%50 == 49 {
			time.Sleep(25 * time.Millisecond) // it sleeps the ordinary way
		}
		if got := wait(t, seen); got != i+1 {
			t.Fatalf("got %d", got)
		}
		if i == 999 && testing.Short() {
			break
		}
	}
}

func TestMove(t *testing.T) {
	for _, tlsOn := range []bool{false, true} {
		g := testGroup(t, Options{Loops: 2, MaxOut: 64 << 20})
		moved := make(chan int, 10)
		accept, made := handlers(func(c *Conn, b []byte) (int, error) {
			if b[0] != 'm' {
				return echo(c, b)
			}
			c.SetOut(append(c.Out(), "moving "...))
			to := g.Loops()[1-c.Loop().ID()]
			c.Move(to, func() {
				c.SetOut(append(c.Out(), "moved "...))
				moved <- c.Loop().ID()
			})
			return 1, nil
		})
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
		for i := range 10 {
			send(t, c, "m and more")
			expect(t, c, "moving moved  and more")
			wait(t, moved)
			_ = i
		}
		var open int64
		for _, n := range stats(t, g).Open {
			open += n
		}
		if open != 1 {
			t.Errorf("%d open", open)
		}
		_ = c.Close()
		if err := wait(t, f.closed); !errors.Is(err, io.EOF) {
			t.Errorf("tls %v: closed with %v", tlsOn, err)
		}
	}
}

// Connections that move while the group stops are told so, like all others.
func TestMoveWhileStopping(t *testing.T) {
	for range 20 {
		g, err := NewGroup(Options{Loops: 2})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = g.Run(ctx) })
		var again func(c *Conn)
		again = func(c *Conn) {
			c.Move(g.Loops()[1-c.Loop().ID()], func() { c.Loop().Post(func() { again(c) }) })
		}
		accept, made := handlers(func(c *Conn, b []byte) (int, error) {
			again(c)
			return len(b), nil
		})
		n := testListen(t, g, ListenOptions{Accept: accept})
		var fs []*funcs
		for range 5 {
			send(t, dial(t, n), "x")
			fs = append(fs, wait(t, made))
		}
		time.Sleep(5 * time.Millisecond)
		cancel()
		wg.Wait()
		for _, f := range fs {
			if err := wait(t, f.closed); !errors.Is(err, ErrStopped) {
				t.Errorf("closed with %v", err)
			}
		}
	}
}
