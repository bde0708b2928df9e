package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"github.com/windrose-edc/windrose/internal/loop"
)

// Listener is an open listener. Safe for concurrent use.
type Listener struct {
	name string
	spec Spec
	ln   *loop.Listener
}

// Check says what is wrong with the specification without opening anything.
func (s *Spec) Check() error {
	_, err := s.networks()
	return errors.Join(s.checkBind(), err, s.checkLimit())
}

func (s *Spec) checkBind() error {
	if s.Bind == "" {
		return errors.New("bind: missing; say host:port, or :port for all addresses")
	}
	_, port, err := net.SplitHostPort(s.Bind)
	if err != nil {
		return fmt.Errorf("bind %q: want host:port, [v6]:port or :port", s.Bind)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("bind %q: port %q is not a number from 0 to 65535", s.Bind, port)
	}
	return nil
}

func (s *Spec) checkLimit() error {
	if s.MaxConnections < 0 {
		return fmt.Errorf("max_connections: %d is negative; 0 means no limit", s.MaxConnections)
	}
	return nil
}

// networks parses AllowFrom; a bare address is a network of one.
func (s *Spec) networks() ([]netip.Prefix, error) {
	var nets []netip.Prefix
	for _, a := range s.AllowFrom {
		p, err := netip.ParsePrefix(a)
		if err != nil {
			ip, aerr := netip.ParseAddr(a)
			if aerr != nil {
				return nil, fmt.Errorf("allow_from %q: want an address or a network like 10.0.0.0/8", a)
			}
			p = netip.PrefixFrom(ip, ip.BitLen())
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		nets = append(nets, p.Masked())
	}
	return nets, nil
}

// Open listens on the group as s says. t is the entry that s.TLS names, nil when it names none. accept makes the
// handler of a connection that is ready, on its loop; nil refuses it.
func Open(g *loop.Group, name string, s Spec, t *TLS, accept func(*loop.Conn) loop.Handler) (*Listener, error) {
	ln, err := Bind(name, s)
	if err != nil {
		return nil, err
	}
	l, err := Serve(g, ln, name, s, t, accept)
	if err == nil {
		l.Start()
	}
	return l, err
}

// Bind takes the address of a listener without serving it yet: who connects waits in the socket's queue.
func Bind(name string, s Spec) (*net.TCPListener, error) {
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("listen %q: %w", name, err)
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", s.Bind)
	if err != nil {
		return nil, &BindError{Name: name, Addr: s.Bind, Err: plain(err)}
	}
	return ln.(*net.TCPListener), nil
}

// Share returns another descriptor of a listening socket.
func Share(ln *net.TCPListener) (*net.TCPListener, error) {
	f, err := ln.File()
	if err != nil {
		return nil, fmt.Errorf("share the socket of %s: %w", ln.Addr(), err)
	}
	defer func() { _ = f.Close() }() // the listener has its own
	next, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("share the socket of %s: %w", ln.Addr(), err)
	}
	return next.(*net.TCPListener), nil
}

// BindError says that an address cannot be taken. Immutable.
type BindError struct {
	Name, Addr string
	Err        error
}

func (e *BindError) Error() string { return fmt.Sprintf("listen %q on %s: %v", e.Name, e.Addr, e.Err) }

// Unwrap returns the system's own error.
func (e *BindError) Unwrap() error { return e.Err }

// Serve is Open on a socket that is bound already; nobody is accepted before Start. ln is taken over, also on error.
func Serve(g *loop.Group, ln *net.TCPListener, name string, s Spec, t *TLS, accept func(*loop.Conn) loop.Handler) (*Listener, error) {
	return serve(g.Listen, ln, name, s, t, accept)
}

// Replace makes a listener on the socket of l, which ln is (see Socket); nobody is accepted by it before Start. The caller
// closes l, whose connections stay as they are. ln is taken over, also on error.
func (l *Listener) Replace(ln *net.TCPListener, name string, s Spec, t *TLS, accept func(*loop.Conn) loop.Handler) (*Listener, error) {
	return serve(l.ln.Replace, ln, name, s, t, accept)
}

func serve(listen func(*net.TCPListener, loop.ListenOptions) (*loop.Listener, error), ln *net.TCPListener, name string, s Spec, t *TLS, accept func(*loop.Conn) loop.Handler) (*Listener, error) {
	o, err := options(name, s, t, accept)
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	o.Held = true
	l := &Listener{name: name, spec: s}
	if l.ln, err = listen(ln, o); err != nil {
		return nil, fmt.Errorf("listen %q: %w", name, err)
	}
	return l, nil
}

// Start begins to accept on a listener of Serve or Replace. Called once.
func (l *Listener) Start() { l.ln.Start() }

// Socket returns another descriptor of the listener's socket, for Replace.
func (l *Listener) Socket() (*net.TCPListener, error) { return l.ln.Dup() }

func options(name string, s Spec, t *TLS, accept func(*loop.Conn) loop.Handler) (loop.ListenOptions, error) {
	o := loop.ListenOptions{Name: name, Proxy: s.ProxyProtocol, MaxConnections: s.MaxConnections, Accept: accept}
	if (s.TLS != "") != (t != nil) {
		return o, fmt.Errorf("listen %q: tls %q is not there", name, s.TLS)
	}
	nets, err := s.networks()
	if err != nil {
		return o, fmt.Errorf("listen %q: %w", name, err)
	}
	if t != nil {
		o.TLS = func() *tls.Config { return t.Config() }
	}
	o.Admit = admits(nets)
	return o, nil
}

// Admits says which addresses may connect, as AllowFrom says; nil: all.
func (s *Spec) Admits() (func(netip.Addr) bool, error) {
	nets, err := s.networks()
	return admits(nets), err
}

func admits(nets []netip.Prefix) func(netip.Addr) bool {
	if len(nets) == 0 {
		return nil
	}
	return func(a netip.Addr) bool {
		for _, n := range nets {
			if n.Contains(a.WithZone("")) {
				return true
			}
		}
		return false
	}
}

// Explain makes a BindError of what the system says when an address cannot be taken.
func Explain(name string, s *Spec, err error) error {
	return &BindError{Name: name, Addr: s.Bind, Err: plain(err)}
}

// plain takes what the operator needs out of a net error: its address and operation are said already.
func plain(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	var de *net.DNSError
	if errors.As(err, &de) {
		return fmt.Errorf("host %q is not known", de.Name)
	}
	var ae *net.AddrError
	if errors.As(err, &ae) {
		return errors.New(ae.Err)
	}
	return err
}

// Name is the listener's name in the configuration.
func (l *Listener) Name() string { return l.name }

// Spec is what it was opened with.
func (l *Listener) Spec() Spec { return l.spec }

// Take lets a connection in that somebody else accepted: loop.Listener.Take. An admin server that shares its port gives
// such ones.
func (l *Listener) Take(nc *net.TCPConn, early []byte, accept func(*loop.Conn) loop.Handler) error {
	return l.ln.Take(nc, early, accept)
}

// Addr is the address listened on, with the port that the system chose where bind says 0.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

// Close stops accepting; the address is free when it returns. Connections stay.
func (l *Listener) Close() { l.ln.Close() }

// CloseConns closes, with err, every connection that came in here or by a listener that this one replaced. It does not
// wait.
func (l *Listener) CloseConns(err error) { l.ln.CloseConns(err) }

// Open is the number of open connections that came in here.
func (l *Listener) Open() int64 { return l.ln.Open() }

// Accepted is the number of connections that were let in so far.
func (l *Listener) Accepted() int64 { return l.ln.Accepted() }

// Refused is the number of connections that were refused so far, by the word of the reason.
func (l *Listener) Refused() map[string]int64 {
	m := make(map[string]int64, loop.NumRefusals)
	for r := range loop.NumRefusals {
		m[strings.ToLower(r.String())] = l.ln.Refused(r)
	}
	return m
}
