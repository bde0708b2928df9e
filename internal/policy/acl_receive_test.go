package policy

import (
	"slices"
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr/when"
	"github.com/windrose-edc/windrose/internal/observe"
)

const mayReceive = "receive"

// Who may receive what: the first rule about receiving that fits decides by the subscriber and the topic, and what none
// fits is withheld, once there is one.
func TestACLReceive(t *testing.T) {
	a := fix[*ACL](t)(NewACL([]ACLSpec{
		deny(mayReceive, "site/+/+/secret"),
		allow(mayReceive, "site/{attrs.tenant}/{client}/#"),
		{Allow: []string{mayReceive}, Topic: "ops/#", User: "u-op-*", Listener: []string{"mqtt"}},
		{Allow: []string{mayReceive}, Topic: "classy/#", Class: []string{"gateway"}},
		allow("publish,subscribe", "#"),
		{Deny: []string{"subscribe", mayReceive}, Topic: "open/closed"},
		allow(mayReceive, "open/#"),
		allow(mayReceive, "+/x/{user}"),
		allow(mayReceive, "$SYS/uptime"),
	}, nil))
	op := client("op-1")
	op.Listener = "coap"
	gate := client("g")
	gate.Class = &event.Class{Name: "gateway"}
	wild := client("+")
	wild.User = "#"
	for _, tt := range []struct {
		to    *event.Origin
		topic string
		ok    bool
	}{
		{client("me"), "site/acme/me/state", true},
		{client("me"), "site/acme/me/secret", false},
		{client("me"), "site/acme/you/state", false},
		{client("me"), "site/other/me/state", false},
		{client("op-1"), "ops/a", true},
		{client("me"), "ops/a", false},
		{op, "ops/a", false},
		{gate, "classy/a", true},
		{client("me"), "classy/a", false},
		{client("me"), "open/a/b", true},
		{client("me"), "open/closed", false},
		{client("me"), "a/x/u-me", true},
		{client("me"), "a/x/u-you", false},
		{client("me"), "$a/x/u-me", false},
		{client("me"), "nobody/said", false},
		{client("me"), "$SYS/uptime", true},
		{client("me"), "$SYS/other", false},
		{wild, "site/acme/+/state", false},
		{wild, "site/acme/you/state", false},
		{wild, "a/x/#", false},
		{&event.Origin{Client: "s", Pool: "brokers"}, "nobody/said", true},
	} {
		from := client("pub") // whose rights do not count here
		if ok := a.Receive(&Context{}, tt.to, pub(from, tt.topic)); ok != tt.ok {
			t.Errorf("%s receives %s: %v", tt.to.Client, tt.topic, ok)
		}
	}
	if v := a.Apply(&Context{}, pub(client("me"), "site/acme/you/secret")); v.Kind != Pass {
		t.Errorf("rules about receiving decide about publishing: %+v", v)
	}
}

// The condition of a rule about receiving is about the subscriber; without an answer nothing is delivered.
func TestACLReceiveWhen(t *testing.T) {
	rule := func(src string) ACLSpec {
		r := allow(mayReceive, "#")
		r.When = when.Text{Src: src}
		return r
	}
	a := fix[*ACL](t)(NewACL([]ACLSpec{rule(`device.attrs["tenant"] == "acme"`)}, when.NewCompiler(nil, nil, nil)))
	stranger := client("you")
	stranger.Attrs = map[string]string{"tenant": "other"}
	ctx := &Context{}
	if !a.Receive(ctx, client("me"), pub(stranger, "a")) || a.Receive(ctx, stranger, pub(client("me"), "a")) {
		t.Error("the condition is not about the subscriber")
	}
	if _, err := NewACL([]ACLSpec{rule(`event.json.secret == true`)}, when.NewCompiler(nil, nil, nil)); err == nil {
		t.Error("a rule about receiving reads the payload")
	}
}

// Rules that do not speak of receiving say nothing of deliveries, and a chain of those is not asked about them.
func TestACLWithoutReceive(t *testing.T) {
	a := fix[*ACL](t)(NewACL([]ACLSpec{deny(mayBoth, "#")}, nil))
	if !a.Receive(&Context{}, client("me"), pub(client("you"), "a")) {
		t.Error("withheld")
	}
	if NewChain(nil, a).Receives() {
		t.Error("the chain is asked about deliveries")
	}
	b := fix[*ACL](t)(NewACL([]ACLSpec{deny(mayReceive, "a")}, nil))
	if c := NewChain(observe.NewRegistry(), b); !c.Receives() || c.Receive(&Context{}, client("me"), pub(client("you"), "a")) {
		t.Error("the chain is not asked about deliveries")
	}
	spec := ACLSpec{Allow: []string{"recieve"}, Topic: "a"}
	if err := spec.Validate(); err == nil || err.Error() != `allow: want publish, subscribe or receive, not "recieve"` {
		t.Errorf("%v", err)
	}
	if spec := deny("publish,receive", "a"); !slices.Contains(spec.Deny, mayReceive) || spec.Validate() != nil {
		t.Errorf("%+v", spec)
	}
}

// Asking about a delivery allocates nothing, however many rules there are.
func TestACLReceiveAllocatesNothing(t *testing.T) {
	rules := []ACLSpec{deny(mayReceive, "site/{attrs.tenant}/+/secret")}
	for i := range 100 {
		rules = append(rules, allow(mayReceive, "other/"+string(rune('a'+i%26))+"/{client}/#"))
	}
	rules = append(rules, allow(mayReceive, "site/{attrs.tenant}/{client}/#"))
	c := NewChain(observe.NewRegistry(), fix[*ACL](t)(NewACL(rules, nil)))
	ctx := &Context{}
	to, from := client("pump-7"), client("pub")
	for topic, want := range map[string]bool{"site/acme/pump-7/state": true, "site/acme/pump-7/secret": false, "site/acme/x/state": false} {
		ev, ok := pub(from, topic), false
		if n := testing.AllocsPerRun(200, func() { ok = c.Receive(ctx, to, ev) }); n != 0 || ok != want {
			t.Errorf("%s: %v allocations, %v", topic, n, ok)
		}
	}
}
