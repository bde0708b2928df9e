package loop

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// Take lets a connection in that somebody else accepted, for instance a server of HTTP that gave it away, as one that came
// to this listener: counted, bounded and admitted like others, but without PROXY protocol and TLS. early is what was read of
// it already; accept makes its handler in place of ListenOptions.Accept. nc stays the caller's, who closes it: the loop has
// a descriptor of its own. Any goroutine.
func (n *Listener) Take(nc *net.TCPConn, early []byte, accept func(*Conn) Handler) error {
	n.mu.Lock()
	closed := n.closed
	n.mu.Unlock()
	if closed {
		return fmt.Errorf("take a connection to %s: %w", n.addr, ErrStopped)
	}
	a, ok := nc.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("take a connection to %s: its peer has no address", n.addr)
	}
	remote := netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	raw, err := takeSock(nc)
	if err != nil {
		return fmt.Errorf("take a connection to %s: %w", n.addr, err)
	}
	if !n.admit(remote) {
		raw.discard()
		return errNotAdmitted
	}
	to := n.g.Pick()
	to.load.Add(1)
	to.pass([]passed{{sock: raw, remote: remote, ln: n, taken: &taken{early, accept}}})
	return nil
}

var errNotAdmitted = errors.New("not admitted")

// taken is what only a connection has that Take let in. Immutable.
type taken struct {
	early  []byte
	accept func(*Conn) Handler
}

// openTaken gives a connection that Take let in its handler, and that what was read already.
func (c *Conn) openTaken(t *taken) {
	defer c.Recover()
	if len(t.early) > 0 {
		c.keep(t.early)
	}
	c.openWith(t.accept)
	if c.flags&fFramed != 0 {
		c.flags &^= fRefeed
		c.handOver()
	}
}
