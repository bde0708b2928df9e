package mqtt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
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

// realNode is loops with sockets and an MQTT listener. Immutable after newRealNode, except slow.
type realNode struct {
	t     *testing.T
	group *loop.Group
	hosts []*session.Host
	srv   *Server
	addr  string
	slow  atomic.Int32 // how many slow authentications may begin
}

// realOptions are what a realNode is made of.
type realOptions struct {
	target   event.Target // of x/#
	policies []policy.Policy
	auth     []identity.Authenticator // none: everybody is admitted
}

func newRealNode(t *testing.T, loops int, o realOptions) *realNode {
	t.Helper()
	n := &realNode{t: t}
	n.slow.Store(1000)
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
	if o.target == nil {
		o.target = &simTarget{}
	}
	tbl := route.NewTable(1, []*route.Route{{Name: "x", Topic: "x/#", Filter: p, Target: o.target}})
	index.Apply(tbl.Changes(false), nil)
	net1.SetTable(tbl)
	chain := policy.NewChain(nil, o.policies...)
	sh := &session.Shared{Directory: session.NewDirectory(), Net: net1, Retained: retain.New(retain.Limits{}), Chain: func() *policy.Chain { return chain },
		Limits: session.Limits{Queue: 100, QueueBytes: 1 << 20, Window: 32, Receive: 64}}
	for _, l := range n.group.Loops() {
		h := session.NewHost(sh, l)
		n.hosts = append(n.hosts, h)
		l.OnTurn(h.Turn)
	}
	if len(o.auth) == 0 {
		o.auth = append(o.auth, identity.Open(func(string) bool { return true }))
	}
	auth := identity.NewChain(o.auth...)
	var wg sync.WaitGroup
	slow := func(work func()) bool {
		if n.slow.Add(-1) < 0 {
			return false
		}
		wg.Go(work)
		return true
	}
	if n.srv, err = NewServer("test", DefaultListener(), Deps{Loops: n.group.Loops(), Hosts: n.hosts, Auth: func() *identity.Chain { return auth },
		Slow: slow, Metrics: observe.NewRegistry()}); err != nil {
		t.Fatal(err)
	}
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.group.Listen(ln, loop.ListenOptions{Name: "test", Accept: n.srv.Accept}); err != nil {
		t.Fatal(err)
	}
	n.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
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
	id   string // packet id of the last packet
}

func (n *realNode) dial(id string) *realClient {
	n.t.Helper()
	c := n.connect("v5 clean id=" + id)
	c.expect("CONNACK 00 rmax=64 maxpkt=1048576 aliases=10")
	return c
}

// connect opens a socket and sends a CONNECT.
func (n *realNode) connect(how string) *realClient {
	n.t.Helper()
	conn, err := net.Dial("tcp", n.addr)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	c := &realClient{t: n.t, conn: conn}
	c.send("CONNECT " + how)
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
			if _, id, ok := strings.Cut(text, " id="); ok {
				c.id, _, _ = strings.Cut(id, " ")
			}
			return text
		}
		b := make([]byte, 64<<10)
		n, err := c.conn.Read(b)
		if errors.Is(err, io.EOF) {
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

const welcomed = "CONNACK 00 rmax=64 maxpkt=1048576 aliases=10"

// A session is taken over from whatever loop the new connection arrives on: it moves to the session's home, with what it
// sent meanwhile.
func TestConnectionsMoveToTheirSession(t *testing.T) {
	n := newRealNode(t, 3, realOptions{})
	last := n.connect("v5 id=mover expiry=60")
	last.expect(welcomed)
	last.send("SUBSCRIBE id=1 t:q1")
	last.expect("SUBACK id=1 01")
	pub := n.dial("pub")
	for range 12 {
		next := n.connect("v5 id=mover expiry=60")
		next.send("PINGREQ") // may arrive on the way
		last.expect("DISCONNECT 8e")
		last.expect("end")
		next.expect("CONNACK 00 present rmax=64 maxpkt=1048576 aliases=10")
		next.expect("PINGRESP")
		pub.send("PUBLISH t x q1 id=1")
		pub.expect("PUBACK id=1 00")
		if got := next.next(); got[:len("PUBLISH t x q1 id=")] != "PUBLISH t x q1 id=" {
			t.Fatal(got)
		}
		id := next.id
		next.send("PUBACK id=" + id)
		next.send("PINGREQ")
		next.expect("PINGRESP")
		last = next
	}
}

// What is slow about an authentication runs beside the loop; the client's packets wait for it. Where too much of it runs
// the client is told that the server is unavailable.
func TestSlowAuthentication(t *testing.T) {
	users := simUsers{"slowly": {password: "thing"}, "ann": {password: "secret"}}
	n := newRealNode(t, 2, realOptions{auth: []identity.Authenticator{users}})
	c := n.connect("v5 clean id=a name=slowly pass=thing")
	c.send("PINGREQ")
	c.expect(welcomed)
	c.expect("PINGRESP")
	c = n.connect("v5 clean id=b name=slowly pass=wrong")
	c.send("PINGREQ")
	c.expect("CONNACK 86")
	c.expect("end")
	c = n.connect("v5 clean id=b name=busybody pass=x")
	c.expect("CONNACK 88")
	c.expect("end")
	n.slow.Store(0)
	c = n.connect("v5 clean id=c name=slowly pass=thing")
	c.expect("CONNACK 88")
	c.expect("end")
	n.connect("v5 clean id=d name=ann pass=secret").expect(welcomed)
}

// A subscriber that does not read makes its publisher drop and queue, not wait; when it reads again it gets what waits.
func TestSlowReader(t *testing.T) {
	n := newRealNode(t, 2, realOptions{})
	slow, pub := n.dial("slow"), n.dial("pub")
	slow.send("SUBSCRIBE id=1 t/#:q1")
	slow.expect("SUBACK id=1 01")
	for range 100 { // 20 MB of QoS 0, far over what the connection may have
		pub.send("PUBLISH t/0 x*200000")
	}
	for i := range 10 {
		pub.send(fmt.Sprintf("PUBLISH t/1 %d q1 id=%d", i, i+1))
		pub.expect(fmt.Sprintf("PUBACK id=%d 00", i+1))
	}
	zeros := 0
	for i := 0; i < 10; {
		got := slow.next()
		switch {
		case got == fmt.Sprintf("PUBLISH t/1 %d q1 id=%s", i, slow.id):
			slow.send("PUBACK id=" + slow.id)
			i++
		case strings.HasPrefix(got, "PUBLISH t/0 "):
			zeros++
		default:
			t.Fatalf("got %.60s", got)
		}
	}
	if zeros == 0 || zeros == 100 {
		t.Errorf("%d of 100 events with QoS 0 arrived: want some, not all", zeros)
	}
}

// The node's end is told to MQTT 5 clients, and the loops end.
func TestNodeStops(t *testing.T) {
	n := newRealNode(t, 2, realOptions{})
	c := n.dial("a")
	c.send("SUBSCRIBE id=1 t")
	c.expect("SUBACK id=1 00")
	for i, l := range n.group.Loops() {
		l.Post(n.hosts[i].Close)
	}
	c.expect("DISCONNECT 8b")
	c.expect("end")
}

// The will of a connection that is lost reaches subscribers of every loop at once, also where nothing else happens on the
// loop that lost it.
func TestWillCrossesLoops(t *testing.T) {
	n := newRealNode(t, 3, realOptions{})
	var subs []*realClient
	for i := range 6 {
		c := n.dial(fmt.Sprint("sub", i))
		c.send("SUBSCRIBE id=1 w")
		c.expect("SUBACK id=1 00")
		subs = append(subs, c)
	}
	for i := range 6 {
		c := n.connect(fmt.Sprintf("v5 clean id=gone%d will=w:%d", i, i))
		c.expect(welcomed)
		time.Sleep(50 * time.Millisecond) // the loops have gone to sleep
		_ = c.conn.Close()
		for j, s := range subs {
			_ = s.conn.SetDeadline(time.Now().Add(3 * time.Second))
			if got, want := s.next(), fmt.Sprintf("PUBLISH w %d q0", i); got != want {
				t.Fatalf("subscriber %d got %s, want %s", j, got, want)
			}
		}
	}
}

// SUBACK follows the publication of the subscription (3.8.4): what another client publishes after it, on whichever loop,
// reaches the subscriber, by a shared subscription too.
func TestPublishAfterSubackIsDelivered(t *testing.T) {
	n := newRealNode(t, 3, realOptions{})
	pubs := []*realClient{n.dial("p1"), n.dial("p2"), n.dial("p3")}
	subs := []*realClient{n.dial("s1"), n.dial("s2")}
	for i := range 100 {
		for j, s := range subs {
			p := pubs[(i+j)%len(pubs)]
			s.send(fmt.Sprintf("SUBSCRIBE id=%d t/%d/+", i+1, i))
			s.expect(fmt.Sprintf("SUBACK id=%d 00", i+1))
			p.send(fmt.Sprintf("PUBLISH t/%d/%d x q1 id=1", i, j))
			p.expect("PUBACK id=1 00")
			for _, r := range subs[:j+1] {
				r.expect(fmt.Sprintf("PUBLISH t/%d/%d x q0", i, j))
			}
			s.send(fmt.Sprintf("SUBSCRIBE id=%d $share/g%d/u/%d", i+1000, j, i))
			s.expect(fmt.Sprintf("SUBACK id=%d 00", i+1000))
			p.send(fmt.Sprintf("PUBLISH u/%d %d q1 id=1", i, j))
			p.expect("PUBACK id=1 00")
			for _, r := range subs[:j+1] {
				r.expect(fmt.Sprintf("PUBLISH u/%d %d q0", i, j))
			}
		}
	}
}
