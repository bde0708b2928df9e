package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestMessageFormat(t *testing.T) { // RFC 7252, section 3
	long := strings.Repeat("x", 300)
	var opts []byte
	opts = AppendOption(opts, 0, URIHost, []byte("a"))
	opts = AppendOption(opts, URIHost, URIPath, []byte(long[:13]))
	opts = AppendOption(opts, URIPath, URIPath, []byte(long[:255]))
	opts = AppendUint(opts, URIPath, ContentFormat, 0)
	opts = AppendUint(opts, ContentFormat, Size1, 70000)
	opts = AppendOption(opts, Size1, ProxyURI+1000, []byte(long))
	m := Message{Type: NON, Code: PUT, ID: 0x1234, Token: []byte("tok"), Options: opts, Payload: []byte("hi")}
	b := Append(nil, &m)
	var got Message
	if err := Parse(b, &got); err != nil {
		t.Fatal(err)
	}
	if got.Type != NON || got.Code != PUT || got.ID != 0x1234 || string(got.Token) != "tok" || string(got.Payload) != "hi" {
		t.Fatalf("got %+v", got)
	}
	if u, ok := got.Options.UintOf(Size1); !ok || u != 70000 {
		t.Errorf("Size1 = %d, %t", u, ok)
	}
	if u, ok := got.Options.UintOf(ContentFormat); !ok || u != 0 {
		t.Errorf("Content-Format = %d, %t", u, ok)
	}
	if p := got.Options.Join(nil, URIPath, '/'); string(p) != long[:13]+"/"+long[:255] {
		t.Errorf("path %q", p)
	}
	if n := testing.AllocsPerRun(100, func() { _ = Parse(b, &got); _ = got.Options.Join(b[:0:0][:0], URIHost, '/'); got.Options.Problem() }); n > 1 {
		t.Errorf("%v allocations", n)
	}
	buf := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { buf = Append(buf[:0], &got) }); n > 0 {
		t.Errorf("%v allocations to append", n)
	}
	if !bytes.Equal(buf, b) {
		t.Errorf("appended %x, want %x", buf, b)
	}
}

func TestMessageFormatErrors(t *testing.T) { // RFC 7252, sections 3 and 3.1; RFC 8974
	for _, c := range []struct {
		name string
		b    string
		err  error
	}{
		{"nothing", "", ErrShort},
		{"three bytes", "\x40\x01\x00", ErrShort},
		{"version 0", "\x00\x01\x00\x01", ErrVersion},
		{"version 2", "\x80\x01\x00\x01", ErrVersion},
		{"empty", "\x40\x00\x00\x01", nil},
		{"empty with token", "\x41\x00\x00\x01a", ErrEmpty},
		{"empty with payload", "\x40\x00\x00\x01\xffa", ErrEmpty},
		{"empty with an option", "\x40\x00\x00\x01\x10", ErrEmpty},
		{"token cut off", "\x44\x01\x00\x01abc", ErrShort},
		{"token of 12", "\x4c\x01\x00\x01abcdefghijkl", nil},
		{"token length 13 cut off", "\x4d\x01\x00\x01", ErrShort},
		{"token of 13", "\x4d\x01\x00\x01\x00abcdefghijklm", nil},
		{"token length 14 cut off", "\x4e\x01\x00\x01\x00", ErrShort},
		{"token of 269", "\x4e\x01\x00\x01\x00\x00", ErrToken},
		{"token length 15", "\x4f\x01\x00\x01", ErrToken},
		{"marker without payload", "\x40\x01\x00\x01\xff", ErrMarker},
		{"payload", "\x40\x01\x00\x01\xffa", nil},
		{"delta 15", "\x40\x01\x00\x01\xf0", ErrOption},
		{"length 15", "\x40\x01\x00\x01\x1f", ErrOption},
		{"delta 13 cut off", "\x40\x01\x00\x01\xd0", ErrOption},
		{"delta 14 cut off", "\x40\x01\x00\x01\xe0\x00", ErrOption},
		{"number above 65535", "\x40\x01\x00\x01\xe0\xff\xff\xe0\x00\x00", ErrOption},
		{"value cut off", "\x40\x01\x00\x01\x12a", ErrShort},
		{"marker in a value", "\x40\x01\x00\x01\x11\xff", nil},
		{"too many options", "\x40\x01\x00\x01" + strings.Repeat("\x00", MaxOptions+1), ErrMany},
		{"as many options as may be", "\x40\x01\x00\x01" + strings.Repeat("\x00", MaxOptions), nil},
	} {
		var m Message
		if err := Parse([]byte(c.b), &m); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
	}
}

func TestCriticalOptions(t *testing.T) { // RFC 7252, sections 5.4.1, 5.4.3 and 5.4.5
	type opt struct {
		n Number
		v string
	}
	for _, c := range []struct {
		name string
		opts []opt
		bad  Number
	}{
		{"none", nil, 0},
		{"known", []opt{{URIHost, "h"}, {URIPath, ""}, {URIPath, "a"}}, 0},
		{"unknown elective", []opt{{Number(2), "x"}, {URIPath, "a"}}, 0},
		{"unknown critical", []opt{{URIHost, "a"}, {Number(9), "x"}, {URIPath, "a"}}, 9},
		{"elective of illegal length", []opt{{Observe, "four"}}, 0},
		{"critical of illegal length", []opt{{URIPort, "abc"}}, URIPort},
		{"empty Uri-Host", []opt{{URIHost, ""}}, URIHost},
		{"If-None-Match with a value", []opt{{IfNoneMatch, "x"}}, IfNoneMatch},
		{"Accept twice", []opt{{Accept, ""}, {Accept, "2"}}, Accept},
		{"Block1 of 4 bytes", []opt{{Block1, "1234"}}, Block1},
		{"Content-Format twice", []opt{{ContentFormat, ""}, {ContentFormat, "2"}}, 0},
		{"If-Match twice", []opt{{IfMatch, ""}, {IfMatch, "2"}}, 0},
	} {
		var b []byte
		prev := Number(0)
		for _, o := range c.opts {
			b = AppendOption(b, prev, o.n, []byte(o.v))
			prev = o.n
		}
		n, found := Options(b).Problem()
		if n != c.bad || found != (c.bad != 0) {
			t.Errorf("%s: %d, %t", c.name, n, found)
		}
	}
	long := Options(AppendOption(nil, 0, ETag, []byte("too long!")))
	if _, ok := long.Usable(ETag); ok {
		t.Error("an ETag of 9 bytes counts")
	}
}

func TestQuery(t *testing.T) {
	b := AppendOption(nil, 0, URIPath, []byte("qos=2"))
	b = AppendOption(b, URIPath, URIQuery, []byte("f=a/+/c=d"))
	b = AppendOption(b, URIQuery, URIQuery, []byte("retain"))
	b = AppendOption(b, URIQuery, URIQuery, []byte("qos=1"))
	o := Options(b)
	for name, want := range map[string]string{"f": "a/+/c=d", "retain": "", "qos": "1"} {
		if v, ok := o.Query(name); !ok || string(v) != want {
			t.Errorf("%s = %q, %t", name, v, ok)
		}
	}
	if _, ok := o.Query("q"); ok {
		t.Error("q is there")
	}
}

func TestBlockOption(t *testing.T) { // RFC 7959, section 2.2
	for _, c := range []struct {
		b    Block
		size int
		off  int
	}{{Block{}, 16, 0}, {Block{Num: 3, More: true, SZX: 2}, 64, 192}, {Block{Num: MaxBlockNum, SZX: 6}, 1024, MaxBlockNum * 1024}, {Block{Num: 2, SZX: BERT}, 1024, 2048}} {
		o := Options(AppendUint(nil, 0, Block2, c.b.Value()))
		got, ok := o.Block(Block2)
		if !ok || got != c.b || got.Size() != c.size || got.Offset() != c.off {
			t.Errorf("%+v came back as %+v, size %d, offset %d", c.b, got, got.Size(), got.Offset())
		}
	}
}

func TestFrames(t *testing.T) { // RFC 8323, section 3.2
	for _, size := range []int{0, 1, 11, 12, 13, 267, 268, 269, 1000, 65803, 65804, 65805, 70000} {
		for _, token := range []int{0, 8, 12, 13, 100} {
			m := Message{Code: POST, Token: bytes.Repeat([]byte{'t'}, token), Payload: bytes.Repeat([]byte{'p'}, size)}
			b := AppendFrame(nil, &m)
			b = append(b, "next"...)
			var got Message
			n, err := Next(b, 1<<20, &got)
			if err != nil || n != len(b)-4 || !bytes.Equal(got.Token, m.Token) || !bytes.Equal(got.Payload, m.Payload) || got.Code != POST {
				t.Fatalf("payload of %d, token of %d: %d of %d, %v", size, token, n, len(b), err)
			}
			for i := 0; i < min(n, 300); i++ {
				if n, err := Next(b[:i], 1<<20, &got); n != 0 || err != nil {
					t.Fatalf("payload of %d: after %d bytes: %d, %v", size, i, n, err)
				}
			}
		}
	}
	var m Message
	if _, err := Next([]byte("\xf0\xff\xff\xff\xff"), 1<<20, &m); !errors.Is(err, ErrSize) {
		t.Errorf("a frame of 4 GB: %v", err)
	}
	if _, err := Next([]byte("\x0f\x01"), 1<<20, &m); !errors.Is(err, ErrToken) {
		t.Errorf("token length 15: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("\x40\x01\x00\x01"))
	f.Add([]byte("\x44\x01\x12\x34tokn\xb4test\x04path\xffhello"))
	f.Add([]byte("\x4d\x45\x00\x01\x00abcdefghijklm\xd1\x00x\xe1\x00\x00y\xffp"))
	f.Add([]byte("\x70\x00\x12\x34"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m Message
		if Parse(b, &m) != nil {
			return
		}
		walk(t, &m)
		again := Append(nil, &m)
		var m2 Message
		if err := Parse(again, &m2); err != nil {
			t.Fatalf("%x became %x: %v", b, again, err)
		}
		if m.Type != m2.Type || m.Code != m2.Code || m.ID != m2.ID || !bytes.Equal(m.Token, m2.Token) || !bytes.Equal(m.Options, m2.Options) || !bytes.Equal(m.Payload, m2.Payload) {
			t.Fatalf("%+v became %+v", m, m2)
		}
	})
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x00\xe1\x00\xe2"), 2)
	f.Add([]byte("\xd4\x00\x01tokn\xb4test\x04path\xffhey"), 1)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		var m Message
		for rest := b; ; {
			n, err := Next(rest, 1<<16, &m)
			if n == 0 || err != nil {
				return
			}
			walk(t, &m)
			if c := int(uint(cut) % uint(n)); c < n { // a prefix is not complete, and never wrong
				if k, err := Next(rest[:c], 1<<16, &Message{}); k != 0 || err != nil {
					t.Fatalf("%d of %d bytes of %x: %d, %v", c, n, rest[:n], k, err)
				}
			}
			var m2 Message
			again := AppendFrame(nil, &m)
			if k, err := Next(again, 1<<16, &m2); err != nil || k != len(again) || m.Code != m2.Code || !bytes.Equal(m.Token, m2.Token) || !bytes.Equal(m.Options, m2.Options) || !bytes.Equal(m.Payload, m2.Payload) {
				t.Fatalf("%+v became %+v: %v", m, m2, err)
			}
			rest = rest[n:]
		}
	})
}

// walk reads everything that Parse let through, and writes the options anew.
func walk(t *testing.T, m *Message) {
	t.Helper()
	var opts []byte
	prev := Number(0)
	for it := m.Options.Iter(); ; {
		n, v, ok := it.Next()
		if !ok {
			break
		}
		if n < prev {
			t.Fatalf("option %d after %d", n, prev)
		}
		opts = AppendOption(opts, prev, n, v)
		prev = n
		if got, ok := m.Options.Get(n); !ok || len(got) > len(m.Options) {
			t.Fatalf("option %d is not found", n)
		}
	}
	if !bytes.Equal(opts, m.Options) && len(opts) > len(m.Options) {
		t.Fatalf("options grew: %x, %x", opts, m.Options)
	}
	m.Options.Problem()
	m.Options.Query("f")
	m.Options.Block(Block1)
	m.Options.Join(nil, URIPath, '/')
}
