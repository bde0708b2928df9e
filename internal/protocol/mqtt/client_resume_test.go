package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/listen"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
	"github.com/windrose-edc/windrose/internal/retain"
	"github.com/windrose-edc/windrose/internal/route"
	"github.com/windrose-edc/windrose/internal/session"
)

// noLeaks looks at the end of the test, when the servers that it starts later have stopped, whether goroutines are left.
func noLeaks(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

// ownServer runs a Server on real loops and returns its URL.
func ownServer(t *testing.T) string {
	t.Helper()
	const loops = 2
	procs := runtime.GOMAXPROCS(loop.Procs(loops))
	t.Cleanup(func() { runtime.GOMAXPROCS(procs) })
	g, err := loop.NewGroup(loop.Options{Loops: loops, MaxPartial: PartialDefault})
	if err != nil {
		t.Fatal(err)
	}
	var clocks []route.Clock
	for _, l := range g.Loops() {
		clocks = append(clocks, l)
	}
	index := route.NewIndex(route.IndexOptions{})
	net := route.NewNet(index, clocks, 1<<20, 30*time.Second)
	net.SetTable(route.NewTable(1, nil))
	rules := policy.NewChain(nil)
	sh := &session.Shared{Directory: session.NewDirectory(), Net: net, Retained: retain.New(retain.Limits{MaxMessages: 1, MaxBytes: 1 << 10}),
		Chain:  func() *policy.Chain { return rules },
		Limits: session.Limits{Queue: 2000, QueueBytes: 1 << 20, Window: 32, Receive: 64}}
	var hosts []*session.Host
	for _, l := range g.Loops() {
		h := session.NewHost(sh, l)
		l.OnTurn(h.Turn)
		hosts = append(hosts, h)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	wg.Go(func() { _ = index.Run(ctx) })
	wg.Go(func() {
		if err := g.Run(ctx); err != nil {
			t.Errorf("run loops: %v", err)
		}
	})
	everybody := identity.NewChain(identity.Open(func(string) bool { return true }))
	srv, err := NewServer("test", DefaultListener(), Deps{Loops: g.Loops(), Hosts: hosts, Auth: func() *identity.Chain { return everybody },
		Slow: func(work func()) bool { wg.Go(work); return true }, Metrics: observe.NewRegistry(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := listen.Open(g, "test", listen.Spec{Bind: "127.0.0.1:0"}, nil, srv.Accept)
	if err != nil {
		t.Fatal(err)
	}
	return "mqtt://" + l.Addr().String()
}

// torn publishes total events, half of QoS 1 and half of QoS 2, over connections that are torn in the middle of
// exchanges, and receives them over the same connections, and over another one that is left whole, where each QoS 2
// event must arrive once.
func torn(t *testing.T, url string, v wire.Version, total int) (a *arrivals, rec *recorder) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	all := wire.Filter{Filter: "r/#", SubOptions: wire.SubOptions{QoS: 2}}
	there := newArrivals()
	whole, err := Dial(ctx, ClientOptions{URL: url, Version: v, ClientID: "whole", Clean: true, OnPublish: func(p *wire.Publish, ack func(bool)) {
		there.add(p)
		ack(true)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := whole.Subscribe(ctx, all); err != nil {
		t.Fatal(err)
	}
	a, rec = newArrivals(), &recorder{version: v}
	o := ClientOptions{URL: url, Version: v, ClientID: "torn", Session: NewClientSession(), SessionExpiry: 60, DialContext: rec.dial,
		OnPublish: func(p *wire.Publish, ack func(bool)) {
			a.add(p)
			ack(true)
		}}
	var mu sync.Mutex
	said := make([]int, total)
	sent := 0
	for conns := 0; conns < 200; conns++ {
		c, err := Dial(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		if conns == 0 {
			if _, err := c.Subscribe(ctx, all); err != nil {
				t.Fatal(err)
			}
		} else if !c.Server().SessionPresent {
			t.Fatal("the server has lost the session")
		}
		for range 40 {
			if sent == total {
				break
			}
			i := sent
			sent++
			c.Publish(testEvent("r/t", fmt.Sprint(i)), byte(1+i%2), false, nil, func(_ wire.Reason, err error) {
				mu.Lock()
				defer mu.Unlock()
				if said[i]++; err != nil {
					t.Errorf("publish %d: %v", i, err)
				}
			})
		}
		if sent == total && o.Session.Len() == 0 {
			c.Close()
			<-c.Done()
			break
		}
		time.Sleep(time.Duration(conns%7) * time.Millisecond)
		c.Abort()
		<-c.Done()
	}
	// What the server still has for us comes on a last connection.
	c, err := Dial(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	a.wait(t, total)
	there.wait(t, total)
	for _, c := range []*Client{c, whole} {
		c.Close()
		if err := c.Wait(); !errors.Is(err, ErrClosed) {
			t.Errorf("end: %v", err)
		}
	}
	for i, n := range said {
		if n != 1 {
			t.Errorf("publish %d answered %d times", i, n)
		}
	}
	for s, n := range there.n {
		if n != 1 && s[0] == '2' {
			t.Errorf("over the whole connection QoS 2 event %s arrived %d times", s, n)
		}
	}
	return a, rec
}

// Exactly once between our two ends, however often the connection is torn. (MQTT 3.1 has no session present flag, so a client
// cannot know there that an exchange may go on.)
func TestClientServerResume(t *testing.T) {
	for _, v := range []wire.Version{wire.V311, wire.V5} {
		t.Run(v.String(), func(t *testing.T) {
			noLeaks(t)
			a, rec := torn(t, ownServer(t), v, 600)
			given, _ := rec.check(t)
			for s, n := range a.n {
				if s[0] == '2' && (n != 1 || given[s[2:]] != 1) {
					t.Errorf("QoS 2 event %s arrived %d times in %d exchanges", s, n, given[s[2:]])
				}
			}
		})
	}
}

// The same with a broker that others wrote. Mosquitto (2.0.11, and 2.1.2 still) forgets that it has sent a PUBREL when
// two connections are torn before it is answered: it then sends PUBLISH again, with the identifier that was released.
// A receiver cannot tell that from a new event whose first PUBLISH was lost, so that is the one repetition which may be.
func TestClientMosquittoResume(t *testing.T) {
	for _, v := range []wire.Version{wire.V311, wire.V5} {
		t.Run(v.String(), func(t *testing.T) {
			noLeaks(t)
			url, _, _ := mosquitto(t) // each its own: the end of the last connection may be torn in the broker's eyes
			a, rec := torn(t, url, v, 600)
			given, anew := rec.check(t)
			for s, n := range a.n {
				if id := s[2:]; s[0] == '2' && (n != given[id] || n != 1 && !anew[id]) {
					t.Errorf("QoS 2 event %s arrived %d times in %d exchanges", s, n, given[id])
				}
			}
			t.Logf("%d connections, %d events that the broker began anew", rec.conns, len(anew))
		})
	}
}
