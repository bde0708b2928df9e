package event

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckTopic_4_7(t *testing.T) {
	for _, c := range []struct {
		topic string
		want  error
	}{
		{"a", nil}, {"/", nil}, {"//", nil}, {"a b/ü/日本", nil}, {"$SYS/x", nil}, {"\ufeffa", nil}, {"\ufffd", nil},
		{"12345678/12345678", nil}, {"\U0001f600", nil}, {strings.Repeat("a", MaxTopic), nil}, {strings.Repeat("/", MaxTopic), nil},
		{"", ErrTopicEmpty}, {strings.Repeat("a", MaxTopic+1), ErrTopicLength},
		{"a/+/b", ErrTopicWildcard}, {"#", ErrTopicWildcard}, {"a+", ErrTopicWildcard}, {"aaaaaaaaaaaaa#aaaaaaaa", ErrTopicWildcard},
		{"a\x00", ErrTopicUTF8}, {"\x01", ErrTopicUTF8}, {"\x1f", ErrTopicUTF8}, {"\x7f", ErrTopicUTF8}, {"\u0080", ErrTopicUTF8},
		{"\u009f", ErrTopicUTF8}, {"\ufdd0", ErrTopicUTF8}, {"\ufdef", ErrTopicUTF8}, {"\ufffe", ErrTopicUTF8}, {"\uffff", ErrTopicUTF8},
		{"\U0001ffff", ErrTopicUTF8}, {"\U0010fffe", ErrTopicUTF8}, {"\xed\xa0\x80", ErrTopicUTF8}, {"\xed\xbf\xbf", ErrTopicUTF8},
		{"\xff", ErrTopicUTF8}, {"\xc0\x80", ErrTopicUTF8}, {"a\xc3", ErrTopicUTF8}, {"\xf4\x90\x80\x80", ErrTopicUTF8},
	} {
		if err := CheckTopic([]byte(c.topic)); !errors.Is(err, c.want) {
			t.Errorf("CheckTopic(%.40q) = %v, want %v", c.topic, err, c.want)
		}
		if ValidTopic([]byte(c.topic)) != (c.want == nil) {
			t.Errorf("ValidTopic(%.40q) differs", c.topic)
		}
	}
}

// Every byte at every place of a string longer than one step of the fast path.
func TestValidUTF8_1_5_4(t *testing.T) {
	for at := range 19 {
		for c := range 256 {
			s := []byte("abcdefghijklmnopqrs")
			s[at] = byte(c)
			if got, want := ValidUTF8(s), c >= 0x20 && c < 0x7f; got != want {
				t.Fatalf("byte %#x at %d: %v", c, at, got)
			}
		}
	}
	if ValidUTF8([]byte("\xffaaaaaaa")) || ValidUTF8([]byte("aaaaaaa\xff")) || !ValidUTF8(nil) || !ValidUTF8([]byte("aaaaaaaaäöü日本aaaaaaaaa")) {
		t.Fatal("mixed strings")
	}
}

func TestValidFilter_4_7_1(t *testing.T) {
	for _, f := range []string{"a", "#", "+", "/", "+/+", "a/#", "+/#", "/+", "+/", "a/+/b", "//#", "$share/g/+", strings.Repeat("+/", 32767)} {
		if !ValidFilter([]byte(f)) {
			t.Errorf("%.40q refused", f)
		}
	}
	for _, f := range []string{"", "a#", "#/", "#/a", "a/#/b", "a+", "+a", "a/b+/c", "++", "+#", "##", "a\x00", "\xff", strings.Repeat("a", 65536)} {
		if ValidFilter([]byte(f)) {
			t.Errorf("%.40q accepted", f)
		}
	}
}

func TestMatch_4_7(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/#", "a", true}, {"a/#", "a/", true}, {"a/#", "a/b/c", true}, {"a/#", "ab", false}, {"#", "a/b", true}, {"#", "/", true},
		{"+", "a", true}, {"+", "a/", false}, {"+", "/a", false}, {"+/+", "/a", true}, {"/+", "/a", true}, {"+/", "a/", true},
		{"a/+", "a", false}, {"a/+", "a/", true}, {"a/+/#", "a", false}, {"a/+/#", "a/b", true}, {"a//b", "a//b", true}, {"a/+/b", "a//b", true},
		{"A", "a", false}, {"#", "$SYS", false}, {"#", "$SYS/a", false}, {"+/a", "$SYS/a", false}, {"$SYS/#", "$SYS", true},
		{"$SYS/+", "$SYS/a", true}, {"a/+", "a/$b", true}, {"a/#", "a/$b", true}, {"+/#", "a", true}, {"a/b", "a", false}, {"a", "a/b", false},
	} {
		if got := Match([]byte(c.filter), []byte(c.topic)); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.filter, c.topic, got)
		}
	}
}

func TestSplitShared_4_8_2(t *testing.T) {
	for _, c := range []struct {
		in, group, filter string
		shared, ok        bool
	}{
		{"a/+", "", "a/+", false, true}, {"$share", "", "$share", false, true}, {"$shared/a", "", "$shared/a", false, true},
		{"$share/g/a/+/#", "g", "a/+/#", true, true}, {"$share/g//", "g", "/", true, true}, {"$share/g/$share/x", "g", "$share/x", true, true},
		{"$share/", "", "", true, false}, {"$share//a", "", "a", true, false}, {"$share/g", "g", "", true, false}, {"$share/g/", "g", "", true, false},
		{"$share/+/a", "+", "a", true, false}, {"$share/g#/a", "g#", "a", true, false}, {"$share/g/a#", "g", "a#", true, false},
		{"$share/\xff/a", "\xff", "a", true, false}, {"a#", "", "a#", false, false},
		{"$share/g/" + strings.Repeat("a", 65530), "g", strings.Repeat("a", 65530), true, false},
	} {
		g, f, shared, ok := SplitShared([]byte(c.in))
		if string(g) != c.group || string(f) != c.filter || shared != c.shared || ok != c.ok {
			t.Errorf("SplitShared(%.40q) = %q %.40q %v %v", c.in, g, f, shared, ok)
		}
	}
}

// All short filters and topics over a small alphabet: Covers never says yes wrongly, and no only where the two are
// written differently for the same thing.
func TestCovers(t *testing.T) {
	var filters, topics []string
	levels := []string{"", "a", "$", "+", "#"}
	for _, a := range levels {
		filters = append(filters, a)
		for _, b := range levels {
			filters = append(filters, a+"/"+b)
			for _, c := range levels {
				filters = append(filters, a+"/"+b+"/"+c)
			}
		}
	}
	filters = append(filters, "a/a/a/#")
	for _, f := range filters {
		if ValidTopic([]byte(f)) {
			topics = append(topics, f, f+"/x/y/z", "z/"+f, strings.ReplaceAll(f, "a", "b"))
		}
	}
	for _, w := range filters {
		for _, n := range filters {
			if !ValidFilter([]byte(w)) || !ValidFilter([]byte(n)) {
				continue
			}
			all := true
			for _, topic := range topics {
				all = all && (!naiveMatch(n, topic) || naiveMatch(w, topic))
			}
			if got := Covers([]byte(w), []byte(n)); got != all && (got || !strings.HasSuffix(w, "+/#")) {
				t.Errorf("Covers(%q, %q) = %v", w, n, got)
			}
		}
	}
}

func naiveMatch(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	return naiveLevels(strings.Split(filter, "/"), strings.Split(topic, "/"))
}

func naiveLevels(f, t []string) bool {
	switch {
	case len(f) == 0:
		return len(t) == 0
	case f[0] == "#":
		return true
	case len(t) == 0:
		return false
	case f[0] != "+" && f[0] != t[0]:
		return false
	}
	return naiveLevels(f[1:], t[1:])
}

func FuzzMatch(f *testing.F) {
	for _, s := range [][2]string{{"a/#", "a"}, {"+/b", "$a/b"}, {"#", "x"}, {"+//#", "a/"}, {"a/+", "a/"}, {"$S/#", "$S"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, filter, topic string) {
		got := Match([]byte(filter), []byte(topic))
		SplitShared([]byte(filter))
		vf, vt := ValidFilter([]byte(filter)), ValidTopic([]byte(topic))
		if vt && !vf && ValidTopic([]byte(filter)) {
			t.Fatalf("topic %q is no filter", filter)
		}
		if vf && vt {
			if want := naiveMatch(filter, topic); got != want {
				t.Fatalf("Match(%q, %q) = %v", filter, topic, got)
			}
			if Covers([]byte(filter), []byte(topic)) != got {
				t.Fatalf("Covers(%q, %q) differs from Match", filter, topic)
			}
		}
	})
}

func TestTopicFunctionsDoNotAllocate(t *testing.T) {
	topic, filter := []byte("site/berlin/pump-7/größe/state"), []byte("site/+/pump-7/#")
	p, err := ParsePattern("site/{tenant}/{id}/#")
	if err != nil {
		t.Fatal(err)
	}
	tm, err := ParseTemplate("new/{tenant}/{id}/{client}")
	if err != nil {
		t.Fatal(err)
	}
	caps, out := make([][]byte, 0, 4), make([]byte, 0, 100)
	n := testing.AllocsPerRun(100, func() {
		if CheckTopic(topic) != nil || !ValidFilter(filter) || !Match(filter, topic) {
			t.Fatal("wrong answer")
		}
		caps = p.Captures(topic, caps[:0])
		var ok bool
		if out, ok = tm.AppendTo(out[:0], func(name string) []byte {
			for i, n := range p.Names() {
				if n == name {
					return caps[i]
				}
			}
			return topic[:4]
		}); !ok || string(out) != "new/berlin/pump-7/site" {
			t.Fatalf("%q", out)
		}
	})
	if n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkCheckTopic(b *testing.B) {
	topic := []byte("site/berlin/pump-7/telemetry/state")
	for b.Loop() {
		if CheckTopic(topic) != nil {
			b.Fatal("refused")
		}
	}
}
