package listen

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// TLSSpec is one entry under tls: in the configuration. Immutable once loaded.
type TLSSpec struct {
	Cert       string     `yaml:"cert" unit:"file" doc:"File with the certificate chain, PEM, the server's own first."`
	Key        string     `yaml:"key" unit:"file" doc:"File with the private key of cert, PEM."`
	Certs      []CertSpec `yaml:"certs" doc:"More certificates; the client's SNI chooses by the names in them, cert is used where none fits."`
	ClientCA   string     `yaml:"client_ca" unit:"file" doc:"File with the authorities, PEM, that sign client certificates."`
	Client     string     `yaml:"client" doc:"Client certificates: none, request (checked when given) or require." enum:"none|request|require" default:"none"`
	MinVersion string     `yaml:"min_version" doc:"Oldest TLS version that is spoken." enum:"1.2|1.3" default:"1.2"`
}

// CertSpec is a certificate and its key. Immutable once loaded.
type CertSpec struct {
	Cert string `yaml:"cert" unit:"file" doc:"File with the certificate chain, PEM, the server's own first."`
	Key  string `yaml:"key" unit:"file" doc:"File with the private key of cert, PEM."`
}

// TLS is the server side of TLS as a TLSSpec describes it. Safe for concurrent use.
type TLS struct {
	spec  TLSSpec
	outer atomic.Pointer[tls.Config] // what handshakes start with; it keeps the session ticket keys
	inner atomic.Pointer[tls.Config] // what they go on with

	mu       sync.Mutex // guards spec and clientCA, and makes one change at a time
	clientCA []byte
}

// NewTLS loads and checks the files. Errors name the file and what to do.
func NewTLS(s TLSSpec) (*TLS, error) {
	t := &TLS{spec: s}
	if err := t.Reload(); err != nil {
		return nil, err
	}
	return t, nil
}

// Config is what a server starts a handshake with. It chooses the certificate by SNI and issues session tickets whose
// keys the standard library rotates daily and accepts for a week; they survive Reload, except when the client
// authorities changed.
func (t *TLS) Config() *tls.Config { return t.outer.Load() }

// Reload reads the files again. Handshakes that begin afterwards use them; a broken file changes nothing.
func (t *TLS) Reload() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	c, ca, err := t.spec.load()
	if err != nil {
		return err
	}
	t.set(t.spec, c, ca)
	return nil
}

// set changes what handshakes use; mu is held.
func (t *TLS) set(s TLSSpec, c *tls.Config, ca []byte) {
	t.inner.Store(c)
	// A ticket vouches for a client certificate that was checked against the old authorities, or was not asked for.
	if t.outer.Load() == nil || !bytes.Equal(ca, t.clientCA) || s.Client != t.spec.Client {
		o := c.Clone()
		o.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.inner.Load(), nil }
		t.outer.Store(o)
	}
	t.spec, t.clientCA = s, ca
}

// Adopt makes t what from is: handshakes that begin afterwards use it, session tickets stay valid as Config says. It
// cannot fail. Nobody else may use from meanwhile or afterwards.
func (t *TLS) Adopt(from *TLS) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set(from.spec, from.inner.Load(), from.clientCA)
}

// Same says whether t and o have the same certificates and client authorities.
func (t *TLS) Same(o *TLS) bool {
	a, b := t.inner.Load().Certificates, o.inner.Load().Certificates
	if len(a) != len(b) || !bytes.Equal(t.clientCA, o.clientCA) {
		return false
	}
	for i := range a {
		if !slices.EqualFunc(a[i].Certificate, b[i].Certificate, bytes.Equal) {
			return false
		}
	}
	return true
}

// NotAfter is when the first of the certificates expires. An expired one is no error: the rest of the node should start,
// and not every client looks.
func (t *TLS) NotAfter() time.Time {
	var first time.Time
	for _, c := range t.inner.Load().Certificates {
		if first.IsZero() || c.Leaf.NotAfter.Before(first) {
			first = c.Leaf.NotAfter
		}
	}
	return first
}

// load makes a configuration of the files, and returns the client authorities as they are in theirs.
func (s *TLSSpec) load() (*tls.Config, []byte, error) {
	c := &tls.Config{
		// The loop writes whole turns; small records would only cost.
		DynamicRecordSizingDisabled: true,
	}
	switch s.MinVersion {
	case "", "1.2":
		c.MinVersion = tls.VersionTLS12
	case "1.3":
		c.MinVersion = tls.VersionTLS13
	default:
		return nil, nil, fmt.Errorf("min_version %q: want 1.2 or 1.3", s.MinVersion)
	}
	if s.Cert == "" {
		return nil, nil, errors.New("cert: missing; name the file with the server's certificate")
	}
	for _, p := range append([]CertSpec{{s.Cert, s.Key}}, s.Certs...) {
		crt, err := p.load()
		if err != nil {
			return nil, nil, err
		}
		c.Certificates = append(c.Certificates, crt)
	}
	switch s.Client {
	case "", "none":
		if s.ClientCA != "" {
			return nil, nil, errors.New("client_ca has no effect with client: none; say request or require")
		}
		return c, nil, nil
	case "request":
		c.ClientAuth = tls.VerifyClientCertIfGiven
	case "require":
		c.ClientAuth = tls.RequireAndVerifyClientCert
	default:
		return nil, nil, fmt.Errorf("client %q: want none, request or require", s.Client)
	}
	if s.ClientCA == "" {
		return nil, nil, fmt.Errorf("client: %s needs client_ca, the file with the authorities that sign client certificates", s.Client)
	}
	ca, err := readFile("client_ca", s.ClientCA)
	if err != nil {
		return nil, nil, err
	}
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(ca) {
		return nil, nil, fmt.Errorf("client_ca %s: no certificate in it; it must be PEM (-----BEGIN CERTIFICATE-----)", s.ClientCA)
	}
	return c, ca, nil
}

func (p *CertSpec) load() (crt tls.Certificate, err error) {
	if p.Key == "" {
		return crt, fmt.Errorf("cert %s: key is missing; name the file with its private key", p.Cert)
	}
	cert, err := readFile("cert", p.Cert)
	if err != nil {
		return crt, err
	}
	key, err := readFile("key", p.Key)
	if err != nil {
		return crt, err
	}
	if err := checkPEM("cert", p.Cert, cert, "CERTIFICATE"); err != nil {
		return crt, err
	}
	if err := checkPEM("key", p.Key, key, "PRIVATE KEY"); err != nil {
		return crt, err
	}
	crt, err = tls.X509KeyPair(cert, key)
	if err != nil {
		return crt, fmt.Errorf("cert %s with key %s: %s", p.Cert, p.Key, strings.TrimPrefix(err.Error(), "tls: "))
	}
	return crt, nil
}

func checkPEM(what, file string, b []byte, kind string) error {
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return fmt.Errorf("%s %s: no %s in it; it must be PEM (-----BEGIN %s-----)", what, file, strings.ToLower(kind), kind)
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return fmt.Errorf("%s %s: is encrypted; decrypt it with: openssl pkey -in %s -out NEW.key", what, file, file)
		}
		if strings.HasSuffix(block.Type, kind) {
			return nil
		}
	}
}

func readFile(what, file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s %s: no such file", what, file)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s %s: not readable for this user", what, file)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return b, nil
}
