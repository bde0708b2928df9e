package app

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windrose-edc/windrose/internal/config"
)

// TestBrokenConfigurations holds what is said about mistakes that people make in every section: the place, what was
// expected, and what to write instead.
func TestBrokenConfigurations(t *testing.T) {
	files, err := filepath.Glob("testdata/broken/*.yaml")
	if err != nil || len(files) < 40 {
		t.Fatalf("found %d files: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = schema().LoadBytes(filepath.Base(file), b, func(name string) (string, bool) { return "x", name == "HOME" })
			var wrong config.Errors
			if !errors.As(err, &wrong) {
				t.Fatalf("it is not refused: %v", err)
			}
			for _, w := range wrong {
				if w.Line < 2 || w.Col < 1 || w.Line > strings.Count(string(b), "\n")+1 {
					t.Errorf("no place: %v", w)
				}
				if strings.Contains(w.Error(), "hunter2") {
					t.Errorf("a secret is shown: %v", w)
				}
			}
			want := strings.TrimSuffix(file, ".yaml") + ".want"
			if *update {
				if err := os.WriteFile(want, []byte(err.Error()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			text, readErr := os.ReadFile(want)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if string(text) != err.Error()+"\n" {
				t.Errorf("%s differs (go test -run TestBroken -update writes it anew):\n%v", want, err)
			}
		})
	}
}
