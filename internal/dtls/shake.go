package dtls

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"

	"github.com/windrose-edc/windrose/internal/loop"
)

// Bounds of one handshake: a chain of certificates is some 4 KiB, in fragments.
const (
	shakeDatagrams = 32
	shakeBytes     = 32 << 10
	shakeTotal     = 64 << 10 // that are read at all
)

// shake is a handshake: the net.PacketConn under the library, whose reads come from a bounded queue that the loop fills and
// whose writes go to the loop. Fields without another word are immutable after newShake.
type shake struct {
	f      *front
	from   loop.PacketAddr
	random [randomSize]byte // of the ClientHello
	second []byte           // the ClientHello with our cookie
	cookie [cookieSize]byte
	shift  uint64 // what is added to the library's record numbers, so that they follow on the client's
	conn   *dtls.Conn

	mu      sync.Mutex // guards what follows
	ready   sync.Cond
	in      [][]byte
	waiting int // bytes in in
	total   int // bytes ever in in
	stopped bool
	over    bool // reads end
	mute    bool // writes are thrown away
	final   []byte
	later   [][]byte // what came after the final flight: for the front
}

// result is what a handshake came to.
type result struct {
	keys    *keys
	who     Identity
	own     cid
	hasOwn  bool
	peerCID []byte
	final   []byte
	err     error
}

func newShake(f *front, from loop.PacketAddr, h *hello, datagram []byte) *shake {
	s := &shake{f: f, from: from, second: append([]byte(nil), datagram...)}
	copy(s.random[:], h.random)
	copy(s.cookie[:], h.cookie)
	if h.recordSeq > 1 { // the library numbers its ServerHello 1
		s.shift = h.recordSeq - 1
	}
	s.ready.L = &s.mu
	s.in = [][]byte{h.withoutCookie()}
	return s
}

// take gives the handshake a datagram of the peer's. On the loop.
func (s *shake) take(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := &s.in
	if s.final != nil {
		q = &s.later
	}
	if s.over && s.final == nil || len(*q) >= shakeDatagrams || s.waiting+len(b) > shakeBytes || s.total+len(b) > shakeTotal {
		s.f.s.n.dropped[dropHandshake].Inc()
		return
	}
	s.waiting += len(b)
	s.total += len(b)
	*q = append(*q, append([]byte(nil), b...))
	s.ready.Signal()
}

// rest is what came after the handshake.
func (s *shake) rest() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.later
}

// ReadFrom implements net.PacketConn.
func (s *shake) ReadFrom(b []byte) (int, net.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.in) == 0 && !s.stopped && !s.over {
		s.ready.Wait()
	}
	switch {
	case s.over:
		return 0, nil, net.ErrClosed
	case s.stopped:
		return 0, nil, os.ErrDeadlineExceeded
	}
	n := copy(b, s.in[0])
	s.waiting -= min(s.waiting, len(s.in[0]))
	s.in[0] = nil
	s.in = s.in[1:]
	return n, peerAddr{}, nil
}

// WriteTo implements net.PacketConn. The HelloVerifyRequest never leaves: the peer has answered ours, so the library is made
// to want the cookie that the peer sent, and is given the peer's ClientHello. It runs in the goroutine of the library that
// looks at the cookie, which is the only one that does.
func (s *shake) WriteTo(b []byte, _ net.Addr) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mute {
		return len(b), nil
	}
	if len(b) > recordHeader && b[0] == typeHandshake && b[4] == 0 && b[recordHeader] == helloVerify {
		copy(libraryCookie(s.conn), s.cookie[:])
		s.in = append(s.in, s.second)
		s.ready.Signal()
		return len(b), nil
	}
	out := append([]byte(nil), b...)
	for rest := out; len(rest) >= recordHeader; {
		n := recordHeader + int(binary.BigEndian.Uint16(rest[11:]))
		if rest[3] == 0 && rest[4] == 0 { // epoch 0: nothing vouches for the number
			putUint48(rest[5:], uint48(rest[5:])+s.shift)
		}
		if rest[0] == typeCCS {
			s.final = out
		}
		if rest[0] == typeCID || n > len(rest) {
			break
		}
		rest = rest[n:]
	}
	s.f.loop.Post(func() { s.f.send(s.from, out) })
	return len(b), nil
}

// Close implements net.PacketConn.
func (s *shake) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over, s.mute = true, true
	s.ready.Broadcast()
	return nil
}

// LocalAddr implements net.PacketConn.
func (s *shake) LocalAddr() net.Addr { return peerAddr{} }

// SetDeadline implements net.PacketConn.
func (s *shake) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn: the library uses it to interrupt ReadFrom.
func (s *shake) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = !t.IsZero() && !t.After(time.Now())
	s.ready.Broadcast()
	return nil
}

// SetWriteDeadline implements net.PacketConn: writes never wait.
func (s *shake) SetWriteDeadline(time.Time) error { return nil }

// peerAddr is what the library knows of the peer's address.
type peerAddr struct{}

// Network implements net.Addr.
func (peerAddr) Network() string { return "udp" }

// String implements net.Addr.
func (peerAddr) String() string { return "peer" }

// run does the handshake and tells the front.
func (s *shake) run() {
	r := s.do()
	s.f.loop.Post(func() { s.f.shaken(s, r) })
}

func (s *shake) do() (r *result) {
	r = &result{}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.over, s.mute = true, true
		r.final, s.in = s.final, nil
	}()
	srv := s.f.s
	opts, err := srv.pionOptions(s.f.newCID)
	if err != nil {
		r.err = err
		return r
	}
	s.mu.Lock() // the library's goroutines begin in HandshakeContext
	s.conn, err = dtls.ServerWithOptions(s, peerAddr{}, opts...)
	s.mu.Unlock()
	if err != nil {
		r.err = fmt.Errorf("begin handshake: %w", err)
		return r
	}
	ctx, cancel := context.WithTimeout(srv.ctx, srv.o.HandshakeTimeout)
	defer cancel()
	err = s.conn.HandshakeContext(ctx)
	// From here on the library sends nothing, so that no number is used twice.
	s.mu.Lock()
	s.mute = true
	s.mu.Unlock()
	if err == nil {
		err = s.export(r)
	}
	_ = s.conn.Close()
	r.err = err
	return r
}

// export takes over what the handshake made.
func (s *shake) export(r *result) error {
	x, err := exportState(s.conn)
	if err != nil {
		return err
	}
	if r.keys, err = x.derive(); err != nil {
		return err
	}
	if len(x.LocalConnectionID) == cidSize {
		r.own, r.hasOwn = cid(binary.BigEndian.Uint64(x.LocalConnectionID)), true
	}
	r.peerCID = append([]byte(nil), x.RemoteConnectionID...)
	for _, p := range suites() {
		if p.psk && uint16(p.id) == x.CipherSuiteID {
			r.who.PSK = string(x.IdentityHint)
			return nil
		}
	}
	for _, raw := range x.PeerCertificates {
		crt, err := x509.ParseCertificate(raw)
		if err != nil {
			return errState // it was verified
		}
		r.who.Certificates = append(r.who.Certificates, crt)
	}
	return nil
}

// timedOut says whether a handshake ended at its deadline.
func timedOut(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

// pionOptions is the configuration of one handshake.
func (s *Server) pionOptions(newCID func() []byte) ([]dtls.ServerOption, error) {
	var ids []dtls.CipherSuiteID
	var c *tls.Config
	if s.o.TLS != nil {
		if c = s.o.TLS(); c == nil || len(c.Certificates) == 0 {
			return nil, errors.New("begin handshake: no certificate")
		}
	}
	for _, p := range suites() {
		if p.psk && s.o.Keys != nil || !p.psk && c != nil {
			ids = append(ids, p.id)
		}
	}
	o := []dtls.ServerOption{
		dtls.WithCipherSuites(ids...),
		dtls.WithLoggerFactory(silence{}),
		dtls.WithExtendedMasterSecret(dtls.RequestExtendedMasterSecret),
	}
	if s.o.Keys != nil {
		o = append(o, dtls.WithPSK(s.key))
	}
	if !s.o.NoCID {
		o = append(o, dtls.WithConnectionIDGenerator(newCID))
	}
	if c != nil {
		auth := dtls.NoClientCert
		switch c.ClientAuth {
		case tls.RequestClientCert:
			auth = dtls.RequestClientCert
		case tls.RequireAnyClientCert:
			auth = dtls.RequireAnyClientCert
		case tls.VerifyClientCertIfGiven:
			auth = dtls.VerifyClientCertIfGiven
		case tls.RequireAndVerifyClientCert:
			auth = dtls.RequireAndVerifyClientCert
		case tls.NoClientCert:
		}
		o = append(o, dtls.WithCertificates(c.Certificates...), dtls.WithClientAuth(auth))
		if c.ClientCAs != nil {
			o = append(o, dtls.WithClientCAs(c.ClientCAs))
		}
	}
	return o, nil
}

// key is the pre-shared key of an identity. An unknown one has a key that nobody knows, always the same, so that its handshake
// fails as it does with a wrong key (RFC 4279, section 5.1).
func (s *Server) key(id []byte) ([]byte, error) {
	m := hmac.New(sha256.New, s.dummy[:])
	m.Write(id)
	dummy := m.Sum(nil)
	if k, ok := s.o.Keys.Lookup(string(id)); ok {
		return k, nil
	}
	return dummy, nil
}

// newCID makes a Connection ID: for RFC 9146 it need not be secret, only the only one.
func (f *front) newCID() []byte {
	b := make([]byte, cidSize)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	binary.BigEndian.PutUint16(b, f.s.o.Node)
	b[2] = byte(f.loop.ID())
	return b
}

// libraryCookie is the cookie that the library will compare with, which cannot be learnt or chosen otherwise (ADR 15).
func libraryCookie(c *dtls.Conn) []byte {
	return reflect.ValueOf(c).Elem().FieldByName("state").FieldByName("cookie").Bytes()
}

// checkLibrary says whether libraryCookie and exported fit the library.
func checkLibrary() error {
	t, ok := reflect.TypeFor[dtls.Conn]().FieldByName("state")
	if !ok || t.Type.Kind() != reflect.Struct {
		return errState
	}
	if f, ok := t.Type.FieldByName("cookie"); !ok || f.Type != reflect.TypeFor[[]byte]() {
		return errState
	}
	return nil
}

// silence is the library's log: what it says holds what strangers sent.
type silence struct{}

// NewLogger implements logging.LoggerFactory.
func (silence) NewLogger(string) logging.LeveledLogger { return mute{} }

// mute implements logging.LeveledLogger.
type mute struct{}

func (mute) Trace(string)          {}
func (mute) Tracef(string, ...any) {}
func (mute) Debug(string)          {}
func (mute) Debugf(string, ...any) {}
func (mute) Info(string)           {}
func (mute) Infof(string, ...any)  {}
func (mute) Warn(string)           {}
func (mute) Warnf(string, ...any)  {}
func (mute) Error(string)          {}
func (mute) Errorf(string, ...any) {}
