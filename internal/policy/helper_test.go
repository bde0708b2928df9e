package policy

import (
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
)

// client is an origin with the usual attributes.
func client(id string) *event.Origin {
	return &event.Origin{Client: id, User: "u-" + id, Attrs: map[string]string{"tenant": "acme"}, Listener: "mqtt", Protocol: "mqtt"}
}

func pub(from *event.Origin, topic string) *event.Event {
	return &event.Event{Topic: []byte(topic), Payload: []byte("x"), From: from}
}

// fix makes one value of a constructor's two.
func fix[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// fake is a policy that says what it is told to.
type fake struct {
	name    string
	v       Verdict
	apply   func(ctx *Context, ev *event.Event) Verdict
	pass    bool
	asked   int
	refunds int
}

func (f *fake) Name() string      { return f.name }
func (f *fake) PassOnError() bool { return f.pass }
func (f *fake) Apply(ctx *Context, ev *event.Event) Verdict {
	f.asked++
	if f.apply != nil {
		return f.apply(ctx, ev)
	}
	return f.v
}
func (f *fake) Refund(*Context, *event.Event) { f.refunds++ }

// both also looks at subscriptions and deliveries.
type both struct {
	fake
	sub     func() Verdict
	receive func() bool
}

func (b *both) Subscribe(*Context, *event.Origin, []byte, event.QoS) Verdict { return b.sub() }
func (b *both) Receives() bool                                               { return true }
func (b *both) Receive(*Context, *event.Origin, *event.Event) bool           { return b.receive() }
