package expr

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr/scan"
	"github.com/windrose-edc/windrose/internal/expr/sets"
)

func mustCompile(t testing.TB, src string, o Options) *Predicate {
	t.Helper()
	p, err := CompileEvent(src, o)
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	return p
}

// What runs per event allocates nothing, whether it holds, does not, or is an error.
func TestMatchAllocatesNothing(t *testing.T) {
	o := testOptions
	o.Sets = testSets(t)
	in := testInput(payload200)
	var meta []byte
	meta, _ = event.AppendHeader(meta, "x", "1")
	in.Event.Meta = meta
	for _, src := range []string{
		predicateTopic, predicatePayload, `event.json.missing > 1 || event.json.temperature > 1000`, `event.json.vibration.exists(v, v > 0.3)`,
		`event.json.vibration.exists_one(v, v > 0.3) && client.attrs.all(k, k != "x")`, `event.json.note.contains("good")`, `event.cbor.x == 1`,
		`client.id in sets.blocked || sets.region[client.id] == "north"`, `event.topic.matches("^site/[a-z]+/pump-[0-9]+/")`,
		`event.headers.x == "1" && device.attrs["role"] == "app"`, `vars.tenant + "/" + client.id == "acme/pump-1"`,
		`now - event.time > duration("1m") && string(event.size) != "0"`, `event.client in ["a", "b", "c", "d", "e", "pump-1"]`,
		`event.json.status in ["running", "idle"]`, `event.json.vibration == [0.12, 0.31, 0.08, 0.22]`,
	} {
		p := mustCompile(t, src, o)
		if !p.Compiled() {
			t.Errorf("%s: no closures", src)
			continue
		}
		_, _ = p.Match(in)
		if underRace && strings.Contains(src, "matches") {
			continue // package regexp keeps its machines in a sync.Pool, which loses some on purpose then
		}
		if n := testing.AllocsPerRun(50, func() { _, _ = p.Match(in) }); n != 0 {
			t.Errorf("%s: %v allocations", src, n)
		}
	}
}

// A payload in which two readers could see different values has no values: `!(x > 80)` does not pass it either.
func TestAmbiguousPayloadsPassNoGate(t *testing.T) {
	for _, payload := range []string{
		`{"temperature": 1, "temperature": 99}`, `{"temperature": 1, "\u0074emperature": 99}`, `{"temperature": 1`, `{"temperature": 1}}`,
		"{\"temperature\": 1, \"x\": \"\xff\"}", strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100), ``,
	} {
		for _, src := range []string{`event.json.temperature > 80`, `!(event.json.temperature > 80)`, `has(event.json.temperature)`, `!has(event.json.x)`} {
			for _, compiled := range []bool{true, false} {
				p := mustCompile(t, src, testOptions)
				if !compiled {
					var err error
					if p.slow, err = newSlow(p.c); err != nil {
						t.Fatal(err)
					}
					p.fn = nil
				}
				ok, err := p.Match(testInput(payload))
				var ee *EvalError
				if ok || !errors.As(err, &ee) {
					t.Errorf("%s of %.40q: %v, %v", src, payload, ok, err)
				}
			}
		}
	}
	_, err := mustCompile(t, `event.json.a == 1`, testOptions).Match(testInput(`{"a":1,"a":2}`))
	if !errors.Is(err, scan.ErrDuplicate) || !strings.Contains(err.Error(), `(column 1 of "event.json.a == 1")`) {
		t.Errorf("the reason: %v", err)
	}
}

func TestCBORPayload(t *testing.T) {
	b, err := cbor.Marshal(map[any]any{"temperature": 91.5, 1: "one", "list": []int{1, 2}, "o": map[string]any{"deep": true}, "b": []byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	for src, want := range map[string]bool{
		`event.cbor.temperature > 80`: true, `event.cbor[1] == "one"`: true, `event.cbor.list[1] == 2`: true, `event.cbor.o.deep`: true,
		`event.cbor["o"].deep && size(event.cbor) == 5`: true, `has(event.cbor.missing)`: false, `event.cbor.b == b"\x01"`: true,
		`event.cbor.list.exists(x, x == 3)`: false, `1 in event.cbor && !(2 in event.cbor)`: true,
		`event.cbor.list.map(x, x + 1) == [2, 3]`: true,
	} {
		got, err := mustCompile(t, src, testOptions).Match(testInput(string(b)))
		if err != nil || got != want {
			t.Errorf("%s = %v, %v", src, got, err)
		}
	}
}

// Without Begin each Match looks at the payload that is there; with it the payload is checked once.
func TestInputIsUsedAgain(t *testing.T) {
	p := mustCompile(t, `event.json.a == 1`, testOptions)
	in := testInput(`{"a":1}`)
	match := func(want bool) {
		t.Helper()
		if ok, err := p.Match(in); ok != want || err != nil {
			t.Fatalf("%v, %v", ok, err)
		}
	}
	match(true)
	copy(in.Event.Payload, `{"a":2}`) // a read buffer that is used again
	match(false)
	in.Begin(in.Event)
	match(false)
	copy(in.Event.Payload, `{"a":1}`)
	in.Begin(in.Event)
	match(true)
	other := *in.Event
	other.Payload = []byte(`{"a":3}`)
	in.Event = &other
	match(false)
	in.End()
	if _, err := p.Match(in); err == nil {
		t.Error("no event has a field")
	}
}

// One Predicate, many goroutines; sets change meanwhile.
func TestPredicatesAreShared(t *testing.T) {
	o := testOptions
	o.Sets = testSets(t)
	fast := mustCompile(t, `event.json.temperature > 80.0 && !(client.id in sets.blocked)`, o)
	slow := mustCompile(t, `event.topic.split("/")[1] == "acme" && !(client.id in sets.blocked)`, o)
	if !fast.Compiled() || slow.Compiled() {
		t.Fatal("both ways are to be taken")
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			in := testInput(payload200)
			for range 500 {
				for _, p := range []*Predicate{fast, slow} {
					if ok, err := p.Match(in); !ok || err != nil {
						t.Error(ok, err)
						return
					}
				}
			}
		})
	}
	for range 100 {
		if err := o.Sets.Lookup("blocked").Replace([]sets.Entry{{Key: "pump-9"}}); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if err := o.Sets.Lookup("blocked").Replace([]sets.Entry{{Key: "pump-1"}}); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*Predicate{fast, slow} {
		if ok, err := p.Match(testInput(payload200)); ok || err != nil {
			t.Errorf("%s: the new entries do not count: %v, %v", p.Src(), ok, err)
		}
	}
}

// Sets of each kind, by closures and by cel-go.
func TestSetsInExpressions(t *testing.T) {
	var list []*sets.Set
	for name, s := range map[string]struct {
		kind    sets.Kind
		entries []sets.Entry
	}{
		"blocked": {sets.Strings, []sets.Entry{{Key: "pump-9"}}},
		"office":  {sets.CIDRs, []sets.Entry{{Key: "192.0.2.0/24"}}},
		"alarms":  {sets.Topics, []sets.Entry{{Key: "site/+/+/telemetry"}}},
		"region":  {sets.Map, []sets.Entry{{Key: "pump-1", Value: "north"}}},
		"a-b":     {sets.Strings, []sets.Entry{{Key: "pump-1"}}},
	} {
		set := sets.NewSet(name, s.kind)
		if err := set.Replace(s.entries); err != nil {
			t.Fatal(err)
		}
		list = append(list, set)
	}
	o := testOptions
	var err error
	if o.Sets, err = sets.New(list...); err != nil {
		t.Fatal(err)
	}
	for src, want := range map[string]bool{
		`client.id in sets.blocked`: false, `client.address in sets.office`: true, `event.topic in sets.alarms`: true,
		`sets.region[client.id] == "north"`: true, `client.id in sets.region`: true, `client.id in sets["a-b"]`: true,
		`sets.region["pump-1"] == "north"`: true, `has(sets.region.x)`: false, `"pump-2" in sets.region ? sets.region["pump-2"] == "" : true`: true,
	} {
		for _, tail := range []string{``, ` && size(event.topic.split("/")) > 0`} {
			got, err := mustCompile(t, "("+src+")"+tail, o).Match(testInput(""))
			if err != nil || got != want {
				t.Errorf("%s%s = %v, %v", src, tail, got, err)
			}
		}
	}
	if _, err := mustCompile(t, `sets.region[client.user] == "x"`, o).Match(testInput("")); err == nil {
		t.Error("a key that is not there has a value")
	}
}

// A client is classified before there is an event.
func TestClientOnly(t *testing.T) {
	o := Options{ClientOnly: true}
	in := &Input{Client: &event.Origin{Client: "PMP7", Listener: "mqtt-old"}}
	if ok, err := mustCompile(t, `event.client.startsWith("PMP") && conn.listener == "mqtt-old"`, o).Match(in); !ok || err != nil {
		t.Error(ok, err)
	}
	if _, err := CompileEvent(`event.topic == "a"`, o); err == nil {
		t.Error("there is no topic yet")
	}
}

// Expressions that would cost too much are refused when they are loaded, and payloads cannot make others expensive.
func TestCostIsBounded(t *testing.T) {
	for _, src := range []string{
		`event.json.a.all(x, event.json.b.all(y, x == y))`,
		`event.text.matches("(a*)*b") && event.json.l.all(x, event.text.contains(x))`,
		`event.topic.matches("(a{1,1000}){1,1000}")`,
		`[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, a+b+c+d+e > 0)))))`,
	} {
		if _, err := CompileEvent(src, testOptions); err == nil {
			t.Errorf("%s was taken", src)
		}
	}
	in := testInput(`{"l":[` + strings.Repeat("1,", maxSteps) + `1]}`)
	if ok, err := mustCompile(t, `event.json.l.all(x, x == 1)`, testOptions).Match(in); ok || !errors.Is(err, errSteps) {
		t.Errorf("a long list: %v, %v", ok, err)
	}
	in = testInput(`{"l":[` + strings.Repeat("1,", maxSteps/2) + `1]}`)
	if ok, err := mustCompile(t, `event.json.l.all(x, x == 1)`, testOptions).Match(in); !ok || err != nil {
		t.Errorf("a list: %v, %v", ok, err)
	}
}

func TestExplain(t *testing.T) {
	o := testOptions
	o.Sets = testSets(t)
	p := mustCompile(t, `event.json.temperature > 80.0 && has(event.json.alarm) && client.attrs["tenant"] == vars.tenant && client.id in sets.blocked && event.json.vibration[0] < event.json.temperature && event.json.vibration.exists(v, v > 1)`, o)
	got := p.Explain(testInput(payload200))
	want := []struct {
		name  string
		value any
	}{{"event.json.temperature", 91.5}, {"event.json.alarm", nil}, {"client.attrs.tenant", "acme"}, {"vars.tenant", "acme"}, {"client.id", "pump-1"},
		{"event.json.vibration[0]", 0.12}, {"event.json.vibration", nil}}
	if len(got) != len(want) {
		t.Fatalf("%v", got)
	}
	for i, w := range want {
		if g := got[i]; g.Name != w.name || w.value != nil && g.Value != w.value {
			t.Errorf("%d: %v; want %v", i, g, w)
		}
	}
	if got[1].Err == nil || got[6].Err != nil {
		t.Errorf("%v", got)
	}
}
