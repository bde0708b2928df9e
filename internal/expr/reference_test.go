package expr

import (
	"flag"
	"os"
	"strings"
	"testing"
)

//go:generate go test . -run TestReferenceIsCurrent -update

var update = flag.Bool("update", false, "write the generated documents")

// The reference is made of the declarations.
func TestReferenceIsCurrent(t *testing.T) {
	const name = "../../docs/reference/expressions.md"
	if *update {
		if err := os.WriteFile(name, Reference(), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(Reference()) {
		t.Errorf("%s is not current: run make generate", name)
	}
}

// Every function that can be called is in the reference.
func TestReferenceHasEveryFunction(t *testing.T) {
	var all strings.Builder
	for _, f := range functions {
		all.WriteString(" " + f.call + f.doc)
	}
	for _, n := range functionNames() {
		if !strings.Contains(all.String(), n+"(") && !strings.Contains(all.String(), n) {
			t.Errorf("%s is not in the reference", n)
		}
	}
}
