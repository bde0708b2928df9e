// Package clienttls is the client side of TLS, as every part that dials declares and uses it: the pools' drivers and the
// verbs of the command line.
//
// # Concurrency
//
// A Spec is immutable after it is read. Config reads files, on the caller's goroutine; what it returns is safe for concurrent
// use.
package clienttls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// Spec is the client side of TLS in the configuration. Immutable after it is read.
type Spec struct {
	CA         string `yaml:"ca" unit:"file" doc:"File with the authorities, PEM, that sign the servers' certificates; the system's when empty."`
	Cert       string `yaml:"cert" unit:"file" doc:"File with the certificate to show, PEM."`
	Key        string `yaml:"key" unit:"file" doc:"File with the private key of cert, PEM."`
	ServerName string `yaml:"server_name" doc:"Name to expect in certificates; the host of the URL when empty."`
	Insecure   bool   `yaml:"insecure" default:"false" doc:"Accept any certificate. Only for tests: whoever is on the way can read and change events."`
}

// ErrCA and ErrCert say which files could not be used: the authorities, or the certificate with its key.
var (
	ErrCA   = errors.New("read authorities")
	ErrCert = errors.New("read certificate and key")
)

// Config reads the files. Where ServerName is empty the caller, or who dials for it, fills it in. Errors name the file, and
// are ErrCA or ErrCert.
func (s *Spec) Config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.ServerName, InsecureSkipVerify: s.Insecure} //nolint:gosec // the operator says so by name
	if s.CA != "" {
		pem, err := os.ReadFile(s.CA)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCA, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: %s: no certificate in it, want PEM", ErrCA, s.CA)
		}
	}
	if (s.Cert == "") != (s.Key == "") {
		return nil, fmt.Errorf("%w: cert and key go together", ErrCert)
	}
	if s.Cert != "" {
		cert, err := tls.LoadX509KeyPair(s.Cert, s.Key)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCert, err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}
