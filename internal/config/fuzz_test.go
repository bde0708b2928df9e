package config

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// FuzzLoad: whatever the bytes are, there is no panic and no long wait; errors have places in the file; no secret is
// shown; and what is read means the same when it is written and read again.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/errors/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, "testdata/fleet.yaml", "testdata/example.yaml") {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		if file == "testdata/example.yaml" {
			f.Add(uncomment(b))
		}
	}
	schema := fleetSchema()
	f.Fuzz(func(t *testing.T, b []byte) { checkLoad(t, schema, b) })
}

// TestLoadOfChangedFleets is FuzzLoad with files that are nearly right: words of the fleet replaced, dropped, doubled
// or swapped.
func TestLoadOfChangedFleets(t *testing.T) {
	b, err := os.ReadFile("testdata/fleet.yaml")
	if err != nil {
		t.Fatal(err)
	}
	words := regexp.MustCompile(`[A-Za-z0-9_./-]+|\s+|.`).FindAllString(string(b), -1)
	others := append([]string{"", "~", "null", "yes", "true", "0", "-1", "017", "1e9", "1.5", "30s", "64KiB", "50/s", "1..2", "[]", "{}", "[a]", "{a: b}", "*a", "&a", "<<", "!x",
		"\t", "\n", "\"", "'", "#", "${env.TEN}", "\"${env.HOSTNAME}\"", "x${env.TEN}", "\u00e9", "\u2028", strings.Repeat("x", 300)}, words[:200]...)
	schema := fleetSchema()
	rapid.Check(t, func(rt *rapid.T) {
		doc := slices.Clone(words)
		for range rapid.IntRange(1, 4).Draw(rt, "changes") {
			at := rapid.IntRange(3, len(doc)-2).Draw(rt, "at")
			switch rapid.IntRange(0, 3).Draw(rt, "how") {
			case 0:
				doc[at] = rapid.SampledFrom(others).Draw(rt, "word")
			case 1:
				doc[at] = ""
			case 2:
				doc[at] += doc[at]
			case 3:
				doc[at], doc[at+1] = doc[at+1], doc[at]
			}
		}
		checkLoad(rt, schema, []byte(strings.Join(doc, "")))
	})
}

// checkLoad holds one file against the promises of FuzzLoad.
func checkLoad(t interface {
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}, schema *Schema, b []byte) {
	start := time.Now()
	s, err := schema.LoadBytes("f.yaml", b, fleetEnv)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("%d bytes took %v", len(b), took)
	}
	if err != nil {
		var errs Errors
		if !errors.As(err, &errs) || len(errs) == 0 || len(errs) > maxErrors+1 {
			t.Fatalf("not Errors: %v", err)
		}
		lines := strings.Count(string(b), "\n") + strings.Count(string(b), "\r") + strings.Count(string(b), "\u0085") +
			strings.Count(string(b), "\u2028") + strings.Count(string(b), "\u2029") + 2
		for _, e := range errs {
			if strings.Contains(e.Error(), "user:pass") && !strings.Contains(string(b), "user:pass") {
				t.Errorf("a secret is shown: %v", e)
			}
			if e.Line > lines {
				t.Errorf("line %d of %d: %v", e.Line, lines, e)
			}
		}
		return
	}
	again, err := schema.LoadBytes("again.yaml", s.Rendered(), fleetEnv)
	if err != nil {
		if strings.Contains(err.Error(), "{ secret: NAME }") || strings.Contains(err.Error(), "${env.") {
			return // names of secrets cannot be read again, nor what looks like an environment value
		}
		t.Fatalf("written:\n%s\nread again: %v", s.Rendered(), err)
	}
	if again.Hash() != s.Hash() {
		t.Errorf("written:\n%s\nread again:\n%s", s.Rendered(), again.Rendered())
	}
	for _, c := range Diff(s, s) {
		t.Errorf("differs from itself: %s", c)
	}
}
