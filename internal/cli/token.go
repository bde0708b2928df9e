package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/windrose-edc/windrose/internal/admin"
)

func (e *env) tokenCommand() *cobra.Command {
	c := e.group("token", "Keep the tokens of the admin address: create, rm, ls", e.tokenCreateCommand(), e.tokenRemoveCommand(), e.tokenListCommand())
	c.Long = "Tokens are for who asks the admin address from elsewhere than the node's machine. The file holds their hashes only; a node\n" +
		"that runs sees a change within a second."
	c.Example = "  windrose token create grafana --role viewer --expires 8760h\n  windrose token ls"
	return c
}

func tokensFlag(c *cobra.Command) *string {
	return c.Flags().StringP("file", "f", "data/"+admin.TokensFile, "the tokens file (node.admin_tokens)")
}

func (e *env) tokenCreateCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "create NAME", Short: "Make a token and print it, once",
		Long: "Makes a token and prints it to stdout. It is shown this once: the file keeps its hash.\n\n" +
			"Roles: viewer sees, operator acts on what runs (kick, drain, replay, tap with payloads), admin changes what runs.",
		Example: "  windrose token create grafana --expires 8760h\n  windrose token create ci --role admin --expires 1h -f /var/lib/windrose/admin-tokens.json",
		Args:    e.args(cobra.ExactArgs(1), "one name"),
	}
	file := tokensFlag(c)
	role := c.Flags().String("role", "viewer", "what its holder may do: viewer, operator or admin")
	life := c.Flags().Duration("expires", 90*24*time.Hour, "how long it is valid; 0: for ever")
	c.RunE = e.do(func(_ *cobra.Command, args []string) error {
		r, err := admin.ParseRole(*role)
		if err != nil {
			return usagef("--role: %w", err)
		}
		if *life < 0 {
			return usagef("--expires %s: want 0 or more", *life)
		}
		secret, t, err := admin.CreateToken(*file, args[0], r, *life, time.Now())
		if err != nil {
			return err
		}
		fmt.Fprintln(e.out, secret)
		until := "for ever"
		if !t.Expires.IsZero() {
			until = "until " + t.Expires.Format(time.RFC3339)
		}
		fmt.Fprintf(e.err, "token %s (%s, valid %s) written to %s; it is not shown again\n", t.Name, t.Role, until, *file)
		return nil
	})
	return c
}

func (e *env) tokenRemoveCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "rm NAME...", Aliases: []string{"remove", "revoke"}, Short: "Take tokens away", Example: "  windrose token rm grafana",
		Args: e.args(cobra.MinimumNArgs(1), "at least one name"),
	}
	file := tokensFlag(c)
	c.RunE = e.do(func(_ *cobra.Command, args []string) error {
		var errs []error
		for _, name := range args {
			if err := admin.RemoveToken(*file, name); err != nil {
				errs = append(errs, err)
			} else {
				fmt.Fprintf(e.err, "token %s is not valid any more\n", name)
			}
		}
		if len(errs) > 0 && len(errs) < len(args) {
			return &codedError{exitPartly, errors.Join(errs...)}
		}
		return errors.Join(errs...)
	})
	return c
}

func (e *env) tokenListCommand() *cobra.Command {
	c := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List the tokens of the file", Example: "  windrose token ls -o json", Args: e.args(cobra.NoArgs, "no arguments")}
	file := tokensFlag(c)
	o := outputFlag(c)
	c.RunE = e.do(func(*cobra.Command, []string) error {
		ts, err := admin.ReadTokens(*file)
		if err != nil {
			return err
		}
		for i := range ts {
			ts[i].Hash = "" // of no use to anybody who reads the list
		}
		if ts == nil {
			ts = []admin.Token{}
		}
		return o.print(e.out, ts, func() table {
			t := table{header: []string{"NAME", "ROLE", "CREATED", "EXPIRES"}}
			for _, x := range ts {
				ends := "never"
				switch {
				case x.Expired(time.Now()):
					ends = "expired " + age(x.Expires) + " ago"
				case !x.Expires.IsZero():
					ends = "in " + age(time.Now().Add(-time.Until(x.Expires)))
				}
				t.names = append(t.names, x.Name)
				t.rows = append(t.rows, []string{x.Name, x.Role, age(x.Created) + " ago", ends})
			}
			return t
		})
	})
	return c
}
