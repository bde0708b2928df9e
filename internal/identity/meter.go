package identity

import (
	"log/slog"

	"github.com/windrose-edc/windrose/internal/observe"
)

// Why a peer was refused, in the metric and the log; the peer is told no more than its protocol's word for "no".
const (
	whyUnknown   = "unknown"   // nobody in the chain knows the credential
	whyPassword  = "password"  // wrong
	whyExpired   = "expired"   // token
	whyEarly     = "not_yet"   // token
	whyMalformed = "malformed" // token or certificate
	whyTooLarge  = "too_large" // token
	whyAlgorithm = "algorithm" // not one that is allowed, or not one of the key
	whyKey       = "key"       // not in the key set
	whySignature = "signature"
	whyAudience  = "audience"
	whyName      = "name"      // the credential gives no name, or no client id where it has to
	whyClient    = "client_id" // the client id belongs to another principal
	whyRevoked   = "revoked"
	whyDenied    = "denied" // by the callout
	whyDown      = "unavailable"
)

func refusalReasons() []string {
	return []string{whyUnknown, whyPassword, whyExpired, whyEarly, whyMalformed, whyTooLarge, whyAlgorithm, whyKey, whySignature, whyAudience,
		whyName, whyClient, whyRevoked, whyDenied, whyDown}
}

// Meter counts what authenticators decide and writes a line for each refusal, at a limited rate. Safe for concurrent use; its
// methods work on nil.
type Meter struct {
	refusals map[string]*observe.Counter // by reason; immutable after New
	admitted *observe.Counter
	keys     [2]*observe.Counter // fetches of key sets: failed, ok
	calls    map[string]*observe.Counter
	limited  *observe.LimitedLogger
	log      *slog.Logger
}

// How a callout ended, in the metric.
const (
	callAllow, callDeny, callIgnore = "allow", "deny", "ignore"
	callFailed, callBusy            = "failed", "busy"
	callCached, callStale           = "cached", "stale" // no call: remembered; remembered longer, as the callout is down
)

// NewMeter makes the counters of a node. limited is for lines that a peer can cause, log for the others; both may be nil.
func NewMeter(r *observe.Registry, limited *observe.LimitedLogger, log *slog.Logger) *Meter {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m := &Meter{refusals: make(map[string]*observe.Counter), calls: make(map[string]*observe.Counter), limited: limited, log: log}
	for _, why := range refusalReasons() {
		m.refusals[why] = r.Counter("windrose_auth_refused_clients_total", "Clients whose credentials were refused, by reason.", "reason", why)
	}
	m.admitted = r.Counter("windrose_auth_admitted_clients_total", "Clients whose credentials were accepted.")
	const keys = "Attempts to read a set of token keys (JWKS), by how they ended."
	m.keys[0] = r.Counter("windrose_auth_fetched_records_total", keys, "outcome", "failed")
	m.keys[1] = r.Counter("windrose_auth_fetched_records_total", keys, "outcome", "ok")
	for _, o := range []string{callAllow, callDeny, callIgnore, callFailed, callBusy, callCached, callStale} {
		m.calls[o] = r.Counter("windrose_auth_callout_checks_total", "Credentials decided by an HTTP callout, by how it ended; cached and stale made no call.", "outcome", o)
	}
	return m
}

// refuse counts a refusal and tells it. Of the credential only what is no secret is told.
func (m *Meter) refuse(by, why string, c *Credentials) {
	if m == nil {
		return
	}
	if m.refusals[why] == nil {
		why = whyDenied
	}
	m.refusals[why].Inc()
	m.limited.Info("auth/"+c.Listener+"/"+why, "client refused", slog.String("listener", c.Listener), slog.String("by", by),
		slog.String("reason", why), slog.String("remote", c.Remote.String()), slog.String("client", clip(c.ClientID)), slog.String("user", clip(c.Username)))
}

// clip bounds what a peer can put into a line.
func clip(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

func (m *Meter) admit() {
	if m != nil {
		m.admitted.Inc()
	}
}

func (m *Meter) fetched(ok bool) {
	switch {
	case m == nil:
	case ok:
		m.keys[1].Inc()
	default:
		m.keys[0].Inc()
	}
}

func (m *Meter) called(outcome string) {
	if m != nil {
		m.calls[outcome].Inc()
	}
}

// warn writes a line that no peer can cause at will.
func (m *Meter) warn(key, msg string, attrs ...slog.Attr) {
	if m == nil {
		return
	}
	if m.limited != nil {
		m.limited.Warn("auth/"+key, msg, attrs...)
	}
}
