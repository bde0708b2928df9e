package e2e

import (
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

// TestExamples runs what the documents show: the shell blocks beside a fresh `windrose dev` on its default ports, in a
// network of their own; the YAML blocks through `windrose config check`.
func TestExamples(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers; not in -short")
	}
	shells, yamls := 0, 0
	for _, b := range blocks(t) {
		switch b.info {
		case "sh test":
			shells++
			t.Run(b.where+"/sh", func(t *testing.T) { runShell(t, b.text) })
		case "yaml windrose":
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
windrose dev >dev.log 2>&1 &
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

func runShell(t *testing.T, text string) {
	need.Program(t, "mosquitto_pub")
	argv := append(need.Namespace(t), "sh", "beside.sh")
	dir := t.TempDir()
	for name, text := range map[string]string{"beside.sh": beside, "example.sh": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+build(t)+":"+os.Getenv("PATH")+":/usr/sbin:/sbin", "HOME="+dir)
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
