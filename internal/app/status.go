package app

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/windrose-edc/windrose/internal/admin"
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/pool"
	"github.com/windrose-edc/windrose/internal/session"
)

// status is the App as the admin server sees it. Safe for concurrent use: it reads counters and immutable parts.
type status App

// now is the graph in force.
func (s *status) now() *graph { return s.node.live.Load() }

// Info implements admin.Node.
func (s *status) Info() admin.Info {
	n := s.now()
	i := admin.Info{Name: n.id, Site: n.spec.Site, Mode: "file", Authority: "file", Config: s.o.ConfigFiles, ConfigHash: n.snap.Hash(), Started: s.started,
		Loops: len(n.hosts), Durability: "memory", Try: (*App)(s).try(),
		Notes: []string{"Persistent sessions are in memory: their acknowledgements mean received, and do not survive a restart."}}
	if s.o.Dev {
		i.Mode, i.Authority = "dev", "defaults"
	}
	i.Notes = append(i.Notes, n.adminNotes()...)
	if c := s.configCheck(); !c.OK {
		i.Notes = append(i.Notes, "Configuration: "+c.Text)
	}
	if last, applied := s.reloads.get(); last != nil && applied != nil && len(applied.Restart) > 0 {
		i.Notes = append(i.Notes, "Waits for a restart: "+strings.Join(applied.Restart, "; "))
	}
	for _, l := range n.listeners {
		if l.anonymous {
			i.Notes = append(i.Notes, fmt.Sprintf("Anonymous clients are admitted on listener %s.", l.name))
		}
	}
	return i
}

// Listeners implements admin.Node.
func (s *status) Listeners() []admin.Listener {
	var out []admin.Listener
	state := "listening"
	if (*App)(s).Draining().State != serving {
		state = "draining"
	}
	for _, l := range s.now().listeners {
		x := admin.Listener{Name: l.name, Protocol: l.protocol, Address: l.Addr().String(), TLS: l.spec.TLS != "", Anonymous: l.anonymous,
			State: state, Connections: int(l.Open()), Accepted: uint64(l.Accepted())}
		for _, c := range l.Refused() {
			x.Refused += uint64(c)
		}
		out = append(out, x)
	}
	return out
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

// Pools implements admin.Node.
func (s *status) Pools() []admin.Pool {
	var out []admin.Pool
	for _, p := range s.now().pools {
		st := p.Stats()
		x := admin.Pool{Name: st.Name, Type: p.kind, State: "down", Queued: st.Queued, QueueBound: p.bound, QueuedBytes: st.Bytes,
			Overflow: p.overflow, InFlight: st.InFlight, Delivered: st.Delivered, Retried: st.Retried, Failed: sum(st.Refused),
			DeadLetters: st.DeadLetters}
		for _, m := range st.Members {
			if m.State == pool.Up {
				x.State = "up"
			}
			x.Members = append(x.Members, admin.Member{Name: m.Name, Address: m.Name, State: string(m.State), InFlight: m.InFlight, Error: m.LastErr, Since: m.Since})
		}
		out = append(out, x)
	}
	return out
}

// Routes implements admin.Node.
func (s *status) Routes() []admin.Route {
	var out []admin.Route
	for _, r := range s.now().table.Routes() {
		out = append(out, admin.Route{Name: r.Name, Topic: r.Topic, To: r.Pool, Ack: r.Ack.String(), Matched: r.Matched()})
	}
	return out
}

// Policies implements admin.Node.
func (s *status) Policies() []admin.Policy {
	var out []admin.Policy
	for _, p := range s.now().chain.Steps() {
		out = append(out, admin.Policy{Name: p.Name, Type: p.Name, Passed: p.Passed, Rejected: p.Rejected, Dropped: p.Dropped})
	}
	return out
}

// Totals implements admin.Node.
func (s *status) Totals() admin.Totals {
	n, m := s.now(), s.now().meters
	t := admin.Totals{Delivered: m.delivered.Value(), Sessions: int(m.sessions.Value()), Offline: int(m.sessions.Value() - m.online.Value()),
		Subscriptions: int(m.subs.Value()), Retained: n.retained.Len(), Queued: int(m.queued.Value()), DeadLetters: n.dead.len(), Connections: int(n.connections())}
	for _, c := range m.received {
		t.Received += c.Value()
	}
	for o := range event.NumOutcomes {
		if v := m.outcomes[o].Value(); v > 0 && !o.OK() {
			t.Refusals = append(t.Refusals, admin.Count{Reason: o.String(), Count: v})
		}
	}
	refused := map[string]uint64{}
	for _, l := range n.listeners {
		for r, c := range l.Refused() {
			refused["connection: "+r] += uint64(c)
		}
	}
	for _, p := range n.pools {
		st := p.Stats()
		t.Delivered += st.Delivered
		t.Queued += st.Queued
		t.DeadLetters += st.DeadLetters
		for r, c := range st.Refused {
			refused["pool: "+r] += c
		}
		for r, c := range st.Dropped {
			if c > 0 {
				t.Drops = append(t.Drops, admin.Count{Reason: p.Name() + ": " + r, Count: c})
			}
		}
	}
	for r, c := range refused {
		if c > 0 {
			t.Refusals = append(t.Refusals, admin.Count{Reason: r, Count: c})
		}
	}
	slices.SortFunc(t.Refusals, func(a, b admin.Count) int { return strings.Compare(a.Reason, b.Reason) })
	for d := range session.NumDrops {
		if v := m.drops[d].Value(); v > 0 {
			t.Drops = append(t.Drops, admin.Count{Reason: d.String(), Count: v})
		}
	}
	return t
}

// configCheck says whether the last reload was in order. A node whose configuration is older than its files works, so it stays
// ready.
func (s *status) configCheck() admin.Check {
	c := admin.Check{Name: "config", OK: true, Text: "hash " + s.now().snap.Hash()[:12]}
	if last, _ := s.reloads.get(); last != nil && !last.OK {
		c.OK, c.Optional = false, true
		c.Text += fmt.Sprintf("; the reload at %s (%s) failed and changed nothing: %s", last.At.Format(time.RFC3339), last.How, last.Error)
	}
	return c
}

// Checks implements admin.Node.
func (s *status) Checks() []admin.Check {
	out := []admin.Check{s.configCheck()}
	if d := (*App)(s).Draining(); d.State != serving {
		out = append(out, admin.Check{Name: "drain", Text: fmt.Sprintf("%s since %s, %d connections left", d.State, d.Since.Format(time.RFC3339), d.Connections)})
	}
	if text := s.memory.short(); text != "" {
		out = append(out, admin.Check{Name: "memory", Optional: true, Text: text})
	}
	for _, l := range s.now().listeners {
		out = append(out, admin.Check{Name: "listener/" + l.name, OK: true, Text: l.Addr().String()})
	}
	for _, p := range s.now().pools {
		c := admin.Check{Name: "pool/" + p.Name(), Optional: true, Text: "no member is up; events wait in its queue"}
		for _, m := range p.Stats().Members {
			if m.State == pool.Up {
				c.OK, c.Text = true, ""
			}
		}
		out = append(out, c)
	}
	return out
}
