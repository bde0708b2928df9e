package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// writeCRL writes crl.pem of the authority of makeCerts, whose name is what counts, with the certificate of that number.
func writeCRL(t *testing.T, dir string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "test authority"}, SubjectKeyId: []byte{1}, KeyUsage: x509.KeyUsageCRLSign}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(serial), RevocationTime: now}}}, ca, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := writePEM(filepath.Join(dir, "crl.pem"), "X509 CRL", der); err != nil {
		t.Fatal(err)
	}
}

// TestCredentialFilesReload: a reload takes revoked certificates and a rotated key set into use, a broken one changes nothing.
func TestCredentialFilesReload(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	t.Parallel()
	dir, program := t.TempDir(), filepath.Join(build(t), "windrose")
	if err := makeCerts(dir, "pump-1"); err != nil {
		t.Fatal(err)
	}
	writeCRL(t, dir, 99)
	old := newTokens(t, dir)
	n := startNodeIn(t, dir, program, `windrose: v1
node: { name: n1, admin: "127.0.0.1:${ADMIN}", data: data }
tls: { fleet: { cert: server.pem, key: server.key, client_ca: ca.pem, client: require } }
listeners:
  mqtt: { mqtt: { bind: "127.0.0.1:${MQTT}" } }
  mtls: { mqtt: { bind: "127.0.0.1:${MTLS}", tls: fleet } }
auth:
  - { x509: { client: cert.cn, crl: crl.pem, attrs: { print: cert.fingerprint } } }
  - { jwt: { jwks_file: jwks.json } }
`)
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	device := hello{id: "pump-1", tls: &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{cert}}}
	code := func(port string, h hello) byte {
		t.Helper()
		c := open(t, n.ports[port], h)
		defer func() { _ = c.c.Close() }()
		return c.expect(connackKind).body[1]
	}
	by := func(k *tokens) hello { return hello{id: "a", user: "x", pass: k.token("a", time.Hour)} }
	reload := func() {
		t.Helper()
		if err := n.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := code("MTLS", device), code("MQTT", by(old)); a != 0 || b != 0 {
		t.Fatalf("CONNACK %#x and %#x", a, b)
	}

	if err := os.WriteFile(filepath.Join(dir, "jwks.json"), []byte(`{"keys":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	writeCRL(t, dir, 3)
	reload()
	n.await(1, "windrose_config_done_reloads_total", `outcome="failed"`)
	if a, b := code("MTLS", device), code("MQTT", by(old)); a != 0 || b != 0 {
		t.Errorf("after a reload that failed: CONNACK %#x and %#x", a, b)
	}

	next := newTokens(t, dir)
	reload()
	n.await(2, "windrose_config_done_reloads_total", `outcome="ok"`) // the start counts too
	if got := code("MTLS", device); got != 0x87 {
		t.Errorf("a revoked certificate: CONNACK %#x", got)
	}
	if a, b := code("MQTT", by(old)), code("MQTT", by(next)); a != 0x86 || b != 0 {
		t.Errorf("after the rotation: CONNACK %#x for the old key, %#x for the new", a, b)
	}
	n.await(1, "windrose_auth_refused_clients_total", `reason="revoked"`)
	n.await(1, "windrose_auth_refused_clients_total", `reason="signature"`)
}
