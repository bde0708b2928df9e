package sets

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/windrose-edc/windrose/internal/event"
)

func set(t testing.TB, kind Kind, entries ...string) *Set {
	t.Helper()
	s := NewSet("s", kind)
	var list []Entry
	for _, e := range entries {
		k, v, _ := strings.Cut(e, "=")
		list = append(list, Entry{k, v})
	}
	if err := s.Replace(list); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStringsAndMaps(t *testing.T) {
	s := set(t, Strings, "a", "b", "")
	if !s.Has("a") || !s.Has("") || s.Has("c") || s.Len() != 3 {
		t.Error("strings")
	}
	m := set(t, Map, "pump-1=north", "pump-2=")
	if v, ok := m.Get("pump-1"); !ok || v != "north" || !m.Has("pump-2") || m.Has("pump-3") {
		t.Error("map", v, ok)
	}
	if _, ok := m.Get("pump-3"); ok {
		t.Error("a value from nowhere")
	}
	if err := m.Replace([]Entry{{"a", "1"}, {"a", "2"}}); err == nil || !m.Has("pump-1") {
		t.Error("two values of one key:", err)
	}
}

// A table is a map.
func TestTableIsAMapProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOf(rapid.StringN(0, 6, -1), rapid.String()).Draw(t, "entries")
		b := newBuilder(Map, rapid.IntRange(0, 3).Draw(t, "hint"))
		for k, v := range want {
			if err := b.add(k, v); err != nil {
				t.Fatal(err)
			}
		}
		c := b.build()
		if c.size() != len(want) {
			t.Fatalf("%d entries; want %d", c.size(), len(want))
		}
		for _, k := range append(rapid.SliceOf(rapid.StringN(0, 6, -1)).Draw(t, "others"), keys(want)...) {
			v, ok := c.get(k)
			if w, there := want[k]; ok != there || v != w || c.has(k) != there {
				t.Fatalf("%q: %q, %v; want %q, %v", k, v, ok, w, there)
			}
		}
	})
}

func keys(m map[string]string) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

func TestCIDRs(t *testing.T) {
	s := set(t, CIDRs, "10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "10.1.0.0/16", "198.51.100.0/25")
	for a, want := range map[string]bool{
		"10.0.0.0": true, "10.255.255.255": true, "11.0.0.0": false, "9.255.255.255": false, "10.1.2.3": true, "192.0.2.7": true, "192.0.2.8": false,
		"2001:db8:ffff::1": true, "2001:db9::": false, "::ffff:10.0.0.1": true, "198.51.100.127": true, "198.51.100.128": false, "": false, "pump": false,
		"fe80::1%eth0": false,
	} {
		if s.Has(a) != want {
			t.Errorf("%s: %v", a, !want)
		}
	}
	for _, bad := range []string{"10.0.0.1/8", "10.0.0.0/33", "x", "fe80::1%eth0", ""} {
		if err := s.Replace([]Entry{{bad, ""}}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if all := set(t, CIDRs, "::/0"); !all.Has("1.2.3.4") || !all.Has("ffff::") {
		t.Error("::/0 has all")
	}
	if all := set(t, CIDRs, "0.0.0.0/0"); !all.Has("255.255.255.255") || all.Has("::1") {
		t.Error("0.0.0.0/0 has all of IPv4")
	}
}

// Ranges agree with netip, prefix by prefix.
func TestCIDRsAgreeWithNetipProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var prefixes []netip.Prefix
		b := newBuilder(CIDRs, 0)
		for range rapid.IntRange(0, 8).Draw(t, "n") {
			a := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.ByteRange(0, 3), 4, 4).Draw(t, "addr")))
			p := netip.PrefixFrom(a, rapid.IntRange(0, 32).Draw(t, "bits")).Masked()
			prefixes = append(prefixes, p)
			if err := b.add(p.String(), ""); err != nil {
				t.Fatal(err)
			}
		}
		c := b.build()
		for range 20 {
			a := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.ByteRange(0, 4), 4, 4).Draw(t, "asked")))
			want := false
			for _, p := range prefixes {
				want = want || p.Contains(a)
			}
			if c.has(a.String()) != want {
				t.Fatalf("%s in %v: want %v", a, prefixes, want)
			}
		}
	})
}

// MQTT 5, section 4.7: the same answers as filter by filter.
func TestTopicsAgreeWithTheFilterProperty(t *testing.T) {
	level := rapid.SampledFrom([]string{"a", "b", "", "$x", "+"})
	rapid.Check(t, func(t *rapid.T) {
		var filters []string
		b := newBuilder(Topics, 0)
		for range rapid.IntRange(0, 6).Draw(t, "n") {
			f := strings.Join(rapid.SliceOfN(level, 1, 4).Draw(t, "filter"), "/")
			if rapid.Bool().Draw(t, "rest") {
				f += "/#"
			}
			if f == "" {
				continue
			}
			filters = append(filters, f)
			if err := b.add(f, ""); err != nil {
				t.Fatal(err)
			}
		}
		c := b.build()
		topic := strings.ReplaceAll(strings.Join(rapid.SliceOfN(level, 1, 5).Draw(t, "topic"), "/"), "+", "c")
		want := false
		for _, f := range filters {
			want = want || topic != "" && event.Match([]byte(f), []byte(topic))
		}
		if c.has(topic) != want {
			t.Fatalf("%q in %q: want %v", topic, filters, want)
		}
	})
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "set")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := NewSet("blocked", Strings)
	write("# who is out\n\n pump-9 \r\npump-10\n#\n")
	if err := s.Load(path, []Entry{{Key: "inline"}}); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"pump-9", "pump-10", "inline", "#"} {
		if !s.Has(k) {
			t.Errorf("%q is missing", k)
		}
	}
	m := NewSet("region", Map)
	write("pump-1 = north\npump-2=south=west\n")
	if err := m.Load(path, nil); err != nil {
		t.Fatal(err)
	}
	if v, _ := m.Get("pump-2"); v != "south=west" {
		t.Errorf("pump-2 is %q", v)
	}
	for text, want := range map[string]string{
		"a=1\nb":                                path + ":2: the line is not KEY = VALUE",
		"a=1\na=2":                              `:2: "a" occurs twice with different values`,
		"\xff=1":                                ":1: the line is not UTF-8",
		strings.Repeat("a", 3*MaxLength) + "=1": ":1: an entry is longer than",
	} {
		write(text)
		if err := m.Load(path, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v", text, err)
		}
		if v, _ := m.Get("pump-1"); v != "north" {
			t.Error("a bad file took the old entries away")
		}
	}
	if err := m.Load(path+"x", nil); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "set")
	if err := os.WriteFile(path, []byte("a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := NewSet("s", Strings)
	if err := s.Load(path, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { Watch(ctx, []File{{Set: s, Path: path}}, 5*time.Millisecond, slog.New(slog.DiscardHandler)) })
	defer wg.Wait()
	defer cancel()
	for deadline := time.Now().Add(20 * time.Second); !s.Has("b"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the new file was not read")
		}
		// Until it is seen: the watch may not have begun, and then would take the first change for the beginning.
		if err := os.WriteFile(path, []byte("a\nb\n"+strings.Repeat("\n", int(time.Now().UnixNano()%1000))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A million strings: loaded in seconds, a bounded number of bytes each, found without allocation.
func TestAMillionStrings(t *testing.T) {
	n := 1_000_000
	if underRace {
		n = 50_000 // one goroutine: nothing to find, and it takes seconds
	}
	path := filepath.Join(t.TempDir(), "set")
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "device-%012d\n", i)
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	s := NewSet("s", Strings)
	start := time.Now()
	if err := s.Load(path, nil); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d strings of 19 bytes: %v, %d bytes each", s.Len(), time.Since(start), s.Bytes()/int64(n))
	if s.Len() != n || s.Bytes() > int64(n)*64 {
		t.Errorf("%d strings, %d bytes", s.Len(), s.Bytes())
	}
	key := "device-000000037777"
	if a := testing.AllocsPerRun(100, func() {
		if !s.Has(key) || s.Has("device-") {
			t.Fatal("wrong")
		}
	}); a != 0 {
		t.Errorf("%v allocations", a)
	}
	runtime.KeepAlive(s)
}

func TestStore(t *testing.T) {
	if _, err := New(NewSet("a", Strings), NewSet("a", Map)); err == nil {
		t.Error("two sets of one name")
	}
	var none *Store
	if none.Lookup("a") != nil || none.Names() != nil {
		t.Error("no store has no sets")
	}
}

func BenchmarkHas(b *testing.B) {
	entries := make([]Entry, 1_000_000)
	for i := range entries {
		entries[i].Key = fmt.Sprintf("device-%012d", i)
	}
	s := NewSet("s", Strings)
	if err := s.Replace(entries); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i = (i + 7919) % len(entries); !s.Has(entries[i].Key) {
			b.Fatal("missing")
		}
	}
}

func TestSpec(t *testing.T) {
	path := filepath.Join(t.TempDir(), "set")
	if err := os.WriteFile(path, []byte("c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, f, err := (&Spec{Values: []string{"a"}, File: path}).Open("s", Strings)
	if err != nil || !s.Has("a") || !s.Has("c") || f.Path != path || f.Set != s {
		t.Error(f, err)
	}
	m, f, err := (&MapSpec{Values: map[string]string{"a": "1", "b": "2"}}).Open("m")
	if v, _ := m.Get("b"); err != nil || v != "2" || f.Path != "" {
		t.Error(v, f, err)
	}
	if _, _, err := (&Spec{Values: []string{"a/#/b"}}).Open("t", Topics); err == nil || !strings.Contains(err.Error(), "set t, entry 1") {
		t.Error(err)
	}
}
