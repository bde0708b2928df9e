package dtls

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"

	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/observe"
)

// echo answers each record with itself, behind the identity, and counts what it hears.
type echo struct {
	opened, moved, closed *atomic.Int64
	confirm               bool
}

func (e echo) Open(*Peer) { e.opened.Add(1) }
func (e echo) Data(p *Peer, b []byte) {
	if e.confirm {
		p.Confirm()
	}
	who := p.Identity().PSK
	if c := p.Identity().Certificates; len(c) > 0 {
		who = c[0].Subject.CommonName
	}
	p.Send(append([]byte(who+": "), b...))
}
func (e echo) Moved(*Peer, loop.PacketAddr) { e.moved.Add(1) }
func (e echo) Closed(*Peer, error)          { e.closed.Add(1) }

type table map[string][]byte

func (t table) Lookup(id string) ([]byte, bool) { k, ok := t[id]; return k, ok }

var pump = table{"pump-7": []byte("0123456789abcdef")}

type site struct {
	t       *testing.T
	s       *Server
	addr    *net.UDPAddr
	loops   []*loop.Loop
	metrics *observe.Registry
	echo
}

func newSite(t *testing.T, loops int, o Options) *site {
	t.Helper()
	g, err := loop.NewGroup(loop.Options{Loops: loops})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.Run(ctx) })
	s := &site{t: t, loops: g.Loops(), metrics: observe.NewRegistry(),
		echo: echo{new(atomic.Int64), new(atomic.Int64), new(atomic.Int64), true}}
	o.Metrics, o.Name = s.metrics, "test"
	if s.s, err = New(o); err != nil {
		t.Fatal(err)
	}
	n, err := g.ListenPackets("127.0.0.1:0", loop.PacketOptions{}, func(p *loop.Packets) loop.PacketHandler { return s.s.Packets(p, s.echo) })
	if err != nil {
		t.Fatal(err)
	}
	for i := range loops {
		eventually(t, "no front", func() bool { return s.s.fronts[i].Load() != nil })
	}
	s.addr = n.Addr().(*net.UDPAddr)
	t.Cleanup(func() {
		s.s.Close()
		cancel()
		wg.Wait()
	})
	return s
}

func clientOptions(id string, key []byte, more ...dtls.ClientOption) []dtls.ClientOption {
	return append([]dtls.ClientOption{
		dtls.WithPSK(func([]byte) ([]byte, error) { return key, nil }), dtls.WithPSKIdentityHint([]byte(id)),
		dtls.WithCipherSuites(dtls.TLS_PSK_WITH_AES_128_CCM_8), dtls.WithFlightInterval(200 * time.Millisecond),
	}, more...)
}

// dial is a client over a socket of its own, which writes to addr.
func dial(t *testing.T, addr net.Addr, within time.Duration, opts ...dtls.ClientOption) (*dtls.Conn, error) {
	t.Helper()
	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := dtls.ClientWithOptions(u, addr, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = u.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return c, c.HandshakeContext(ctx)
}

func mustDial(t *testing.T, addr net.Addr, opts ...dtls.ClientOption) *dtls.Conn {
	t.Helper()
	c, err := dial(t, addr, 20*time.Second, opts...)
	if err != nil {
		t.Fatalf("handshake: %v", err)
	}
	return c
}

// ask writes until the answer comes: datagrams may be lost.
func ask(c net.Conn, what string, within time.Duration) (string, error) {
	b := make([]byte, 4096)
	for end := time.Now().Add(within); time.Now().Before(end); {
		if _, err := c.Write([]byte(what)); err != nil {
			return "", err
		}
		_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := c.Read(b)
		if err == nil {
			return string(b[:n]), nil
		}
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() {
			return "", err
		}
	}
	return "", errors.New("no answer")
}

func mustAsk(t *testing.T, c net.Conn, what, want string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; { // an answer to an earlier try may come first
		got, err := ask(c, what, 20*time.Second)
		if err == nil && got == want {
			return
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("asked %q, got %q: %v", what, got, err)
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// RFC 7252, section 9.1.3.1; RFC 9146: each suite, with and without Connection ID.
func TestPreSharedKey(t *testing.T) {
	s := newSite(t, 2, Options{Keys: pump})
	for _, p := range suites() {
		if !p.psk {
			continue
		}
		for _, id := range []bool{false, true} {
			t.Run(fmt.Sprint(p.id, " cid ", id), func(t *testing.T) {
				more := []dtls.ClientOption{dtls.WithCipherSuites(p.id)}
				if id {
					more = append(more, dtls.WithConnectionIDGenerator(dtls.RandomCIDGenerator(4)))
				}
				c := mustDial(t, s.addr, clientOptions("pump-7", pump["pump-7"], more...)...)
				for i := range 5 {
					mustAsk(t, c, fmt.Sprint("hello ", i), fmt.Sprint("pump-7: hello ", i))
				}
			})
		}
	}
	eventually(t, "peers stay after close_notify", func() bool { return s.s.Peers() == 0 })
	if o, c := s.opened.Load(), s.closed.Load(); o != 8 || c != 8 {
		t.Errorf("%d opened, %d closed", o, c)
	}
}
