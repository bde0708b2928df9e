package mqtt

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The table of normative statements in docs/protocols/mqtt.md names tests and scripts that exist.
func TestStatementsAreShownByTests(t *testing.T) {
	const root = "../../.."
	doc, err := os.ReadFile(root + "/docs/protocols/mqtt.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, pattern := range []string{"internal/protocol/mqtt/*_test.go", "internal/protocol/mqtt/wire/*_test.go", "internal/ws/*_test.go", "internal/session/*_test.go", "e2e/*_test.go"} {
		files, err := filepath.Glob(root + "/" + pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(b, -1) {
				known[string(m[1])] = true
			}
		}
	}
	scripts, _ := filepath.Glob("testdata/script/*.txt")
	for _, f := range scripts {
		known[strings.TrimSuffix(filepath.Base(f), ".txt")] = true
	}
	_, table, _ := strings.Cut(string(doc), "\n## Every normative statement\n")
	table, _, _ = strings.Cut(table, "\n## ")
	rows := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || !regexp.MustCompile(`^ \d`).MatchString(cells[1]) {
			continue
		}
		rows++
		names := regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[4], -1)
		if len(names) == 0 && strings.HasPrefix(cells[3], " yes") {
			t.Errorf("no test: %s", line)
		}
		for _, m := range names {
			if !known[m[1]] {
				t.Errorf("%s: there is no test or script of that name", m[1])
			}
		}
	}
	if rows < 100 {
		t.Errorf("%d rows", rows)
	}
}
