package app

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windrose-edc/windrose/internal/config"
)

// The example of the documents loads, builds, and passes its own tests.
func TestFleetExample(t *testing.T) {
	const name = "../../docs/examples/fleet.yaml"
	if err := Check(name); err != nil {
		t.Fatal(err)
	}
	tests, err := TestFiles(name)
	if err != nil || len(tests) != 1 {
		t.Fatalf("tests beside the example: %v, %v", tests, err)
	}
	trials, err := Try(t.Context(), []string{name}, tests)
	if err != nil {
		t.Fatal(err)
	}
	if len(trials) < 15 {
		t.Errorf("%d tests", len(trials))
	}
	for _, x := range trials {
		if !x.OK {
			t.Errorf("%s:%d %s: %q\n%s", x.File, x.Line, x.Name, x.Problems, x.Path)
		}
	}
}

// Each expectation can fail, with words that say what happened instead.
func TestTrialsFail(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	conf := write("a.yaml", `windrose: v1
node: { name: n }
listeners: { l: { mqtt: { bind: "127.0.0.1:0", anonymous: true } } }
devices: { d: { when: 'client.id == "d"' } }
acl: [ { allow: publish, topic: "ok/#" } ]
rewrites: [ { topic: "ok/old", to: "ok/new" } ]
pools: { p: { webhook: { urls: ["http://127.0.0.1:1/"] } } }
routes: [ { name: r, topic: "ok/{x}", when: 'event.json.n == 1', to: p } ]
`)
	const given = "tests: [ { name: a test, given: { topic: ok/old, json: { n: 1, l: [1.5, x, null, true] } }, expect: "
	for expect, want := range map[string]string{
		"{ routes: [r], pools: { p: 1 }, topic: ok/new, class: \"\", outcome: accepted }": "",
		"{ routes: [] }":              "expected routes [], got [r]",
		"{ routes: [x] }":             "route x, which the configuration does not have",
		"{ pools: {} }":               "expected pool p to get 0 events, it gets 1",
		"{ pools: { p: 2 } }":         "expected pool p to get 2 events, it gets 1",
		"{ topic: ok/old }":           "expected topic ok/old, got ok/new",
		"{ denied: acl }":             "expected that acl denies it, it was let through",
		"{ class: d }":                `expected device class "d", it is ""`,
		"{ outcome: unauthorized }":   "told unauthorized, it is told accepted",
		"{ class: nix }":              "device class nix, which the configuration does not have",
		"{}":                          "nothing is expected",
		"{ denied: acl, routes: [] }": "an event that is denied is not routed",
		"{ wrong: 1 }":                "unknown key",
	} {
		trials, err := Try(t.Context(), []string{conf}, []string{write("a.test.yaml", given+expect+" } ]\n")})
		got := ""
		var wrong config.Errors
		switch {
		case errors.As(err, &wrong):
			got = wrong.Error()
		case err != nil:
			t.Fatal(err)
		case !trials[0].OK:
			got = strings.Join(trials[0].Problems, "; ")
			if trials[0].Line != 1 || trials[0].Path == "" {
				t.Errorf("%s: %+v", expect, trials[0])
			}
		}
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", expect, got, want)
		}
	}
	denied := write("a.test.yaml", `tests: [ { name: a test, given: { topic: no/1, text: x }, expect: { routes: [r] } } ]`)
	if trials, err := Try(t.Context(), []string{conf}, []string{denied}); err != nil || trials[0].OK || trials[0].Problems[0] != "acl denied it (no rule fits)" {
		t.Errorf("%+v %v", trials, err)
	}
}
