package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func (e *env) manCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "man DIR", Short: "Write the man pages of all commands", Example: "  windrose man /usr/local/share/man/man1",
		Args: e.args(cobra.ExactArgs(1), "one folder"),
	}
	c.RunE = e.do(func(cmd *cobra.Command, args []string) error {
		if err := os.MkdirAll(args[0], 0o755); err != nil { //nolint:gosec // man pages are for everybody
			return fmt.Errorf("write man pages: %w", err)
		}
		if err := writeMan(cmd.Root(), args[0]); err != nil {
			return fmt.Errorf("write man pages: %w", err)
		}
		return nil
	})
	return c
}

func writeMan(root *cobra.Command, dir string) error {
	day := time.Unix(0, 0).UTC() // the same pages give the same bytes
	root.DisableAutoGenTag = true
	return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "Windrose", Manual: "Windrose", Date: &day}, dir)
}

// writeReference writes the help of all commands as one page of Markdown.
func writeReference(w io.Writer, root *cobra.Command) error {
	var b bytes.Buffer
	b.WriteString("# Commands\n\nGenerated from the help texts by `go generate ./internal/cli`.\n\n" +
		"Exit codes: 0 done, 1 error, 2 the command line is wrong and nothing was done, 3 a difference was found, 4 unhealthy, 5 some of several things were done.\n" +
		"Results go to stdout, progress and errors to stderr; `-o json` is the document of the API, unchanged.\n")
	var walk func(c *cobra.Command) error
	walk = func(c *cobra.Command) error {
		if !c.IsAvailableCommand() && c != root {
			return nil
		}
		if err := commandReference(&b, c); err != nil {
			return err
		}
		for _, sub := range c.Commands() {
			if err := walk(sub); err != nil {
				return err
			}
		}
		return nil
	}
	if err := walk(root); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

func commandReference(b *bytes.Buffer, c *cobra.Command) error {
	fmt.Fprintf(b, "\n## %s\n\n", c.CommandPath())
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	fmt.Fprintf(b, "%s\n", strings.TrimSuffix(text, "\n"))
	if c.Runnable() {
		fmt.Fprintf(b, "\n```text\n%s\n```\n", c.UseLine())
	}
	if c.Example != "" {
		fmt.Fprintf(b, "\nExamples:\n\n```text\n%s\n```\n", strings.TrimRight(c.Example, "\n"))
	}
	if flags := strings.TrimRight(c.NonInheritedFlags().FlagUsages(), "\n"); flags != "" {
		fmt.Fprintf(b, "\nFlags:\n\n```text\n%s\n```\n", flags)
	}
	if subs := c.Commands(); len(subs) > 0 {
		fmt.Fprint(b, "\nCommands:\n\n")
		for _, s := range subs {
			if s.IsAvailableCommand() {
				fmt.Fprintf(b, "- `%s`: %s\n", s.CommandPath(), s.Short)
			}
		}
	}
	return nil
}
