package loop

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// v2 builds a version 2 header.
func v2(command, family byte, body []byte) string {
	b := append(slices.Clone(proxyV2Signature), 0x20|command, family, 0, 0)
	binary.BigEndian.PutUint16(b[14:], uint16(len(body)))
	return string(append(b, body...))
}

func v2inet(src, dst string, tlvs ...byte) string {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	b := append(s.Addr().AsSlice(), d.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, s.Port())
	b = binary.BigEndian.AppendUint16(b, d.Port())
	family := byte(0x11)
	if s.Addr().Is6() {
		family = 0x21
	}
	return v2(1, family, append(b, tlvs...))
}

// Sections 2.1 and 2.2 of the PROXY protocol.
func TestParseProxy(t *testing.T) {
	long := func(n int) []byte { // a TLV of n bytes in all
		b := make([]byte, n)
		b[0] = 0x04
		binary.BigEndian.PutUint16(b[1:], uint16(n-3))
		return b
	}
	const own = "own" // the socket's own addresses count
	for _, x := range []struct{ in, src, dst string }{
		{"PROXY TCP4 192.0.2.1 198.51.100.2 56324 1883\r\n", "192.0.2.1:56324", "198.51.100.2:1883"},
		{"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", "[2001:db8::1]:1", "[2001:db8::2]:65535"},
		{"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "192.0.2.1:1", "[::1]:2"},
		{"PROXY UNKNOWN\r\n", own, ""},
		{"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", own, ""},
		{"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
			"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
		{v2inet("192.0.2.1:5", "198.51.100.2:6"), "192.0.2.1:5", "198.51.100.2:6"},
		{v2inet("[2001:db8::1]:5", "[2001:db8::2]:6"), "[2001:db8::1]:5", "[2001:db8::2]:6"},
		{v2inet("192.0.2.1:5", "198.51.100.2:6", 0x02, 0, 1, 'x', 0x04, 0, 0), "192.0.2.1:5", "198.51.100.2:6"},
		{v2inet("192.0.2.1:5", "198.51.100.2:6", long(proxyMax-28)...), "192.0.2.1:5", "198.51.100.2:6"},
		{v2(0, 0, nil), own, ""},                     // LOCAL
		{v2(0, 0x11, make([]byte, 12)), own, ""},     // LOCAL with addresses: not looked at
		{v2(1, 0, []byte{1, 2, 3}), own, ""},         // unspecified
		{v2(1, 0x31, make([]byte, 216)), own, ""},    // Unix socket
		{v2(0, 0, []byte("no TLV at all")), own, ""}, // LOCAL: thrown away
	} {
		for n := range len(x.in) {
			if h, err := parseProxy([]byte(x.in[:n])); err != nil || h.size != 0 {
				t.Fatalf("%q: %+v, %v after %d bytes", x.in, h, err, n)
			}
		}
		h, err := parseProxy([]byte(x.in + "\x10rest"))
		if err != nil || h.size != len(x.in) || h.announce != (x.src != own) {
			t.Errorf("%q: %+v, %v", x.in, h, err)
			continue
		}
		if h.announce && (h.src.String() != x.src || h.dst.String() != x.dst) {
			t.Errorf("%q: %v, %v", x.in, h.src, h.dst)
		}
	}
	for _, in := range []string{
		"\x10\x0e\x00\x04MQTT", "GET / HTTP/1.1\r\n", "PROXY \r\n", "PROXY TCP4\r\n", "proxy UNKNOWN\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 56324 1883\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 56324 1883 7\r\n",
		"PROXY TCP4  192.0.2.1 198.51.100.2 56324 1883\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 +56324 1883\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 056324 1883\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 65536 1883\r\n",
		"PROXY TCP4 192.0.2.256 198.51.100.2 1 1883\r\n",
		"PROXY TCP4 2001:db8::1 2001:db8::1 1 1883\r\n",
		"PROXY TCP6 192.0.2.1 192.0.2.1 1 1883\r\n",
		"PROXY TCP6 fe80::1%eth0 ::1 1 1883\r\n",
		"PROXY UDP4 192.0.2.1 198.51.100.2 1 1883\r\n",
		"PROXY " + strings.Repeat("x", 200),
		v2(2, 0x11, make([]byte, 12)),
		v2(1, 0x11, make([]byte, 11)),
		v2(1, 0x21, make([]byte, 35)),
		v2(1, 0x12, make([]byte, 12)), // UDP
		v2(1, 0x10, make([]byte, 12)), // no transport
		v2(1, 0x41, make([]byte, 12)),
		v2(1, 0x13, make([]byte, 12)),
		v2(1, 0x11, make([]byte, proxyMax-proxyV2Fixed+1)),
		strings.Replace(v2(0, 0, nil), "\x20", "\x10", 1),
		v2inet("192.0.2.1:5", "198.51.100.2:6", 1, 2),
		v2inet("192.0.2.1:5", "198.51.100.2:6", 1, 0, 9, 1),
	} {
		if h, err := parseProxy([]byte(in)); !errors.Is(err, ErrProxyHeader) {
			t.Errorf("%q: %+v, %v", in, h, err)
		}
	}
}

// FuzzProxy: no panic, no header beyond its bound, the same answer however the bytes are cut.
func FuzzProxy(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 198.51.100.2 56324 1883\r\nrest"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(v2inet("192.0.2.1:5", "198.51.100.2:6", 4, 0, 1, 0)))
	f.Add([]byte(v2inet("[2001:db8::1]:5", "[2001:db8::2]:6")))
	f.Add([]byte(v2(0, 0, nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseProxy(b)
		if h.size < 0 || h.size > min(len(b), proxyMax) {
			t.Fatalf("size %d of %d", h.size, len(b))
		}
		if err == nil && h.size == 0 && len(b) >= proxyMax {
			t.Fatal("wants more than the bound")
		}
		if h.announce && (!h.src.IsValid() || !h.dst.IsValid() || h.size == 0 || err != nil) {
			t.Fatalf("%+v, %v", h, err)
		}
		for n := range b {
			part, perr := parseProxy(b[:n])
			switch {
			case perr != nil:
				if err == nil {
					t.Fatalf("refused after %d bytes, accepted later", n)
				}
				return
			case part.size > 0:
				if part != h {
					t.Fatalf("%+v after %d bytes, %+v later", part, n, h)
				}
				return
			}
		}
	})
}

func TestProxyConnections(t *testing.T) {
	crt := testTLS(t)
	g := testGroup(t, Options{})
	accept, made := handlers(echo)
	plain := testListen(t, g, ListenOptions{Accept: accept, Proxy: true})
	secure := testListen(t, g, ListenOptions{Accept: accept, Proxy: true, TLS: crt.server})
	const v1 = "PROXY TCP4 192.0.2.1 198.51.100.2 56324 1883\r\n"
	for _, x := range []struct {
		header string
		own    bool
	}{{v1, false}, {v2inet("192.0.2.1:56324", "198.51.100.2:1883", 4, 0, 3, 0, 0, 0), false}, {v2(0, 0, nil), true}, {"PROXY UNKNOWN\r\n", true}} {
		check := func(c net.Conn) {
			t.Helper()
			f := wait(t, made)
			remote, local := "192.0.2.1:56324", "198.51.100.2:1883"
			if x.own {
				remote, local = c.LocalAddr().String(), c.RemoteAddr().String()
			}
			on(t, f.c.Loop(), func() {
				if f.c.RemoteAddr().String() != remote || f.c.LocalAddr().String() != local {
					t.Errorf("%q: %v and %v", x.header, f.c.RemoteAddr(), f.c.LocalAddr())
				}
			})
		}
		c := dial(t, plain) // together with data
		send(t, c, x.header+"hello")
		expect(t, c, "hello")
		check(c)
		c = dial(t, plain) // in pieces
		send(t, &slow{c, 3, 200 * time.Microsecond}, x.header+"hello")
		expect(t, c, "hello")
		check(c)
		c = dial(t, secure) // together with the client hello
		tc := newTLSBehind(c, x.header, crt)
		send(t, tc, "hello")
		expect(t, tc, "hello")
		check(c)
		c = dial(t, secure)
		send(t, c, x.header) // apart
		time.Sleep(5 * time.Millisecond)
		tc = newTLSBehind(c, "", crt)
		send(t, tc, "hello")
		expect(t, tc, "hello")
		check(c)
	}
	for _, n := range []*Listener{plain, secure} {
		c := dial(t, n)
		send(t, c, "\x10\x0e\x00\x04MQTT")
		if got, _ := io.ReadAll(c); len(got) > 0 {
			t.Errorf("answered %q", got)
		}
		if n.Refused(RefusedProxyHeader) != 1 {
			t.Error("not counted")
		}
	}
}

func newTLSBehind(c net.Conn, header string, crt *certs) io.ReadWriter {
	return tls.Client(&prefixed{Conn: c, prefix: header}, crt.client())
}

// prefixed writes something in front of the first write.
type prefixed struct {
	net.Conn
	prefix string
}

func (p *prefixed) Write(b []byte) (int, error) {
	n := len(p.prefix)
	b = append([]byte(p.prefix), b...)
	p.prefix = ""
	m, err := p.Conn.Write(b)
	return max(0, m-n), err
}

func TestProxyTimeout(t *testing.T) {
	g := testGroup(t, Options{ProxyTimeout: 50 * time.Millisecond})
	accept, _ := handlers(echo)
	n := testListen(t, g, ListenOptions{Accept: accept, Proxy: true})
	c := dial(t, n)
	send(t, c, "PROXY TCP4")
	if got, _ := io.ReadAll(c); len(got) > 0 {
		t.Errorf("answered %q", got)
	}
	if n.Refused(RefusedProxyTimeout) != 1 || n.Open() != 0 {
		t.Error("not counted")
	}
	// the deadline ends with the header
	c = dial(t, n)
	send(t, c, "PROXY UNKNOWN\r\n")
	time.Sleep(100 * time.Millisecond)
	send(t, c, "x")
	expect(t, c, "x")
}
