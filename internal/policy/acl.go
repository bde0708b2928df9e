package policy

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr/when"
)

// ACLSpec is one rule of the access list.
type ACLSpec struct {
	Allow    []string  `yaml:"allow" enum:"publish|subscribe|receive" single:"true" doc:"What the rule allows; either this or deny. Deliveries are looked at only where a rule speaks of receive; then what no rule allows a subscriber to receive is kept from it." example:"publish"`
	Deny     []string  `yaml:"deny" enum:"publish|subscribe|receive" single:"true" doc:"What the rule denies; either this or allow."`
	Topic    string    `yaml:"topic" required:"true" unit:"filter" doc:"Topic filter; {client}, {user} and {attrs.NAME} stand for values of the session." example:"site/{attrs.tenant}/{client}/#"`
	Exact    bool      `yaml:"exact" doc:"The rule speaks of subscriptions to just this filter. Denied so, others that match some of its topics are not, and get their events."`
	Client   string    `yaml:"client" doc:"Only clients whose id fits; * stands for any text." example:"pump-*"`
	User     string    `yaml:"user" doc:"Only users whose name fits; * stands for any text."`
	MaxQoS   GrantQoS  `yaml:"max_qos" enum:"0|1|2" default:"2" doc:"Highest QoS that a subscription is granted that this rule allows."`
	Listener []string  `yaml:"listener" ref:"listeners" single:"true" doc:"Only on these listeners."`
	Class    []string  `yaml:"class" ref:"devices" single:"true" doc:"Only devices of these classes."`
	When     when.Text `yaml:"when" doc:"Only where this holds. An event about which it has no answer, such as one whose payload is not JSON for event.json, is refused where this rule would have decided. A rule about subscriptions or deliveries knows the client only, which is the subscriber: no event.json." example:"'device.attrs[\"role\"] == \"app\"'"`
}

// Condition compiles the rule's condition; nil: it has none. place is its number, from 1.
func (s *ACLSpec) Condition(c *when.Compiler, place int) (*when.Condition, error) {
	return c.Compile(s.When, when.Place{Kind: "acl", Name: strconv.Itoa(place), ClientOnly: s.names("subscribe") || s.names("receive")})
}

func (s *ACLSpec) names(action string) bool {
	return slices.Contains(s.Allow, action) || slices.Contains(s.Deny, action)
}

// GrantQoS is a QoS as text, so that a rule which says nothing of it is told from one that says 0. A value.
type GrantQoS string

// UnmarshalText takes 0, 1 and 2.
func (q *GrantQoS) UnmarshalText(b []byte) error {
	if len(b) != 1 || b[0] < '0' || b[0] > '2' {
		return fmt.Errorf("want 0, 1 or 2, not %q", b)
	}
	*q = GrantQoS(b)
	return nil
}

// Validate says what is wrong with a rule.
func (s *ACLSpec) Validate() error {
	_, err := newRule(s)
	return err
}

// ACL says who may use which topic: rules in order, the first that fits decides, and as soon as there is a rule, what none
// fits is denied. It sees topics as clients say them, so it comes before rewrites. What does not come from a client (the
// server's own events, sources) is not asked about. Immutable after New; safe for concurrent use.
//
// A publication fits a rule whose filter matches its topic. A subscription fits an allowing rule whose filter covers the
// whole of the subscription's filter: no topic the one matches is outside of the other. It fits a denying rule when there
// is any topic that both match. So a subscription that could receive something an earlier rule denies is refused as a
// whole, and one that only several rules together would cover is refused too. A delivery fits a rule about receiving whose
// filter matches the topic that the subscriber would get, after rewrites; the rule's values and conditions are those of the
// subscriber. It is the way to let clients subscribe widely and yet keep a part from them, also from subscriptions and
// retained events that were there before the rule. Where no rule speaks of receiving, deliveries are not asked about. As in MQTT 5, section 4.7.2, a rule that
// begins with a wildcard says nothing of topics that begin with $.
//
// A rule that is exact fits only a subscription to its very filter: it keeps clients from subscribing to # while their other
// subscriptions, which # overlaps, are left alone.
//
// A {value} stands for exactly one level and is compared as text. One that the session does not have, or that holds /,
// +, # or NUL, never gives access: an allowing rule does not fit, and a denying rule fits with any level in its place.
//
// A rule whose condition does not hold does not fit. One whose condition has no answer fits and refuses, whatever it says.
type ACL struct {
	rules   []rule
	publish node // the rules that speak of publishing, by topic
	receive node // the rules that speak of receiving
	reads   bool // there are some
}

// rule is one rule, compiled. Immutable after New.
type rule struct {
	allow, publish, subscribe, receive bool
	qos                                event.QoS // at most, of subscriptions

	pattern  event.Pattern
	exact    bool           // only subscriptions to just that filter
	leads    bool           // the first value stands in the first level
	values   []sessionValue // what the names of pattern stand for
	client   glob
	user     glob
	listener []string // nil: any
	class    []string // nil: any
	when     *when.Condition
	text     string // in explanations
}

// NewACL compiles rules, conditions with c (nil: none has one). Without any rule everything is allowed.
func NewACL(rules []ACLSpec, c *when.Compiler) (*ACL, error) {
	a := &ACL{rules: make([]rule, len(rules))}
	for i := range rules {
		r, err := newRule(&rules[i])
		if err != nil {
			return nil, fmt.Errorf("acl[%d]: %w", i, err)
		}
		if r.when, err = rules[i].Condition(c, i+1); err != nil {
			return nil, err
		}
		a.rules[i] = r
		if r.publish {
			a.publish.add(r.pattern.Filter(), i)
		}
		if r.receive {
			a.receive.add(r.pattern.Filter(), i)
			a.reads = true
		}
	}
	return a, nil
}

func newRule(spec *ACLSpec) (r rule, err error) {
	r = rule{allow: len(spec.Allow) > 0, leads: strings.HasPrefix(spec.Topic, "{"), client: newGlob(spec.Client), user: newGlob(spec.User), listener: spec.Listener, class: spec.Class}
	if r.allow == (len(spec.Deny) > 0) {
		return rule{}, errors.New("want either allow or deny")
	}
	switch spec.MaxQoS {
	case "", "2":
		r.qos = event.ExactlyOnce
	case "1":
		r.qos = event.AtLeastOnce
	case "0":
	default:
		return rule{}, badField("max_qos", "want 0, 1 or 2, not %q", spec.MaxQoS)
	}
	key, actions := "allow", spec.Allow
	if !r.allow {
		key, actions = "deny", spec.Deny
	}
	r.text = key + " " + strings.Join(actions, ", ") + " " + spec.Topic
	for _, what := range actions {
		switch what {
		case "publish":
			r.publish = true
		case "subscribe":
			r.subscribe = true
		case "receive":
			r.receive = true
		default:
			return rule{}, badField(key, "want publish, subscribe or receive, not %q", what)
		}
	}
	if r.pattern, err = event.ParsePattern(spec.Topic); err != nil {
		return rule{}, &specError{"topic", err}
	}
	if r.exact = spec.Exact; r.exact && (r.publish || len(r.pattern.Names()) > 0) {
		return rule{}, badField("exact", "want a rule about subscribing only, to a topic without {names}")
	}
	for _, n := range r.pattern.Names() {
		v, ok := parseSessionValue(n)
		if !ok {
			return rule{}, badField("topic", "{%s} is not {client}, {user} or {attrs.NAME}", n)
		}
		r.values = append(r.values, v)
	}
	return r, nil
}

// Name is "acl".
func (a *ACL) Name() string { return "acl" }

// Apply rejects an event with Unauthorized, unless the first rule that fits allows it.
func (a *ACL) Apply(ctx *Context, ev *event.Event) Verdict {
	if len(a.rules) == 0 || !fromClient(ev.From) {
		return Verdict{}
	}
	q := query{acl: a, ctx: ctx, ev: ev, from: ev.From, topic: ev.Topic, best: math.MaxInt}
	q.root(&a.publish)
	v := Verdict{Kind: Reject, Outcome: event.Unauthorized}
	switch {
	case q.err != nil:
		a.rules[q.best].when.Failed(ctx.input(ev), q.err)
	case q.best < len(a.rules) && a.rules[q.best].allow:
		v = Verdict{}
	}
	if ctx.Watch != nil {
		v.Why = a.why(&q)
	}
	return v
}

// why says which rule decided.
func (a *ACL) why(q *query) string {
	if q.best >= len(a.rules) {
		return "no rule fits"
	}
	r := &a.rules[q.best]
	s := "rule " + strconv.Itoa(q.best+1) + ": " + r.text
	if r.when != nil {
		in := q.ctx.input(q.ev)
		ok, err := r.when.Holds(in)
		s += "; " + r.when.Explain(in, ok, err)
	}
	return s
}

// Subscribe rejects a subscription with Unauthorized, unless the first rule that fits allows it.
func (a *ACL) Subscribe(ctx *Context, from *event.Origin, filter []byte, _ event.QoS) Verdict {
	if len(a.rules) == 0 || !fromClient(from) {
		return Verdict{}
	}
	for i := range a.rules {
		r := &a.rules[i]
		if !r.subscribe || !r.speaksOf(from) || r.exact && string(r.pattern.Filter()) != string(filter) {
			continue
		}
		if r.allow && !r.covers(ctx, from, filter) || !r.allow && !r.meets(ctx, from, filter) {
			continue
		}
		if r.when != nil {
			in := ctx.clientInput(from)
			ok, err := r.when.Holds(in)
			if err != nil {
				r.when.Failed(in, err)
			}
			ctx.done()
			if err != nil {
				break
			}
			if !ok {
				continue
			}
		}
		if r.allow {
			return Verdict{Lowered: r.qos < event.ExactlyOnce, QoS: r.qos}
		}
		break
	}
	return Verdict{Kind: Reject, Outcome: event.Unauthorized}
}

// Receives says whether any rule speaks of receiving: where false, deliveries need not be asked about.
func (a *ACL) Receives() bool { return a.reads }

// Receive withholds an event from a subscriber, unless the first rule about receiving that fits allows it.
func (a *ACL) Receive(ctx *Context, to *event.Origin, ev *event.Event) bool {
	if !a.reads || !fromClient(to) {
		return true
	}
	q := query{acl: a, ctx: ctx, ev: ev, from: to, topic: ev.Topic, best: math.MaxInt, receiving: true}
	q.root(&a.receive)
	if q.err != nil {
		a.rules[q.best].when.Failed(ctx.clientInput(to), q.err)
		ctx.done()
		return false
	}
	return q.best < len(a.rules) && a.rules[q.best].allow
}

// speaksOf says whether the rule is about this session at all.
func (r *rule) speaksOf(o *event.Origin) bool {
	return r.client.match(o.Client) && r.user.match(o.User) && (r.listener == nil || slices.Contains(r.listener, o.Listener)) &&
		(r.class == nil || o.Class != nil && slices.Contains(r.class, o.Class.Name))
}

// matches says whether the values of the session fit a topic that the rule's filter matches.
func (r *rule) matches(ctx *Context, o *event.Origin, topic []byte) bool {
	if len(r.values) == 0 {
		return true
	}
	ctx.caps = r.pattern.Captures(topic, ctx.caps[:0])
	for i, level := range ctx.caps {
		if v := r.values[i].of(o); !r.usable(i, v) {
			if r.allow {
				return false
			}
		} else if v != string(level) {
			return false
		}
	}
	return len(ctx.caps) == len(r.values)
}

// usable says whether v can stand in the place of the rule's i-th value. In the first level a value that begins with $
// cannot: it would open the $-topics. As with every value that cannot, an allowance then fits nothing and a denial fits
// whatever stands there.
func (r *rule) usable(i int, v string) bool {
	return usable(v) && (i > 0 || v[0] != '$' || !r.leads)
}

// covers says whether every topic that filter matches fits the rule. A level of the filter that is a wildcard never
// equals a usable value.
func (r *rule) covers(ctx *Context, o *event.Origin, filter []byte) bool {
	return event.Covers(r.pattern.Filter(), filter) && r.matches(ctx, o, filter)
}

// meets says whether any topic that filter matches fits the rule.
func (r *rule) meets(ctx *Context, o *event.Origin, filter []byte) bool {
	if !overlaps(r.pattern.Filter(), filter) {
		return false
	}
	// The levels of filter where the rule has values; behind a # there are none, and it matches any.
	ctx.caps = r.pattern.Captures(filter, ctx.caps[:0])
	for i, level := range ctx.caps {
		if string(level) == "#" {
			break
		}
		if v := r.values[i].of(o); r.usable(i, v) && string(level) != "+" && v != string(level) {
			return false
		}
	}
	return true
}

// overlaps says whether there is a topic that both filters match. Both must be valid.
func overlaps(a, b []byte) bool {
	if wild(a) && len(b) > 0 && b[0] == '$' || wild(b) && len(a) > 0 && a[0] == '$' {
		return false
	}
	for {
		if string(a) == "#" || string(b) == "#" {
			return true
		}
		la, ra, moreA := bytes.Cut(a, slash)
		lb, rb, moreB := bytes.Cut(b, slash)
		if !wild(la) && !wild(lb) && !bytes.Equal(la, lb) {
			return false
		}
		switch {
		case !moreA && !moreB:
			return true
		case !moreA:
			return string(rb) == "#"
		case !moreB:
			return string(ra) == "#"
		}
		a, b = ra, rb
	}
}

var slash = []byte("/")

// wild says whether a filter begins with a wildcard; those stand alone in their level.
func wild(filter []byte) bool { return len(filter) > 0 && (filter[0] == '+' || filter[0] == '#') }

// node is one level of the rules' filters: a tree that finds the rules of a topic without looking at all of them.
// Immutable after New.
type node struct {
	lits   map[string]*node
	plus   *node
	ends   []int // rules whose filter ends here, ascending
	hashes []int // rules whose filter goes on with # only, ascending
}

func (n *node) add(filter []byte, rule int) {
	for more := true; more; {
		if string(filter) == "#" {
			n.hashes = append(n.hashes, rule)
			return
		}
		var level []byte
		level, filter, more = bytes.Cut(filter, slash)
		next := n.plus
		if string(level) != "+" {
			next = n.lits[string(level)]
		}
		if next == nil {
			next = &node{}
			if string(level) == "+" {
				n.plus = next
			} else {
				if n.lits == nil {
					n.lits = make(map[string]*node)
				}
				n.lits[string(level)] = next
			}
		}
		n = next
	}
	n.ends = append(n.ends, rule)
}

// query looks for the first rule that fits a publication or a delivery. Owned by the call of Apply or Receive.
type query struct {
	acl   *ACL
	ctx   *Context
	ev    *event.Event
	from  *event.Origin
	topic []byte
	best  int   // the first rule found so far
	err   error // why its condition has no answer

	receiving bool // from is the subscriber
}

func (q *query) root(n *node) {
	if len(q.topic) == 0 || q.topic[0] != '$' {
		q.search(n, q.topic, true)
		return
	}
	level, rest, more := bytes.Cut(q.topic, slash)
	if next := n.lits[string(level)]; next != nil {
		q.search(next, rest, more)
	}
}

// search goes down the tree; it visits each node of it at most once, however many levels the topic has.
func (q *query) search(n *node, rest []byte, more bool) {
	q.try(n.hashes)
	if !more {
		q.try(n.ends)
		return
	}
	level, rest, more := bytes.Cut(rest, slash)
	if next := n.lits[string(level)]; next != nil {
		q.search(next, rest, more)
	}
	if n.plus != nil {
		q.search(n.plus, rest, more)
	}
}

// try looks at rules whose filter matches the topic, up to the first that fits.
func (q *query) try(rules []int) {
	for _, i := range rules {
		if i >= q.best {
			return
		}
		r := &q.acl.rules[i]
		if !r.speaksOf(q.from) || !r.matches(q.ctx, q.from, q.topic) {
			continue
		}
		var err error
		if r.when != nil {
			var ok bool
			if ok, err = q.holds(r.when); !ok && err == nil {
				continue
			}
		}
		q.best, q.err = i, err
		return
	}
}

func (q *query) holds(c *when.Condition) (ok bool, err error) {
	if !q.receiving {
		return c.Holds(q.ctx.input(q.ev))
	}
	ok, err = c.Holds(q.ctx.clientInput(q.from))
	q.ctx.done()
	return ok, err
}
