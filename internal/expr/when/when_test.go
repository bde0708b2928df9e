package when_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/config"
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr"
	"github.com/windrose-edc/windrose/internal/expr/when"
	"github.com/windrose-edc/windrose/internal/observe"
)

// spec is a section with a condition.
type spec struct {
	When when.Text `yaml:"when" doc:"A condition."`
}

// However a condition is written in YAML, a mistake in it has the place of the mistake.
func TestPlaceInTheFile(t *testing.T) {
	s := &config.Schema{Sections: []config.Section{{Name: "a", Doc: "A.", Spec: spec{}}}}
	for text, want := range map[string]string{
		"a: { when: event.qoss == 1 }":                      "f.yaml:2:12: a.when: there is no variable event.qoss (fix: did you mean event.qos?)",
		"a: { when: 'event.qoss == 1' }":                    "f.yaml:2:13: a.when: there is no variable event.qoss (fix: did you mean event.qos?)",
		"a:\n  when: \"true && event.qoss == 1\"":           "f.yaml:3:18: a.when: there is no variable event.qoss (fix: did you mean event.qos?)",
		"a:\n  when: |\n    true &&\n    event.qoss == 1\n": "f.yaml:5:1: a.when: there is no variable event.qoss (fix: did you mean event.qos?)",
		"a: { when: '' }":                                   "f.yaml:2:12: a.when: the expression is empty",
		"a: { when: '1 + 1' }":                              "must be bool, it is int",
	} {
		snap, err := s.LoadBytes("f.yaml", []byte("windrose: v1\n"+text+"\n"), nil)
		if err == nil {
			_, err = when.NewCompiler(nil, nil, nil).Compile(snap.Single("a").(*spec).When, when.Place{Kind: "route"})
		}
		var wrong config.Errors
		if !errors.As(err, &wrong) || !strings.Contains(wrong.Error(), want) {
			t.Errorf("%s:\n%v, want\n%s", text, err, want)
		}
	}
}

// A condition without an answer is counted each time, told once a second, and its payload is not told.
func TestFailedIsCountedAndTold(t *testing.T) {
	var out bytes.Buffer
	reg := observe.NewRegistry()
	c, err := when.NewCompiler(nil, observe.Limited(slog.New(slog.NewTextHandler(&out, nil)), nil), reg).Compile(
		when.Text{Src: "event.json.x > 1"}, when.Place{Kind: "route", Name: "hot"})
	if err != nil {
		t.Fatal(err)
	}
	in := &expr.Input{Now: time.Now().UnixNano()}
	ev := &event.Event{Payload: []byte(`{"secret":1,"secret":2}`), From: &event.Origin{Client: "pump-1"}}
	fail := func() {
		in.Begin(ev)
		ok, err := c.Holds(in)
		if ok || err == nil {
			t.Fatalf("%v %v", ok, err)
		}
		c.Failed(in, err)
	}
	for range 10 {
		fail()
	}
	if n := strings.Count(out.String(), "a condition has no answer"); n != 1 || !strings.Contains(out.String(), "route hot") || !strings.Contains(out.String(), "pump-1") {
		t.Errorf("%d lines: %s", n, out.String())
	}
	if strings.Contains(out.String(), "secret") {
		t.Errorf("the payload was told: %s", out.String())
	}
	in.Now += int64(time.Second)
	fail()
	if n := strings.Count(out.String(), "a condition has no answer"); n != 2 {
		t.Errorf("after a second: %d lines", n)
	}
	if a := testing.AllocsPerRun(100, fail); a != 0 {
		t.Errorf("%v allocations", a)
	}
	ev.Dry = true
	before := out.Len()
	in.Now += int64(time.Minute)
	if fail(); out.Len() != before {
		t.Error("an event that is not sent was told")
	}
}

func TestNone(t *testing.T) {
	c, err := when.NewCompiler(nil, nil, nil).Compile(when.Text{}, when.Place{})
	if c != nil || err != nil {
		t.Fatal(c, err)
	}
	if ok, err := c.Holds(&expr.Input{}); !ok || err != nil {
		t.Error("what is not written does not hold")
	}
}

// An explanation shows the values of an event that is not sent, and of no attribute.
func TestExplainHidesAttributes(t *testing.T) {
	c, err := when.NewCompiler(nil, nil, nil).Compile(
		when.Text{Src: `client.attrs["pin"] == "4711" && attrs.x != "" && device.attrs["y"] != "" && event.json.n == 5`}, when.Place{})
	if err != nil {
		t.Fatal(err)
	}
	a := map[string]string{"pin": "4711", "x": "hidden", "y": "hidden"}
	in := &expr.Input{}
	in.Begin(&event.Event{Payload: []byte(`{"n":5}`), From: &event.Origin{Attrs: a}, Dry: true})
	ok, err := c.Holds(in)
	said := strings.TrimPrefix(c.Explain(in, ok, err), "when "+c.Src())
	if !strings.Contains(said, "event.json.n = 5") || !strings.Contains(said, "client.attrs.pin is there") || strings.Contains(said, "4711") || strings.Contains(said, "hidden") {
		t.Error(said)
	}
	in.Event.Dry = false
	if said := c.Explain(in, ok, err); said != "when "+c.Src()+": true" {
		t.Errorf("an event that is sent: %s", said)
	}
}
