package config

import (
	"strings"
	"testing"
)

func diffWords(a, b *Snapshot) string {
	var out []string
	for _, c := range Diff(a, b) {
		out = append(out, c.Op.String()+" | "+c.String())
	}
	return strings.Join(out, "\n")
}

func TestDiffSaysWhatHappens(t *testing.T) {
	hooks := "pools:\n  hooks: { webhook: { urls: ['https://a', 'https://b'] } }\n"
	for _, c := range []struct{ name, a, b, want string }{
		{"nothing", hooks, "pools:\n  hooks:\n    health: 10s\n    webhook: { timeout: 5000ms, urls: ['https://a', 'https://b'] }\n", ""},
		{"added and removed", hooks, "pools:\n  more: { webhook: { urls: ['https://a', 'https://b'] } }\n",
			"removed | pools.hooks (webhook) is removed\nadded | pools.more (webhook) is added"},
		{"values", hooks, "pools:\n  hooks: { webhook: { urls: ['https://a', 'https://c'], timeout: 1s }, by: event.client }\nroutes: [{ name: r, topic: a, to: hooks }]\n",
			"changed | pools.hooks (webhook): webhook.urls[1] https://b becomes https://c, webhook.timeout 5s becomes 1s, by is now event.client; used by routes.r\nadded | routes.r is added"},
		{"longer list", hooks, "pools:\n  hooks: { webhook: { urls: ['https://a'] } }\n",
			"changed | pools.hooks (webhook): webhook.urls [https://a, https://b] becomes [https://a]"},
		{"another kind", hooks, "pools:\n  hooks: { mqtt: { urls: ['mqtt://b:1'] } }\n", "replaced | pools.hooks (mqtt) replaces the webhook of that name"},
		{"single", "node: { site: a }\n", "node: { site: b }\n", "changed | node: site a becomes b"},
		{"single added", "", "node: { site: b }\n", "added | node is added"},
		{"order of a list", "routes: [{ name: a, topic: a }, { name: b, topic: b }]\n", "routes: [{ name: b, topic: b }, { name: a, topic: a }]\n", "reordered | routes is in another order"},
		{"order of devices", "devices: { a: { when: x }, b: { when: y } }\n", "devices: { b: { when: y }, a: { when: x } }\n", "reordered | devices is in another order"},
		{"order of a collection", "surge: { a: {}, b: {} }\n", "surge: { b: {}, a: {} }\n", ""},
		{"list without names: inserted", "acl: [{ allow: publish, topic: a }, { allow: publish, topic: b }]\n",
			"acl: [{ allow: publish, topic: a }, { deny: publish, topic: x }, { allow: publish, topic: b }]\n", "added | acl.2 is added"},
		{"list without names: removed first", "acl: [{ allow: publish, topic: a }, { allow: publish, topic: b }]\n", "acl: [{ allow: publish, topic: b }]\n", "removed | acl.1 is removed"},
		{"list without names: changed", "acl: [{ allow: publish, topic: a }, { allow: publish, topic: b }]\n",
			"acl: [{ allow: publish, topic: a }, { allow: publish, topic: c }]\n", "changed | acl.2: topic b becomes c"},
		{"list without names: swapped", "acl: [{ allow: publish, topic: a }, { allow: publish, topic: b }]\n",
			"acl: [{ allow: publish, topic: b }, { allow: publish, topic: a }]\n", "reordered | acl is in another order"},
		{"gone value", "devices: { a: { when: x, attrs: { k: v } } }\n", "devices: { a: { when: x } }\n", "changed | devices.a: attrs is no longer {k: v}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := diffWords(load(t, c.a), load(t, c.b)); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestDiffSeesNewValuesOfSecrets(t *testing.T) {
	text := "windrose: v1\nsecrets: { p: { file: /p }, q: { file: /q } }\npools:\n  k: { kafka: { brokers: ['k:1'], topic: t, password: { secret: p } } }\n  l: { kafka: { brokers: ['k:1'], topic: t, password: { secret: q } } }\n"
	with := func(value string) *Snapshot {
		schema := fleetSchema()
		schema.ReadFile = func(path string) ([]byte, error) {
			if path == "/p" {
				return []byte(value), nil
			}
			return []byte("q"), nil
		}
		s, err := schema.LoadBytes("x", []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a, b := with("one"), with("two")
	want := "changed | secrets.p has a new value; used by pools.k\nchanged | pools.k (kafka): a secret that it uses has a new value"
	if got := diffWords(a, b); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := diffWords(a, with("one")); got != "" {
		t.Errorf("same value: %s", got)
	}
	if a.Hash() != b.Hash() {
		t.Error("the snapshot's hash tells about a secret's value")
	}
}
