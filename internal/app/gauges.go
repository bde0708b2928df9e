package app

import (
	"fmt"

	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/retain"
)

// publishStats offers what the parts count by themselves as metrics.
func (n *node) publishStats() {
	r := n.metrics
	count := func(name, help string, f func(s *loop.Stats) int64, labels ...string) {
		r.CounterFunc(name, help, func() float64 { s := n.group.Stats(); return float64(f(&s)) }, labels...)
	}
	count("windrose_loop_accepted_connections_total", "Connections that were let in.", func(s *loop.Stats) int64 { return s.Accepted })
	count("windrose_loop_accept_errors_total", "Pauses of accepting for want of file descriptors or memory.", func(s *loop.Stats) int64 { return s.AcceptErrors })
	for i := range loop.NumRefusals {
		count("windrose_loop_refused_connections_total", "Connections that were not let in, by reason.", func(s *loop.Stats) int64 { return s.Refused[i] }, "reason", i.String())
	}
	count("windrose_loop_tls_handshakes_total", "TLS handshakes, by how they ended.", func(s *loop.Stats) int64 { return s.HandshakesOK }, "outcome", "ok")
	count("windrose_loop_tls_handshakes_total", "TLS handshakes, by how they ended.", func(s *loop.Stats) int64 { return s.HandshakesFailed }, "outcome", "failed")
	count("windrose_loop_tls_handshakes_total", "TLS handshakes, by how they ended.", func(s *loop.Stats) int64 { return s.HandshakesTimeout }, "outcome", "timeout")
	count("windrose_loop_resumed_handshakes_total", "TLS handshakes that resumed a session.", func(s *loop.Stats) int64 { return s.HandshakesResumed })
	count("windrose_loop_handler_errors_total", "Connections closed because their handler panicked.", func(s *loop.Stats) int64 { return s.Panics })
	count("windrose_loop_function_errors_total", "Posted functions, timers and turn functions that panicked; the loop went on.", func(s *loop.Stats) int64 { return s.FuncPanics })
	count("windrose_loop_transferred_bytes_total", "Bytes on the wire.", func(s *loop.Stats) int64 { return s.BytesIn }, "direction", "in")
	count("windrose_loop_transferred_bytes_total", "Bytes on the wire.", func(s *loop.Stats) int64 { return s.BytesOut }, "direction", "out")
	count("windrose_loop_overfull_connections_total", "Connections closed because a buffer was full.", func(s *loop.Stats) int64 { return s.OutputFull }, "direction", "out")
	count("windrose_loop_overfull_connections_total", "Connections closed because a buffer was full.", func(s *loop.Stats) int64 { return s.InputFull }, "direction", "in")
	count("windrose_loop_run_turns_total", "Turns of all loops.", func(s *loop.Stats) int64 { return s.Turns })
	r.GaugeFunc("windrose_loop_active_threads", "Loops on a thread of their own; the others share one while little happens.", func() float64 { return float64(n.group.Stats().Driving) })
	count("windrose_loop_system_wakes_total", "System calls made to wake a sleeping loop.", func(s *loop.Stats) int64 { return s.Wakes })
	for i := range n.hosts {
		r.GaugeFunc("windrose_loop_open_connections", "Open connections.", func() float64 { return float64(n.group.Stats().Open[i]) }, "loop", fmt.Sprint(i))
	}
	r.GaugeFunc("windrose_index_stored_filters", "Distinct filters in the subscription index.", func() float64 { return float64(n.index.Stats().Filters) })
	r.GaugeFunc("windrose_index_stored_subscriptions", "Subscriptions in the index, routes included.", func() float64 { return float64(n.index.Stats().Subs) })
	r.GaugeFunc("windrose_index_held_bytes", "Memory of the subscription index.", func() float64 { return float64(n.index.Stats().Bytes) })
	r.GaugeFunc("windrose_index_waiting_entries", "Changes that wait.", func() float64 { return float64(n.index.Stats().Queued) })
	r.CounterFunc("windrose_index_refused_entries_total", "Changes that could not be made: the index has no numbers left.", func() float64 { return float64(n.index.Stats().Refused) })
	r.CounterFunc("windrose_index_full_calls_total", "Subscribers that were turned away because too many changes waited.", func() float64 { return float64(n.index.Stats().Full) })
	r.GaugeFunc("windrose_retain_stored_messages", "Retained events.", func() float64 { return float64(n.retained.Len()) })
	r.GaugeFunc("windrose_retain_held_bytes", "Bytes of retained events.", func() float64 { return float64(n.retained.Bytes()) })
	for reason, f := range map[string]func(s *retain.Stats) uint64{
		"full":    func(s *retain.Stats) uint64 { return s.Full },
		"expired": func(s *retain.Stats) uint64 { return s.Expired },
		"stale":   func(s *retain.Stats) uint64 { return s.Stale },
	} {
		r.CounterFunc("windrose_retain_dropped_events_total", "Events that are not retained (any more), by reason.",
			func() float64 { s := n.retained.Stats(); return float64(f(&s)) }, "reason", reason)
	}
	r.GaugeFunc("windrose_tls_expiry_seconds", "Seconds until the first certificate under tls expires; negative: it has.", n.firstExpiry)
	r.GaugeFunc("windrose_tap_open_streams", "Taps that are open: somebody watches single events.", func() float64 { return float64(n.tap.Stats().Taps) })
	r.CounterFunc("windrose_tap_opened_streams_total", "Taps that were opened.", func() float64 { return float64(n.tap.Stats().Opened) })
	r.CounterFunc("windrose_tap_recorded_events_total", "Events whose decision path was recorded for a tap.", func() float64 { return float64(n.tap.Stats().Records) })
	r.CounterFunc("windrose_tap_dropped_events_total", "Events that a tap wanted and a bound left out.", func() float64 { return float64(n.tap.Stats().Dropped) })
	r.GaugeFunc("windrose_session_dead_letters", "Dead letters of sessions.", func() float64 { return float64(n.dead.len()) })
	r.GaugeFunc("windrose_session_dead_bytes", "Bytes of the dead letters of sessions.", func() float64 { _, b, _ := n.dead.size(); return float64(b) })
	r.CounterFunc("windrose_session_dropped_letters_total", "Dead letters of sessions that gave way to newer ones.", func() float64 { _, _, d := n.dead.size(); return float64(d) })
}

// publishUsers offers what a users file counts; the returned function takes it out again.
func (n *node) publishUsers(u *identity.Users) (unlist func()) {
	r := n.metrics
	gauge, count := r.GaugeFunc, r.CounterFunc
	outs := []func(){
		gauge("windrose_identity_known_users", "Users in the users files.", func() float64 { return float64(u.Stats().Users) }),
		gauge("windrose_identity_waiting_checks", "Passwords that wait to be checked.", func() float64 { return float64(u.Stats().Waiting) }),
		count("windrose_identity_hashed_checks_total", "Passwords that were hashed.", func() float64 { return float64(u.Stats().Hashed) }),
		count("windrose_identity_recalled_checks_total", "Passwords that needed no hash again.", func() float64 { return float64(u.Stats().Recalled) }),
		count("windrose_identity_busy_checks_total", "Passwords that were not checked because too many waited.", func() float64 { return float64(u.Stats().Busy) }),
	}
	return func() {
		for _, f := range outs {
			f()
		}
	}
}
