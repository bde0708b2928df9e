package dtls

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
)

// authority is a certificate authority for tests.
type authority struct {
	t    *testing.T
	crt  *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	next int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, pool: x509.NewCertPool(), next: 2}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.crt, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.crt)
	return a
}

func (a *authority) issue(cn string) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.sign(cn, key)
}

func (a *authority) sign(cn string, key crypto.Signer) tls.Certificate {
	a.t.Helper()
	a.next++
	tpl := &x509.Certificate{SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{cn}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tpl, a.crt, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, a.crt.Raw}, PrivateKey: key}
}

// RFC 7252, section 9.1.3.3: certificates, the client's verified; and keys beside them on the same listener.
func TestCertificates(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	own := ca.issue("server")
	s := newSite(t, 2, Options{Keys: pump, HandshakeTimeout: 10 * time.Second, TLS: func() *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{own}, ClientCAs: ca.pool, ClientAuth: tls.RequireAndVerifyClientCert}
	}})
	for _, p := range suites() {
		if p.psk || strings.Contains(p.id.String(), "RSA") {
			continue
		}
		c := mustDial(t, s.addr, dtls.WithCipherSuites(p.id), dtls.WithRootCAs(ca.pool), dtls.WithServerName("server"), dtls.WithCertificates(ca.issue("valve-3")),
			dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()))
		mustAsk(t, c, "hello", "valve-3: hello")
	}
	for what, crt := range map[string][]tls.Certificate{"none": nil, "a stranger's": {other.issue("valve-3")}} {
		o := []dtls.ClientOption{dtls.WithRootCAs(ca.pool), dtls.WithServerName("server")}
		if crt != nil {
			o = append(o, dtls.WithCertificates(crt...))
		}
		if _, err := dial(t, s.addr, 15*time.Second, o...); err == nil {
			t.Errorf("client certificate %s: taken", what)
		}
	}
	c := mustDial(t, s.addr, clientOptions("pump-7", pump["pump-7"])...)
	mustAsk(t, c, "hello", "pump-7: hello")
}

// A server whose certificate has an RSA key; clients need none.
func TestRSA(t *testing.T) {
	ca := newAuthority(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	own := ca.sign("server", key)
	s := newSite(t, 1, Options{HandshakeTimeout: 10 * time.Second, TLS: func() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{own}} }})
	for _, p := range suites() {
		if !strings.Contains(p.id.String(), "RSA") {
			continue
		}
		c := mustDial(t, s.addr, dtls.WithCipherSuites(p.id), dtls.WithRootCAs(ca.pool), dtls.WithServerName("server"))
		mustAsk(t, c, "hello", ": hello")
	}
}

func writePEM(t *testing.T, file string, blocks ...*pem.Block) string {
	t.Helper()
	var b bytes.Buffer
	for _, x := range blocks {
		if err := pem.Encode(&b, x); err != nil {
			t.Fatal(err)
		}
	}
	file = filepath.Join(t.TempDir(), file)
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A DTLS end that shares no code with ours: OpenSSL's, with a key and with certificates of both sides.
func TestOpenSSL(t *testing.T) {
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Skipf("SKIPPED, NOT TESTED: no openssl here: %v", err)
	}
	ca := newAuthority(t)
	own, client := ca.issue("server"), ca.issue("valve-3")
	s := newSite(t, 2, Options{Keys: pump, HandshakeTimeout: 20 * time.Second, TLS: func() *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{own}, ClientCAs: ca.pool, ClientAuth: tls.RequireAndVerifyClientCert}
	}})
	key, err := x509.MarshalPKCS8PrivateKey(client.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert := writePEM(t, "client.crt", &pem.Block{Type: "CERTIFICATE", Bytes: client.Certificate[0]})
	keyFile := writePEM(t, "client.key", &pem.Block{Type: "PRIVATE KEY", Bytes: key})
	caFile := writePEM(t, "ca.crt", &pem.Block{Type: "CERTIFICATE", Bytes: ca.crt.Raw})
	psk := []string{"-psk_identity", "pump-7", "-psk", "30313233343536373839616263646566", "-cipher"}
	for name, args := range map[string][]string{
		"psk gcm":     append(psk[:5:5], "PSK-AES128-GCM-SHA256"),
		"psk ccm":     append(psk[:5:5], "PSK-AES128-CCM"),
		"psk ccm8":    append(psk[:5:5], "PSK-AES128-CCM8"),
		"psk ccm8256": append(psk[:5:5], "PSK-AES256-CCM8"),
		"certificate": {"-cert", cert, "-key", keyFile, "-CAfile", caFile, "-verify_return_error"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(program, append([]string{"s_client", "-dtls1_2", "-quiet", "-connect", s.addr.String()}, args...)...)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out := &lockedBuffer{}
			cmd.Stdout, cmd.Stderr = out, out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
			want := "pump-7: hello"
			if name == "certificate" {
				want = "valve-3: hello"
			}
			eventually(t, "no answer: "+want, func() bool {
				_, _ = in.Write([]byte("hello\n"))
				time.Sleep(100 * time.Millisecond)
				return strings.Contains(out.String(), want)
			})
		})
	}
}
