package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/windrose-edc/windrose/internal/event"
)

// The bounds of windrose pub.
const (
	maxPayload = 256 << 20 // bytes, the largest packet of MQTT
	maxLine    = 16 << 20
	pubWindow  = 100 // lines without acknowledgement
)

// pubFlags are what to publish.
type pubFlags struct {
	topic, message, file, contentType string
	lines, null, retain               bool
	qos                               uint8
	headers                           []string
	expiry                            time.Duration
}

func (e *env) pubCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "pub -t TOPIC {-m MESSAGE | -f FILE | -l | -n}", Short: "Publish events and wait until they are acknowledged",
		Args: e.args(cobra.NoArgs, "no arguments; the topic follows -t, the message -m"),
		Example: "  windrose pub -t site/a -m hello -q 1\n  windrose pub -t site/a -f picture.jpg --retain\n" +
			"  tail -f app.log | windrose pub -t logs/app -l -q 1",
	}
	conn, p := addConnectFlags(c), &pubFlags{}
	fl := c.Flags()
	fl.StringVarP(&p.topic, "topic", "t", "", "topic")
	fl.StringVarP(&p.message, "message", "m", "", "the payload")
	fl.StringVarP(&p.file, "file", "f", "", "file that is the payload; - is stdin")
	fl.BoolVarP(&p.lines, "lines", "l", false, "publish each line of stdin as an event of its own")
	fl.BoolVarP(&p.null, "null", "n", false, "an empty payload")
	fl.BoolVarP(&p.retain, "retain", "r", false, "keep the event as the last one of its topic")
	fl.Uint8VarP(&p.qos, "qos", "q", 0, "quality of service: 0, 1 or 2")
	fl.StringVar(&p.contentType, "content-type", "", "content type (MQTT 5)")
	fl.StringArrayVar(&p.headers, "header", nil, "user property, KEY=VALUE (MQTT 5, repeatable)")
	fl.DurationVar(&p.expiry, "expiry", 0, "how long the event is worth delivering (MQTT 5); 0: for ever")
	c.RunE = e.do(func(cmd *cobra.Command, _ []string) error {
		m, err := p.check(cmd)
		if err != nil {
			return err
		}
		to, err := conn.connection()
		if err != nil {
			return err
		}
		if to.version < 5 && (m.contentType != "" || len(m.headers) > 0 || m.expiry != 0) {
			return usagef("--content-type, --header and --expiry need MQTT 5 (-V 5)")
		}
		if !p.lines {
			if m.payload, err = e.payload(p); err != nil {
				return err
			}
		}
		cl, err := e.connect(cmd.Context(), to, conn.timeout)
		if err != nil {
			return err
		}
		pub := &publisher{cl: cl, timeout: conn.timeout}
		if p.lines {
			err = pub.lines(cmd.Context(), e.in, m)
		} else {
			err = pub.one(cmd.Context(), m)
		}
		if closeErr := cl.close(); err == nil && closeErr != nil && m.qos == 0 {
			err = fmt.Errorf("end the connection: %w", closeErr) // with QoS 0 nobody has told yet that it arrived
		}
		return err
	})
	return c
}

// check makes a message of the flags, without its payload.
func (p *pubFlags) check(cmd *cobra.Command) (*message, error) {
	n := 0
	for _, name := range []string{"message", "file", "lines", "null"} {
		if cmd.Flags().Changed(name) {
			n++
		}
	}
	switch {
	case p.topic == "":
		return nil, usagef("no topic: name one with -t")
	case n != 1:
		return nil, usagef("want exactly one of -m MESSAGE, -f FILE, -l and -n")
	case p.qos > 2:
		return nil, usagef("-q %d: want 0, 1 or 2", p.qos)
	case p.expiry < 0 || p.expiry > 0xffffffff*time.Second:
		return nil, usagef("--expiry %s: want 0 to 136 years", p.expiry)
	}
	if err := event.CheckTopic([]byte(p.topic)); err != nil {
		return nil, usagef("-t %s: %w", p.topic, err)
	}
	m := &message{topic: p.topic, qos: p.qos, retain: p.retain, contentType: p.contentType, expiry: uint32((p.expiry + time.Second - 1) / time.Second)}
	for _, h := range p.headers {
		k, v, ok := strings.Cut(h, "=")
		if !ok {
			return nil, usagef("--header %s: want KEY=VALUE", h)
		}
		m.headers = append(m.headers, header{k, v})
	}
	return m, nil
}

func (e *env) payload(p *pubFlags) ([]byte, error) {
	switch p.file {
	case "":
		return []byte(p.message), nil
	case "-":
		return readPayload(e.in, "stdin")
	}
	f, err := os.Open(p.file)
	if err != nil {
		return nil, fmt.Errorf("open the payload: %w", err)
	}
	defer func() { _ = f.Close() }() // opened for reading
	return readPayload(f, p.file)
}

func readPayload(r io.Reader, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxPayload+1))
	if err != nil {
		return nil, fmt.Errorf("read the payload from %s: %w", name, err)
	}
	if len(b) > maxPayload {
		return nil, fmt.Errorf("read the payload from %s: larger than %d MiB", name, maxPayload>>20)
	}
	return b, nil
}

// publisher publishes and remembers what became of it. Guarded by mu: the counts.
type publisher struct {
	cl      client
	timeout time.Duration

	mu       sync.Mutex
	accepted int
	refused  int
	first    error // why the first was refused
}

func (p *publisher) settle(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.accepted++
		return
	}
	p.refused++
	if p.first == nil {
		p.first = err
	}
}

func (p *publisher) one(ctx context.Context, m *message) error {
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	if err := p.cl.publish(ctx, m, func(err error) { done <- err }); err != nil {
		return fmt.Errorf("publish to %q: %w", m.topic, err)
	}
	var err error
	select {
	case err = <-done:
	case <-p.cl.ended():
		select {
		case err = <-done:
		default:
			err = connectionLost(p.cl)
		}
	case <-ctx.Done():
		err = p.expired(ctx)
	}
	if err != nil {
		return fmt.Errorf("publish to %q: %w", m.topic, err)
	}
	return nil
}

func (p *publisher) expired(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("not acknowledged within %s: it may or may not have been delivered", p.timeout)
	}
	return errors.New("interrupted before it was acknowledged")
}

func connectionLost(cl client) error {
	if err := cl.err(); err != nil {
		return fmt.Errorf("connection lost: %w", err)
	}
	return errors.New("connection closed by the server")
}

// lines publishes each line of r, up to pubWindow at once.
func (p *publisher) lines(ctx context.Context, r io.Reader, m *message) error {
	slots := make(chan struct{}, pubWindow)
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 64<<10), maxLine)
	sent := 0
	var stop error
	for stop == nil && sc.Scan() {
		one := *m
		one.payload = append([]byte(nil), sc.Bytes()...)
		if stop = p.acquire(ctx, slots); stop == nil {
			sent++
			err := p.cl.publish(ctx, &one, func(err error) { p.settle(err); <-slots })
			if err != nil {
				p.settle(err)
				stop = err
			}
		}
	}
	if stop == nil && sc.Err() != nil {
		stop = fmt.Errorf("read lines from stdin: %w", sc.Err())
	}
	for range pubWindow { // all slots are ours when everything is settled
		if err := p.acquire(ctx, slots); err != nil {
			stop = err
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case stop == nil && p.refused == 0:
		return nil
	case stop == nil:
		stop = p.first
	}
	err := fmt.Errorf("publish to %q: %d of %s acknowledged: %w", m.topic, p.accepted, count(sent, "line"), stop)
	if p.accepted > 0 {
		return &codedError{exitPartly, err}
	}
	return err
}

// acquire waits for a free slot.
func (p *publisher) acquire(ctx context.Context, slots chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	select {
	case slots <- struct{}{}:
		return nil
	case <-p.cl.ended():
		return connectionLost(p.cl)
	case <-ctx.Done():
		return p.expired(ctx)
	}
}
