package loop

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

// The PROXY protocol, https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt: version 1 (section 2.1) is a line of
// text, version 2 (section 2.2) is binary.

const (
	proxyV1Max   = 107        // section 2.1, with the line end
	proxyV2Fixed = 16         // signature, version and command, family, length
	proxyMax     = 536 + 4096 // section 2.2 wants 536 bytes to be accepted; the rest is for TLVs
)

var proxyV2Signature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// proxyHeader is what a PROXY header says.
type proxyHeader struct {
	size     int  // bytes, 0: not complete
	announce bool // src and dst are to be used in place of the socket's own
	src, dst netip.AddrPort
}

// parseProxy reads the header at the beginning of b. size 0 without an error: more bytes are needed.
func parseProxy(b []byte) (proxyHeader, error) {
	sig := proxyV2Signature
	switch {
	case bytes.HasPrefix(b, sig):
		return parseProxyV2(b)
	case len(b) < len(sig) && bytes.HasPrefix(sig, b):
		return proxyHeader{}, nil
	default:
		return parseProxyV1(b)
	}
}

// parseProxyV1 reads "PROXY TCP4|TCP6 src dst sport dport\r\n", or "PROXY UNKNOWN" and anything.
func parseProxyV1(b []byte) (h proxyHeader, err error) {
	const start = "PROXY "
	line := b[:min(len(b), proxyV1Max)]
	if n := min(len(line), len(start)); string(line[:n]) != start[:n] {
		return h, ErrProxyHeader
	}
	end := bytes.IndexByte(line, '\n')
	if end < 0 {
		if len(line) == proxyV1Max {
			return h, ErrProxyHeader
		}
		return h, nil
	}
	text, ok := strings.CutSuffix(string(line[:end]), "\r")
	if !ok || len(text) < len(start) {
		return h, ErrProxyHeader
	}
	size := end + 1
	f := strings.Split(text[len(start):], " ")
	switch {
	case f[0] == "UNKNOWN":
		return proxyHeader{size: size}, nil
	case (f[0] == "TCP4" || f[0] == "TCP6") && len(f) == 5:
		if h.src, ok = proxyAddr(f[1], f[3], f[0] == "TCP4"); !ok {
			return proxyHeader{}, ErrProxyHeader
		}
		if h.dst, ok = proxyAddr(f[2], f[4], f[0] == "TCP4"); !ok {
			return proxyHeader{}, ErrProxyHeader
		}
		h.size, h.announce = size, true
		return h, nil
	}
	return h, ErrProxyHeader
}

func proxyAddr(ip, port string, v4 bool) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(ip)
	if err != nil || a.Is4() != v4 || a.Zone() != "" {
		return netip.AddrPort{}, false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port { // no sign, no leading zero
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), true
}

// parseProxyV2 reads a header whose signature is there.
func parseProxyV2(b []byte) (h proxyHeader, err error) {
	if len(b) < proxyV2Fixed {
		return h, nil
	}
	n := int(binary.BigEndian.Uint16(b[14:]))
	if b[12]>>4 != 2 || proxyV2Fixed+n > proxyMax {
		return h, ErrProxyHeader
	}
	cmd, family, transport := b[12]&15, b[13]>>4, b[13]&15
	if cmd > 1 || family > 3 || transport > 2 {
		return h, ErrProxyHeader
	}
	if len(b) < proxyV2Fixed+n {
		return h, nil
	}
	size := proxyV2Fixed + n
	if cmd == 0 { // LOCAL: the proxy speaks for itself
		return proxyHeader{size: size}, nil
	}
	b = b[proxyV2Fixed:size]
	v4, v6 := family == 1, family == 2
	switch {
	case transport == 2 || (v4 || v6) && transport != 1:
		return h, ErrProxyHeader // a datagram cannot come by TCP
	case v4 && len(b) >= 12:
		h.src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), binary.BigEndian.Uint16(b[8:]))
		h.dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:])), binary.BigEndian.Uint16(b[10:]))
		b = b[12:]
	case v6 && len(b) >= 36:
		h.src = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)).Unmap(), binary.BigEndian.Uint16(b[32:]))
		h.dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[16:])).Unmap(), binary.BigEndian.Uint16(b[34:]))
		b = b[36:]
	case v4 || v6:
		return h, ErrProxyHeader
	default: // unspecified, Unix socket: nothing that we can use
		return proxyHeader{size: size}, nil
	}
	if !validTLVs(b) {
		return proxyHeader{}, ErrProxyHeader
	}
	h.size, h.announce = size, true
	return h, nil
}

// validTLVs says whether b is a sequence of type, length, value (section 2.2.1 on). They are not used.
func validTLVs(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 3 {
			return false
		}
		n := 3 + int(binary.BigEndian.Uint16(b[1:]))
		if len(b) < n {
			return false
		}
		b = b[n:]
	}
	return true
}

// startProxy waits for the header.
func (c *Conn) startProxy() {
	c.state = stProxy
	c.loop.Arm(&c.extra().timer, c.loop.now+int64(c.loop.g.opt.ProxyTimeout))
}

// readProxy reads until the header is complete; what comes behind it is kept.
func (c *Conn) readProxy() {
	n, err := c.sock.read(c.loop.buf[:min(len(c.loop.buf), proxyMax)])
	if err != nil {
		if !isAgain(err) {
			c.Close(err)
		}
		return
	}
	c.loop.n.bytesIn += int64(n)
	c.keep(c.loop.buf[:n])
	h, err := parseProxy(c.in)
	if err != nil {
		c.refuse(RefusedProxyHeader)
		c.Close(err)
		c.dropInput()
		return
	}
	if h.size == 0 {
		return
	}
	c.loop.Disarm(&c.x.timer)
	c.x = nil
	if h.announce {
		c.setRemote(h.src)
		c.extra().local = h.dst
	}
	c.inOff = uint32(h.size)
	if len(c.in) == h.size {
		c.dropInput()
	}
	c.proceed()
}
