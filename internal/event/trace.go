package event

// The headers that carry W3C trace context; as the attributes of the distributed tracing extension of CloudEvents they have
// the same names.
const (
	HeaderTraceparent = "traceparent"
	HeaderTracestate  = "tracestate"
)

// MaxTracestate is the longest tracestate that is passed on where Windrose writes it itself (W3C trace context, section
// 3.3.1.5, asks for 512 at least).
const MaxTracestate = 512

// TraceContext is where an event stands in a distributed trace, as its sender said. Immutable; its slices are borrowed
// from the event's metadata.
type TraceContext struct {
	Parent  []byte // the traceparent as it was sent, 55 bytes of version 00 or more of a later one
	State   []byte // the tracestate, nil where there is none or it is not well formed
	TraceID [32]byte
	SpanID  [16]byte // of the sender
	Sampled bool     // the sender records this trace
}

// TraceOf reads the trace context of an event. ok is false where there is none, more than one traceparent, or one that is
// not well formed (W3C trace context, section 3.2.2): a trace is never invented and never guessed. It does not allocate.
func TraceOf(ev *Event) (tc TraceContext, ok bool) {
	states := 0
	for m := ev.Meta; ; {
		it, rest, more := NextMeta(m)
		if !more {
			break
		}
		m = rest
		if it.ID != MetaHeader {
			continue
		}
		switch string(it.Key) {
		case HeaderTraceparent:
			if tc.Parent != nil {
				return TraceContext{}, false
			}
			tc.Parent = it.Value
		case HeaderTracestate:
			states++
			tc.State = it.Value
		}
	}
	if !tc.parse() {
		return TraceContext{}, false
	}
	if states != 1 || !validTracestate(tc.State) {
		tc.State = nil // without it the trace still holds together
	}
	return tc, true
}

// parse reads Parent: version "-" trace-id "-" parent-id "-" trace-flags, lower case hex.
func (tc *TraceContext) parse() bool {
	p := tc.Parent
	if len(p) < 55 || p[2] != '-' || p[35] != '-' || p[52] != '-' {
		return false
	}
	version, flags := p[0:2], p[53:55]
	if !isHex(version) || !isHex(p[3:35]) || !isHex(p[36:52]) || !isHex(flags) || string(version) == "ff" {
		return false
	}
	if string(version) == "00" && len(p) != 55 || len(p) > 55 && p[55] != '-' || len(p) > 256 || !isVisible(p) {
		return false
	}
	if allZero(p[3:35]) || allZero(p[36:52]) {
		return false
	}
	copy(tc.TraceID[:], p[3:35])
	copy(tc.SpanID[:], p[36:52])
	low := flags[1]
	if low >= 'a' {
		low -= 'a' - 10
	} else {
		low -= '0'
	}
	tc.Sampled = low&1 == 1
	return true
}

// validTracestate holds a tracestate against what can be written into a header: visible ASCII and spaces, at most
// MaxTracestate bytes, members with a key and a value.
func validTracestate(s []byte) bool {
	if len(s) == 0 || len(s) > MaxTracestate || !isVisible(s) {
		return false
	}
	members, eq, any := 0, false, false
	for i := 0; i <= len(s); i++ {
		switch {
		case i == len(s) || s[i] == ',':
			if any && !eq || members >= 32 {
				return false
			}
			if any {
				members++
			}
			eq, any = false, false
		case s[i] == '=' && !eq:
			if !any {
				return false
			}
			eq = true
		case s[i] != ' ':
			any = true
		}
	}
	return members > 0
}

func isVisible(s []byte) bool {
	for _, c := range s {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

func isHex(s []byte) bool {
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func allZero(s []byte) bool {
	for _, c := range s {
		if c != '0' {
			return false
		}
	}
	return true
}
