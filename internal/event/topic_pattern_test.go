package event

import (
	"slices"
	"strings"
	"testing"
)

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		pattern, filter, topic string
		names, caps            []string
	}{
		{"a/b", "a/b", "a/b", nil, nil},
		{"site/{tenant}/{id}/#", "site/+/+/#", "site/x/y/z/u", []string{"tenant", "id"}, []string{"x", "y"}},
		{"site/{tenant}/{id}/#", "site/+/+/#", "site//y", []string{"tenant", "id"}, []string{"", "y"}},
		{"{a}", "+", "x", []string{"a"}, []string{"x"}},
		{"+/{attrs.tenant-1_x}/+", "+/+/+", "u/v/w", []string{"attrs.tenant-1_x"}, []string{"v"}},
		{"#", "#", "a/b", nil, nil},
		{"{a}/{b}", "+/+", "x", []string{"a", "b"}, []string{"x"}}, // not matched: fewer captures, no panic
	} {
		p, err := ParsePattern(c.pattern)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		var caps []string
		for _, b := range p.Captures([]byte(c.topic), nil) {
			caps = append(caps, string(b))
		}
		if string(p.Filter()) != c.filter || !slices.Equal(p.Names(), c.names) || !slices.Equal(caps, c.caps) || p.String() != c.pattern {
			t.Errorf("%q: filter %q names %q captures %q", c.pattern, p.Filter(), p.Names(), caps)
		}
	}
	for _, bad := range []string{"", "a/{}", "a/{x}y", "a/x{y}", "a/{x", "a/x}", "{x}/{x}", "a/{b c}", "a#", "#/{x}", "{x}/#/a", "{", "}", "{{x}}", "a/{x/y}"} {
		if _, err := ParsePattern(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestTemplate(t *testing.T) {
	values := map[string]string{
		"tenant": "acme", "id": "p-1", "empty": "", "slash": "a/b", "plus": "+", "hash": "a#", "nul": "a\x00", "sys": "$SYS", "bad": "\xff",
		"long": strings.Repeat("x", 65535),
	}
	lookup := func(n string) []byte { return []byte(values[n]) }
	for _, c := range []struct {
		template, want string
		ok             bool
	}{
		{"a/b", "a/b", true}, {"new/{tenant}/x-{id}/s", "new/acme/x-p-1/s", true}, {"{id}{id}", "p-1p-1", true}, {"$x/{sys}", "$x/$SYS", true},
		{"{long}", values["long"], true},
		{"{long}a", "", false}, {"a/{empty}", "", false}, {"a/{slash}", "", false}, {"a/{plus}", "", false}, {"a/{hash}/b", "", false},
		{"a/{nul}", "", false}, {"{sys}/a", "", false}, {"a/{bad}", "", false}, {"a/{unknown}", "", false},
	} {
		tm, err := ParseTemplate(c.template)
		if err != nil {
			t.Errorf("%q: %v", c.template, err)
			continue
		}
		got, ok := tm.AppendTo([]byte("before"), lookup)
		if ok != c.ok || string(got) != "before"+c.want || tm.String() != c.template {
			t.Errorf("%q: %.60q %v", c.template, got, ok)
		}
	}
	for _, bad := range []string{"", "a/{", "a/}", "{}", "a/{x y}", "a/+", "#", "a/{x}/#", "a\x00{x}", "{a}}", strings.Repeat("a", 65536), strings.Repeat("{a}", 65536)} {
		if _, err := ParseTemplate(bad); err == nil {
			t.Errorf("%.40q accepted", bad)
		}
	}
	tm, err := ParseTemplate("{a}/x{b.c}{a}")
	if err != nil || !slices.Equal(tm.Names(), []string{"a", "b.c", "a"}) {
		t.Errorf("%v %v", tm.Names(), err)
	}
}

// Whatever the values, what comes out is a topic with as many levels as the template.
func FuzzTemplate(f *testing.F) {
	f.Add("new/{a}/{b}", "x", "y")
	f.Add("{a}", "$", "")
	f.Add("{a}{b}/c", "ü", "+")
	f.Fuzz(func(t *testing.T, template, a, b string) {
		if p, err := ParsePattern(template); err == nil && !ValidFilter(p.Filter()) {
			t.Fatalf("pattern %q makes the filter %q", template, p.Filter())
		}
		tm, err := ParseTemplate(template)
		if err != nil {
			return
		}
		out, ok := tm.AppendTo(nil, func(n string) []byte {
			if n == "a" {
				return []byte(a)
			}
			return []byte(b)
		})
		if ok && (!ValidTopic(out) || strings.Count(string(out), "/") != strings.Count(template, "/") || out[0] == '$' && template[0] != '$') {
			t.Fatalf("%q with %q, %q makes %q", template, a, b, out)
		}
	})
}
