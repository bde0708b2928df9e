package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/windrose-edc/windrose/internal/tap"
)

// tapLine bounds one line of the stream: a record with its payload.
const tapLine = 1 << 20

// tapFlags are what a tap asks for.
type tapFlags struct {
	where, topic, client string
	verdicts, payload    bool
	length               time.Duration
	most                 int
}

func (e *env) tapCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "tap", Args: e.args(cobra.NoArgs, "no arguments"),
		Short: "Watch what a node decides about events, as they come",
		Long: "Tap shows the decision path of each event: where it was received, what each policy said, which routes matched, what\n" +
			"each target did with it, and what its publisher was told, with microseconds. It ends by itself, shows no payloads\n" +
			"unless asked, and counts what it could not show. The node logs who looks.",
		Example: "  windrose tap --topic 'site/+/state' --verdicts\n" +
			"  windrose tap --where 'event.qos > 0 && client.id.startsWith(\"pump-\")' --for 60s -o json",
	}
	f := &tapFlags{}
	admin := addAdminFlags(c)
	c.Flags().StringVar(&f.where, "where", "", "only events for which this CEL expression holds")
	c.Flags().StringVarP(&f.topic, "topic", "t", "", "only events whose topic matches this filter, as their clients say it")
	c.Flags().StringVar(&f.client, "client", "", "only events of this client")
	c.Flags().BoolVar(&f.verdicts, "verdicts", false, "show every step of each event, not only what became of it")
	c.Flags().BoolVar(&f.payload, "payload", false, "show payloads and headers, as far as the configuration allows (role operator)")
	c.Flags().DurationVar(&f.length, "for", 0, "end after this time (default: as long as the node allows)")
	c.Flags().IntVar(&f.most, "max", 0, "end after this many events")
	o := &output{format: "table", allowed: []string{"table", "json", "yaml", "name"}}
	c.Flags().VarP(o, "output", "o", "how to print: table, json (a line each), yaml (a document each) or name (topics)")
	c.RunE = e.do(func(cmd *cobra.Command, _ []string) error {
		if f.length < 0 || f.most < 0 {
			return usagef("--for and --max must not be negative")
		}
		node, err := admin.client()
		if err != nil {
			return err
		}
		return e.tap(cmd.Context(), node, f, o)
	})
	return c
}

func (e *env) tap(ctx context.Context, node *adminClient, f *tapFlags, o *output) error {
	v := url.Values{}
	set := func(k, s string) {
		if s != "" {
			v.Set(k, s)
		}
	}
	set("where", f.where)
	set("topic", f.topic)
	set("client", f.client)
	if f.payload {
		v.Set("payload", "true")
	}
	if f.length > 0 {
		v.Set("for", f.length.String())
	}
	if f.most > 0 {
		v.Set("max", strconv.Itoa(f.most))
	}
	res, err := node.send(ctx, http.MethodGet, "/api/v1/tap?"+v.Encode(), "", nil)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return asksWrong(err)
	}
	defer func() { _ = res.Body.Close() }()
	t := &tapPrinter{e: e, o: o, verdicts: f.verdicts}
	err = t.read(res.Body)
	switch {
	case ctx.Err() != nil: // the user has seen enough
		err = nil
	case errors.Is(err, io.EOF) || err == nil && !t.ended:
		err = fmt.Errorf("the node at %s ended the stream: it stops, or somebody is between", node.where)
	}
	if t.shown.Dropped > 0 || t.shown.Failed > 0 {
		fmt.Fprintf(e.err, "windrose: %s\n", missed(t.shown))
	}
	return err
}

// missed says what a tap did not show.
func missed(c tap.Shown) string {
	text := ""
	if c.Dropped > 0 {
		text = fmt.Sprintf("%s left out: more than the node records or this program reads", count(int(c.Dropped), "event"))
	}
	if c.Failed > 0 {
		if text != "" {
			text += "; "
		}
		text += fmt.Sprintf("the filter could not decide about %s, first: %s", count(int(c.Failed), "event"), c.FirstErr)
	}
	return text
}

// tapPrinter reads a stream of server-sent events and prints records. Owned by the goroutine of Main.
type tapPrinter struct {
	e        *env
	o        *output
	verdicts bool
	shown    tap.Shown
	ended    bool
}

func (t *tapPrinter) read(r io.Reader) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 64<<10), tapLine)
	kind := ""
	for sc.Scan() {
		line := sc.Bytes()
		switch {
		case len(line) == 0:
			kind = ""
		case bytes.HasPrefix(line, []byte("event: ")):
			kind = string(line[len("event: "):])
		case bytes.HasPrefix(line, []byte("data: ")):
			if err := t.event(kind, line[len("data: "):]); err != nil {
				return err
			}
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("read the stream: %w", err)
	}
	return nil
}

func (t *tapPrinter) event(kind string, data []byte) error {
	switch kind {
	case "record", "": // a message without a name is a record
		var rec tap.Record
		if err := json.Unmarshal(data, &rec); err != nil {
			return fmt.Errorf("read a record: %w", err)
		}
		return t.record(&rec)
	case "begin":
		var b struct {
			Until time.Time `json:"until"`
		}
		if json.Unmarshal(data, &b) == nil && t.o.format == "table" {
			fmt.Fprintf(t.e.err, "windrose: watching until %s; Ctrl-C ends it\n", b.Until.Local().Format("15:04:05"))
		}
	case "count":
		before := t.shown
		if json.Unmarshal(data, &t.shown) == nil && t.o.format == "table" && t.shown.Failed > 0 && before.Failed == 0 {
			fmt.Fprintf(t.e.err, "windrose: %s\n", missed(tap.Shown{Failed: t.shown.Failed, FirstErr: t.shown.FirstErr}))
		}
	case "end":
		t.ended = true
		var b struct {
			Reason string    `json:"reason"`
			Count  tap.Shown `json:"count"`
		}
		if json.Unmarshal(data, &b) == nil {
			t.shown = b.Count
			if t.o.format == "table" {
				fmt.Fprintf(t.e.err, "windrose: the tap ended: %s\n", b.Reason)
			}
		}
	}
	return nil
}

func (t *tapPrinter) record(rec *tap.Record) error {
	var err error
	switch t.o.format {
	case "json":
		var b []byte
		if b, err = json.Marshal(rec); err == nil {
			_, err = t.e.out.Write(append(b, '\n'))
		}
	case "yaml":
		if _, err = io.WriteString(t.e.out, "---\n"); err == nil {
			err = printYAML(t.e.out, rec)
		}
	case "name":
		_, err = fmt.Fprintln(t.e.out, rec.Topic)
	default:
		text := rec.Line() + "\n"
		if t.verdicts {
			text = rec.Path() + "\n"
		}
		_, err = io.WriteString(t.e.out, text)
	}
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
