package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/windrose-edc/windrose/internal/identity"
)

// maxPasswordLine bounds what is read of stdin.
const maxPasswordLine = 64 << 10

func (e *env) userCommand() *cobra.Command {
	return e.group("user", "Keep the users file: add, rm, ls", e.userAddCommand(), e.userRemoveCommand(), e.userListCommand())
}

func usersFileFlag(c *cobra.Command) *string {
	return c.Flags().StringP("file", "f", "users.yaml", "the users file")
}

func (e *env) userAddCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "add NAME", Short: "Add a user, or give one another password; the password comes from a prompt or from stdin",
		Args: e.args(cobra.ExactArgs(1), "one name"),
		Example: "  windrose user add pump-7 --file users.yaml --attr tenant=acme\n" +
			"  printf '%s' \"$PASSWORD\" | windrose user add pump-7 --scram",
	}
	file := usersFileFlag(c)
	attrs := c.Flags().StringArray("attr", nil, "attribute of the principal, KEY=VALUE (repeatable)")
	scram := c.Flags().Bool("scram", false, "write a SCRAM-SHA-256 verifier besides the argon2id hash")
	replace := c.Flags().Bool("replace", false, "give a user that exists another password")
	stdin := c.Flags().Bool("password-stdin", false, "read the password from stdin, never from a prompt")
	c.RunE = e.do(func(_ *cobra.Command, args []string) error {
		o := identity.AddOptions{Scram: *scram, Replace: *replace}
		for _, a := range *attrs {
			k, v, ok := strings.Cut(a, "=")
			if !ok || k == "" {
				return usagef("--attr %s: want KEY=VALUE", a)
			}
			if o.Attrs == nil {
				o.Attrs = map[string]string{}
			}
			o.Attrs[k] = v
		}
		users, err := identity.LoadUsers(*file)
		if errors.Is(err, fs.ErrNotExist) {
			users, err = identity.NewUsers(*file), nil
		}
		if err != nil {
			return err
		}
		known := slices.ContainsFunc(users.List(), func(u identity.UserInfo) bool { return u.Name == args[0] })
		if known && !*replace {
			return fmt.Errorf("user %q exists in %s; --replace gives it another password", args[0], *file)
		}
		password, err := e.password("Password for "+args[0]+": ", *stdin)
		if err != nil {
			return err
		}
		if err := users.Add(args[0], password, o); err != nil {
			return err
		}
		if err := users.Save(); err != nil {
			return err
		}
		fmt.Fprintf(e.err, "user %s written to %s\n", args[0], *file)
		return nil
	})
	return c
}

func (e *env) userRemoveCommand() *cobra.Command {
	c := &cobra.Command{Use: "rm NAME...", Aliases: []string{"remove"}, Short: "Take users out of the file", Example: "  windrose user rm pump-7 -f users.yaml", Args: e.args(cobra.MinimumNArgs(1), "at least one name")}
	file := usersFileFlag(c)
	c.RunE = e.do(func(_ *cobra.Command, args []string) error {
		users, err := identity.LoadUsers(*file)
		if err != nil {
			return err
		}
		var errs []error
		for _, name := range args {
			if err := users.Remove(name); err != nil {
				errs = append(errs, err)
			}
		}
		if len(errs) < len(args) {
			if err := users.Save(); err != nil {
				return err
			}
			fmt.Fprintf(e.err, "%s removed from %s\n", count(len(args)-len(errs), "user"), *file)
		}
		if len(errs) > 0 && len(errs) < len(args) {
			return &codedError{exitPartly, errors.Join(errs...)}
		}
		return errors.Join(errs...)
	})
	return c
}

func (e *env) userListCommand() *cobra.Command {
	c := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List the users of the file", Example: "  windrose user ls -o json", Args: e.args(cobra.NoArgs, "no arguments")}
	file := usersFileFlag(c)
	o := outputFlag(c)
	c.RunE = e.do(func(*cobra.Command, []string) error {
		users, err := identity.LoadUsers(*file)
		if err != nil {
			return err
		}
		infos := users.List()
		return o.print(e.out, infos, func() table {
			t := table{header: []string{"NAME", "SCRAM", "ATTRIBUTES"}}
			for _, u := range infos {
				t.names = append(t.names, u.Name)
				t.rows = append(t.rows, []string{u.Name, map[bool]string{true: "yes", false: "no"}[u.Scram], attrText(u.Attrs)})
			}
			return t
		})
	})
	return c
}

func attrText(attrs map[string]string) string {
	var out []string
	for k, v := range attrs {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// password asks twice without echo where stdin is a terminal; elsewhere, or with piped, it is the first line of stdin.
func (e *env) password(prompt string, piped bool) ([]byte, error) {
	if f, ok := e.in.(*os.File); ok && !piped && term.IsTerminal(int(f.Fd())) {
		ask := func(text string) ([]byte, error) {
			fmt.Fprint(e.err, text)
			b, err := term.ReadPassword(int(f.Fd()))
			fmt.Fprintln(e.err)
			if err != nil {
				return nil, fmt.Errorf("read password: %w", err)
			}
			return b, nil
		}
		first, err := ask(prompt)
		if err != nil {
			return nil, err
		}
		again, err := ask("Again: ")
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(first, again) {
			return nil, errors.New("the two passwords differ; nothing was changed")
		}
		return first, nil
	}
	line, err := bufio.NewReader(io.LimitReader(e.in, maxPasswordLine)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read password: %w", err)
	}
	line = bytes.TrimRight(line, "\r\n")
	if len(line) == 0 {
		return nil, errors.New("no password on stdin: pipe one line, or run this in a terminal")
	}
	return line, nil
}
