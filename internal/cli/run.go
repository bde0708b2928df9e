package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/windrose-edc/windrose/internal/app"
	"github.com/windrose-edc/windrose/internal/observe"
)

// signalPause: a second signal within it is the first one once more. timeout(1) and process groups send each twice.
const signalPause = 500 * time.Millisecond

// logQueue is how many bytes of log lines may wait for whoever reads stderr.
const logQueue = 4 << 20

// runFlags are the flags of the verbs that run a node.
type runFlags struct {
	logFormat, logLevel, pprof string
	watch                      bool
}

func addRunFlags(c *cobra.Command) *runFlags {
	f := &runFlags{}
	c.Flags().StringVar(&f.logFormat, "log-format", "", "format of the log on stderr: text or json; wins over the configuration (default text)")
	c.Flags().StringVar(&f.logLevel, "log-level", "", "least level that is logged: debug, info, warn or error; wins over the configuration (default info)")
	c.Flags().StringVar(&f.pprof, "pprof", "", "loopback address for Go's profiles")
	_ = c.Flags().MarkHidden("pprof") // the flag exists: no error
	return f
}

func (e *env) devCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "dev", Short: "Run a node for development: loopback only, anonymous, nothing to configure", Example: "  windrose dev",
		Args: e.args(cobra.NoArgs, "no arguments"),
	}
	f := addRunFlags(c)
	c.RunE = e.do(func(cmd *cobra.Command, _ []string) error { return e.node(cmd.Context(), app.Options{Dev: true}, f) })
	return c
}

func (e *env) runCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "run -c FILE|DIR", Short: "Run a node as its configuration says; nothing else listens and nobody else is admitted",
		Example: "  windrose run -c /etc/windrose/windrose.yaml --log-format json",
		Args:    e.args(cobra.NoArgs, "no arguments; name the configuration with -c"),
	}
	files := configFlag(c)
	f := addRunFlags(c)
	c.Flags().BoolVar(&f.watch, "watch", false, "reload whenever the configuration, or a certificate or users file that it names, has changed")
	c.RunE = e.do(func(cmd *cobra.Command, _ []string) error {
		if len(*files) == 0 {
			return usagef("no configuration: name a file or folder with -c, or use windrose dev")
		}
		return e.node(cmd.Context(), app.Options{ConfigFiles: *files}, f)
	})
	return c
}

// node runs one until ctx is done.
func (e *env) node(ctx context.Context, o app.Options, f *runFlags) error {
	lines := observe.NewAsyncWriter(e.err, logQueue)
	logs := observe.NewLogs(lines, app.LogComponents()...)
	if f.logFormat != "" && logs.SetFormat(f.logFormat) != nil {
		return errors.Join(usagef("--log-format %s: want text or json", f.logFormat), lines.Close())
	}
	if f.logLevel != "" && logs.Set("", f.logLevel) != nil {
		return errors.Join(usagef("--log-level %s: want debug, info, warn or error", f.logLevel), lines.Close())
	}
	o.Logs, o.LogSpec = logs, observe.LogSpec{Format: f.logFormat, Level: f.logLevel}
	o.Logger, o.Stdout, o.Version, o.Log = logs.Logger().With(observe.ComponentKey, "app"), e.out, currentVersion().Version, lines
	err := e.runNode(ctx, o, f.pprof, f.watch)
	closed := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { _ = lines.Close(); close(closed) }) // Close of this writer has no error
	select {
	case <-closed:
		wg.Wait()
		if n := lines.Dropped(); n > 0 {
			fmt.Fprintf(e.err, "windrose: %d log lines were dropped because nobody read stderr fast enough\n", n)
		}
	case <-time.After(2 * time.Second): // nobody reads stderr: its goroutine ends with the process
	}
	return err
}

func (e *env) runNode(ctx context.Context, o app.Options, profiles string, watch bool) error {
	a, err := app.New(o)
	if err != nil {
		return err
	}
	if profiles != "" {
		stop, err := serveProfiles(profiles, o.Logger)
		if err != nil {
			return err
		}
		defer stop()
	}
	stop := reloadOnHangup(a, watch)
	defer stop()
	return a.Run(ctx)
}

// reloadOnHangup reads the configuration again at each SIGHUP, and with watch whenever its files have changed.
func reloadOnHangup(a *app.App, watch bool) (stop func()) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for range ch {
			a.Reload("signal") // it logs what became of it
		}
	})
	if watch {
		wg.Go(func() { a.Watch(ctx) })
	}
	return func() {
		signal.Stop(ch)
		close(ch)
		cancel()
		wg.Wait()
	}
}

// serveProfiles serves Go's profiles on a loopback address.
func serveProfiles(addr string, log *slog.Logger) (stop func(), err error) {
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for profiles on %q: %w", addr, err)
	}
	if tcp, ok := ln.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		_ = ln.Close() // not used
		return nil, usagef("--pprof %s: want a loopback address; profiles show memory", addr)
	}
	m := http.NewServeMux()
	m.HandleFunc("/debug/pprof/", pprof.Index)
	m.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	m.HandleFunc("/debug/pprof/profile", pprof.Profile)
	m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	m.HandleFunc("/debug/pprof/trace", pprof.Trace)
	s := &http.Server{Handler: m, ReadHeaderTimeout: 5 * time.Second}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(ln) }) // ends with Close; a profile that cannot be served stops nothing
	log.Info("profiles", "url", "http://"+ln.Addr().String()+"/debug/pprof/")
	return func() { _ = s.Close(); wg.Wait() }, nil
}

// signals returns a context that the first SIGINT or SIGTERM ends; the second ends the process at once.
func (e *env) signals(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { e.obey(ch, done, cancel) })
	return ctx, func() {
		signal.Stop(ch)
		close(done)
		wg.Wait()
		cancel()
	}
}

// obey waits for signals until done.
func (e *env) obey(ch <-chan os.Signal, done <-chan struct{}, cancel func()) {
	var first time.Time
	for {
		select {
		case <-done:
			return
		case s := <-ch:
			switch {
			case first.IsZero():
				first = time.Now()
				cancel()
			case time.Since(first) >= signalPause:
				fmt.Fprintf(e.err, "windrose: %s again: ending at once\n", s)
				e.exit(exitError)
				return
			}
		}
	}
}
