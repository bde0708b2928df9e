package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/windrose-edc/windrose/internal/admin"
)

// kindWords are the kinds as the help lists them.
func kindWords() string {
	var out []string
	for _, k := range kinds() {
		out = append(out, k.name)
	}
	return strings.Join(out, ", ")
}

func (e *env) getCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "get KIND [NAME]...", Short: "List what a node has: listeners, sessions, pools and so on",
		Long: "Lists objects of one kind, or shows those that are named: " + kindWords() + ".\n\n" +
			"A condition (--where) is CEL over the fields of -o json and is evaluated on the node.",
		Example: "  windrose get sessions\n" +
			"  windrose get sessions --where 'connected && queued > 100' -o name\n" +
			"  windrose get pools -o yaml\n" +
			"  windrose get subscriptions --session pump-7\n" +
			"  windrose get retained --filter 'site/#' --limit 20\n" +
			"  windrose get deadletters --pool north",
		Args:              e.args(cobra.MinimumNArgs(1), "a kind ("+kindWords()+")"),
		ValidArgsFunction: e.completeObjects,
	}
	f := addAdminFlags(c)
	o := outputFlag(c)
	where := c.Flags().String("where", "", "only rows for which this CEL condition holds")
	limit := c.Flags().Int("limit", 100, "rows at most; 0: all")
	cursor := c.Flags().String("cursor", "", "go on where an earlier list ended")
	only := map[string]*string{
		"session": c.Flags().String("session", "", "subscriptions: only of this client"),
		"filter":  c.Flags().String("filter", "", "retained: only topics that match this filter"),
		"pool":    c.Flags().String("pool", "", "deadletters: only of this pool; "+admin.SessionLetters+": of clients' outboxes"),
	}
	of := map[string]string{"session": "subscriptions", "filter": "retained", "pool": "deadletters"}
	c.RunE = e.do(func(cmd *cobra.Command, args []string) error {
		k, err := findKind(args[0])
		if err != nil {
			return err
		}
		q := url.Values{}
		for name, v := range only {
			if *v != "" && of[name] != k.name {
				return usagef("--%s is for %s", name, of[name])
			}
			if *v != "" {
				q.Set(name, *v)
			}
		}
		if *limit < 0 {
			return usagef("--limit %d: want 0 or more", *limit)
		}
		a, err := f.client()
		if err != nil {
			return err
		}
		if len(args) > 1 {
			return e.getNamed(cmd.Context(), a, &k, args[1:], o)
		}
		if *where != "" {
			q.Set("where", *where)
		}
		if *cursor != "" {
			q.Set("cursor", *cursor)
		}
		p, err := k.list(cmd.Context(), a, q, *limit)
		if err != nil {
			return e.apiFailed(err)
		}
		if err := e.printRows(&k, p, p.Items, o); err != nil {
			return err
		}
		if o.format == "table" {
			e.sayFailedReload(cmd.Context(), a)
		}
		if p.Next != "" && o.format == "table" {
			of := ""
			if p.Total != nil {
				of = fmt.Sprintf(" of %d", *p.Total)
			}
			fmt.Fprintf(e.err, "%d%s shown; more: --limit 0, or --cursor %s\n", len(p.Items), of, p.Next)
		}
		return nil
	})
	return c
}

// sayFailedReload says, beside what was asked for, that the node does not run its files as they are now. A node that does
// not answer this question is not bothered with it.
func (e *env) sayFailedReload(ctx context.Context, a *adminClient) {
	var c admin.ConfigState
	if _, err := a.get(ctx, "/api/v1/config", nil, &c); err != nil || c.Failed == nil {
		return
	}
	fmt.Fprintf(e.err, "windrose: the reload of %s failed and changed nothing, configuration %.12s is in force:\n", c.Failed.At.Local().Format(time.DateTime), c.Hash)
	for line := range strings.Lines(c.Failed.Error) {
		fmt.Fprintln(e.err, printable(strings.TrimSuffix(line, "\n")))
	}
}

// printRows prints a list; doc is what -o json shows.
func (e *env) printRows(k *kind, doc any, rows []json.RawMessage, o *output) error {
	t, err := k.table(rows)
	if err != nil {
		return err
	}
	if len(rows) == 0 && o.format == "table" {
		fmt.Fprintf(e.err, "no %s\n", k.name)
		return nil
	}
	return o.print(e.out, doc, func() table { return t })
}

// getNamed shows the rows of names.
func (e *env) getNamed(ctx context.Context, a *adminClient, k *kind, names []string, o *output) error {
	var rows []json.RawMessage
	var missing []error
	for _, name := range names {
		path, err := k.object(name)
		if err != nil {
			return err
		}
		var raw json.RawMessage
		if _, err := a.get(ctx, path, nil, &raw); err != nil {
			missing = append(missing, err)
			continue
		}
		rows = append(rows, raw)
	}
	if len(rows) > 0 {
		var doc any = page{Items: rows}
		if len(names) == 1 {
			doc = rows[0]
		}
		if err := e.printRows(k, doc, rows, o); err != nil {
			return err
		}
	}
	return partly(len(rows), missing)
}

// partly is the end of a verb that did n of several things.
func partly(n int, errs []error) error {
	if err := errors.Join(errs...); n > 0 && err != nil {
		return &codedError{exitPartly, err}
	}
	return errors.Join(errs...)
}

// apiFailed says a mistake in what was asked as one of usage.
func (e *env) apiFailed(err error) error {
	var ae *apiError
	if errors.As(err, &ae) && ae.Status == http.StatusUnprocessableEntity {
		return &codedError{exitUsage, err}
	}
	return err
}

func (e *env) describeCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "describe KIND NAME...", Short: "Show everything about one object",
		Long: "Shows everything about objects of one kind: " + kindWords() + ".",
		Example: "  windrose describe session pump-7\n  windrose describe pool north\n" +
			"  windrose describe retained site/berlin/pump-7/state --payload\n  windrose describe deadletter north/17 -o json",
		Args: e.args(cobra.MinimumNArgs(2), "a kind and at least one name"), ValidArgsFunction: e.completeObjects,
	}
	f := addAdminFlags(c)
	o := outputFlag(c)
	payload := c.Flags().Bool("payload", false, "retained, deadletters: show the payload too (role operator)")
	c.RunE = e.do(func(cmd *cobra.Command, args []string) error {
		k, err := findKind(args[0])
		if err != nil {
			return err
		}
		q := url.Values{}
		if *payload {
			if k.name != "retained" && k.name != "deadletters" {
				return usagef("--payload is for retained and deadletters")
			}
			q.Set("payload", "true")
		}
		a, err := f.client()
		if err != nil {
			return err
		}
		done := 0
		var errs []error
		for _, name := range args[1:] {
			path, err := k.object(name)
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if _, err := a.get(cmd.Context(), path, q, &raw); err != nil {
				errs = append(errs, err)
				continue
			}
			if done > 0 && o.format == "yaml" {
				fmt.Fprintln(e.out, "---")
			}
			if err := e.describe(&k, raw, o); err != nil {
				return err
			}
			done++
		}
		return partly(done, errs)
	})
	return c
}

func (e *env) describe(k *kind, raw json.RawMessage, o *output) error {
	if o.format != "table" {
		return e.printRows(k, raw, []json.RawMessage{raw}, o)
	}
	var n yaml.Node // for the order of the keys
	if err := yaml.Unmarshal(raw, &n); err != nil || len(n.Content) == 0 {
		return fmt.Errorf("read %s: %w", k.one, err)
	}
	var b strings.Builder
	paragraphs(&b, n.Content[0], "")
	_, err := fmt.Fprint(e.out, b.String())
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// paragraphs writes a document for people: a line for each value, lists of objects as tables.
func paragraphs(b *strings.Builder, n *yaml.Node, indent string) {
	wide := 0
	for i := 0; i < len(n.Content); i += 2 {
		wide = max(wide, len(label(n.Content[i].Value)))
	}
	for i := 0; i < len(n.Content); i += 2 {
		key, v := label(n.Content[i].Value), n.Content[i+1]
		switch {
		case v.Kind == yaml.MappingNode:
			b.WriteString(indent + key + ":\n")
			paragraphs(b, v, indent+"  ")
		case v.Kind == yaml.SequenceNode && len(v.Content) > 0 && v.Content[0].Kind == yaml.MappingNode:
			b.WriteString(indent + key + ":\n")
			for line := range strings.Lines(rowsOf(v).String()) {
				b.WriteString(indent + "  " + line)
			}
		case v.Kind == yaml.SequenceNode:
			var words []string
			for _, x := range v.Content {
				words = append(words, printable(x.Value))
			}
			fmt.Fprintf(b, "%s%-*s %s\n", indent, wide+1, key+":", dash(strings.Join(words, ", ")))
		default:
			fmt.Fprintf(b, "%s%-*s %s\n", indent, wide+1, key+":", words(n.Content[i].Value, v))
		}
	}
}

// rowsOf makes a table of a list of objects; a column for each key that any of them has.
func rowsOf(list *yaml.Node) table {
	var keys []string
	for _, x := range list.Content {
		for i := 0; i+1 < len(x.Content); i += 2 {
			if k := x.Content[i].Value; !slices.Contains(keys, k) {
				keys = append(keys, k)
			}
		}
	}
	t := table{}
	for _, k := range keys {
		t.header = append(t.header, strings.ToUpper(label(k)))
	}
	for _, x := range list.Content {
		cells := make([]string, len(keys))
		for i := range cells {
			cells[i] = "-"
		}
		for i := 0; i+1 < len(x.Content); i += 2 {
			cells[slices.Index(keys, x.Content[i].Value)] = words(x.Content[i].Value, x.Content[i+1])
		}
		t.rows = append(t.rows, cells)
	}
	return t
}

// label makes words of a key.
func label(key string) string {
	key = strings.ReplaceAll(key, "_", " ")
	if key == "id" || key == "tls" || key == "qos" {
		return strings.ToUpper(key)
	}
	return strings.ToUpper(key[:1]) + key[1:]
}

// words is a value as people read it.
func words(key string, v *yaml.Node) string {
	if v.Kind == yaml.SequenceNode {
		var out []string
		for _, x := range v.Content {
			out = append(out, printable(x.Value))
		}
		return strings.Join(out, ",")
	}
	if t, err := time.Parse(time.RFC3339Nano, v.Value); err == nil {
		if d := time.Until(t); d > 0 {
			return fmt.Sprintf("%s (in %s)", t.Local().Format(time.DateTime), d.Round(time.Second))
		}
		return fmt.Sprintf("%s (%s ago)", t.Local().Format(time.DateTime), age(t))
	}
	switch n, err := strconv.ParseInt(v.Value, 10, 64); {
	case v.Tag == "!!bool":
		return yes(v.Value == "true")
	case err != nil || v.Tag != "!!int":
	case key == "expiry_seconds" && n == 1<<32-1:
		return "never"
	case strings.HasSuffix(key, "bytes"):
		return bytesText(n)
	}
	return dash(printable(v.Value))
}

// bytesText is a size in its best unit.
func bytesText(n int64) string {
	if n < 1024 {
		return strconv.FormatInt(n, 10)
	}
	v, unit := float64(n)/1024, 0
	for v >= 1024 && unit < 3 {
		v, unit = v/1024, unit+1
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + [...]string{"KiB", "MiB", "GiB", "TiB"}[unit]
}

func (e *env) kickCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "kick SESSION...", Short: "Disconnect clients; with --forget their sessions end too",
		Long: "Disconnects clients. MQTT 5 clients are told that an operator did it; wills are published.\n" +
			"A session with an expiry stays, and its client may come back at once: keep it out by the access rules.",
		Example: "  windrose kick pump-7\n  windrose kick pump-7 --forget\n  windrose get sessions --where 'queued > 900' -o name | xargs windrose kick",
		Args:    e.args(cobra.MinimumNArgs(1), "at least one session"), ValidArgsFunction: e.completeSessions,
	}
	f := addAdminFlags(c)
	forget := c.Flags().Bool("forget", false, "end the sessions too: what waits in them is dropped and counted")
	c.RunE = e.do(func(cmd *cobra.Command, args []string) error {
		a, err := f.client()
		if err != nil {
			return err
		}
		done := 0
		var errs []error
		for _, id := range args {
			var k admin.Kicked
			if _, err := a.do(cmd.Context(), http.MethodPost, "/api/v1/sessions/"+escape(id)+"/kick", "", map[string]bool{"forget": *forget}, &k); err != nil {
				errs = append(errs, err)
				continue
			}
			done++
			text := "was not connected"
			if k.Disconnected {
				text = "disconnected"
			}
			if k.Forgotten {
				text += ", session ended"
			}
			fmt.Fprintf(e.out, "%s: %s\n", printable(id), text)
		}
		return partly(done, errs)
	})
	return c
}
