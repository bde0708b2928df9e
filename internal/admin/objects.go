package admin

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/windrose-edc/windrose/internal/event"
)

// registerObjects adds what the configuration names, and the retained events.
func (s *Server) registerObjects() {
	n := s.o.Node
	objects(s, "listener", "Listeners, in the order of the configuration.", n.Listeners, func(l *Listener) string { return l.Name })
	objects(s, "pool", "Pools with their members, in the order of the configuration.", n.Pools, func(p *Pool) string { return p.Name })
	objects(s, "route", "Routes, in the order in which events meet them.", n.Routes, func(r *Route) string { return r.Name })
	objects(s, "policy", "Policies with their verdicts, in the order in which events meet them.", n.Policies, func(p *Policy) string { return p.Name })
	objects(s, "source", "Sources, in the order of the configuration.", n.Sources, func(x *Source) string { return x.Name })
	objects(s, "tap", "Taps that somebody reads now, in the order in which they were opened.", s.taps.rows, func(t *OpenTap) string { return t.ID })
	register(s, operation{id: "list-retained", method: http.MethodGet, path: "/api/v1/retained", group: "retained", summary: "List retained events",
		doc: "The last event of each topic that matches the filter, in the order of the topics. As in MQTT, # does not match topics that begin with $."},
		func(ctx context.Context, in *retainedInput) (*answer[Page[Retained]], error) {
			if !event.ValidFilter([]byte(in.Filter)) {
				return nil, huma.Error422UnprocessableEntity("not a topic filter", &huma.ErrorDetail{Message: "want an MQTT topic filter", Location: "query.filter", Value: in.Filter})
			}
			out, err := readPage(ctx, "retained "+in.Filter, &in.PageInput, func(ctx context.Context, from string, yield func(*Retained) bool) (string, error) {
				return n.Retained(ctx, in.Filter, from, yield)
			})
			if err == nil && in.Where == "" && in.Filter == "#" {
				total := n.Totals().Retained
				out.Body.Total = &total
			}
			return out, err
		})
	register(s, operation{id: "get-retained", method: http.MethodGet, path: "/api/v1/retained/{topic}", group: "retained", summary: "Show the retained event of a topic",
		doc: "A / in the topic is written %2F. Headers are shown to operators, the payload too where it is asked for.", errors: []int{http.StatusNotFound}},
		func(ctx context.Context, in *retainedTopicInput) (*answer[*RetainedDetail], error) {
			r, err := n.RetainedEvent(in.Topic)
			if err != nil {
				return nil, notFound(err, "retained event of topic", in.Topic)
			}
			if err := in.show(ctx, &r.Event); err != nil {
				return nil, err
			}
			return &answer[*RetainedDetail]{r}, nil
		})
}

type retainedInput struct {
	PageInput
	Filter string `query:"filter" default:"#" maxLength:"65535" doc:"MQTT topic filter."`
}

type retainedTopicInput struct {
	Topic string `path:"topic" maxLength:"65535" doc:"Topic, percent-encoded."`
	PayloadInput
}

// PayloadInput asks for a payload. Embed it.
type PayloadInput struct {
	WithPayload bool `query:"payload" doc:"Show the payload too; for operators."`
}

// show lets a payload through that was asked for by somebody who may see it.
func (in PayloadInput) show(ctx context.Context, ev *Event) error {
	operator := callerOf(ctx).Role >= Operator
	if !operator {
		ev.Headers = nil
	}
	switch {
	case !in.WithPayload:
		ev.Payload = nil
	case !operator:
		return huma.Error403Forbidden("payloads are shown to the role operator only")
	}
	return nil
}

// nameInput is the name of an object.
type nameInput struct {
	Name string `path:"name" maxLength:"65535" doc:"Its name."`
}

// tagged is an answer with its version.
type tagged[T any] struct {
	ETag string `header:"ETag" doc:"Version of the object, or hash of the configuration that made it."`
	Body T
}

// objects registers the list and the details of a kind of object of the configuration.
func objects[T any](s *Server, kind, doc string, read func() []T, name func(*T) string) {
	many := plural(kind)
	register(s, operation{id: "list-" + many, method: http.MethodGet, path: "/api/v1/" + many, group: "objects", summary: "List " + many, doc: doc},
		func(ctx context.Context, in *PageInput) (*answer[Page[T]], error) {
			rows := read()
			out, err := readPage(ctx, many, in, steps(rows))
			if err == nil && in.Where == "" {
				total := len(rows)
				out.Body.Total = &total
			}
			return out, err
		})
	register(s, operation{id: "get-" + kind, method: http.MethodGet, path: "/api/v1/" + many + "/{name}", group: "objects", summary: "Show a " + kind,
		doc: "One row of the list of " + many + ".", errors: []int{http.StatusNotFound}},
		func(_ context.Context, in *nameInput) (*tagged[T], error) {
			rows := read()
			var known []string
			for i := range rows {
				if name(&rows[i]) == in.Name {
					return &tagged[T]{ETag: quoteTag(s.o.Node.Info().ConfigHash), Body: rows[i]}, nil
				}
				known = append(known, name(&rows[i]))
			}
			text := fmt.Sprintf("no %s %q", kind, in.Name)
			if len(known) > 0 {
				text += "; there are " + strings.Join(known[:min(len(known), 20)], ", ")
			}
			return nil, huma.Error404NotFound(text)
		})
}

func plural(kind string) string {
	if p, ok := strings.CutSuffix(kind, "y"); ok {
		return p + "ies"
	}
	return kind + "s"
}

// notFound makes an answer of a Node's error.
func notFound(err error, what, name string) error {
	if errors.Is(err, ErrNotFound) {
		return huma.Error404NotFound(fmt.Sprintf("no %s %q", what, name))
	}
	return huma.Error503ServiceUnavailable("the node did not answer in time: " + err.Error())
}

// NewPayload shows the first part of a payload.
func NewPayload(b []byte) *Payload {
	p := &Payload{Bytes: len(b)}
	part := b[:min(len(b), MaxPayload)]
	if text := cutRune(part); utf8.Valid(text) {
		p.Text = string(text)
	} else {
		p.Base64 = encode64(part)
	}
	return p
}

// cutRune takes a rune off the end that was cut in two.
func cutRune(b []byte) []byte {
	for i := 1; i <= utf8.UTFMax && i <= len(b); i++ {
		if utf8.RuneStart(b[len(b)-i]) {
			if !utf8.FullRune(b[len(b)-i:]) {
				return b[:len(b)-i]
			}
			break
		}
	}
	return b
}

func encode64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
