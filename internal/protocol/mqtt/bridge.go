package mqtt

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/windrose-edc/windrose/internal/clienttls"
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/pool"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// BridgeVersion is the protocol version that a bridge speaks: 5 or 3.1.1.
type BridgeVersion wire.Version

// UnmarshalText reads the version as the configuration writes it.
func (v *BridgeVersion) UnmarshalText(b []byte) error {
	switch string(b) {
	case "5", "5.0":
		*v = BridgeVersion(wire.V5)
	case "3.1.1", "4":
		*v = BridgeVersion(wire.V311)
	default:
		return fmt.Errorf("version %q is not 5 or 3.1.1", b)
	}
	return nil
}

// BridgeSpec is the configuration of an mqtt pool. Immutable after NewBridge.
type BridgeSpec struct {
	URLs          []string       `yaml:"urls" unit:"url" enum:"mqtt|mqtts|ws|wss" required:"true" doc:"Brokers, all equivalent; each is a member of the pool." example:"[mqtt://broker.example:1883]"`
	Version       BridgeVersion  `yaml:"version" enum:"5|3.1.1" default:"5" doc:"Protocol version."`
	ClientID      string         `yaml:"client_id" doc:"Client identifier; windrose-NODE-POOL when empty. With several brokers each gets its number behind it."`
	Username      string         `yaml:"username" doc:"User name at the brokers."`
	Password      string         `yaml:"password" unit:"secret" doc:"Password at the brokers."`
	TLS           clienttls.Spec `yaml:"tls" doc:"How brokers with mqtts and wss are checked."`
	KeepAlive     time.Duration  `yaml:"keepalive" default:"30s" min:"1s" max:"18h" doc:"How long a connection may be silent before the broker is asked whether it is there."`
	SessionExpiry time.Duration  `yaml:"session_expiry" default:"24h" doc:"How long a broker is asked to keep the session of a lost connection; MQTT 5 only."`
	QoS           int            `yaml:"qos" default:"2" min:"0" max:"2" doc:"Highest quality of service to send with; events of a higher one are sent with it."`
	DropRetain    bool           `yaml:"drop_retain" default:"false" doc:"Send every event without the retain flag."`
	TopicPrefix   string         `yaml:"topic_prefix" doc:"Put before the topic of each event that is sent, such as site/berlin/."`
	MaxInFlight   int            `yaml:"max_in_flight" default:"0" min:"0" max:"2000" doc:"Events at the same time at each broker without an answer; 0: as many as an MQTT 5 broker allows, at most 500, and 20 with MQTT 3.1.1, whose brokers cannot tell and may lose what is more."`
	Hold          time.Duration  `yaml:"hold" default:"1m" doc:"With several brokers: how long events in flight wait for a broker that is gone before they go to another one, which may then be their second."`
	NotPrivate    bool           `yaml:"not_private" default:"false" doc:"Do not tell an MQTT 3.1.1 broker that this is a bridge; without that a broker returns to a source what the same pool sent."`
}

// BridgeOptions are the surroundings of a bridge.
type BridgeOptions struct {
	Node    string // names this node in ViaHeader; the same for all its bridges, and another on every other node
	Pool    string
	Logger  *slog.Logger
	Metrics *observe.Registry
}

// Bridge is the pool driver that speaks MQTT to brokers, and what sources receive by. Each member has one connection for
// both ways, so that a broker can leave out what came from it, and one session, which survives the connection: events
// of QoS 1 and 2 that were in flight are finished when it is resumed, QoS 2 without being doubled.
//
// Events do not run in circles: in MQTT 5 each carries the nodes that it passed in the user property ViaHeader, and does not pass
// one twice; in MQTT 3.1.1, which has no place for that, the connection says that it is a bridge.
//
// Safe for concurrent use: sessions and sources are guarded by mu, the rest is immutable after NewBridge.
type Bridge struct {
	spec    BridgeSpec
	node    string
	pool    string
	tls     *tls.Config
	logger  *slog.Logger
	log     *observe.LimitedLogger
	metrics *observe.Registry
	looped  *observe.Counter

	mu       sync.Mutex
	sessions map[string]*bridgeSession
	sources  []*Source
}

// bridgeSession is what a bridge keeps of one member between connections. Guarded by Bridge.mu; url and clientID are
// immutable.
type bridgeSession struct {
	url, clientID string
	exchanges     *ClientSession
	known         bool      // the broker may have a session of this process
	up            bool      // the last dial succeeded
	lost          time.Time // when the first dial after a success failed
	plain         bool      // the broker refused the bridge bit
}

// NewBridge reads the files that s names and returns a driver. Zero fields of s take their defaults, but QoS.
func NewBridge(s BridgeSpec, o BridgeOptions) (*Bridge, error) {
	s.Version = cmp.Or(s.Version, BridgeVersion(wire.V5))
	s.KeepAlive = cmp.Or(s.KeepAlive, 30*time.Second)
	s.SessionExpiry = cmp.Or(s.SessionExpiry, 24*time.Hour)
	if s.MaxInFlight == 0 {
		s.MaxInFlight = 500
		if wire.Version(s.Version) != wire.V5 {
			s.MaxInFlight = 20 // what brokers take by default
		}
	}
	s.Hold = cmp.Or(s.Hold, time.Minute)
	s.ClientID = cmp.Or(s.ClientID, "windrose-"+o.Node+"-"+o.Pool)
	if s.QoS < 0 || s.QoS > 2 {
		return nil, fmt.Errorf("configure bridge %q: quality of service %d is not 0, 1 or 2", o.Pool, s.QoS)
	}
	if s.TopicPrefix != "" {
		if err := event.CheckTopic([]byte(s.TopicPrefix)); err != nil {
			return nil, fmt.Errorf("configure bridge %q: topic prefix %q: %w", o.Pool, s.TopicPrefix, err)
		}
	}
	b := &Bridge{spec: s, node: o.Node, pool: o.Pool, logger: o.Logger, metrics: o.Metrics, sessions: make(map[string]*bridgeSession)}
	if b.logger == nil {
		b.logger = slog.New(slog.DiscardHandler)
	}
	b.log = observe.Limited(b.logger.With(slog.String("pool", o.Pool)), o.Metrics)
	b.looped = o.Metrics.Counter("windrose_bridge_looped_events_total", "Events that would have passed this node twice.", "pool", o.Pool)
	var err error
	if b.tls, err = s.TLS.Config(); err != nil {
		return nil, fmt.Errorf("configure bridge %q: %w", o.Pool, err)
	}
	for i, u := range s.URLs {
		id := s.ClientID
		if len(s.URLs) > 1 {
			id += "-" + strconv.Itoa(i+1)
		}
		b.sessions[u] = &bridgeSession{url: u, clientID: id, exchanges: NewClientSession()}
	}
	return b, nil
}

var (
	errBridgeMember = errors.New("not a broker of this bridge")
	errBridgeHold   = errors.New("broker stayed away")
)

// Dial implements pool.Driver: it connects, resumes the member's session and asks for what the sources want.
func (b *Bridge) Dial(ctx context.Context, member string) (pool.Link, error) {
	b.mu.Lock()
	s := b.sessions[member]
	sources := slices.Clone(b.sources)
	b.mu.Unlock()
	if s == nil {
		return nil, errBridgeMember
	}
	c, err := b.connect(ctx, s, sources)
	if err != nil {
		b.missed(s, err)
		return nil, err
	}
	b.mu.Lock()
	s.known, s.up = true, true
	b.mu.Unlock()
	if err := b.subscribe(ctx, c, sources); err != nil {
		c.Close()
		_ = c.Wait()
		return nil, err
	}
	return &bridgeLink{b: b, c: c}, nil
}

// connect dials a member. A new session is asked for only where nothing can be lost by it.
func (b *Bridge) connect(ctx context.Context, s *bridgeSession, sources []*Source) (*Client, error) {
	v := wire.Version(b.spec.Version)
	in := &bridgeInput{b: b, sources: sources, ready: make(chan struct{})}
	o := ClientOptions{
		URL: s.url, Version: v, ClientID: s.clientID, Username: b.spec.Username, Password: b.spec.Password, TLS: b.tls,
		KeepAlive: b.spec.KeepAlive, SessionExpiry: uint32(min(b.spec.SessionExpiry/time.Second, 1<<32-1)),
		MaxInflight: b.spec.MaxInFlight, QueueMax: 2 * b.spec.MaxInFlight, Session: s.exchanges, OnPublish: in.take, Logger: b.logger,
	}
	b.mu.Lock()
	o.Clean = v == wire.V5 && !s.known && len(sources) == 0
	o.Bridge = v != wire.V5 && !b.spec.NotPrivate && !s.plain
	b.mu.Unlock()
	c, err := Dial(ctx, o)
	if err != nil {
		return nil, err
	}
	in.c = c
	close(in.ready)
	return c, nil
}

// missed takes note of a member that could not be reached. With several members, what is in flight at it is given back
// to the pool after a while, which sends it to another one.
func (b *Bridge) missed(s *bridgeSession, err error) {
	var refused *ReasonError
	b.mu.Lock()
	if errors.As(err, &refused) && refused.Reason == wire.UnsupportedVersion && wire.Version(b.spec.Version) != wire.V5 {
		s.plain = true // it may only dislike the bridge bit
	}
	if s.up {
		s.up, s.lost = false, time.Now()
	}
	drop := len(b.sessions) > 1 && s.exchanges.Len() > 0 && time.Since(s.lost) >= b.spec.Hold
	if drop {
		s.known = false
	}
	b.mu.Unlock()
	if drop {
		s.exchanges.Drop(errBridgeHold)
	}
}

// subscribe asks for what the sources want. A filter that the broker refuses is told and left out.
func (b *Bridge) subscribe(ctx context.Context, c *Client, sources []*Source) error {
	var filters []wire.Filter
	for _, s := range sources {
		filters = append(filters, s.filters...)
	}
	if len(filters) == 0 {
		return nil
	}
	codes, err := c.Subscribe(ctx, filters...)
	if err != nil {
		return err
	}
	for i, code := range codes {
		if code.Failed() {
			b.log.Warn("subscribe", "broker refuses a subscription", slog.String("server", c.Server().Address),
				slog.String("filter", filters[i].Filter), slog.String("reason", code.String()))
		}
	}
	return nil
}

// bridgeLink is one connection as a link of the pool. Immutable; safe for concurrent use.
type bridgeLink struct {
	b *Bridge
	c *Client
}

// Done implements pool.Link.
func (l *bridgeLink) Done() <-chan struct{} { return l.c.Done() }

// Err says why the link ended, for logs; see pool.Link.
func (l *bridgeLink) Err() error { return l.c.Err() }

// Window implements pool.Link.
func (l *bridgeLink) Window() int { return l.c.Window() }

// Ordered implements pool.Link: a broker keeps the order (section 4.6), and the session outlives the connection.
func (l *bridgeLink) Ordered() bool { return true }

// Close implements pool.Link.
func (l *bridgeLink) Close() error {
	l.c.Close()
	_ = l.c.Wait() // that it is closed is no error
	return nil
}

// Send implements pool.Link.
func (l *bridgeLink) Send(_ pool.ID, ev *event.Kept, done func(pool.Result)) {
	b, server := l.b, l.c.Server()
	if l.c.version == wire.V5 {
		var ok bool
		if ev, ok = b.pass(ev); !ok {
			b.looped.Inc()
			done(pool.Result{Outcome: event.Accepted})
			return
		}
	}
	var topic []byte
	if b.spec.TopicPrefix != "" {
		topic = append([]byte(b.spec.TopicPrefix), ev.Topic...)
	}
	qos := min(byte(ev.QoS), byte(b.spec.QoS), server.MaxQoS)
	retain := ev.Retain && !b.spec.DropRetain && !server.NoRetain
	asked := ev.QoS
	sent := l.c.TryPublish(ev, qos, retain, topic, func(r wire.Reason, err error) { done(bridgeResult(r, err, asked)) })
	if !sent { // the pool keeps to the window, so this is only between two connections
		done(pool.Result{Outcome: event.Throttled, Retry: true})
	}
}
