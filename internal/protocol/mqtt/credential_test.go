package mqtt

import (
	"context"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// ticket is an authenticator of the test whose credentials last for a while, by password and by exchange. Owned by its test.
type ticket struct {
	n    *simNode
	life time.Duration
}

func (*ticket) Name() string { return "ticket" }
func (*ticket) Slow() bool   { return false }
func (a *ticket) Authenticate(context.Context, *identity.Credentials) (identity.Principal, identity.Decision, error) {
	return identity.Principal{Name: "anna", Client: "c", Expires: time.Unix(0, a.n.now).Add(a.life)}, identity.Admitted, nil
}

func (a *ticket) Exchange(method string) (identity.Exchange, bool) {
	return &ticketExchange{a}, method == "TICKET"
}

// ticketExchange is one of them. Owned by its machine.
type ticketExchange struct{ *ticket }

func (x *ticketExchange) Method() string { return "TICKET" }
func (x *ticketExchange) Step(_ context.Context, msg []byte) ([]byte, identity.Principal, bool, error) {
	p, _, err := x.Authenticate(context.Background(), nil)
	if len(msg) > 0 {
		p.Client = string(msg)
	}
	return nil, p, true, err
}

func ticketNode(t *testing.T, life time.Duration) *simNode {
	t.Helper()
	a := &ticket{life: life}
	cfg := defaultSim()
	cfg.auth = []identity.Authenticator{a}
	a.n = newSimNode(t, cfg)
	return a.n
}

// A credential that expires ends the connection on time, however lively the client is, with the reason where the version has one.
func TestExpiredCredentialEndsConnection(t *testing.T) {
	for _, v := range []wire.Version{wire.V5, wire.V311} {
		for _, keep := range []uint16{0, 10} {
			n := ticketNode(t, time.Minute)
			c := talkTo(t, n)
			c.send(wire.AppendConnect(nil, &wire.Connect{Version: v, ClientID: []byte("c"), Clean: true, KeepAlive: keep, RequestProblemInfo: true}))
			n.run()
			for range 11 {
				n.advance(5 * time.Second)
				c.send(wire.AppendPingreq(nil))
				n.run()
			}
			if c.over() {
				t.Fatalf("version %d, keep alive %d: ended before its time", v, keep)
			}
			c.got = nil
			n.advance(6 * time.Second)
			if !c.over() {
				t.Fatalf("version %d, keep alive %d: outlives its credential", v, keep)
			}
			if v != wire.V5 {
				if len(c.got) > 0 {
					t.Errorf("MQTT 3.1.1 has no DISCONNECT for clients: %x", c.got)
				}
				continue
			}
			if rs := c.exchange(nil); len(rs) != 1 || rs[0].kind != wire.DISCONNECT || rs[0].reason != wire.NotAuthorized {
				t.Errorf("told %+v", rs)
			}
			if why := reasonOf(errExpired); why != endExpired {
				t.Errorf("counted as %s", why)
			}
		}
	}
}

// MQTT 5, 4.12.1: a client that authenticates again stays as long as the new credential lasts; a credential of another client
// is not its own.
func TestCredentialIsRenewed_4_12_1(t *testing.T) {
	n := ticketNode(t, time.Minute)
	c := talkTo(t, n)
	c.expect(connectBy("TICKET", ""), reply{wire.CONNACK, 0, "TICKET", ""})
	for range 5 {
		n.advance(40 * time.Second)
		c.expect(authBy(again, "TICKET", ""), reply{wire.AUTH, wire.Success, "TICKET", ""})
	}
	got := c.exchange(authBy(again, "TICKET", "other"))
	if last := got[len(got)-1]; last.kind != wire.DISCONNECT || last.reason != wire.NotAuthorized || !c.over() {
		t.Errorf("a credential of another client: %+v", got)
	}
	c = talkTo(t, n)
	c.expect(connectBy("TICKET", ""), reply{wire.CONNACK, 0, "TICKET", ""})
	n.advance(40 * time.Second)
	c.expect(authBy(again, "TICKET", ""), reply{wire.AUTH, wire.Success, "TICKET", ""})
	n.advance(time.Minute)
	if !c.over() {
		t.Error("outlives its last credential")
	}
}
