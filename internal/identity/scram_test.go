package identity

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"testing"
)

// usersOf makes a users file in memory.
func usersOf(t testing.TB, recs ...*record) *Users {
	t.Helper()
	u := NewUsers("test")
	for _, r := range recs {
		if r.secrets == nil {
			r.seal()
		}
	}
	u.table.Store(newTable(recs, nil))
	return u
}

func scramRecord(t testing.TB, name, password, salt string, iterations int) *record {
	t.Helper()
	v := &scramVerifier{iterations: iterations}
	var err error
	if v.salt, err = base64.StdEncoding.DecodeString(salt); err != nil {
		t.Fatal(err)
	}
	if v.stored, v.server, err = v.derive([]byte(password)); err != nil {
		t.Fatal(err)
	}
	return &record{name: name, scram: v, attrs: map[string]string{"tenant": "acme"}}
}

// RFC 7677, section 3: the example exchange.
const (
	rfcFirst = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
	rfcSalt  = "W22ZaJ0SNY7soEsUEjb6gQ=="
	rfcNonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	rfcChal  = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	rfcFinal = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	rfcDone  = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
)

func TestScramRFC7677Section3(t *testing.T) {
	u := usersOf(t, scramRecord(t, "user", "pencil", rfcSalt, 4096))
	s := NewScramServer(u)
	s.nonce = rfcNonce
	challenge, err := s.Start([]byte(rfcFirst))
	if err != nil || string(challenge) != rfcChal {
		t.Fatalf("Start = %q, %v", challenge, err)
	}
	final, p, err := s.Finish([]byte(rfcFinal))
	if err != nil || string(final) != rfcDone {
		t.Fatalf("Finish = %q, %v", final, err)
	}
	if p.Name != "user" || p.Method != "scram-sha-256" || p.Attrs["tenant"] != "acme" {
		t.Errorf("principal %+v", p)
	}
	if _, _, err := s.Finish([]byte(rfcFinal)); !errors.Is(err, ErrScramMessage) {
		t.Errorf("an exchange used twice: %v", err)
	}
	if _, err := s.Start([]byte(rfcFirst)); !errors.Is(err, ErrScramMessage) {
		t.Errorf("an exchange started twice: %v", err)
	}
}

// scramClient computes a client's final message (RFC 5802, section 3).
func scramClient(t testing.TB, first, challenge, password string) (final, wantServer string) {
	t.Helper()
	f := strings.Split(challenge, ",")
	salt, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(f[1], "s="))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimPrefix(f[2], "i="))
	if err != nil {
		t.Fatal(err)
	}
	g := strings.SplitN(first, ",", 3)
	without := "c=" + base64.StdEncoding.EncodeToString([]byte(g[0]+","+g[1]+",")) + "," + f[0]
	auth := []byte(g[2] + "," + challenge + "," + without)
	v := &scramVerifier{iterations: n, salt: salt}
	stored, server, err := v.derive([]byte(password))
	if err != nil {
		t.Fatal(err)
	}
	clientKey := scramClientKey(t, v, password)
	proof := make([]byte, sha256.Size)
	subtle.XORBytes(proof, clientKey, mac(stored, auth))
	return without + ",p=" + base64.StdEncoding.EncodeToString(proof), "v=" + base64.StdEncoding.EncodeToString(mac(server, auth))
}

func TestScramExchange(t *testing.T) {
	a := usersOf(t, scramRecord(t, "a=b,c", "pässword", rfcSalt, 5000))
	b := usersOf(t, scramRecord(t, "other", "x", rfcSalt, 4096), &record{name: "hashed", hash: cheapHash(t, "pw")})
	tests := []struct {
		name, first, password string
		err                   error
		who                   string
	}{
		{"escaped name", "n,,n=a=3Db=2Cc,r=abc", "pässword", nil, "a=b,c"},
		{"client would bind", "y,,n=a=3Db=2Cc,r=abc", "pässword", nil, "a=b,c"},
		{"acting for oneself", "n,a=a=3Db=2Cc,n=a=3Db=2Cc,r=abc", "pässword", nil, "a=b,c"},
		{"extension after the nonce", "n,,n=other,r=abc,x=y", "x", nil, "other"},
		{"second file", "n,,n=other,r=abc", "x", nil, "other"},
		{"wrong password", "n,,n=other,r=abc", "y", ErrScramRefused, ""},
		{"no such user", "n,,n=nobody,r=abc", "x", ErrScramRefused, ""},
		{"user without a verifier", "n,,n=hashed,r=abc", "pw", ErrScramRefused, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, ok := NewChain(a, b).Scram()
			if !ok {
				t.Fatal("no SCRAM in the chain")
			}
			challenge, err := s.Start([]byte(tt.first))
			if err != nil {
				t.Fatal(err)
			}
			final, want := scramClient(t, tt.first, string(challenge), tt.password)
			got, p, err := s.Finish([]byte(final))
			if !errors.Is(err, tt.err) || p.Name != tt.who {
				t.Fatalf("Finish = %q, %+v, %v; want %v", got, p, err, tt.err)
			}
			if err == nil && string(got) != want {
				t.Errorf("server signature %q, want %q", got, want)
			}
			if err != nil && string(got) != "e=invalid-proof" {
				t.Errorf("told the client %q", got)
			}
		})
	}
}

// RFC 5802, section 9: a name that does not exist is answered like one that does, and the same each time.
func TestScramUnknownNameLooksKnown(t *testing.T) {
	u := usersOf(t, scramRecord(t, "user", "pencil", rfcSalt, 7000))
	challenge := func(name string) (salt, iterations string) {
		s := NewScramServer(u)
		c, err := s.Start([]byte("n,,n=" + name + ",r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		f := strings.Split(string(c), ",")
		return f[1], f[2]
	}
	saltA, it := challenge("nobody")
	saltB, _ := challenge("nobody")
	saltC, _ := challenge("somebody")
	known, _ := challenge("user")
	if saltA != saltB || saltA == saltC || len(saltA) != len(known) || it != "i=7000" {
		t.Errorf("salts %q, %q, %q beside %q; %s", saltA, saltB, saltC, known, it)
	}
}

func TestScramMalformed(t *testing.T) {
	u := usersOf(t, scramRecord(t, "user", "pencil", rfcSalt, 4096))
	for _, first := range []string{
		"", "n", "n,,", "n,,n=user", "p=tls-unique,,n=user,r=abc", "x,,n=user,r=abc", "n,,m=x,n=user,r=abc", "n,,n=,r=abc", "n,,n=us=er,r=abc",
		"n,,n=us=2,r=abc", "n,,n=user,r=", "n,,n=user,r=a\x7f", "n,,n=user,r=a b", "n,a=root,n=user,r=abc", "n,b=user,n=user,r=abc", "n,,n=u\x00,r=abc",
		"n,,n=\xff,r=abc", "n,,n=user,r=" + strings.Repeat("a", maxScramNonce+1), "n,,n=user,r=a" + strings.Repeat(",x=y", maxScramMessage),
	} {
		s := NewScramServer(u)
		if _, err := s.Start([]byte(first)); !errors.Is(err, ErrScramMessage) {
			t.Errorf("first %.40q: %v", first, err)
		}
		if _, _, err := s.Finish([]byte(rfcFinal)); !errors.Is(err, ErrScramMessage) {
			t.Errorf("final after first %.40q: %v", first, err)
		}
	}
	nonce := "rOprNGfwEbeRWgbNEkqO" + rfcNonce
	proof := "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	for _, final := range []string{
		"", "c=biws", "c=biws,r=" + nonce, "c=eSws,r=" + nonce + ",p=" + proof, "c=biws,r=" + nonce + "x,p=" + proof, "c=biws,r=,p=" + proof,
		"r=" + nonce + ",c=biws,p=" + proof, "c=biws,r=" + nonce + ",p=", "c=biws,r=" + nonce + ",p=AAAA", "c=biws,r=" + nonce + ",p=" + proof + "x",
		"c=biws,r=" + nonce + ",p=" + proof + ",x=y", "c=biws,r=" + nonce + ",\xff,p=" + proof,
	} {
		s := NewScramServer(u)
		s.nonce = rfcNonce
		if _, err := s.Start([]byte(rfcFirst)); err != nil {
			t.Fatal(err)
		}
		if _, p, err := s.Finish([]byte(final)); !errors.Is(err, ErrScramMessage) || p.Name != "" {
			t.Errorf("final %q: %+v, %v", final, p, err)
		}
	}
}

func TestScramVerifierText(t *testing.T) {
	v, err := newScramVerifier([]byte("pencil"), 4096)
	if err != nil {
		t.Fatal(err)
	}
	w, err := parseScram(v.String())
	if err != nil || !w.verify([]byte("pencil")) || w.verify([]byte("pencil ")) {
		t.Errorf("round trip: %v", err)
	}
	good := v.String()
	for _, s := range []string{
		"", "SCRAM-SHA-1$4096:AA==$AA==:AA==", strings.Replace(good, "4096", "4095", 1), strings.Replace(good, "4096", "1000001", 1),
		strings.Replace(good, "4096", "x", 1), good + "A", strings.Replace(good, ":", "", 1), good[:len(good)-8], good + "$",
	} {
		if _, err := parseScram(s); err == nil {
			t.Errorf("accepted %q", s)
		}
	}
	for _, n := range []int{1, minIterations - 1, maxIterations + 1} {
		if _, err := newScramVerifier([]byte("x"), n); err == nil {
			t.Errorf("%d iterations accepted", n)
		}
	}
}

func TestParsePlainRFC4616(t *testing.T) {
	for msg, want := range map[string]string{
		"\x00tim\x00tanstaaftanstaaf": "tim", "tim\x00tim\x00pw": "tim",
		"": "", "tim": "", "\x00tim": "", "\x00\x00pw": "", "Ursel\x00Kurt\x00xipj3plmq": "", "\x00tim\x00p\x00q": "", "\x00\xff\x00p": "",
	} {
		user, pw, err := ParsePlain([]byte(msg))
		if user != want || (err == nil) != (want != "") || err == nil && len(pw) == 0 {
			t.Errorf("%q: %q, %q, %v", msg, user, pw, err)
		}
	}
}

func FuzzScram(f *testing.F) {
	f.Add([]byte(rfcFirst), []byte(rfcFinal))
	f.Add([]byte("y,a=user,n=user,r=x,e=1"), []byte("c=eSxhPXVzZXIs,r=x,p=AAAA"))
	u := usersOf(f, scramRecord(f, "user", "pencil", rfcSalt, 4096))
	f.Fuzz(func(t *testing.T, first, final []byte) {
		s := NewScramServer(u)
		s.nonce = rfcNonce
		c, err := s.Start(first)
		if (err == nil) != (len(c) > 0) {
			t.Fatalf("challenge %q with error %v", c, err)
		}
		_, p, err := s.Finish(final)
		if err == nil && (p.Name != "user" || string(final) != rfcFinal && string(first) == rfcFirst) {
			t.Fatalf("admitted %+v by %q", p, final)
		}
	})
}

func scramClientKey(t testing.TB, v *scramVerifier, password string) []byte {
	t.Helper()
	salted, err := pbkdf2.Key(sha256.New, password, v.salt, v.iterations, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	return mac(salted, []byte("Client Key"))
}

// cheapHash is an argon2id hash that costs next to nothing.
func cheapHash(t testing.TB, password string) *argonHash {
	t.Helper()
	h, err := newArgonHash([]byte(password), Cost{Memory: 8, Time: 1, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	return h
}
