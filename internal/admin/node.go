package admin

import "time"

// Node is what the admin server asks of the node it shows. All methods are safe for concurrent use, answer from memory
// in well under a millisecond and never wait for a loop. Slices are copies; their order is the order that is shown.
type Node interface {
	Info() Info
	Listeners() []Listener
	Pools() []Pool
	Routes() []Route
	Policies() []Policy
	// Totals is asked once a second by the sampler besides the requests.
	Totals() Totals
	// Checks are the parts of readiness.
	Checks() []Check
	// DeadLetters are the newest dead letters of a pool ("": of all), newest first, at most limit.
	DeadLetters(pool string, limit int) []DeadLetter
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

// DeadLetter is an event that could not be delivered. Its payload is not shown.
type DeadLetter struct {
	Time     time.Time `json:"time"`
	Pool     string    `json:"pool"`
	Topic    string    `json:"topic"`
	Reason   string    `json:"reason"` // an outcome
	Text     string    `json:"text,omitempty"`
	Attempts int       `json:"attempts"`
	Bytes    int       `json:"bytes"` // of the payload
}
