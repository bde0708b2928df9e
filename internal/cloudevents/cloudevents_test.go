package cloudevents

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

var when = time.Date(2026, 2, 3, 4, 5, 6, 7000, time.UTC)

func meta(t *testing.T, pairs ...string) []byte {
	t.Helper()
	var m []byte
	ok := true
	for i := 0; i < len(pairs) && ok; i += 2 {
		switch pairs[i] {
		case "content-type":
			m, ok = event.AppendMeta(m, event.MetaContentType, pairs[i+1])
		case "reply-to":
			m, ok = event.AppendMeta(m, event.MetaReplyTo, pairs[i+1])
		case "correlation":
			m, ok = event.AppendMeta(m, event.MetaCorrelation, pairs[i+1])
		case "format":
			m = event.AppendMetaByte(m, event.MetaPayloadFormat, pairs[i+1][0]-'0')
		default:
			m, ok = event.AppendHeader(m, pairs[i], pairs[i+1])
		}
	}
	if !ok {
		t.Fatal("metadata too long")
	}
	return m
}

func plain(t *testing.T, payload string, pairs ...string) *event.Event {
	t.Helper()
	return &event.Event{
		Topic: []byte("site/köln/pump 7"), Payload: []byte(payload), Meta: meta(t, pairs...), Time: when.UnixNano(),
		QoS: event.AtLeastOnce, From: &event.Origin{Client: "pump-7", Listener: "mqtt in", Protocol: "mqtt"},
	}
}

func encodeHTTP(e *Encoder, ev *event.Event, id string) (map[string]string, string, int) {
	h := map[string]string{}
	body, dropped := e.HTTP(ev, id, func(k, v string) {
		if _, twice := h[k]; twice {
			h[k] = "TWICE"
			return
		}
		h[k] = v
	})
	return h, string(body), dropped
}

func wantHeaders(t *testing.T, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		for k := range want {
			if got[k] != want[k] {
				t.Errorf("header %s: %q, want %q", k, got[k], want[k])
			}
		}
		for k, v := range got {
			if _, ok := want[k]; !ok {
				t.Errorf("unexpected header %s: %q", k, v)
			}
		}
	}
}

// HTTP binding, 3.1: attributes become ce- headers, percent-encoded by 3.1.3.2; the body is the payload.
func TestHTTPBinaryMode_3_1(t *testing.T) {
	e := New(Options{Node: "berlin/1"})
	ev := plain(t, "{}", "content-type", "application/json", "reply-to", "r/1", "correlation", "c 1", "batch", "b%7",
		"batch", "again", "Upper", "x", "id", "forged", "edcclient", "forged", "authid", "forged", "bell", "\a")
	ev.Retain, ev.Expires = true, when.Add(time.Minute).UnixNano()
	ev.From.User = "ann"
	got, body, dropped := encodeHTTP(e, ev, "77-1")
	wantHeaders(t, got, map[string]string{
		"ce-specversion": "1.0", "ce-id": "77-1", "ce-source": "/windrose/berlin%252F1/mqtt%2520in", "ce-type": "windrose.event",
		"ce-subject": "site/k%C3%B6ln/pump%207", "ce-time": "2026-02-03T04:05:06.000007Z", "ce-expirytime": "2026-02-03T04:06:06.000007Z",
		"ce-edcqos": "1", "ce-edcretain": "true", "ce-edcclient": "pump-7", "ce-edcuser": "ann", "ce-edcreplyto": "r/1",
		"ce-correlationid": "c%201", "ce-batch": "b%257", "Content-Type": "application/json",
	})
	if body != "{}" || dropped != 6 {
		t.Errorf("body %q, dropped %d, want 6", body, dropped)
	}
}

// HTTP binding, 3.1.3.2: the specification's own example.
func TestHTTPHeaderValues_3_1_3_2(t *testing.T) {
	const value, encoded = "Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80"
	if got := escape(value); got != encoded {
		t.Errorf("escape: %q", got)
	}
	for in, want := range map[string]string{
		encoded: value, strings.ToLower(encoded): "euro € 😀", `"a \"b\" c"`: `a "b" c`, "%41": "A", "": "", `"`: `"`, `"%22"`: `"`,
		"plain": "plain",
	} {
		if got, err := unescape(in); err != nil || got != want {
			t.Errorf("unescape(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"%C0%A0", "%", "%4", "%zz", "\xff", "%+1"} {
		if got, err := unescape(in); err == nil {
			t.Errorf("unescape(%q) = %q, want an error", in, got)
		}
	}
}

// JSON event format, 3.1.1: how data is written.
func TestJSONData_3_1_1(t *testing.T) {
	e := New(Options{Source: "urn:x", Type: "my.type"})
	for name, c := range map[string]struct {
		payload string
		meta    []string
		want    map[string]any
	}{
		"json":             {`{"a":[1,null]}`, []string{"content-type", "application/json; charset=utf-8"}, map[string]any{"data": map[string]any{"a": []any{1.0, nil}}, "datacontenttype": "application/json; charset=utf-8"}},
		"json suffix":      {`"x"`, []string{"content-type", "application/senml+json"}, map[string]any{"data": "x", "datacontenttype": "application/senml+json"}},
		"broken json":      {`{"a":`, []string{"content-type", "application/json"}, map[string]any{"data_base64": "eyJhIjo=", "datacontenttype": "application/json"}},
		"json, not UTF-8":  {"\"\xff\"", []string{"content-type", "text/json"}, map[string]any{"data_base64": "Iv8i", "datacontenttype": "text/json"}},
		"text":             {"a\"\\\n\x01ü", []string{"content-type", "text/plain"}, map[string]any{"data": "a\"\\\n\x01ü", "datacontenttype": "text/plain"}},
		"text, not UTF-8":  {"\xff", []string{"content-type", "text/plain"}, map[string]any{"data_base64": "/w==", "datacontenttype": "text/plain"}},
		"format says text": {"hello", []string{"format", "1"}, map[string]any{"data": "hello", "datacontenttype": "text/plain; charset=utf-8"}},
		"unknown":          {"hello", nil, map[string]any{"data_base64": "aGVsbG8="}},
		"binary":           {"\x00", []string{"content-type", "application/cbor"}, map[string]any{"data_base64": "AA==", "datacontenttype": "application/cbor"}},
		"empty":            {"", []string{"content-type", "application/json"}, map[string]any{"datacontenttype": "application/json"}},
		"broken type":      {"x", []string{"content-type", "///"}, map[string]any{"data_base64": "eA==", "datacontenttype": "///"}},
	} {
		t.Run(name, func(t *testing.T) {
			body, contentType, dropped := e.JSON([]byte{}, plain(t, c.payload, c.meta...), "1")
			if contentType != "application/cloudevents+json" || dropped != 0 {
				t.Errorf("content type %q, dropped %d", contentType, dropped)
			}
			var got map[string]any
			if err := json.Unmarshal(body, &got); err != nil {
				t.Fatalf("%v in %s", err, body)
			}
			for k, v := range map[string]any{
				"specversion": "1.0", "id": "1", "source": "urn:x", "type": "my.type", "subject": "site/köln/pump 7",
				"time": "2026-02-03T04:05:06.000007Z", "edcqos": 1.0, "edcclient": "pump-7",
			} {
				c.want[k] = v
			}
			g, _ := json.Marshal(got)
			w, _ := json.Marshal(c.want)
			if !bytes.Equal(g, w) {
				t.Errorf("got  %s\nwant %s", g, w)
			}
		})
	}
}

// Mapping, "Fields": a message that already is a CloudEvent passes as it is, in either mode.
func TestCloudEventPassesAsItIs(t *testing.T) {
	e := New(Options{Node: "n"})
	structured := plain(t, `{"specversion":"1.0"`, "content-type", "Application/CloudEvents+json; charset=utf-8", "x", "y")
	if KindOf(structured) != Structured {
		t.Fatal("not recognised")
	}
	h, body, _ := encodeHTTP(e, structured, "9")
	wantHeaders(t, h, map[string]string{"Content-Type": "Application/CloudEvents+json; charset=utf-8"})
	out, ct, _ := e.JSON(nil, structured, "9")
	if body != string(structured.Payload) || string(out) != body || ct != h["Content-Type"] {
		t.Errorf("%q, %q as %q", body, out, ct)
	}

	bin := plain(t, "21.5", "specversion", "1.0", "id", "a-1", "source", "/dev/7", "type", "t", "time", "2020-01-01T00:00:00Z",
		"edcqos", "2", "content-type", "text/plain")
	if KindOf(bin) != Binary {
		t.Fatal("not recognised")
	}
	h, body, dropped := encodeHTTP(e, bin, "9")
	wantHeaders(t, h, map[string]string{
		"ce-specversion": "1.0", "ce-id": "a-1", "ce-source": "/dev/7", "ce-type": "t", "ce-time": "2020-01-01T00:00:00Z",
		"ce-edcqos": "2", "Content-Type": "text/plain",
	})
	if body != "21.5" || dropped != 0 {
		t.Errorf("body %q, dropped %d", body, dropped)
	}
	out, _, _ = e.JSON(nil, bin, "9")
	if want := `{"specversion":"1.0","id":"a-1","source":"/dev/7","type":"t","time":"2020-01-01T00:00:00Z","edcqos":"2","datacontenttype":"text/plain","data":"21.5"}`; string(out) != want {
		t.Errorf("got  %s\nwant %s", out, want)
	}
	for _, half := range [][]string{{"specversion", "1.0"}, {"specversion", "0.3", "id", "1", "source", "s", "type", "t"}, {"specversion", "1.0", "id", "1", "source", "s", "type", ""}} {
		if KindOf(plain(t, "", half...)) != Plain {
			t.Errorf("%v is taken for a CloudEvent", half)
		}
	}
}

func headersOf(h map[string]string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for k, v := range h {
			if !yield(http.CanonicalHeaderKey(k), v) {
				return
			}
		}
	}
}

// What is written can be read again, in both modes.
func TestRoundTrip(t *testing.T) {
	e := New(Options{Node: "n"})
	for _, correlation := range []string{"text ü", "\x00\xff"} {
		ev := plain(t, `{"a":1}`, "content-type", "application/json", "reply-to", "r/ü", "correlation", correlation, "batch", "b 7")
		ev.Retain, ev.Expires, ev.QoS = true, when.UnixNano(), 2
		h, body, _ := encodeHTTP(e, ev, "5")
		doc, ct, _ := e.JSON(nil, ev, "5")
		var a, b event.Event
		if err := FromHTTP(&a, headersOf(h), []byte(body)); err != nil {
			t.Fatal(err)
		}
		if err := FromHTTP(&b, headersOf(map[string]string{"content-type": ct}), doc); err != nil {
			t.Fatal(err)
		}
		for _, got := range []*event.Event{&a, &b} {
			if string(got.Topic) != string(ev.Topic) || string(got.Payload) != string(ev.Payload) || got.QoS != 2 || !got.Retain || got.Expires != ev.Expires {
				t.Errorf("got %+v", got)
			}
			for id, want := range map[byte]string{event.MetaContentType: "application/json", event.MetaReplyTo: "r/ü", event.MetaCorrelation: correlation} {
				if v := string(got.MetaValue(id)); v != want {
					t.Errorf("metadata %#x: %q, want %q", id, v, want)
				}
			}
			if string(got.Header("batch")) != "b 7" || string(got.Header("id")) != "5" || KindOf(got) != Binary {
				t.Errorf("headers %q", got.Meta)
			}
		}
		if !bytes.Equal(a.Meta, b.Meta) {
			t.Errorf("the two modes differ:\n%q\n%q", a.Meta, b.Meta)
		}
		// And once more: now it is a CloudEvent and passes as it is.
		again, _, dropped := encodeHTTP(e, &a, "other")
		wantHeaders(t, again, h)
		if dropped != 0 {
			t.Errorf("dropped %d", dropped)
		}
	}
}

// JSON event format, 3.1.2 and 3.2.
func TestFromJSON_3_1_2(t *testing.T) {
	const head = `{"specversion":"1.0","id":"1","source":"s","type":"t"`
	for in, want := range map[string][2]string{ // payload, content type
		head + `}`: {"", ""},
		head + `,"data":{"a": 1},"datacontenttype":"application/json"}`:              {`{"a": 1}`, "application/json"},
		head + `,"data":"I'm just a string"}`:                                        {`"I'm just a string"`, "application/json"},
		head + `,"data":"<much wow=\"xml\"/>","datacontenttype":"application/xml"}`:  {`<much wow="xml"/>`, "application/xml"},
		head + `,"data_base64":"AP8=","datacontenttype":"application/octet-stream"}`: {"\x00\xff", "application/octet-stream"},
		head + `,"data":null}`: {"null", "application/json"},
		head + `,"subject":null,"comexampleothervalue":5,"flag":true,"data_base64":""}`: {"", ""},
	} {
		var ev event.Event
		if err := FromJSON(&ev, "", []byte(in)); err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := [2]string{string(ev.Payload), string(ev.MetaValue(event.MetaContentType))}; got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
	for _, in := range []string{
		"", "[]", "null", `{}`, head, head + "}x", `{"specversion":"1.0","id":"1","source":"s"}`, `{"specversion":"2.0","id":"1","source":"s","type":"t"}`,
		head + `,"id":"2"}`, head + `,"Upper":"x"}`, head + `,"a":{}}`, head + `,"a":1.5}`, head + `,"a":99999999999}`, head + `,"a":"\u0007"}`,
		head + `,"data":1,"data_base64":""}`, head + `,"data_base64":"*"}`, head + `,"data":1,"datacontenttype":"text/plain"}`,
		head + `,"edcqos":3}`, head + `,"expirytime":"soon"}`, head + `,"edccorrelation":"*"}`, head + ",\"a\":\"\xff\"}",
		head + `,"big":"` + strings.Repeat("x", 70000) + `"}`,
	} {
		var ev event.Event
		if err := FromJSON(&ev, "", []byte(in)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%.80s: error %v", in, err)
		}
	}
	var ev event.Event
	if err := FromJSON(&ev, "application/cloudevents-batch+json", []byte("[]")); !errors.Is(err, ErrInvalid) {
		t.Errorf("batch: %v", err)
	}
}

func TestFromHTTPRefuses(t *testing.T) {
	good := map[string]string{"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t"}
	for name, value := range map[string]string{
		"ce-id": "", "ce-type": "%0a", "ce-x": "%C0%A0", "ce-datacontenttype": "text/plain", "ce-specversion": "0.3",
	} {
		h := maps.Clone(good)
		h[name] = value
		var ev event.Event
		if err := FromHTTP(&ev, headersOf(h), nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s = %q: error %v", name, value, err)
		}
	}
	good["ce-bad-name"], good["accept"] = "ignored", "*/*"
	var ev event.Event
	if err := FromHTTP(&ev, headersOf(good), []byte("x")); err != nil || string(ev.Payload) != "x" {
		t.Errorf("%v, %+v", err, ev)
	}
}

func TestNaming(t *testing.T) {
	for _, n := range []Naming{MQTT, HTTP, AMQP, Kafka, NATS} {
		if a, ok := n.Attribute(n.Name("subject")); a != "subject" || !ok {
			t.Errorf("%q: %q, %v", n, a, ok)
		}
		if _, ok := n.Attribute(n.Name("not-a-name")); ok {
			t.Errorf("%q takes a name that no attribute has", n)
		}
	}
	if a, ok := AMQP.Attribute("cloudEvents:id"); a != "id" || !ok {
		t.Errorf("%q, %v", a, ok)
	}
	if _, ok := AMQP.Attribute("id"); ok {
		t.Error("a bare name is no attribute in AMQP")
	}
}

func FuzzFromJSON(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"a":[1]},"edcqos":1}`))
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"AA==","datacontenttype":"text/plain"}`))
	e := New(Options{Node: "n"})
	f.Fuzz(func(t *testing.T, b []byte) {
		var ev event.Event
		if FromJSON(&ev, "", b) != nil {
			return
		}
		out, ct, _ := e.JSON(nil, &ev, "x")
		var again event.Event
		if err := FromJSON(&again, ct, out); err != nil {
			t.Fatalf("%v: %s became %s", err, b, out)
		}
		if string(again.Payload) != string(ev.Payload) || string(again.Topic) != string(ev.Topic) || again.QoS != ev.QoS || again.Expires != ev.Expires {
			t.Fatalf("%+v became %+v", ev, again)
		}
	})
}
