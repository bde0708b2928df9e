package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"
)

// maxCRL bounds a file of revoked certificates, in bytes: about two million of them.
const maxCRL = 64 << 20

// revoked is one reading of lists of revoked certificates (RFC 5280, section 5). Immutable.
type revoked struct {
	lists []revokedList
}

// revokedList is the list of one authority. Immutable.
type revokedList struct {
	issuer []byte // its name, DER
	key    []byte // id of its key; empty: the list does not say
	serial map[string]struct{}
}

// any says whether a certificate of the chain is on the list of its issuer.
func (r *revoked) any(chain []*x509.Certificate) bool {
	for i := range r.lists {
		l := &r.lists[i]
		for _, c := range chain {
			if !bytes.Equal(c.RawIssuer, l.issuer) || len(l.key) > 0 && len(c.AuthorityKeyId) > 0 && !bytes.Equal(c.AuthorityKeyId, l.key) || c.SerialNumber == nil {
				continue
			}
			if _, is := l.serial[string(c.SerialNumber.Bytes())]; is {
				return true
			}
		}
	}
	return false
}

// readRevoked reads all files. The files are the operator's, like the configuration: whose signature a list bears is not
// verified.
func readRevoked(files []string, m *Meter) (*revoked, error) {
	r := &revoked{}
	for _, path := range files {
		b, err := readCRL(path)
		if err != nil {
			return nil, err
		}
		if err := r.add(path, b, m); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func readCRL(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open revoked certificates: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxCRL+1))
	if err != nil {
		return nil, fmt.Errorf("read revoked certificates: %w", err)
	}
	if len(b) > maxCRL {
		return nil, fmt.Errorf("%s: revoked certificates: larger than %d MiB", path, maxCRL>>20)
	}
	return b, nil
}

// add reads the lists of one file: blocks of PEM, or one of DER.
func (r *revoked) add(path string, b []byte, m *Meter) error {
	var ders [][]byte
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "X509 CRL" {
			ders = append(ders, block.Bytes)
		}
	}
	if len(ders) == 0 {
		ders = append(ders, b)
	}
	for _, der := range ders {
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return fmt.Errorf("%s: not a list of revoked certificates (X509 CRL), PEM or DER: %w", path, err)
		}
		if !l.NextUpdate.IsZero() && time.Now().After(l.NextUpdate) {
			m.warn("crl/"+path, "list of revoked certificates is beyond its next update and still counts", slog.String("file", path),
				slog.String("issuer", l.Issuer.String()), slog.Time("next_update", l.NextUpdate))
		}
		x := revokedList{issuer: l.RawIssuer, key: l.AuthorityKeyId, serial: make(map[string]struct{}, len(l.RevokedCertificateEntries))}
		for i := range l.RevokedCertificateEntries {
			if e := &l.RevokedCertificateEntries[i]; e.SerialNumber != nil && e.ReasonCode != removeFromCRL {
				x.serial[string(e.SerialNumber.Bytes())] = struct{}{}
			}
		}
		r.lists = append(r.lists, x)
	}
	return nil
}

// removeFromCRL is a reason that takes a certificate off the list (RFC 5280, section 5.3.1).
const removeFromCRL = 8
