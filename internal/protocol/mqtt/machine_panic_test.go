package mqtt

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
	"github.com/windrose-edc/windrose/internal/retain"
	"github.com/windrose-edc/windrose/internal/route"
	"github.com/windrose-edc/windrose/internal/session"
)

// realNode is loops with sockets and an MQTT listener. Immutable after newRealNode.
type realNode struct {
	t     *testing.T
	group *loop.Group
	hosts []*session.Host
	addr  string
}

func newRealNode(t *testing.T, loops int, target event.Target, ps ...policy.Policy) *realNode {
	t.Helper()
	n := &realNode{t: t}
	var err error
	if n.group, err = loop.NewGroup(loop.Options{Loops: loops}); err != nil {
		t.Fatal(err)
	}
	index := route.NewIndex(route.IndexOptions{})
	var clocks []route.Clock
	for _, l := range n.group.Loops() {
		clocks = append(clocks, l)
	}
	net1 := route.NewNet(index, clocks, 1<<20, time.Second)
	p, err := event.ParsePattern("x/#")
	if err != nil {
		t.Fatal(err)
	}
	tbl := route.NewTable(1, []*route.Route{{Name: "x", Topic: "x/#", Filter: p, Target: target}})
	index.Apply(tbl.Changes(false), nil)
	net1.SetTable(tbl)
	chain := policy.NewChain(nil, ps...)
	sh := &session.Shared{Directory: session.NewDirectory(), Net: net1, Retained: retain.New(retain.Limits{}), Chain: func() *policy.Chain { return chain },
		Limits: session.Limits{Queue: 100, QueueBytes: 1 << 20, Window: 32, Receive: 64}}
	for _, l := range n.group.Loops() {
		h := session.NewHost(sh, l)
		n.hosts = append(n.hosts, h)
		l.OnTurn(h.Turn)
	}
	auth := identity.NewChain(identity.Open(func(string) bool { return true }))
	srv, err := NewServer("test", DefaultListener(), Deps{Loops: n.group.Loops(), Hosts: n.hosts, Auth: func() *identity.Chain { return auth },
		Slow: func(func()) bool { return false }, Metrics: observe.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.group.Listen(ln, loop.ListenOptions{Name: "test", Accept: srv.Accept}); err != nil {
		t.Fatal(err)
	}
	n.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = index.Run(ctx) })
	wg.Go(func() { _ = n.group.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return n
}

// open is the number of events that wait for their outcome.
func (n *realNode) open() (open int) {
	for i, l := range n.group.Loops() {
		done := make(chan struct{})
		l.Post(func() { open += n.hosts[i].Walker().Open(); close(done) })
		<-done
	}
	return open
}

// realClient is a client on a socket. Owned by the test.
type realClient struct {
	t    *testing.T
	conn net.Conn
	buf  []byte
}

func (n *realNode) dial(id string) *realClient {
	n.t.Helper()
	conn, err := net.Dial("tcp", n.addr)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	c := &realClient{t: n.t, conn: conn}
	c.send("CONNECT v5 clean id=" + id)
	c.expect("CONNACK 00 rmax=64 maxpkt=1048576 aliases=10 noshared")
	return c
}

func (c *realClient) send(packet string) {
	c.t.Helper()
	v := wire.V5
	b, err := packetOf(packet, &v)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// next is the next packet, or why there is none.
func (c *realClient) next() string {
	for {
		if text, rest, ok := textOf(c.buf, wire.V5); ok {
			c.buf = rest
			return text
		}
		b := make([]byte, 4096)
		n, err := c.conn.Read(b)
		if err == io.EOF {
			return "end"
		}
		if err != nil {
			return err.Error()
		}
		c.buf = append(c.buf, b[:n]...)
	}
}

func (c *realClient) expect(want string) {
	c.t.Helper()
	if got := c.next(); got != want {
		c.t.Errorf("got %s, want %s", got, want)
	}
}

// bomb panics where an event says so. It has no state.
type bomb struct{}

func (bomb) Deliver(ev *event.Event, t event.Ticket) {
	if string(ev.Payload) == "boom" {
		panic("planted")
	}
	t.Settle(event.Accepted)
}

// A panic that the bytes of a peer trigger ends its connection and nothing else: at once, and in a timer, where publishes
// that were held go on. The outcomes that it cost are settled by their deadline.
func TestPanicEndsOneConnection(t *testing.T) {
	limit, err := policy.NewLimit(policy.LimitSpec{Events: 20, Burst: 1})
	if err != nil {
		t.Fatal(err)
	}
	n := newRealNode(t, 2, bomb{}, limit)
	var others []*realClient
	for i := range 4 {
		c := n.dial("other" + string(rune('0'+i)))
		c.send("SUBSCRIBE id=1 s/#:q1")
		c.expect("SUBACK id=1 01")
		others = append(others, c)
	}
	for _, packets := range [][]string{
		{"PUBLISH x/1 boom q1 id=1"},
		{"PUBLISH x/1 boom"},
		{"PUBLISH x/1 quiet", "PUBLISH x/1 boom q1 id=1", "PUBLISH x/1 after q1 id=2"}, // held, and in a timer
	} {
		bad := n.dial("bad")
		for _, p := range packets {
			bad.send(p)
		}
		bad.expect("end")
	}
	pub := n.dial("pub")
	pub.send("PUBLISH s/1 alive q1 id=1")
	pub.expect("PUBACK id=1 00")
	pub.send("PUBLISH x/1 alive q1 id=2")
	pub.expect("PUBACK id=2 00")
	for _, c := range others {
		c.send("PINGREQ")
		c.expect("PUBLISH s/1 alive q1 id=1")
		c.expect("PINGRESP")
	}
	if p := n.group.Stats().Panics; p != 3 {
		t.Errorf("%d panics are counted, want 3", p)
	}
	for end := time.Now().Add(10 * time.Second); n.open() > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d events are never settled", n.open())
		}
	}
}
