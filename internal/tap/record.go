package tap

import (
	"math"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// The steps of a decision path, in the order in which they usually come.
const (
	StepReceived = "received" // the loop has decoded the event
	StepHeld     = "held"     // it must wait: a limit, room on another loop, the client's quota
	StepPolicy   = "policy"   // one policy's verdict
	StepRetained = "retained" // it becomes the last value of its topic
	StepRoute    = "route"    // a route of the configuration matched
	StepHop      = "hop"      // handed to another loop
	StepTarget   = "target"   // what a subscriber's session or a pool does with it
	StepAttempt  = "attempt"  // a member of a pool was asked, and answered
	StepOutcome  = "outcome"  // what the fan-in made of all targets
	StepAck      = "ack"      // what the publisher was told
)

// Step is one decision about an event. A value; strings are words of the configuration and of the product, never of
// payloads.
type Step struct {
	Micros  float64 `json:"us"`   // since the event was received, microseconds
	Step    string  `json:"step"` // one of the Step words
	Kind    string  `json:"kind,omitempty"`
	Name    string  `json:"name,omitempty"`   // policy, route, client, pool
	Member  string  `json:"member,omitempty"` // of a pool
	Attempt int     `json:"attempt,omitempty"`
	Verdict string  `json:"verdict,omitempty"` // pass, drop, reject, park; sent, queued, delivered, refused, dead_letter, ...
	Outcome string  `json:"outcome,omitempty"` // the word of an event.Outcome
	Topic   string  `json:"topic,omitempty"`   // from here on, where a policy changed it
	Detail  string  `json:"detail,omitempty"`
	Loop    int     `json:"loop,omitempty"` // on which it happened, from 1
}

// The kinds of a target.
const (
	KindSession = "session"
	KindPool    = "pool"
)

// Meta is one entry of an event's metadata. A value.
type Meta struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Record is the decision path of one event. Immutable once it is given out; guarded by Hub.mu before.
type Record struct {
	ID       uint32    `json:"id"`
	Time     time.Time `json:"time"` // of its arrival
	Protocol string    `json:"protocol,omitempty"`
	Listener string    `json:"listener,omitempty"`
	Client   string    `json:"client,omitempty"`
	User     string    `json:"user,omitempty"`
	Topic    string    `json:"topic"` // as the client said it
	QoS      int       `json:"qos"`
	Retain   bool      `json:"retain,omitempty"`
	Size     int       `json:"size"` // of the payload, bytes

	Payload       *string `json:"payload,omitempty"`        // text
	PayloadBase64 []byte  `json:"payload_base64,omitempty"` // what is no text
	Withheld      string  `json:"payload_withheld,omitempty"`
	Truncated     bool    `json:"payload_truncated,omitempty"`
	ContentType   string  `json:"content_type,omitempty"`
	Headers       []Meta  `json:"headers,omitempty"`

	DryRun   bool   `json:"dry_run,omitempty"` // nothing was sent: the answer of explain
	Steps    []Step `json:"steps"`
	Left     int    `json:"steps_left_out,omitempty"` // beyond the bound of a record
	Held     int    `json:"held,omitempty"`           // how often it had to wait
	Outcome  string `json:"outcome,omitempty"`        // what the publisher was told
	Complete bool   `json:"complete"`                 // false: something is still open; the record comes again when it is not

	raw *rawContent
}

// rawContent is what an event holds before redaction. Immutable.
type rawContent struct {
	payload []byte // nil: too large to be looked at
	size    int
	meta    []byte
}

func (r *Record) of(ev *event.Event, id uint32, at time.Time) {
	*r = Record{ID: id, Time: at.UTC(), Topic: string(ev.Topic), QoS: int(ev.QoS), Retain: ev.Retain, Size: len(ev.Payload), DryRun: ev.Dry}
	if o := ev.From; o != nil {
		r.Protocol, r.Listener, r.Client, r.User = o.Protocol, o.Listener, o.Client, o.User
	}
}

func (r *Record) add(s Step) {
	if len(r.Steps) >= stepsMax && s.Step != StepAck && s.Step != StepOutcome {
		r.Left++
		return
	}
	r.Steps = append(r.Steps, s)
}

// copied is the record as it is now; the trace goes on without it.
func (r *Record) copied() Record {
	c := *r
	c.Steps = append([]Step(nil), r.Steps...)
	return c
}

// micros is d in microseconds, to a tenth.
func micros(d time.Duration) float64 { return math.Round(float64(d)/100) / 10 }
