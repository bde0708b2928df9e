package listen

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/loop"
)

// authority signs certificates into files of one folder.
type authority struct {
	t      testing.TB
	dir    string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	file   string
	serial int64
}

func newAuthority(t testing.TB, dir, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: dir, file: filepath.Join(dir, name+".ca.pem")}
	a.key = newKey(t)
	tpl := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert = a.sign(tpl, tpl, a.key)
	writePEM(t, a.file, "CERTIFICATE", a.cert.Raw)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (a *authority) sign(tpl, parent *x509.Certificate, k *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	a.serial++
	tpl.SerialNumber = big.NewInt(a.serial)
	tpl.NotBefore = time.Now().Add(-time.Hour)
	if tpl.NotAfter.IsZero() {
		tpl.NotAfter = time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, &k.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// issue writes file.pem and file.key for these names.
func (a *authority) issue(file string, names ...string) CertSpec {
	a.t.Helper()
	k := newKey(a.t)
	c := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: file}, DNSNames: names,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, k)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	s := CertSpec{Cert: filepath.Join(a.dir, file+".pem"), Key: filepath.Join(a.dir, file+".key")}
	writePEM(a.t, s.Cert, "CERTIFICATE", c.Raw)
	writePEM(a.t, s.Key, "PRIVATE KEY", der)
	return s
}

func (a *authority) client(s *CertSpec, name string) *tls.Config {
	a.t.Helper()
	cfg := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: name, MinVersion: tls.VersionTLS12}
	cfg.RootCAs.AddCert(a.cert)
	if s != nil {
		p, err := tls.LoadX509KeyPair(s.Cert, s.Key)
		if err != nil {
			a.t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{p}
	}
	return cfg
}

func writePEM(t testing.TB, file, kind string, der []byte) {
	t.Helper()
	writeFile(t, file, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

func writeFile(t testing.TB, file, s string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
		t.Fatal(err)
	}
}

// secure opens a listener with TLS and returns its address.
func secure(t testing.TB, s TLSSpec) (*TLS, string, chan *loop.Conn) {
	t.Helper()
	cfg, err := NewTLS(s)
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan *loop.Conn, 100)
	l, err := Open(group(t), "mqtts", Spec{Bind: "127.0.0.1:0", TLS: "main"}, cfg, func(c *loop.Conn) loop.Handler {
		conns <- c
		return &echo{c: c}
	})
	if err != nil {
		t.Fatal(err)
	}
	return cfg, l.Addr().String(), conns
}

// talk makes a handshake and an echo, and returns the state of the connection.
func talk(t testing.TB, addr string, cfg *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	raw, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
	c := tls.Client(raw, cfg)
	if _, err := c.Write([]byte("x")); err != nil {
		return tls.ConnectionState{}, err
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		return tls.ConnectionState{}, err
	}
	return c.ConnectionState(), nil
}

func TestSNI(t *testing.T) {
	ca := newAuthority(t, t.TempDir(), "ca")
	a, b, w := ca.issue("a", "a.test"), ca.issue("b", "b.test"), ca.issue("w", "*.wild.test")
	_, addr, conns := secure(t, TLSSpec{Cert: a.Cert, Key: a.Key, Certs: []CertSpec{b, w}})
	for name, want := range map[string]string{"a.test": "a", "b.test": "b", "x.wild.test": "w", "other.test": "a"} {
		cfg := ca.client(nil, name)
		cfg.InsecureSkipVerify = true
		st, err := talk(t, addr, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := st.PeerCertificates[0].Subject.CommonName; got != want {
			t.Errorf("%s got certificate %s, want %s", name, got, want)
		}
		<-conns
	}
}

func TestMinVersion(t *testing.T) {
	ca := newAuthority(t, t.TempDir(), "ca")
	a := ca.issue("a", "a.test")
	old := ca.client(nil, "a.test")
	old.MaxVersion = tls.VersionTLS12
	_, addr, _ := secure(t, TLSSpec{Cert: a.Cert, Key: a.Key})
	if st, err := talk(t, addr, old); err != nil || st.Version != tls.VersionTLS12 {
		t.Errorf("1.2: %v", err)
	}
	_, addr, _ = secure(t, TLSSpec{Cert: a.Cert, Key: a.Key, MinVersion: "1.3"})
	if _, err := talk(t, addr, old); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("1.2 where 1.3 is asked for: %v", err)
	}
	if st, err := talk(t, addr, ca.client(nil, "a.test")); err != nil || st.Version != tls.VersionTLS13 {
		t.Errorf("1.3: %v", err)
	}
}

func TestClientCertificates(t *testing.T) {
	dir := t.TempDir()
	ca, evil := newAuthority(t, dir, "ca"), newAuthority(t, dir, "evil")
	a, good, bad := ca.issue("a", "a.test"), ca.issue("device"), evil.issue("intruder")
	for _, x := range []struct {
		client string
		crt    *CertSpec
		ok     bool
		name   string
	}{
		{"none", nil, true, ""}, {"none", &good, true, ""},
		{"request", nil, true, ""}, {"request", &good, true, "device"}, {"request", &bad, false, ""},
		{"require", nil, false, ""}, {"require", &good, true, "device"}, {"require", &bad, false, ""},
	} {
		s := TLSSpec{Cert: a.Cert, Key: a.Key, Client: x.client}
		if x.client != "none" {
			s.ClientCA = ca.file
		}
		_, addr, conns := secure(t, s)
		_, err := talk(t, addr, func() *tls.Config {
			c := ca.client(x.crt, "a.test")
			if x.crt != nil { // whatever authorities the server names
				crt := c.Certificates[0]
				c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &crt, nil }
			}
			return c
		}())
		if (err == nil) != x.ok {
			t.Errorf("client: %s with %v: %v", x.client, x.crt, err)
		}
		if !x.ok {
			continue
		}
		c := <-conns
		got := make(chan string, 1)
		c.Loop().Post(func() {
			if p := c.PeerCertificates(); len(p) > 0 {
				got <- p[0].Subject.CommonName
			} else {
				got <- ""
			}
		})
		if name := <-got; name != x.name {
			t.Errorf("client: %s: peer is %q, want %q", x.client, name, x.name)
		}
	}
}

func TestReload(t *testing.T) {
	ca := newAuthority(t, t.TempDir(), "ca")
	a := ca.issue("a", "a.test")
	cfg, addr, _ := secure(t, TLSSpec{Cert: a.Cert, Key: a.Key})
	client := ca.client(nil, "a.test")
	client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	serial := func() (string, bool) {
		t.Helper()
		st, err := talk(t, addr, client)
		if err != nil {
			t.Fatal(err)
		}
		return st.PeerCertificates[0].SerialNumber.String(), st.DidResume
	}
	first, _ := serial()
	ca.issue("a", "a.test") // new files with the same names
	if err := cfg.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, resumed := serial(); !resumed {
		t.Error("a ticket from before the reload was not accepted")
	}
	client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	second, _ := serial()
	if second == first {
		t.Error("the old certificate is still used")
	}
	for _, broken := range []string{"", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		writeFile(t, a.Cert, broken)
		if err := cfg.Reload(); err == nil || !strings.Contains(err.Error(), a.Cert) {
			t.Errorf("a broken file: %v", err)
		}
		client.ClientSessionCache = nil
		if got, _ := serial(); got != second {
			t.Error("a broken file changed something")
		}
	}
}

// A ticket vouches for a client certificate; it must not do so once that authority is gone.
func TestReloadForgetsTicketsOfOldAuthorities(t *testing.T) {
	dir := t.TempDir()
	ca, other := newAuthority(t, dir, "ca"), newAuthority(t, dir, "other")
	a, device := ca.issue("a", "a.test"), other.issue("device")
	clients := filepath.Join(dir, "clients.pem")
	writePEM(t, clients, "CERTIFICATE", other.cert.Raw)
	cfg, addr, _ := secure(t, TLSSpec{Cert: a.Cert, Key: a.Key, Client: "require", ClientCA: clients})
	client := ca.client(&device, "a.test")
	client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	for want := range 2 {
		if st, err := talk(t, addr, client); err != nil || st.DidResume != (want == 1) {
			t.Fatalf("resumed %v, %v", st.DidResume, err)
		}
	}
	writePEM(t, clients, "CERTIFICATE", ca.cert.Raw)
	if err := cfg.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, err := talk(t, addr, client); err == nil {
		t.Error("let in by a ticket from before")
	}
}

func TestTLSErrorsNameTheFileAndTheFix(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	a, b := ca.issue("a", "a.test"), ca.issue("b", "b.test")
	file := func(name, s string) string {
		f := filepath.Join(dir, name)
		writeFile(t, f, s)
		return f
	}
	empty := file("empty.pem", "")
	locked := file("locked.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	for _, x := range []struct {
		s    TLSSpec
		want []string
	}{
		{TLSSpec{}, []string{"cert: missing"}},
		{TLSSpec{Cert: a.Cert}, []string{a.Cert, "key is missing"}},
		{TLSSpec{Cert: dir + "/no.pem", Key: a.Key}, []string{"no.pem", "no such file"}},
		{TLSSpec{Cert: a.Cert, Key: dir + "/no.key"}, []string{"no.key", "no such file"}},
		{TLSSpec{Cert: empty, Key: a.Key}, []string{empty, "must be PEM"}},
		{TLSSpec{Cert: a.Cert, Key: empty}, []string{empty, "BEGIN PRIVATE KEY"}},
		{TLSSpec{Cert: a.Key, Key: a.Key}, []string{a.Key, "BEGIN CERTIFICATE"}},
		{TLSSpec{Cert: a.Cert, Key: locked}, []string{locked, "openssl pkey"}},
		{TLSSpec{Cert: a.Cert, Key: b.Key}, []string{a.Cert, b.Key, "private key does not match public key"}},
		{TLSSpec{Cert: a.Cert, Key: a.Key, MinVersion: "1.1"}, []string{"min_version", "1.2 or 1.3"}},
		{TLSSpec{Cert: a.Cert, Key: a.Key, Client: "maybe"}, []string{"none, request or require"}},
		{TLSSpec{Cert: a.Cert, Key: a.Key, Client: "require"}, []string{"needs client_ca"}},
		{TLSSpec{Cert: a.Cert, Key: a.Key, ClientCA: ca.file}, []string{"say request or require"}},
		{TLSSpec{Cert: a.Cert, Key: a.Key, Client: "require", ClientCA: empty}, []string{empty, "no certificate"}},
		{TLSSpec{Cert: a.Cert, Key: a.Key, Certs: []CertSpec{{Cert: b.Cert, Key: dir}}}, []string{"key"}},
	} {
		_, err := NewTLS(x.s)
		if err == nil {
			t.Errorf("%+v: no error", x.s)
			continue
		}
		for _, w := range x.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q does not say %q", err, w)
			}
		}
	}
	cfg, err := NewTLS(TLSSpec{Cert: a.Cert, Key: a.Key})
	if err != nil || time.Until(cfg.NotAfter()) > time.Hour || time.Until(cfg.NotAfter()) < time.Minute {
		t.Errorf("not after %v, %v", cfg.NotAfter(), err)
	}
}
