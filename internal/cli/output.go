package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// table is a document as people read it: rows of columns, and the names alone.
type table struct {
	header []string
	rows   [][]string
	names  []string
}

// output is the flag -o of a read verb. Owned by the goroutine of Main.
type output struct {
	format  string
	allowed []string
}

// outputFlag adds -o to c.
func outputFlag(c *cobra.Command) *output {
	o := &output{format: "table", allowed: []string{"table", "json", "yaml", "name"}}
	c.Flags().VarP(o, "output", "o", "how to print: table, json, yaml or name")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(o.allowed, cobra.ShellCompDirectiveNoFileComp)) // the flag is there, once
	return o
}

// String, Set and Type implement pflag.Value: a wrong format is an error of usage before anything is done.
func (o *output) String() string { return o.format }

// Set implements pflag.Value.
func (o *output) Set(s string) error {
	if !slices.Contains(o.allowed, s) {
		return fmt.Errorf("want %s", strings.Join(o.allowed, ", "))
	}
	o.format = s
	return nil
}

// Type implements pflag.Value.
func (o *output) Type() string { return "format" }

// print writes doc as it is (json, yaml) or the table made of it.
func (o *output) print(w io.Writer, doc any, asTable func() table) error {
	switch o.format {
	case "json":
		return printJSON(w, doc)
	case "yaml":
		return printYAML(w, doc)
	}
	t := asTable()
	if o.format == "name" {
		for _, n := range t.names {
			if _, err := fmt.Fprintln(w, n); err != nil {
				return fmt.Errorf("write output: %w", err)
			}
		}
		return nil
	}
	_, err := io.WriteString(w, t.String())
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

func printJSON(w io.Writer, doc any) error {
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	if _, err := w.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// printYAML goes by way of JSON, so that both have the same keys in the same order.
func printYAML(w io.Writer, doc any) error {
	b, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	var n yaml.Node
	if err := yaml.Unmarshal(b, &n); err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	plain(&n)
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&n); err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	if _, err := w.Write(out.Bytes()); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// plain takes JSON's braces and quotes off. A text that would read as something else keeps its quotes.
func plain(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		plain(c)
	}
}

// String aligns the columns, two spaces apart.
func (t table) String() string {
	rows := t.rows
	if len(t.header) > 0 {
		rows = append([][]string{t.header}, rows...)
	}
	var width []int
	for _, r := range rows {
		for i, cell := range r {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, r := range rows {
		var line strings.Builder
		for i, cell := range r {
			line.WriteString(cell)
			if i < len(r)-1 {
				line.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}
