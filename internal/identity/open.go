package identity

import "context"

// open admits everybody on some listeners. Immutable; safe for concurrent use.
type open struct {
	listeners func(name string) bool
}

// Open admits everybody on the listeners that admit anonymous peers, whatever they show: for a node that has nobody to
// check credentials, so that devices with a name and password baked in can connect to a development node.
func Open(listeners func(name string) bool) Authenticator { return open{listeners} }

// Name implements Authenticator.
func (open) Name() string { return "open" }

// Slow implements Authenticator.
func (open) Slow() bool { return false }

// Authenticate implements Authenticator.
func (o open) Authenticate(_ context.Context, c *Credentials) (Principal, Decision, error) {
	if o.listeners(c.Listener) {
		return Principal{Method: "anonymous"}, Admitted, nil
	}
	return Principal{}, Unknown, nil
}
