package expr

import (
	"encoding/json"
	"testing"

	"cel.dev/cel-go/cel"
)

// payload200 is 200 bytes of JSON with 10 fields; the wanted one is the 8th.
const payload200 = `{"id":"pump-0001","ts":1700000000,"site":"berlin","line":"l-12","fw":"1.4.2","status":"running","pressure":4.25,` +
	`"temperature":91.5,"vibration":[0.12,0.31,0.08,0.22],"note":"all good, no action nee"}`

const (
	predicateTopic   = `event.topic.startsWith("site/") && client.id.startsWith("pump-") && event.qos >= 1`
	predicatePayload = `event.json.temperature > 80.0 && event.topic.startsWith("site/")`
)

func benchMatch(b *testing.B, src string) {
	p, err := CompileEvent(src, testOptions)
	if err != nil || !p.Compiled() {
		b.Fatal(err, "not compiled")
	}
	in := testInput(payload200)
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := p.Match(in); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

func BenchmarkTopicClosures(b *testing.B)   { benchMatch(b, predicateTopic) }
func BenchmarkPayloadClosures(b *testing.B) { benchMatch(b, predicatePayload) }

// With our variables but cel-go's own program.
func benchSlow(b *testing.B, src string) {
	c, err := checkEvent(src, &testOptions, Bool)
	if err != nil {
		b.Fatal(err)
	}
	s, err := newSlow(c)
	if err != nil {
		b.Fatal(err)
	}
	in := testInput(payload200)
	b.ReportAllocs()
	for b.Loop() {
		in.enter()
		if ok, err := s.match(in); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

func BenchmarkTopicProgram(b *testing.B)   { benchSlow(b, predicateTopic) }
func BenchmarkPayloadProgram(b *testing.B) { benchSlow(b, predicatePayload) }

// cel-go as its documentation shows it: a map of values, the payload by encoding/json.
func benchPlain(b *testing.B, src string, payload bool) {
	c, err := checkEvent(src, &testOptions, Bool)
	if err != nil {
		b.Fatal(err)
	}
	prog, err := c.env.Program(c.ast, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		b.Fatal(err)
	}
	in := testInput(payload200)
	b.ReportAllocs()
	for b.Loop() {
		vars := map[string]any{"event.topic": string(in.Event.Topic), "client.id": in.Event.From.Client, "event.qos": int(in.Event.QoS)}
		if payload {
			var v any
			if err := json.Unmarshal(in.Event.Payload, &v); err != nil {
				b.Fatal(err)
			}
			vars["event.json"] = v
		}
		if out, _, err := prog.Eval(vars); err != nil || out.Value() != true {
			b.Fatal(out, err)
		}
	}
}

func BenchmarkTopicCEL(b *testing.B)   { benchPlain(b, predicateTopic, false) }
func BenchmarkPayloadCEL(b *testing.B) { benchPlain(b, predicatePayload, true) }

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := CompileEvent(predicatePayload, testOptions); err != nil {
			b.Fatal(err)
		}
	}
}
