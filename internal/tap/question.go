package tap

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// Question is an event that is not sent: what explain is asked about. A value.
type Question struct {
	Protocol      string            `json:"protocol,omitempty" doc:"The protocol that the client speaks; mqtt where it is left out."`
	Version       string            `json:"version,omitempty" doc:"Its version, for the words of the answer: 3.1, 3.1.1 or 5 of mqtt."`
	Listener      string            `json:"listener,omitempty" doc:"Where the client is connected; the first listener of the protocol where it is left out."`
	Client        string            `json:"client,omitempty" doc:"The client that publishes. Where it has a session on the node, its identity and limits are those of the session."`
	User          string            `json:"user,omitempty" doc:"Its principal, where it has no session."`
	Attrs         map[string]string `json:"attrs,omitempty" doc:"Attributes of its principal, where it has no session."`
	Address       string            `json:"address,omitempty" doc:"Where the client comes from, without port, where it has no session."`
	Topic         string            `json:"topic" doc:"The topic as the client says it."`
	QoS           int               `json:"qos,omitempty" minimum:"0" maximum:"2" doc:"The promise that the client asks for."`
	Retain        bool              `json:"retain,omitempty" doc:"Whether the client wants the event kept."`
	Payload       string            `json:"payload,omitempty" doc:"The payload as text."`
	PayloadBase64 []byte            `json:"payload_base64,omitempty" doc:"The payload in base64, in place of text."`
	ContentType   string            `json:"content_type,omitempty" doc:"The content type of the payload."`
	Headers       []Meta            `json:"headers,omitempty" doc:"Headers (user properties), in order."`
	Expiry        float64           `json:"expiry_seconds,omitempty" minimum:"0" doc:"After how many seconds the event expires; 0: never."`
	Assume        map[string]string `json:"assume,omitempty" doc:"What the members of a pool answer, by pool: an outcome (accepted, unavailable, ...). Without it a pool accepts where a member is up."`
}

// questionMax bounds the payload of a question.
const questionMax = 1 << 20

// Event makes the event, without the rest of its origin, and what is assumed of pools. The error says which part of the
// question is wrong.
func (q *Question) Event() (*event.Event, map[string]event.Outcome, error) {
	ev := &event.Event{Topic: []byte(q.Topic), QoS: event.QoS(q.QoS), Retain: q.Retain, Time: time.Now().UnixNano(), Payload: []byte(q.Payload),
		From: &event.Origin{Client: q.Client, User: q.User, Attrs: q.Attrs, Listener: q.Listener, Protocol: q.Protocol, Address: q.Address}}
	if err := event.CheckTopic(ev.Topic); err != nil {
		return nil, nil, fmt.Errorf("topic %q: %w", q.Topic, err)
	}
	if q.QoS < 0 || q.QoS > 2 {
		return nil, nil, fmt.Errorf("qos %d: want 0, 1 or 2", q.QoS)
	}
	if len(q.PayloadBase64) > 0 {
		if q.Payload != "" {
			return nil, nil, errors.New("payload and payload_base64: want one of them")
		}
		ev.Payload = q.PayloadBase64
	}
	if len(ev.Payload) > questionMax {
		return nil, nil, fmt.Errorf("payload of %d bytes: want at most %d", len(ev.Payload), questionMax)
	}
	if q.Expiry < 0 || q.Expiry > 1e9 {
		return nil, nil, errors.New("expiry_seconds: want 0 to 1000000000")
	}
	if q.Expiry > 0 {
		ev.Expires = ev.Time + int64(q.Expiry*float64(time.Second))
	}
	ok := true
	if q.ContentType != "" {
		ev.Meta, ok = event.AppendMeta(ev.Meta, event.MetaContentType, q.ContentType)
	}
	for _, h := range q.Headers {
		var fits bool
		ev.Meta, fits = event.AppendHeader(ev.Meta, h.Name, h.Value)
		ok = ok && fits
	}
	if !ok {
		return nil, nil, errors.New("a content type or header is longer than 65535 bytes")
	}
	assume := make(map[string]event.Outcome, len(q.Assume))
	for pool, word := range q.Assume {
		o, known := outcome(word)
		if !known {
			return nil, nil, fmt.Errorf("assume %s=%s: no such outcome, want one of %s", pool, word, strings.Join(outcomes(), ", "))
		}
		assume[pool] = o
	}
	return ev, assume, nil
}

func outcome(word string) (event.Outcome, bool) {
	for o := range event.NumOutcomes {
		if o.String() == word {
			return o, true
		}
	}
	return 0, false
}

func outcomes() (words []string) {
	for o := range event.NumOutcomes {
		words = append(words, o.String())
	}
	return words
}
