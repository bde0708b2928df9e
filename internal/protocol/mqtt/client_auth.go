package mqtt

import (
	"errors"
	"fmt"

	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// clientAuth is the client's end of an enhanced authentication (MQTT 5, 4.12); nil: there is none. Owned by who connects.
type clientAuth struct {
	method   string
	scram    *identity.ScramClient
	answered bool
}

var errClientAuth = errors.New("server speaks of an authentication that was not asked for")

// checkAuth says what is wrong with the method that the options name.
func (o *ClientOptions) checkAuth() error {
	switch {
	case o.AuthMethod == "":
		return nil
	case o.AuthMethod != identity.ScramSHA256:
		return fmt.Errorf("authentication method %q is not known here: want %s", o.AuthMethod, identity.ScramSHA256)
	case o.Version != wire.V5:
		return errors.New("an authentication method needs MQTT 5")
	case o.Username == "":
		return errors.New("an authentication method needs a user name")
	}
	return nil
}

// authenticate begins the exchange in a CONNECT: name and password are in no packet of it.
func (o *ClientOptions) authenticate(p *wire.Connect) *clientAuth {
	if o.AuthMethod == "" {
		return nil
	}
	a := &clientAuth{method: o.AuthMethod, scram: identity.NewScramClient(o.Username, o.Password)}
	p.AuthMethod, p.HasAuthMethod, p.AuthData = []byte(a.method), true, a.scram.First()
	p.Username, p.HasUsername, p.Password, p.HasPassword = nil, false, nil, false
	return a
}

// challenge answers an AUTH of the server.
func (a *clientAuth) challenge(dec *wire.Decoder, body []byte) ([]byte, error) {
	var x wire.Auth
	if err := dec.Auth(body, &x); err != nil {
		return nil, err
	}
	if a == nil || a.answered || x.Reason != wire.ContinueAuthentication || string(x.Method) != a.method {
		return nil, errClientAuth
	}
	a.answered = true
	data, err := a.scram.Final(x.Data)
	if err != nil {
		return nil, err
	}
	return wire.AppendAuth(nil, &wire.Auth{Reason: wire.ContinueAuthentication, Method: x.Method, Data: data, HasData: true}), nil
}

// verify holds a CONNACK that lets in to what the server must know as well.
func (a *clientAuth) verify(k *wire.Connack) error {
	if a == nil || k.Reason != wire.Success {
		return nil
	}
	if string(k.AuthMethod) != a.method {
		return errors.New("server let in without the authentication that was asked for")
	}
	return a.scram.Verify(k.AuthData)
}
