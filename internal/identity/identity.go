// Package identity answers who a peer is. It has one interface, Authenticator, and one Chain of them per listener, used
// by every protocol: no protocol keeps credentials of its own. Here are the users file (argon2id hashes and
// SCRAM-SHA-256 verifiers), X.509 names, pre-shared keys, signed tokens (JWT), an HTTP callout and anonymous peers.
//
// Passwords, tokens, keys, hashes and verifiers never appear in an error or a log line.
//
// # Concurrency
//
// A Chain and every Authenticator of this package are safe for concurrent use. What may take time or memory (argon2id)
// says so by Slow: the caller asks Try on its loop and runs Authenticate in a bounded number of goroutines where Try
// could not decide. A ScramServer is one exchange and belongs to the session that started it.
package identity

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"time"
)

// Principal is who a peer turned out to be. Immutable: Attrs is shared by all sessions of the principal and never
// written.
type Principal struct {
	// Name is the name of the principal, "" for an anonymous peer.
	Name string
	// Client is the client id that the credential itself fixes (`client: "cert.cn"`, a PSK identity), "" where it fixes
	// none. A protocol uses it where the peer named no client id and refuses a peer that names another one.
	Client string
	// Attrs are what is known of the principal; {attrs.x} in an access rule is filled from it. May be nil.
	Attrs map[string]string
	// Method says how the principal was recognised: "users", "scram-sha-256", "x509", "psk", "jwt", "http", "anonymous".
	Method string
	// Expires is when the credential ends, and with it the connection; zero where it does not.
	Expires time.Time

	refusal string // of one that is not admitted: why, for metric and log
}

// reason is why one that is not admitted is not.
func (p *Principal) reason() string {
	if p.refusal == "" {
		return whyPassword
	}
	return p.refusal
}

// Credentials are what a peer showed. Owned by the caller and only borrowed by Authenticate, which keeps nothing of it.
type Credentials struct {
	Listener    string // name of the listener
	ClientID    string // what the peer calls itself; a claim, not a proof
	Username    string // valid when HasUsername
	Password    []byte
	HasUsername bool
	// Certificates is the peer's chain, leaf first, which TLS has already verified. An unverified one is never put here.
	Certificates []*x509.Certificate
	PSKIdentity  string // identity whose key the finished handshake proved
	Remote       netip.AddrPort
}

// presented says whether the peer showed anything at all that claims to be somebody.
func (c *Credentials) presented() bool {
	return c.HasUsername || len(c.Password) > 0 || len(c.Certificates) > 0 || c.PSKIdentity != ""
}

// Decision is what an authenticator says of a credential.
type Decision uint8

// The decisions.
const (
	Unknown  Decision = iota // not a credential this authenticator knows: the next in the chain is asked
	Admitted                 // the principal is who it says
	Refused                  // known, and not admitted: nobody else is asked
)

// String is the decision's word in logs and metrics.
func (d Decision) String() string {
	switch d {
	case Unknown:
		return "unknown"
	case Admitted:
		return "admitted"
	case Refused:
		return "refused"
	default:
		return fmt.Sprintf("decision(%d)", uint8(d))
	}
}

// Authenticator recognises one kind of credential. Safe for concurrent use.
type Authenticator interface {
	// Name is the authenticator's word in metrics, logs and configuration.
	Name() string
	// Authenticate decides. An error means that no decision was possible (too busy, ctx ended); it comes with Refused, and
	// the peer is told that the server is unavailable, not that its credentials are bad. Errors hold no secrets.
	Authenticate(ctx context.Context, c *Credentials) (Principal, Decision, error)
	// Slow says whether Authenticate may take CPU time, memory or a network call: the caller then runs it off the loop,
	// a bounded number at once.
	Slow() bool
}

// Quick is what a slow authenticator offers besides, when it can often decide without its slow step.
type Quick interface {
	// TryAuthenticate decides without slow work and without waiting. done is false when only Authenticate can decide.
	TryAuthenticate(c *Credentials) (p Principal, d Decision, done bool)
}

// Masker is an authenticator that answers Unknown faster than Refused, and could so tell a peer which names exist. Where
// nobody in a chain knew a credential, the chain lets the first Masker that is concerned spend the time that a refusal
// would have taken. It is done only then, so that what another authenticator admits costs nothing here.
type Masker interface {
	// Masks says whether the credential is one for which Mask has work to do.
	Masks(c *Credentials) bool
	// Mask does the work, or says by an error what the refusal would have said (too busy).
	Mask(ctx context.Context, c *Credentials) error
}

// Chain asks authenticators in order. Immutable after New; safe for concurrent use. A nil or empty Chain refuses
// everybody.
type Chain struct {
	as    []Authenticator
	meter *Meter // nil: nothing is counted
}

// NewChain returns the chain of as, asked in that order.
func NewChain(as ...Authenticator) *Chain { return &Chain{as: as} }

// WithMeter returns a chain of the same authenticators whose decisions are counted.
func (c *Chain) WithMeter(m *Meter) *Chain { return &Chain{as: c.as, meter: m} }

// admit counts who is let in. One that names a client id which its credential gives to another client is counted as refused:
// the protocol says so in its own words, because only it knows whether it uses the id.
func (c *Chain) admit(by string, p Principal, cr *Credentials) Principal {
	if p.Client != "" && cr.ClientID != "" && cr.ClientID != p.Client {
		c.meter.refuse(by, whyClient, cr)
	} else {
		c.meter.admit()
	}
	return p
}

// Authenticate asks one authenticator after the other; the first that knows the credential decides. Where nobody knows
// it, or one of them fails, the answer is Refused, never Unknown.
func (c *Chain) Authenticate(ctx context.Context, cr *Credentials) (Principal, Decision, error) {
	if c == nil {
		return Principal{}, Refused, nil
	}
	for _, a := range c.as {
		p, d, err := a.Authenticate(ctx, cr)
		if err != nil {
			c.meter.refuse(a.Name(), whyDown, cr)
			return Principal{}, Refused, fmt.Errorf("authenticate by %s: %w", a.Name(), err)
		}
		switch d {
		case Unknown:
		case Admitted:
			return c.admit(a.Name(), p, cr), Admitted, nil
		case Refused:
			c.meter.refuse(a.Name(), p.reason(), cr)
			return Principal{}, Refused, nil
		default:
			return Principal{}, Refused, nil
		}
	}
	if a, m := c.masker(cr); m != nil {
		if err := m.Mask(ctx, cr); err != nil {
			c.meter.refuse(a.Name(), whyDown, cr)
			return Principal{}, Refused, fmt.Errorf("authenticate by %s: %w", a.Name(), err)
		}
	}
	c.meter.refuse("nobody", whyUnknown, cr)
	return Principal{}, Refused, nil
}

// masker returns the first authenticator that hides that it does not know cr; nil when there is none.
func (c *Chain) masker(cr *Credentials) (Authenticator, Masker) {
	for _, a := range c.as {
		if m, ok := a.(Masker); ok && m.Masks(cr) {
			return a, m
		}
	}
	return nil, nil
}

// Try decides like Authenticate, but only where no slow step is needed; it never waits, so a loop may call it. done is
// false when the caller must run Authenticate elsewhere. A failure leaves done false as well: Authenticate will say it.
func (c *Chain) Try(cr *Credentials) (p Principal, d Decision, done bool) {
	if c == nil {
		return Principal{}, Refused, true
	}
	for _, a := range c.as {
		if q, ok := a.(Quick); ok {
			p, d, done = q.TryAuthenticate(cr)
			if !done {
				return Principal{}, Unknown, false
			}
		} else {
			if a.Slow() {
				return Principal{}, Unknown, false
			}
			var err error
			if p, d, err = a.Authenticate(context.Background(), cr); err != nil {
				return Principal{}, Unknown, false
			}
		}
		switch d {
		case Unknown:
		case Admitted:
			return c.admit(a.Name(), p, cr), Admitted, true
		case Refused:
			c.meter.refuse(a.Name(), p.reason(), cr)
			return Principal{}, Refused, true
		default:
			return Principal{}, Refused, true
		}
	}
	if _, m := c.masker(cr); m != nil {
		return Principal{}, Unknown, false
	}
	c.meter.refuse("nobody", whyUnknown, cr)
	return Principal{}, Refused, true
}

// Fast says whether the decision about cr needs no slow step. A caller that wants the decision too uses Try.
func (c *Chain) Fast(cr *Credentials) bool {
	_, _, done := c.Try(cr)
	return done
}

// Scram starts a SCRAM-SHA-256 exchange over all users files of the chain, in order. ok is false when the chain has
// none, so that the mechanism is not offered.
func (c *Chain) Scram() (s *ScramServer, ok bool) {
	if c == nil {
		return nil, false
	}
	var us []*Users
	for _, a := range c.as {
		if u, is := a.(*Users); is {
			us = append(us, u)
		}
	}
	if len(us) == 0 {
		return nil, false
	}
	return NewScramServer(us...), true
}

// Anonymous admits a peer that showed no credentials at all, on listeners for which the function says so. A peer that
// showed some, even useless ones, is never taken for an anonymous one. The principal has no name. listeners must be
// safe for concurrent use and must not block.
func Anonymous(listeners func(name string) bool) Authenticator {
	return &anonymous{listeners: listeners}
}

// anonymous is immutable after New.
type anonymous struct {
	listeners func(name string) bool
}

func (a *anonymous) Name() string { return "anonymous" }

func (a *anonymous) Slow() bool { return false }

func (a *anonymous) Authenticate(_ context.Context, c *Credentials) (Principal, Decision, error) {
	if c.presented() || a.listeners == nil || !a.listeners(c.Listener) {
		return Principal{}, Unknown, nil
	}
	return Principal{Method: a.Name()}, Admitted, nil
}
