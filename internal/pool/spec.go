package pool

import "time"

// The overflow rules of the queue.
const (
	Reject  = "reject"
	DropNew = "drop_new"
	DropOld = "drop_old"
)

// Range is the least and the most of something.
type Range struct {
	Min, Max time.Duration
}

// Spec is what every pool can be told, whatever its driver. Immutable after New.
type Spec struct {
	Queue    int64         `yaml:"queue" unit:"size" default:"64MiB" min:"64KiB" doc:"How many bytes of events may wait or be in flight."`
	QueueMax int           `yaml:"queue_max" default:"100000" min:"1" doc:"How many events may wait or be in flight."`
	Overflow string        `yaml:"overflow" enum:"reject|drop_new|drop_old" default:"reject" doc:"What happens when the queue is full: reject tells the sender; drop_new and drop_old make dead letters of events that were or will be acknowledged, drop QoS 0, and still tell a sender that waits for a member."`
	MaxAge   time.Duration `yaml:"max_age" default:"24h" min:"1s" doc:"How long an event may wait before it becomes a dead letter."`
	Attempts int           `yaml:"attempts" default:"10" min:"1" doc:"How often a member may refuse an event or fail on it before it becomes a dead letter; members that cannot be reached do not count."`
	Backoff  Range         `yaml:"backoff" unit:"range" default:"200ms..30s" min:"1ms" doc:"Pause before an event is tried again: from the first to the longest, doubling, with jitter."`
	Timeout  time.Duration `yaml:"timeout" default:"15s" min:"10ms" doc:"How long a member may take to connect, and to answer one attempt; the driver may be stricter, and a broker may hold its answer 30s longer."`

	Reconnect Range         `yaml:"reconnect" unit:"range" default:"200ms..30s" min:"1ms" doc:"Pause before a member that is down is tried again: from the first to the longest, doubling, with jitter."`
	Drain     time.Duration `yaml:"drain" default:"5s" doc:"How long a pool that is being stopped goes on delivering what it holds."`

	DeadLetters    int64 `yaml:"dead_letters" unit:"size" default:"64MiB" doc:"How many bytes of dead letters are kept; beyond, the oldest are dropped and counted."`
	DeadLettersMax int   `yaml:"dead_letters_max" default:"10000" doc:"How many dead letters are kept; beyond, the oldest are dropped and counted."`
}

// withDefaults fills zero fields with what their tags say; a test compares the two.
func (s Spec) withDefaults() Spec {
	set(&s.Queue, 64<<20)
	set(&s.QueueMax, 100_000)
	set(&s.Overflow, Reject)
	set(&s.MaxAge, 24*time.Hour)
	set(&s.Attempts, 10)
	set(&s.Backoff.Min, 200*time.Millisecond)
	set(&s.Backoff.Max, 30*time.Second)
	set(&s.Timeout, 15*time.Second)
	set(&s.Reconnect.Min, 200*time.Millisecond)
	set(&s.Reconnect.Max, 30*time.Second)
	set(&s.Drain, 5*time.Second)
	set(&s.DeadLetters, 64<<20)
	set(&s.DeadLettersMax, 10_000)
	return s
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
