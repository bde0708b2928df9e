package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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

	"github.com/windrose-edc/windrose/internal/observe"
)

// authority signs certificates and lists. Owned by its test.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key}
	a.cert = &x509.Certificate{Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	a.cert = a.sign(a.cert)
	return a
}

func (a *authority) sign(c *x509.Certificate) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return out
}

func (a *authority) client(serial int64) []*x509.Certificate {
	return []*x509.Certificate{a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "pump"}, SerialNumber: big.NewInt(serial), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(192, 0, 2, 7)}}), a.cert}
}

func (a *authority) crl(next time.Duration, serials ...int64) []byte {
	a.t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-2 * time.Hour), NextUpdate: time.Now().Add(next)}
	for _, s := range serials {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

// RFC 5280, section 5: who is on the list of its issuer is refused, from the reload on that reads it; a broken list changes
// nothing, an old one still counts.
func TestRevokedCertificates(t *testing.T) {
	a, b := newAuthority(t, "fleet"), newAuthority(t, "other")
	namesake := newAuthority(t, "fleet") // same name, another key
	path := filepath.Join(t.TempDir(), "crl.pem")
	write := func(parts ...[]byte) {
		t.Helper()
		if err := os.WriteFile(path, []byte(strings.Join(func() (s []string) {
			for _, p := range parts {
				s = append(s, string(p))
			}
			return s
		}(), "")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	block := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}) }
	var log strings.Builder
	reg := observe.NewRegistry()
	m := NewMeter(reg, observe.Limited(logTo(&log), reg), nil)
	write(block(a.crl(time.Hour, 7)), block(b.crl(time.Hour, 8)))
	x, err := NewX509(X509Spec{CRL: []string{path}, Attrs: map[string]string{"ip": "cert.san.ip", "fp": "cert.fingerprint"}}, Environment{Meter: m})
	if err != nil {
		t.Fatal(err)
	}
	chain := NewChain(x).WithMeter(m)
	try := func(what string, c []*x509.Certificate, want Decision) {
		t.Helper()
		p, d, err := chain.Authenticate(t.Context(), &Credentials{Certificates: c})
		if d != want || err != nil {
			t.Errorf("%s: %v %v, want %v", what, d, err, want)
		}
		if d == Admitted && (p.Attrs["ip"] != "192.0.2.7" || len(p.Attrs["fp"]) != 64) {
			t.Errorf("%s: %v", what, p.Attrs)
		}
	}
	try("not on the list", a.client(8), Admitted)
	try("on it", a.client(7), Refused)
	try("on the other's", b.client(8), Refused)
	try("same number, another authority", b.client(7), Admitted)
	try("same number and name of another authority", namesake.client(7), Admitted)
	if m.refusals[whyRevoked].Value() != 2 || log.Len() == 0 {
		t.Error("counted", m.refusals[whyRevoked].Value())
	}
	reload := func() error {
		commit, err := x.Stage()
		if err == nil {
			commit()
		}
		return err
	}
	write(a.crl(-time.Hour, 9)) // DER, and old
	if err := reload(); err != nil || !strings.Contains(log.String(), "beyond its next update") {
		t.Error(err, log.String())
	}
	try("no longer on it", a.client(7), Admitted)
	try("on the new one", a.client(9), Refused)
	write([]byte("nonsense"))
	if reload() == nil {
		t.Error("a broken list is taken")
	}
	try("after a broken list", a.client(9), Refused)
	if _, err := NewX509(X509Spec{CRL: []string{path + ".none"}}, Environment{}); err == nil {
		t.Error("a file that is not there is taken")
	}
}
