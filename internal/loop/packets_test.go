package loop

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// echoPackets answers each datagram with itself, behind a prefix.
type echoPackets struct {
	p      *Packets
	prefix string
	got    *atomic.Int64
}

func (e *echoPackets) Packet(from PacketAddr, b []byte) {
	if string(b) == "panic" {
		panic("as asked")
	}
	e.got.Add(1)
	e.p.Send(from, append([]byte(e.prefix), b...))
}

func listenEcho(t *testing.T, g *Group, addr string, o PacketOptions) (n *PacketListener, got *atomic.Int64) {
	t.Helper()
	got = &atomic.Int64{}
	n, err := g.ListenPackets(addr, o, func(p *Packets) PacketHandler { return &echoPackets{p: p, prefix: "re: ", got: got} })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n, got
}

// ask sends a datagram until its answer comes: the network may lose either.
func ask(t *testing.T, c net.Conn, what string) string {
	t.Helper()
	buf := make([]byte, 4096)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if _, err := c.Write([]byte(what)); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := c.Read(buf); err == nil {
			return string(buf[:n])
		}
	}
	t.Fatalf("no answer to %.20q", what)
	return ""
}

func dialUDP(t *testing.T, to string) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestPackets(t *testing.T) {
	g := testGroup(t, Options{Loops: 3})
	n, got := listenEcho(t, g, "127.0.0.1:0", PacketOptions{Name: "test"})
	for range 50 {
		c := dialUDP(t, n.Addr().String())
		if a := ask(t, c, "hello"); a != "re: hello" {
			t.Fatalf("answer %q", a)
		}
	}
	for end := time.Now().Add(20 * time.Second); got.Load() < 50 || n.Received() < 50 || n.Sent() < 50; { // counted after it is sent
		if time.Now().After(end) {
			t.Fatalf("%d handled, %d received, %d sent", got.Load(), n.Received(), n.Sent())
		}
		time.Sleep(time.Millisecond)
	}
	c := dialUDP(t, n.Addr().String())
	if a := ask(t, c, ""); a != "re: " {
		t.Errorf("answer to an empty datagram: %q", a)
	}
	if a := ask(t, c, strings.Repeat("x", 2040)); len(a) != 2044 {
		t.Errorf("answer of %d bytes", len(a))
	}
	for n.Dropped(PacketTooLong) == 0 { // until one arrives
		_, _ = c.Write(bytes.Repeat([]byte{'x'}, 2049))
		time.Sleep(time.Millisecond)
	}
	_, _ = c.Write([]byte("panic"))
	if a := ask(t, c, "after"); a != "re: after" {
		t.Errorf("after a panic: %q", a)
	}
	n.Replace(func(p *Packets) PacketHandler { return &echoPackets{p: p, prefix: "new: ", got: got} })
	for end := time.Now().Add(20 * time.Second); ask(t, c, "who") != "new: who"; {
		if time.Now().After(end) {
			t.Fatal("the old handler answers")
		}
	}
	n.Close()
	u, err := net.ListenPacket("udp", n.Addr().String())
	if err != nil {
		t.Fatalf("the address is not free after Close: %v", err)
	}
	_ = u.Close()
}

// An answer comes from the address that was written to, also where the socket has none of its own.
func TestPacketsOfAnyAddress(t *testing.T) {
	for _, host := range []string{"0.0.0.0", "[::]"} {
		g := testGroup(t, Options{Loops: 2})
		n, err := g.ListenPackets(host+":0", PacketOptions{}, func(p *Packets) PacketHandler { return &echoPackets{p: p, prefix: "re: ", got: &atomic.Int64{}} })
		if err != nil && host == "[::]" {
			t.Skipf("no IPv6 here: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.Close)
		port := n.Addr().(*net.UDPAddr).AddrPort().Port()
		for _, to := range []string{"127.0.0.1", "127.0.0.2", "::1"} { // a connected socket takes answers from there only
			a := netip.MustParseAddr(to)
			if a.Is6() && host != "[::]" {
				continue
			}
			if !canShare && to == "127.0.0.2" {
				continue // without epoll the system chooses the address
			}
			c := dialUDP(t, netip.AddrPortFrom(a, port).String())
			if got := ask(t, c, "hello"); got != "re: hello" {
				t.Errorf("%s to %s: %q", host, to, got)
			}
		}
	}
}

func TestPacketsAllocateNothing(t *testing.T) {
	g, err := NewGroup(Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	n, _ := listenEcho(t, g, "127.0.0.1:0", PacketOptions{})
	p := n.packets[0]
	to := PacketAddr{AddrPort: netip.MustParseAddrPort("127.0.0.1:9")}
	b := make([]byte, 100)
	p.Send(to, b)
	p.loop.flushPackets()
	if a := testing.AllocsPerRun(100, func() {
		for range 40 {
			p.Send(to, b)
		}
		p.loop.flushPackets()
	}); a > 0 && canShare {
		t.Errorf("%v allocations", a)
	}
	p.Send(PacketAddr{}, b)
	for range maxStaged/len(b) + 1 {
		p.Send(to, b)
	}
	if n.Dropped(PacketUnsent) == 0 || n.Dropped(PacketOutputFull) == 0 {
		t.Error("what cannot be sent is not counted")
	}
}
