package expr

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"github.com/fxamacker/cbor/v2"

	"github.com/windrose-edc/windrose/internal/event"
)

// The oracle: cel-go as anybody would use it, with a map of plain Go values made by encoding/json, nothing of ours.

func plainJSON(payload []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return plainNumbers(v), nil
}

func plainNumbers(v any) any {
	switch x := v.(type) {
	case json.Number:
		if strings.ContainsAny(x.String(), ".eE") {
			f, err := x.Float64()
			if err != nil {
				return types.WrapErr(err)
			}
			return f
		}
		if n, err := strconv.ParseInt(x.String(), 10, 64); err == nil {
			return n
		}
		n, err := strconv.ParseUint(x.String(), 10, 64)
		if err != nil {
			return types.WrapErr(err)
		}
		return n
	case []any:
		for i := range x {
			x[i] = plainNumbers(x[i])
		}
	case map[string]any:
		for k := range x {
			x[k] = plainNumbers(x[k])
		}
	}
	return v
}

// plainVars is the Input as a map for cel-go.
func plainVars(in *Input) map[string]any {
	ev, o := in.Event, in.origin()
	headers := map[string]string{}
	for m := ev.Meta; ; {
		it, rest, ok := event.NextMeta(m)
		if !ok {
			break
		}
		if _, again := headers[string(it.Key)]; !again && it.ID == event.MetaHeader {
			headers[string(it.Key)] = string(it.Value)
		}
		m = rest
	}
	device := map[string]string{}
	for k, v := range in.ClassAttrs {
		device[k] = v
	}
	for k, v := range o.Attrs {
		device[k] = v
	}
	attrs := o.Attrs
	if attrs == nil {
		attrs = map[string]string{}
	}
	vars := map[string]string{}
	for i, n := range testOptions.Captures {
		if i < len(in.Captures) {
			vars[n] = string(in.Captures[i])
		}
	}
	m := map[string]any{
		"event.topic": string(ev.Topic), "event.payload": ev.Payload, "event.size": len(ev.Payload), "event.qos": int(ev.QoS),
		"event.retain": ev.Retain, "event.time": time.Unix(0, ev.Time).UTC(), "event.direction": "from_device",
		"event.headers": headers, "event.client": o.Client, "client.id": o.Client, "client.attrs": attrs, "attrs": attrs,
		"device.class": in.Class, "device.attrs": device, "now": time.Unix(0, in.Now).UTC(), "vars": vars,
		"conn.listener": o.Listener, "event.proto": o.Protocol, "client.user": o.User, "client.address": in.Address,
	}
	if in.Direction == ToDevice {
		m["event.direction"] = "to_device"
	}
	if validText(string(ev.Payload)) {
		m["event.text"] = string(ev.Payload)
	} else {
		m["event.text"] = types.NewErr("not text")
	}
	j, err := plainJSON(ev.Payload)
	if err != nil {
		j = types.WrapErr(err)
	}
	m["event.json"] = j
	c, err := plainCBOR(ev.Payload)
	if err != nil {
		c = types.WrapErr(err)
	}
	m["event.cbor"] = c
	return m
}

// plainCBOR reads a payload that the generator made; others are refused by both.
func plainCBOR(payload []byte) (any, error) {
	m, err := cbor.DecOptions{IntDec: cbor.IntDecConvertSignedOrFail, DefaultMapType: reflect.TypeFor[map[any]any]()}.DecMode()
	if err != nil {
		return nil, err
	}
	var v any
	if err := m.Unmarshal(payload, &v); err != nil {
		return nil, err
	}
	return v, nil
}

// plainEval evaluates with cel-go alone; ok is false for what it cannot make a program of.
func plainEval(c *checked, in *Input) (out ref.Val, ok bool, err error) {
	prog, err := c.env.Program(c.ast)
	if err != nil {
		return nil, false, err
	}
	out, _, err = prog.Eval(plainVars(in))
	return out, true, err
}

// differ says how what closures made differs from what cel-go made; "" when it does not.
func differ(in *Input, got val, want ref.Val, wantErr error) string {
	if got.k == vErr || wantErr != nil {
		if got.k == vErr != (wantErr != nil) {
			return fmt.Sprintf("closures: %s (%v); cel-go: %v, %v", got.kind(), in.err, want, wantErr)
		}
		if in.err == nil {
			return "an error without a reason"
		}
		return ""
	}
	have := toRef(in, got)
	if have.Type().TypeName() != want.Type().TypeName() {
		return fmt.Sprintf("closures: %s %v; cel-go: %s %v", have.Type().TypeName(), have, want.Type().TypeName(), want)
	}
	if d, ok := want.(types.Double); ok {
		if math.IsNaN(float64(d)) && math.IsNaN(float64(have.(types.Double))) {
			return ""
		}
	}
	if types.Equal(have, want) != types.True && !hasNaN(want) {
		return fmt.Sprintf("closures: %v; cel-go: %v", have.Value(), want.Value())
	}
	return ""
}

func hasNaN(v ref.Val) bool { return strings.Contains(fmt.Sprint(v.Value()), "NaN") }

// exprGen makes expressions out of a string of bytes: each choice takes one.
type exprGen struct {
	b      []byte
	depth  int
	locals []string
}

func (g *exprGen) n(max int) int {
	if len(g.b) == 0 {
		return 0
	}
	c := g.b[0]
	g.b = g.b[1:]
	return int(c) % max
}

func (g *exprGen) pick(words ...string) string { return words[g.n(len(words))] }

var (
	genStrings = []string{`event.topic`, `event.client`, `client.user`, `device.class`, `conn.listener`, `event.direction`, `event.proto`, `event.text`,
		`vars.tenant`, `vars.id`, `client.attrs.tenant`, `attrs["role"]`, `device.attrs.fw`, `event.headers["x"]`, `event.headers.y`, `client.address`,
		`""`, `"a"`, `"pump-1"`, `"site/"`, `"acme"`, `"ü"`, `"1"`, `"1.5"`, `"telemetry"`}
	genInts    = []string{`event.size`, `event.qos`, `0`, `1`, `2`, `-1`, `3`, `9223372036854775807`, `-9223372036854775808`, `10`}
	genUints   = []string{`0u`, `1u`, `2u`, `18446744073709551615u`}
	genDoubles = []string{`0.0`, `1.0`, `1.5`, `-1.5`, `80.0`, `1e300`, `9223372036854775807.0`, `0.0/0.0`, `1.0/0.0`}
	genNames   = []string{"a", "b", "c", "n", "s", "list", "o", "temperature", "missing", "nul"}
)

func (g *exprGen) str() string {
	if g.depth--; g.depth < 0 {
		g.depth++
		return g.pick(genStrings...)
	}
	defer func() { g.depth++ }()
	switch g.n(8) {
	case 0:
		return "(" + g.str() + " + " + g.str() + ")"
	case 1:
		return "string(" + g.any() + ")"
	case 2:
		return "(" + g.bool() + " ? " + g.str() + " : " + g.str() + ")"
	}
	return g.pick(genStrings...)
}

// path is a place in the payload.
func (g *exprGen) path() string {
	s := g.pick("event.json", "event.json", "event.json", "event.cbor")
	for range 1 + g.n(3) {
		switch g.n(5) {
		case 0:
			s += "[" + g.num() + "]"
		case 1:
			s += `["` + g.pick(genNames...) + `"]`
		default:
			s += "." + g.pick(genNames...)
		}
	}
	return s
}

func (g *exprGen) num() string {
	if g.depth--; g.depth < 0 {
		g.depth++
		return g.pick(genInts...)
	}
	defer func() { g.depth++ }()
	switch g.n(12) {
	case 0:
		return "(" + g.num() + g.pick(" + ", " - ", " * ", " / ", " % ") + g.num() + ")"
	case 1:
		return "size(" + g.any() + ")"
	case 2:
		return "int(" + g.any() + ")"
	case 3:
		return g.pick(genUints...)
	case 4:
		return g.pick(genDoubles...)
	case 5:
		return "double(" + g.any() + ")"
	case 6:
		return "-(" + g.num() + ")"
	case 7:
		return "uint(" + g.any() + ")"
	case 8:
		return "dyn(" + g.num() + ")"
	}
	return g.pick(genInts...)
}

func (g *exprGen) list() string {
	if g.depth--; g.depth < 0 {
		g.depth++
		return g.pick(`[1, 2]`, `["a", "b"]`, `[]`, `event.json.list`)
	}
	defer func() { g.depth++ }()
	switch g.n(4) {
	case 0:
		return "[dyn(" + g.any() + "), " + g.any() + "]"
	case 1:
		return g.pick(`[1, 2, 3]`, `["a", "pump-1"]`, `[1.0, 2.5]`, `[true]`, `[[1], [2]]`, `[]`, `["a", "b", "c", "d", "acme"]`)
	case 2:
		return g.pick(`{"a": 1}`, `{1: "x", 2: "y"}`, `{"pump-1": true, "b": false}`, `event.headers`, `client.attrs`, `device.attrs`)
	}
	return g.path()
}

func (g *exprGen) any() string {
	if g.depth--; g.depth < 0 {
		g.depth++
		if len(g.locals) > 0 && g.n(2) == 0 {
			return g.pick(g.locals...)
		}
		return g.pick(`event.json`, `event.topic`, `1`, `null`, `true`, `b"x"`, `event.payload`)
	}
	defer func() { g.depth++ }()
	switch g.n(12) {
	case 0:
		return g.str()
	case 1:
		return g.num()
	case 2:
		return g.bool()
	case 3:
		return g.list()
	case 4:
		return g.pick(`null`, `b"ab"`, `event.payload`, `event.time`, `now`, `duration("5m")`, `timestamp("2023-11-14T22:13:20Z")`, `(now - event.time)`, `(event.time + duration("1h"))`)
	case 5:
		return g.list() + "[" + g.any() + "]"
	case 6:
		return "dyn(" + g.any() + ")." + g.pick(genNames...)
	case 7:
		return "dyn(" + g.any() + ")"
	}
	if len(g.locals) > 0 && g.n(2) == 0 {
		return g.pick(g.locals...)
	}
	return g.path()
}

func (g *exprGen) bool() string {
	if g.depth--; g.depth < 0 {
		g.depth++
		return g.pick("true", "false", "event.retain", "event.json.b", "event.json.missing")
	}
	defer func() { g.depth++ }()
	switch g.n(18) {
	case 0, 1:
		return "(" + g.bool() + " && " + g.bool() + ")"
	case 2, 3:
		return "(" + g.bool() + " || " + g.bool() + ")"
	case 4:
		return "!" + g.bool()
	case 5:
		return "(" + g.bool() + " ? " + g.bool() + " : " + g.bool() + ")"
	case 6:
		return "(" + g.num() + g.pick(" < ", " <= ", " > ", " >= ", " == ", " != ") + g.num() + ")"
	case 7:
		return "(" + g.str() + g.pick(" < ", " <= ", " > ", " >= ", " == ", " != ") + g.str() + ")"
	case 8, 9:
		return "(dyn(" + g.any() + ")" + g.pick(" < ", " <= ", " > ", " >= ", " == ", " != ") + g.any() + ")"
	case 10:
		return "(" + g.path() + g.pick(" < ", " <= ", " > ", " >= ", " == ", " != ") + g.any() + ")"
	case 11:
		return g.str() + "." + g.pick("startsWith", "endsWith", "contains") + "(" + g.str() + ")"
	case 12:
		return "dyn(" + g.any() + ")." + g.pick("startsWith", "endsWith", "contains") + "(" + g.str() + ")"
	case 13:
		return "dyn(" + g.any() + ").matches(" + g.pick(`"^a+$"`, `"[0-9]"`, `"pump"`, `""`) + ")"
	case 14:
		return "(" + g.any() + " in " + g.list() + ")"
	case 15:
		return "has(" + g.path() + "." + g.pick(genNames...) + ")"
	case 16:
		return "has(" + g.pick("client.attrs", "device.attrs", "event.headers", "vars", `dyn(event.json).a`) + "." + g.pick("tenant", "fw", "x", "b") + ")"
	}
	if len(g.locals) == 3 {
		return g.path()
	}
	l := g.list()
	v := []string{"x", "y", "z"}[len(g.locals)]
	g.locals = append(g.locals, v)
	defer func() { g.locals = g.locals[:len(g.locals)-1] }()
	return l + "." + g.pick("all", "exists", "exists_one") + "(" + v + ", " + g.bool() + ")"
}

// genPayload makes a payload: mostly JSON that the paths of the generator lead into.
func (g *exprGen) payload() string {
	return g.pick(
		`{"a": 1, "b": true, "n": 80, "s": "pump-1", "list": [1, 2.5, "a", null, {"a": 2}], "o": {"a": {"b": {"c": "x"}}, "n": 18446744073709551615}, "temperature": 91.5, "nul": null}`,
		`{"a": {"a": [1, 2, 3], "b": "a", "s": "\u00fc\n"}, "b": false, "c": [], "n": -1.5e3, "list": ["a", "b"]}`,
		`{"list": [[1, 2], [3], []], "o": {}, "a": "a", "b": "true", "s": "1.5", "n": 1}`,
		`[{"a": 1}, {"a": 2}, 3]`, `"text"`, `80`, `null`, `{}`, ``, `not json`, `{"a": 1,}`, "\xff\xfe",
		`{"a": 1.0, "b": 1, "c": "c", "n": 9223372036854775807, "list": [9007199254740993, 9007199254740992.0]}`,
	)
}

func (g *exprGen) input() *Input {
	in := testInput(g.payload())
	switch g.n(4) {
	case 1:
		if v, err := plainJSON(in.Event.Payload); err == nil && !strings.Contains(string(in.Event.Payload), "18446744073709551615") {
			in.Event.Payload, _ = cbor.Marshal(v)
		}
	case 2:
		in.Event.Payload, _ = cbor.Marshal(map[any]any{1: "a", -1: true, "a": map[any]any{"b": []byte("ab"), 2: 2.5}, "list": []any{1, uint64(2), "a", nil}})
	}
	in.Event.Retain = g.n(2) == 1
	if g.n(2) == 1 {
		in.ClassAttrs = map[string]string{"fw": "1", "role": "class"}
	}
	for _, h := range [][2]string{{"x", "1"}, {"y", "2"}, {"x", "3"}}[:g.n(4)] {
		in.Event.Meta, _ = event.AppendHeader(in.Event.Meta, h[0], h[1])
	}
	if g.n(4) == 1 {
		in.Captures = in.Captures[:1]
	}
	if g.n(3) == 1 {
		in.Direction = ToDevice
	}
	return in
}
