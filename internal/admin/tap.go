package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr"
	"github.com/windrose-edc/windrose/internal/tap"
)

// The times of a stream.
const (
	tapWrite = 5 * time.Second // for one write: who does not read is let go
	tapQuiet = 5 * time.Second // something is sent at least this often, so that both ends know that the other lives
)

type tapInput struct {
	Where   string `query:"where" doc:"Only events for which this CEL expression holds. One that looks into payloads or headers needs the role operator, and never holds for topics that are redacted."`
	Topic   string `query:"topic" doc:"Only events whose topic matches this filter, as their clients say it."`
	Client  string `query:"client" doc:"Only events of this client."`
	For     string `query:"for" doc:"How long, like 60s; not longer than the configuration allows." example:"60s"`
	Max     int    `query:"max" minimum:"0" doc:"End after this many events; 0: no such end."`
	Payload bool   `query:"payload" doc:"Show payloads and headers, as far as the configuration allows. Needs the role operator."`
}

// TapBegin is the first message of a tap. A value.
type TapBegin struct {
	Until time.Time `json:"until" doc:"When the tap ends by itself."`
}

// TapEnd is the last message of a tap. A value.
type TapEnd struct {
	Reason string    `json:"reason" doc:"Why there is no more."`
	Count  tap.Shown `json:"count"`
}

type explainInput struct{ Body tap.Question }

// registerTap adds what shows single events. Without Options.Tap there is nothing to see.
func (s *Server) registerTap() {
	if s.o.Tap == nil {
		return
	}
	op := s.operation(operation{id: "tap-events", method: http.MethodGet, path: "/api/v1/tap", group: "events", stream: true, role: Viewer,
		errors: []int{http.StatusTooManyRequests, http.StatusUnprocessableEntity}, summary: "The decision path of each event, as they come",
		doc: "Server-sent events: begin, then record for each event (again, with the same id, when one was not complete), count once in a while, " +
			"and end. Records come in the order in which events were received. The tap ends by itself; the node logs who asked."})
	op.Responses = map[string]*huma.Response{"200": {Description: "A stream of messages: begin, record, count, end.",
		Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{OneOf: []*huma.Schema{
			s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[tap.Record](), true, "Record"), s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[TapBegin](), true, "TapBegin"),
			s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[tap.Shown](), true, "Count"), s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[TapEnd](), true, "TapEnd")}}}}}}
	huma.Register(s.api, op, s.tap)
	if s.o.Explain == nil {
		return
	}
	register(s, operation{id: "explain-event", method: http.MethodPost, path: "/api/v1/explain", group: "events", role: Viewer,
		summary: "What would become of an event",
		doc: "The event walks like one that is published, and nothing is sent, kept, counted or taken from a limit. What members of pools " +
			"answer is assumed; everything else is as it is on the node now."}, s.explain)
}

func (s *Server) explain(ctx context.Context, in *explainInput) (*answer[tap.Record], error) {
	rec, err := s.o.Explain(ctx, in.Body)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, huma.Error503ServiceUnavailable(err.Error())
	case err != nil:
		return nil, huma.Error422UnprocessableEntity(err.Error())
	}
	return &answer[tap.Record]{rec}, nil
}

// tap opens a tap and answers with its stream.
func (s *Server) tap(ctx context.Context, in *tapInput) (*huma.StreamResponse, error) {
	o := tap.Options{Topic: in.Topic, Client: in.Client, Max: in.Max, Payload: in.Payload}
	who := callerOf(ctx)
	if code, why := allowed(who, Operator); in.Payload && code != 0 {
		return nil, huma.NewError(code, "payloads: "+why)
	}
	if in.For != "" {
		d, err := time.ParseDuration(in.For)
		if err != nil || d <= 0 {
			return nil, huma.Error422UnprocessableEntity(fmt.Sprintf("for: %q is not a time like 60s", in.For))
		}
		o.For = d
	}
	if in.Where != "" {
		f, inside, err := whereFilter(in.Where, s.o.Node.Info().Loops)
		if err != nil {
			return nil, huma.Error422UnprocessableEntity("where: " + strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		if code, why := allowed(who, Operator); inside && code != 0 {
			return nil, huma.NewError(code, "conditions on payloads and headers: "+why)
		}
		o.Where, o.Inside = f, inside
	}
	t, err := s.o.Tap.Listen(o)
	switch {
	case errors.Is(err, tap.ErrTaps):
		return nil, huma.Error429TooManyRequests("there are as many taps as the configuration allows (tap.taps): close one, or wait for its end")
	case err != nil:
		return nil, huma.Error422UnprocessableEntity(err.Error())
	}
	s.log.Info("a tap is opened", "by", who.Name, "remote", who.Remote, "until", t.Until().UTC().Format(time.RFC3339), "where", in.Where, "topic", in.Topic,
		"client", in.Client, "max", in.Max, "payloads", in.Payload)
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		begin := time.Now()
		defer s.taps.add(t, who, in)()
		defer func() {
			t.Close()
			s.log.Info("a tap is closed", "by", who.Name, "remote", who.Remote, "after", time.Since(begin).Round(time.Millisecond).String(), "events", t.Count().Records,
				"dropped", t.Count().Dropped)
		}()
		hc.SetHeader("Content-Type", "text/event-stream")
		hc.SetHeader("X-Accel-Buffering", "no")
		hc.SetStatus(http.StatusOK)
		if w, ok := hc.BodyWriter().(http.ResponseWriter); ok {
			serveTap(hc.Context(), w, t)
		}
	}}, nil
}

// serveTap writes what a tap gives until it ends or nobody reads.
func serveTap(ctx context.Context, w http.ResponseWriter, t *tap.Tap) {
	rc := http.NewResponseController(w)
	var err error
	send := func(kind string, doc any) {
		if err != nil {
			return
		}
		b, e := json.Marshal(doc)
		if err = e; err == nil {
			_, err = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", kind, b)
		}
	}
	flush := func() {
		if err == nil {
			err = rc.Flush()
		}
	}
	_ = rc.SetWriteDeadline(time.Now().Add(tapWrite)) // where there is none, as in tests, nothing is lost
	send("begin", TapBegin{t.Until().UTC()})
	flush()
	var told tap.Shown
	for err == nil {
		wait, cancel := context.WithTimeout(ctx, tapQuiet)
		recs, end := t.Next(wait)
		cancel()
		_ = rc.SetWriteDeadline(time.Now().Add(tapWrite))
		for i := range recs {
			send("record", &recs[i])
		}
		now := t.Count()
		switch {
		case end != nil && ctx.Err() != nil:
			return
		case end != nil && !errors.Is(end, context.DeadlineExceeded):
			send("end", TapEnd{end.Error(), now})
			flush()
			return
		case now.Dropped != told.Dropped || now.Failed != told.Failed || end != nil:
			told = now
			send("count", now)
		}
		flush()
	}
}

// whereFilter compiles a condition on events for that many loops, each of which has an input of its own.
func whereFilter(src string, loops int) (f tap.Filter, inside bool, err error) {
	p, err := expr.CompileEvent(src, expr.Options{})
	if err != nil {
		return nil, false, err
	}
	inputs := make([]expr.Input, max(loops, 1))
	return func(ev *event.Event, loop int) (bool, error) {
		in := &inputs[loop]
		in.Event, in.Now = ev, ev.Time
		ok, err := p.Match(in)
		in.Event = nil
		return ok, err
	}, p.Inside(), nil
}

// schemaName names a type in the API's description. Those of package tap have its name before theirs: step and record are
// words that others use too.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.PkgPath() == reflect.TypeFor[tap.Record]().PkgPath() {
		return "Tap" + name
	}
	return name
}
