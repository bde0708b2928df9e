package webhook

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
)

// W3C trace context, section 3.2, and the distributed tracing extension of CloudEvents: what the sender said goes on, as it
// was; nothing is made of what is not well formed, and nothing where there was nothing.
func TestTraceContextGoesOn(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	var mu sync.Mutex
	var header http.Header
	var body string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		header, body = r.Header, string(b)
		mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
	})
	for _, mode := range []string{"raw", BinaryMode, StructuredMode} {
		l := dial(t, Spec{Mode: mode, Method: http.MethodPost}, s.URL)
		send := func(kv ...string) {
			ev := event.Event{Topic: []byte("a"), Payload: []byte("x")}
			for i := 0; i < len(kv); i += 2 {
				ev.Meta, _ = event.AppendHeader(ev.Meta, kv[i], kv[i+1])
			}
			if r := post(t, l, ev.Keep()); r.Outcome != event.Accepted {
				t.Fatalf("%s: %+v", mode, r)
			}
		}
		send("traceparent", parent, "tracestate", "a=b")
		if header.Get("Traceparent") != parent || header.Get("Tracestate") != "a=b" {
			t.Errorf("%s: %v", mode, header)
		}
		if mode == BinaryMode && (header.Get("Ce-Traceparent") != parent || header.Get("Ce-Tracestate") != "a=b") {
			t.Errorf("%s: %v", mode, header)
		}
		if mode == StructuredMode && !strings.Contains(body, `"traceparent":"`+parent+`"`) {
			t.Errorf("%s: %s", mode, body)
		}
		send("traceparent", strings.ToUpper(parent), "tracestate", "a=b")
		if header.Get("Traceparent") != "" || header.Get("Tracestate") != "" {
			t.Errorf("%s: a wrong one goes on: %v", mode, header)
		}
		send()
		if header.Get("Traceparent") != "" || header.Get("Ce-Traceparent") != "" || strings.Contains(body, "traceparent") {
			t.Errorf("%s: one is invented: %v %s", mode, header, body)
		}
	}
}
