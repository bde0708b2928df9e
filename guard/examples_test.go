package guard

import (
	"fmt"
	"strings"
	"testing"
)

// The words after the language of a fenced block in README and docs. e2e runs the first two (CONTRIBUTING.md, "Examples
// are tests").
//
//	```sh test            run by a shell beside a running `windrose dev`, on the default ports
//	```sh test with FILE  the same beside `windrose run -c FILE`, a file of the same document
//	```yaml windrose      a configuration that `windrose config check` accepts
//	```yaml windrose FILE the same, and a file beside the shell blocks of its document
//	```python file FILE   a file beside them, in any language
//	```sh untested: why   not run, with the reason
//
// A block in another language (text, console, go, ...) is a picture.
func checkExamples(name, text string) []finding {
	var out []finding
	open := false
	for i, line := range strings.Split(text, "\n") {
		info, ok := strings.CutPrefix(strings.TrimSpace(line), "```")
		if !ok {
			continue
		}
		if open {
			open = false
			continue
		}
		open = true
		lang, rest, _ := strings.Cut(info, " ")
		rest = strings.TrimSpace(rest)
		reason, untested := strings.CutPrefix(rest, "untested:")
		var bad string
		switch {
		case lang == "":
			bad = "a block without a language"
		case untested && len(strings.TrimSpace(reason)) < 10:
			bad = "untested without a reason"
		case untested:
		case (lang == "sh" || lang == "bash" || lang == "shell") && rest != "test" && !fileAfter(rest, "test with"):
			bad = "a shell block is `sh test` or `sh untested: why`"
		case (lang == "yaml" || lang == "yml") && rest != "windrose" && !fileAfter(rest, "windrose") && !fileAfter(rest, "file"):
			bad = "a YAML block is `yaml windrose` or `yaml untested: why`"
		}
		if bad != "" {
			out = append(out, finding{fmt.Sprintf("%s:%d", name, i+1), bad})
		}
	}
	return out
}

// fileAfter says whether rest is these words and the name of a file.
func fileAfter(rest, words string) bool {
	name, ok := strings.CutPrefix(rest, words+" ")
	return ok && name != "" && !strings.ContainsAny(name, " /")
}

func TestExamplesAreRun(t *testing.T) {
	runs := 0
	walk(t, func(name string, text []byte) {
		if strings.HasSuffix(name, ".md") && !strings.HasPrefix(name, "bench/") {
			report(t, checkExamples(name, string(text)))
			runs += strings.Count(string(text), "```sh test")
		}
	})
	if runs == 0 {
		t.Error("no example of README or docs is run")
	}
}
