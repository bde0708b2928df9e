package listen

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The socket of a listener goes to its successor, many times, while others connect: nobody is refused, and the connection that
// was there before goes on. What was counted goes on too.
func TestReplaceRefusesNobody(t *testing.T) {
	g := group(t)
	l, err := Open(g, "one", Spec{Bind: "127.0.0.1:0"}, nil, accept)
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	ask := func(c net.Conn) error {
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	old, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Close() }()
	if err := ask(old); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var calls atomic.Int64
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			c, err := net.Dial("tcp", addr)
			if err == nil {
				err = ask(c)
				_ = c.Close()
			}
			if err != nil {
				t.Errorf("connection %d: %v", calls.Load(), err)
				return
			}
			calls.Add(1)
		}
	})
	const times = 50
	for i := range times {
		for from := calls.Load(); calls.Load() == from && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
		ln, err := l.Socket()
		if err != nil {
			t.Fatal(err)
		}
		next, err := l.Replace(ln, "one", Spec{Bind: "127.0.0.1:0", MaxConnections: 10 + i}, nil, accept)
		if err != nil {
			t.Fatal(err)
		}
		next.Start()
		l.Close()
		l = next
	}
	close(stop)
	wg.Wait()
	if err := ask(old); err != nil {
		t.Errorf("the connection of the first listener: %v", err)
	}
	if got := l.Accepted(); got != calls.Load()+1 {
		t.Errorf("the last listener counts %d connections, want %d", got, calls.Load()+1)
	}
	if got := l.Open(); got < 1 {
		t.Errorf("the last listener counts %d open connections, want the first at least", got)
	}
	l.CloseConns(io.ErrUnexpectedEOF)
	if err := ask(old); err == nil {
		t.Error("the connection of the first listener is not closed with those of the last")
	}
	l.Close()
	if c, err := net.Dial("tcp", addr); err == nil {
		_ = c.Close()
		t.Error("the address is still taken when the last listener is closed")
	}
}

func TestAdopt(t *testing.T) {
	dir := t.TempDir()
	a, b := newAuthority(t, dir, "a"), newAuthority(t, dir, "b")
	one, two := a.issue("one", "localhost"), b.issue("two", "localhost")
	x, err := NewTLS(TLSSpec{Cert: one.Cert, Key: one.Key})
	if err != nil {
		t.Fatal(err)
	}
	y, err := NewTLS(TLSSpec{Cert: two.Cert, Key: two.Key})
	if err != nil {
		t.Fatal(err)
	}
	if x.Same(y) || !x.Same(x) {
		t.Error("Same")
	}
	before := x.Config()
	x.Adopt(y)
	if !x.Same(y) || x.Config() != before {
		t.Error("new certificates, but the keys of session tickets must stay")
	}
	z, err := NewTLS(TLSSpec{Cert: two.Cert, Key: two.Key, Client: "require", ClientCA: a.file})
	if err != nil {
		t.Fatal(err)
	}
	x.Adopt(z)
	if x.Config() == before {
		t.Error("tickets of connections without a client certificate are still good where one is required")
	}
}
