package listen

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/windrose-edc/windrose/internal/loop"
)

func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(loop.Procs(2))
	goleak.VerifyTestMain(m)
}

func group(t testing.TB) *loop.Group {
	t.Helper()
	g, err := loop.NewGroup(loop.Options{Loops: 2})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := g.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return g
}

// echo is a Handler.
type echo struct{ c *loop.Conn }

func (e *echo) Data(b []byte) (int, error) {
	e.c.SetOut(append(e.c.Out(), b...))
	return len(b), nil
}
func (e *echo) Writable()    {}
func (e *echo) Closed(error) {}

func accept(c *loop.Conn) loop.Handler { return &echo{c: c} }

// knock says whether a connection is let in.
func knock(t testing.TB, network, addr string) bool {
	t.Helper()
	c, err := net.DialTimeout(network, addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "x"); err != nil {
		return false
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return err == nil
}

func TestDualStack(t *testing.T) {
	g := group(t)
	for bind, reach := range map[string][]string{
		":0": {"127.0.0.1", "::1"}, "[::]:0": {"127.0.0.1", "::1"}, "0.0.0.0:0": {"127.0.0.1"}, "[::1]:0": {"::1"}, "127.0.0.1:0": {"127.0.0.1"},
		"localhost:0": {"127.0.0.1"},
	} {
		seen := make(chan *loop.Conn, 10)
		l, err := Open(g, "mqtt", Spec{Bind: bind}, nil, func(c *loop.Conn) loop.Handler {
			seen <- c
			return accept(c)
		})
		if err != nil {
			t.Errorf("%s: %v", bind, err)
			continue
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		for _, host := range reach {
			if !knock(t, "tcp", net.JoinHostPort(host, port)) {
				t.Errorf("%s is not reached at %s", bind, host)
			}
			// an IPv4 peer looks like one on a dual-stack socket too
			if a := (<-seen).RemoteAddr().Addr().String(); a != host {
				t.Errorf("%s: remote address %s, want %s", bind, a, host)
			}
		}
		l.Close()
	}
}

func TestOpenErrors(t *testing.T) {
	g := group(t)
	l, err := Open(g, "first", Spec{Bind: "127.0.0.1:0"}, nil, accept)
	if err != nil {
		t.Fatal(err)
	}
	taken := l.Addr().String()
	for _, x := range []struct {
		s    Spec
		want string
	}{
		{Spec{Bind: taken}, `listen "mqtt" on ` + taken + `: address already in use`},
		{Spec{}, `listen "mqtt": bind: missing`},
		{Spec{Bind: "127.0.0.1"}, `bind "127.0.0.1": want host:port`},
		{Spec{Bind: "127.0.0.1:x"}, `port "x" is not a number`},
		{Spec{Bind: "192.0.2.1:0"}, `listen "mqtt" on 192.0.2.1:0: cannot assign requested address`},
		{Spec{Bind: ":0", MaxConnections: -1}, "max_connections: -1 is negative"},
		{Spec{Bind: ":0", AllowFrom: []string{"10.0.0.0/33"}}, `allow_from "10.0.0.0/33"`},
		{Spec{Bind: ":0", TLS: "main"}, `tls "main" is not there`},
	} {
		if _, err := Open(g, "mqtt", x.s, nil, accept); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%+v: %v, want %s", x.s, err, x.want)
		}
	}
	l.Close()
	if l, err = Open(g, "again", Spec{Bind: taken}, nil, accept); err != nil {
		t.Errorf("the address is not free after Close: %v", err)
	} else {
		l.Close()
	}
}

func TestAllowFrom(t *testing.T) {
	g := group(t)
	for _, x := range []struct {
		from  []string
		allow bool
	}{
		{nil, true}, {[]string{"127.0.0.0/8"}, true}, {[]string{"127.0.0.1"}, true}, {[]string{"::ffff:127.0.0.0/104"}, true},
		{[]string{"10.0.0.0/8", "::1/128"}, false}, {[]string{"10.0.0.0/8", "127.0.0.1/32"}, true},
	} {
		l, err := Open(g, "mqtt", Spec{Bind: ":0", AllowFrom: x.from}, nil, accept)
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		if got := knock(t, "tcp", "127.0.0.1:"+port); got != x.allow {
			t.Errorf("%v: let in %v", x.from, got)
		}
		if r := l.Refused()["address"]; (r == 1) == x.allow {
			t.Errorf("%v: counted %d", x.from, r)
		}
	}
}

func TestMaxConnections(t *testing.T) {
	g := group(t)
	l, err := Open(g, "mqtt", Spec{Bind: "127.0.0.1:0", MaxConnections: 1}, nil, accept)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "x")
	_, _ = io.ReadFull(c, make([]byte, 1))
	if knock(t, "tcp", l.Addr().String()) {
		t.Error("a second was let in")
	}
	if l.Open() != 1 || l.Accepted() != 1 || l.Refused()["max_connections"] != 1 {
		t.Errorf("open %d, accepted %d, refused %v", l.Open(), l.Accepted(), l.Refused())
	}
	_ = c.Close()
	for deadline := time.Now().Add(5 * time.Second); l.Open() > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if !knock(t, "tcp", l.Addr().String()) {
		t.Error("not let in after the first had gone")
	}
}

func TestProxyProtocol(t *testing.T) {
	g := group(t)
	seen := make(chan string, 1)
	l, err := Open(g, "mqtt", Spec{Bind: "127.0.0.1:0", ProxyProtocol: true, AllowFrom: []string{"127.0.0.1"}}, nil, func(c *loop.Conn) loop.Handler {
		seen <- c.RemoteAddr().String()
		return accept(c)
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = io.WriteString(c, "PROXY TCP4 192.0.2.7 198.51.100.2 56324 1883\r\nx")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if a := <-seen; a != "192.0.2.7:56324" {
		t.Errorf("remote address %s", a)
	}
	if knock(t, "tcp", l.Addr().String()) || l.Refused()["proxy_header"] != 1 {
		t.Errorf("let in without a header: %v", l.Refused())
	}
}
