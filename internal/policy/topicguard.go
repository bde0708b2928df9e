package policy

import (
	"github.com/windrose-edc/windrose/internal/event"
)

// TopicGuardSpec says which $-topics clients may publish to.
type TopicGuardSpec struct {
	Allow []string `yaml:"allow" unit:"filter" single:"true" doc:"Filters of topics that begin with $ and that clients may publish to all the same." example:"$aws/#"`
}

// TopicGuard refuses what clients publish to topics that begin with $ ($SYS, $windrose): those are the server's own (MQTT
// 5, section 4.7.2). Subscribing to them is a matter of the acl. Immutable after New; safe for concurrent use.
type TopicGuard struct {
	allow [][]byte
}

// NewTopicGuard returns the policy of a specification.
func NewTopicGuard(spec TopicGuardSpec) (*TopicGuard, error) {
	g := &TopicGuard{}
	for _, f := range spec.Allow {
		if !event.ValidFilter([]byte(f)) {
			return nil, badField("allow", "%q is not a topic filter", f)
		}
		if f[0] != '$' {
			return nil, badField("allow", "%q does not begin with $", f)
		}
		g.allow = append(g.allow, []byte(f))
	}
	return g, nil
}

// Name is "topic_guard".
func (g *TopicGuard) Name() string { return "topic_guard" }

// Apply rejects a client's event with Unauthorized where its topic begins with $ and is not allowed.
func (g *TopicGuard) Apply(_ *Context, ev *event.Event) Verdict {
	if len(ev.Topic) == 0 || ev.Topic[0] != '$' || ev.From == nil {
		return Verdict{}
	}
	for _, f := range g.allow {
		if event.Match(f, ev.Topic) {
			return Verdict{}
		}
	}
	return Verdict{Kind: Reject, Outcome: event.Unauthorized}
}
