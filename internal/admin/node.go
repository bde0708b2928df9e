package admin

import (
	"context"
	"time"
)

// Node is what the admin server asks of the node it shows. All methods are safe for concurrent use. Those without a
// context answer from memory in well under a millisecond and never wait for a loop; slices are copies, in the order that
// is shown. Those with a context may wait for a loop, and ask little of it at once. The errors are ErrNotFound,
// ErrCursor, and that of the context.
type Node interface {
	Info() Info
	Listeners() []Listener
	Pools() []Pool
	Routes() []Route
	Policies() []Policy
	Sources() []Source
	// Totals is asked once a second by the sampler besides the requests.
	Totals() Totals
	// Checks are the parts of readiness.
	Checks() []Check

	// Sessions is one step through the sessions of all loops, in no order that means something; a session that is there
	// from the first step to the last is given exactly once.
	Sessions(ctx context.Context, from string, yield func(*Session) bool) (next string, err error)
	// Session tells about one.
	Session(ctx context.Context, id string) (*SessionDetail, error)
	// Kick ends the connection of a session; forget ends the session too. match, where it is not "", is the version
	// that must be there still; the one that is there is returned.
	Kick(ctx context.Context, id, match string, forget bool) (done Kicked, version string, err error)
	// Subscriptions is one step through those of one session, or of all ("").
	Subscriptions(ctx context.Context, session, from string, yield func(*Subscription) bool) (next string, err error)
	// Retained is one step through the retained events that match a filter, in the order of their topics.
	Retained(ctx context.Context, filter, from string, yield func(*Retained) bool) (next string, err error)
	RetainedEvent(topic string) (*RetainedDetail, error)

	// DeadLetters is one step through the dead letters of a pool ("": of all), newest first.
	DeadLetters(ctx context.Context, pool, from string, yield func(*DeadLetter) bool) (next string, err error)
	DeadLetter(pool string, id uint64) (*DeadLetterDetail, error)
	// DeadLettersVersion is another one when the dead letters of a pool are others.
	DeadLettersVersion(pool string) (string, error)
	// Replay gives dead letters of a pool another chance, oldest first: those with the ids, or all. The rest stays.
	Replay(ctx context.Context, pool string, ids []uint64) (done int, err error)
	Purge(pool string, ids []uint64) (done int, err error)
}

// Info says what this node is.
type Info struct {
	Name       string    `json:"name"`             // host or configured name
	Site       string    `json:"site,omitempty"`   // where it stands
	Mode       string    `json:"mode"`             // "dev", "file"; later "fleet"
	Authority  string    `json:"authority"`        // who may change the configuration: "defaults", "file"; later "fleet"
	Config     []string  `json:"config,omitempty"` // files it was read from
	ConfigHash string    `json:"config_hash,omitempty"`
	Started    time.Time `json:"started"`
	Loops      int       `json:"loops"`
	Durability string    `json:"durability"`      // "memory" until there is a journal
	Notes      []string  `json:"notes,omitempty"` // what an operator must know: "anonymous clients are admitted"
	Try        []string  `json:"try,omitempty"`   // commands to try here
}

// Listener is one address where a protocol is spoken.
type Listener struct {
	Name        string `json:"name"`
	Protocol    string `json:"protocol"`
	Address     string `json:"address"` // as bound
	TLS         bool   `json:"tls"`
	Anonymous   bool   `json:"anonymous"`
	State       string `json:"state"` // "listening", "draining", "failed"
	Error       string `json:"error,omitempty"`
	Connections int    `json:"connections"`
	Accepted    uint64 `json:"accepted"`
	Refused     uint64 `json:"refused"`
}

// Pool is one destination with its members.
type Pool struct {
	Name        string   `json:"name"`
	Type        string   `json:"type"` // "mqtt", "webhook"
	State       string   `json:"state"`
	Members     []Member `json:"members"`
	Queued      int      `json:"queued"`      // events
	QueueBound  int      `json:"queue_bound"` // events; 0: bounded in bytes only
	QueuedBytes int64    `json:"queued_bytes"`
	Overflow    string   `json:"overflow"`
	InFlight    int      `json:"in_flight"`
	Delivered   uint64   `json:"delivered"`
	Retried     uint64   `json:"retried"`
	Failed      uint64   `json:"failed"`
	DeadLetters int      `json:"dead_letters"` // kept now
}

// Member is one of the equivalent ends of a pool.
type Member struct {
	Name     string    `json:"name"`
	Address  string    `json:"address"`
	State    string    `json:"state"` // "up", "connecting", "down", "draining"
	InFlight int       `json:"in_flight"`
	Error    string    `json:"error,omitempty"` // the last one, while it is not up
	Since    time.Time `json:"since,omitzero"`  // of the state
}

// Route is one rule that sends events to targets.
type Route struct {
	Name    string   `json:"name"`
	Topic   string   `json:"topic"`
	To      []string `json:"to"`
	Ack     string   `json:"ack"`
	Matched uint64   `json:"matched"`
}

// Policy is one step of a chain.
type Policy struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Passed   uint64 `json:"passed"`
	Rejected uint64 `json:"rejected"`
	Dropped  uint64 `json:"dropped"`
}

// Totals are the numbers of the node since its start, and its gauges now.
type Totals struct {
	Received      uint64  `json:"received"`  // events taken from publishers
	Delivered     uint64  `json:"delivered"` // events given to subscribers and pool members
	Connections   int     `json:"connections"`
	Sessions      int     `json:"sessions"`         // connected or remembered
	Offline       int     `json:"sessions_offline"` // of those: remembered without a connection
	Subscriptions int     `json:"subscriptions"`
	Retained      int     `json:"retained"`
	Queued        int     `json:"queued"` // events in all queues
	DeadLetters   int     `json:"dead_letters"`
	Refusals      []Count `json:"refusals"` // connections and events that were not taken, by reason
	Drops         []Count `json:"drops"`    // events taken and not delivered, by reason; counted, never silent
}

// Count is a number with the word it belongs to.
type Count struct {
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
}

// Check is one part of readiness.
type Check struct {
	Name string `json:"name"` // "listener/mqtt", "pool/north", "config"
	OK   bool   `json:"ok"`
	// Optional checks are shown and do not make the node unready: a pool that is down has a queue before it.
	Optional bool   `json:"optional,omitempty"`
	Text     string `json:"text,omitempty"` // why not, or what was found
}

// SessionLetters stands for a pool in the dead letters that sessions left: events that a client's outbox had taken.
const SessionLetters = "@sessions"

// DeadLetter is an event that could not be delivered. Its payload is not shown.
type DeadLetter struct {
	ID       uint64    `json:"id" doc:"Number within its pool."`
	Time     time.Time `json:"time" doc:"When it was given up."`
	Pool     string    `json:"pool" doc:"Pool that had it; @sessions: the outbox of a client."`
	Client   string    `json:"client,omitempty" doc:"Client whose outbox had it."`
	Topic    string    `json:"topic"`
	Reason   string    `json:"reason" doc:"Why it was given up."`
	Text     string    `json:"text,omitempty" doc:"What the last attempt said."`
	Attempts int       `json:"attempts"`
	Bytes    int       `json:"bytes" doc:"Size of the payload."`
}

// DeadLetterDetail is a dead letter with everything that is known of its event.
type DeadLetterDetail struct {
	DeadLetter
	Arrived time.Time `json:"arrived,omitzero" doc:"When the pool took it."`
	Outcome string    `json:"outcome,omitempty" doc:"Of the last attempt."`
	Event   Event     `json:"event"`
}

// Event is what is shown of an event.
type Event struct {
	Publisher   string   `json:"publisher,omitempty" doc:"Client or source that published it."`
	User        string   `json:"user,omitempty"`
	Protocol    string   `json:"protocol,omitempty"`
	Listener    string   `json:"listener,omitempty"`
	QoS         int      `json:"qos"`
	Retain      bool     `json:"retain,omitempty"`
	ContentType string   `json:"content_type,omitempty"`
	Headers     []Header `json:"headers,omitempty" doc:"In their order."`
	Payload     *Payload `json:"payload,omitempty" doc:"Only where it was asked for."`
}

// Header is one of an event's headers.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Payload is the first part of a payload.
type Payload struct {
	Text   string `json:"text,omitempty" doc:"Where it is UTF-8."`
	Base64 string `json:"base64,omitempty" doc:"Where it is not."`
	Bytes  int    `json:"bytes" doc:"Size of the whole payload; text or base64 hold its first 64 KiB."`
}

// MaxPayload is how much of a payload is shown.
const MaxPayload = 64 << 10

// Session is what is remembered of a client.
type Session struct {
	ID            string    `json:"id" doc:"Client id."`
	User          string    `json:"user,omitempty" doc:"Principal; none: anonymous."`
	Connected     bool      `json:"connected"`
	Since         time.Time `json:"since" doc:"Of the connection, or without one."`
	Listener      string    `json:"listener"`
	Protocol      string    `json:"protocol" doc:"With its version while connected."`
	Address       string    `json:"address,omitempty" doc:"Of the client, while connected."`
	Subscriptions int       `json:"subscriptions"`
	Unacked       int       `json:"unacked" doc:"Deliveries without acknowledgement."`
	Queued        int       `json:"queued" doc:"Events that wait in the outbox."`
	QueuedBytes   int64     `json:"queued_bytes"`
	Received      uint64    `json:"received" doc:"Events that the client published."`
	Delivered     uint64    `json:"delivered" doc:"Events sent to the client."`
	Dropped       uint64    `json:"dropped" doc:"Deliveries that were dropped."`
}

// SessionDetail is everything about a session but its subscriptions beyond the first hundred.
type SessionDetail struct {
	Session
	Attributes map[string]string `json:"attributes,omitempty" doc:"Of the principal."`
	TLS        bool              `json:"tls"`
	KeepAlive  int               `json:"keepalive_seconds" doc:"0: none."`
	Expiry     uint32            `json:"expiry_seconds" doc:"How long the session is kept without a connection; 4294967295: without end."`
	Expires    time.Time         `json:"expires,omitzero" doc:"When it ends, while it has no connection."`
	Window     int               `json:"window" doc:"Deliveries that may be without acknowledgement."`
	Receiving  int               `json:"receiving" doc:"Events of the client without an answer."`
	Held       int               `json:"held" doc:"Publishes of the client that wait for a limit or for room."`
	Pending    int               `json:"pending_bytes" doc:"Bytes that the client has not taken from its connection."`
	Will       string            `json:"will,omitempty" doc:"Topic of the will."`
	LastEnd    string            `json:"last_end,omitempty" doc:"Why the last connection ended."`
	LastEndAt  time.Time         `json:"last_end_at,omitzero"`
	Loop       int               `json:"loop" doc:"Event loop where it lives."`
	Filters    []Subscription    `json:"filters" nullable:"false" doc:"The first hundred subscriptions."`
	Version    string            `json:"version" doc:"Another one for each connection; the ETag."`
}

// Kicked says what became of a kick.
type Kicked struct {
	Disconnected bool `json:"disconnected" doc:"There was a connection, and it was ended."`
	Forgotten    bool `json:"forgotten" doc:"The session was ended too."`
}

// Subscription is one filter of one session.
type Subscription struct {
	Session           string `json:"session"`
	Filter            string `json:"filter"`
	QoS               int    `json:"qos"`
	NoLocal           bool   `json:"no_local,omitempty"`
	RetainAsPublished bool   `json:"retain_as_published,omitempty"`
	ID                uint32 `json:"id,omitempty" doc:"Subscription identifier of MQTT 5."`
}

// Retained is the last event of a topic.
type Retained struct {
	Topic     string    `json:"topic"`
	Bytes     int       `json:"bytes" doc:"Size of the payload."`
	Time      time.Time `json:"time" doc:"When it arrived."`
	Expires   time.Time `json:"expires,omitzero"`
	Publisher string    `json:"publisher,omitempty"`
}

// RetainedDetail is a retained event with everything that is known of it.
type RetainedDetail struct {
	Retained
	Event Event `json:"event"`
}

// Source is a part of the configuration that pulls events from a backend.
type Source struct {
	Name         string   `json:"name"`
	Type         string   `json:"type"`
	Pool         string   `json:"pool,omitempty" doc:"Pool whose members it reads from."`
	Filters      []string `json:"filters,omitempty"`
	Pending      int      `json:"pending" doc:"Events that wait for their outcome."`
	PendingBytes int64    `json:"pending_bytes"`
	PendingBound int64    `json:"pending_bound_bytes"`
}
