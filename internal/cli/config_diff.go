package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/windrose-edc/windrose/internal/admin"
	"github.com/windrose-edc/windrose/internal/app"
)

func (e *env) configDiffCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "diff [OLD] NEW", Short: "Say what a reload would do (exit code 3: something)",
		Long: "With two files or folders: what becomes of a node that runs OLD when NEW takes its place.\n" +
			"With one: the same for the node that runs now, with the connections, sessions and events that are concerned.",
		Example: "  windrose config diff windrose.yaml new.yaml\n  windrose config diff /etc/windrose/windrose.yaml",
		Args:    e.args(cobra.RangeArgs(1, 2), "one or two files or folders"),
	}
	f := addAdminFlags(c)
	o := outputFlag(c)
	c.RunE = e.do(func(cmd *cobra.Command, args []string) error {
		plan, err := f.plan(cmd.Context(), args)
		if err != nil {
			return err
		}
		if err := o.print(e.out, plan, func() table { return planTable(plan) }); err != nil {
			return err
		}
		if len(plan.Steps) > 0 {
			return &codedError{code: exitDifference}
		}
		return nil
	})
	return c
}

func planTable(p *app.Plan) table {
	t := table{}
	for i, line := range p.Lines() {
		t.rows = append(t.rows, []string{line})
		t.names = append(t.names, strings.TrimSuffix(p.Steps[i].Section+"."+p.Steps[i].Name, "."))
	}
	return t
}

// plan compares two configurations, or one with what a node runs.
func (f *adminFlags) plan(ctx context.Context, args []string) (*app.Plan, error) {
	to, err := app.Load(args[len(args)-1])
	if err != nil {
		return nil, err
	}
	if len(args) == 2 {
		from, err := app.Load(args[0])
		if err != nil {
			return nil, err
		}
		return app.Diff(from, to), nil
	}
	root, err := filepath.Abs(args[0])
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", args[0], err)
	}
	var body struct {
		Roots []string           `json:"roots"`
		Files []admin.ConfigFile `json:"files"`
	}
	body.Roots = []string{root}
	for _, w := range to.Files() {
		name, err := filepath.Abs(w.Name)
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", w.Name, err)
		}
		body.Files = append(body.Files, admin.ConfigFile{Name: name, Text: string(w.Data)})
	}
	node, err := f.client()
	if err != nil {
		return nil, err
	}
	plan := &app.Plan{}
	if _, err := node.do(ctx, "POST", "/api/v1/config/diff", "", body, plan); err != nil {
		return nil, err
	}
	return plan, nil
}

func (e *env) configReloadCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "reload", Short: "Have a node read its configuration again, and say what it did", Args: e.args(cobra.NoArgs, "no arguments"),
		Example: "  windrose config reload --admin unix:/var/lib/windrose/admin.sock",
		Long:    "What is wrong changes nothing. Exit code 5: something needs a restart.",
	}
	f := addAdminFlags(c)
	o := outputFlag(c)
	c.RunE = e.do(func(cmd *cobra.Command, _ []string) error {
		node, err := f.client()
		if err != nil {
			return err
		}
		var done admin.Reload
		if _, err := node.do(cmd.Context(), "POST", "/api/v1/config/reload", "", nil, &done); err != nil {
			return err
		}
		if err := o.print(e.out, done, func() table {
			t := table{}
			if done.Plan != nil {
				t = planTable(done.Plan)
			}
			for _, line := range done.News {
				t.rows = append(t.rows, []string{line})
			}
			return t
		}); err != nil {
			return err
		}
		if len(done.Restart) > 0 {
			return &codedError{exitPartly, fmt.Errorf("the configuration is in force but for what needs a restart: %s", strings.Join(done.Restart, "; "))}
		}
		revision := "revision " + done.Revision
		if done.Revision == "" {
			revision = "without a revision: the history could not be written, the node's log says why"
		}
		fmt.Fprintf(e.err, "configuration %.12s is in force, %s\n", done.Hash, revision)
		return nil
	})
	return c
}
