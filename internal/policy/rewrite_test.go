package policy

import (
	"strings"
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
)

func TestRewrite(t *testing.T) {
	source := client("s")
	source.Pool = "brokers"
	tests := []struct {
		name, topic, to string
		from            *event.Origin
		in, out         string
		kind            Kind
	}{
		{"capture", "old/{id}/x", "new/{id}/x", client("a"), "old/7/x", "new/7/x", Pass},
		{"no match", "old/{id}/x", "new/{id}/x", client("a"), "old/7/y", "old/7/y", Pass},
		{"swap", "{a}/{b}", "{b}/{a}", client("a"), "1/2", "2/1", Pass},
		{"twice, inside a level", "d/{id}", "dev-{id}/{id}", client("a"), "d/9", "dev-9/9", Pass},
		{"session", "t/#", "site/{attrs.tenant}/{client}/{user}", client("a"), "t/x", "site/acme/a/u-a", Pass},
		{"session value missing", "t/#", "site/{attrs.none}", client("a"), "t", "t", Reject},
		{"client that is two levels", "t/#", "site/{client}", client("a/b"), "t", "t", Reject},
		{"client that is a wildcard", "t/#", "site/{client}", client("#"), "t", "t", Reject},
		{"client with NUL", "t/#", "site/{client}", client("a\x00"), "t", "t", Reject},
		{"empty level", "old/{id}/x", "new/{id}/x", client("a"), "old//x", "old//x", Reject},
		{"no way into $-topics", "old/{id}", "{id}/x", client("a"), "old/$SYS", "old/$SYS", Reject},
		{"too long", "old/{id}", "{id}/{id}", client("a"), "old/" + strings.Repeat("x", 40000), "old/" + strings.Repeat("x", 40000), Reject},
		{"a source", "old/{id}", "new/{id}", source, "old/1", "new/1", Pass},
		{"the server itself", "old/{id}", "new/{id}", nil, "old/1", "old/1", Pass},
		{"$-topics not by a wildcard", "#", "all", client("a"), "$SYS/x", "$SYS/x", Pass},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := fix[*Rewrite](t)(NewRewrite(RewriteSpec{Topic: tt.topic, To: tt.to}, nil))
			ctx, ev := &Context{}, pub(tt.from, tt.in)
			ev.Keep()
			v := NewChain(nil, r).Apply(ctx, ev)
			if v.Kind != tt.kind || string(ev.Topic) != tt.out || string(ev.Keep().Topic) != tt.out {
				t.Errorf("%+v, %.80q", v, ev.Topic)
			}
			if v.Kind == Reject && v.Outcome != event.BadTopic {
				t.Errorf("%+v", v)
			}
		})
	}
}

func TestRewritesInARow(t *testing.T) {
	c := NewChain(nil,
		fix[*Rewrite](t)(NewRewrite(RewriteSpec{Name: "one", Topic: "a/{x}", To: "b/{x}/{x}"}, nil)),
		fix[*Rewrite](t)(NewRewrite(RewriteSpec{Name: "two", Topic: "b/{x}/{y}", To: "c/{y}/{client}"}, nil)))
	ctx := &Context{}
	for range 3 {
		ev := pub(client("me"), "a/1")
		if v := c.Apply(ctx, ev); v.Kind != Pass || string(ev.Topic) != "c/1/me" {
			t.Errorf("%+v, %q", v, ev.Topic)
		}
	}
}

func TestRewriteSpecErrors(t *testing.T) {
	for _, tt := range []struct {
		spec RewriteSpec
		at   string
	}{
		{RewriteSpec{Topic: "a/#/b", To: "x"}, "topic: "}, {RewriteSpec{Topic: "a/{", To: "x"}, "topic: "},
		{RewriteSpec{Topic: "a/{client}", To: "x"}, "topic: "}, {RewriteSpec{Topic: "a", To: "x/+"}, "to: "},
		{RewriteSpec{Topic: "a", To: "x/{id}"}, "to: "}, {RewriteSpec{Topic: "a/{id}", To: "x/{attrs.}"}, "to: "},
		{RewriteSpec{Topic: "a", To: ""}, "to: "}, {RewriteSpec{Topic: "a", To: "b", OnError: "ignore"}, "on_error: "},
	} {
		err := tt.spec.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), tt.at) {
			t.Errorf("%+v: %v", tt.spec, err)
		}
	}
	r := fix[*Rewrite](t)(NewRewrite(RewriteSpec{Name: "n", Topic: "a", To: "b", OnError: "pass"}, nil))
	if r.Name() != "rewrite:n" || !r.PassOnError() {
		t.Errorf("%q, %t", r.Name(), r.PassOnError())
	}
}

// Whatever a client calls itself and whatever its topic is, the result is a topic name of as many levels as the template
// has, that does not begin with $.
func FuzzRewrite(f *testing.F) {
	f.Add("a/1/b", "pump", "acme")
	f.Add("a/$x/b", "$SYS", "#")
	r := fix[*Rewrite](f)(NewRewrite(RewriteSpec{Topic: "a/{id}/#", To: "{client}/{id}/x{attrs.tenant}"}, nil))
	f.Fuzz(func(t *testing.T, topic, id, tenant string) {
		if !event.ValidTopic([]byte(topic)) {
			return
		}
		ev := pub(&event.Origin{Client: id, Attrs: map[string]string{"tenant": tenant}}, topic)
		v := r.Apply(&Context{}, ev)
		if v.Kind == Reject {
			if string(ev.Topic) != topic {
				t.Fatalf("refused and changed: %q", ev.Topic)
			}
			return
		}
		if string(ev.Topic) != topic && (!event.ValidTopic(ev.Topic) || strings.Count(string(ev.Topic), "/") != 2 || ev.Topic[0] == '$') {
			t.Fatalf("%q by %q, %q became %q", topic, id, tenant, ev.Topic)
		}
	})
}
