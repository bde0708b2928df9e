package scan

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"
)

// peer is fxamacker/cbor as strict as it gets: it refuses duplicate names and text that is not UTF-8.
var peer = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, UTF8: cbor.UTF8RejectInvalid, MaxNestedLevels: 256, TimeTag: cbor.DecTagIgnored,
		IntDec: cbor.IntDecConvertNone, BignumTag: cbor.BignumTagForbidden,
		DefaultMapType: reflect.TypeFor[map[any]any](),
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

// plain is what peer made in the form of tree: tags read through, integers by our rule, undefined as null.
func plainCBOR(v any) any {
	switch x := v.(type) {
	case uint64:
		if x <= math.MaxInt64 {
			return int64(x)
		}
	case float32:
		return float64(x)
	case cbor.Tag:
		return plainCBOR(x.Content)
	case []any:
		for i := range x {
			x[i] = plainCBOR(x[i])
		}
	case map[any]any:
		out := map[any]any{}
		for k, e := range x {
			out[plainCBOR(k)] = plainCBOR(e)
		}
		return out
	case cbor.ByteString:
		return []byte(x)
	case big.Int:
		return fmt.Errorf("big")
	}
	return v
}

func hasTime(v any) bool {
	switch x := v.(type) {
	case time.Time:
		return true
	case cbor.Tag:
		return hasTime(x.Content)
	case []any:
		return slices.ContainsFunc(x, hasTime)
	case map[any]any:
		for k, e := range x {
			if hasTime(k) || hasTime(e) {
				return true
			}
		}
	}
	return false
}

func same(a, b any) bool {
	return reflect.DeepEqual(a, b) || strings.Contains(fmt.Sprint(a), "NaN") && fmt.Sprint(a) == fmt.Sprint(b)
}

func compareCBOR(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, d *Doc, b []byte) {
	t.Helper()
	err := d.ScanCBOR(b)
	if err == nil || err == ErrSyntax { //nolint:errorlint // nobody wraps them
		wf := peer.Wellformed(b)
		if (wf == nil) != (err == nil) {
			t.Fatalf("%x: ours: %v; fxamacker: %v", b, err, wf)
		}
	}
	if err != nil {
		return
	}
	var v any
	if perr := peer.Unmarshal(b, &v); perr != nil {
		// Tags whose content fxamacker looks at, and nothing else.
		for _, word := range []string{"tag", "Tag", "time.Time"} {
			if strings.Contains(perr.Error(), word) {
				return
			}
		}
		t.Fatalf("%x: fxamacker refuses it, we do not: %v", b, perr)
	}
	if hasTime(v) { // tags 0 and 1, that fxamacker makes times of
		return
	}
	want, got := plainCBOR(v), tree(d, d.Root())
	if !same(got, want) {
		t.Fatalf("%x: %#v; want %#v", b, got, want)
	}
	if m, ok := want.(map[any]any); ok {
		if d.Len(d.Root()) != len(m) {
			t.Fatalf("%x: %d members; want %d", b, d.Len(d.Root()), len(m))
		}
		for k, v := range m {
			var e Value
			switch k := k.(type) {
			case string:
				e = d.Member(d.Root(), k)
			case int64:
				e = d.MemberInt(d.Root(), Value{Kind: Int, N: uint64(k)})
			case uint64:
				e = d.MemberInt(d.Root(), Value{Kind: Uint, N: k})
			}
			if got := tree(d, e); !same(got, v) {
				t.Fatalf("%x: %v is %#v; want %#v", b, k, got, v)
			}
		}
	}
}

// RFC 8949, appendix A, without what is told apart below.
var cborSeeds = []string{
	"00", "17", "1818", "1903e8", "1b000000e8d4a51000", "1bffffffffffffffff", "20", "3903e7", "3b7fffffffffffffff", "3bffffffffffffffff",
	"f90000", "f98000", "f93c00", "fb3ff199999999999a", "f97bff", "fa47c35000", "f90001", "f97c00", "f97e00", "fb7ff0000000000000",
	"f4", "f5", "f6", "f7", "f0", "f8ff", "f818", "c074323031332d30332d32315432303a30343a30305a", "c11a514b67b0", "d74401020304",
	"40", "4401020304", "60", "6161", "62c3bc", "62c328", "80", "83010203", "8301820203820405", "a0", "a201020304", "a26161016162820203",
	"5f42010243030405ff", "7f657374726561646d696e67ff", "9fff", "9f018202039f0405ffff", "bf61610161629f0203ffff", "826161bf61626163ff",
	"a2616101616102", "a2010118010200", "bf616101616102ff", "a17f6161ff01", "a1f501", "c24101", "c1c1c1c1c100", "ff", "1c", "9f", "5f61ff", "d9d9f7a16161f5",
	"a120f5", "a1616100ff", "818181818181", "bf61ff",
}

func TestCBORAgreesWithFxamacker(t *testing.T) {
	var d Doc
	for _, s := range cborSeeds {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(s, err)
		}
		compareCBOR(t, &d, b)
	}
}

func TestStrictCBORRefuses(t *testing.T) {
	var d Doc
	for _, c := range []struct {
		name, hex string
		want      error
	}{
		{"a name twice", "a2616101616102", ErrDuplicate},
		{"a name twice, the second with a longer length", "a261610178016102", ErrDuplicate},
		{"a name twice in an indefinite map", "bf616101616102ff", ErrDuplicate},
		{"an integer name in a longer form", "a2010118010200", ErrName},
		{"a name in pieces", "a17f6161ff01", ErrName},
		{"a name that is a boolean", "a1f501", ErrName},
		{"a name that is bytes", "a1416101", ErrName},
		{"text that is not UTF-8", "62c328", ErrUTF8},
		{"a piece that is not UTF-8 alone", "7f61c361bcff", ErrUTF8},
		{"a big number", "c249010000000000000000", ErrNumber},
		{"an integer below 64 bits", "3bffffffffffffffff", ErrNumber},
		{"tags", "c1c1c1c1c100", ErrTags},
		{"a simple value without a meaning", "f8ff", ErrSimple},
		{"deep", strings.Repeat("81", 100_000), ErrDepth},
		{"a length that is not there", "9bffffffffffffffff", ErrSyntax},
		{"two items", "0000", ErrSyntax},
		{"nothing", "", ErrSyntax},
	} {
		b, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.ScanCBOR(b); err != c.want { //nolint:errorlint // nobody wraps them
			t.Errorf("%s: %v; want %v", c.name, err, c.want)
		}
	}
	if err := d.ScanCBOR(bytes.Repeat([]byte{0x60}, MaxSize+1)); err != ErrSize { //nolint:errorlint // nobody wraps them
		t.Errorf("long: %v", err)
	}
}

func FuzzCBOR(f *testing.F) {
	for _, s := range cborSeeds {
		b, _ := hex.DecodeString(s)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var d Doc
		compareCBOR(t, &d, b)
		compareCBOR(t, &d, b)
	})
}

func TestCBORMapsOfAnySizeProperty(t *testing.T) {
	var d Doc
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.MapOfN(rapid.OneOf(rapid.StringMatching(`[a-z]{0,12}`).AsAny(), rapid.Int64().AsAny()), rapid.Float64().AsAny(), 0, 40).Draw(t, "members")
		b, err := cbor.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		compareCBOR(t, &d, b)
	})
}
