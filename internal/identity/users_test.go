package identity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func login(name, password string) *Credentials {
	return &Credentials{Username: name, HasUsername: true, Password: []byte(password)}
}

func TestUsersAuthenticate(t *testing.T) {
	u := usersOf(t,
		&record{name: "alice", hash: cheapHash(t, "secret"), attrs: map[string]string{"tenant": "acme"}},
		scramRecord(t, "bob", "pencil", rfcSalt, 4096))
	c := NewChain(u, Anonymous(func(string) bool { return true }))
	tests := []struct {
		name string
		c    *Credentials
		who  string
		d    Decision
		fast bool
	}{
		{"right", login("alice", "secret"), "alice", Admitted, false},
		{"right again", login("alice", "secret"), "alice", Admitted, true},
		{"wrong", login("alice", "Secret"), "", Refused, false},
		{"wrong again is hashed again", login("alice", "Secret"), "", Refused, false},
		{"plain password against a SCRAM verifier", login("bob", "pencil"), "bob", Admitted, false},
		{"wrong password against a SCRAM verifier", login("bob", "pencils"), "", Refused, false},
		{"unknown", login("carol", "secret"), "", Refused, false},
		{"empty password", login("alice", ""), "", Refused, true},
		{"empty name", login("", "secret"), "", Refused, false},
		{"long password", login("alice", strings.Repeat("x", maxPassword+1)), "", Refused, true},
		{"long password of nobody", login("carol", strings.Repeat("x", maxPassword+1)), "", Refused, true},
		{"nothing shown", &Credentials{}, "", Admitted, true},
		{"password without a name", &Credentials{Password: []byte("secret")}, "", Refused, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := c.Fast(tt.c); got != tt.fast {
				t.Errorf("Fast = %t", got)
			}
			p, d, err := c.Authenticate(t.Context(), tt.c)
			if err != nil || d != tt.d || p.Name != tt.who {
				t.Errorf("%+v, %s, %v; want %q, %s", p, d, err, tt.who, tt.d)
			}
			if p.Name == "alice" && p.Attrs["tenant"] != "acme" {
				t.Errorf("attributes %v", p.Attrs)
			}
		})
	}
}

// A refusal hashes exactly once, whether the name exists or not, and nothing where somebody else admits.
func TestUsersUnknownNameCostsTheSame(t *testing.T) {
	u := usersOf(t, &record{name: "alice", hash: cheapHash(t, "secret")})
	second := usersOf(t, &record{name: "bob", hash: cheapHash(t, "secret")})
	c := NewChain(u, second)
	hashes := func(cr *Credentials, chain *Chain) uint64 {
		before := u.Stats().Hashed + second.Stats().Hashed
		if _, _, err := chain.Authenticate(t.Context(), cr); err != nil {
			t.Fatal(err)
		}
		return u.Stats().Hashed + second.Stats().Hashed - before
	}
	for _, name := range []string{"alice", "bob", "carol"} {
		if n := hashes(login(name, "wrong"), c); n != 1 {
			t.Errorf("%s: %d hashes", name, n)
		}
	}
	if n := hashes(login("carol", "secret"), c); n != 1 { // the password of the user that stands in
		t.Errorf("carol with alice's password: %d hashes", n)
	}
	if n := hashes(login("carol", "secret"), c); n != 1 {
		t.Errorf("carol with alice's password again: %d hashes", n)
	}
	if n := hashes(login("token", "jwt"), NewChain(u, &fake{name: "jwt", d: Admitted})); n != 0 {
		t.Errorf("admitted elsewhere: %d hashes", n)
	}
	if n := hashes(login("x", "y"), NewChain(NewUsers("none"))); n != 0 {
		t.Errorf("%d", n) // counted in the other file
	}
}

func TestUsersRemember(t *testing.T) {
	rec := &record{name: "alice", hash: cheapHash(t, "secret")}
	synctest.Test(t, func(t *testing.T) {
		u := usersOf(t, rec)
		admitted := func(want Decision) {
			t.Helper()
			if _, d, err := u.Authenticate(t.Context(), login("alice", "secret")); d != want || err != nil {
				t.Fatalf("%s, %v", d, err)
			}
		}
		admitted(Admitted)
		time.Sleep(defaultRecall - time.Second)
		admitted(Admitted)
		if s := u.Stats(); s.Hashed != 1 || s.Recalled != 1 || s.Remembered != 1 {
			t.Errorf("%+v", s)
		}
		time.Sleep(2 * time.Second) // a use does not prolong it
		admitted(Admitted)
		if s := u.Stats(); s.Hashed != 2 {
			t.Errorf("after its time: %+v", s)
		}
		// Another password in the file: what was remembered does not count, though the name is the same.
		u.table.Store(newTable([]*record{sealed(&record{name: "alice", hash: cheapHash(t, "other")})}, nil))
		admitted(Refused)
		u.table.Store(newTable(nil, nil))
		admitted(Unknown)
	})
}

func sealed(r *record) *record {
	r.seal()
	return r
}

func TestRecentIsBounded(t *testing.T) {
	for _, limit := range []int{1, 3, 100} {
		r := newRecent(time.Minute, limit)
		rec := &record{name: "a"}
		for i := range 500 {
			k := r.key(rec, fmt.Append(nil, i))
			r.add(k)
			if !r.has(k) {
				t.Fatalf("limit %d: the newest is gone", limit)
			}
			if r.len() > limit {
				t.Fatalf("limit %d: %d entries", limit, r.len())
			}
		}
	}
	r := newRecent(0, 10)
	k := r.key(&record{name: "a"}, nil)
	if r.add(k); r.has(k) {
		t.Error("remembered with remember: 0s")
	}
	// The parts of a key are told apart.
	if newR := newRecent(time.Minute, 1); newR.key(&record{name: "ab"}, []byte("c")) == newR.key(&record{name: "a"}, []byte("bc")) {
		t.Error("name and password run together")
	}
}

func TestUsersBoundedWork(t *testing.T) {
	u := usersOf(t, &record{name: "alice", hash: cheapHash(t, "secret")})
	for range cap(u.workers) {
		u.workers <- struct{}{} // all busy
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, d, err := NewChain(u).Authenticate(ctx, login("alice", "secret")); d != Refused || !errors.Is(err, context.Canceled) {
				t.Errorf("%s, %v", d, err)
			}
		})
	}
	cancel()
	wg.Wait()
	u.waiting.Store(maxWaiting)
	for _, name := range []string{"alice", "nobody"} { // both are told the same
		if _, d, err := NewChain(u).Authenticate(t.Context(), login(name, "x")); d != Refused || !errors.Is(err, ErrBusy) {
			t.Errorf("%s: %s, %v", name, d, err)
		}
	}
	if s := u.Stats(); s.Busy != 2 || s.Waiting != maxWaiting || s.Hashed != 0 {
		t.Errorf("%+v", s)
	}
}

// Many clients of one user that come at once are hashed once per worker at most.
func TestUsersStorm(t *testing.T) {
	u := usersOf(t, &record{name: "fleet", hash: cheapHash(t, "secret")})
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if _, d, err := u.Authenticate(t.Context(), login("fleet", "secret")); d != Admitted || err != nil {
				t.Errorf("%s, %v", d, err)
			}
		})
	}
	wg.Wait()
	if s := u.Stats(); s.Hashed > uint64(cap(u.workers)) || s.Hashed+s.Recalled < 200 {
		t.Errorf("%+v", s)
	}
}

func TestUsersFileRoundTrip(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "users.yaml")
	if _, err := LoadUsers(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no file: %v", err)
	}
	u := NewUsers(path)
	cheap := Cost{Memory: 8, Time: 1, Threads: 1}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(u.Add("alice", []byte("one"), AddOptions{Cost: cheap, Attrs: map[string]string{"tenant": "acme", "n": "007"}}))
	must(u.Add("no: yes", []byte("two"), AddOptions{Cost: cheap, Scram: true, ScramIterations: 4096}))
	must(u.Save())
	st, err := os.Stat(path)
	must(err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	v, err := LoadUsers(path)
	must(err)
	if got := fmt.Sprint(v.List()); got != "[{alice map[n:007 tenant:acme] false} {no: yes map[] true}]" {
		t.Errorf("List = %s", got)
	}
	if _, d, _ := v.Authenticate(t.Context(), login("no: yes", "two")); d != Admitted {
		t.Errorf("password: %s", d)
	}
	s1, s2 := NewScramServer(u), NewScramServer(v) // the seed is kept
	c1, _ := s1.Start([]byte("n,,n=nobody,r=a"))
	c2, _ := s2.Start([]byte("n,,n=nobody,r=a"))
	if strings.Split(string(c1), ",")[1] != strings.Split(string(c2), ",")[1] {
		t.Errorf("%q and %q", c1, c2)
	}

	if err := v.Add("alice", []byte("x"), AddOptions{Cost: cheap}); !errors.Is(err, ErrUserExists) {
		t.Errorf("add twice: %v", err)
	}
	must(v.Add("alice", []byte("three"), AddOptions{Cost: cheap, Replace: true}))
	must(v.Remove("no: yes"))
	if err := v.Remove("no: yes"); !errors.Is(err, ErrNoUser) {
		t.Errorf("remove twice: %v", err)
	}
	must(v.Save())
	must(u.Reload())
	if got := fmt.Sprint(u.List()); got != "[{alice map[n:007 tenant:acme] false}]" {
		t.Errorf("after reload: %s", got)
	}
	if _, d, _ := u.Authenticate(t.Context(), login("alice", "three")); d != Admitted {
		t.Errorf("new password: %s", d)
	}
	must(os.WriteFile(path, []byte("users: 3"), 0o600))
	if err := u.Reload(); err == nil || len(u.List()) != 1 {
		t.Errorf("a broken file: %v, %v", err, u.List())
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	must(err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestUsersSaveKeepsLink(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "real.yaml"), filepath.Join(dir, "link.yaml")
	if err := NewUsers(path).Save(); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Skip("no symbolic links here")
	}
	u, err := LoadUsers(link)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Add("a", []byte("b"), AddOptions{Cost: Cost{8, 1, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := u.Save(); err != nil {
		t.Fatal(err)
	}
	if v, err := LoadUsers(path); err != nil || len(v.List()) != 1 {
		t.Errorf("%v", err)
	}
	if err := NewUsers(filepath.Join(dir, "no", "such", "folder")).Save(); err == nil {
		t.Error("saved into a folder that does not exist")
	}
}

func TestUsersAddErrors(t *testing.T) {
	u := NewUsers("x")
	for name, err := range map[string]error{
		"no name":      u.Add("", []byte("pw"), AddOptions{}),
		"control":      u.Add("a\n", []byte("pw"), AddOptions{}),
		"no password":  u.Add("a", nil, AddOptions{}),
		"bad cost":     u.Add("a", []byte("pw-s3cret"), AddOptions{Cost: Cost{Memory: 1 << 30, Time: 1, Threads: 1}}),
		"no passes":    u.Add("a", []byte("pw-s3cret"), AddOptions{Cost: Cost{Memory: 64, Threads: 1}}),
		"bad attr":     u.Add("a", []byte("pw-s3cret"), AddOptions{Attrs: map[string]string{"a b": "c"}}),
		"bad value":    u.Add("a", []byte("pw-s3cret"), AddOptions{Attrs: map[string]string{"a": "c\x00"}}),
		"bad iter":     u.Add("a", []byte("pw-s3cret"), AddOptions{Cost: Cost{8, 1, 1}, Scram: true, ScramIterations: 1}),
		"bad password": u.Add("a", []byte("pw-s3cret\x01"), AddOptions{Cost: Cost{8, 1, 1}, Scram: true}),
	} {
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(u.List()) != 0 {
		t.Errorf("%v", u.List())
	}
}

const goodHash = "$argon2id$v=19$m=8,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"

func TestUsersFileErrors(t *testing.T) {
	tests := []struct{ name, file, want string }{
		{"plain password", "users:\n  - name: a\n    password: hunter2-s3cret\n", `u:3: password of user "a": not an argon2id hash`},
		{"number as password", "users:\n  - name: a\n    password: 5318008\n", `u:3: password of user "a": not an argon2id hash`},
		{"password first", "users:\n  - password: hunter2-s3cret\n    name: a\n", `u:2: password: not an argon2id hash`},
		{"anchor in a password", "users:\n  - name: a\n    password: *s3cret\n", "u:"},
		{"alias", "x: &a b\nusers:\n  - name: a\n", "u:1: unknown key in the file"},
		{"bad yaml", "users:\n  - name: a\n   password: s3cret\n", "u:"},
		{"tab", "users:\n\t- name: s3cret\n", "u:"},
		{"twice", "users:\n  - {name: a, password: '" + goodHash + "'}\n  - {name: a, password: '" + goodHash + "'}\n", `u:3: user "a" is there twice, first on line 2`},
		{"key twice", "users:\n  - name: a\n    name: b\n", "u:3: key name is there twice"},
		{"unknown key", "users:\n  - name: a\n    passwort: s3cret\n", "u:3: unknown key in a user"},
		{"no credentials", "users:\n  - name: a\n", `u:2: user "a" must have a password or scram-sha-256`},
		{"no name", "users:\n  - password: '" + goodHash + "'\n", "u:2: a user must have a name"},
		{"not a list", "users: {a: b}\n", "u:1: users must be a list"},
		{"not a map", "- a\n", "u:1: the file must be a map"},
		{"two documents", "users: []\n---\nusers: []\n", "u:2: a users file is one YAML document"},
		{"attrs", "users:\n  - {name: a, attrs: {'a b': c}, password: '" + goodHash + "'}\n", "u:2: attrs of user"},
		{"nested attrs", "users:\n  - {name: a, attrs: {a: [s3cret]}, password: '" + goodHash + "'}\n", "u:2: attrs of user"},
		{"attr twice", "users:\n  - {name: a, attrs: {a: x, a: y}, password: '" + goodHash + "'}\n", "u:2: attrs of user"},
		{"scram", "users:\n  - {name: a, scram-sha-256: s3cret}\n", "u:2: scram-sha-256 of user"},
		{"seed", "seed: s3cret\n", "u:1: seed must be"},
		{"memory", "users:\n  - {name: a, password: '" + strings.Replace(goodHash, "m=8,", "m=4000000000,", 1) + "'}\n", "u:2: password of user \"a\": argon2id memory"},
		{"order", "users:\n  - {name: a, password: '" + strings.Replace(goodHash, "m=8,t=1", "t=1,m=8", 1) + "'}\n", "u:2: password of user \"a\": argon2id hash: parameters"},
		{"version", "users:\n  - {name: a, password: '" + strings.Replace(goodHash, "v=19", "v=16", 1) + "'}\n", "u:2: password of user \"a\": argon2id hash: version"},
		{"short salt", "users:\n  - {name: a, password: '" + strings.Replace(goodHash, "MDEyMzQ1Njc4OWFiY2RlZg", "MDEy", 1) + "'}\n", "u:2: password of user \"a\": argon2id hash: salt"},
		{"argon2i", "users:\n  - {name: a, password: '" + strings.Replace(goodHash, "argon2id", "argon2i", 1) + "'}\n", "u:2: password of user \"a\": not an argon2id"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseUsers("u", []byte(tt.file), nil)
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "5318008") {
				t.Errorf("%v", err)
			}
		})
	}
	for _, good := range []string{
		"", "# nothing\n", "users:\n", "users: []\n", "users:\n  - {name: 7, password: '" + goodHash + "', attrs: {n: 5, b: true}}\n",
	} {
		if _, err := parseUsers("u", []byte(good), nil); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

func FuzzUsersFile(f *testing.F) {
	f.Add([]byte("users:\n  - name: a\n    password: \"" + goodHash + "\"\n    attrs: {tenant: acme}\nseed: x\n"))
	f.Add([]byte("users:\n  - {name: b, scram-sha-256: \"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$AA==:AA==\"}\n"))
	f.Add([]byte("users: &a [*a]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tab, err := parseUsers("u", b, nil)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "u:") {
				t.Fatalf("no place: %v", err)
			}
			return
		}
		out, err := tab.marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseUsers("u", out, nil)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, out)
		}
		if len(again.records) != len(tab.records) {
			t.Fatalf("%d users became %d", len(tab.records), len(again.records))
		}
		for i, r := range tab.records {
			if a := again.records[i]; a.name != r.name || string(a.secrets) != string(r.secrets) || len(a.attrs) != len(r.attrs) {
				t.Fatalf("%q became %q", r.name, a.name)
			}
		}
	})
}

func FuzzArgon(f *testing.F) {
	f.Add(goodHash)
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseArgon(s)
		if err != nil {
			return
		}
		if g, err := parseArgon(h.String()); err != nil || g.cost != h.cost || h.cost.check() != nil {
			t.Fatalf("%q became %q: %v", s, h, err)
		}
	})
}

// A vector of the reference implementation (phc-winner-argon2, test.c): 256 KiB, 2 passes, 1 thread.
func TestArgonReferenceVector(t *testing.T) {
	h, err := parseArgon("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")
	if err != nil || !h.verify([]byte("password")) || h.verify([]byte("differentpassword")) {
		t.Errorf("%v", err)
	}
}

func TestArgonDefaultCost(t *testing.T) {
	h, err := newArgonHash([]byte("secret"), Cost{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(h.String(), "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("%s", h)
	}
	g, err := parseArgon(h.String())
	if err != nil || !g.verify([]byte("secret")) || g.verify([]byte("Secret")) {
		t.Errorf("round trip: %v", err)
	}
}
