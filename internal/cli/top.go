package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/windrose-edc/windrose/internal/admin"
)

// topDoc is what one view of top shows.
type topDoc struct {
	Status admin.Status `json:"status"`
	Top    admin.Top    `json:"top"`
}

func (e *env) topCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "top", Short: "Watch a node: rates, listeners, pools, the busiest clients, what is refused and dropped",
		Long: "Shows the state of a node again and again, on a terminal in place until Ctrl-C. Elsewhere it prints one view\n" +
			"after the other, without colours; --once prints one.",
		Example: "  windrose top\n  windrose top --once -o json\n  windrose top --admin 10.0.0.7:8400 --every 5s",
		Args:    e.args(cobra.NoArgs, "no arguments"),
	}
	f := addAdminFlags(c)
	o := outputFlag(c)
	o.allowed = []string{"table", "json", "yaml"}
	once := c.Flags().Bool("once", false, "print one view and end")
	every := c.Flags().Duration("every", 2*time.Second, "time between two views")
	clients := c.Flags().Int("clients", 10, "how many of the busiest clients are shown")
	c.RunE = e.do(func(cmd *cobra.Command, _ []string) error {
		if *every < 200*time.Millisecond {
			return usagef("--every %s: want at least 200ms", *every)
		}
		a, err := f.client()
		if err != nil {
			return err
		}
		return e.top(cmd.Context(), a, o, *once, *every, *clients)
	})
	return c
}

// top shows views until ctx is done.
func (e *env) top(ctx context.Context, a *adminClient, o *output, once bool, every time.Duration, clients int) error {
	out, terminal := e.out.(*os.File)
	terminal = terminal && !once && o.format == "table" && term.IsTerminal(int(out.Fd()))
	if terminal {
		fmt.Fprint(e.out, "\x1b[?1049h\x1b[?25l") // another screen, without a cursor
		defer fmt.Fprint(e.out, "\x1b[?25h\x1b[?1049l")
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for first := true; ; first = false {
		d, err := readTop(ctx, a, clients)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && (first || !terminal) {
			return err
		}
		switch {
		case terminal && err != nil:
			fmt.Fprintf(e.out, "\x1b[H\x1b[2K\x1b[31m%s\x1b[0m", err)
		case terminal:
			width, height, e2 := term.GetSize(int(out.Fd()))
			if e2 != nil {
				width, height = 80, 24
			}
			fmt.Fprint(e.out, "\x1b[H"+screen(topView(d), width, height)+"\x1b[J")
		default:
			if !first && o.format == "yaml" {
				fmt.Fprintln(e.out, "---")
			} else if !first && o.format == "table" {
				fmt.Fprintln(e.out)
			}
			if err := o.print(e.out, d, func() table { return table{rows: [][]string{{strings.TrimRight(topView(d), "\n")}}} }); err != nil {
				return err
			}
		}
		if once {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func readTop(ctx context.Context, a *adminClient, clients int) (*topDoc, error) {
	d := &topDoc{}
	if _, err := a.get(ctx, "/api/v1/status", nil, &d.Status); err != nil {
		return nil, err
	}
	_, err := a.get(ctx, "/api/v1/top?limit="+fmt.Sprint(clients), nil, &d.Top)
	return d, err
}

// screen cuts a view to a terminal: nothing may wrap.
func screen(view string, width, height int) string {
	lines := strings.Split(strings.TrimRight(view, "\n"), "\n")
	var b strings.Builder
	for i, l := range lines[:min(len(lines), height)] {
		if r := []rune(l); len(r) > width {
			l = string(r[:width])
		}
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(l + "\x1b[K")
	}
	return b.String()
}

// topView is one view as text.
func topView(d *topDoc) string {
	st := &d.Status
	var b strings.Builder
	state := "ready"
	if !st.Ready {
		state = "NOT READY"
	}
	fmt.Fprintf(&b, "%s  %s  up %s  %s  config %.12s\n", dash(st.Info.Name), st.Version, time.Duration(st.Uptime*float64(time.Second)).Round(time.Second), state, dash(st.Info.ConfigHash))
	for _, c := range st.Checks {
		if !c.OK {
			fmt.Fprintf(&b, "  %s: %s\n", c.Name, printable(c.Text))
		}
	}
	t := &st.Totals
	fmt.Fprintf(&b, "\nevents/s  in %s  out %s  refused %s    sessions %d (%d offline)  subscriptions %d  retained %d  queued %d  dead letters %d\n\n",
		rate(st.Rates.Received), rate(st.Rates.Delivered), rate(st.Rates.Refused), t.Sessions, t.Offline, t.Subscriptions, t.Retained, t.Queued, t.DeadLetters)

	l := table{header: []string{"LISTENER", "PROTOCOL", "ADDRESS", "STATE", "CONNECTIONS", "ACCEPTED", "REFUSED"}}
	for _, x := range st.Listeners {
		l.rows = append(l.rows, []string{x.Name, x.Protocol, x.Address, x.State, fmt.Sprint(x.Connections), digits(x.Accepted), digits(x.Refused)})
	}
	section(&b, l)
	p := table{header: []string{"POOL", "TYPE", "STATE", "UP", "QUEUED", "BYTES", "INFLIGHT", "DELIVERED", "RETRIED", "DEAD"}}
	for _, x := range st.Pools {
		up := 0
		for _, m := range x.Members {
			if m.State == "up" {
				up++
			}
		}
		p.rows = append(p.rows, []string{x.Name, x.Type, x.State, fmt.Sprintf("%d/%d", up, len(x.Members)), fmt.Sprint(x.Queued), bytesText(x.QueuedBytes),
			fmt.Sprint(x.InFlight), digits(x.Delivered), digits(x.Retried), fmt.Sprint(x.DeadLetters)})
	}
	section(&b, p)
	c := table{header: []string{"CLIENT", "IN/S", "OUT/S", "QUEUED", "BYTES", "DROPPED", "LISTENER"}}
	for _, x := range d.Top.Clients {
		c.rows = append(c.rows, []string{printable(x.ID), rate(x.ReceivedRate), rate(x.DeliveredRate), fmt.Sprint(x.Queued), bytesText(x.QueuedBytes), digits(x.Dropped), x.Listener})
	}
	section(&b, c)
	if x := d.Top.Ranks; x != nil && x.Span > 0 {
		section(&b, ranks("TOPIC", x.Topics, x.Span))
		section(&b, ranks("SLOW SUBSCRIBER", x.Slow, x.Span))
	}
	r := table{header: []string{"REFUSED OR DROPPED", "COUNT"}}
	counts := append(slices.Clone(t.Refusals), t.Drops...)
	slices.SortFunc(counts, func(a, b admin.Count) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason))
	})
	for _, x := range counts[:min(len(counts), 8)] {
		r.rows = append(r.rows, []string{x.Reason, digits(x.Count)})
	}
	section(&b, r)
	return b.String()
}

// ranks are the first five of a list of estimates.
func ranks(what string, list []admin.Rank, span float64) table {
	t := table{header: []string{what, "ABOUT/S"}}
	for _, x := range list[:min(len(list), 5)] {
		t.rows = append(t.rows, []string{printable(x.Name), rate(float64(x.Count) / span)})
	}
	return t
}

func section(b *strings.Builder, t table) {
	if len(t.rows) > 0 {
		b.WriteString(t.String() + "\n")
	}
}

// rate is a number per second.
func rate(v float64) string {
	if v > 0 && v < 10 {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}
