package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the .want files anew")

// golden compares got with a file; -update writes it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it anew):\n--- got\n%s\n--- want\n%s", file, got, want)
	}
}

// TestErrorTexts holds what is said about broken files: one .want per file of testdata/errors.
func TestErrorTexts(t *testing.T) {
	files, err := filepath.Glob("testdata/errors/*.yaml")
	if err != nil || len(files) < 40 {
		t.Fatalf("found %d files: %v", len(files), err)
	}
	env := func(name string) (string, bool) {
		if name == "WEAK" {
			return "bad \"hunter2\"", true
		}
		return fleetEnv(name)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = fleetSchema().LoadBytes(filepath.Base(file), b, env)
			var errs Errors
			if !errors.As(err, &errs) {
				t.Fatalf("got %v, want Errors", err)
			}
			for _, e := range errs {
				if e.Line < 1 || e.Col < 1 {
					t.Errorf("no place: %v", e)
				}
				for _, word := range []string{"hunter2", "123456"} {
					if strings.Contains(e.Error(), word) {
						t.Errorf("shows a secret: %v", e)
					}
				}
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".want", err.Error()+"\n")
		})
	}
}
