package app

import (
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/route"
	"github.com/windrose-edc/windrose/internal/session"
)

// meterEvery is how often a busy loop's counts reach the registry. A loop that does nothing does not wake up for it.
const meterEvery = 100 * time.Millisecond

// meters are the node's counters of events. Safe for concurrent use.
type meters struct {
	received  [3]*observe.Counter
	delivered *observe.Counter
	outcomes  [event.NumOutcomes]*observe.Counter
	drops     [session.NumDrops]*observe.Counter
	dups      *observe.Counter
	taken     *observe.Counter
	held      *observe.Counter
	late      *observe.Counter
	turned    *observe.Counter
	subsMax   *observe.Counter
	mail      *observe.Counter
	expired   *observe.Counter
	noMatch   *observe.Counter
	remote    *observe.Counter
	handed    *observe.Counter
	shared    *observe.Counter
	offered   *observe.Counter
	unshared  *observe.Counter
	twice     *observe.Counter
	sessions  *observe.Gauge
	online    *observe.Gauge
	subs      *observe.Gauge
	queued    *observe.Gauge
	bytes     *observe.Gauge
	open      *observe.Gauge
}

func newMeters(r *observe.Registry) *meters {
	m := &meters{
		delivered: r.Counter("windrose_session_delivered_events_total", "Events sent to subscribers."),
		dups:      r.Counter("windrose_session_duplicate_events_total", "Events that a client sent again and that joined their receipt."),
		taken:     r.Counter("windrose_session_replaced_connections_total", "Connections that ended because their client connected again."),
		held:      r.Counter("windrose_session_held_events_total", "Times that a publish was held for a limit or for room."),
		subsMax:   r.Counter("windrose_session_refused_subscriptions_total", "Subscriptions above the bound of a client."),
		turned:    r.Counter("windrose_session_busy_connections_total", "Connections ended because too many subscriptions waited."),
		late:      r.Counter("windrose_session_late_outcomes_total", "Outcomes of events whose session had ended."),
		mail:      r.Counter("windrose_route_refused_legs_total", "Deliveries refused because another loop had no room."),
		expired:   r.Counter("windrose_route_overdue_events_total", "Events whose outcome was not there at their deadline."),
		noMatch:   r.Counter("windrose_route_unmatched_events_total", "Events that nobody took."),
		remote:    r.Counter("windrose_route_remote_events_total", "Events handed to another loop."),
		handed:    r.Counter("windrose_session_handed_events_total", "Events of shared subscriptions that went on to another member because one had gone."),
		shared:    r.Counter("windrose_route_shared_events_total", "Events that a member of a shared subscription took."),
		offered:   r.Counter("windrose_route_reoffered_events_total", "Times that another member of a shared subscription was asked because one did not take an event."),
		unshared:  r.Counter("windrose_route_unshared_events_total", "Events that no member of a shared subscription took."),
		twice:     r.Counter("windrose_route_late_outcomes_total", "Outcomes of targets that came twice or after the deadline."),
		sessions:  r.Gauge("windrose_session_open_sessions", "Sessions, with and without a connection."),
		online:    r.Gauge("windrose_session_online_sessions", "Sessions with a connection."),
		subs:      r.Gauge("windrose_session_active_subscriptions", "Subscriptions."),
		queued:    r.Gauge("windrose_session_queued_events", "Events that wait in sessions."),
		bytes:     r.Gauge("windrose_session_queued_bytes", "Bytes of events that wait in sessions."),
		open:      r.Gauge("windrose_route_open_events", "Events whose outcome is not known yet."),
	}
	for q := range m.received {
		m.received[q] = r.Counter("windrose_session_received_events_total", "Events received from clients.", "qos", string(rune('0'+q)))
	}
	for o := range event.NumOutcomes {
		m.outcomes[o] = r.Counter("windrose_session_answered_events_total", "Answers to publishers, by outcome.", "outcome", o.String())
	}
	for d := range session.NumDrops {
		m.drops[d] = r.Counter("windrose_session_dropped_events_total", "Deliveries that were dropped, by reason.", "reason", d.String())
	}
	return m
}

// meter carries one loop's counts to the registry. Owned by its loop.
type meter struct {
	all   *meters
	host  *session.Host
	loop  *loop.Loop
	timer loop.Timer
	last  session.Tally
	route route.Stats
	open  int
}

// turn is called at the end of each turn.
func (m *meter) turn(h *session.Host) {
	if !m.timer.Armed() && (h.Tally != m.last || *h.Walker().Stats() != m.route || h.Walker().Open() != m.open) {
		m.loop.Arm(&m.timer, m.loop.Now()+int64(meterEvery))
	}
}

// Expire implements loop.Expirer.
func (m *meter) Expire(*loop.Timer, int64) {
	m.host.Flush()
	t, l := &m.host.Tally, &m.last
	for q := range t.Received {
		m.all.received[q].Add(t.Received[q] - l.Received[q])
	}
	m.all.delivered.Add(t.Delivered - l.Delivered)
	for o := range event.NumOutcomes {
		m.all.outcomes[o].Add(t.Outcomes[o] - l.Outcomes[o])
	}
	for d := range t.Dropped {
		m.all.drops[d].Add(t.Dropped[d] - l.Dropped[d])
	}
	m.all.dups.Add(t.Duplicates - l.Duplicates)
	m.all.taken.Add(t.TakenOver - l.TakenOver)
	m.all.held.Add(t.Held - l.Held)
	m.all.late.Add(t.Late - l.Late)
	m.all.subsMax.Add(t.SubsRefused - l.SubsRefused)
	m.all.turned.Add(t.IndexFull - l.IndexFull)
	m.all.handed.Add(t.HandedOn - l.HandedOn)
	m.all.sessions.Add(t.Sessions - l.Sessions)
	m.all.online.Add(t.Online - l.Online)
	m.all.subs.Add(t.Subs - l.Subs)
	m.all.queued.Add(t.Queued - l.Queued)
	m.all.bytes.Add(t.QueuedBytes - l.QueuedBytes)
	m.last = *t
	w := m.host.Walker()
	s, r := w.Stats(), &m.route
	m.all.mail.Add(s.MailDropped - r.MailDropped)
	m.all.expired.Add(s.Expired - r.Expired)
	m.all.noMatch.Add(s.NoMatch - r.NoMatch)
	m.all.remote.Add(s.Remote - r.Remote)
	m.all.shared.Add(s.Shared - r.Shared)
	m.all.offered.Add(s.SharedAgain - r.SharedAgain)
	m.all.unshared.Add(s.SharedLost - r.SharedLost)
	m.all.twice.Add(s.Late - r.Late)
	m.route = *s
	m.all.open.Add(int64(w.Open() - m.open))
	m.open = w.Open()
}
