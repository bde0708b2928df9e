package identity

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/windrose-edc/windrose/internal/event"
)

// X509Spec is `x509:` in the list of authenticators.
type X509Spec struct {
	Listener string            `yaml:"listener" ref:"listeners" doc:"Only on this listener; empty: on all whose TLS asks for client certificates." example:"mqtt-tls"`
	Client   string            `yaml:"client" default:"cert.cn" enum:"cert.cn|cert.san.dns|cert.san.uri|cert.san.email|cert.san.ip|cert.fingerprint" doc:"Which name of the certificate is the principal and its client id."`
	Attrs    map[string]string `yaml:"attrs" enum:"cert.cn|cert.o|cert.ou|cert.c|cert.st|cert.l|cert.serial|cert.issuer.cn|cert.san.dns|cert.san.uri|cert.san.email|cert.san.ip|cert.fingerprint" doc:"Attributes of the principal and the names of the certificate they are taken from; fingerprint is SHA-256 of the certificate in hexadecimal." example:"{ tenant: cert.o }"`
	CRL      []string          `yaml:"crl" single:"true" unit:"file" doc:"Files with lists of revoked certificates (CRL), PEM or DER, of the authorities that sign client certificates: a client is refused whose certificate, or one of its chain, is on the list of its issuer. Read again with each reload. A list beyond its next update still counts, and a warning says so."`
}

// certWord is one name that can be taken from a certificate. Where there are several of a kind it is the first.
type certWord struct {
	word string
	get  func(c *x509.Certificate) string
}

func certWords() []certWord {
	subject := func(get func(n *pkix.Name) []string) func(c *x509.Certificate) string {
		return func(c *x509.Certificate) string { return firstOf(get(&c.Subject)) }
	}
	return []certWord{
		{"cert.cn", func(c *x509.Certificate) string { return c.Subject.CommonName }},
		{"cert.o", subject(func(n *pkix.Name) []string { return n.Organization })},
		{"cert.ou", subject(func(n *pkix.Name) []string { return n.OrganizationalUnit })},
		{"cert.c", subject(func(n *pkix.Name) []string { return n.Country })},
		{"cert.st", subject(func(n *pkix.Name) []string { return n.Province })},
		{"cert.l", subject(func(n *pkix.Name) []string { return n.Locality })},
		{"cert.serial", func(c *x509.Certificate) string {
			if c.SerialNumber == nil {
				return ""
			}
			return c.SerialNumber.Text(16)
		}},
		{"cert.issuer.cn", func(c *x509.Certificate) string { return c.Issuer.CommonName }},
		{"cert.san.dns", func(c *x509.Certificate) string { return firstOf(c.DNSNames) }},
		{"cert.fingerprint", fingerprint},
		{"cert.san.ip", func(c *x509.Certificate) string {
			if len(c.IPAddresses) == 0 {
				return ""
			}
			return c.IPAddresses[0].String()
		}},
		{"cert.san.email", func(c *x509.Certificate) string { return firstOf(c.EmailAddresses) }},
		{"cert.san.uri", func(c *x509.Certificate) string {
			if len(c.URIs) == 0 || c.URIs[0] == nil {
				return ""
			}
			return c.URIs[0].String()
		}},
	}
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

func firstOf(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

// findCertWord reads a word of X509Spec.
func findCertWord(word string) (func(c *x509.Certificate) string, error) {
	all := certWords()
	i := slices.IndexFunc(all, func(w certWord) bool { return w.word == word })
	if i < 0 {
		words := make([]string, len(all))
		for i, w := range all {
			words[i] = w.word
		}
		return nil, fmt.Errorf("unknown name %q of a certificate, want one of %s", word, strings.Join(words, ", "))
	}
	return all[i].get, nil
}

// X509 admits the bearer of a verified client certificate. Safe for concurrent use: immutable after New but for the list of
// revoked certificates, which is replaced as a whole.
type X509 struct {
	listener string
	crls     []string
	meter    *Meter
	revoked  atomic.Pointer[revoked]
	client   func(c *x509.Certificate) string
	attrs    []certAttr
}

// certAttr is one attribute of a principal. Immutable after New.
type certAttr struct {
	name string
	get  func(c *x509.Certificate) string
}

// NewX509 returns the authenticator of a specification, its files read.
func NewX509(spec X509Spec, env Environment) (*X509, error) {
	word := spec.Client
	switch word {
	case "":
		word = "cert.cn"
	case "cert.cn", "cert.san.dns", "cert.san.uri", "cert.san.email", "cert.san.ip", "cert.fingerprint":
	default:
		return nil, fmt.Errorf("x509: client must be cert.cn, cert.fingerprint, or cert.san. with dns, uri, email or ip, not %q", word)
	}
	get, err := findCertWord(word)
	if err != nil {
		return nil, fmt.Errorf("x509: client: %w", err)
	}
	x := &X509{listener: spec.Listener, client: get, crls: spec.CRL, meter: env.Meter}
	for name, word := range spec.Attrs {
		if !attrName(name) {
			return nil, fmt.Errorf("x509: attrs: %q: %w", name, errAttrName)
		}
		get, err := findCertWord(word)
		if err != nil {
			return nil, fmt.Errorf("x509: attrs: %s: %w", name, err)
		}
		x.attrs = append(x.attrs, certAttr{name, get})
	}
	commit, err := x.Stage()
	if err != nil {
		return nil, err
	}
	commit()
	return x, nil
}

// Stage reads the lists of revoked certificates again and returns what makes them take effect, which cannot fail. Connections
// that are open stay.
func (x *X509) Stage() (commit func(), err error) {
	r, err := readRevoked(x.crls, x.meter)
	if err != nil {
		return nil, err
	}
	return func() { x.revoked.Store(r) }, nil
}

// Name is "x509".
func (x *X509) Name() string { return "x509" }

// Slow says no: TLS has done the work.
func (x *X509) Slow() bool { return false }

// Authenticate admits the peer under the name in its leaf certificate, which is its client id too. Without a certificate,
// on another listener, and where the certificate lacks that name or holds it with control characters, the answer is
// Unknown. An attribute that the certificate lacks is left out. Whose certificate is revoked is Refused.
func (x *X509) Authenticate(_ context.Context, c *Credentials) (Principal, Decision, error) {
	if len(c.Certificates) == 0 || x.listener != "" && x.listener != c.Listener {
		return Principal{}, Unknown, nil
	}
	if x.revoked.Load().any(c.Certificates) {
		return Principal{refusal: whyRevoked}, Refused, nil
	}
	leaf := c.Certificates[0]
	name := x.client(leaf)
	if name == "" || !event.ValidUTF8([]byte(name)) {
		return Principal{}, Unknown, nil
	}
	p := Principal{Name: name, Client: name, Method: x.Name()}
	for _, a := range x.attrs {
		if v := a.get(leaf); v != "" && event.ValidUTF8([]byte(v)) {
			if p.Attrs == nil {
				p.Attrs = make(map[string]string, len(x.attrs))
			}
			p.Attrs[a.name] = v
		}
	}
	return p, Admitted, nil
}
