// Package when is the conditions of the configuration: each `when:` with its place in the files, compiled once for all that
// say the same, and what happens when one of them has no answer for an event: it is counted and told, and the caller takes
// it for "does not match" where it is a route's or a class's, for a refusal where it is a gate's.
//
// # Concurrency
//
// A Condition is immutable after it was compiled and safe for concurrent use. A Compiler belongs to the goroutine that
// builds.
package when

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/windrose-edc/windrose/internal/config"
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr"
	"github.com/windrose-edc/windrose/internal/expr/sets"
	"github.com/windrose-edc/windrose/internal/observe"
)

// Text is an expression as it is written in the configuration, with its place. Immutable after it is read; the zero value is
// one that is not written.
type Text struct {
	Src  string
	Pos  config.Pos // of its first character
	Path string
}

// UnmarshalConfig implements config.Unmarshaler.
func (t *Text) UnmarshalConfig(v *config.Value) (err error) {
	t.Pos, t.Path = v.TextPos(), v.Path()
	if t.Src, err = v.Text(); err == nil && strings.TrimSpace(t.Src) == "" {
		return v.Fail("the expression is empty", "leave the key out, or write a condition like 'client.id == \"a\"'")
	}
	return err
}

// ConfigType is what the reference says of the field's type.
func (Text) ConfigType() string { return "expression" }

// ConfigSchema is the field's JSON Schema.
func (Text) ConfigSchema() string { return `{"type":"string","minLength":1}` }

// Place says whose condition it is. A value.
type Place struct {
	Kind       string         // of what it belongs to: acl, route, rewrite, device; a word in metrics
	Name       string         // in logs
	ClientOnly bool           // it is asked where there is no event
	Pattern    *event.Pattern // whose captures it may name; nil: none
}

// Compiler compiles the conditions of one configuration. Owned by who builds; nil compiles nothing.
type Compiler struct {
	sets    *sets.Store
	log     *observe.LimitedLogger
	metrics *observe.Registry
	done    map[key]*expr.Predicate
}

// key is what makes two conditions the same. A value.
type key struct {
	src, captures string
	clientOnly    bool
}

// NewCompiler makes a compiler: conditions may name the sets of st, and what goes wrong with them at run time is told to log
// and counted in reg. All three may be nil.
func NewCompiler(st *sets.Store, log *observe.LimitedLogger, reg *observe.Registry) *Compiler {
	return &Compiler{sets: st, log: log, metrics: reg, done: map[key]*expr.Predicate{}}
}

var errNoCompiler = errors.New("expressions are not known here")

// Compile makes a condition of a text; nil, which always holds, of one that is not written. The error is config.Errors.
func (c *Compiler) Compile(t Text, p Place) (*Condition, error) {
	if t.Src == "" {
		return nil, nil
	}
	if c == nil {
		return nil, fmt.Errorf("%s: %w", t.Path, errNoCompiler)
	}
	k := key{src: t.Src, clientOnly: p.ClientOnly}
	o := expr.Options{File: t.Pos.File, Line: t.Pos.Line, Col: t.Pos.Col, ClientOnly: p.ClientOnly, Sets: c.sets}
	if p.Pattern != nil {
		o.Captures = p.Pattern.Names()
		k.captures = strings.Join(o.Captures, "/")
	}
	pred := c.done[k]
	if pred == nil {
		var err error
		if pred, err = expr.CompileEvent(t.Src, o); err != nil {
			return nil, placed(t, err)
		}
		c.done[k] = pred
	}
	w := &Condition{pred: pred, kind: p.Kind, name: p.Name, key: "condition/" + p.Kind + "/" + p.Name, log: c.log, told: new(atomic.Int64)}
	if len(o.Captures) > 0 {
		w.pattern = p.Pattern
	}
	w.failed = c.metrics.Counter("windrose_condition_failed_events_total",
		"Events for which a condition (when) had no answer: what a route or class does not take, and a gate refuses.", "kind", p.Kind)
	return w, nil
}

// placed gives errors of an expression their place in the configuration.
func placed(t Text, err error) error {
	var all expr.Errors
	if !errors.As(err, &all) {
		return fmt.Errorf("%s: %s: %w", t.Pos, t.Path, err)
	}
	out := make(config.Errors, len(all))
	for i, e := range all {
		out[i] = &config.Error{File: e.File, Line: e.Line, Col: e.Col, Path: t.Path, Msg: e.Msg, Fix: e.Fix}
	}
	return out
}

// Condition is a compiled `when:`. Immutable after Compile but for when it told the log; safe for concurrent use. A nil Condition always holds.
type Condition struct {
	pred    *expr.Predicate
	pattern *event.Pattern // whose captures it names; nil: none
	kind    string
	name    string
	key     string // of its lines in the log
	failed  *observe.Counter
	log     *observe.LimitedLogger
	told    *atomic.Int64 // when the log was told last
}

// Holds says whether the condition holds for what in looks at. The error says why it has no answer; ok is false then, and the
// caller that lets it decide calls Failed. It allocates nothing, as Predicate.Match does.
func (c *Condition) Holds(in *expr.Input) (ok bool, err error) {
	if c == nil {
		return true, nil
	}
	if c.pattern != nil {
		in.Captures = in.Captures[:0]
		if in.Event != nil {
			in.Captures = c.pattern.Captures(in.Event.Topic, in.Captures)
		}
	}
	return c.pred.Match(in)
}

// Failed counts and tells that the condition had no answer for what in looks at; not for an event that is not sent.
func (c *Condition) Failed(in *expr.Input, err error) {
	if in.Event != nil && in.Event.Dry {
		return
	}
	c.failed.Inc()
	if c.log == nil || !c.due(in.Now) {
		return
	}
	client := ""
	switch {
	case in.Client != nil:
		client = in.Client.Client
	case in.Event != nil && in.Event.From != nil:
		client = in.Event.From.Client
	}
	c.log.Warn(c.key, "a condition has no answer", slog.String("of", c.kind+" "+c.name), slog.String("when", c.pred.Src()),
		slog.String("client", client), slog.String("error", err.Error()))
}

// tellEvery is how often one condition tells the log that it has no answer: clients can provoke that with each event.
const tellEvery = int64(time.Second)

// due says whether the log is to be told now, Unix nanoseconds.
func (c *Condition) due(now int64) bool {
	last := c.told.Load()
	return (last == 0 || now-last >= tellEvery || now < last) && c.told.CompareAndSwap(last, now)
}

// Src is the condition as it was written.
func (c *Condition) Src() string { return c.pred.Src() }

// Explain says the condition and, for an event that is not sent, what its terms are: values of events that are sent are not
// shown to everybody who looks. It allocates.
func (c *Condition) Explain(in *expr.Input, ok bool, err error) string {
	if c == nil {
		return ""
	}
	var b strings.Builder
	b.WriteString("when ")
	b.WriteString(c.pred.Src())
	switch {
	case err != nil:
		b.WriteString(": no answer: " + err.Error())
	case ok:
		b.WriteString(": true")
	default:
		b.WriteString(": false")
	}
	if in.Event == nil || !in.Event.Dry {
		return b.String()
	}
	sep := "; "
	for _, t := range c.pred.Explain(in) {
		b.WriteString(sep)
		sep = ", "
		if t.Err != nil {
			b.WriteString(t.Name + " has no value")
			continue
		}
		if ofPrincipal(t.Name) {
			b.WriteString(t.Name + " is there")
			continue
		}
		fmt.Fprintf(&b, "%s = %s", t.Name, shown(t.Value))
	}
	return b.String()
}

// ofPrincipal says whether a term is an attribute: who may ask about an event need not see what authentication knows of the
// client whose session it is.
func ofPrincipal(name string) bool {
	for _, of := range []string{"attrs", "client.attrs", "device.attrs"} {
		if rest, ok := strings.CutPrefix(name, of); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// maxShown bounds the text of one value in an explanation.
const maxShown = 64

func shown(v any) string {
	s := fmt.Sprintf("%v", v)
	if text, ok := v.(string); ok {
		s = fmt.Sprintf("%q", text)
	}
	if r := []rune(s); len(r) > maxShown {
		s = string(r[:maxShown]) + "..."
	}
	return s
}
