package mqtt

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/clienttls"
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/pool"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

func contextOf(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithCancel(t.Context())
}

// realBroker is a mosquitto that can be stopped and started on the same port with what it had persisted.
type realBroker struct {
	t    *testing.T
	port int
	conf string
	end  func(os.Signal) // nil while it is stopped
}

// newRealBroker prepares one with a bounded window, or with other settings for it.
func newRealBroker(t *testing.T, window ...string) *realBroker {
	t.Helper()
	if _, err := os.Stat(mosquittoPath); err != nil {
		t.Skip("SKIPPED, mosquitto is not installed: ", err)
	}
	b := &realBroker{t: t, port: freePort(t), conf: filepath.Join(t.TempDir(), "m.conf")}
	conf := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\npersistence_location %s/\n"+
		"queue_qos0_messages true\nmax_queued_messages 0\n", b.port, filepath.Dir(b.conf))
	if len(window) == 0 {
		window = []string{"max_inflight_messages 50\n"}
	}
	conf += strings.Join(window, "")
	if err := os.WriteFile(b.conf, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.stop(syscall.SIGKILL) })
	return b
}

func (b *realBroker) start() {
	b.t.Helper()
	end, _, err := startMosquitto(b.conf, b.port)
	if err != nil {
		b.t.Fatal(err)
	}
	b.end = end
}

func (b *realBroker) stop(s os.Signal) {
	if b.end != nil {
		b.end(s)
		b.end = nil
	}
}

func (b *realBroker) address() string { return fmt.Sprintf("127.0.0.1:%d", b.port) }
func (b *realBroker) url() string     { return "mqtt://" + b.address() }

// backend is an application behind the broker, with a session that survives.
type backend struct {
	t       *testing.T
	session *ClientSession
	c       *Client

	mu  sync.Mutex
	got []wire.Publish
}

func (a *backend) connect(url string, filters ...wire.Filter) {
	a.t.Helper()
	if a.session == nil {
		a.session = NewClientSession()
	}
	c, err := Dial(a.t.Context(), ClientOptions{URL: url, ClientID: "backend", SessionExpiry: 3600, Session: a.session, OnPublish: func(p *wire.Publish, ack func(bool)) {
		q := *p
		q.Topic, q.Payload, q.Meta = append([]byte(nil), p.Topic...), append([]byte(nil), p.Payload...), append([]byte(nil), p.Meta...)
		a.mu.Lock()
		a.got = append(a.got, q)
		a.mu.Unlock()
		ack(true)
	}})
	if err != nil {
		a.t.Fatal(err)
	}
	a.c = c
	if len(filters) > 0 {
		if _, err := c.Subscribe(a.t.Context(), filters...); err != nil {
			a.t.Fatal(err)
		}
	}
}

func (a *backend) close() {
	a.c.Close()
	_ = a.c.Wait()
}

func (a *backend) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.got)
}

// waitFor waits until ok, and for a moment more, in which something too much could come.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: ", what)
		}
	}
	time.Sleep(50 * time.Millisecond)
}

func startBridge(t *testing.T, s BridgeSpec, sources ...func(*Bridge)) *pool.Pool {
	t.Helper()
	r := observe.NewRegistry()
	b, err := NewBridge(s, BridgeOptions{Node: "n1", Pool: "brokers", Metrics: r})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range sources {
		f(b)
	}
	p := pool.New("brokers", pool.Spec{
		Reconnect: pool.Range{Min: 10 * time.Millisecond, Max: 100 * time.Millisecond}, Timeout: 3 * time.Second, Drain: time.Second,
	}, b, s.URLs, pool.Options{Metrics: r})
	ctx, cancel := contextOf(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return p
}

func number(qos, lane, n int) *event.Event {
	return &event.Event{
		Topic: fmt.Appendf(nil, "q%d/l%d", qos, lane), Payload: fmt.Appendf(nil, "%d", n), QoS: event.QoS(qos),
		From: &event.Origin{Client: "pump"}, Time: time.Now().UnixNano(),
	}
}

// check looks at what the backend got: every lane complete and in order; a repetition only for QoS 1, and only of an event that was
// sent after the last one that arrived for the first time.
func (a *backend) check(lanes, each int) (doubled int) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	last := map[string]int{}
	seen := map[string]bool{}
	for _, p := range a.got {
		topic := string(p.Topic)
		n, _ := strconv.Atoi(string(p.Payload))
		key := topic + "=" + string(p.Payload)
		if seen[key] {
			doubled++
			if !strings.HasPrefix(topic, "q1") {
				a.t.Errorf("%s came twice", key)
			}
			continue
		}
		seen[key] = true
		if n != last[topic]+1 {
			a.t.Errorf("%s came after %d", key, last[topic])
		}
		last[topic] = n
	}
	if len(last) != lanes {
		a.t.Errorf("%d lanes, want %d", len(last), lanes)
	}
	for topic, n := range last {
		if n != each {
			a.t.Errorf("%s ended with %d, want %d", topic, n, each)
		}
	}
	return doubled
}

func versions(t *testing.T, f func(t *testing.T, v BridgeVersion)) {
	for _, v := range []wire.Version{wire.V5, wire.V311} {
		t.Run(v.String(), func(t *testing.T) { f(t, BridgeVersion(v)) })
	}
}

// TestBridgeQueuesWhileTheBrokerIsDown: what was acknowledged while there was no broker arrives when there is one,
// complete, in order and once, in each quality of service; a broker that is stopped in between changes nothing.
func TestBridgeQueuesWhileTheBrokerIsDown(t *testing.T) {
	versions(t, func(t *testing.T, v BridgeVersion) {
		broker := newRealBroker(t)
		broker.start()
		a := &backend{t: t}
		a.connect(broker.url(), wire.Filter{Filter: "#", SubOptions: wire.SubOptions{QoS: 2}})
		a.close()
		broker.stop(syscall.SIGTERM)

		p := startBridge(t, BridgeSpec{URLs: []string{broker.url()}, Version: v, QoS: 2})
		leg := p.Leg(pool.Received)
		const each = 100
		deliver := func(from, to int) {
			for n := from; n < to; n++ {
				for lane := range 2 {
					for qos := range 3 {
						leg.Deliver(number(qos, lane, n+1), event.Ticket{})
					}
				}
			}
		}
		deliver(0, each/2)
		if s := p.Stats(); s.Queued != 6*each/2 || s.Delivered != 0 {
			t.Fatalf("stats %+v", s)
		}
		broker.start()
		waitFor(t, "first half delivered", func() bool { return p.Stats().Delivered == 6*each/2 })
		broker.stop(syscall.SIGTERM) // it persists what the backend has not fetched yet
		time.Sleep(50 * time.Millisecond)
		deliver(each/2, each)
		broker.start()
		waitFor(t, "second half delivered", func() bool { return p.Stats().Delivered == 6*each })
		a.connect(broker.url())
		waitFor(t, "all arrived", func() bool { return a.count() >= 6*each })
		if d := a.check(6, each); d != 0 {
			t.Errorf("%d repetitions although nothing was in flight", d)
		}
		a.close()
	})
}

// cutter passes bytes on to a broker and cuts the connection after some.
type cutter struct {
	l  net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex
	calm  bool
	cuts  int
	conns []net.Conn
}

func newCutter(t *testing.T, to string, calm bool) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{l: l, calm: calm}
	c.wg.Go(func() {
		for {
			down, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", to)
			if err != nil {
				down.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, up, down)
			limit := int64(1 << 40)
			if !c.calm {
				limit = 2000 + rand.Int64N(4000)
			}
			c.mu.Unlock()
			pipe := func(dst, src net.Conn, n int64) {
				_, _ = io.CopyN(dst, src, n)
				c.mu.Lock()
				c.cuts++
				c.mu.Unlock()
				dst.Close()
				src.Close()
			}
			c.wg.Go(func() { pipe(up, down, limit) })
			c.wg.Go(func() { pipe(down, up, limit/8) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		c.cut()
		c.wg.Wait()
	})
	return c
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

func (c *cutter) url() string { return "mqtt://" + c.l.Addr().String() }

// TestBridgeOverABadLine: a connection that is cut again and again loses nothing and doubles nothing of QoS 2.
func TestBridgeOverABadLine(t *testing.T) {
	versions(t, func(t *testing.T, v BridgeVersion) {
		broker := newRealBroker(t, keepsOrder)
		broker.start()
		line := newCutter(t, broker.address(), false)
		a := &backend{t: t}
		a.connect(broker.url(), wire.Filter{Filter: "#", SubOptions: wire.SubOptions{QoS: 2}})
		p := startBridge(t, BridgeSpec{URLs: []string{line.url()}, Version: v, QoS: 2, MaxInFlight: 50})
		leg := p.Leg(pool.Received)
		const each = 400
		for n := range each {
			for lane := range 2 {
				for qos := 1; qos <= 2; qos++ {
					leg.Deliver(number(qos, lane, n+1), event.Ticket{})
				}
			}
		}
		waitFor(t, "all delivered", func() bool { return p.Stats().Delivered == 4*each })
		waitFor(t, "all arrived", func() bool { return a.count() >= 4*each })
		d := a.check(4, each)
		line.mu.Lock()
		defer line.mu.Unlock()
		if line.cuts < 4 {
			t.Errorf("only %d cuts: the test shows nothing", line.cuts)
		}
		t.Logf("%d cuts, %d repetitions of QoS 1", line.cuts, d)
		a.close()
	})
}

// TestBridgeUpstream: the ticket is settled when the broker has answered.
func TestBridgeUpstream(t *testing.T) {
	broker := newRealBroker(t)
	broker.start()
	p := startBridge(t, BridgeSpec{URLs: []string{broker.url()}, QoS: 2, TopicPrefix: "site/berlin/"})
	a := &backend{t: t}
	a.connect(broker.url(), wire.Filter{Filter: "site/berlin/#", SubOptions: wire.SubOptions{QoS: 2, RetainAsPublished: true}})
	got := make(settled, 10)
	ev := number(1, 1, 1)
	ev.Meta, _ = event.AppendHeader(nil, "k", "v")
	ev.Retain = true
	p.Leg(pool.Upstream).Deliver(ev, event.Ticket{To: got, Token: 1})
	select {
	case o := <-got:
		if !o.OK() {
			t.Errorf("outcome %v", o)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("never settled")
	}
	waitFor(t, "arrived", func() bool { return a.count() == 1 })
	m := a.got[0]
	if string(m.Topic) != "site/berlin/q1/l1" || !m.Retain || !strings.Contains(string(m.Meta), "k") || !passed(m.Meta, "n1") {
		t.Errorf("arrived %q, retain %v, properties %q", m.Topic, m.Retain, m.Meta)
	}
	a.close()
}

type settled chan event.Outcome

func (s settled) Settle(_ uint64, o event.Outcome, _ int) { s <- o }

// TestSourceAndLoops: what a backend publishes at the broker walks here and is acknowledged when it has; what this node
// sent to the broker does not come back, in either version of the protocol.
func TestSourceAndLoops(t *testing.T) {
	versions(t, func(t *testing.T, v BridgeVersion) {
		broker := newRealBroker(t)
		broker.start()
		line := newCutter(t, broker.address(), true)
		type walked struct {
			ev *event.Kept
			t  event.Ticket
		}
		got := make(chan walked, 100)
		p := startBridge(t, BridgeSpec{URLs: []string{line.url()}, Version: v, QoS: 2}, func(b *Bridge) {
			_, err := NewSource(b, SourceSpec{Subscribe: []string{"#"}, QoS: 2}, SourceOptions{
				Name: "src", Publish: func(ev *event.Event, tk event.Ticket) { got <- walked{ev.Keep(), tk} },
			})
			if err != nil {
				t.Fatal(err)
			}
		})
		a := &backend{t: t}
		a.connect(broker.url(), wire.Filter{Filter: "north/#"})
		next := func() walked {
			t.Helper()
			select {
			case w := <-got:
				return w
			case <-time.After(5 * time.Second):
				t.Fatal("nothing came")
				return walked{}
			}
		}
		waitFor(t, "connected", func() bool { return p.Stats().Members[0].State == pool.Up })

		out := number(1, 1, 1)
		out.Topic = []byte("north/1")
		p.Leg(pool.Received).Deliver(out, event.Ticket{})
		waitFor(t, "the backend has it", func() bool { return a.count() == 1 })

		for qos := range byte(3) {
			a.c.Publish(testEvent("south/1", fmt.Sprint(qos)), qos, false, nil, nil)
			w := next()
			if string(w.ev.Topic) != "south/1" || string(w.ev.Payload) != fmt.Sprint(qos) || w.ev.From.Pool != "brokers" || byte(w.ev.QoS) != qos {
				t.Errorf("walked %+v", w.ev)
			}
			// Sent back to the pool that it came from, it stays here.
			back := make(settled, 1)
			p.Leg(pool.Upstream).Deliver(&w.ev.Event, event.Ticket{To: back})
			if o := <-back; o != event.Accepted {
				t.Errorf("loop: %v", o)
			}
			w.t.Settle(event.Accepted)
		}

		// Not acknowledged before it is settled: after a cut the broker sends QoS 1 again, and QoS 2 joins what is pending.
		a.c.Publish(testEvent("south/1", "one"), 1, false, nil, nil)
		a.c.Publish(testEvent("south/1", "two"), 2, false, nil, nil)
		one, two := next(), next()
		line.cut()
		again := next()
		if string(again.ev.Payload) != "one" || string(one.ev.Payload) != "one" || string(two.ev.Payload) != "two" {
			t.Errorf("came %s, %s, again %s", one.ev.Payload, two.ev.Payload, again.ev.Payload)
		}
		one.t.Settle(event.Accepted)
		again.t.Settle(event.Accepted)
		two.t.Settle(event.Accepted)
		time.Sleep(100 * time.Millisecond)
		line.cut()
		waitFor(t, "connected again", func() bool { return p.Stats().Members[0].State != pool.Down })
		time.Sleep(300 * time.Millisecond)
		if len(got) != 0 {
			t.Errorf("%s came again although acknowledged, or looped", (<-got).ev.Topic)
		}
		a.close()
	})
}

// TestBridgeOverTLS: brokers with mqtts are members, too.
func TestBridgeOverTLS(t *testing.T) {
	_, secure, _ := mosquitto(t)
	versions(t, func(t *testing.T, v BridgeVersion) {
		p := startBridge(t, BridgeSpec{URLs: []string{secure}, Version: v, QoS: 2, TLS: clienttls.Spec{Insecure: true}})
		got := make(settled, 1)
		p.Leg(pool.Upstream).Deliver(number(2, 1, 1), event.Ticket{To: got})
		if o := <-got; !o.OK() {
			t.Errorf("outcome %v", o)
		}
	})
}

// TestBridgeGivesUpAMember: with two brokers, what is in flight at one that stays away goes to the other.
func TestBridgeGivesUpAMember(t *testing.T) {
	broker := newRealBroker(t, keepsOrder)
	broker.start()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts a connection, then answers no PUBLISH
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := silent.Accept()
		if err != nil {
			return
		}
		_, _ = c.Write([]byte{0x20, 3, 0, 0, 0})
		connect := make([]byte, 2)
		_, _ = io.ReadFull(c, connect)                            // a CONNECT shorter than 128 bytes
		_, _ = io.CopyN(io.Discard, c, int64(connect[1]&0x7f)+10) // and the beginning of the first PUBLISH
		time.Sleep(100 * time.Millisecond)
		silent.Close()
		c.Close()
	})
	defer wg.Wait()
	p := startBridge(t, BridgeSpec{URLs: []string{"mqtt://" + silent.Addr().String(), broker.url()}, QoS: 2, Hold: 200 * time.Millisecond})
	waitFor(t, "both up", func() bool {
		s := p.Stats()
		return s.Members[0].State == pool.Up && s.Members[1].State == pool.Up
	})
	a := &backend{t: t}
	a.connect(broker.url(), wire.Filter{Filter: "#", SubOptions: wire.SubOptions{QoS: 2}})
	for n := range 20 {
		for lane := range 4 {
			p.Leg(pool.Received).Deliver(number(1, lane, n+1), event.Ticket{})
		}
	}
	waitFor(t, "all delivered", func() bool { return p.Stats().Delivered == 80 })
	waitFor(t, "all arrived", func() bool { return a.count() >= 80 })
	a.check(4, 20)
	a.close()
}
