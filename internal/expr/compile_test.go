package expr

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr/sets"
)

// testSets are sets.blocked with pump-9 and sets.empty.
func testSets(t testing.TB) *sets.Store {
	t.Helper()
	st, err := sets.New(sets.NewSet("blocked", sets.Strings), sets.NewSet("region", sets.Map))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func testInput(payload string) *Input {
	return &Input{
		Event: &event.Event{
			Topic: []byte("site/acme/pump-1/telemetry"), Payload: []byte(payload), QoS: 1, Time: 1_700_000_000e9,
			From: &event.Origin{Client: "pump-1", User: "u1", Listener: "mqtt-tls", Protocol: "mqtt", Attrs: map[string]string{"tenant": "acme", "role": "app"}},
		},
		Now: 1_700_000_100e9, Captures: [][]byte{[]byte("acme"), []byte("pump-1")}, Class: "sensor", Address: "192.0.2.7",
	}
}

var testOptions = Options{Captures: []string{"tenant", "id"}}

// The expressions of the design's example file mean what they say.
func TestExamplesOfTheDesign(t *testing.T) {
	o := testOptions
	o.Sets = testSets(t)
	for src, want := range map[string]bool{
		`event.client.startsWith("PMP") && conn.listener == "mqtt-old"`: false,
		`event.proto == "coap"`: false,
		`event.proto == "mqtt" && event.protocol == client.protocol`:  true,
		`device.class == "legacy-pump"`:                               false,
		`device.class == "sensor"`:                                    true,
		`device.attrs["role"] == "app"`:                               true,
		`attrs.role == "app" && client.attrs.tenant == vars.tenant`:   true,
		`event.json.temperature > 80.0`:                               true,
		`event.json.temperature > 80`:                                 true,
		`event.json.n == 3 && event.json.list[1] == "b"`:              true,
		`has(event.json.temperature) && !has(event.json.nothing)`:     true,
		`event.direction == "to_device" && size(event.payload) > 512`: false,
		`event.direction == "to_device" && event.text.contains("%n")`: false,
		`vars.tenant == "acme" && vars.id == client.id`:               true,
		`event.size > 10 && event.qos == 1 && !event.retain`:          true,
		`event.json.list.exists(x, x == "b")`:                         true,
		`event.json.list.all(x, x == "b")`:                            false,
		`now - event.time == duration("100s")`:                        true,
		`client.id in sets.blocked`:                                   false,
		`event.topic.matches("^site/[a-z]+/")`:                        true,
		`client.id in ["pump-1", "pump-2"]`:                           true,
		`event.topic.split("/")[1] == "acme"`:                         true,
		`"x" in event.headers`:                                        false,
	} {
		p, err := CompileEvent(src, o)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		got, err := p.Match(testInput(`{"temperature": 91.5, "n": 3, "list": ["a", "b"]}`))
		if err != nil || got != want {
			t.Errorf("%s = %v, %v; want %v", src, got, err, want)
		}
	}
}

// Every mistake is told with its place, and a wrong name with the nearest right one.
func TestMistakesAreFoundAtLoad(t *testing.T) {
	o := testOptions
	o.File, o.Line, o.Col = "w.yaml", 7, 20
	o.Sets = testSets(t)
	for _, c := range []struct{ src, want string }{
		{`event.topik == "a"`, `w.yaml:7:20: there is no variable event.topik (fix: did you mean event.topic?)`},
		{`true && event.qus > 1`, `w.yaml:7:28: there is no variable event.qus (fix: did you mean event.qos?)`},
		{`evnt.topic == "a"`, `there is no variable evnt.topic (fix: did you mean event.topic?)`},
		{`client == "a"`, `there is no variable client`},
		{`event.topic.startWith("a")`, `there is no function startWith (fix: did you mean startsWith?)`},
		{`event.qos == "1"`, `== cannot be applied to (int, string)`},
		{`event.topic.startsWith(1)`, `startsWith cannot be applied to`},
		{`event.topic`, `the expression must be bool, it is string`},
		{`event.topic ==`, `w.yaml:7:34: Syntax error`},
		{``, `the expression is empty`},
		{`vars.tenent == "a"`, `the topic has no {tenent} (fix: did you mean tenant?)`},
		{`client.id in sets.bloked`, `there is no set bloked (fix: did you mean blocked?)`},
		{`sets.blocked.all(x, x == "a")`, `a set can only be asked`},
		{`sets == sets`, `sets stands only in front of the name of a set`},
		{`size(vars) == 1`, `the captures can only be asked one by one`},
		{`[1].all(now, now == 1)`, `now already has a meaning`},
		{`event.topic.matches("(")`, `invalid matches argument`},
		{`duration("5 minutes") > duration("1s")`, `invalid duration`},
		{`event.json.a.all(x, event.json.b.all(y, event.json.c.all(z, x == y && y == z)))`, `units for one event, at most`},
		{strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200), `recursion`},
	} {
		_, err := CompileEvent(c.src, o)
		var errs Errors
		if !errors.As(err, &errs) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %s", c.src, err, c.want)
		}
	}
}

func TestCompileValue(t *testing.T) {
	lines, err := CompileValue(`event.text.split(";")`, testOptions)
	if err != nil {
		t.Fatal(err)
	}
	o := testOptions
	o.Let = []Let{{"f", lines}}
	in := testInput("71.5;3.2")
	for src, want := range map[string]string{
		`event.client`:                            "pump-1",
		`double(f[0])`:                            "71.5",
		`event.time`:                              "2023-11-14T22:13:20Z",
		`"site/acme/" + event.client + "/x"`:      "site/acme/pump-1/x",
		`"iot." + vars.tenant`:                    "iot.acme",
		`event.payload`:                           "71.5;3.2",
		`event.size * 2`:                          "16",
		`now - event.time`:                        "1m40s",
		`event.qos == 1 ? "yes" : "no"`:           "yes",
		`string(event.size) + "/" + device.class`: "8/sensor",
	} {
		v, err := CompileValue(src, o)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		r, err := v.Eval(in)
		if got, _ := r.AppendText(nil); err != nil || string(got) != want {
			t.Errorf("%s = %q, %v; want %q", src, got, err, want)
		}
	}
}

func TestCompileRow(t *testing.T) {
	fields := []RowField{{"name", String}, {"queue.bytes", Int}, {"connected", Bool}, {"since", Time}, {"idle", Duration}, {"subs", List}, {"attrs", Map}, {"load", Double}}
	row := map[string]any{"name": "pump-1", "queue.bytes": uint32(12), "connected": true, "since": time.Unix(1, 0), "idle": time.Minute,
		"subs": []string{"a/#"}, "attrs": map[string]string{"tenant": "acme"}, "load": 0.5}
	for src, want := range map[string]bool{
		`name.startsWith("pump") && queue.bytes > 10`:          true,
		`connected && idle > duration("30s") && "a/#" in subs`: true,
		`attrs.tenant == "other" || load > 0.9`:                false,
		`since < now`:                                          true,
	} {
		p, err := CompileRow(fields, src)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		if got, err := p.Match(func(n string) any { return row[n] }); err != nil || got != want {
			t.Errorf("%s = %v, %v; want %v", src, got, err, want)
		}
	}
	if _, err := CompileRow(fields, `nam == "x"`); err == nil || !strings.Contains(err.Error(), "did you mean name?") {
		t.Errorf("a wrong field: %v", err)
	}
}
