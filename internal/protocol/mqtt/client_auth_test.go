package mqtt

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"

	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// A server that lets in without an answer that only who knows the password can give is none to trust; nor does the client send
// the password to anybody.
func TestDialScram_4_12(t *testing.T) {
	users := identity.NewUsers(t.TempDir() + "/u")
	if err := users.Add("anna", []byte("the password"), identity.AddOptions{Scram: true, ScramIterations: 4096, Cost: identity.Cost{Memory: 8 << 10, Time: 1, Threads: 1}}); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name string
		end  func(k *wire.ConnackProps) // changes the last packet
		ok   bool
	}{
		{"right", func(*wire.ConnackProps) {}, true},
		{"no proof", func(k *wire.ConnackProps) { k.AuthData = nil }, false},
		{"wrong proof", func(k *wire.ConnackProps) { k.AuthData = []byte("v=AAAA") }, false},
		{"another method", func(k *wire.ConnackProps) { k.AuthMethod = []byte("NONE") }, false},
		{"no method", func(k *wire.ConnackProps) { *k = wire.ConnackProps{} }, false},
		{"a second challenge", nil, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			near, far := net.Pipe()
			done := make(chan []byte)
			go func() { done <- scramServer(far, identity.NewChain(users), x.end) }()
			c, err := Dial(t.Context(), ClientOptions{URL: "mqtt://x", Clean: true, Username: "anna", Password: "the password", AuthMethod: identity.ScramSHA256,
				DialContext: func(context.Context, string, string) (net.Conn, error) { return near, nil }})
			if (err == nil) != x.ok {
				t.Error(err)
			}
			far.Close()
			if c != nil {
				c.Close()
			}
			if got := <-done; len(got) == 0 || bytes.Contains(got, []byte("the password")) {
				t.Errorf("sent: %q", got)
			}
		})
	}
}

// scramServer is the other end; it returns what came.
func scramServer(c net.Conn, chain *identity.Chain, end func(k *wire.ConnackProps)) (all []byte) {
	x, _ := chain.Exchange(identity.ScramSHA256)
	var d wire.Decoder
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return all
		}
		all = append(all, buf[:n]...)
		first, body, _, err := wire.Next(buf[:n], 0)
		if err != nil {
			return all
		}
		var data []byte
		if wire.KindOf(first) == wire.CONNECT {
			var k wire.Connect
			err = d.Connect(body, &k)
			data = k.AuthData
		} else {
			var a wire.Auth
			err = d.Auth(body, &a)
			data = a.Data
		}
		if err != nil {
			return all
		}
		answer, _, over, err := x.Step(context.Background(), data)
		switch {
		case err != nil:
			return all
		case over && end == nil:
			_, err = c.Write(authBy(wire.ContinueAuthentication, x.Method(), "again"))
		case !over:
			_, err = c.Write(wire.AppendAuth(nil, &wire.Auth{Reason: wire.ContinueAuthentication, Method: []byte(x.Method()), Data: answer, HasData: true}))
		default:
			k := wire.ConnackProps{AuthMethod: []byte(x.Method()), HasAuthMethod: true, AuthData: answer}
			end(&k)
			_, err = c.Write(wire.AppendConnack(nil, wire.V5, false, wire.Success, &k))
		}
		if err != nil {
			return all
		}
	}
}

func TestDialAuthOptions(t *testing.T) {
	for _, o := range []ClientOptions{{AuthMethod: "PLAIN", Username: "a"}, {AuthMethod: identity.ScramSHA256}, {AuthMethod: identity.ScramSHA256, Username: "a", Version: wire.V311, Clean: true}} {
		o.URL = "mqtt://127.0.0.1:1"
		o.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("dialled") }
		if _, err := Dial(t.Context(), o); err == nil || bytes.Contains([]byte(err.Error()), []byte("dialled")) {
			t.Errorf("%+v: %v", o.AuthMethod, err)
		}
	}
}
