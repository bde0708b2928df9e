package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificates writes an authority, a server's certificate (ECDSA P-256, for haproxy together with its key) and a
// client's, and returns what a client connects with.
func certificates(dir string, o *options) (*tls.Config, error) {
	root, err := issue(dir, "ca", nil, nil)
	if err != nil {
		return nil, err
	}
	if _, err = issue(dir, "server", root, []net.IP{net.IPv4(127, 0, 0, 1)}); err != nil {
		return nil, err
	}
	client, err := issue(dir, "client", root, nil)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost", MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS13}
	switch o.version {
	case "1.3":
	case "1.2":
		conf.MinVersion, conf.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	default:
		return nil, fmt.Errorf("-tls %s: want 1.2 or 1.3", o.version)
	}
	if !o.hybrid {
		conf.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256}
	}
	conf.RootCAs.AddCert(root.Leaf)
	if o.mutual {
		conf.Certificates = []tls.Certificate{*client}
	}
	return conf, nil
}

// issue makes a certificate, signed by root (nil: by itself, an authority), and writes NAME.pem, NAME.key; for the server
// also both.pem.
func issue(dir, name string, root *tls.Certificate, ips []net.IP) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	tpl := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour),
		NotAfter: now.Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, DNSNames: []string{"localhost"}, IPAddresses: ips,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	parent, signer := tpl, key
	if root == nil {
		tpl.IsCA, tpl.BasicConstraintsValid, tpl.KeyUsage, tpl.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
	} else {
		parent, signer = root.Leaf, root.PrivateKey.(*ecdsa.PrivateKey)
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	pkcs, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	secret := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs})
	files := map[string][]byte{name + ".pem": cert, name + ".key": secret}
	if name == "server" {
		files["both.pem"] = append(append([]byte{}, cert...), secret...)
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			return nil, err
		}
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// freePorts are ports of loopback that nobody has now.
func freePorts(n int) (ports []string, err error) {
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = ln.Close() }() // all at once, so that no port comes twice
		_, p, err := net.SplitHostPort(ln.Addr().String())
		if err != nil {
			return nil, err
		}
		ports = append(ports, p)
	}
	return ports, nil
}

// await waits until somebody listens.
func await(port string) error {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(end) {
			return fmt.Errorf("nobody listens on %s: %w", port, err)
		}
	}
}
