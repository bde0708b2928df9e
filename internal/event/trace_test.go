package event

import (
	"strings"
	"testing"
)

const goodParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func withHeaders(kv ...string) *Event {
	ev := &Event{}
	for i := 0; i < len(kv); i += 2 {
		ev.Meta, _ = AppendHeader(ev.Meta, kv[i], kv[i+1])
	}
	return ev
}

// W3C trace context, section 3.2.2.
func TestTraceparentIsReadStrictly(t *testing.T) {
	for parent, sampled := range map[string]bool{
		goodParent: true,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00":       false,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0b":       true,
		"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-later": true,
	} {
		tc, ok := TraceOf(withHeaders("x", "y", HeaderTraceparent, parent))
		if !ok || tc.Sampled != sampled || string(tc.TraceID[:]) != "0af7651916cd43dd8448eb211c80319c" || string(tc.SpanID[:]) != "b7ad6b7169203331" || string(tc.Parent) != parent {
			t.Errorf("%s: %+v, %v", parent, tc, ok)
		}
	}
	for _, parent := range []string{
		"", "00", goodParent + "-x", goodParent + "0", strings.ToUpper(goodParent), " " + goodParent, strings.Replace(goodParent, "-", "_", 1),
		"ff" + goodParent[2:], "00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
		"0g" + goodParent[2:], "01" + goodParent[2:] + "x", "01" + goodParent[2:] + "-\x00", "01" + goodParent[2:] + "-" + strings.Repeat("x", 300),
	} {
		if tc, ok := TraceOf(withHeaders(HeaderTraceparent, parent)); ok {
			t.Errorf("%q is taken: %+v", parent, tc)
		}
	}
	if _, ok := TraceOf(withHeaders(HeaderTraceparent, goodParent, HeaderTraceparent, goodParent)); ok {
		t.Error("two traceparents are taken")
	}
	if _, ok := TraceOf(&Event{}); ok {
		t.Error("a trace is invented")
	}
}

// W3C trace context, section 3.3.
func TestTracestateIsPassedOnlyWhenWellFormed(t *testing.T) {
	for state, ok := range map[string]bool{
		"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE": true, "a=b, c=d": true, "a=b,,c=d": true, "": false, "a": false, "=b": false, "a=b,c": false,
		"a=b\r\nX: y": false, "a=é": false, strings.Repeat("a=b,", 33) + "a=b": false, "a=" + strings.Repeat("b", MaxTracestate): false, ", ,": false,
	} {
		tc, found := TraceOf(withHeaders(HeaderTraceparent, goodParent, HeaderTracestate, state))
		if !found || (tc.State != nil) != ok || ok && string(tc.State) != state {
			t.Errorf("%q: %q, %v", state, tc.State, found)
		}
	}
	if tc, ok := TraceOf(withHeaders(HeaderTracestate, "a=b", HeaderTraceparent, goodParent, HeaderTracestate, "c=d")); !ok || tc.State != nil {
		t.Errorf("two states: %q, %v", tc.State, ok)
	}
}

func TestTraceOfDoesNotAllocate(t *testing.T) {
	ev, none := withHeaders("a", "b", HeaderTraceparent, goodParent, HeaderTracestate, "a=b"), &Event{}
	if n := testing.AllocsPerRun(1000, func() { _, _ = TraceOf(ev); _, _ = TraceOf(none) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzTraceOf(f *testing.F) {
	f.Add(goodParent, "a=b")
	f.Fuzz(func(t *testing.T, parent, state string) {
		tc, ok := TraceOf(withHeaders(HeaderTraceparent, parent, HeaderTracestate, state))
		if ok && (string(tc.Parent) != parent || len(parent) < 55 || strings.ContainsAny(parent+string(tc.State), "\r\n\x00")) {
			t.Errorf("%q %q: %+v", parent, state, tc)
		}
	})
}
