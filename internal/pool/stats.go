package pool

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/windrose-edc/windrose/internal/observe"
)

// reason is why an event was refused, dropped or parked: a closed set, for it is a label of metrics.
type reason uint8

const (
	reasonQueueFull       reason = iota // the queue was full, rule reject
	reasonOverflow                      // the queue was full, rules drop_new and drop_old
	reasonTooLarge                      // larger than the whole queue
	reasonShutdown                      // the pool was being stopped
	reasonRefused                       // a member refused it for good
	reasonAttempts                      // no attempt was left
	reasonDeadline                      // its sender could not wait longer
	reasonMaxAge                        // it waited longer than the pool allows
	reasonExpired                       // it waited longer than its sender asked
	reasonLoop                          // it came from here
	reasonWithdrawn                     // its sender heard a refusal while it waited
	reasonDeadLettersFull               // it was the oldest dead letter
	reasonUndecided                     // it was the oldest of too many undecided refusals, or nobody decided in time
	numReasons
)

func (r reason) String() string {
	return [numReasons]string{
		"queue_full", "overflow", "too_large", "shutdown", "refused", "attempts", "deadline", "max_age", "expired", "loop",
		"withdrawn", "dead_letters_full", "undecided",
	}[r]
}

// counts only go up. Safe for concurrent use.
type counts struct {
	delivered, retried, late atomic.Uint64
	refused, dropped, parked [numReasons]atomic.Uint64
}

// Stats is what a pool tells about itself. Immutable.
type Stats struct {
	Name      string
	Queued    int   // events in the queue, those in flight included
	Bytes     int64 // of them
	InFlight  int
	Delivered uint64
	Retried   uint64            // attempts that are repeated
	Late      uint64            // answers that came too late or twice
	Refused   map[string]uint64 // by reason; includes what became a dead letter
	Dropped   map[string]uint64 // by reason
	Parked    map[string]uint64 // by reason: became a dead letter

	DeadLetters     int
	DeadLetterBytes int64
	Undecided       int // refused, and not known what the sender was told
	Members         []MemberStats
}

// MemberState is what a member is doing.
type MemberState string

// The states of a member.
const (
	Up      MemberState = "up"
	Probing MemberState = "probing" // it was down and gets one event at a time until it answers
	Paused  MemberState = "paused"  // it asked to be left alone
	Down    MemberState = "down"
)

// MemberStats is one member. Immutable.
type MemberStats struct {
	Name     string // its address without credentials
	State    MemberState
	InFlight int
	LastErr  string    // why it is or was down; empty once it accepts
	Since    time.Time // of its link, or of its loss
}

// Stats returns the present numbers.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{
		Name: p.name, Queued: p.age.n, Bytes: p.bytes, InFlight: p.inFlight(),
		Delivered: p.counts.delivered.Load(), Retried: p.counts.retried.Load(), Late: p.counts.late.Load(),
		Refused: byReason(&p.counts.refused), Dropped: byReason(&p.counts.dropped), Parked: byReason(&p.counts.parked),
		DeadLetters: p.dead.list.n, DeadLetterBytes: p.dead.size, Undecided: p.open.n,
	}
	now := p.now().UnixNano()
	for _, m := range p.members {
		ms := MemberStats{Name: m.name, State: Down, InFlight: m.flying, LastErr: m.lastErr, Since: m.since}
		if c := m.c; c != nil {
			switch {
			case m.paused > now:
				ms.State = Paused
			case !c.proven && m.lastErr != "":
				ms.State = Probing
			default:
				ms.State = Up
			}
		}
		s.Members = append(s.Members, ms)
	}
	return s
}

func byReason(c *[numReasons]atomic.Uint64) map[string]uint64 {
	m := make(map[string]uint64)
	for r := range numReasons {
		if n := c[r].Load(); n > 0 {
			m[r.String()] = n
		}
	}
	return m
}

// inFlight is how many events are at a member; mu is held.
func (p *Pool) inFlight() (n int) {
	for _, m := range p.members {
		n += m.flying
	}
	return n
}

// metrics registers the pool's numbers; the returned function takes them out again.
func (p *Pool) metrics(r *observe.Registry) (remove func()) {
	var removes []func()
	counter := func(v *atomic.Uint64, name, help string, labels ...string) {
		f := func() float64 { return float64(v.Load()) }
		removes = append(removes, r.CounterFunc(name, help, f, append(labels, "pool", p.name)...))
	}
	counter(&p.counts.delivered, "windrose_pool_delivered_events_total", "Events that a member acknowledged.")
	counter(&p.counts.retried, "windrose_pool_retried_attempts_total", "Attempts that failed and are repeated.")
	counter(&p.counts.late, "windrose_pool_late_outcomes_total", "Answers of members that came twice or after the event was given up.")
	for i := range numReasons {
		why := i.String()
		counter(&p.counts.refused[i], "windrose_pool_refused_events_total", "Events that were not delivered, by reason, whether dropped, parked or sent again by their senders.", "reason", why)
		counter(&p.counts.dropped[i], "windrose_pool_dropped_events_total", "Events that are gone, by reason.", "reason", why)
		counter(&p.counts.parked[i], "windrose_pool_parked_letters_total", "Events that became dead letters, by reason.", "reason", why)
	}
	gauge := func(name, help string, f func() int64) {
		locked := func() float64 {
			p.mu.Lock()
			defer p.mu.Unlock()
			return float64(f())
		}
		removes = append(removes, r.GaugeFunc(name, help, locked, "pool", p.name))
	}
	gauge("windrose_pool_queued_events", "Events in the queue, those in flight included.", func() int64 { return int64(p.age.n) })
	gauge("windrose_pool_queued_bytes", "Bytes of the events in the queue.", func() int64 { return p.bytes })
	gauge("windrose_pool_inflight_events", "Events at a member, not yet answered.", func() int64 { return int64(p.inFlight()) })
	gauge("windrose_pool_dead_letters", "Dead letters that are kept.", func() int64 { return int64(p.dead.list.n) })
	gauge("windrose_pool_dead_bytes", "Bytes of the dead letters.", func() int64 { return p.dead.size })
	gauge("windrose_pool_undecided_events", "Refused events of which it is not known yet what their senders were told.", func() int64 { return int64(p.open.n) })
	gauge("windrose_pool_up_members", "Members that can be sent to.", func() (n int64) {
		for _, m := range p.members {
			if m.c != nil {
				n++
			}
		}
		return n
	})
	return func() {
		for _, f := range removes {
			f()
		}
	}
}

// note is a log line that is written once mu is released.
type note struct {
	warn  bool
	key   string
	msg   string
	attrs []slog.Attr
}

// maxNotes bounds the lines that wait; the limiter would hold back the rest anyway.
const maxNotes = 64

// note makes the dispatcher write a log line; mu is held.
func (p *Pool) note(warn bool, key, msg string, attrs ...slog.Attr) {
	if len(p.notes) < maxNotes {
		p.notes = append(p.notes, note{warn, key, msg, attrs})
	}
}

func (p *Pool) tell(notes []note) {
	for _, n := range notes {
		if n.warn {
			p.log.Warn(n.key, n.msg, n.attrs...)
		} else {
			p.log.Info(n.key, n.msg, n.attrs...)
		}
	}
}
