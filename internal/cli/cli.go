// Package cli is what a person or a script types: the verbs of windrose, their flags, their output and their exit codes.
// Results go to stdout, progress and errors to stderr; an error is one line that says what to do.
//
// # Concurrency
//
// A command runs on the goroutine that calls Main. What it starts besides (signals, progress, clients) ends before Main
// returns.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/windrose-edc/windrose/internal/config"
)

// The exit codes.
const (
	exitOK         = 0
	exitError      = 1
	exitUsage      = 2 // the command line is wrong; nothing was done
	exitDifference = 3 // a comparison found one
	exitUnhealthy  = 4
	exitPartly     = 5 // some of several things were done
)

// Main runs one command line and returns its exit code.
func Main(args []string, in io.Reader, out, errw io.Writer) int {
	e := &env{in: in, out: out, err: errw, dial: dialMQTT, exit: os.Exit}
	ctx, stop := e.signals(context.Background())
	defer stop()
	return e.run(ctx, args)
}

// env is what a command has of the world. Owned by the goroutine of Main.
type env struct {
	in       io.Reader
	out, err io.Writer
	dial     dialFunc
	exit     func(int) // ends the process at once
	started  bool      // the command line was understood: errors from now on are not of usage
	verb     string    // the command that was found
}

// run executes args.
func (e *env) run(ctx context.Context, args []string) int {
	root := e.root()
	root.SetArgs(args)
	root.SetIn(e.in)
	root.SetOut(e.out)
	root.SetErr(e.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := exitError
	var coded *codedError
	switch {
	case errors.As(err, &coded):
		code, err = coded.code, coded.err
	case !e.started:
		code = exitUsage
	}
	e.report(err, code)
	return code
}

// report writes an error: what is wrong in a configuration on a line each, everything else on one.
func (e *env) report(err error, code int) {
	if err == nil {
		return
	}
	var wrong config.Errors
	if errors.As(err, &wrong) {
		for _, one := range wrong {
			fmt.Fprintln(e.err, one)
		}
		fmt.Fprintf(e.err, "windrose: %s in the configuration; nothing was changed\n", count(len(wrong), "error"))
		return
	}
	text := strings.Join(strings.Fields(strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")), " ")
	if code == exitUsage {
		if verb := strings.TrimSpace("windrose " + e.verb); !strings.Contains(text, "--help") {
			text += "; see " + verb + " --help"
		}
	}
	fmt.Fprintln(e.err, "windrose: "+text)
}

// codedError ends the program with a code of its own. A nil err says that everything was said already.
type codedError struct {
	code int
	err  error
}

func (c *codedError) Error() string {
	if c.err == nil {
		return fmt.Sprintf("exit code %d", c.code)
	}
	return c.err.Error()
}

func (c *codedError) Unwrap() error { return c.err }

func usagef(format string, args ...any) error {
	return &codedError{exitUsage, fmt.Errorf(format, args...)}
}

// root is the tree of all commands.
func (e *env) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "windrose",
		Short: "The event delivery controller",
		Long: "Windrose stands between devices and the systems behind them: it takes events by MQTT, applies policy to each\n" +
			"and delivers them to subscribers, brokers and webhooks, acknowledged as promised.\n\n" +
			"Start with: windrose dev",
		SilenceErrors: true, SilenceUsage: true,
	}
	root.AddGroup(&cobra.Group{ID: "node", Title: "Run a node"}, &cobra.Group{ID: "ops", Title: "Operate"}, &cobra.Group{ID: "client", Title: "Be a client"})
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("node", e.devCommand(), e.runCommand())
	add("ops", e.getCommand(), e.describeCommand(), e.kickCommand(), e.topCommand(), e.deadLettersCommand(), e.tokenCommand(), e.manCommand())
	add("ops", e.tapCommand(), e.explainCommand(), e.configCommand(), e.logCommand(), e.healthCommand(), e.drainCommand(), e.userCommand(), e.versionCommand())
	add("client", e.pubCommand(), e.subCommand(), e.benchCommand())
	root.SetCompletionCommandGroupID("ops")
	root.SetHelpCommandGroupID("ops")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		e.verb = verbOf(c)
		return err
	})
	return root
}

// verbFunc is a command's work once its line was understood.
type verbFunc func(cmd *cobra.Command, args []string) error

// do makes a RunE of a verb.
func (e *env) do(f verbFunc) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		e.started, e.verb = true, verbOf(cmd)
		return f(cmd, args)
	}
}

// args makes a cobra check of the positional arguments that names the verb in its error.
func (e *env) args(check cobra.PositionalArgs, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		e.verb = verbOf(cmd)
		if check(cmd, args) != nil {
			return usagef("%s takes %s, got %s", e.verb, want, count(len(args), "argument"))
		}
		return nil
	}
}

// group makes a command that only holds others.
func (e *env) group(use, short string, cmds ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs}
	c.RunE = e.do(func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		text := fmt.Sprintf("unknown command %q for windrose %s", args[0], use)
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			text += fmt.Sprintf(", did you mean %q?", near[0])
		}
		return usagef("%s", text)
	})
	c.SuggestionsMinimumDistance = 2
	c.AddCommand(cmds...)
	if len(cmds) > 0 {
		c.Example = cmds[0].Example
	}
	return c
}

// verbOf is the path of a command without the program's name.
func verbOf(c *cobra.Command) string {
	return strings.TrimSpace(strings.TrimPrefix(c.CommandPath(), c.Root().Name()))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
