package dtls

import "github.com/windrose-edc/windrose/internal/observe"

// Why a handshake was refused or failed.
const (
	refusedStopped = iota
	refusedTotal
	refusedPrefix
	refusedTimeout // also: a wrong key, which nobody can tell from a lost datagram
	refusedFailed
	refusedReplaced
	numRefused
)

// Why a datagram or record was dropped.
const (
	dropMalformed = iota
	dropCookie
	dropUnknown // no peer has this Connection ID or address
	dropNode    // the Connection ID is another node's
	dropForged
	dropReplayed
	dropInbox
	dropHandshake // more than a handshake may send
	dropBudget    // to an address that is not confirmed
	dropLoop      // the Connection ID names a loop that does not exist
	numDropped
)

// counters are what a server counts. Safe for concurrent use.
type counters struct {
	hellos, cookies, handshakes, moved, forwarded *observe.Counter
	refused                                       [numRefused]*observe.Counter
	dropped                                       [numDropped]*observe.Counter
	halfOpen, sessions                            *observe.Gauge
}

func newCounters(m *observe.Registry, listener string) *counters {
	n := &counters{
		hellos:     m.Counter("windrose_dtls_received_handshakes_total", "ClientHello messages that came.", "listener", listener),
		cookies:    m.Counter("windrose_dtls_cookie_handshakes_total", "ClientHello messages that were answered with a cookie, which costs no memory.", "listener", listener),
		handshakes: m.Counter("windrose_dtls_completed_handshakes_total", "Handshakes that succeeded.", "listener", listener),
		moved:      m.Counter("windrose_dtls_moved_sessions_total", "Times that a peer with a Connection ID came from another address.", "listener", listener),
		forwarded:  m.Counter("windrose_dtls_forwarded_datagrams_total", "Datagrams that another loop's socket received.", "listener", listener),
		halfOpen:   m.Gauge("windrose_dtls_open_handshakes", "Handshakes under way.", "listener", listener),
		sessions:   m.Gauge("windrose_dtls_open_sessions", "Established peers.", "listener", listener),
	}
	for i, r := range [numRefused]string{"stopped", "handshakes_full", "prefix_full", "timeout", "failed", "replaced"} {
		n.refused[i] = m.Counter("windrose_dtls_refused_handshakes_total", "Handshakes that were refused or failed, by reason; a wrong key is a timeout.", "listener", listener, "reason", r)
	}
	for i, r := range [numDropped]string{"malformed", "bad_cookie", "unknown_peer", "other_node", "forged", "replayed", "inbox_full", "handshake_full", "unconfirmed_address", "unknown_loop"} {
		n.dropped[i] = m.Counter("windrose_dtls_dropped_datagrams_total", "Datagrams and records that were dropped, by reason.", "listener", listener, "reason", r)
	}
	return n
}
