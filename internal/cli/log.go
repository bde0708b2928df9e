package cli

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/windrose-edc/windrose/internal/admin"
)

func (e *env) logCommand() *cobra.Command {
	return e.group("log", "Look at and change the log of a running node", e.logShowCommand(), e.logLevelCommand(), e.logFormatCommand())
}

func logTable(l *admin.Log) table {
	t := table{header: []string{"COMPONENT", "LEVEL", ""}}
	for _, c := range l.Components {
		own := ""
		if c.Own {
			own = "set"
		}
		t.rows = append(t.rows, []string{c.Component, c.Level, own})
		t.names = append(t.names, c.Component)
	}
	t.rows = append(t.rows, []string{"all others", l.Level, l.Format})
	return t
}

func (e *env) logShowCommand() *cobra.Command {
	c := &cobra.Command{Use: "show", Short: "Show the levels of all components", Example: "  windrose log show", Args: e.args(cobra.NoArgs, "no arguments")}
	f := addAdminFlags(c)
	o := outputFlag(c)
	c.RunE = e.do(func(cmd *cobra.Command, _ []string) error {
		node, err := f.client()
		if err != nil {
			return err
		}
		var l admin.Log
		if _, err := node.get(cmd.Context(), "/api/v1/log", nil, &l); err != nil {
			return err
		}
		return o.print(e.out, l, func() table { return logTable(&l) })
	})
	return c
}

func (e *env) logLevelCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "level [COMPONENT] LEVEL", Short: "Change the level of a component, or of all without one of their own, until the next reload",
		Example: "  windrose log level mqtt debug\n  windrose log level mqtt default\n  windrose log level warn",
		Args:    e.args(cobra.RangeArgs(1, 2), "a component and a level, or a level"), ValidArgsFunction: e.completeLevels,
	}
	f := addAdminFlags(c)
	o := outputFlag(c)
	c.RunE = e.do(func(cmd *cobra.Command, args []string) error {
		body := map[string]string{"level": args[len(args)-1]}
		if len(args) == 2 {
			body["component"] = args[0]
		}
		return e.changeLog(cmd, f, o, body)
	})
	return c
}

func (e *env) logFormatCommand() *cobra.Command {
	c := &cobra.Command{Use: "format text|json", Short: "Change how lines are written, until the next reload", Example: "  windrose log format json", Args: e.args(cobra.ExactArgs(1), "text or json"), ValidArgs: []string{"text", "json"}}
	f := addAdminFlags(c)
	o := outputFlag(c)
	c.RunE = e.do(func(cmd *cobra.Command, args []string) error {
		return e.changeLog(cmd, f, o, map[string]string{"format": args[0]})
	})
	return c
}

func (e *env) changeLog(cmd *cobra.Command, f *adminFlags, o *output, body map[string]string) error {
	node, err := f.client()
	if err != nil {
		return err
	}
	var l admin.Log
	if _, err := node.do(cmd.Context(), http.MethodPatch, "/api/v1/log", "", body, &l); err != nil {
		return err
	}
	return o.print(e.out, l, func() table { return logTable(&l) })
}
