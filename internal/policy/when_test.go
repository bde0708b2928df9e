package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/windrose-edc/windrose/internal/config"
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr/sets"
	"github.com/windrose-edc/windrose/internal/expr/when"
	"github.com/windrose-edc/windrose/internal/observe"
)

// compiler makes a compiler with a set, and counts what has no answer.
func compiler(t testing.TB) (*when.Compiler, *observe.Counter) {
	t.Helper()
	s := sets.NewSet("blocked", sets.Strings)
	if err := s.Replace([]sets.Entry{{Key: "bad"}}); err != nil {
		t.Fatal(err)
	}
	reg := observe.NewRegistry()
	st, err := sets.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return when.NewCompiler(st, nil, reg), reg.Counter("windrose_condition_failed_events_total",
		"Events for which a condition (when) had no answer: what a route or class does not take, and a gate refuses.", "kind", "acl")
}

func cond(src string) when.Text {
	return when.Text{Src: src, Path: "acl[0].when", Pos: config.Pos{File: "f.yaml", Line: 3, Col: 9}}
}

// A rule decides where its condition holds; where it has no answer it refuses, whatever it says, unless an earlier rule has
// decided.
func TestACLConditions(t *testing.T) {
	c, failed := compiler(t)
	a := fix[*ACL](t)(NewACL([]ACLSpec{
		{Allow: actions(mayPublish), Topic: "first/#"},
		{Deny: actions(mayBoth), Topic: "#", When: cond(`client.id in sets.blocked`)},
		{Deny: actions(mayPublish), Topic: "+/gate", When: cond(`event.json.v < 2`)},
		{Allow: actions(mayPublish), Topic: "site/#", When: cond(`event.qos == 1`)},
		{Allow: actions(mayPublish), Topic: "any/#"},
		{Allow: actions(maySubscribe), Topic: "#", When: cond(`client.user == "u-admin"`)},
	}, c))
	tests := []struct {
		client, topic, payload string
		qos                    event.QoS
		ok                     bool
		fails                  uint64
	}{
		{"p", "site/a", "x", 1, true, 0},
		{"p", "site/a", "x", 0, false, 0},
		{"bad", "site/a", "x", 1, false, 0},
		{"bad", "first/a", "x", 0, true, 0},
		{"p", "any/gate", `{"v":2}`, 0, true, 0},
		{"p", "any/gate", `{"v":1}`, 0, false, 0},
		{"p", "any/gate", `{"v":2,"v":1}`, 0, false, 1},
		{"p", "any/gate", `{"v":2,"\u0076":1}`, 0, false, 1},
		{"p", "any/gate", `{}`, 0, false, 1},
		{"p", "any/gate", `no json`, 0, false, 1},
		{"p", "first/gate", `no json`, 0, true, 0},
	}
	for _, tt := range tests {
		ev := pub(client(tt.client), tt.topic)
		ev.Payload, ev.QoS = []byte(tt.payload), tt.qos
		before := failed.Value()
		v := NewChain(nil, a).Apply(&Context{}, ev)
		if ok := v.Kind == Pass; ok != tt.ok {
			t.Errorf("%s publishes %q to %s: %v, want %v", tt.client, tt.payload, tt.topic, ok, tt.ok)
		}
		if !tt.ok && v.Outcome != event.Unauthorized {
			t.Errorf("%s: %v", tt.topic, v.Outcome)
		}
		if n := failed.Value() - before; n != tt.fails {
			t.Errorf("%q to %s: %d without an answer, want %d", tt.payload, tt.topic, n, tt.fails)
		}
	}
	for id, ok := range map[string]bool{"admin": true, "p": false, "bad": false} {
		if v := a.Subscribe(&Context{}, client(id), []byte("x/#"), 1); (v.Kind == Pass) != ok {
			t.Errorf("%s subscribes: %v, want %v", id, v.Kind == Pass, ok)
		}
	}
	ev := pub(client("p"), "any/gate")
	ev.Dry, ev.Payload = true, []byte("no json")
	before := failed.Value()
	if v := NewChain(nil, a).Apply(&Context{}, ev); v.Kind != Reject || failed.Value() != before {
		t.Errorf("an event that is not sent: %v, %d counted", v.Kind, failed.Value()-before)
	}
}

// What is wrong with a condition has its place in the file.
func TestConditionErrorsHaveTheirPlace(t *testing.T) {
	c, _ := compiler(t)
	_, err := NewACL([]ACLSpec{{Allow: actions(mayBoth), Topic: "#", When: cond(`true && event.json.x`)}}, c)
	var wrong config.Errors
	if !errors.As(err, &wrong) || len(wrong) != 1 || wrong[0].File != "f.yaml" || wrong[0].Line != 3 || wrong[0].Col != 17 || wrong[0].Path != "acl[0].when" {
		t.Errorf("a subscription that asks for a payload: %v", err)
	}
	if _, err = NewACL([]ACLSpec{{Allow: actions(mayBoth), Topic: "#", When: cond(`true`)}}, nil); err == nil {
		t.Error("a condition without a compiler was left out")
	}
}

func TestRewriteConditions(t *testing.T) {
	c, _ := compiler(t)
	spec := RewriteSpec{Topic: "old/{id}", To: "new/{id}", When: cond(`event.json.v == 1 && vars.id != "9"`)}
	reject := fix[*Rewrite](t)(NewRewrite(spec, c))
	spec.OnError = "pass"
	pass := fix[*Rewrite](t)(NewRewrite(spec, c))
	for _, tt := range []struct {
		r       *Rewrite
		topic   string
		payload string
		want    string
		kind    Kind
	}{
		{reject, "old/1", `{"v":1}`, "new/1", Pass},
		{reject, "old/1", `{"v":2}`, "old/1", Pass},
		{reject, "old/9", `{"v":1}`, "old/9", Pass},
		{reject, "old/1", `{`, "old/1", Reject},
		{pass, "old/1", `{`, "old/1", Pass},
		{reject, "other/1", `{`, "other/1", Pass},
	} {
		ev := pub(client("p"), tt.topic)
		ev.Payload = []byte(tt.payload)
		v := NewChain(nil, tt.r).Apply(&Context{}, ev)
		if string(ev.Topic) != tt.want || v.Kind != tt.kind || v.Kind == Reject && v.Outcome != event.BadPayload {
			t.Errorf("%s with %s: %s, %v", tt.topic, tt.payload, ev.Topic, v)
		}
	}
}

// The first class whose condition holds is the device's; what authentication gave wins over what the class gives.
func TestClasses(t *testing.T) {
	c, _ := compiler(t)
	cs := NewClasses(7)
	for i, x := range []struct{ name, when string }{
		{"broken", `client.attrs["none"] == "x"`}, {"pump", `client.id.startsWith("PMP")`}, {"all", `conn.protocol == "mqtt"`}, {"never", `device.class == "pump"`},
	} {
		s := DeviceSpec{When: cond(x.when), Attrs: map[string]string{"tenant": "class", "n": fmt.Sprint(i)}}
		w, err := s.Condition(c, x.name)
		if err != nil {
			t.Fatal(err)
		}
		if err := cs.Add(x.name, s.Attrs, w); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range map[string]string{"PMP7": "pump", "x": "all"} {
		o := client(id)
		if cs.Current(o) {
			t.Error("nobody has asked yet")
		}
		if o.Class = cs.Of(&Context{}, o); o.Class.Name != want || !cs.Current(o) || NewClasses(8).Current(o) {
			t.Errorf("%s: %+v, want %s", id, o.Class, want)
		}
		if o.Attr("tenant") != "acme" || o.Attr("n") == "" {
			t.Errorf("attributes: %q %q", o.Attr("tenant"), o.Attr("n"))
		}
	}
	o := client("x")
	o.Protocol = "coap"
	if k := cs.Of(&Context{}, o); k.Name != "" || k.Of != 7 {
		t.Errorf("no class: %+v", k)
	}
	a := fix[*ACL](t)(NewACL([]ACLSpec{{Allow: actions(mayPublish), Topic: "c/{attrs.n}", Class: []string{"pump"}}}, nil))
	for id, kind := range map[string]Kind{"PMP7": Pass, "x": Reject} {
		o := client(id)
		o.Class = cs.Of(&Context{}, o)
		if v := a.Apply(&Context{}, pub(o, "c/1")); v.Kind != kind {
			t.Errorf("%s of class %s: %v", id, o.Class.Name, v.Kind)
		}
	}
}

// Conditions allocate nothing, whatever they say of an event, and an ACL that somebody watches says which rule decided.
func TestConditionsAllocateNothing(t *testing.T) {
	c, _ := compiler(t)
	a := fix[*ACL](t)(NewACL([]ACLSpec{
		{Deny: actions(mayPublish), Topic: "#", When: cond(`client.id in sets.blocked`)},
		{Allow: actions(mayPublish), Topic: "site/#", When: cond(`event.json.t > 80.0`)},
	}, c))
	chain := NewChain(nil, a)
	ctx := &Context{}
	for payload, kind := range map[string]Kind{`{"a":1,"t":81}`: Pass, `{"t":79}`: Reject, `{"t"`: Reject} {
		ev := pub(client("p"), "site/1")
		ev.Payload = []byte(payload)
		if n := testing.AllocsPerRun(100, func() {
			if v := chain.Apply(ctx, ev); v.Kind != kind {
				t.Fatalf("%s: %v", payload, v.Kind)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", payload, n)
		}
	}
	w := &whys{}
	ctx.Watch = w
	ev := pub(client("p"), "site/1")
	ev.Payload, ev.Dry = []byte(`{"t":81}`), true
	chain.Apply(ctx, ev)
	if want := "rule 2: allow publish site/#; when event.json.t > 80.0: true; event.json.t = 81"; !strings.Contains(w.last, want) {
		t.Errorf("said %q, want %q", w.last, want)
	}
	ev.Dry = false
	if chain.Apply(ctx, ev); strings.Contains(w.last, "= 81") {
		t.Errorf("the value of an event that is sent was shown: %q", w.last)
	}
}

// whys keeps what was said last.
type whys struct{ last string }

// Verdict implements Watcher.
func (w *whys) Verdict(v Verdict, _ *event.Event, _ bool) { w.last = v.Why }

func actions(s string) []string { return strings.Split(s, ",") }
