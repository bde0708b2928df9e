package identity

import (
	"context"
	"errors"
	"fmt"
)

// Exchange is the server's end of an authentication that takes several messages, whatever the protocol that carries them
// (enhanced authentication of MQTT 5, SASL). Its first message is the client's; an empty one asks the server to begin.
// Owned by the session that runs it, one call at a time; used once.
type Exchange interface {
	// Method is the name of the mechanism.
	Method() string
	// Step takes the next message of the client, borrowed, and returns what to send. done says that the exchange is over and
	// the client is p; with an error it is over too, and p is nobody. An error wraps ErrExchangeBusy where no decision was
	// possible; it holds no secret.
	Step(ctx context.Context, msg []byte) (answer []byte, p Principal, done bool, err error)
	// Slow says whether Step may take CPU time, memory or a network call: the caller then runs it off the loop.
	Slow() bool
}

// ErrExchangeBusy is an exchange that ends because the node, not the client, could not go on.
var ErrExchangeBusy = errors.New("no decision possible")

// Exchanger is an authenticator that offers exchanges besides. None does in this package: SCRAM-SHA-256 runs over all users
// files of a chain at once, see Chain.Exchange.
type Exchanger interface {
	// Exchange starts an exchange of that mechanism; ok is false where it does not offer it.
	Exchange(method string) (x Exchange, ok bool)
}

// Exchange starts an exchange of the mechanism of that name; ok is false where the chain does not offer it. Names are compared
// as they are.
func (c *Chain) Exchange(method string) (x Exchange, ok bool) {
	if c == nil {
		return nil, false
	}
	if method == ScramSHA256 {
		if s, ok := c.Scram(); ok {
			return &scramExchange{s: s, m: c.meter}, true
		}
	}
	for _, a := range c.as {
		if e, is := a.(Exchanger); is {
			if x, ok = e.Exchange(method); ok {
				return x, true
			}
		}
	}
	return nil, false
}

// scramExchange is a ScramServer as an Exchange. Owned by the session that runs it.
type scramExchange struct {
	s     *ScramServer
	m     *Meter
	begun bool
}

func (x *scramExchange) Method() string { return ScramSHA256 }

// Slow is false: a step is a few hashes.
func (x *scramExchange) Slow() bool { return false }

func (x *scramExchange) Step(_ context.Context, msg []byte) (answer []byte, p Principal, done bool, err error) {
	if !x.begun {
		if len(msg) == 0 && x.s.state == scramNew { // RFC 4422, section 5.1: the client speaks first, and is asked to
			x.begun = true
			return nil, Principal{}, false, nil
		}
		x.begun = true
	}
	if x.s.state == scramNew {
		if answer, err = x.s.Start(msg); err != nil {
			x.m.refuse(ScramSHA256, whyMalformed, &Credentials{})
		}
		return answer, Principal{}, false, err
	}
	if answer, p, err = x.s.Finish(msg); err != nil {
		x.m.refuse(ScramSHA256, whyPassword, &Credentials{})
		return nil, Principal{}, false, fmt.Errorf("finish %s: %w", ScramSHA256, err)
	}
	x.m.admit()
	return answer, p, true, nil
}
