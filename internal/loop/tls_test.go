package loop

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// certs is an authority with a server's and a client's certificate. Immutable.
type certs struct {
	pool         *x509.CertPool
	srv, cli     tls.Certificate
	serverConfig *tls.Config
}

func (c *certs) server() *tls.Config { return c.serverConfig }

func (c *certs) client() *tls.Config {
	return &tls.Config{RootCAs: c.pool, ServerName: "server.test", MinVersion: tls.VersionTLS12}
}

func testTLS(t testing.TB) *certs {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	serial := int64(0)
	issue := func(tpl, parent *x509.Certificate, k, by *ecdsa.PrivateKey) *x509.Certificate {
		serial++
		tpl.SerialNumber = big.NewInt(serial)
		tpl.NotBefore, tpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, tpl, parent, &k.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	caKey := key()
	caTpl := &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca := issue(caTpl, caTpl, caKey, caKey)
	leaf := func(name string) tls.Certificate {
		k := key()
		c := issue(&x509.Certificate{
			Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}, ca, k, caKey)
		return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: k, Leaf: c}
	}
	c := &certs{pool: x509.NewCertPool(), srv: leaf("server.test"), cli: leaf("client.test")}
	c.pool.AddCert(ca)
	c.serverConfig = &tls.Config{Certificates: []tls.Certificate{c.srv}, ClientCAs: c.pool, DynamicRecordSizingDisabled: true}
	return c
}

// dialTLS makes a handshake; without a config any certificate is good.
func dialTLS(t testing.TB, n *Listener, cfg *tls.Config) *tls.Conn {
	t.Helper()
	if cfg == nil {
		cfg = &tls.Config{InsecureSkipVerify: true}
	}
	c := tls.Client(dial(t, n), cfg)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

var versions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

func TestTLSEcho(t *testing.T) {
	crt := testTLS(t)
	g := testGroup(t, Options{})
	accept, made := handlers(echo)
	n := testListen(t, g, ListenOptions{Accept: accept, TLS: crt.server})
	for name, v := range versions {
		t.Run(name, func(t *testing.T) {
			cfg := crt.client()
			cfg.MaxVersion = v
			c := dialTLS(t, n, cfg)
			f := wait(t, made)
			if !f.c.TLS() {
				t.Error("TLS() is false")
			}
			want := strings.Repeat("0123456789abcdef", 20_000)
			go func() { _, _ = io.WriteString(c, want) }()
			expect(t, c, want)
			on(t, f.c.Loop(), func() {
				if f.c.in != nil || f.c.out != nil || f.c.tls.out != nil || f.c.x != nil || f.c.tls.hs != nil {
					t.Error("an idle connection holds something")
				}
				if f.c.PeerCertificates() != nil {
					t.Error("certificates of a client that sent none")
				}
				if f.c.ServerName() != "server.test" {
					t.Errorf("server name %q", f.c.ServerName())
				}
			})
			_ = c.Close() // close notify
			if err := wait(t, f.closed); !errors.Is(err, io.EOF) {
				t.Errorf("closed with %v", err)
			}
		})
	}
	if s := stats(t, g); s.HandshakesOK != 2 || s.HandshakesFailed != 0 {
		t.Errorf("%+v", s)
	}
}

// slow writes what is written to it in small pieces.
type slow struct {
	net.Conn
	piece int
	pause time.Duration
}

func (s *slow) Write(b []byte) (int, error) {
	for i := 0; i < len(b); i += s.piece {
		if _, err := s.Conn.Write(b[i:min(i+s.piece, len(b))]); err != nil {
			return i, err
		}
		if s.pause > 0 {
			time.Sleep(s.pause)
		}
	}
	return len(b), nil
}

// Handshake and data byte by byte: crypto/tls is interrupted after each.
func TestTLSByteByByte(t *testing.T) {
	crt := testTLS(t)
	g := testGroup(t, Options{})
	accept, made := handlers(echo)
	n := testListen(t, g, ListenOptions{Accept: accept, TLS: crt.server})
	for name, v := range versions {
		t.Run(name, func(t *testing.T) {
			cfg := crt.client()
			cfg.MaxVersion = v
			c := tls.Client(&slow{dial(t, n), 1, 0}, cfg)
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			wait(t, made)
			var want bytes.Buffer
			go func() {
				for i := range 100 {
					_, _ = c.Write(bytes.Repeat([]byte{byte(i)}, i*3))
				}
			}()
			for i := range 100 {
				want.Write(bytes.Repeat([]byte{byte(i)}, i*3))
			}
			expect(t, c, want.String())
		})
	}
}

// Data in the same segment as the last message of the handshake must not wait for more.
func TestTLSEarlyData(t *testing.T) {
	crt := testTLS(t)
	g := testGroup(t, Options{})
	accept, _ := handlers(echo)
	n := testListen(t, g, ListenOptions{Accept: accept, TLS: crt.server})
	for range 20 {
		raw := dial(t, n)
		glue := &gluing{Conn: raw}
		c := tls.Client(glue, crt.client())
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		glue.flush = true
		send(t, c, "early")
		expect(t, c, "early")
	}
}

// gluing holds back everything after the first write until flush is set.
type gluing struct {
	net.Conn
	held  []byte
	first bool
	flush bool
}

func (g *gluing) Write(b []byte) (int, error) {
	if !g.first {
		g.first = true
		return g.Conn.Write(b)
	}
	g.held = append(g.held, b...)
	if g.flush {
		if _, err := g.Conn.Write(g.held); err != nil {
			return 0, err
		}
		g.held = nil
	}
	return len(b), nil
}

func TestTLSMutual(t *testing.T) {
	crt := testTLS(t)
	crt.serverConfig.ClientAuth = tls.RequireAndVerifyClientCert
	g := testGroup(t, Options{})
	accept, made := handlers(echo)
	n := testListen(t, g, ListenOptions{Accept: accept, TLS: crt.server})
	for name, v := range versions {
		t.Run(name, func(t *testing.T) {
			cfg := crt.client()
			cfg.MaxVersion = v
			cfg.Certificates = []tls.Certificate{crt.cli}
			dialTLS(t, n, cfg)
			f := wait(t, made)
			on(t, f.c.Loop(), func() {
				p := f.c.PeerCertificates()
				if len(p) == 0 || p[0].Subject.CommonName != "client.test" {
					t.Errorf("peer certificates %v", p)
				}
			})
		})
	}
	c := tls.Client(dial(t, n), crt.client()) // without a certificate
	_ = c.Handshake()
	var alert *net.OpError
	if _, err := c.Read(make([]byte, 1)); !errors.As(err, &alert) || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("the client was told: %v", err)
	}
	if s := stats(t, g); s.HandshakesFailed != 1 || s.HandshakesOK != 2 {
		t.Errorf("%+v", s)
	}
}

func TestTLSResumption(t *testing.T) {
	crt := testTLS(t)
	g := testGroup(t, Options{})
	accept, made := handlers(echo)
	n := testListen(t, g, ListenOptions{Accept: accept, TLS: crt.server})
	for name, v := range versions {
		t.Run(name, func(t *testing.T) {
			cfg := crt.client()
			cfg.MaxVersion = v
			cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			for i := range 3 {
				c := dialTLS(t, n, cfg)
				send(t, c, "x")
				expect(t, c, "x") // the ticket comes before
				if got := c.ConnectionState().DidResume; got != (i > 0) {
					t.Errorf("connection %d resumed: %v", i, got)
				}
				wait(t, made)
				_ = c.Close()
			}
		})
	}
	if s := stats(t, g); s.HandshakesResumed != 4 {
		t.Errorf("counted %d", s.HandshakesResumed)
	}
}

func TestTLSCloseNotify(t *testing.T) {
	crt := testTLS(t)
	g := testGroup(t, Options{})
	accept, made := handlers(func(c *Conn, b []byte) (int, error) {
		c.SetOut(append(c.Out(), "bye"...))
		return 0, errBye
	})
	n := testListen(t, g, ListenOptions{Accept: accept, TLS: crt.server})
	c := dialTLS(t, n, crt.client())
	send(t, c, "x")
	if got, err := io.ReadAll(c); string(got) != "bye" || err != nil { // io.ErrUnexpectedEOF without the notify
		t.Errorf("got %q, %v", got, err)
	}
	if err := wait(t, wait(t, made).closed); !errors.Is(err, errBye) {
		t.Errorf("closed with %v", err)
	}
}

func TestTLSGarbage(t *testing.T) {
	crt := testTLS(t)
	g := testGroup(t, Options{})
	accept, made := handlers(echo)
	n := testListen(t, g, ListenOptions{Accept: accept, TLS: crt.server})
	c := dial(t, n)
	send(t, c, "GET / HTTP/1.1\r\n\r\n")
	if got, err := io.ReadAll(c); err != nil || len(got) > 100 {
		t.Errorf("got %q, %v", got, err)
	}
	_ = dial(t, n).Close() // nothing at all
	// garbage after the handshake
	good := dialTLS(t, n, crt.client())
	f := wait(t, made)
	raw := good.NetConn()
	send(t, raw, "\x17\x03\x03\x00\x20"+strings.Repeat("g", 32))
	if err := wait(t, f.closed); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("closed with %v", err)
	}
	for n.Open() > 0 {
		time.Sleep(time.Millisecond)
	}
	if s := stats(t, g); s.HandshakesFailed < 1 || s.HandshakesOK != 1 {
		t.Errorf("%+v", s)
	}
}

// A callback of the configuration that panics ends this handshake only.
func TestTLSPanic(t *testing.T) {
	crt := testTLS(t)
	g := testGroup(t, Options{})
	accept, _ := handlers(echo)
	outer := false
	crt.serverConfig.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { panic("planted") }
	n := testListen(t, g, ListenOptions{Accept: accept, TLS: func() *tls.Config {
		if outer = !outer; outer {
			panic("planted")
		}
		return crt.serverConfig
	}})
	for range 2 {
		c := tls.Client(dial(t, n), crt.client())
		if err := c.Handshake(); err == nil {
			t.Error("handshake went on")
		}
	}
	if s := stats(t, g); s.Panics != 1 || s.HandshakesFailed != 1 || n.Open() != 0 {
		t.Errorf("%+v, %d open", s, n.Open())
	}
}

// Silent and stalled handshakes end by themselves, and cost at most what their prefix may have.
func TestTLSSilentHandshakes(t *testing.T) {
	crt := testTLS(t)
	g := testGroup(t, Options{HandshakeTimeout: 200 * time.Millisecond, SilentPerPrefix: 5})
	accept, made := handlers(echo)
	n := testListen(t, g, ListenOptions{Accept: accept, TLS: crt.server})
	var cs []net.Conn
	for i := range 8 {
		c := dial(t, n)
		if i == 0 { // it has begun, and waits
			send(t, c, "\x16\x03\x01\x02\x00\x01")
			time.Sleep(20 * time.Millisecond)
		}
		cs = append(cs, c)
	}
	for _, c := range cs {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("answered")
		}
	}
	if s := stats(t, g); s.Refused[RefusedHandshakes] != 3 || s.HandshakesTimeout != 5 || n.Refused(RefusedHandshakes) != 3 {
		t.Errorf("%+v", s)
	}
	c := dialTLS(t, n, crt.client()) // the room is free again
	send(t, c, "x")
	expect(t, c, "x")
	wait(t, made)
	on(t, g.Loops()[0], func() {})
	g.gate.mu.Lock()
	defer g.gate.mu.Unlock()
	if len(g.gate.silent) != 0 {
		t.Errorf("left behind: %v", g.gate.silent)
	}
}

// More handshakes than may be in progress wait for their turn; those that are closed meanwhile do not take one.
func TestTLSHandshakesQueue(t *testing.T) {
	crt := testTLS(t)
	g := testGroup(t, Options{MaxHandshaking: 2, Handshakes: 1, HandshakeTimeout: 400 * time.Millisecond})
	accept, _ := handlers(echo)
	n := testListen(t, g, ListenOptions{Accept: accept, TLS: crt.server})
	for range 4 { // two occupy the places, two wait in line
		send(t, dial(t, n), "\x16\x03\x01\x02\x00\x01")
	}
	time.Sleep(30 * time.Millisecond)
	for range 6 {
		cfg := crt.client()
		c := tls.Client(dial(t, n), cfg)
		err := c.Handshake()
		if err != nil { // in line for longer than the deadline
			continue
		}
		send(t, c, "x")
		expect(t, c, "x")
	}
	if s := stats(t, g); s.HandshakesOK == 0 || s.HandshakesTimeout < 4 {
		t.Errorf("%+v", s)
	}
}

func TestTLSStopDuringHandshake(t *testing.T) {
	crt := testTLS(t)
	g := testGroup(t, Options{})
	accept, _ := handlers(echo)
	n := testListen(t, g, ListenOptions{Accept: accept, TLS: crt.server})
	for i := range 10 {
		c := dial(t, n)
		if i%2 == 0 {
			send(t, c, "\x16\x03\x01\x02\x00\x01")
		}
	}
	time.Sleep(20 * time.Millisecond) // the group stops at the end of the test, goleak looks for goroutines
}

// A flight that does not fit the socket is written when there is room.
func TestTLSHandshakeFlightLargerThanTheSocket(t *testing.T) {
	crt := testTLS(t)
	big := crt.srv
	for range 400 { // about 200 KB of chain
		big.Certificate = append(big.Certificate, crt.srv.Certificate[0])
	}
	crt.serverConfig.Certificates = []tls.Certificate{big}
	g := testGroup(t, Options{})
	accept, _ := handlers(echo)
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	shrink(t, ln)
	n, err := g.Listen(ln, ListenOptions{Accept: accept, TLS: crt.server})
	if err != nil {
		t.Fatal(err)
	}
	raw := dial(t, n)
	_ = raw.(*net.TCPConn).SetReadBuffer(4096)
	c := tls.Client(&sluggish{raw}, &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	send(t, c, "x")
	expect(t, c, "x")
}

// sluggish reads little at a time.
type sluggish struct{ net.Conn }

func (s *sluggish) Read(b []byte) (int, error) {
	time.Sleep(200 * time.Microsecond)
	return s.Conn.Read(b[:min(len(b), 2048)])
}

// shrink makes the send buffer of accepted sockets small.
func shrink(t testing.TB, ln *net.TCPListener) {
	t.Helper()
	rc, err := ln.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := rc.Control(shrinkFD); err != nil {
		t.Fatal(err)
	}
}
