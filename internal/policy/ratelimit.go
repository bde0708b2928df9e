package policy

import (
	"math"

	"github.com/windrose-edc/windrose/internal/event"
)

// LimitSpec is how much one client may publish.
type LimitSpec struct {
	Events     float64 `yaml:"events" unit:"rate" min:"0/s" doc:"Events in the long run; 0: no limit." example:"50/s"`
	Burst      int     `yaml:"burst" min:"0" doc:"Events at once after a pause; 0: one second's worth, at least 1." example:"200"`
	Bytes      float64 `yaml:"bytes" unit:"byterate" min:"0/s" doc:"Bytes of topic, metadata and payload in the long run; 0: no limit." example:"256KiB/s"`
	BytesBurst int64   `yaml:"bytes_burst" unit:"size" min:"0" doc:"Bytes at once after a pause; 0: one second's worth. An event that is larger waits for a full bucket and is paid off afterwards."`
	OnExcess   string  `yaml:"on_excess" default:"delay" enum:"delay|drop|reject|disconnect" doc:"What becomes of an event beyond the limit: held, with all that follows it; dropped and acknowledged; refused; refused and the connection closed."`
}

// Validate says what is wrong with a specification.
func (s *LimitSpec) Validate() error {
	_, err := NewLimit(*s)
	return err
}

// maxRefill is the longest time that an empty bucket may take to fill up, in nanoseconds: 30 days. It keeps the
// arithmetic far from overflow.
const maxRefill = 30 * 24 * 3600 * 1e9

// maxDebt bounds what one event may cost, in nanoseconds of refilling.
const maxDebt = 1e17

// rate is one limit: a token bucket whose tokens are counted in the time they take to come. Immutable after New.
type rate struct {
	per  float64 // nanoseconds that one token takes; 0: no limit
	full int64   // nanoseconds that an empty bucket takes to fill up
}

func newRate(perSecond, burst float64) (rate, bool) {
	if perSecond == 0 || math.IsInf(perSecond, 1) {
		return rate{}, true
	}
	r := rate{per: 1e9 / perSecond}
	if full := r.per * max(burst, 1); full >= 0 && full <= maxRefill {
		r.full = int64(math.Ceil(full))
		return r, true
	}
	return rate{}, false
}

// cost is what n tokens take, in nanoseconds.
func (r rate) cost(n int) int64 { return int64(math.Ceil(min(r.per*float64(n), maxDebt))) }

// ready says from when on something of that cost is allowed, for a bucket that is full at the time full: when the tokens
// are there, or, where it costs more than fits, when the bucket is full.
func (r rate) ready(full, cost int64) int64 { return full - r.full + min(cost, r.full) }

// buckets is what a session has left. The times lie in the future while a bucket is not full. Owned by the session's
// loop.
type buckets struct {
	events int64 // when the bucket of events will be full, Unix nanoseconds
	bytes  int64 // when the bucket of bytes will be full, Unix nanoseconds
	now    int64 // when it was last asked
	taken  int64 // what the last event cost the bucket of bytes
}

// Limit holds each client to a number of events and bytes per second, by token buckets (the generic cell rate algorithm,
// ITU-T I.371): an event that is held takes nothing, so the time at which it may go is known and asking earlier does not
// move it. The buckets belong to the session: a client without a session (an HTTP request) is not limited here. Immutable
// after New; safe for concurrent use.
type Limit struct {
	events, bytes rate
	excess        Verdict
}

// NewLimit returns the policy of a specification.
func NewLimit(spec LimitSpec) (*Limit, error) {
	switch {
	case !(spec.Events >= 0): // not a number too
		return nil, badField("events", "must not be negative")
	case !(spec.Bytes >= 0):
		return nil, badField("bytes", "must not be negative")
	case spec.Burst < 0:
		return nil, badField("burst", "must not be negative")
	case spec.BytesBurst < 0:
		return nil, badField("bytes_burst", "must not be negative")
	}
	l := &Limit{}
	eventBurst, byteBurst := float64(spec.Burst), float64(spec.BytesBurst)
	if eventBurst == 0 {
		eventBurst = spec.Events
	}
	if byteBurst == 0 {
		byteBurst = spec.Bytes
	}
	var ok bool
	if l.events, ok = newRate(spec.Events, eventBurst); !ok {
		return nil, badField("burst", "would take more than 30 days to come back at this rate of events")
	}
	if l.bytes, ok = newRate(spec.Bytes, byteBurst); !ok {
		return nil, badField("bytes_burst", "would take more than 30 days to come back at this rate of bytes")
	}
	switch spec.OnExcess {
	case "", "delay":
		l.excess = Verdict{Kind: Park}
	case "drop":
		l.excess = Verdict{Kind: Drop}
	case "reject":
		l.excess = Verdict{Kind: Reject, Outcome: event.Throttled}
	case "disconnect":
		l.excess = Verdict{Kind: Reject, Outcome: event.Throttled, Disconnect: true}
	default:
		return nil, badField("on_excess", "want delay, drop, reject or disconnect, not %q", spec.OnExcess)
	}
	return l, nil
}

// Name is "limit".
func (l *Limit) Name() string { return "limit" }

// Apply takes an event's tokens out of the buckets of its session, or says what becomes of it. A verdict other than Pass
// takes nothing.
func (l *Limit) Apply(ctx *Context, ev *event.Event) Verdict {
	if ctx.Session == nil || !fromClient(ev.From) {
		return Verdict{}
	}
	b, _ := ctx.Session.Get(l.Name()).(*buckets)
	if b == nil {
		b = &buckets{now: ctx.Now}
		ctx.Session.Set(l.Name(), b)
	}
	b.advance(ctx.Now)
	one, size := l.events.cost(1), l.bytes.cost(len(ev.Topic)+len(ev.Meta)+len(ev.Payload))
	if at := max(l.events.ready(b.events, one), l.bytes.ready(b.bytes, size)); at > ctx.Now {
		v := l.excess
		if v.Kind == Park {
			v.Until = at
		}
		return v
	}
	b.events += one
	b.bytes += size
	b.taken = size
	return Verdict{}
}

// Copy implements Copier.
func (b *buckets) Copy() any { c := *b; return &c }

// advance brings the buckets to the time now. A full one does not fill any further. When the clock was set back, the
// buckets go with it: nobody waits for the time to come again.
func (b *buckets) advance(now int64) {
	if back := b.now - now; back > 0 {
		b.events -= back
		b.bytes -= back
	}
	b.now = now
	b.events = max(b.events, now)
	b.bytes = max(b.bytes, now)
}

// Refund gives back what the last event of the session took: a later policy holds it, and it will be asked about again.
func (l *Limit) Refund(ctx *Context, ev *event.Event) {
	if ctx.Session == nil || !fromClient(ev.From) {
		return
	}
	if b, _ := ctx.Session.Get(l.Name()).(*buckets); b != nil {
		b.events -= l.events.cost(1)
		b.bytes -= b.taken
		b.taken = 0
	}
}
