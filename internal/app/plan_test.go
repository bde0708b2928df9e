package app

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/windrose-edc/windrose/internal/config"
)

func read(t *testing.T, text string) *config.Snapshot {
	t.Helper()
	s, err := schema().LoadBytes("test.yaml", []byte("windrose: v1\n"+text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const planBase = `
node: { name: n, loops: 1, site: a }
listeners:
  one: { mqtt: { bind: ":1" } }
  two: { mqtt: { bind: ":2", anonymous: true } }
pools:
  hooks: { webhook: { urls: ["http://h/"] } }
  broker: { mqtt: { urls: ["mqtt://b"] } }
sources: { back: { mqtt: { pool: broker, subscribe: ["x/#"] } } }
routes: [ { name: all, topic: "#", to: hooks } ]
acl: [ { allow: publish, topic: "a" } ]
`

func TestPlan(t *testing.T) {
	for name, c := range map[string]struct {
		change []string // old, new, ...
		want   []string // beginnings of lines
	}{
		"nothing":         {nil, nil},
		"site":            {[]string{"site: a", "site: b"}, []string{"node.site a becomes b"}},
		"loops":           {[]string{"loops: 1", "loops: 2"}, []string{"node.loops 1 becomes 2: needs a restart"}},
		"rate of a drain": {[]string{"site: a", "site: a, drain: { rate: 5/s }"}, []string{"node.drain.rate 1000 becomes 5"}},
		"listener": {[]string{`":2", anonymous: true`, `":2", anonymous: false`},
			[]string{"listener two keeps its port open; connections stay as they are, new ones get what changed (mqtt.anonymous true becomes false)"}},
		"address":  {[]string{`":2"`, `":3"`}, []string{"listener two moves from :2 to :3; connections stay"}},
		"renamed":  {[]string{"two:", "three:"}, []string{"listener two closes", "listener three opens on :2"}},
		"pool":     {[]string{"http://h/", "http://i/"}, []string{"pool hooks is made anew: it takes over queue and dead letters, in order, once what is in flight is answered (at most 5s)"}},
		"deadline": {[]string{"site: a", "site: a, deadline: 9s"}, []string{"pool hooks is made anew", "pool broker is made anew", "source back is made anew", "node.deadline 30s becomes 9s"}},
		// A source receives by the connections of its pool, so they are made anew together.
		"source":  {[]string{"x/#", "y/#"}, []string{"source back is made anew", "pool broker is made anew"}},
		"receive": {[]string{"node:", "sessions: { receive_maximum: 5 }\nnode:"}, []string{"sessions is added", "listener one keeps its port open", "listener two keeps its port open"}},
		"acl":     {[]string{"publish, topic", "subscribe, topic"}, []string{"acl.1: allow"}},
		"route":   {[]string{"to: hooks", "to: broker"}, []string{"routes.all: to hooks becomes broker; from the next event on"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := Diff(read(t, planBase), read(t, strings.NewReplacer(c.change...).Replace(planBase)))
			lines := p.Lines()
			if len(lines) != len(c.want) {
				t.Fatalf("got %q, want %q", lines, c.want)
			}
			for _, want := range c.want {
				if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, want) }) {
					t.Errorf("got %q, none begins with %q", lines, want)
				}
			}
		})
	}
}

// What needs a restart is told again for as long as the node runs with what it was started with.
func TestPlanRemembersTheStart(t *testing.T) {
	boot := read(t, planBase)
	now := read(t, strings.ReplaceAll(planBase, "loops: 1", "loops: 2"))
	p := newPlan(now, now, nodeSpec(boot), nil, nil)
	if got := p.Restart(); len(got) != 1 || got[0] != "node.loops 1 becomes 2: needs a restart" {
		t.Errorf("got %q", got)
	}
}

// Every section must be one that a plan knows how to speak of, or say that it needs a restart: nothing is silently ignored.
func TestPlanKnowsEverySection(t *testing.T) {
	for _, s := range schema().Sections {
		p := &plan{&Plan{}, nil}
		e := &config.Entry{Section: s.Name, Name: "x", Spec: &struct{}{}}
		p.step(&config.Change{Op: config.Added, Section: s.Name, Name: "x", New: e})
		if s.Name == "node" {
			continue // by its keys
		}
		if len(p.Steps) != 1 || p.Steps[0].Text == "" {
			t.Errorf("section %s: %+v", s.Name, p.Steps)
		}
	}
}

// A file that a pool names holds something else: the pool is made anew although its specification is the same.
func TestPlanOfFiles(t *testing.T) {
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	write := func(text string) {
		if err := os.WriteFile(ca, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	s := read(t, strings.ReplaceAll(planBase, `urls: ["http://h/"]`, `urls: ["https://h/"], tls: { ca: "`+ca+`" }`))
	was := fileDigests(s)
	if p := newPlan(s, s, nodeSpec(s), was, fileDigests(s)); len(p.Steps) != 0 {
		t.Errorf("nothing changed: %v", p.Lines())
	}
	write("two")
	if got := newPlan(s, s, nodeSpec(s), was, fileDigests(s)).Lines(); len(got) != 1 || !strings.HasPrefix(got[0], "pool hooks is made anew") {
		t.Errorf("got %q", got)
	}
}
