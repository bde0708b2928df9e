package scan

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// tree is a Value with all below it, as encoding/json makes it with UseNumber put into int64, uint64 or float64.
func tree(d *Doc, v Value) any {
	switch v.Kind {
	case Null:
		return nil
	case Bool:
		return v.N == 1
	case Int:
		return int64(v.N)
	case Uint:
		return v.N
	case Double:
		return math.Float64frombits(v.N)
	case String:
		return strings.Clone(v.Text)
	case Bytes:
		return []byte(v.Text)
	case Array:
		out := []any{}
		for it := d.Iter(v); it.Next(); {
			out = append(out, tree(d, it.Value()))
		}
		return out
	case Object:
		out := map[any]any{}
		for it := d.Iter(v); it.Next(); {
			out[tree(d, it.Key)] = tree(d, it.Value())
		}
		return out
	}
	return errors.New("none")
}

// standard is what encoding/json sees, and whether our rules allow it: no name twice, no name with an escape, depth,
// numbers that fit, whole surrogate pairs.
func standard(b []byte) (v any, wellFormed, allowed bool) {
	if !json.Valid(b) {
		return nil, false, false
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	allowed = utf8.Valid(b) && len(b) <= MaxSize
	var read func(depth int) any
	read = func(depth int) any {
		tok, err := dec.Token()
		if err != nil {
			panic(err)
		}
		switch t := tok.(type) {
		case json.Delim:
			if depth == MaxDepth {
				allowed = false
			}
			if t == '[' {
				out := []any{}
				for dec.More() {
					out = append(out, read(depth+1))
				}
				_, _ = dec.Token()
				return out
			}
			out := map[any]any{}
			for dec.More() {
				from := dec.InputOffset()
				key, _ := dec.Token()
				if bytes.IndexByte(b[from:dec.InputOffset()], '\\') >= 0 {
					allowed = false
				}
				if _, again := out[key]; again {
					allowed = false
				}
				out[key] = read(depth + 1)
			}
			_, _ = dec.Token()
			return out
		case json.Number:
			n, ok := number64(t.String())
			allowed = allowed && ok
			return n
		case string:
			if strings.ContainsRune(t, utf8.RuneError) && !halfless(b) {
				allowed = false
			}
			return t
		}
		return tok
	}
	v = read(0)
	return v, true, allowed
}

func number64(s string) (any, bool) {
	if strings.ContainsAny(s, ".eE") {
		f, err := strconv.ParseFloat(s, 64)
		return f, err == nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, true
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// halfless says that no half of a surrogate pair is written in b.
func halfless(b []byte) bool {
	s := strings.ReplaceAll(strings.ToLower(string(b)), `\\`, "")
	for {
		i := strings.Index(s, `\ud`)
		if i < 0 {
			return true
		}
		if len(s) < i+6 {
			return false
		}
		switch c := s[i+3]; {
		case c < '8':
			s = s[i+6:]
		case c >= 'c' || len(s) < i+12 || s[i+6:i+9] != `\ud` || s[i+9] < 'c':
			return false
		default:
			s = s[i+12:]
		}
	}
}

func compareJSON(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, d *Doc, b []byte) {
	t.Helper()
	err := d.ScanJSON(b)
	want, wellFormed, allowed := standard(b)
	switch {
	case !wellFormed && err == nil:
		t.Fatalf("%q: encoding/json refuses it, we do not", b)
	case wellFormed && allowed && err != nil:
		t.Fatalf("%q: refused: %v", b, err)
	case wellFormed && !allowed && err == nil:
		t.Fatalf("%q: readers may differ about it, and it is not refused", b)
	case err != nil:
		return
	}
	if got := tree(d, d.Root()); !reflect.DeepEqual(got, want) {
		t.Fatalf("%q: %#v; want %#v", b, got, want)
	}
	m, ok := want.(map[any]any)
	if !ok {
		return
	}
	if d.Len(d.Root()) != len(m) {
		t.Fatalf("%q: %d members; want %d", b, d.Len(d.Root()), len(m))
	}
	for k, v := range m {
		if got := tree(d, d.Member(d.Root(), k.(string))); !reflect.DeepEqual(got, v) {
			t.Fatalf("%q: %q is %#v; want %#v", b, k, got, v)
		}
	}
	if v, _ := d.RootMember("no such name"); v.Kind != None && m["no such name"] == nil {
		t.Fatalf("%q has what it has not", b)
	}
}

var jsonSeeds = []string{
	`{"a":1,"b":[true,false,null,"x"],"c":{"d":-1.5e3}}`, ` [ ] `, `{}`, `"\u00fc\n\"\\\/"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00\ud83d"`,
	`{"a":1,"a":2}`, `{"\u0061":1}`, `{"a":{"b":1,"b":2}}`, "\"\xff\"", `01`, `-0`, `1.`, `.5`, `1e400`, `18446744073709551615`,
	`18446744073709551616`, `-9223372036854775808`, `-9223372036854775809`, `9223372036854775807`, `[1,]`, `{"a":1,}`, `{"a"}`, "\"\x01\"",
	`nul`, `truee`, ``, ` `, `1 2`, `{"a":1}x`, "\ufeff{}", `[[[[[[[[]]]]]]]]`, `{"n":123456789012345678901234567890.5}`, `{"é":"ü","日本":"語"}`,
	`{"12345678":1,"12345679":2,"1234567x9":3,"":4}`,
}

// RFC 8259, and RFC 7493 where it is stricter.
func TestJSONAgreesWithEncodingJSON(t *testing.T) {
	var d Doc
	for _, s := range jsonSeeds {
		compareJSON(t, &d, []byte(s))
	}
	for _, depth := range []int{MaxDepth, MaxDepth + 1} {
		compareJSON(t, &d, []byte(strings.Repeat("[", depth)+strings.Repeat("]", depth)))
		compareJSON(t, &d, []byte(strings.Repeat(`{"a":`, depth)+"1"+strings.Repeat("}", depth)))
	}
}

// What two readers would read differently is refused, each with its reason.
func TestStrictJSONRefuses(t *testing.T) {
	many := func(last string) string {
		var b strings.Builder
		for i := range 1000 {
			b.WriteString(`"k` + strconv.Itoa(i) + `":1,`)
		}
		return "{" + b.String() + `"` + last + `":2}`
	}
	var d Doc
	for _, c := range []struct {
		name, doc string
		want      error
	}{
		{"a name twice", `{"temperature":1,"temperature":99}`, ErrDuplicate},
		{"a name twice, deep", `{"a":[{"b":1,"b":2}]}`, ErrDuplicate},
		{"a name twice among many", many("k500"), ErrDuplicate},
		{"many names", many("k"), nil},
		{"an escaped name", `{"temperature":1,"\u0074emperature":99}`, ErrName},
		{"not UTF-8", "{\"a\":\"\xc3\x28\"}", ErrUTF8},
		{"an overlong form", "{\"a\":\"\xc0\xaf\"}", ErrUTF8},
		{"a surrogate in UTF-8", "\"\xed\xa0\x80\"", ErrUTF8},
		{"half a pair", `"\ud800"`, ErrUTF8},
		{"deep", strings.Repeat("[", 100_000), ErrDepth},
		{"long", `"` + strings.Repeat("a", MaxSize) + `"`, ErrSize},
		{"a number beyond 64 bits", `{"a":18446744073709551616}`, ErrNumber},
		{"a number beyond a double", `{"a":1e309}`, ErrNumber},
		{"a byte order mark", "\ufeff{}", ErrSyntax},
		{"two values", `{} {}`, ErrSyntax},
		{"a comment", `{}//`, ErrSyntax},
		{"nothing", ``, ErrSyntax},
		{"NaN", `{"a":NaN}`, ErrSyntax},
	} {
		if err := d.ScanJSON([]byte(c.doc)); err != c.want { //nolint:errorlint // nobody wraps them
			t.Errorf("%s: %v; want %v", c.name, err, c.want)
		}
		if c.want != nil && d.Root().Kind != None {
			t.Errorf("%s: a value was read", c.name)
		}
	}
}

func FuzzJSON(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var d Doc
		compareJSON(t, &d, b)
		compareJSON(t, &d, b) // with what the first left behind
	})
}

// Objects on both sides of the bound where searching changes.
func TestJSONObjectsOfAnySizeProperty(t *testing.T) {
	var d Doc
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.MapOfN(rapid.StringMatching(`[a-z]{0,12}`), rapid.Int64(), 0, 40).Draw(t, "members")
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		compareJSON(t, &d, b)
	})
}

func TestScanningAllocatesNothing(t *testing.T) {
	var d Doc
	doc := []byte(`{"id":"pump-1","s":"a\nb","list":[1,2,{"a":3}],"temperature":91.5}`)
	if n := testing.AllocsPerRun(100, func() {
		if d.ScanJSON(doc) != nil {
			t.Fatal(d.Err())
		}
		if v, _ := d.RootMember("s"); v.Text != "a\nb" {
			t.Fatal(v)
		}
		list, _ := d.RootMember("list")
		if v := d.Member(d.Elem(list, 2), "a"); v.N != 3 {
			t.Fatal(v)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
