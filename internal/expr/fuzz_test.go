package expr

import (
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// compare holds the closures of one generated expression to cel-go. It reports whether there were closures.
func compareWithCEL(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, seed []byte) bool {
	t.Helper()
	g := &exprGen{b: seed, depth: 4}
	var src string
	if g.n(2) == 0 {
		src = g.bool()
	} else {
		src = g.any()
	}
	in := g.input()
	o := testOptions
	env, err := o.env()
	if err != nil {
		t.Fatalf("%v", err)
	}
	c, err := check(src, &o, env, nil, false)
	if err != nil {
		return false // the generator does not know all about types
	}
	k := compiler{checked: c}
	f, ok := k.val(c.tree.Expr())
	if !ok {
		return false
	}
	in.enter()
	got := f(in)
	if in.steps > maxSteps {
		return false
	}
	want, ok, wantErr := plainEval(c, in)
	if !ok {
		return true // it would be an error for every event
	}
	if wantErr != nil && strings.Contains(wantErr.Error(), "unhashable") {
		return true // v0.32.0 panics where bytes are looked for in a map; for us they are not in it
	}
	if d := differ(in, got, want, wantErr); d != "" {
		t.Fatalf("%s\npayload %s\n%s", src, in.Event.Payload, d)
	}
	if wantErr != nil || len(seed)%4 != 0 { // a quarter is enough: making programs takes most of the time
		return true
	}
	// The same by way of cel-go's program with our variables.
	s, err := newSlow(c)
	if err != nil {
		return true // a constant part is always an error
	}
	slowGot, err := s.eval(in)
	if err != nil {
		t.Fatalf("%s: cel-go with our variables: %v; plain: %v", src, err, want)
	}
	x, err := fromRef(slowGot)
	if err != nil {
		return true
	}
	if d := differ(in, x, want, nil); d != "" {
		t.Fatalf("%s\npayload %s\ncel-go with our variables: %s", src, in.Event.Payload, d)
	}
	return true
}

// FuzzClosures: closures and cel-go agree on every value and on every error.
func FuzzClosures(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 256 {
		seed := make([]byte, 8+r.IntN(64))
		for i := range seed {
			seed[i] = byte(r.Uint32())
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed []byte) {
		if len(seed) > 256 {
			return
		}
		compareWithCEL(t, seed)
	})
}

// The same as a property.
func TestClosuresAgreeWithCELProperty(t *testing.T) {
	covered, all := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		all++
		if compareWithCEL(t, rapid.SliceOfN(rapid.Byte(), 1, 120).Draw(t, "seed")) {
			covered++
		}
	})
	if covered*4 < all {
		t.Errorf("closures covered %d of %d expressions", covered, all)
	}
}
