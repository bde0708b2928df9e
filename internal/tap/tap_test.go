package tap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

func newHub(t testing.TB, s Spec) *Hub {
	t.Helper()
	if s.Taps == 0 {
		s.Taps = 8
	}
	h, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func listen(t testing.TB, h *Hub, o Options) *Tap {
	t.Helper()
	tp, err := h.Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tp.Close)
	return tp
}

func ev(topic, payload string) *event.Event {
	return &event.Event{Topic: []byte(topic), Payload: []byte(payload), From: &event.Origin{Client: "c1", User: "ann", Protocol: "mqtt", Listener: "l"},
		Time: time.Now().UnixNano(), QoS: 1}
}

// ack ends a record.
func ack(h *Hub, e *event.Event) { h.Step(e.Trace, Step{Step: StepAck, Outcome: "accepted"}, 0) }

func next(t testing.TB, tp *Tap) []Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	recs, err := tp.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return recs
}

func words(r *Record) string {
	var out []string
	for _, s := range r.Steps {
		out = append(out, s.Step)
	}
	return strings.Join(out, " ")
}

func TestNobodyListens(t *testing.T) {
	h := newHub(t, Spec{})
	e := ev("a", "x")
	if n := testing.AllocsPerRun(1000, func() { h.Begin(e, 0); h.Step(e.Trace, Step{}, 0) }); n != 0 || e.Trace != 0 {
		t.Errorf("%v allocations, trace %d", n, e.Trace)
	}
	var none *Hub
	none.Begin(e, 0)
	none.Step(1, Step{}, 0)
	none.CloseAll()
}

func TestUnwantedEventsAllocateNothing(t *testing.T) {
	h := newHub(t, Spec{})
	listen(t, h, Options{Topic: "b/#", Where: func(*event.Event, int) (bool, error) { return true, nil }})
	listen(t, h, Options{Where: func(*event.Event, int) (bool, error) { return false, nil }})
	e := ev("a", "x")
	if n := testing.AllocsPerRun(1000, func() { h.Begin(e, 0) }); n != 0 || e.Trace != 0 {
		t.Errorf("%v allocations, trace %d", n, e.Trace)
	}
}

func TestOneRecordOfStepsFromManyGoroutines(t *testing.T) {
	h := newHub(t, Spec{Payload: 100})
	tp := listen(t, h, Options{Payload: true})
	e := ev("a/b", "hello")
	h.Begin(e, 1)
	h.Step(e.Trace, Step{Step: StepRoute, Name: "r"}, 8)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { h.Step(e.Trace, Step{Step: StepTarget, Name: fmt.Sprint(i)}, -1) })
	}
	wg.Wait()
	ack(h, e)
	rs := next(t, tp)
	if len(rs) != 1 || !rs[0].Complete || len(rs[0].Steps) != 11 || rs[0].Outcome != "accepted" || *rs[0].Payload != "hello" {
		t.Fatalf("%+v", rs)
	}
	for i, s := range rs[0].Steps[1:] {
		if s.Micros < rs[0].Steps[i].Micros {
			t.Errorf("step %d is earlier than the one before: %v", i+1, rs[0].Steps)
		}
	}
	h.Step(e.Trace, Step{Step: StepTarget}, 0) // late: ignored
	if n := len(h.open); n != 0 {
		t.Errorf("%d traces left", n)
	}
}

func TestOrderIsThatOfReceiptAndWhatIsOpenComesAgain(t *testing.T) {
	h := newHub(t, Spec{})
	tp := listen(t, h, Options{})
	first, second := ev("1", ""), ev("2", "")
	h.Begin(first, 0)
	h.Begin(second, 1)
	ack(h, second)
	begin := time.Now()
	rs := next(t, tp)
	for len(rs) < 2 {
		rs = append(rs, next(t, tp)...)
	}
	if rs[0].Topic != "1" || rs[0].Complete || rs[1].Topic != "2" || !rs[1].Complete || time.Since(begin) < linger/2 {
		t.Fatalf("after %v: %+v", time.Since(begin), rs)
	}
	ack(h, first)
	if rs = next(t, tp); len(rs) != 1 || rs[0].Topic != "1" || !rs[0].Complete {
		t.Fatalf("%+v", rs)
	}
	if c := tp.Count(); c.Records != 2 {
		t.Errorf("count %+v", c)
	}
}

func TestBounds(t *testing.T) {
	t.Run("taps", func(t *testing.T) {
		h := newHub(t, Spec{Taps: 2})
		listen(t, h, Options{})
		tp := listen(t, h, Options{})
		if _, err := h.Listen(Options{}); !errors.Is(err, ErrTaps) {
			t.Fatalf("a third tap: %v", err)
		}
		tp.Close()
		listen(t, h, Options{})
	})
	t.Run("records", func(t *testing.T) {
		h := newHub(t, Spec{Rate: 100000})
		tp := listen(t, h, Options{})
		for range queueMax + 10 {
			e := ev("a", "")
			h.Begin(e, 0)
			ack(h, e)
		}
		if c := tp.Count(); c.Dropped != 10 || len(tp.queue) != queueMax {
			t.Errorf("%+v, queue %d", c, len(tp.queue))
		}
	})
	t.Run("rate", func(t *testing.T) {
		h := newHub(t, Spec{Rate: 10})
		tp := listen(t, h, Options{})
		e := ev("a", "")
		for range 25 {
			h.Begin(e, 0)
		}
		if c := tp.Count(); c.Dropped != 15 {
			t.Errorf("%+v", c)
		}
		e.Time += int64(time.Second / 2)
		for range 10 {
			h.Begin(e, 0)
		}
		if c := tp.Count(); c.Dropped != 20 {
			t.Errorf("half a second later: %+v", c)
		}
	})
	t.Run("steps", func(t *testing.T) {
		h := newHub(t, Spec{})
		tp := listen(t, h, Options{})
		e := ev("a", "")
		h.Begin(e, 0)
		for range stepsMax + 5 {
			h.Step(e.Trace, Step{Step: StepTarget}, 0)
		}
		ack(h, e)
		if r := next(t, tp)[0]; r.Left != 6 || len(r.Steps) != stepsMax+1 || r.Outcome != "accepted" {
			t.Errorf("%d steps, %d left out, %q", len(r.Steps), r.Left, r.Outcome)
		}
	})
	t.Run("max", func(t *testing.T) {
		h := newHub(t, Spec{})
		tp := listen(t, h, Options{Max: 2})
		for range 5 {
			e := ev("a", "")
			h.Begin(e, 0)
			if e.Trace != 0 {
				ack(h, e)
			}
		}
		if rs := next(t, tp); len(rs) != 2 {
			t.Errorf("%d records", len(rs))
		}
		if _, err := tp.Next(context.Background()); !errors.Is(err, ErrMax) {
			t.Errorf("then %v", err)
		}
	})
	t.Run("time", func(t *testing.T) {
		h := newHub(t, Spec{For: 50 * time.Millisecond})
		tp := listen(t, h, Options{For: time.Hour})
		e := ev("a", "")
		h.Begin(e, 0)
		if rs := next(t, tp); len(rs) != 1 || rs[0].Complete {
			t.Errorf("%+v", rs)
		}
		if _, err := tp.Next(context.Background()); !errors.Is(err, ErrTime) {
			t.Errorf("then %v", err)
		}
		late := ev("a", "")
		late.Time += int64(time.Minute)
		if h.Begin(late, 0); late.Trace != 0 {
			t.Error("recorded after its time, though nobody closed it")
		}
	})
}

func TestCloseForgetsWhatIsOpen(t *testing.T) {
	h := newHub(t, Spec{})
	tp := listen(t, h, Options{})
	other := listen(t, h, Options{Topic: "b"})
	a, b := ev("a", ""), ev("b", "")
	h.Begin(a, 0)
	h.Begin(b, 0)
	tp.Close()
	if len(h.open) != 1 {
		t.Errorf("%d open, want that of the other tap", len(h.open))
	}
	if _, err := tp.Next(context.Background()); !errors.Is(err, ErrStopped) {
		t.Errorf("%v", err)
	}
	ack(h, b)
	if rs := next(t, other); len(rs) != 1 {
		t.Errorf("%+v", rs)
	}
	h.CloseAll()
	if h.on.Load() != nil || h.Stats().Taps != 0 {
		t.Error("loops still look")
	}
}

func TestFilterThatFails(t *testing.T) {
	h := newHub(t, Spec{})
	tp := listen(t, h, Options{Where: func(*event.Event, int) (bool, error) { return false, errors.New("no such field") }})
	h.Begin(ev("a", ""), 0)
	if c := tp.Count(); c.Failed != 1 || c.FirstErr != "no such field" {
		t.Errorf("%+v", c)
	}
}

func TestAsk(t *testing.T) {
	h := newHub(t, Spec{})
	e := ev("a", "")
	a := h.Ask(e, map[string]event.Outcome{"north": event.TooLarge})
	if !e.Dry || e.Trace == 0 || h.on.Load() != nil {
		t.Fatalf("%+v", e)
	}
	if o, ok := h.Assumed(e.Trace, "north"); !ok || o != event.TooLarge {
		t.Error("what was assumed is not known")
	}
	if _, ok := h.Assumed(e.Trace, "south"); ok {
		t.Error("assumed about another pool")
	}
	ack(h, e)
	r, err := a.Wait(context.Background())
	if err != nil || !r.Complete || !r.DryRun {
		t.Fatalf("%+v %v", r, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	a = h.Ask(e, nil)
	if r, err = a.Wait(ctx); err == nil || r.Complete || len(h.open) != 0 {
		t.Fatalf("%+v %v", r, err)
	}
}

func TestRedaction(t *testing.T) {
	for _, c := range []struct {
		name, topic, payload, want, withheld string
	}{
		{"members at any depth", "a", `{"user":"x", "a":[{"Password" : {"deep":[1]}, "n":1.50}], "token":null}`,
			`{"user":"x", "a":[{"Password":"[redacted]", "n":1.50}], "token":"[redacted]"}`, ""},
		{"values that look like names", "a", `{"k":"password","l":["token"]}`, `{"k":"password","l":["token"]}`, ""},
		{"configured", "a", `{"patient":7,"x":"p"}`, `{"patient":"[redacted]","x":"p"}`, ""},
		{"not JSON after all", "a", `{"password": "s`, "", "cannot be read"},
		{"topic", "site/1/secret/x", `{"a":1}`, "", "topic"},
		{"text", "a", "21.5 C", "21.5 C", ""},
		{"several values", "a", "{\"token\":1}\n{\"token\":2}", "{\"token\":\"[redacted]\"}\n{\"token\":\"[redacted]\"}", ""},
		{"escaped name", "a", `{"pass\u0077ord":"s"}`, `{"pass\u0077ord":"[redacted]"}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHub(t, Spec{Fields: []string{"Patient"}, Topics: []string{"site/+/secret/#"}, Payload: 1024})
			tp := listen(t, h, Options{Payload: true})
			e := ev(c.topic, c.payload)
			e.Meta, _ = event.AppendHeader(e.Meta, "Authorization", "Bearer x")
			e.Meta, _ = event.AppendHeader(e.Meta, "trace", "7")
			h.Begin(e, 0)
			ack(h, e)
			r := next(t, tp)[0]
			got := ""
			if r.Payload != nil {
				got = *r.Payload
			}
			if got != c.want || !strings.Contains(r.Withheld, c.withheld) || c.withheld == "" && r.Withheld != "" {
				t.Errorf("payload %q, withheld %q", got, r.Withheld)
			}
			doc, _ := json.Marshal(r)
			if strings.Contains(string(doc), "Bearer") {
				t.Errorf("a header that is always hidden shows: %s", doc)
			}
		})
	}
}

func TestPayloadBoundAndOff(t *testing.T) {
	h := newHub(t, Spec{Payload: 5})
	without, with := listen(t, h, Options{}), listen(t, h, Options{Payload: true})
	for _, payload := range []string{"äöüx", "\xff\xfe\xfd\xfc\xfb\xfa", strings.Repeat("x", captureMax+1)} {
		e := ev("a", payload)
		h.Begin(e, 0)
		ack(h, e)
		if r := next(t, without)[0]; r.Payload != nil || r.PayloadBase64 != nil || r.Size != len(payload) {
			t.Errorf("a payload that was not asked for: %+v", r)
		}
		r := next(t, with)[0]
		switch payload[0] {
		case '\xff':
			if len(r.PayloadBase64) != 5 || !r.Truncated {
				t.Errorf("%+v", r)
			}
		case 'x':
			if r.Payload != nil || r.Withheld == "" {
				t.Errorf("%+v", r)
			}
		default:
			if *r.Payload != "äö" || !r.Truncated {
				t.Errorf("%q", *r.Payload)
			}
		}
	}
}

func TestHiddenClientAndUser(t *testing.T) {
	h := newHub(t, Spec{Fields: []string{"client", "user"}})
	tp := listen(t, h, Options{})
	e := ev("a", "")
	h.Begin(e, 0)
	h.Step(e.Trace, Step{Step: StepTarget, Kind: KindSession, Name: "c2"}, 0)
	ack(h, e)
	r := next(t, tp)[0]
	doc, _ := json.Marshal(r)
	for _, leak := range []string{`"c1"`, `"c2"`, `"ann"`} {
		if strings.Contains(string(doc), leak) {
			t.Errorf("%s in %s", leak, doc)
		}
	}
}

func TestTextIsHarmlessForTerminals(t *testing.T) {
	h := newHub(t, Spec{})
	tp := listen(t, h, Options{})
	e := ev("a/\x1b[31m\u009b", "")
	h.Begin(e, 0)
	h.Step(e.Trace, Step{Step: StepPolicy, Name: "acl", Verdict: "reject", Outcome: "unauthorized"}, 0)
	ack(h, e)
	r := next(t, tp)[0]
	for _, text := range []string{r.Line(), r.Path()} {
		if strings.ContainsAny(text, "\x1b\u009b") {
			t.Errorf("%q", text)
		}
	}
	if want := "policy    acl: reject, unauthorized"; !strings.Contains(r.Path(), want) {
		t.Errorf("no %q in\n%s", want, r.Path())
	}
	if words(&r) != "received policy ack" {
		t.Error(words(&r))
	}
}

func TestTopicFilterIsThatOfTopics(t *testing.T) {
	topics := []string{"a", "a/", "a/b", "a/b/c", "a/7", "a/b/7", "/7", "7", "b/7", "$x/7", "/", "ab", "a/b/"}
	for _, f := range []string{"a", "a/#", "#", "+", "+/7", "a/+/7", "a/+", "/+", "+/+", "+/#", "a/b/#", "$x/+", "a/+/#", "+/b/+"} {
		quick := newTopicFilter(f)
		for _, topic := range topics {
			if got, want := quick.match([]byte(topic)), event.Match([]byte(f), []byte(topic)); got != want {
				t.Errorf("%s on %s: %v", f, topic, got)
			}
		}
	}
}

func BenchmarkBeginOff(b *testing.B) {
	h := newHub(b, Spec{})
	e := ev("a", "x")
	for b.Loop() {
		h.Begin(e, 0)
	}
}

func BenchmarkBeginUnwanted(b *testing.B) {
	h := newHub(b, Spec{})
	listen(b, h, Options{Topic: "site/+/x"})
	e := ev("site/berlin/y", "x")
	for b.Loop() {
		h.Begin(e, 0)
	}
}

func TestConditionsAreNotAskedAboutWhatIsInRedactedTopics(t *testing.T) {
	h, err := New(Spec{Taps: 2, For: time.Minute, Rate: 1000, Topics: []string{"site/+/health/#"}})
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	tp, err := h.Listen(Options{Inside: true, Where: func(*event.Event, int) (bool, error) { asked++; return true, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer tp.Close()
	for _, topic := range []string{"site/a/health/x", "site/a/health", "site/a/state"} {
		h.Begin(&event.Event{Topic: []byte(topic), Time: time.Now().UnixNano(), Payload: []byte("p")}, 0)
	}
	if asked != 1 || h.Stats().Records != 1 {
		t.Errorf("asked about %d events and recorded %d, want 1 and 1", asked, h.Stats().Records)
	}
}
