package policy

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
)

func allow(what, topic string) ACLSpec { return ACLSpec{Allow: strings.Split(what, ","), Topic: topic} }
func deny(what, topic string) ACLSpec  { return ACLSpec{Deny: strings.Split(what, ","), Topic: topic} }

const (
	mayPublish   = "publish"
	maySubscribe = "subscribe"
	mayBoth      = "publish,subscribe"
)

func TestACLPublish(t *testing.T) {
	a := fix[*ACL](t)(NewACL([]ACLSpec{
		deny(mayPublish, "site/+/+/secret"),
		allow(mayPublish, "site/{attrs.tenant}/{client}/#"),
		{Allow: []string{"publish"}, Topic: "pump/#", Client: "PMP*"},
		{Allow: []string{"publish"}, Topic: "ops/+", User: "u-op-*", Listener: []string{"mqtt", "amqp"}},
		allow(maySubscribe, "cmd/{client}/#"),
		deny(mayPublish, "open/closed/#"),
		allow(mayPublish, "open/#"),
		allow(mayPublish, "$SYS/{client}"),
	}, nil))
	op := client("op-1")
	op.Listener = "coap"
	source := client("s")
	source.Pool = "brokers"
	for _, tt := range []struct {
		from  *event.Origin
		topic string
		ok    bool
	}{
		{client("pump-7"), "site/acme/pump-7/state", true}, {client("pump-7"), "site/acme/pump-7", true}, {client("pump-7"), "site/acme/pump-8/state", false},
		{client("pump-7"), "site/other/pump-7/state", false}, {client("pump-7"), "site/acme/pump-7/secret", false},
		{client("pump-7"), "site/acme/pump-7/x/secret", true}, {client("pump-7"), "pump/x", false}, {client("PMP7"), "pump/x", true},
		{client("PMP7"), "pump", true}, {client("op-1"), "ops/x", true}, {op, "ops/x", false}, {client("xop-1"), "ops/x", false},
		{client("pump-7"), "cmd/pump-7/x", false}, {client("x"), "open/y", true}, {client("x"), "open/closed/y", false}, {client("x"), "open/closed", false},
		{client("x"), "nothing", false}, {client("x"), "$SYS/x", true}, {client("x"), "$SYS/y", false}, {client("x"), "/", false},
		{client("+"), "site/acme/+/x", false}, {client("#"), "site/acme/#", false}, {client("a/b"), "site/acme/a/b", false}, {client(""), "site/acme//x", false},
		{&event.Origin{Client: "c"}, "site//c/x", false}, {&event.Origin{Client: "c", Attrs: map[string]string{"tenant": ""}}, "site//c/x", false},
		{source, "anything", true}, {nil, "$windrose/x", true},
	} {
		v := a.Apply(&Context{}, pub(tt.from, tt.topic))
		if (v.Kind == Pass) != tt.ok || !tt.ok && v.Outcome != event.Unauthorized {
			t.Errorf("%+v publishes %q: %+v", tt.from, tt.topic, v)
		}
	}
}

func TestACLSubscribe(t *testing.T) {
	for _, tt := range []struct {
		rules  []ACLSpec
		filter string
		ok     bool
	}{
		{nil, "#", true},
		{[]ACLSpec{allow(mayPublish, "#")}, "a", false},
		{[]ACLSpec{allow(maySubscribe, "a/+")}, "a/b", true},
		{[]ACLSpec{allow(maySubscribe, "a/+")}, "a/+", true},
		{[]ACLSpec{allow(maySubscribe, "a/+")}, "a/#", false},
		{[]ACLSpec{allow(maySubscribe, "a/+")}, "+/b", false},
		{[]ACLSpec{allow(maySubscribe, "a/#")}, "a/#", true},
		{[]ACLSpec{allow(maySubscribe, "a/#")}, "#", false},
		{[]ACLSpec{allow(maySubscribe, "a/#")}, "a", true},
		{[]ACLSpec{allow(maySubscribe, "#")}, "$SYS/#", false},
		{[]ACLSpec{allow(maySubscribe, "#")}, "#", true},
		{[]ACLSpec{allow(maySubscribe, "#")}, "$share/g/a", false}, // the prefix is the caller's to cut
		// Several rules together cover it; that does not count.
		{[]ACLSpec{allow(maySubscribe, "a/b"), allow(maySubscribe, "a/c")}, "a/+", false},
		// An earlier rule that denies a part of it denies the whole; a later one does not.
		{[]ACLSpec{deny(maySubscribe, "a/secret"), allow(maySubscribe, "a/#")}, "a/b", true},
		{[]ACLSpec{deny(maySubscribe, "a/secret"), allow(maySubscribe, "a/#")}, "a/secret", false},
		{[]ACLSpec{deny(maySubscribe, "a/secret"), allow(maySubscribe, "a/#")}, "a/+", false},
		{[]ACLSpec{deny(maySubscribe, "a/secret"), allow(maySubscribe, "a/#")}, "a/#", false},
		{[]ACLSpec{deny(maySubscribe, "a/secret"), allow(maySubscribe, "a/#")}, "a/+/x", true},
		{[]ACLSpec{allow(maySubscribe, "a/#"), deny(maySubscribe, "a/secret")}, "a/#", true},
		{[]ACLSpec{deny(mayPublish, "a/secret"), allow(mayBoth, "a/#")}, "a/#", true},
		{[]ACLSpec{deny(maySubscribe, "$SYS/#"), allow(maySubscribe, "#")}, "#", true},
		// Values of the session; the client is me, the tenant acme.
		{[]ACLSpec{allow(maySubscribe, "cmd/{client}/#")}, "cmd/me/#", true},
		{[]ACLSpec{allow(maySubscribe, "cmd/{client}/#")}, "cmd/me", true},
		{[]ACLSpec{allow(maySubscribe, "cmd/{client}/#")}, "cmd/you/x", false},
		{[]ACLSpec{allow(maySubscribe, "cmd/{client}/#")}, "cmd/+/x", false},
		{[]ACLSpec{allow(maySubscribe, "cmd/{client}/#")}, "cmd/#", false},
		{[]ACLSpec{allow(maySubscribe, "cmd/{attrs.none}/#")}, "cmd//x", false},
		{[]ACLSpec{deny(maySubscribe, "cmd/{client}/x"), allow(maySubscribe, "#")}, "cmd/me/x", false},
		{[]ACLSpec{deny(maySubscribe, "cmd/{client}/x"), allow(maySubscribe, "#")}, "cmd/you/x", true},
		{[]ACLSpec{deny(maySubscribe, "cmd/{client}/x"), allow(maySubscribe, "#")}, "cmd/+/x", false},
		{[]ACLSpec{deny(maySubscribe, "cmd/{client}/x"), allow(maySubscribe, "#")}, "cmd/#", false},
		{[]ACLSpec{deny(maySubscribe, "cmd/{client}/{user}"), allow(maySubscribe, "#")}, "cmd/you/#", true},
		{[]ACLSpec{deny(maySubscribe, "cmd/{client}/{user}"), allow(maySubscribe, "#")}, "+/me/u-me", false},
		// A value that the session does not have denies with any level in its place.
		{[]ACLSpec{deny(maySubscribe, "cmd/{attrs.none}/x"), allow(maySubscribe, "#")}, "cmd/you/x", false},
		{[]ACLSpec{deny(maySubscribe, "cmd/{attrs.none}/x"), allow(maySubscribe, "#")}, "cmd/you/y", true},
		// About others.
		{[]ACLSpec{{Deny: []string{"subscribe"}, Topic: "#", Client: "you*"}, allow(maySubscribe, "#")}, "a", true},
		{[]ACLSpec{{Deny: []string{"subscribe"}, Topic: "#", Client: "m*"}, allow(maySubscribe, "#")}, "a", false},
		{[]ACLSpec{{Allow: []string{"subscribe"}, Topic: "#", Listener: []string{"coap"}}}, "a", false},
	} {
		a := fix[*ACL](t)(NewACL(tt.rules, nil))
		v := a.Subscribe(&Context{}, client("me"), []byte(tt.filter), 1)
		if (v.Kind == Pass) != tt.ok || !tt.ok && v.Outcome != event.Unauthorized {
			t.Errorf("%+v: %q: %+v", tt.rules, tt.filter, v)
		}
	}
	source := client("s")
	source.Pool = "brokers"
	a := fix[*ACL](t)(NewACL([]ACLSpec{deny(mayBoth, "#")}, nil))
	if v := a.Subscribe(&Context{}, source, []byte("a"), 0); v.Kind != Pass {
		t.Errorf("a source: %+v", v)
	}
}

// A client that calls itself after a wildcard or a path gets no more by it, whatever the rule is and whatever it asks for.
func TestACLValuesNeverWiden(t *testing.T) {
	a := fix[*ACL](t)(NewACL([]ACLSpec{
		deny(mayBoth, "no/{client}/#"), allow(mayBoth, "no/#"), allow(mayBoth, "x/{client}/#"), allow(mayBoth, "{client}"), allow(mayBoth, "y/{user}"),
	}, nil))
	asks := []string{
		"x/+/#", "x/#/#", "x/#", "x/+", "x/a", "x/a/b", "x/b", "x//y", "x/", "#", "+", "", "y/+", "y/#", "y/a/b", "x/$SYS", "$SYS", "+/+", "a/b", "no/a", "no/b/c",
	}
	for _, id := range []string{"", "+", "#", "a/b", "a/+", "/", "+/#", "a\x00", "$SYS/#", "../x"} {
		from := &event.Origin{Client: id, User: id}
		for _, ask := range asks {
			if event.ValidTopic([]byte(ask)) {
				if v := a.Apply(&Context{}, pub(from, ask)); v.Kind != Reject {
					t.Errorf("client %q publishes %q", id, ask)
				}
			}
			if event.ValidFilter([]byte(ask)) {
				if v := a.Subscribe(&Context{}, from, []byte(ask), 0); v.Kind != Reject {
					t.Errorf("client %q subscribes to %q", id, ask)
				}
			}
		}
	}
}

func TestACLSpecErrors(t *testing.T) {
	for _, tt := range []struct {
		spec ACLSpec
		want string
	}{
		{ACLSpec{Topic: "a"}, "either allow or deny"}, {ACLSpec{Allow: []string{"publish"}, Deny: []string{"publish"}, Topic: "a"}, "either allow or deny"},
		{allow("publsh", "a"), "allow: "}, {deny("", "a"), "deny: "}, {allow(mayPublish, ""), "topic: "}, {allow(mayPublish, "a/#/b"), "topic: "},
		{allow(mayPublish, "a/{id}"), "topic: {id} is not"}, {allow(mayPublish, "a/{attrs.}"), "topic: "}, {allow(mayPublish, "a/x{client}"), "topic: "},
	} {
		err := tt.spec.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt.spec, err)
		}
		if _, err := NewACL([]ACLSpec{allow(mayPublish, "a"), tt.spec}, nil); err == nil || !strings.HasPrefix(err.Error(), "acl[1]: ") {
			t.Errorf("%+v: %v", tt.spec, err)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, tt := range []struct {
		glob, s string
		ok      bool
	}{
		{"", "x", true}, {"", "", true}, {"*", "", true}, {"**", "x", true}, {"a", "a", true}, {"a", "ab", false}, {"a*", "a", true}, {"a*", "ab", true},
		{"a*", "ba", false}, {"*a", "ba", true}, {"*a", "ab", false}, {"a*a", "a", false}, {"a*a", "aa", true}, {"a*b*c", "axbyc", true},
		{"a*b*c", "acb", false}, {"a*b*b", "ab", false}, {"*bb*", "abbc", true}, {"*b*b*", "ab", false}, {"a**c", "abc", true}, {"x*", "", false},
	} {
		g := newGlob(tt.glob)
		if g.match(tt.s) != tt.ok {
			t.Errorf("%q fits %q: %t", tt.s, tt.glob, !tt.ok)
		}
	}
}

// words returns all texts of up to n levels out of an alphabet that are valid.
func words(levels []string, n int, valid func([]byte) bool) [][]byte {
	var out [][]byte
	var grow func(prefix string, n int)
	grow = func(prefix string, n int) {
		for _, l := range levels {
			w := prefix + l
			if valid([]byte(w)) {
				out = append(out, []byte(w))
			}
			if n > 1 {
				grow(w+"/", n-1)
			}
		}
	}
	grow("", n)
	return out
}

// Rules against topics, all of them over a small alphabet: an allowed subscription receives nothing that the rule does
// not match, and what overlaps is what has a topic in common. Topics have one level more than filters, and a letter that
// no filter has, so that wildcards can be told from letters.
func TestACLFiltersAgainstTopics(t *testing.T) {
	filters := words([]string{"", "a", "$", "+", "#"}, 3, event.ValidFilter)
	topics := words([]string{"", "a", "$", "z"}, 4, event.ValidTopic)
	topics = append(topics, nil) // never a topic, but what "/#" and "+" have in common as texts
	matched := make([][]bool, len(filters))
	for i, f := range filters {
		matched[i] = make([]bool, len(topics))
		for j, topic := range topics {
			matched[i][j] = event.Match(f, topic)
		}
	}
	from := client("me")
	for i, f := range filters {
		a := fix[*ACL](t)(NewACL([]ACLSpec{allow(maySubscribe, string(f))}, nil))
		d := fix[*ACL](t)(NewACL([]ACLSpec{deny(maySubscribe, string(f)), allow(maySubscribe, "#"), allow(maySubscribe, "$/#")}, nil))
		for k, g := range filters {
			inside, common := true, false
			for j := range topics {
				inside = inside && (!matched[k][j] || matched[i][j])
				common = common || matched[k][j] && matched[i][j]
			}
			got := a.Subscribe(&Context{}, from, g, 0).Kind == Pass
			if got && !inside || !got && inside && !strings.HasSuffix(string(f), "+/#") { // "a/+/#" and "+/#" may be more than they look
				t.Fatalf("rule %q, subscription %q: allowed %t, covered %t", f, g, got, inside)
			}
			if got := d.Subscribe(&Context{}, from, g, 0).Kind == Reject; got != common {
				t.Fatalf("deny rule %q, subscription %q: denied %t, overlap %t", f, g, got, common)
			}
			if overlaps(f, g) != common || overlaps(g, f) != common {
				t.Fatalf("overlaps(%q, %q) is not %t", f, g, common)
			}
		}
	}
}

// naive is what the documentation of ACL says, written without tree and patterns: the filter of each rule with the values
// in place.
func naive(rules []ACLSpec, from *event.Origin, topic string) bool {
	for _, r := range rules {
		if !slices.Contains(append(r.Allow, r.Deny...), "publish") {
			continue
		}
		var levels []string
		unusable := false
		for _, l := range strings.Split(r.Topic, "/") {
			if strings.HasPrefix(l, "{") {
				v := map[string]string{"{client}": from.Client, "{user}": from.User, "{attrs.t}": from.Attrs["t"]}[l]
				if v == "" || strings.ContainsAny(v, "/+#\x00") {
					unusable = true
					v = "+"
				} else if len(levels) == 0 && v[0] == '$' {
					unusable = true // a value does not open the $-topics
					v = "+"
				}
				l = v
			}
			levels = append(levels, l)
		}
		if unusable && len(r.Allow) > 0 || !event.Match([]byte(strings.Join(levels, "/")), []byte(topic)) {
			continue
		}
		return len(r.Allow) > 0
	}
	return len(rules) == 0
}

func FuzzACL(f *testing.F) {
	f.Add([]byte("a/b/c\x00allow a/{client}/#\x00deny #"), "a", "b")
	f.Add([]byte("$/a\x00allow {user}/+\x00deny {client}/a\x00allow +/#"), "$", "+")
	f.Fuzz(func(t *testing.T, b []byte, id, user string) {
		lines := bytes.Split(b, []byte{0})
		if len(lines) > 20 || !event.ValidTopic(lines[0]) {
			return
		}
		var rules []ACLSpec
		for _, l := range lines[1:] {
			r := allow(mayBoth, strings.TrimPrefix(strings.TrimPrefix(string(l), "deny "), "allow "))
			if bytes.HasPrefix(l, []byte("deny ")) {
				r.Allow, r.Deny = nil, r.Allow
			}
			if r.Validate() == nil {
				rules = append(rules, r)
			}
		}
		a := fix[*ACL](t)(NewACL(rules, nil))
		from := &event.Origin{Client: id, User: user, Attrs: map[string]string{"t": user}}
		got := a.Apply(&Context{}, pub(from, string(lines[0]))).Kind == Pass
		if want := naive(rules, from, string(lines[0])); got != want {
			t.Fatalf("rules %+v, client %q, user %q, topic %q: %t, want %t", rules, id, user, lines[0], got, want)
		}
		// Who may subscribe to a plain topic may do so for no topic that an allow-list would not let it publish to.
		sub := a.Subscribe(&Context{}, from, lines[0], 0).Kind == Pass
		if sub != got {
			t.Fatalf("rules %+v, client %q, user %q, topic %q: publish %t, subscribe %t", rules, id, user, lines[0], got, sub)
		}
	})
}

// A thousand rules cost about as much as ten: the tree finds those that speak of the topic.
func BenchmarkACL1000(b *testing.B) {
	var rules []ACLSpec
	for i := range 1000 {
		rules = append(rules, allow(mayPublish, fmt.Sprintf("site/tenant-%d/{client}/#", i)))
	}
	a := fix[*ACL](b)(NewACL(rules, nil))
	ev := pub(client("pump-7"), "site/tenant-900/pump-7/state")
	ctx := &Context{}
	for b.Loop() {
		if a.Apply(ctx, ev).Kind != Pass {
			b.Fatal("refused")
		}
	}
}
