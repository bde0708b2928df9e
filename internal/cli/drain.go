package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/windrose-edc/windrose/internal/admin"
)

// drainLook is how often a drain is asked how far it is.
const drainLook = time.Second

// pause waits, at most until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (e *env) drainCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "drain", Short: "Have a node let go of all its clients and take no new ones; with --undo take them again",
		Long:    "The node is not ready any more, opens no sessions, and closes its connections at the rate of node.drain.rate. It goes on\nrunning, and sessions stay. The verb waits until all connections are closed.",
		Example: "  windrose drain\n  windrose drain --undo", Args: e.args(cobra.NoArgs, "no arguments"),
	}
	f := addAdminFlags(c)
	undo := c.Flags().Bool("undo", false, "take clients again")
	noWait := c.Flags().Bool("no-wait", false, "do not wait until all connections are closed")
	o := outputFlag(c)
	c.RunE = e.do(func(cmd *cobra.Command, _ []string) error {
		node, err := f.client()
		if err != nil {
			return err
		}
		method := "POST"
		if *undo {
			method = "DELETE"
		}
		var d admin.Drain
		if _, err := node.do(cmd.Context(), method, "/api/v1/drain", "", nil, &d); err != nil {
			return err
		}
		for !*undo && !*noWait && d.State == "draining" {
			fmt.Fprintf(e.err, "%d connections left\n", d.Connections)
			if err := pause(cmd.Context(), drainLook); err != nil {
				return err
			}
			if _, err := node.get(cmd.Context(), "/api/v1/drain", nil, &d); err != nil {
				return err
			}
		}
		return o.print(e.out, d, func() table {
			return table{rows: [][]string{{d.State, count(d.Connections, "connection") + " left"}}, names: []string{d.State}}
		})
	})
	return c
}
