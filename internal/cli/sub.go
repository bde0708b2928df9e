package cli

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/windrose-edc/windrose/internal/event"
)

// subQueue is how many events may wait for stdout; then the connection is not read any more.
const subQueue = 1024

// subFlags are what to subscribe to, and for how long.
type subFlags struct {
	filters []string
	qos     uint8
	count   int
	wait    waitFlag
	verbose bool
	format  string
	resume  bool
	expiry  time.Duration
}

// waitFlag is a duration that may also be a plain number of seconds.
type waitFlag time.Duration

func (w *waitFlag) String() string { return time.Duration(*w).String() }

// Set implements pflag.Value.
func (w *waitFlag) Set(s string) error {
	if n, err := strconv.ParseFloat(s, 64); err == nil && n >= 0 && n < 1e9 {
		*w = waitFlag(n * float64(time.Second))
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return errors.New("want seconds or a duration such as 5s")
	}
	*w = waitFlag(d)
	return nil
}

// Type implements pflag.Value.
func (w *waitFlag) Type() string { return "duration" }

func (e *env) subCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "sub -t FILTER...", Short: "Subscribe and print what comes",
		Args:    e.args(cobra.NoArgs, "no arguments; each filter follows a -t"),
		Example: "  windrose sub -v -t 'site/#'\n  windrose sub -t 'site/+/state' -q 1 -C 1 -W 10 -o json",
	}
	conn, s := addConnectFlags(c), &subFlags{}
	fl := c.Flags()
	fl.StringArrayVarP(&s.filters, "topic", "t", nil, "topic filter (repeatable)")
	fl.Uint8VarP(&s.qos, "qos", "q", 0, "quality of service that is asked for: 0, 1 or 2")
	fl.IntVarP(&s.count, "count", "C", 0, "end after that many events; 0: never")
	fl.VarP(&s.wait, "wait", "W", "end after that time; with -C it is an error then (seconds or 5s; 0: never)")
	fl.BoolVarP(&s.verbose, "verbose", "v", false, "print the topic before the payload")
	fl.StringVarP(&s.format, "output", "o", "text", "text, or json: one object per line")
	fl.BoolVar(&s.resume, "resume", false, "go on with the session of this client id and keep it afterwards (needs -i)")
	fl.DurationVar(&s.expiry, "session-expiry", time.Hour, "with --resume: how long the server keeps the session (MQTT 5)")
	c.RunE = e.do(func(cmd *cobra.Command, _ []string) error {
		to, err := s.check(conn)
		if err != nil {
			return err
		}
		return e.subscribe(cmd.Context(), s, to, conn.timeout)
	})
	return c
}

func (s *subFlags) check(conn *connectFlags) (*connection, error) {
	switch {
	case len(s.filters) == 0:
		return nil, usagef("no topic filter: name one with -t, such as -t 'site/#'")
	case s.qos > 2:
		return nil, usagef("-q %d: want 0, 1 or 2", s.qos)
	case s.count < 0:
		return nil, usagef("-C %d: want a number of events", s.count)
	case s.format != "text" && s.format != "json":
		return nil, usagef("-o %s: want text or json", s.format)
	case s.resume && conn.id == "":
		return nil, usagef("--resume needs a client id: -i")
	case s.expiry < 0 || s.expiry > 0xffffffff*time.Second:
		return nil, usagef("--session-expiry %s: want 0 to 136 years", s.expiry)
	}
	for _, f := range s.filters {
		if !event.ValidFilter([]byte(f)) {
			return nil, usagef("-t %s: not a topic filter; + stands for one level, # for all at the end", f)
		}
	}
	to, err := conn.connection()
	if err == nil && s.resume {
		to.clean, to.expiry = false, uint32(s.expiry/time.Second)
	}
	return to, err
}

// subscribe prints until the count, the time, the user or the server ends it.
func (e *env) subscribe(ctx context.Context, s *subFlags, to *connection, timeout time.Duration) error {
	events := make(chan *message, subQueue)
	quit := make(chan struct{})
	to.onMessage = func(m *message) {
		keep := *m
		keep.payload = append([]byte(nil), m.payload...)
		select {
		case events <- &keep:
		case <-quit:
		}
	}
	cl, err := e.connect(ctx, to, timeout)
	if err != nil {
		return err
	}
	defer func() {
		close(quit)
		_ = cl.close() // everything that was asked for is printed
	}()
	var end <-chan time.Time
	if s.wait > 0 {
		t := time.NewTimer(time.Duration(s.wait))
		defer t.Stop()
		end = t.C
	}
	partly, err := e.subscribeAll(ctx, s, cl, timeout)
	if err != nil {
		return err
	}
	p := newEventPrinter(e.out, s)
	for n := 0; ; {
		if len(events) == 0 {
			if err := p.w.Flush(); err != nil {
				return fmt.Errorf("write output: %w", err)
			}
		}
		select {
		case m := <-events:
			if err := p.print(m); err != nil {
				return fmt.Errorf("write output: %w", err)
			}
			if n++; s.count > 0 && n == s.count {
				return errors.Join(p.w.Flush(), partly)
			}
		case <-end:
			if s.count > 0 {
				return fmt.Errorf("%d of %s within %s", n, count(s.count, "event"), time.Duration(s.wait))
			}
			return partly
		case <-ctx.Done():
			return partly
		case <-cl.ended():
			if len(events) > 0 {
				continue // print what came before the end
			}
			return connectionLost(cl)
		}
	}
}

// subscribeAll asks for all filters. partly is what to end with when only some were granted.
func (e *env) subscribeAll(ctx context.Context, s *subFlags, cl client, timeout time.Duration) (partly, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	results, err := cl.subscribe(ctx, s.filters, s.qos)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	var refused []error
	for i, r := range results {
		if r != nil {
			refused = append(refused, fmt.Errorf("subscribe to %q: %w", s.filters[i], r))
		}
	}
	switch len(refused) {
	case 0:
		return nil, nil
	case len(s.filters):
		return nil, errors.Join(refused...)
	}
	err = errors.Join(refused...)
	e.report(err, exitPartly)
	return &codedError{code: exitPartly}, nil
}

// eventPrinter writes events to stdout. Owned by the goroutine of Main.
type eventPrinter struct {
	w    *bufio.Writer
	s    *subFlags
	safe bool // stdout is a terminal: control characters of a payload are not sent to it
}

func newEventPrinter(out io.Writer, s *subFlags) *eventPrinter {
	f, ok := out.(*os.File)
	return &eventPrinter{w: bufio.NewWriter(out), s: s, safe: ok && term.IsTerminal(int(f.Fd()))}
}

// eventDoc is one line of windrose sub -o json.
type eventDoc struct {
	Time        time.Time `json:"time"`
	Topic       string    `json:"topic"`
	QoS         byte      `json:"qos"`
	Retain      bool      `json:"retain"`
	Payload     *string   `json:"payload,omitempty"`        // when it is UTF-8
	Base64      *string   `json:"payload_base64,omitempty"` // when it is not
	ContentType string    `json:"content_type,omitempty"`
	Headers     []header  `json:"headers,omitempty"`
	Expiry      uint32    `json:"expiry_seconds,omitempty"`
}

func (p *eventPrinter) print(m *message) error {
	if p.s.format == "json" {
		doc := eventDoc{
			Time: time.Now().UTC(), Topic: m.topic, QoS: m.qos, Retain: m.retain, ContentType: m.contentType, Headers: m.headers, Expiry: m.expiry,
		}
		text := string(m.payload)
		if utf8.ValidString(text) {
			doc.Payload = &text
		} else {
			text = base64.StdEncoding.EncodeToString(m.payload)
			doc.Base64 = &text
		}
		enc := json.NewEncoder(p.w)
		enc.SetEscapeHTML(false)
		return enc.Encode(doc)
	}
	if p.s.verbose {
		_, _ = p.w.WriteString(p.clean(m.topic)) // the writer keeps its first error for the last write
		_ = p.w.WriteByte(' ')
	}
	if p.safe {
		_, _ = p.w.WriteString(p.clean(string(m.payload)))
	} else {
		_, _ = p.w.Write(m.payload)
	}
	return p.w.WriteByte('\n')
}

// clean takes control characters out of what goes to a terminal.
func (p *eventPrinter) clean(s string) string {
	if !p.safe {
		return s
	}
	return cleanText(s)
}

func cleanText(s string) string {
	out := make([]rune, 0, len(s))
	for _, r := range s {
		if (r < ' ' && r != '\t' && r != '\n') || (r >= 0x7f && r < 0xa0) {
			r = utf8.RuneError
		}
		out = append(out, r)
	}
	return string(out)
}
