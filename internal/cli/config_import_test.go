package cli

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windrose-edc/windrose/internal/app"
	"github.com/windrose-edc/windrose/internal/config"
)

var update = flag.Bool("update", false, "write the .want files anew")

// TestImportMosquitto holds what realistic files become and what is said about them, and that the result is valid.
func TestImportMosquitto(t *testing.T) {
	files, err := filepath.Glob("testdata/mosquitto/*.conf")
	if err != nil || len(files) < 5 {
		t.Fatalf("found %d files: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".conf"), func(t *testing.T) {
			target := filepath.Join(t.TempDir(), "windrose.yaml")
			code, out, said := verb(t, "", "config", "import", file, "--out", target)
			if code != exitOK || out != "" {
				t.Fatalf("exit code %d\n%s%s", code, out, said)
			}
			text, err := os.ReadFile(target)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text)+said, "hunter2") {
				t.Errorf("a password is shown:\n%s%s", text, said)
			}
			code, shown, _ := verb(t, "", "config", "import", file)
			if code != exitOK || shown != string(text) {
				t.Errorf("without --out (exit code %d):\n%s", code, shown)
			}
			if again, err := config.Format(target, text); err != nil || !bytes.Equal(again, text) {
				t.Errorf("not laid out: %v", err)
			}
			check := func(files ...string) error { return app.Check(files...) }
			if strings.Contains(string(text), "/etc/mosquitto/") { // certificates that are not on this machine
				check = func(files ...string) error { _, err := app.Load(files...); return err }
			}
			if err := check(target); err != nil {
				t.Errorf("the result is not valid: %v\n%s", err, text)
			}
			for line := range strings.Lines(said) {
				if !strings.Contains(strings.Join(strings.Fields(string(text)), " "), strings.Join(strings.Fields(line), " ")) {
					t.Errorf("said, but not written as a comment: %s", line)
				}
			}
			want := strings.TrimSuffix(file, ".conf") + ".want"
			if *update {
				if err := os.WriteFile(want, text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			b, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if string(b) != string(text) {
				t.Errorf("%s differs (go test -update writes it anew):\n%s", want, text)
			}
			if code, _, said := verb(t, "", "config", "import", file, "--out", target); code != exitError || !strings.Contains(said, "exists") {
				t.Errorf("a file is overwritten: %d %s", code, said)
			}
		})
	}
}

// verb runs one command line.
func verb(t *testing.T, in string, args ...string) (code int, out, said string) {
	t.Helper()
	var o, e bytes.Buffer
	world := &env{in: strings.NewReader(in), out: &o, err: &e, exit: func(int) { t.Error("the process was ended") }}
	code = world.run(context.WithoutCancel(t.Context()), args)
	return code, o.String(), e.String()
}
