// Package tap records what becomes of single events while somebody looks: the decision path of each, from the listener
// that received it through the policies and routes to every target and the acknowledgement, in one record, though its
// steps happen on several loops and goroutines. The same records answer for events that are not sent (Ask).
//
// Loops publish into a Hub; taps (Listen) read from it. An event that a tap wants is given a number (event.Event.Trace)
// which it carries along; every stage adds its step under that number. While nobody listens an event costs one atomic
// load; an event that no tap wants costs its filters and nothing is recorded of it.
//
// Everything is bounded: taps, their time, records of a tap that wait to be read, steps of a record, bytes of a payload.
// What a bound leaves out is counted and shown, never silent.
//
// # Concurrency
//
// A Hub is safe for concurrent use: its loops call Begin and Step, which take a lock for a few instructions, and only for
// events that are recorded. A Tap is read by one goroutine.
package tap

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// The bounds that are not configured.
const (
	queueMax   = 1024             // records of one tap, open or waiting to be read
	openMax    = 4096             // traces of all taps and questions at once
	stepsMax   = 256              // of one record; further ones are counted
	captureMax = 64 << 10         // bytes of a payload, and of its metadata, that are looked at
	linger     = time.Second      // how long a record waits to be complete before it is shown as it is
	giveUp     = 90 * time.Second // how long an event is followed
)

// ErrTaps is returned by Listen when there are as many taps as the configuration allows.
var ErrTaps = errors.New("too many taps at once")

// Hub is where a node's loops publish and taps listen. Safe for concurrent use; a nil Hub records nothing.
type Hub struct {
	on    atomic.Pointer[watch] // nil: nobody listens
	rules atomic.Pointer[rules]

	opened, records, dropped atomic.Uint64

	mu   sync.Mutex // guards what follows, and what it says at Tap and trace
	open map[uint32]*trace
	taps []*Tap
	next uint32
}

// watch is the taps that are on. Immutable.
type watch struct {
	taps []*Tap
}

// trace is a record in the making. Guarded by Hub.mu.
type trace struct {
	id    uint32
	rec   Record
	start time.Time
	taps  []*Tap // who gets it
	legs  int    // targets that have not come to an end
	acked bool
	done  bool
	asked *Answer // nil: a live event
}

// New returns a hub in which nobody listens.
func New(s Spec) (*Hub, error) {
	h := &Hub{open: make(map[uint32]*trace)}
	return h, h.Configure(s)
}

// Configure changes bounds and redaction for taps opened from now on, and redaction for those that are open.
func (h *Hub) Configure(s Spec) error {
	r, err := newRules(s)
	if err != nil {
		return err
	}
	h.rules.Store(r)
	return nil
}

// Begin decides whether ev is recorded: then ev.Trace is its number and its record begins. Called once for each event,
// before anybody has kept it, on the loop whose number is given; ev is borrowed.
func (h *Hub) Begin(ev *event.Event, loop int) {
	if h == nil {
		return
	}
	if w := h.on.Load(); w != nil {
		h.begin(w, ev, loop)
	}
}

func (h *Hub) begin(w *watch, ev *event.Event, loop int) {
	var wants uint64 // by place in w.taps: there are at most 64
	for i, t := range w.taps {
		if t.wants(ev, loop) {
			wants |= 1 << i
		}
	}
	if wants == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t := &trace{start: time.Now()}
	payload := false
	for i, tp := range w.taps {
		if wants>>i&1 == 0 || tp.closed {
			continue
		}
		if len(h.open) >= openMax || len(tp.queue)+len(tp.late) >= queueMax {
			tp.drop()
			continue
		}
		if tp.o.Max > 0 && tp.begun >= tp.o.Max {
			continue
		}
		tp.begun++
		payload = payload || tp.o.Payload
		t.taps = append(t.taps, tp)
		tp.queue = append(tp.queue, t)
	}
	if len(t.taps) == 0 {
		return
	}
	h.records.Add(1)
	h.enter(t, ev, payload)
	t.rec.add(Step{Step: StepReceived, Loop: loop + 1})
}

// enter numbers a trace and fills in what is known of its event; mu is held.
func (h *Hub) enter(t *trace, ev *event.Event, payload bool) {
	for {
		h.next++
		if _, used := h.open[h.next]; !used && h.next != 0 {
			break
		}
	}
	t.id = h.next
	h.open[t.id] = t
	ev.Trace = t.id
	ev.Changed() // an earlier copy knows nothing of the trace
	t.rec.of(ev, t.id, t.start)
	if payload {
		t.rec.raw = &rawContent{size: len(ev.Payload), meta: append([]byte(nil), ev.Meta...)}
		if len(ev.Payload) <= captureMax {
			t.rec.raw.payload = append([]byte{}, ev.Payload...)
		}
	}
}

// Step adds a step to the record of that number; legs is how many targets it opens (ends, where negative). Unknown
// numbers are ignored: somebody looked once, and nobody does any more. Any goroutine.
func (h *Hub) Step(id uint32, s Step, legs int) {
	if h == nil || id == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.open[id]
	if t == nil {
		return
	}
	s.Micros = micros(time.Since(t.start))
	t.rec.add(s)
	t.legs += legs
	if s.Step == StepAck {
		t.acked = true
		t.rec.Outcome = s.Outcome
	}
	if s.Step == StepHeld {
		t.rec.Held++
	}
	if t.acked && t.legs <= 0 {
		h.finish(t)
	}
}

// End ends targets of the record of that number without a step of its own. Any goroutine.
func (h *Hub) End(id uint32, legs int) {
	if h == nil || id == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.open[id]
	if t == nil {
		return
	}
	if t.legs -= legs; t.acked && t.legs <= 0 {
		h.finish(t)
	}
}

// finish ends a trace whose record is complete; mu is held.
func (h *Hub) finish(t *trace) {
	t.done, t.rec.Complete = true, true
	delete(h.open, t.id)
	if t.asked != nil {
		t.asked.done <- t.rec
	}
	for _, tp := range t.taps {
		tp.signal()
	}
}

// abandon ends a trace that nobody follows any more; mu is held.
func (h *Hub) abandon(t *trace) {
	t.done = true
	delete(h.open, t.id)
}

// Stats is what a hub counts. Immutable.
type Stats struct {
	Taps    int    // open now
	Opened  uint64 // taps, in all
	Records uint64 // begun
	Dropped uint64 // events that a tap wanted and a bound left out
}

// Stats returns the present numbers.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Stats{Taps: len(h.taps), Opened: h.opened.Load(), Records: h.records.Load(), Dropped: h.dropped.Load()}
}

// Filter says whether a tap wants an event. It is called on loops, concurrently, each with its number: it must not block or
// keep ev. An error counts as no, and is shown.
type Filter func(ev *event.Event, loop int) (bool, error)

// Options are what a tap asks for. Immutable.
type Options struct {
	Topic   string        // topic filter, "": all
	Client  string        // client id, "": all
	Where   Filter        // nil: all
	Inside  bool          // Where looks into payloads or headers: then it is not asked about topics that are redacted
	For     time.Duration // 0: as long as the configuration allows
	Max     int           // records; 0: no bound of its own
	Payload bool
	Who     string // for the list of taps: where it was asked from
}

// Tap is one listener. Read by one goroutine; begun, queue, late and closed are guarded by Hub.mu.
type Tap struct {
	h      *Hub
	o      Options
	topic  topicFilter
	until  int64 // Unix nanoseconds
	rate   int64 // nanoseconds of one record in the long run
	burst  int64 // nanoseconds
	notify chan struct{}

	tat     atomic.Int64 // when the bucket of records is full again
	dropped atomic.Uint64
	failed  atomic.Uint64
	failure atomic.Pointer[string]

	begun  int
	given  int
	queue  []*trace // in the order of their beginning
	late   []*trace // shown incomplete, still followed
	closed bool
}

// Listen turns a tap on. It ends by itself when its time is over; Close ends it earlier. The error is ErrTaps or says
// which option is wrong.
func (h *Hub) Listen(o Options) (*Tap, error) {
	r := h.rules.Load()
	if o.Topic != "" && !event.ValidFilter([]byte(o.Topic)) {
		return nil, fmt.Errorf("topic %q is not a topic filter", o.Topic)
	}
	if o.For < 0 || o.Max < 0 {
		return nil, errors.New("time and number of records must not be negative")
	}
	if o.For == 0 || o.For > r.spec.For {
		o.For = r.spec.For
	}
	t := &Tap{h: h, o: o, until: time.Now().Add(o.For).UnixNano(), rate: int64(time.Second) / int64(r.spec.Rate),
		burst: int64(time.Second), notify: make(chan struct{}, 1)}
	if o.Topic != "" {
		t.topic = newTopicFilter(o.Topic)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.taps) >= r.spec.Taps {
		return nil, ErrTaps
	}
	h.taps = append(h.taps, t)
	h.opened.Add(1)
	h.publish()
	return t, nil
}

// publish tells the loops who listens; mu is held.
func (h *Hub) publish() {
	if len(h.taps) == 0 {
		h.on.Store(nil)
		return
	}
	h.on.Store(&watch{taps: append([]*Tap(nil), h.taps...)})
}

// Until is when the tap ends by itself.
func (t *Tap) Until() time.Time { return time.Unix(0, t.until) }

// Close ends the tap. Calls after the first do nothing.
func (t *Tap) Close() {
	h := t.h
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.closed {
		return
	}
	t.closed = true
	for i, x := range h.taps {
		if x == t {
			h.taps = append(h.taps[:i:i], h.taps[i+1:]...)
			break
		}
	}
	h.publish()
	for _, list := range [][]*trace{t.queue, t.late} {
		for _, x := range list {
			x.leave(t)
			if len(x.taps) == 0 && x.asked == nil && !x.done {
				h.abandon(x)
			}
		}
	}
	t.queue, t.late = nil, nil
	t.signal()
}

// CloseAll ends every tap: the node stops.
func (h *Hub) CloseAll() {
	if h == nil {
		return
	}
	h.mu.Lock()
	taps := append([]*Tap(nil), h.taps...)
	h.mu.Unlock()
	for _, t := range taps {
		t.Close()
	}
}

func (t *trace) leave(tp *Tap) {
	for i, x := range t.taps {
		if x == tp {
			t.taps = append(t.taps[:i:i], t.taps[i+1:]...)
			return
		}
	}
}

func (t *Tap) signal() {
	select {
	case t.notify <- struct{}{}:
	default: // it will look anyway
	}
}

func (t *Tap) drop() {
	t.dropped.Add(1)
	t.h.dropped.Add(1)
}

// wants runs the tap's filters on the loop.
func (t *Tap) wants(ev *event.Event, loop int) bool {
	if ev.Time >= t.until {
		return false
	}
	if t.o.Client != "" && (ev.From == nil || ev.From.Client != t.o.Client) {
		return false
	}
	if t.topic.filter != nil && !t.topic.match(ev.Topic) {
		return false
	}
	if t.o.Inside && t.h.rules.Load().covers(ev.Topic) {
		return false
	}
	if t.o.Where != nil {
		ok, err := t.o.Where(ev, loop)
		if err != nil {
			t.failed.Add(1)
			if t.failure.Load() == nil {
				text := strings.TrimSpace(err.Error())
				t.failure.CompareAndSwap(nil, &text)
			}
			return false
		}
		if !ok {
			return false
		}
	}
	if !t.allow(ev.Time) {
		t.drop()
		return false
	}
	return true
}

// topicFilter is a topic filter that says no quickly: by what stands before its first and behind its last wildcard.
// Immutable.
type topicFilter struct {
	filter, before, behind []byte
}

func newTopicFilter(s string) topicFilter {
	f := topicFilter{filter: []byte(s)}
	first, last := strings.IndexAny(s, "+#"), strings.LastIndexAny(s, "+#")
	switch {
	case first < 0:
		f.before, f.behind = f.filter, f.filter
	case s[last] == '+':
		f.before, f.behind = f.filter[:first], f.filter[last+1:]
	default: // a/# matches a too
		f.before = bytes.TrimSuffix(f.filter[:first], []byte("/"))
	}
	return f
}

func (f *topicFilter) match(topic []byte) bool {
	return bytes.HasPrefix(topic, f.before) && bytes.HasSuffix(topic, f.behind) && event.Match(f.filter, topic)
}

// allow is a token bucket of one second's records, counted in the time that they take to come back.
func (t *Tap) allow(now int64) bool {
	for {
		at := t.tat.Load()
		next := max(at, now) + t.rate
		if next-now > t.burst {
			return false
		}
		if t.tat.CompareAndSwap(at, next) {
			return true
		}
	}
}
