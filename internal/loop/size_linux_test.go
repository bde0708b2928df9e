//go:build linux && !portable

package loop

import (
	"net/netip"
	"testing"
	"unsafe"
)

// A connection that does nothing costs what the allocator's class for 144 bytes takes.
func TestConnIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Conn{}); n > 144 {
		t.Errorf("a connection has %d bytes", n)
	}
}

func TestRemoteAddrIsKept(t *testing.T) {
	c := &Conn{}
	for _, s := range []string{"192.0.2.7:1883", "[2001:db8::1]:65535", "[fe80::1%3]:7", "[fe80::1%eth0]:8", "0.0.0.0:0", "[::ffff:192.0.2.7]:9"} {
		a := netip.MustParseAddrPort(s)
		c.setRemote(a)
		if got := c.RemoteAddr(); got != a {
			t.Errorf("%v became %v", a, got)
		}
	}
	if c.setRemote(netip.AddrPort{}); c.RemoteAddr().IsValid() {
		t.Error("no address became one")
	}
}
