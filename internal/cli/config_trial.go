package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/windrose-edc/windrose/internal/app"
)

// trialDoc is the document of windrose config test.
type trialDoc struct {
	OK     bool        `json:"ok"`
	Passed int         `json:"passed"`
	Failed int         `json:"failed"`
	Tests  []app.Trial `json:"tests"`
}

func (e *env) configTestCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "test [FILE.test.yaml]...", Short: "Run the tests of a configuration: what becomes of single events", Args: cobra.ArbitraryArgs,
		Long: "Each test gives an event and says what becomes of it. The event walks as a published one does (see explain), and nothing is\n" +
			"sent. Without test files those beside the configuration are run: windrose.test.yaml beside windrose.yaml, all *.test.yaml of\n" +
			"a folder. Without -c a test file belongs to the configuration of its name. A test that fails makes the exit code 1.",
		Example: "  windrose config test -c windrose.yaml\n  windrose config test fleet.test.yaml -o json",
	}
	named := configFlag(c)
	verbose := c.Flags().BoolP("verbose", "v", false, "with the decision path of tests that fail")
	o := outputFlag(c)
	c.RunE = e.do(func(cmd *cobra.Command, tests []string) (err error) {
		configs := *named
		if len(configs) == 0 {
			for _, t := range tests {
				base, ok := strings.CutSuffix(t, ".test.yaml")
				if !ok {
					return usagef("%s is not NAME.test.yaml: name the configuration with -c", t)
				}
				configs = append(configs, base+".yaml")
			}
		}
		switch {
		case len(configs) == 0:
			return usagef("no configuration: name a file or folder with -c, or a test file")
		case len(*named) == 0 && len(configs) > 1:
			return usagef("several test files belong to several configurations: name one with -c")
		}
		if len(tests) == 0 {
			if tests, err = app.TestFiles(configs...); err != nil {
				return err
			}
			if len(tests) == 0 {
				return fmt.Errorf("no tests beside %s: write NAME.test.yaml", strings.Join(configs, " "))
			}
		}
		trials, err := app.Try(cmd.Context(), configs, tests)
		if err != nil {
			return err
		}
		doc := trialDoc{Tests: trials}
		for _, t := range trials {
			if t.OK {
				doc.Passed++
			} else {
				doc.Failed++
			}
		}
		doc.OK = doc.Failed == 0 && doc.Passed > 0
		if o.format == "table" {
			_, err = e.out.Write([]byte(doc.text(*verbose)))
		} else {
			err = o.print(e.out, doc, func() table {
				var t table
				for _, x := range trials {
					if !x.OK {
						t.names = append(t.names, x.Name)
					}
				}
				return t
			})
		}
		if err != nil {
			return err
		}
		if !doc.OK {
			return &codedError{code: exitError}
		}
		return nil
	})
	return c
}

// text is the document as people read it.
func (d *trialDoc) text(verbose bool) string {
	var b strings.Builder
	for _, t := range d.Tests {
		if t.OK {
			fmt.Fprintf(&b, "ok      %s\n", t.Name)
			continue
		}
		fmt.Fprintf(&b, "FAILED  %s  (%s:%d)\n", t.Name, t.File, t.Line)
		for _, p := range t.Problems {
			fmt.Fprintf(&b, "        %s\n", p)
		}
		if verbose {
			for line := range strings.Lines(t.Path) {
				b.WriteString("        | " + line)
			}
		}
	}
	fmt.Fprintf(&b, "%d passed, %d failed\n", d.Passed, d.Failed)
	return b.String()
}
