package loop

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
)

// ListenOptions say what a listener does with new connections. Immutable after Listen.
type ListenOptions struct {
	Name string // for logs
	// TLS is called per connection, on the loop, and returns the configuration to use; nil: no TLS.
	TLS func() *tls.Config
	// Proxy expects a PROXY protocol header, version 1 or 2, in front of everything else (before TLS).
	Proxy bool
	// MaxConnections bounds the open connections of this listener; 0: no bound.
	MaxConnections int
	// Admit says whether a TCP peer may connect (with Proxy this is the proxy); nil: everybody. Called on loop 0.
	Admit func(netip.Addr) bool
	// Held begins to accept only when Start is called; until then who connects waits in the socket's queue.
	Held bool
	// Accept makes the handler of a connection that is ready (PROXY header read, TLS handshake done), on its loop. It
	// may write to the connection. nil refuses it.
	Accept func(*Conn) Handler
}

// Listener is a listening socket on a group. Safe for concurrent use.
type Listener struct {
	g    *Group
	opt  ListenOptions
	addr net.Addr
	sock listenSock
	*listenCounts

	mu     sync.Mutex // guards closed and the end of the socket
	closed bool
}

// listenCounts are what a listener counts, and those that take its place go on with. Safe for concurrent use.
type listenCounts struct {
	open     atomic.Int64
	accepted atomic.Int64
	refused  [NumRefusals]atomic.Int64
}

// acceptBatch is how many connections one listener takes in one turn.
const acceptBatch = 64

// Listen accepts connections from ln on loop 0 and spreads them over the loops. ln is taken over, also on error.
func (g *Group) Listen(ln *net.TCPListener, o ListenOptions) (*Listener, error) {
	return g.listen(ln, o, &listenCounts{})
}

// Replace makes a listener of other options on the socket that ln shares with n (see Dup), which counts on from n. The caller
// closes n, whose connections stay as they are: they, and those that are in their handshake, keep the options by which they
// came. ln is taken over, also on error.
func (n *Listener) Replace(ln *net.TCPListener, o ListenOptions) (*Listener, error) {
	return n.g.listen(ln, o, n.listenCounts)
}

// Start begins to accept, where ListenOptions.Held kept the listener from it. Called once.
func (n *Listener) Start() { n.sock.start() }

// Dup returns another descriptor of the listening socket: while it is open the address stays bound, and who connects
// waits in the socket's queue.
func (n *Listener) Dup() (*net.TCPListener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, fmt.Errorf("share the socket of %s: %w", n.addr, net.ErrClosed)
	}
	ln, err := n.sock.dup()
	if err != nil {
		return nil, fmt.Errorf("share the socket of %s: %w", n.addr, err)
	}
	return ln, nil
}

// CloseConns closes, with err, every connection that came in here or by a listener whose place this one took. It does not
// wait for it.
func (n *Listener) CloseConns(err error) {
	for _, l := range n.g.loops {
		l.Post(func() {
			for _, c := range l.conns {
				if c != nil && c.ln.listenCounts == n.listenCounts {
					c.Close(err)
				}
			}
		})
	}
}

func (g *Group) listen(ln *net.TCPListener, o ListenOptions, counts *listenCounts) (*Listener, error) {
	n := &Listener{g: g, opt: o, addr: ln.Addr(), listenCounts: counts}
	if err := n.sock.init(n, ln); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", n.addr, err)
	}
	if !g.add(n) {
		n.Close()
		return nil, fmt.Errorf("listen on %s: %w", n.addr, ErrStopped)
	}
	if !o.Held {
		n.sock.start()
	}
	return n, nil
}

// Addr is the address listened on.
func (n *Listener) Addr() net.Addr { return n.addr }

// Open is the number of open connections that came in here, those in their TLS handshake included.
func (n *Listener) Open() int64 { return n.open.Load() }

// Accepted is the number of connections that were let in so far.
func (n *Listener) Accepted() int64 { return n.accepted.Load() }

// Refused is the number of connections that were refused for this reason.
func (n *Listener) Refused(r Refusal) int64 { return n.refused[r].Load() }

// Close stops accepting; the address is free when it returns. Connections stay.
func (n *Listener) Close() {
	n.g.remove(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.closed = true
		n.sock.stop()
	}
}

func (n *Listener) refuse(r Refusal) {
	n.refused[r].Add(1)
	n.g.gate.refused[r].Add(1)
}

func (c *Conn) refuse(r Refusal) { c.ln.refuse(r) }

// admit decides about a new connection and counts it when it is let in.
func (n *Listener) admit(from netip.AddrPort) bool {
	if n.opt.Admit != nil && !n.opt.Admit(from.Addr()) {
		n.refuse(RefusedAddress)
		return false
	}
	if open := n.open.Add(1); n.opt.MaxConnections > 0 && open > int64(n.opt.MaxConnections) {
		n.open.Add(-1)
		n.refuse(RefusedMaxConnections)
		return false
	}
	n.accepted.Add(1)
	n.g.gate.accepted.Add(1)
	return true
}

// listenerOf makes a listener of a file, which it closes.
func listenerOf(f *os.File) (*net.TCPListener, error) {
	defer func() { _ = f.Close() }()
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	t, ok := ln.(*net.TCPListener)
	if !ok {
		_ = ln.Close() // not used
		return nil, fmt.Errorf("socket %s is not for TCP", ln.Addr())
	}
	return t, nil
}
