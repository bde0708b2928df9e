package mqtt

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// SourceSpec is the configuration of an mqtt source: events that are subscribed at the brokers of a pool. Immutable after
// NewSource.
type SourceSpec struct {
	Pool        string   `yaml:"pool" ref:"pools" required:"true" doc:"The mqtt pool by whose connections events are received; they are never sent back to it." example:"brokers"`
	Subscribe   []string `yaml:"subscribe" required:"true" doc:"Topic filters, subscribed at each broker. Brokers of one cluster need a shared subscription, or each event comes several times." example:"['alerts/#']"`
	QoS         int      `yaml:"qos" default:"1" min:"0" max:"2" doc:"Highest quality of service to receive with."`
	TopicPrefix string   `yaml:"topic_prefix" doc:"Put before the topic of each event that is received."`
	MaxPending  int64    `yaml:"max_pending" unit:"size" default:"16MiB" doc:"Bytes of received events that wait for their outcome; beyond, the connection is closed and the broker sends them again later."`
}

// SourceOptions are the surroundings of a source.
type SourceOptions struct {
	Name string
	Lane uint32 // a number that no connection has, for the order of events
	// Publish lets an event walk and settles t exactly once, during the call or later. ev is borrowed. Safe for
	// concurrent use; it must not block.
	Publish func(ev *event.Event, t event.Ticket)
}

// The pauses before a refused event walks again.
const (
	sourceFirstPause = 100 * time.Millisecond
	sourceLastPause  = 5 * time.Second
)

// Source is the way back of a bridge. The broker is acknowledged only when an event's outcome is known: an acceptance, or a
// refusal that will not change, which is counted. An event that is refused for the moment walks again. It does not hold
// later ones meanwhile: a broker that wants order must get outcomes that are promises.
//
// Safe for concurrent use: pending, later and size are guarded by mu, the rest is immutable after NewSource.
type Source struct {
	b       *Bridge
	spec    SourceSpec
	o       SourceOptions
	origin  *event.Origin
	filters []wire.Filter
	match   [][]byte
	wake    chan struct{}

	received, refused, retried *observe.Counter
	unlist                     func() // takes the gauge out again

	mu      sync.Mutex
	pending map[uint64]*arrival
	later   []*arrival // to walk again
	size    int64
	serial  uint64
	closed  bool
}

// arrival is a received event that waits for its outcome. Guarded by Source.mu; ev and ack are immutable.
type arrival struct {
	token uint64
	ev    *event.Kept
	ack   func(bool)
	tries int
	due   time.Time
}

// NewSource adds a source to a bridge; before the bridge's pool runs, for subscriptions are made when a member is dialled.
func NewSource(b *Bridge, s SourceSpec, o SourceOptions) (*Source, error) {
	src := &Source{
		b: b, spec: s, o: o, wake: make(chan struct{}, 1), pending: make(map[uint64]*arrival),
		origin: &event.Origin{Client: o.Name, Listener: o.Name, Protocol: "mqtt", Pool: b.pool, Lane: o.Lane},
	}
	if src.spec.MaxPending == 0 {
		src.spec.MaxPending = 16 << 20
	}
	for _, f := range s.Subscribe {
		_, filter, shared, ok := event.SplitShared([]byte(f))
		if !ok {
			return nil, fmt.Errorf("configure source %q: %q is not a topic filter", o.Name, f)
		}
		src.match = append(src.match, filter)
		src.filters = append(src.filters, wire.Filter{Filter: f, SubOptions: wire.SubOptions{
			QoS: byte(s.QoS), NoLocal: !shared, RetainAsPublished: true, RetainHandling: 1, // [MQTT-3.8.3-4]
		}})
	}
	r := b.metrics
	src.received = r.Counter("windrose_source_received_events_total", "Events that brokers sent.", "pool", b.pool)
	src.refused = r.Counter("windrose_source_refused_events_total", "Events of brokers that nobody may have, dropped.", "pool", b.pool)
	src.retried = r.Counter("windrose_source_retried_events_total", "Events of brokers that were refused for the moment and walk again.", "pool", b.pool)
	src.unlist = r.GaugeFunc("windrose_source_pending_bytes", "Bytes of events of brokers that wait for their outcome.", src.pendingBytes, "pool", b.pool)
	b.mu.Lock()
	b.sources = append(b.sources, src)
	b.mu.Unlock()
	return src, nil
}

func (s *Source) pendingBytes() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return float64(s.size)
}

// Name is the source's name in the configuration.
func (s *Source) Name() string { return s.o.Name }

// Inspect tells whoever looks what is subscribed and how many events, of how many bytes, wait for their outcome.
func (s *Source) Inspect() (pool string, filters []string, pending int, bytes, bound int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spec.Pool, s.spec.Subscribe, len(s.pending), s.size, s.spec.MaxPending
}

// Run lets refused events walk again until ctx ends; after that nothing is taken any more, and the broker keeps what
// was not acknowledged.
func (s *Source) Run(ctx context.Context) error {
	defer s.unlist()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		due, wait := s.due(time.Now())
		for _, a := range due {
			s.retried.Inc()
			s.o.Publish(&a.ev.Event, event.Ticket{To: s, Token: a.token})
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			s.mu.Lock()
			s.closed = true
			s.mu.Unlock()
			return nil
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// due takes out the events that are to walk now, and says when to look again.
func (s *Source) due(now time.Time) (due []*arrival, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait = time.Hour
	rest := s.later[:0]
	for _, a := range s.later {
		if d := a.due.Sub(now); d > 0 {
			wait = min(wait, d)
			rest = append(rest, a)
		} else {
			due = append(due, a)
		}
	}
	clear(s.later[len(rest):])
	s.later = rest
	return due, wait
}

// Settle implements event.Settler.
func (s *Source) Settle(token uint64, o event.Outcome, _ int) {
	s.mu.Lock()
	a := s.pending[token]
	if a == nil {
		s.mu.Unlock()
		return
	}
	if !o.OK() && mayChange(o) {
		pause := min(sourceFirstPause<<min(a.tries, 10), sourceLastPause)
		a.tries++
		a.due = time.Now().Add(pause - rand.N(pause/2))
		s.later = append(s.later, a)
		s.mu.Unlock()
		select {
		case s.wake <- struct{}{}:
		default: // it is awake already
		}
		return
	}
	delete(s.pending, token)
	s.size -= int64(a.ev.Size())
	s.mu.Unlock()
	if !o.OK() {
		s.refused.Inc()
		s.b.log.Warn("source/"+s.o.Name, "event of a broker is refused", slog.String("source", s.o.Name), slog.String("outcome", o.String()))
	}
	// Only MQTT 5 can say no. To say nothing would leave the event in the broker's window for ever.
	a.ack(o.OK() || wire.Version(s.b.spec.Version) != wire.V5)
}

// mayChange says whether a refusal may turn into an acceptance.
func mayChange(o event.Outcome) bool {
	switch o {
	case event.Unauthorized, event.BadTopic, event.BadPayload, event.TooLarge:
		return false
	default:
		return true
	}
}

// take lets an event walk; ok is false where there is no room for it.
func (s *Source) take(p *wire.Publish, ack func(bool)) (ok bool) {
	ev := &event.Event{
		Topic: p.Topic, Payload: p.Payload, Meta: p.Meta, From: s.origin, Time: time.Now().UnixNano(), QoS: event.QoS(p.QoS), Retain: p.Retain,
	}
	if p.HasExpiry {
		ev.Expires = ev.Time + max(int64(p.Expiry)*int64(time.Second), 1)
	}
	if s.spec.TopicPrefix != "" {
		ev.Topic = append([]byte(s.spec.TopicPrefix), p.Topic...)
		if !event.ValidTopic(ev.Topic) {
			s.received.Inc()
			s.refused.Inc()
			ack(true) // too long: it will never fit
			return true
		}
	}
	if p.QoS == 0 {
		s.received.Inc()
		s.o.Publish(ev, event.Ticket{})
		ack(true)
		return true
	}
	size := int64(ev.Size())
	s.mu.Lock()
	if s.closed || s.size+size > s.spec.MaxPending && len(s.pending) > 0 {
		s.mu.Unlock()
		return false
	}
	s.serial++
	a := &arrival{token: s.serial, ev: ev.Keep(), ack: ack}
	s.pending[a.token] = a
	s.size += size
	s.mu.Unlock()
	s.received.Inc()
	s.o.Publish(&a.ev.Event, event.Ticket{To: s, Token: a.token})
	return true
}

// bridgeInput is what one connection receives. Immutable once ready is closed; c is not read before.
type bridgeInput struct {
	b       *Bridge
	sources []*Source
	ready   chan struct{}
	c       *Client
}

// take implements ClientOptions.OnPublish: the first source with a filter that matches takes the event.
func (in *bridgeInput) take(p *wire.Publish, ack func(bool)) {
	if passed(p.Meta, in.b.node) {
		in.b.looped.Inc()
		ack(true)
		return
	}
	for _, s := range in.sources {
		for _, f := range s.match {
			if !event.Match(f, p.Topic) {
				continue
			}
			if !s.take(p, ack) {
				// Without an acknowledgement the broker sends it again when the session is resumed.
				<-in.ready
				in.c.Abort()
				ack(false)
			}
			return
		}
	}
	ack(true) // of a subscription that an earlier configuration made
}
