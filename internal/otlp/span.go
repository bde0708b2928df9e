package otlp

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/tap"
)

// The JSON of OTLP: ExportTraceServiceRequest, with ids in hex and 64-bit numbers as text (OTLP, "JSON Protobuf Encoding").
type (
	request struct {
		ResourceSpans []resourceSpans `json:"resourceSpans"`
	}
	resourceSpans struct {
		Resource   resource     `json:"resource"`
		ScopeSpans []scopeSpans `json:"scopeSpans"`
	}
	resource struct {
		Attributes []attribute `json:"attributes"`
	}
	scopeSpans struct {
		Scope scope  `json:"scope"`
		Spans []span `json:"spans"`
	}
	scope struct {
		Name    string `json:"name"`
		Version string `json:"version,omitempty"`
	}
	span struct {
		TraceID    string      `json:"traceId"`
		SpanID     string      `json:"spanId"`
		ParentID   string      `json:"parentSpanId,omitempty"`
		TraceState string      `json:"traceState,omitempty"`
		Name       string      `json:"name"`
		Kind       int         `json:"kind"`
		Start      string      `json:"startTimeUnixNano"`
		End        string      `json:"endTimeUnixNano"`
		Attributes []attribute `json:"attributes,omitempty"`
		Events     []spanEvent `json:"events,omitempty"`
		Status     *status     `json:"status,omitempty"`
	}
	spanEvent struct {
		Time       string      `json:"timeUnixNano"`
		Name       string      `json:"name"`
		Attributes []attribute `json:"attributes,omitempty"`
	}
	status struct {
		Code    int    `json:"code"` // 2: error
		Message string `json:"message,omitempty"`
	}
	attribute struct {
		Key   string `json:"key"`
		Value value  `json:"value"`
	}
	value struct {
		String *string `json:"stringValue,omitempty"`
		Int    *string `json:"intValue,omitempty"`
	}
)

// The kinds of a span.
const (
	kindProducer = 4
	kindConsumer = 5
)

// idSource makes span ids. Owned by the exporter's goroutine.
type idSource struct{ buf [8]byte }

func (s *idSource) next() string {
	for {
		_, _ = rand.Read(s.buf[:]) // never returns an error
		if s.buf != [8]byte{} {
			return hex.EncodeToString(s.buf[:])
		}
	}
}

func text(k, v string) attribute { return attribute{k, value{String: &v}} }

func number(k string, v int) attribute {
	s := strconv.Itoa(v)
	return attribute{k, value{Int: &s}}
}

// document is one request.
func (x *Exporter) document(records []tap.Record) []byte {
	var spans []span
	for i := range records {
		spans = x.spans(spans, &records[i])
	}
	b, err := json.Marshal(request{[]resourceSpans{{
		Resource:   resource{[]attribute{text("service.name", "windrose"), text("service.version", x.o.Version), text("service.instance.id", x.o.Node)}},
		ScopeSpans: []scopeSpans{{scope{"windrose", x.o.Version}, spans}},
	}}})
	if err != nil { // texts and numbers only
		return nil
	}
	return b
}

// contextOf reads the trace context again from what the record shows of the event's headers.
func contextOf(r *tap.Record) (event.TraceContext, bool) {
	var ev event.Event
	for _, h := range r.Headers {
		if h.Name == event.HeaderTraceparent || h.Name == event.HeaderTracestate {
			ev.Meta, _ = event.AppendHeader(ev.Meta, h.Name, h.Value)
		}
	}
	return event.TraceOf(&ev)
}

// spans appends the spans of one event: its own, and one for each target.
func (x *Exporter) spans(dst []span, r *tap.Record) []span {
	tc, ok := contextOf(r)
	if !ok { // redaction keeps the headers of this topic
		return dst
	}
	at := func(us float64) string {
		return strconv.FormatInt(r.Time.Add(time.Duration(us*float64(time.Microsecond))).UnixNano(), 10)
	}
	root := span{
		TraceID: string(tc.TraceID[:]), SpanID: x.ids.next(), ParentID: string(tc.SpanID[:]), TraceState: string(tc.State),
		Name: "process " + r.Listener, Kind: kindConsumer, Start: at(0),
		Attributes: []attribute{
			text("messaging.system", "windrose"), text("messaging.operation.type", "process"), text("messaging.destination.name", r.Topic), text("network.protocol.name", r.Protocol),
			number("messaging.message.body.size", r.Size), text("messaging.client.id", r.Client), text("windrose.outcome", r.Outcome), number("windrose.qos", r.QoS),
		},
	}
	last := 0.0
	type leg struct{ kind, name string }
	legs := map[leg]int{} // place in dst
	first := len(dst)
	dst = append(dst, root)
	for _, s := range r.Steps {
		last = max(last, s.Micros)
		where := first
		if s.Step == tap.StepTarget || s.Step == tap.StepAttempt {
			l := leg{s.Kind, s.Name}
			if s.Step == tap.StepAttempt {
				l.kind = tap.KindPool
			}
			i, known := legs[l]
			if !known {
				i = len(dst)
				legs[l] = i
				dst = append(dst, span{
					TraceID: root.TraceID, SpanID: x.ids.next(), ParentID: root.SpanID, TraceState: root.TraceState, Name: "send " + l.kind, Kind: kindProducer, Start: at(s.Micros),
					Attributes: []attribute{text("windrose.target.kind", l.kind), text("windrose.target.name", l.name)},
				})
			}
			where = i
			dst[i].End = at(s.Micros)
			if bad(s.Outcome) {
				dst[i].Status = &status{2, s.Outcome}
			} else if s.Outcome != "" {
				dst[i].Status = nil // a later attempt succeeded
			}
		}
		dst[where].Events = append(dst[where].Events, eventOf(at(s.Micros), &s))
	}
	dst[first].End = at(last)
	if bad(r.Outcome) {
		dst[first].Status = &status{2, r.Outcome}
	}
	return dst
}

// bad says whether an outcome is an error of the span.
func bad(outcome string) bool {
	return outcome != "" && outcome != event.Accepted.String() && outcome != event.NoMatch.String()
}

func eventOf(at string, s *tap.Step) spanEvent {
	e := spanEvent{Time: at, Name: s.Step}
	for _, kv := range [...][2]string{{"name", s.Name}, {"kind", s.Kind}, {"member", s.Member}, {"verdict", s.Verdict}, {"outcome", s.Outcome}, {"detail", s.Detail}} {
		if kv[1] != "" {
			e.Attributes = append(e.Attributes, text("windrose."+kv[0], kv[1]))
		}
	}
	if s.Attempt > 0 {
		e.Attributes = append(e.Attributes, number("windrose.attempt", s.Attempt))
	}
	return e
}
