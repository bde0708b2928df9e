package e2e

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windrose-edc/windrose/e2e/need"
)

// block is one fenced block of a document.
type block struct {
	where string // file, for messages
	info  string // the words after the fence
	text  string
}

// file is the name that a block gives its text: the last word of `yaml windrose NAME` and of `LANGUAGE file NAME`.
func (b *block) file() string {
	words := strings.Fields(b.info)
	if len(words) == 3 && (words[0] == "yaml" && words[1] == "windrose" || words[1] == "file") {
		return words[2]
	}
	return ""
}

// blocks reads the fenced blocks of README.md, CONTRIBUTING.md and docs.
func blocks(t *testing.T) []block {
	t.Helper()
	files, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir("../docs", func(name string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(name, ".md") {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var out []block
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var b *block
		for line := range strings.Lines(string(text)) {
			info, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
			switch {
			case fence && b == nil:
				b = &block{where: strings.TrimPrefix(f, "../"), info: strings.TrimSpace(info)}
			case fence:
				out = append(out, *b)
				b = nil
			case b != nil:
				b.text += line
			}
		}
	}
	return out
}

// TestExamples runs what the documents show: the shell blocks beside a fresh `windrose dev` on its default ports, or a
// `windrose run` with a configuration of the same document, in a network and a folder of their own that holds the files of
// the document; the YAML blocks through `windrose config check`.
func TestExamples(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers; not in -short")
	}
	shells, yamls := 0, 0
	all := blocks(t)
	for _, b := range all {
		files := map[string]string{} // those that the same document names
		for _, f := range all {
			if f.where == b.where && f.file() != "" {
				files[f.file()] = f.text
			}
		}
		config, with := strings.CutPrefix(b.info, "sh test with ")
		switch {
		case b.info == "sh test":
			shells++
			t.Run(b.where+"/sh", func(t *testing.T) { runShell(t, "dev", b.text, files) })
		case with:
			shells++
			t.Run(b.where+"/sh", func(t *testing.T) { runShell(t, "run -c "+config, b.text, files) })
		case b.info == "yaml windrose" || strings.HasPrefix(b.info, "yaml windrose "):
			yamls++
			t.Run(b.where+"/yaml", func(t *testing.T) { checkConfig(t, b.text) })
		}
	}
	if shells == 0 || yamls == 0 {
		t.Errorf("%d shell and %d YAML examples run, want some of each", shells, yamls)
	}
}

// beside starts the product the way `make run` does, runs the example and ends the product.
const beside = `set -eu
ip link set lo up
windrose $WINDROSE_RUN >dev.log 2>&1 &
dev=$!
i=0
until windrose health >/dev/null 2>&1; do
	i=$((i + 1))
	[ $i -lt 200 ] || { cat dev.log; exit 1; }
	sleep 0.1
done
sh -eu example.sh
kill $dev
wait $dev
`

func runShell(t *testing.T, verb, text string, files map[string]string) {
	need.Program(t, "mosquitto_pub")
	argv := append(need.Namespace(t), "sh", "beside.sh")
	dir := t.TempDir()
	all := maps.Clone(files)
	all["beside.sh"], all["example.sh"] = beside, text
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+build(t)+":"+os.Getenv("PATH")+":/usr/sbin:/sbin", "HOME="+dir, "WINDROSE_RUN="+verb)
	out, err := cmd.CombinedOutput()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "dev.log"))
		t.Fatalf("%v\n%s\nthe product's output:\n%s", err, out, log)
	}
	t.Logf("%s", out)
}

func checkConfig(t *testing.T, text string) {
	dir := t.TempDir()
	file := filepath.Join(dir, "windrose.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(filepath.Join(build(t), "windrose"), "config", "check", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
