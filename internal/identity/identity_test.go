package identity

import (
	"context"
	"errors"
	"testing"
)

// fake is an authenticator that always says the same.
type fake struct {
	name string
	d    Decision
	err  error
	slow bool
	n    int
}

func (f *fake) Name() string { return f.name }
func (f *fake) Slow() bool   { return f.slow }
func (f *fake) Authenticate(context.Context, *Credentials) (Principal, Decision, error) {
	f.n++
	return Principal{Name: f.name}, f.d, f.err
}

func TestChainFirstThatKnowsDecides(t *testing.T) {
	boom := errors.New("boom")
	tests := []struct {
		name  string
		as    []Authenticator
		who   string
		d     Decision
		err   error
		tried Decision
		done  bool
	}{
		{"nobody", nil, "", Refused, nil, Refused, true},
		{"nobody knows", []Authenticator{&fake{name: "a"}, &fake{name: "b"}}, "", Refused, nil, Refused, true},
		{"second admits", []Authenticator{&fake{name: "a"}, &fake{name: "b", d: Admitted}}, "b", Admitted, nil, Admitted, true},
		{"refusal ends it", []Authenticator{&fake{name: "a", d: Refused}, &fake{name: "b", d: Admitted}}, "", Refused, nil, Refused, true},
		{"slow one first", []Authenticator{&fake{name: "a", slow: true}, &fake{name: "b", d: Admitted}}, "b", Admitted, nil, Unknown, false},
		{"slow one not reached", []Authenticator{&fake{name: "a", d: Admitted}, &fake{name: "b", slow: true}}, "a", Admitted, nil, Admitted, true},
		{"failure refuses", []Authenticator{&fake{name: "a", err: boom}, &fake{name: "b", d: Admitted}}, "", Refused, boom, Unknown, false},
		{"admission with error is none", []Authenticator{&fake{name: "a", d: Admitted, err: boom}}, "", Refused, boom, Unknown, false},
		{"decision out of range", []Authenticator{&fake{name: "a", d: 77}, &fake{name: "b", d: Admitted}}, "", Refused, nil, Refused, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := NewChain(tt.as...)
			cr := &Credentials{}
			p, d, err := c.Authenticate(t.Context(), cr)
			if p.Name != tt.who || d != tt.d || !errors.Is(err, tt.err) {
				t.Errorf("Authenticate = %q, %s, %v; want %q, %s, %v", p.Name, d, err, tt.who, tt.d, tt.err)
			}
			p, d, done := c.Try(cr)
			if d != tt.tried || done != tt.done || (d == Admitted) != (p.Name != "") {
				t.Errorf("Try = %q, %s, %t; want %s, %t", p.Name, d, done, tt.tried, tt.done)
			}
			if c.Fast(cr) != tt.done {
				t.Errorf("Fast = %t", !tt.done)
			}
		})
	}
}

func TestNilChainRefuses(t *testing.T) {
	var c *Chain
	if _, d, err := c.Authenticate(t.Context(), &Credentials{}); d != Refused || err != nil {
		t.Errorf("Authenticate = %s, %v", d, err)
	}
	if _, d, done := c.Try(&Credentials{}); d != Refused || !done {
		t.Errorf("Try = %s, %t", d, done)
	}
	if _, ok := c.Scram(); ok {
		t.Error("a nil chain offers SCRAM")
	}
}

func TestAnonymousOnlyWithoutCredentials(t *testing.T) {
	a := Anonymous(func(name string) bool { return name == "open" })
	tests := []struct {
		name string
		c    Credentials
		d    Decision
	}{
		{"nothing shown", Credentials{Listener: "open", ClientID: "x"}, Admitted},
		{"other listener", Credentials{Listener: "closed"}, Unknown},
		{"user name", Credentials{Listener: "open", Username: "u", HasUsername: true}, Unknown},
		{"empty user name", Credentials{Listener: "open", HasUsername: true}, Unknown},
		{"password alone", Credentials{Listener: "open", Password: []byte("p")}, Unknown},
		{"key", Credentials{Listener: "open", PSKIdentity: "i"}, Unknown},
		{"certificate", Credentials{Listener: "open", Certificates: certs(certSpec{cn: "x"})}, Unknown},
	}
	for _, tt := range tests {
		p, d, err := a.Authenticate(t.Context(), &tt.c)
		if d != tt.d || err != nil || p.Name != "" {
			t.Errorf("%s: %q, %s, %v; want %s", tt.name, p.Name, d, err, tt.d)
		}
	}
	if _, d, _ := Anonymous(nil).Authenticate(t.Context(), &Credentials{}); d != Unknown {
		t.Errorf("without listeners: %s", d)
	}
}
