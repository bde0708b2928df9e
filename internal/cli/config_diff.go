package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/windrose-edc/windrose/internal/app"
	"github.com/windrose-edc/windrose/internal/config"
)

func (e *env) configDiffCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "diff OLD NEW", Short: "Say what would change from one configuration to another (exit code 3: something)",
		Args: e.args(cobra.ExactArgs(2), "two files or folders"),
	}
	c.RunE = e.do(func(_ *cobra.Command, args []string) error {
		from, err := app.Load(args[0])
		if err != nil {
			return err
		}
		to, err := app.Load(args[1])
		if err != nil {
			return err
		}
		changes := config.Diff(from, to)
		for _, ch := range changes {
			fmt.Fprintln(e.out, ch)
		}
		if len(changes) > 0 {
			return &codedError{code: exitDifference}
		}
		return nil
	})
	return c
}
