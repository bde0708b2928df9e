package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/windrose-edc/windrose/internal/app"
	"github.com/windrose-edc/windrose/internal/config"
)

// checkDoc is the document of windrose config check.
type checkDoc struct {
	OK     bool         `json:"ok"`
	Files  []string     `json:"files"`
	Errors []checkError `json:"errors"`
}

type checkError struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}

func (e *env) configCommand() *cobra.Command {
	return e.group("config", "Check, compare, lay out, show, keep and convert configurations",
		e.configCheckCommand(), e.configTestCommand(), e.configDiffCommand(), e.configReloadCommand(), e.configFmtCommand(), e.configShowCommand(), e.configSchemaCommand(),
		e.configHistoryCommand(), e.configRollbackCommand(), e.configImportCommand())
}

// configFlag adds -c; files gives what it and the arguments name.
func configFlag(c *cobra.Command) *[]string {
	return c.Flags().StringArrayP("config", "c", nil, "configuration file or folder (repeatable; later ones are merged)")
}

func (e *env) configCheckCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "check [FILE|DIR]...", Short: "Build everything that a configuration names, without listening: nothing is changed",
		Example: "  windrose config check -c windrose.yaml", Args: cobra.ArbitraryArgs,
	}
	named := configFlag(c)
	o := outputFlag(c)
	c.RunE = e.do(func(_ *cobra.Command, args []string) error {
		files := append(*named, args...)
		if len(files) == 0 {
			return usagef("no configuration: name a file or folder with -c")
		}
		err := app.Check(files...)
		if o.format == "table" {
			if err != nil {
				return err
			}
			_, err := fmt.Fprintf(e.out, "ok: %s\n", strings.Join(files, " "))
			return err
		}
		doc := checkDoc{OK: err == nil, Files: files, Errors: checkErrors(err)}
		if err := o.print(e.out, doc, func() table { return table{names: files} }); err != nil {
			return err
		}
		if !doc.OK {
			return &codedError{code: exitError}
		}
		return nil
	})
	return c
}

func checkErrors(err error) []checkError {
	out := []checkError{}
	var wrong config.Errors
	switch {
	case err == nil:
	case errors.As(err, &wrong):
		for _, w := range wrong {
			out = append(out, checkError{w.File, w.Line, w.Col, w.Path, w.Msg, w.Fix})
		}
	default:
		out = append(out, checkError{Message: err.Error()})
	}
	return out
}

func (e *env) configShowCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "show [FILE|DIR]...", Short: "Print the whole configuration with its defaults; secrets by their names", Args: cobra.ArbitraryArgs,
		Example: "  windrose config show -c windrose.yaml --redacted",
		Long: "With --rendered, as is the default, what the environment says is filled in; with --redacted it stays ${env.NAME},\n" +
			"so that the output can be handed to others.",
	}
	named := configFlag(c)
	c.Flags().Bool("rendered", false, "with the values of the environment (default)")
	redacted := c.Flags().Bool("redacted", false, "with the names of environment variables instead of their values")
	c.MarkFlagsMutuallyExclusive("rendered", "redacted")
	c.RunE = e.do(func(_ *cobra.Command, args []string) error {
		files := append(*named, args...)
		if len(files) == 0 {
			return usagef("no configuration: name a file or folder with -c")
		}
		snap, err := app.Load(files...)
		if err != nil {
			return err
		}
		text := snap.Rendered()
		if *redacted {
			text = snap.Redacted()
		}
		_, err = e.out.Write(text)
		return err
	})
	return c
}

func (e *env) configSchemaCommand() *cobra.Command {
	c := &cobra.Command{Use: "schema", Short: "Print the JSON Schema of the configuration", Example: "  windrose config schema > windrose.schema.json", Args: e.args(cobra.NoArgs, "no arguments")}
	c.RunE = e.do(func(*cobra.Command, []string) error {
		_, err := e.out.Write(app.Schema().JSONSchema())
		return err
	})
	return c
}
