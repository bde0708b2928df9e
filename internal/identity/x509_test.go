package identity

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"maps"
	"math/big"
	"net/url"
	"testing"
)

type certSpec struct {
	cn, o, ou, dns, uri string
}

func certs(s certSpec) []*x509.Certificate {
	c := &x509.Certificate{Subject: pkix.Name{CommonName: s.cn}, SerialNumber: big.NewInt(0xabc), Issuer: pkix.Name{CommonName: "ca"}}
	if s.o != "" {
		c.Subject.Organization = []string{s.o, "second"}
	}
	if s.ou != "" {
		c.Subject.OrganizationalUnit = []string{s.ou}
	}
	if s.dns != "" {
		c.DNSNames = []string{s.dns, "other.example"}
	}
	if s.uri != "" {
		u, err := url.Parse(s.uri)
		if err != nil {
			panic(err)
		}
		c.URIs = []*url.URL{u}
	}
	return []*x509.Certificate{c, {Subject: pkix.Name{CommonName: "issuer is not the peer"}}}
}

func TestX509(t *testing.T) {
	tests := []struct {
		name  string
		spec  X509Spec
		c     Credentials
		who   string
		attrs map[string]string
		d     Decision
	}{
		{"cn by default", X509Spec{}, Credentials{Certificates: certs(certSpec{cn: "pump"})}, "pump", nil, Admitted},
		{"no certificate", X509Spec{}, Credentials{}, "", nil, Unknown},
		{"other listener", X509Spec{Listener: "a"}, Credentials{Listener: "b", Certificates: certs(certSpec{cn: "pump"})}, "", nil, Unknown},
		{"its listener", X509Spec{Listener: "a"}, Credentials{Listener: "a", Certificates: certs(certSpec{cn: "pump"})}, "pump", nil, Admitted},
		{"no cn", X509Spec{}, Credentials{Certificates: certs(certSpec{dns: "x"})}, "", nil, Unknown},
		{"control characters", X509Spec{}, Credentials{Certificates: certs(certSpec{cn: "a\x00b"})}, "", nil, Unknown},
		{"dns", X509Spec{Client: "cert.san.dns"}, Credentials{Certificates: certs(certSpec{cn: "pump", dns: "p.example"})}, "p.example", nil, Admitted},
		{"uri", X509Spec{Client: "cert.san.uri"}, Credentials{Certificates: certs(certSpec{uri: "spiffe://x/y"})}, "spiffe://x/y", nil, Admitted},
		{"uri missing", X509Spec{Client: "cert.san.uri"}, Credentials{Certificates: certs(certSpec{cn: "pump"})}, "", nil, Unknown},
		{
			"attributes; what is missing is left out",
			X509Spec{Attrs: map[string]string{"tenant": "cert.o", "unit": "cert.ou", "sn": "cert.serial", "ca": "cert.issuer.cn"}},
			Credentials{Certificates: certs(certSpec{cn: "pump", o: "acme"})},
			"pump", map[string]string{"tenant": "acme", "sn": "abc", "ca": "ca"}, Admitted,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x, err := NewX509(tt.spec, Environment{})
			if err != nil {
				t.Fatal(err)
			}
			p, d, err := x.Authenticate(t.Context(), &tt.c)
			if err != nil || d != tt.d || p.Name != tt.who || p.Client != tt.who || !maps.Equal(p.Attrs, tt.attrs) {
				t.Errorf("got %+v, %s, %v; want %q, %v, %s", p, d, err, tt.who, tt.attrs, tt.d)
			}
		})
	}
}

func TestX509SpecErrors(t *testing.T) {
	for _, spec := range []X509Spec{
		{Client: "cert.o"}, {Client: "cn"}, {Attrs: map[string]string{"a": "cert.x"}}, {Attrs: map[string]string{"a/b": "cert.cn"}},
	} {
		if _, err := NewX509(spec, Environment{}); err == nil {
			t.Errorf("%+v: no error", spec)
		}
	}
}
