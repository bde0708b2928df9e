package cli

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

//go:generate go test . -run TestReferenceIsCurrent -update

const reference = "../../docs/reference/cli.md"

func tree(t *testing.T) *cobra.Command {
	t.Helper()
	e := &env{in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	root := e.root()
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	return root
}

func TestReferenceIsCurrent(t *testing.T) {
	var b bytes.Buffer
	if err := writeReference(&b, tree(t)); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(reference, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	was, err := os.ReadFile(reference)
	if err != nil || !bytes.Equal(was, b.Bytes()) {
		t.Errorf("%s is not what the help texts say (%v): go generate ./internal/cli", reference, err)
	}
}

// TestEveryVerbExplainsItself: a line, a man page and an example that begins with the verb itself.
func TestEveryVerbExplainsItself(t *testing.T) {
	root := tree(t)
	dir := t.TempDir()
	if err := writeMan(root, dir); err != nil {
		t.Fatal(err)
	}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, s := range c.Commands() {
			walk(s)
		}
		if !c.IsAvailableCommand() || c == root || c.Name() == "help" || strings.HasPrefix(c.CommandPath(), "windrose completion") {
			return
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: the line of help is %q", c.CommandPath(), c.Short)
		}
		if !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s: no example in its help", c.CommandPath())
		}
		page := filepath.Join(dir, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1")
		b, err := os.ReadFile(page)
		if err != nil || !bytes.Contains(b, []byte(".SH SYNOPSIS")) {
			t.Errorf("%s: no man page (%v)", c.CommandPath(), err)
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s: --%s has no help", c.CommandPath(), f.Name)
			}
		})
	}
	walk(root)
}
