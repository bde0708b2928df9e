package app

import (
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write the generated documents")

// The reference and the example are generated from the modules' own declarations.
func TestReferenceIsCurrent(t *testing.T) {
	for name, want := range map[string][]byte{
		"../../docs/reference/config.md":    schema().Reference(),
		"../../docs/reference/example.yaml": schema().Example(),
	} {
		if *update {
			if err := os.WriteFile(name, want, 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s is not current: run make generate", name)
		}
	}
}
