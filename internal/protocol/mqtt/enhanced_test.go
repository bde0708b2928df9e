package mqtt

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// quiz is a mechanism of the test: the server asks as often as it is told to, each answer must be the question again, and the
// last one names who the client is. Immutable.
type quiz struct {
	rounds int
	slow   bool
	fails  error
}

func (q *quiz) Name() string { return "quiz" }
func (q *quiz) Slow() bool   { return false }
func (q *quiz) Authenticate(context.Context, *identity.Credentials) (identity.Principal, identity.Decision, error) {
	return identity.Principal{}, identity.Unknown, nil
}

func (q *quiz) Exchange(method string) (identity.Exchange, bool) {
	if method != "QUIZ" {
		return nil, false
	}
	return &quizExchange{quiz: q}, true
}

// quizExchange is one of them. Owned by its machine.
type quizExchange struct {
	*quiz
	n int
}

func (x *quizExchange) Method() string { return "QUIZ" }
func (x *quizExchange) Slow() bool     { return x.slow }
func (x *quizExchange) Step(_ context.Context, msg []byte) ([]byte, identity.Principal, bool, error) {
	if x.fails != nil {
		return nil, identity.Principal{}, false, x.fails
	}
	if x.n++; x.n <= x.rounds {
		return []byte("question"), identity.Principal{}, false, nil
	}
	who, ok := strings.CutPrefix(string(msg), "I am ")
	if !ok {
		return nil, identity.Principal{}, false, identity.ErrScramRefused
	}
	return []byte("welcome"), identity.Principal{Name: who, Method: "quiz", Attrs: map[string]string{"n": msgOf(msg)}}, true, nil
}

func msgOf(b []byte) string { return string(b) }

func quizNode(t *testing.T, q quiz) *simNode {
	t.Helper()
	cfg := defaultSim()
	cfg.auth = []identity.Authenticator{&q}
	return newSimNode(t, cfg)
}

// packets of an exchange.
func connectBy(method, data string) []byte {
	return wire.AppendConnect(nil, &wire.Connect{Version: wire.V5, ClientID: []byte("c"), Clean: true, KeepAlive: 60, ReceiveMax: 10, RequestProblemInfo: true,
		AuthMethod: []byte(method), HasAuthMethod: method != "", AuthData: []byte(data)})
}

func authBy(r wire.Reason, method, data string) []byte {
	return wire.AppendAuth(nil, &wire.Auth{Reason: r, Method: []byte(method), Data: []byte(data), HasData: data != ""})
}

// reply is a packet of an exchange as the client reads it.
type reply struct {
	kind         wire.Kind
	reason       wire.Reason
	method, data string
}

// exchange sends bytes and returns the packets that came back.
func (c *talk) exchange(b []byte) (rs []reply) {
	c.t.Helper()
	c.send(b)
	c.n.run()
	for len(c.got) > 0 {
		first, body, n, err := wire.Next(c.got, 0)
		if err != nil || n == 0 {
			c.t.Fatalf("not a packet: %x", c.got)
		}
		c.got = c.got[n:]
		d, r := wire.Decoder{Client: true}, reply{kind: wire.KindOf(first)}
		switch r.kind {
		case wire.CONNACK:
			var k wire.Connack
			err = d.Connack(wire.V5, body, &k)
			r.reason, r.method, r.data = k.Reason, string(k.AuthMethod), string(k.AuthData)
		case wire.AUTH:
			var a wire.Auth
			err = d.Auth(body, &a)
			r.reason, r.method, r.data = a.Reason, string(a.Method), string(a.Data)
		case wire.DISCONNECT:
			var x wire.Disconnect
			err = d.Disconnect(wire.V5, body, &x)
			r.reason = x.Reason
		}
		if err != nil {
			c.t.Fatal(err)
		}
		rs = append(rs, r)
	}
	return rs
}

func (c *talk) expect(b []byte, wants ...reply) {
	c.t.Helper()
	got := c.exchange(b)
	if len(got) != len(wants) {
		c.t.Fatalf("got %+v, want %+v", got, wants)
	}
	for i := range got {
		if got[i] != wants[i] {
			c.t.Fatalf("got %+v, want %+v", got, wants)
		}
	}
}

const (
	goOn  = wire.ContinueAuthentication
	again = wire.ReAuthenticate
)

// MQTT 5, 4.12: CONNECT, AUTH to and fro, CONNACK with the method and the last message.
func TestEnhancedAuthentication_4_12(t *testing.T) {
	for _, slow := range []bool{false, true} {
		c := talkTo(t, quizNode(t, quiz{rounds: 2, slow: slow}))
		step := func(b []byte, w reply) {
			t.Helper()
			if slow {
				c.expect(b)
				c.waits()
				b = nil
			}
			c.expect(b, w)
		}
		step(connectBy("QUIZ", "hello"), reply{wire.AUTH, goOn, "QUIZ", "question"})
		step(authBy(goOn, "QUIZ", "x"), reply{wire.AUTH, goOn, "QUIZ", "question"})
		step(authBy(goOn, "QUIZ", "I am anna"), reply{wire.CONNACK, 0, "QUIZ", "welcome"})
		if c.s.Origin.User != "anna" {
			t.Errorf("principal %q", c.s.Origin.User)
		}
		c.expect(wire.AppendPingreq(nil), reply{kind: wire.PINGRESP})
	}
}

// What came while a slow step was worked out is taken when it is done.
func TestEnhancedAuthenticationKeepsWhatFollows(t *testing.T) {
	c := talkTo(t, quizNode(t, quiz{rounds: 1, slow: true}))
	c.expect(connectBy("QUIZ", "hello"))
	c.expect(authBy(goOn, "QUIZ", "I am anna")) // a client that knows what it will be asked
	c.waits()
	c.expect(nil, reply{wire.AUTH, goOn, "QUIZ", "question"})
	c.waits()
	c.expect(nil, reply{wire.CONNACK, 0, "QUIZ", "welcome"})
}

// Who does not prove it is told so by CONNACK ([MQTT-4.12.0-4]), and so is who sends what may not come before CONNACK
// ([MQTT-3.1.2-30]).
func TestEnhancedAuthenticationRefused_4_12_0_4(t *testing.T) {
	q := quiz{rounds: 1}
	for _, x := range []struct {
		name string
		q    quiz
		send [][]byte
		want []reply
	}{
		{"unknown method", q, [][]byte{connectBy("OTHER", "")}, []reply{{kind: wire.CONNACK, reason: wire.BadAuthMethod}}},
		{"not proved", q, [][]byte{connectBy("QUIZ", ""), authBy(goOn, "QUIZ", "x")}, []reply{{wire.AUTH, goOn, "QUIZ", "question"}, {kind: wire.CONNACK, reason: wire.NotAuthorized}}},
		{"busy", quiz{fails: identity.ErrExchangeBusy}, [][]byte{connectBy("QUIZ", "")}, []reply{{kind: wire.CONNACK, reason: wire.ServerBusy}}},
		{"failed", quiz{fails: errors.New("x")}, [][]byte{connectBy("QUIZ", "")}, []reply{{kind: wire.CONNACK, reason: wire.NotAuthorized}}},
		{"other method", q, [][]byte{connectBy("QUIZ", ""), authBy(goOn, "OTHER", "x")}, []reply{{wire.AUTH, goOn, "QUIZ", "question"}, {kind: wire.CONNACK, reason: wire.BadAuthMethod}}},
		{"again too early", q, [][]byte{connectBy("QUIZ", ""), authBy(again, "QUIZ", "x")}, []reply{{wire.AUTH, goOn, "QUIZ", "question"}, {kind: wire.CONNACK, reason: wire.ProtocolError}}},
		{"ping", q, [][]byte{connectBy("QUIZ", ""), wire.AppendPingreq(nil)}, []reply{{wire.AUTH, goOn, "QUIZ", "question"}, {kind: wire.CONNACK, reason: wire.ProtocolError}}},
		{"publish", q, [][]byte{connectBy("QUIZ", ""), wire.AppendPublish(nil, &wire.PublishOut{Version: wire.V5, Topic: []byte("a")})},
			[]reply{{wire.AUTH, goOn, "QUIZ", "question"}, {kind: wire.CONNACK, reason: wire.ProtocolError}}},
		{"connect", q, [][]byte{connectBy("QUIZ", ""), connectBy("QUIZ", "")}, []reply{{wire.AUTH, goOn, "QUIZ", "question"}, {kind: wire.CONNACK, reason: wire.ProtocolError}}},
		{"goodbye", q, [][]byte{connectBy("QUIZ", ""), wire.AppendDisconnect(nil, wire.V5, 0, nil)}, []reply{{wire.AUTH, goOn, "QUIZ", "question"}}},
		{"malformed", q, [][]byte{connectBy("QUIZ", ""), {0xf0, 1, 0x18}}, []reply{{wire.AUTH, goOn, "QUIZ", "question"}, {kind: wire.CONNACK, reason: wire.ProtocolError}}},
	} {
		t.Run(x.name, func(t *testing.T) {
			n := quizNode(t, x.q)
			c := talkTo(t, n)
			c.expect(slicesConcat(x.send), x.want...)
			if !c.over() || n.hosts[0].Tally.Sessions != 0 {
				t.Errorf("ended %v, %d sessions", c.over(), n.hosts[0].Tally.Sessions)
			}
		})
	}
}

func slicesConcat(bs [][]byte) (all []byte) {
	for _, b := range bs {
		all = append(all, b...)
	}
	return all
}

// An exchange without end, by number of messages or by time, is cut off.
func TestEnhancedAuthenticationIsBounded(t *testing.T) {
	c := talkTo(t, quizNode(t, quiz{rounds: 1 << 20}))
	c.exchange(connectBy("QUIZ", ""))
	for i := 0; !c.over(); i++ {
		if i > authSteps {
			t.Fatal("still going on")
		}
		c.exchange(authBy(goOn, "QUIZ", "x"))
	}
	n := quizNode(t, quiz{rounds: 5})
	c = talkTo(t, n)
	c.exchange(connectBy("QUIZ", ""))
	for range 4 {
		n.advance(6 * time.Second)
		if c.over() {
			return
		}
		c.send([]byte{0xf0}) // what trickles in wins no time
		n.run()
	}
	t.Error("half an exchange holds its connection")
}

// MQTT 5, 4.12.1: with the method of CONNECT, while the session goes on; a failure is the end ([MQTT-4.12.1-2]).
func TestReauthentication_4_12_1(t *testing.T) {
	open := func(q quiz) *talk {
		c := talkTo(t, quizNode(t, q))
		c.expect(connectBy("QUIZ", ""), reply{wire.AUTH, goOn, "QUIZ", "question"})
		c.expect(authBy(goOn, "QUIZ", "I am anna"), reply{wire.CONNACK, 0, "QUIZ", "welcome"})
		return c
	}
	c := open(quiz{rounds: 1})
	before := c.s.Origin
	c.expect(authBy(again, "QUIZ", ""), reply{wire.AUTH, goOn, "QUIZ", "question"})
	c.expect(wire.AppendPingreq(nil), reply{kind: wire.PINGRESP}) // other packets go on
	c.expect(authBy(goOn, "QUIZ", "I am anna"), reply{wire.AUTH, wire.Success, "QUIZ", "welcome"})
	if c.s.Origin == before || c.s.Origin.User != "anna" || c.s.Origin.Taker != before.Taker {
		t.Error("the session's origin is not renewed")
	}
	for _, x := range []struct {
		name string
		send [][]byte
		want wire.Reason
	}{
		{"another principal", [][]byte{authBy(again, "QUIZ", ""), authBy(goOn, "QUIZ", "I am bert")}, wire.NotAuthorized},
		{"not proved", [][]byte{authBy(again, "QUIZ", ""), authBy(goOn, "QUIZ", "x")}, wire.NotAuthorized},
		{"another method", [][]byte{authBy(again, "OTHER", "")}, wire.ProtocolError},
		{"twice at once", [][]byte{authBy(again, "QUIZ", ""), authBy(again, "QUIZ", "")}, wire.ProtocolError},
		{"without begin", [][]byte{authBy(goOn, "QUIZ", "x")}, wire.ProtocolError},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := open(quiz{rounds: 1})
			got := c.exchange(slicesConcat(x.send))
			if last := got[len(got)-1]; last.kind != wire.DISCONNECT || last.reason != x.want || !c.over() {
				t.Errorf("%+v, ended %v", got, c.over())
			}
		})
	}
}

// A slow step of a second authentication runs beside the loop, and publishing goes on meanwhile.
func TestReauthenticationRunsBesideTheLoop(t *testing.T) {
	n := quizNode(t, quiz{slow: true})
	c := talkTo(t, n)
	c.expect(connectBy("QUIZ", "I am anna"))
	c.waits()
	c.expect(nil, reply{wire.CONNACK, 0, "QUIZ", "welcome"})
	c.expect(authBy(again, "QUIZ", "I am anna"))
	c.expect(wire.AppendPublish(nil, &wire.PublishOut{Version: wire.V5, Topic: []byte("a"), QoS: 1, PacketID: 1}), reply{kind: wire.PUBACK})
	c.waits()
	c.expect(nil, reply{wire.AUTH, wire.Success, "QUIZ", "welcome"})
	c.expect(authBy(again, "QUIZ", "I am anna"))
	step := c.waits
	c.drop()
	n.run()
	step() // its connection is gone
	n.run()
}

// RFC 5802 over MQTT: the server's signature is the data of CONNACK, and a wrong password or name is 0x87.
func TestScramSHA256(t *testing.T) {
	users := identity.NewUsers(t.TempDir() + "/users.yaml")
	cost := identity.Cost{Memory: 8 * 1024, Time: 1, Threads: 1}
	if err := users.Add("anna", []byte("right"), identity.AddOptions{Scram: true, ScramIterations: 4096, Cost: cost}); err != nil {
		t.Fatal(err)
	}
	cfg := defaultSim()
	cfg.auth = []identity.Authenticator{users}
	n := newSimNode(t, cfg)
	run := func(c *talk, name, password string, first func(data string) []byte) []reply {
		x := identity.NewScramClient(name, password)
		got := c.exchange(first(string(x.First())))
		if len(got) != 1 || got[0].kind != wire.AUTH || got[0].reason != goOn {
			t.Fatalf("%+v", got)
		}
		final, err := x.Final([]byte(got[0].data))
		if err != nil {
			t.Fatal(err)
		}
		got = c.exchange(authBy(goOn, identity.ScramSHA256, string(final)))
		if len(got) == 1 && got[0].reason == wire.Success {
			if err := x.Verify([]byte(got[0].data)); err != nil {
				t.Error(err)
			}
		}
		return got
	}
	connect := func(data string) []byte { return connectBy(identity.ScramSHA256, data) }
	for _, who := range [][2]string{{"anna", "wrong"}, {"nobody", "right"}} {
		c := talkTo(t, n)
		if got := run(c, who[0], who[1], connect); len(got) != 1 || got[0].kind != wire.CONNACK || got[0].reason != wire.NotAuthorized || !c.over() {
			t.Errorf("%s: %+v", who, got)
		}
	}
	c := talkTo(t, n)
	if got := run(c, "anna", "right", connect); len(got) != 1 || got[0].kind != wire.CONNACK || got[0].reason != wire.Success {
		t.Fatalf("%+v", got)
	}
	if c.s.Origin.User != "anna" {
		t.Errorf("principal %q", c.s.Origin.User)
	}
	renew := func(data string) []byte { return authBy(again, identity.ScramSHA256, data) }
	if got := run(c, "anna", "right", renew); len(got) != 1 || got[0].kind != wire.AUTH || got[0].reason != wire.Success {
		t.Errorf("%+v", got)
	}
	if got := run(c, "anna", "wrong", renew); len(got) != 1 || got[0].kind != wire.DISCONNECT || got[0].reason != wire.NotAuthorized || !c.over() {
		t.Errorf("%+v", got)
	}
	if c = talkTo(t, n); len(c.exchange(connect("n,,n=anna"))) != 1 || !c.over() {
		t.Error("a malformed message is not refused")
	}
}
