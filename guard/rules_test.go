package guard

import (
	"strings"
	"testing"
)

// Each rule finds what it is for: a sample that breaks it, and one that does not.
func TestRulesCanFail(t *testing.T) {
	first := func(f func(*tree) ([]finding, int)) func(*tree) []finding {
		return func(t *tree) []finding { out, _ := f(t); return out }
	}
	files := func(t *tree) []finding { bad, _ := checkFiles(t); return bad }
	imp := func(p string) string { return "\nimport _ \"" + module + "/" + p + "\"\n" }
	const outcomeFile = "package event\ntype Outcome uint8\nconst (\nAccepted Outcome = iota\nNoMatch\nNumOutcomes\n)\n"

	tests := []struct {
		name      string
		rule      func(*tree) []finding
		path      string
		bad, good string
		want      string
		more      map[string]string
	}{
		{"an import upwards", checkEdges, "internal/route/a.go",
			"package route" + imp("internal/session/x"), "package route" + imp("internal/event"), "has no layer", nil},
		{"an import of a higher layer", checkEdges, "internal/route/a.go",
			"package route" + imp("internal/admin"), "package route" + imp("internal/loop"), "downwards", nil},
		{"an import of a sibling", checkEdges, "internal/protocol/coap/a.go",
			"package coap" + imp("internal/protocol/mqtt"), "package coap" + imp("internal/protocol/coap/wire"), "siblings", nil},
		{"an import without a reason", checkEdges, "internal/route/a.go",
			"package route" + imp("internal/pool"), "package route" + imp("internal/observe"), "no reason", nil},
		{"a module in layer 0", checkEvent, "internal/event/a.go",
			"package event\nimport _ \"golang.org/x/sys/cpu\"", "package event\nimport _ \"unicode/utf8\"", "standard library", nil},
		{"an import of nats outside fabric", checkForbidden, "internal/pool/a.go",
			"package pool\nimport _ \"github.com/nats-io/nats.go\"", "package pool\nimport _ \"log/slog\"", "only internal/fabric", nil},
		{"the old logger", checkForbidden, "internal/pool/a.go",
			"package pool\nimport _ \"log\"", "package pool\nimport _ \"log/slog\"", "log/slog", nil},
		{"no package comment", checkPackageDocs, "internal/pool/a.go",
			"package pool", "// Package pool is.\npackage pool", "no comment", nil},
		{"no section on concurrency", checkPackageDocs, "internal/pool/a.go",
			"// Package pool is.\npackage pool\nimport _ \"sync\"", "// Package pool is.\n//\n// # Concurrency\n//\n// Yes.\npackage pool\nimport _ \"sync\"",
			"# Concurrency", nil},
		{"a lock without an owner", checkOwnership, "internal/pool/a.go",
			"package pool\n// P is.\ntype P struct{ mu sync.Mutex }", "package pool\n// P is. Guarded by mu.\ntype P struct{ mu sync.Mutex }", "who owns", nil},
		{"a method that writes, without an owner", checkOwnership, "internal/pool/a.go",
			"package pool\n// P is.\ntype P[T any] struct{ n []int }\nfunc (p *P[T]) f() { p.n[0]++ }",
			"package pool\n// P is.\ntype P struct{ n int }\nfunc (p *P) f() int { return p.n }", "who owns", nil},
		{"init", checkInit, "internal/pool/a.go", "package pool\nfunc init() {}", "package pool\nfunc (p) init() {}", "no init", nil},
		{"a package named util", checkInit, "internal/util/a.go", "package util", "package pool", "package util", nil},
		{"a long file", files, "internal/pool/a.go",
			"package pool" + strings.Repeat("\n", linesMax+1), "package pool" + strings.Repeat("\n", linesMax), "lines", nil},
		{"a panic", checkPanics, "internal/pool/a.go",
			"package pool\nfunc f() {\n\tpanic(1)\n}", "package pool\nfunc f() {\n\tpanic(1) // cannot be\n}", "panic", nil},
		{"a goroutine nobody waits for", checkGo, "internal/pool/a.go",
			"package pool\nfunc f() { go g() }", "package pool\nfunc f() { wg.Go(g) }", "wait group", nil},
		{"something left to do", checkUnfinished, "internal/pool/a.go",
			"package pool // TO" + "DO: more", "package pool // done", "issue", nil},
		{"an error that failed", checkErrors, "internal/pool/a.go",
			"package pool\nvar e = fmt.Errorf(\"failed to open: %w\", x)", "package pool\nvar e = fmt.Errorf(\"open: %w\", x)", "failed to", nil},
		{"a table without a row", checkOutcomes, "internal/protocol/coap/outcome.go",
			"package coap\nvar t = [...]int{event.Accepted: 1}", "package coap\nvar t = [...]int{event.Accepted: 1, event.NoMatch: 2}", "event.NoMatch",
			map[string]string{"internal/event/outcome.go": outcomeFile}},
		{"a protocol without a table", checkOutcomes, "internal/protocol/coap/outcome.go",
			"package coap", "package coap\nvar t = [...]int{event.Accepted: 1, event.NoMatch: 2}", "no table",
			map[string]string{"internal/event/outcome.go": outcomeFile}},
		{"a counter without total", first(checkMetrics), "internal/pool/a.go",
			"package pool\nvar c = r.Counter(\"windrose_pool_sent_events\", \"Sent.\")",
			"package pool\nvar c = r.Counter(\"windrose_pool_sent_events_total\", \"Sent.\")", "_total", nil},
		{"a label for clients", first(checkMetrics), "internal/pool/a.go",
			"package pool\nvar c = r.Counter(\"windrose_pool_sent_events_total\", \"Sent.\", \"client\", x)",
			"package pool\nvar c = r.Counter(\"windrose_pool_sent_events_total\", \"Sent.\", \"pool\", x)", "closed set", nil},
		{"a key without documentation", first(checkConfigDocs), "internal/pool/a.go",
			"package pool\ntype s struct{ A int `yaml:\"a\"` }", "package pool\ntype s struct{ A int `yaml:\"a\" doc:\"How many.\"` }", "no doc tag", nil},
		{"a module known elsewhere", checkCost, "internal/admin/a.go",
			"package admin\nvar x = \"coap\"", "package admin\nvar x = \"coaps\"", "one line",
			map[string]string{"internal/protocol/coap/a.go": "package coap"}},
		{"a module that is not listed", checkCost, builtin,
			"package app", "package app" + imp("internal/protocol/coap"), "does not list",
			map[string]string{"internal/protocol/coap/a.go": "package coap"}},
		{"a shell example that nobody runs", func(t *tree) []finding { return checkExamples("a.md", string(t.files[0].text)) }, "a.go",
			"package a\n/*\n```sh\nls\n```\n*/", "package a\n/*\n```sh test\nls\n```\n*/", "sh test", nil},
		{"a path of a machine", func(t *tree) []finding { return checkHygiene("a", t.files[0].text) }, "a.go",
			"package a // see /ho" + "me/joe/x", "package a // see /etc/windrose", "machine", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run := func(text string) []finding {
				tr := &tree{}
				if err := tr.add(tt.path, []byte(text)); err != nil {
					t.Fatal(err)
				}
				for name, text := range tt.more {
					if err := tr.add(name, []byte(text)); err != nil {
						t.Fatal(err)
					}
				}
				return tt.rule(tr)
			}
			found := run(tt.bad)
			if len(found) == 0 {
				t.Fatal("the rule finds nothing")
			}
			if !strings.Contains(found[0].String(), tt.want) {
				t.Errorf("found %q, want something with %q", found[0], tt.want)
			}
			if found := run(tt.good); len(found) != 0 {
				t.Errorf("the rule refuses what is right: %v", found)
			}
		})
	}
}
