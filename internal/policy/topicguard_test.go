package policy

import (
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
)

func TestTopicGuard(t *testing.T) {
	g := fix[*TopicGuard](t)(NewTopicGuard(TopicGuardSpec{Allow: []string{"$aws/things/+/shadow/#"}}))
	source := client("s")
	source.Pool = "brokers"
	for _, tt := range []struct {
		from  *event.Origin
		topic string
		kind  Kind
	}{
		{client("a"), "a/$SYS", Pass}, {client("a"), "$SYS/x", Reject}, {client("a"), "$windrose/connected", Reject}, {client("a"), "$", Reject},
		{client("a"), "$share/g/t", Reject}, {client("a"), "$aws/things/7/shadow/update", Pass}, {client("a"), "$aws/other", Reject},
		{source, "$SYS/x", Reject}, {nil, "$windrose/connected", Pass},
	} {
		v := g.Apply(&Context{}, pub(tt.from, tt.topic))
		if v.Kind != tt.kind || v.Kind == Reject && v.Outcome != event.Unauthorized {
			t.Errorf("%q: %+v", tt.topic, v)
		}
	}
	for _, f := range []string{"", "a/#", "#", "$a/#/b"} {
		if _, err := NewTopicGuard(TopicGuardSpec{Allow: []string{f}}); err == nil {
			t.Errorf("%q: no error", f)
		}
	}
}
