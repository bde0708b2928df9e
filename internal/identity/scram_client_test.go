package identity

import (
	"errors"
	"strings"
	"testing"
)

// RFC 7677, section 3: the client's side of the example.
func TestScramClientRFC7677Section3(t *testing.T) {
	c := NewScramClient("user", "pencil")
	c.nonce = "rOprNGfwEbeRWgbNEkqO"
	if got := string(c.First()); got != rfcFirst {
		t.Errorf("first %q", got)
	}
	if got, err := c.Final([]byte(rfcChal)); err != nil || string(got) != rfcFinal {
		t.Errorf("final %q, %v", got, err)
	}
	if err := c.Verify([]byte("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "v=", "e=invalid-proof", "v=AAAA", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="} {
		if err := c.Verify([]byte(bad)); !errors.Is(err, ErrScramRefused) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A server cannot make the client answer another exchange, nor compute without end.
func TestScramClientDistrusts(t *testing.T) {
	for _, bad := range []string{"", "r=x,s=AAAA,i=4096", "r=other,s=AAAA,i=4096", "r=abc,s=AAAA,i=4096", "r=abcd,s=,i=4096", "r=abcd,s=!,i=4096", "r=abcd,s=AAAA,i=1",
		"r=abcd,s=AAAA,i=99999999", "r=abcd,s=AAAA,i=x", "m=x,r=abcd,s=AAAA,i=4096", "r=abcd,s=AAAA," + strings.Repeat("x", maxScramMessage)} {
		c := NewScramClient("a", "b")
		c.nonce = "abc"
		c.First()
		if _, err := c.Final([]byte(bad)); !errors.Is(err, ErrScramMessage) {
			t.Errorf("%.50q: %v", bad, err)
		}
	}
	if got := string(NewScramClient("a=b,c", "").First()); !strings.HasPrefix(got, "n,,n=a=3Db=2Cc,r=") {
		t.Errorf("first %q", got)
	}
}

// A chain offers what its parts can, and the client may let the server begin (RFC 4422, section 5.1).
func TestChainExchange(t *testing.T) {
	u := NewUsers(t.TempDir() + "/u")
	c := NewChain(u)
	if _, ok := c.Exchange("PLAIN"); ok {
		t.Error("an unknown mechanism is offered")
	}
	if _, ok := (*Chain)(nil).Exchange(ScramSHA256); ok {
		t.Error("no chain offers a mechanism")
	}
	if _, ok := NewChain().Exchange(ScramSHA256); ok {
		t.Error("a chain without users offers SCRAM")
	}
	if err := u.Add("anna", []byte("right"), AddOptions{Scram: true, ScramIterations: minIterations, Cost: Cost{Memory: 8 * 1024, Time: 1, Threads: 1}}); err != nil {
		t.Fatal(err)
	}
	x, ok := c.Exchange(ScramSHA256)
	if !ok || x.Method() != ScramSHA256 || x.Slow() {
		t.Fatal("no exchange")
	}
	cl := NewScramClient("anna", "right")
	if a, _, done, err := x.Step(t.Context(), nil); len(a) != 0 || done || err != nil {
		t.Fatalf("%q %v %v", a, done, err)
	}
	challenge, _, done, err := x.Step(t.Context(), cl.First())
	if done || err != nil {
		t.Fatal(done, err)
	}
	final, err := cl.Final(challenge)
	if err != nil {
		t.Fatal(err)
	}
	a, p, done, err := x.Step(t.Context(), final)
	if !done || err != nil || p.Name != "anna" || p.Method != "scram-sha-256" || cl.Verify(a) != nil {
		t.Errorf("%q %+v %v %v", a, p, done, err)
	}
	if _, _, done, err := x.Step(t.Context(), final); done || err == nil {
		t.Error("an exchange is used twice")
	}
	y, _ := c.Exchange(ScramSHA256)
	_, _, _, _ = y.Step(t.Context(), nil)
	if _, _, _, err := y.Step(t.Context(), nil); err == nil {
		t.Error("nothing is taken for a first message")
	}
}
