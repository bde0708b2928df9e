package policy

import (
	"slices"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr/when"
)

// RewriteSpec gives events another topic.
type RewriteSpec struct {
	Name          string    `yaml:"name" doc:"Name in metrics; empty: the policy is just called rewrite."`
	Topic         string    `yaml:"topic" required:"true" unit:"filter" doc:"Which events, with captures." example:"old/{id}/x"`
	To            string    `yaml:"to" required:"true" doc:"The new topic, made of text, captures, {client}, {user} and {attrs.NAME}." example:"new/{id}/x"`
	Subscriptions bool      `yaml:"subscriptions" doc:"Give the filters of subscriptions that lie within topic the new name too; a + in a level that is captured stays one."`
	When          when.Text `yaml:"when" doc:"Only where this holds; vars.NAME is a capture of topic. An event about which it has no answer is refused, unless on_error says pass. With subscriptions it knows the client only: no event.json." example:"'event.json.version == 1'"`
	OnError       string    `yaml:"on_error" default:"reject" enum:"reject|pass" doc:"What becomes of an event that the policy fails on (not: one whose new topic would be wrong)."`
}

// Validate says what is wrong with a specification.
func (s *RewriteSpec) Validate() error {
	_, err := newRewrite(s)
	return err
}

// Condition compiles the condition of a specification that is valid; nil: it has none.
func (s *RewriteSpec) Condition(c *when.Compiler) (*when.Condition, error) {
	p := when.Place{Kind: "rewrite", Name: s.Name, ClientOnly: s.Subscriptions}
	if !s.Subscriptions {
		pattern, err := event.ParsePattern(s.Topic)
		if err != nil {
			return nil, err
		}
		p.Pattern = &pattern
	}
	return c.Compile(s.When, p)
}

// Rewrite gives the events that match a pattern another topic, and subscriptions another filter where that is
// asked for. Immutable after New; safe
// for concurrent use.
type Rewrite struct {
	filters  bool
	name     string
	pattern  event.Pattern
	to       event.Template
	session  []sessionName // the names in to that are not captures
	tolerant bool
	when     *when.Condition
}

// sessionName is a name in a template and what it stands for. Immutable after New.
type sessionName struct {
	name  string
	value sessionValue
}

// NewRewrite returns the policy of a specification; c compiles its condition (nil: it has none).
func NewRewrite(spec RewriteSpec, c *when.Compiler) (*Rewrite, error) {
	r, err := newRewrite(&spec)
	if err != nil {
		return nil, err
	}
	if r.when, err = spec.Condition(c); err != nil {
		return nil, err
	}
	return r, nil
}

func newRewrite(spec *RewriteSpec) (*Rewrite, error) {
	r := &Rewrite{name: "rewrite", filters: spec.Subscriptions, tolerant: spec.OnError == "pass"}
	if spec.Name != "" {
		r.name = "rewrite:" + spec.Name
	}
	if spec.OnError != "" && spec.OnError != "pass" && spec.OnError != "reject" {
		return nil, badField("on_error", "want reject or pass, not %q", spec.OnError)
	}
	var err error
	if r.pattern, err = event.ParsePattern(spec.Topic); err != nil {
		return nil, &specError{"topic", err}
	}
	for _, n := range r.pattern.Names() {
		if _, ok := parseSessionValue(n); ok {
			return nil, badField("topic", "{%s} is a value of the session and cannot name a capture", n)
		}
	}
	if r.to, err = event.ParseTemplate(spec.To); err != nil {
		return nil, &specError{"to", err}
	}
	for _, n := range r.to.Names() {
		if slices.Contains(r.pattern.Names(), n) {
			continue
		}
		v, ok := parseSessionValue(n)
		if !ok {
			return nil, badField("to", "{%s} is neither captured by topic nor {client}, {user} or {attrs.NAME}", n)
		}
		r.session = append(r.session, sessionName{n, v})
	}
	return r, nil
}

// Name is "rewrite", or "rewrite:" and the name of the specification.
func (r *Rewrite) Name() string { return r.name }

// PassOnError is `on_error: pass`.
func (r *Rewrite) PassOnError() bool { return r.tolerant }

// Apply writes the new topic into ctx.Scratch and makes it the event's. Where that would not be a topic name, because a
// value is empty, not one level, or makes it too long, the event is rejected with BadTopic.
func (r *Rewrite) Apply(ctx *Context, ev *event.Event) Verdict {
	if ev.From == nil || !event.Match(r.pattern.Filter(), ev.Topic) {
		return Verdict{}
	}
	var why string
	if r.when != nil {
		in := ctx.input(ev)
		ok, err := r.when.Holds(in)
		if ctx.Watch != nil {
			why = r.when.Explain(in, ok, err)
		}
		if err != nil {
			r.when.Failed(in, err)
			if !r.tolerant {
				return Verdict{Kind: Reject, Outcome: event.BadPayload, Why: why}
			}
		}
		if !ok {
			return Verdict{Why: why}
		}
	}
	ctx.caps = r.pattern.Captures(ev.Topic, ctx.caps[:0])
	ctx.values = ctx.values[:0]
	start := len(ctx.Scratch)
	b, ok := r.to.AppendTo(ctx.Scratch, func(name string) []byte { return r.lookup(ctx, ev.From, name) })
	ctx.Scratch = b
	if !ok {
		return Verdict{Kind: Reject, Outcome: event.BadTopic, Why: why}
	}
	ev.Topic = b[start:len(b):len(b)]
	ev.Changed()
	return Verdict{Why: why}
}

// Filter implements FilterPolicy.
func (r *Rewrite) Filter(ctx *Context, from *event.Origin, filter []byte) []byte {
	if !r.filters || from == nil || !event.Covers(r.pattern.Filter(), filter) {
		return filter
	}
	if r.when != nil {
		in := ctx.clientInput(from)
		ok, err := r.when.Holds(in)
		if err != nil {
			r.when.Failed(in, err)
		}
		ctx.done()
		switch {
		case err != nil && !r.tolerant:
			return nil // not a filter: refused
		case !ok:
			return filter
		}
	}
	ctx.caps = r.pattern.Captures(filter, ctx.caps[:0])
	ctx.values = ctx.values[:0]
	start := len(ctx.Scratch)
	b, ok := r.to.AppendFilterTo(ctx.Scratch, func(name string) []byte { return r.lookup(ctx, from, name) })
	ctx.Scratch = b
	if !ok {
		return nil
	}
	return b[start:len(b):len(b)]
}

// lookup returns the value of a name in the template, nil where there is none.
func (r *Rewrite) lookup(ctx *Context, from *event.Origin, name string) []byte {
	for i, n := range r.pattern.Names() {
		if n == name && i < len(ctx.caps) {
			return ctx.caps[i]
		}
	}
	for _, s := range r.session {
		if s.name == name {
			at := len(ctx.values)
			ctx.values = append(ctx.values, s.value.of(from)...)
			return ctx.values[at:]
		}
	}
	return nil
}
