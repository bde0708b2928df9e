package mqtt

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

func TestClientURL(t *testing.T) {
	for _, c := range []struct{ in, host, err string }{
		{"mqtt://h", "h:1883", ""},
		{"tcp://h:99", "h:99", ""},
		{"mqtts://[::1]", "[::1]:8883", ""},
		{"ssl://h", "h:8883", ""},
		{"http://u:secret@h", "", "scheme"},
		{"mqtt://", "", "host missing"},
		{"mqtt://u:secret@h:port\x7f", "", "cannot be read"},
		{"h:1883", "", ""},
	} {
		u, _, err := clientURL(c.in)
		switch {
		case c.host == "" && err == nil, c.host != "" && (err != nil || u.Host != c.host):
			t.Errorf("%q: %v, %v", c.in, u, err)
		case err != nil && (!strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "secret")):
			t.Errorf("%q: error %q", c.in, err)
		}
	}
}

// What cannot work is said before anything is dialled, and every error names the server but no credentials.
func TestDialRefused(t *testing.T) {
	refused := errors.New("refused below")
	var d net.Dialer
	for _, c := range []struct {
		name string
		o    ClientOptions
		want string
	}{
		{"session without id", ClientOptions{Session: NewClientSession()}, "client identifier"},
		{"3.1.1 keeping a nameless session", ClientOptions{Version: wire.V311}, "client identifier"},
		{"password alone in 3.1.1", ClientOptions{Version: wire.V311, Clean: true, Password: "secret"}, "user name"},
		{"version", ClientOptions{Version: 6}, "level 6"},
		{"long id", ClientOptions{ClientID: strings.Repeat("x", 65536)}, "65,535"},
		{"dial", ClientOptions{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, refused }}, "refused below"},
		{"nobody there", ClientOptions{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return d.DialContext(ctx, network, "127.0.0.1:1")
		}}, "connection refused"},
	} {
		c.o.URL = "mqtt://broker.test:77"
		if c.o.Password == "" {
			c.o.URL = "mqtt://u:secret@broker.test:77"
		}
		_, err := Dial(t.Context(), c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "mqtt://broker.test:77") ||
			strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// MQTT 5 section 3.2: what a server may answer to CONNECT.
func TestDialConnack(t *testing.T) {
	for _, c := range []struct {
		name   string
		v      wire.Version
		answer []byte
		want   string
	}{
		{"refusal", wire.V5, wire.AppendConnack(nil, wire.V5, false, wire.UseAnotherServer,
			&wire.ConnackProps{ReasonString: []byte("full"), ServerReference: []byte("b2:1883")}), `refused: use another server ("full"), use "b2:1883"`},
		{"refusal in 3.1.1", wire.V311, []byte{0x20, 2, 0, 5}, "refused: not authorized"},
		{"closed", wire.V5, nil, "server closed the connection"},
		{"PUBLISH first", wire.V5, []byte{0x30, 4, 0, 1, 't', 0}, "not expected"},
		{"malformed", wire.V5, []byte{0x20, 2, 0, 0}, "property length"},
		{"flags", wire.V5, []byte{0x21, 3, 0, 0, 0}, "reserved flags"},
		{"too large", wire.V5, []byte{0x20, 0xff, 0xff, 0xff, 0x7f}, "larger than allowed"},
		{"session though clean", wire.V5, []byte{0x20, 3, 1, 0, 0}, "session"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				here, there := net.Pipe()
				var wg sync.WaitGroup
				wg.Go(func() {
					p := clientPeer{t: t, conn: there, v: c.v}
					p.want(wire.CONNECT)
					if c.answer != nil {
						p.send(c.answer)
					}
					there.Close()
				})
				_, err := Dial(t.Context(), ClientOptions{URL: "mqtt://broker.test", Version: c.v, Clean: true,
					DialContext: func(context.Context, string, string) (net.Conn, error) { return here, nil }})
				wg.Wait()
				if err == nil || !strings.Contains(err.Error(), "connect to mqtt://broker.test:1883: ") || !strings.Contains(err.Error(), c.want) {
					t.Errorf("Dial: %v, want %q", err, c.want)
				}
				if _, err := here.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
					t.Error("the connection was left open")
				}
			})
		})
	}
}

// A server that says nothing: ctx bounds Dial, and 30 seconds do.
func TestDialTimeout(t *testing.T) {
	for _, c := range []struct {
		given, takes time.Duration
	}{{time.Second, time.Second}, {time.Hour, clientDialLimit}} {
		bubble(t, func(t *testing.T) {
			here, there := net.Pipe()
			defer there.Close()
			var wg sync.WaitGroup
			wg.Go(func() { (&clientPeer{t: t, conn: there, v: wire.V5}).want(wire.CONNECT) })
			ctx, cancel := context.WithTimeout(t.Context(), c.given)
			defer cancel()
			begun := time.Now()
			s := NewClientSession()
			o := ClientOptions{URL: "mqtt://broker.test", ClientID: "c", Session: s,
				DialContext: func(context.Context, string, string) (net.Conn, error) { return here, nil }}
			_, err := Dial(ctx, o)
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != c.takes {
				t.Errorf("Dial: %v after %v", err, time.Since(begun))
			}
			if s.cur != nil {
				t.Error("the session is still in use")
			}
			wg.Wait()
		})
	}
}

// The CONNECT holds what the options say, and the client what the server said.
func TestDialConnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		here, there := net.Pipe()
		var wg sync.WaitGroup
		var got wire.Connect
		wg.Go(func() {
			p := clientPeer{t: t, conn: there, v: wire.V5}
			_, body := p.want(wire.CONNECT)
			if err := p.dec.Connect(body, &got); err != nil {
				t.Error(err)
			}
			p.send(welcome(wire.V5, false, &wire.ConnackProps{ReceiveMax: 7, MaxPacket: 500, MaximumQoS: 1, HasMaximumQoS: true,
				HasRetainAvailable: true, AssignedClientID: []byte("given"), ServerKeepAlive: 5, HasServerKeepAlive: true}))
		})
		c, err := Dial(t.Context(), ClientOptions{URL: "mqtt://u:pw@broker.test", Clean: true, SessionExpiry: 9, KeepAlive: 1500 * time.Millisecond,
			Will: &wire.Will{Topic: []byte("w"), QoS: 1}, DialContext: func(context.Context, string, string) (net.Conn, error) { return here, nil }})
		if err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if string(got.Username) != "u" || string(got.Password) != "pw" || !got.Clean || got.SessionExpiry != 9 || got.KeepAlive != 2 ||
			!got.Will.Present || string(got.Will.Topic) != "w" || got.ReceiveMax != 1024 || got.MaxPacket != 16<<20 {
			t.Errorf("CONNECT %+v", got)
		}
		want := ServerInfo{Address: "mqtt://broker.test:1883", ClientID: "given", ReceiveMax: 7, MaxPacket: 500, MaxQoS: 1, NoRetain: true,
			KeepAlive: 5 * time.Second}
		if c.Server() != want || c.Window() != 7 {
			t.Errorf("server %+v, window %d", c.Server(), c.Window())
		}
		if c.Err() != nil {
			t.Errorf("alive, but Err is %v", c.Err())
		}
		c.Abort()
		if err := c.Wait(); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		there.Close()
	})
}

// MQTT 5 section 4.3: the three qualities of service, and what the server may answer.
func TestClientPublish(t *testing.T) {
	for _, v := range []wire.Version{wire.V31, wire.V311, wire.V5} {
		bubble(t, func(t *testing.T) {
			c, p := clientPipe(t, ClientOptions{Version: v, Clean: true}, welcome(v, false, nil))
			var d dones
			ev := event.Event{Topic: []byte("a/b"), Payload: []byte("hi"), Meta: []byte("\x03\x00\x01t"), Expires: time.Now().Add(90 * time.Second).UnixNano()}
			c.Publish(ev.Keep(), 0, true, []byte("other"), d.of("qos0"))
			pub := p.publish()
			if string(pub.Topic) != "other" || string(pub.Payload) != "hi" || !pub.Retain || pub.QoS != 0 ||
				v == wire.V5 && (string(pub.Meta) != "\x03\x00\x01t" || pub.Expiry != 90) {
				t.Errorf("%v: QoS 0 %+v", v, pub)
			}
			d.once(t, "qos0", wire.Success, nil)

			c.Publish(testEvent("a/b", "1"), 1, false, nil, d.of("qos1"))
			pub = p.publish()
			if string(pub.Topic) != "a/b" || pub.QoS != 1 || pub.Dup || pub.PacketID == 0 {
				t.Errorf("%v: QoS 1 %+v", v, pub)
			}
			d.waiting(t, "qos1")
			p.sendAck(wire.PUBACK, pub.PacketID, wire.NoMatchingSubscribers)
			if v == wire.V5 {
				d.once(t, "qos1", wire.NoMatchingSubscribers, nil)
			} else {
				d.once(t, "qos1", wire.Success, nil)
			}

			c.Publish(testEvent("a/b", "2"), 2, false, nil, d.of("qos2"))
			pub = p.publish()
			p.sendAck(wire.PUBREC, pub.PacketID, wire.Success)
			if a := p.ack(wire.PUBREL); a.PacketID != pub.PacketID {
				t.Errorf("PUBREL %+v for %d", a, pub.PacketID)
			}
			p.sendAck(wire.PUBREC, pub.PacketID, wire.Success) // once more: PUBREL once more
			p.ack(wire.PUBREL)
			d.waiting(t, "qos2")
			p.sendAck(wire.PUBCOMP, pub.PacketID, wire.Success)
			d.once(t, "qos2", wire.Success, nil)
			if c.session.Len() != 0 || len(c.session.flights) != 0 || c.open != 0 {
				t.Error("something is left of the exchanges")
			}
		})
	}
}

// A refusal in PUBACK or PUBREC ends the exchange (trap: no PUBREL for a refused PUBREC) and frees its place.
func TestClientPublishRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, p := clientPipe(t, ClientOptions{}, welcome(wire.V5, false, &wire.ConnackProps{ReceiveMax: 1}))
		var d dones
		for i, name := range []string{"1", "2"} {
			c.Publish(testEvent("t", name), byte(i+1), false, nil, d.of(name))
			pub := p.publish()
			p.send(wire.AppendAck(nil, wire.V5, wire.PUBACK+wire.Kind(i), pub.PacketID, wire.QuotaExceeded, "slow"))
			synctest.Wait()
			var r *ReasonError
			if !errors.As(d.said[name][0], &r) || r.Reason != wire.QuotaExceeded || r.Text != "slow" || d.code[name] != wire.QuotaExceeded {
				t.Errorf("QoS %s: %v", name, d.said[name])
			}
		}
		p.quiet(time.Second)
	})
}

// What the server would not take is refused here, and the connection lives on.
func TestClientPublishImpossible(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, p := clientPipe(t, ClientOptions{}, welcome(wire.V5, false, &wire.ConnackProps{MaxPacket: 40, MaximumQoS: 1, HasMaximumQoS: true, HasRetainAvailable: true}))
		var d dones
		old := event.Event{Topic: []byte("t"), Expires: time.Now().UnixNano()}
		ok := testEvent("t", "x")
		c.Publish(testEvent("t", strings.Repeat("x", 40)), 0, false, nil, d.of("size 0"))
		c.Publish(testEvent("t", strings.Repeat("x", 40)), 1, false, nil, d.of("size 1"))
		c.Publish(ok, 2, false, nil, d.of("qos 2"))
		c.Publish(ok, 3, false, nil, d.of("qos 3"))
		c.Publish(ok, 0, true, nil, d.of("retain"))
		c.Publish(ok, 0, false, []byte("a/#"), d.of("wildcard"))
		c.Publish(ok, 0, false, []byte{}, d.of("empty"))
		c.Publish(old.Keep(), 1, false, nil, d.of("expired"))
		c.Publish(ok, 1, false, nil, nil)
		pub := p.publish()
		if string(pub.Payload) != "x" {
			t.Errorf("sent %+v", pub)
		}
		d.once(t, "size 0", wire.PacketTooLarge, errClientMaxPacket)
		d.once(t, "size 1", wire.PacketTooLarge, errClientMaxPacket)
		d.once(t, "qos 2", wire.QoSNotSupported, errClientMaxQoS)
		d.once(t, "qos 3", wire.QoSNotSupported, errClientQoS)
		d.once(t, "retain", wire.RetainNotSupported, errClientNoRetain)
		d.once(t, "wildcard", wire.TopicNameInvalid, event.ErrTopicWildcard)
		d.once(t, "empty", wire.TopicNameInvalid, event.ErrTopicEmpty)
		d.once(t, "expired", wire.UnspecifiedError, ErrExpired)
		p.sendAck(wire.PUBACK, pub.PacketID, wire.Success)
		synctest.Wait()
		if c.session.Len() != 0 || c.open != 0 {
			t.Error("something is left of the exchanges")
		}
	})
}

// MQTT 5 section 4.9: no more exchanges than the server's Receive Maximum; QoS 0 is not held.
func TestClientWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, p := clientPipe(t, ClientOptions{QueueMax: 4}, welcome(wire.V5, false, &wire.ConnackProps{ReceiveMax: 2}))
		var d dones
		for _, name := range []string{"a", "b", "c"} {
			c.Publish(testEvent("t", name), 2, false, nil, d.of(name))
		}
		a, b := p.publish(), p.publish()
		p.quiet(time.Second)
		c.Publish(testEvent("t", "0"), 0, false, nil, d.of("0"))
		if pub := p.publish(); string(pub.Payload) != "0" {
			t.Errorf("sent %q", pub.Payload)
		}
		p.sendAck(wire.PUBREC, b.PacketID, wire.Success) // frees nothing
		p.ack(wire.PUBREL)
		p.quiet(time.Second)
		p.sendAck(wire.PUBCOMP, b.PacketID, wire.Success)
		if pub := p.publish(); string(pub.Payload) != "c" {
			t.Errorf("sent %q", pub.Payload)
		}
		d.once(t, "b", wire.Success, nil)
		d.waiting(t, "a")

		// Four without an answer: the queue is full.
		c.Publish(testEvent("t", "d"), 1, false, nil, d.of("d"))
		c.Publish(testEvent("t", "e"), 1, false, nil, d.of("e"))
		if c.TryPublish(testEvent("t", "f"), 0, false, nil, d.of("f")) {
			t.Error("a fifth publish was taken")
		}
		var wg sync.WaitGroup
		wg.Go(func() { c.Publish(testEvent("t", "f"), 0, false, nil, d.of("f")) })
		d.waiting(t, "f")
		p.sendAck(wire.PUBREC, a.PacketID, wire.NotAuthorized)
		for range 2 { // the place of a in the window goes to d, its place in the queue to f
			if pub := p.publish(); string(pub.Payload) != "d" && string(pub.Payload) != "f" {
				t.Errorf("sent %q", pub.Payload)
			}
		}
		wg.Wait()
		d.once(t, "f", wire.Success, nil)
		if !c.TryPublish(testEvent("t", "g"), 0, false, nil, d.of("g")) {
			t.Error("there is room again")
		}
		p.publish()
	})
}

// A publisher that waits for room is let go when the connection ends.
func TestClientPublishWaitEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, p := clientPipe(t, ClientOptions{QueueMax: 1}, welcome(wire.V5, false, nil))
		var d dones
		c.Publish(testEvent("t", "a"), 1, false, nil, d.of("a"))
		p.publish()
		var wg sync.WaitGroup
		wg.Go(func() { c.Publish(testEvent("t", "b"), 1, false, nil, d.of("b")) })
		d.waiting(t, "b")
		p.conn.Close()
		wg.Wait()
		<-c.Done()
		d.once(t, "a", wire.ServerUnavailable, errClientGone)
		d.once(t, "b", wire.ServerUnavailable, errClientGone)
		c.Publish(testEvent("t", "c"), 0, false, nil, d.of("c"))
		d.once(t, "c", wire.ServerUnavailable, errClientGone)
		if _, err := c.Subscribe(t.Context(), wire.Filter{Filter: "a"}); !errors.Is(err, errClientGone) {
			t.Errorf("Subscribe: %v", err)
		}
	})
}

// MQTT 5 section 4.13: what breaks the protocol ends the connection, and the server is told why.
func TestClientServerBreaksProtocol(t *testing.T) {
	pub := func(o wire.PublishOut) []byte {
		o.Version = wire.V5
		return wire.AppendPublish(nil, &o)
	}
	for _, c := range []struct {
		name string
		in   func(id uint16) []byte // id is of an open QoS 1 exchange; the next one is QoS 2
		want wire.Reason
	}{
		{"PUBREC for QoS 1", func(id uint16) []byte { return wire.AppendAck(nil, wire.V5, wire.PUBREC, id, 0, "") }, wire.ProtocolError},
		{"PUBCOMP for QoS 1", func(id uint16) []byte { return wire.AppendAck(nil, wire.V5, wire.PUBCOMP, id, 0, "") }, wire.ProtocolError},
		{"PUBACK for QoS 2", func(id uint16) []byte { return wire.AppendAck(nil, wire.V5, wire.PUBACK, id+1, 0, "") }, wire.ProtocolError},
		{"PUBCOMP before PUBREC", func(id uint16) []byte { return wire.AppendAck(nil, wire.V5, wire.PUBCOMP, id+1, 0, "") }, wire.ProtocolError},
		{"alias", func(uint16) []byte { return pub(wire.PublishOut{Topic: []byte("t"), Alias: 1}) }, wire.TopicAliasInvalid},
		{"bad topic", func(uint16) []byte { return pub(wire.PublishOut{Topic: []byte("#")}) }, wire.TopicNameInvalid},
		{"window", func(uint16) []byte {
			return append(pub(wire.PublishOut{Topic: []byte("t"), QoS: 1, PacketID: 1}), pub(wire.PublishOut{Topic: []byte("t"), QoS: 2, PacketID: 1})...)
		}, wire.ReceiveMaximumExceeded},
		{"too large", func(uint16) []byte { return []byte{0x30, 0xff, 0x7f} }, wire.PacketTooLarge},
		{"SUBSCRIBE", func(uint16) []byte { return wire.AppendSubscribe(nil, wire.V5, 1, 0, []wire.Filter{{Filter: "a"}}) }, wire.ProtocolError},
		{"second CONNACK", func(uint16) []byte { return welcome(wire.V5, false, nil) }, wire.ProtocolError},
		{"AUTH", func(uint16) []byte {
			return wire.AppendAuth(nil, &wire.Auth{Reason: wire.ContinueAuthentication, Method: []byte("m")})
		}, wire.ProtocolError},
		{"PINGRESP with a body", func(uint16) []byte { return []byte{0xd0, 1, 0} }, wire.MalformedPacket},
		{"flags", func(uint16) []byte { return []byte{0xd1, 0} }, wire.MalformedPacket},
		{"malformed PUBACK", func(uint16) []byte { return []byte{0x40, 1, 0} }, wire.MalformedPacket},
		{"malformed SUBACK", func(uint16) []byte { return []byte{0x90, 1, 0} }, wire.MalformedPacket},
		{"malformed DISCONNECT", func(uint16) []byte { return []byte{0xe0, 2, 0, 9} }, wire.MalformedPacket},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				cl, p := clientPipe(t, ClientOptions{ReceiveMax: 1, MaxPacket: 1000, OnPublish: func(*wire.Publish, func(bool)) {}}, welcome(wire.V5, false, nil))
				var d dones
				cl.Publish(testEvent("t", ""), 1, false, nil, d.of("1"))
				cl.Publish(testEvent("t", ""), 2, false, nil, d.of("2"))
				id := p.publish().PacketID
				p.publish()
				begun := time.Now()
				p.send(c.in(id))
				p.disconnect(c.want)
				<-cl.Done()
				if took := time.Since(begun); took > time.Second {
					t.Errorf("the end took %v", took)
				}
				var e *wire.Error
				if !errors.As(cl.Err(), &e) || e.Code != c.want {
					t.Errorf("Err: %v", cl.Err())
				}
				d.once(t, "1", wire.ServerUnavailable, e)
				d.once(t, "2", wire.ServerUnavailable, e)
			})
		})
	}
}

// In MQTT 3.1.1 there is no word for it: the connection is closed, and the will stands.
func TestClientServerBreaksProtocol311(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cl, p := clientPipe(t, ClientOptions{Version: wire.V311, Clean: true}, welcome(wire.V311, false, nil))
		p.send([]byte{0xd1, 0})
		if k, _, _ := p.next(); k != 0 {
			t.Errorf("client sent %v", k)
		}
		<-cl.Done()
	})
}

// MQTT 5 section 3.14: the server's reason is the client's.
func TestClientServerDisconnects(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, p := clientPipe(t, ClientOptions{}, welcome(wire.V5, false, nil))
		p.send(wire.AppendDisconnect(nil, wire.V5, wire.ServerMoved, &wire.DisconnectProps{ServerReference: []byte("b2"), ReasonString: []byte("bye")}))
		<-c.Done()
		if got := c.Err().Error(); got != `server disconnected: server moved ("bye"), use "b2"` {
			t.Errorf("Err: %s", got)
		}
	})
}

// MQTT 5 section 3.1.2.10: PINGREQ after a keep alive without sending, and the end when nothing comes back.
func TestClientKeepAlive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, p := clientPipe(t, ClientOptions{KeepAlive: 30 * time.Second}, welcome(wire.V5, false, nil))
		begun := time.Now()
		for range 3 {
			p.want(wire.PINGREQ)
			p.send(wire.AppendPingresp(nil))
		}
		if took := time.Since(begun); took != 90*time.Second {
			t.Errorf("three pings took %v", took)
		}
		time.Sleep(20 * time.Second)
		c.Publish(testEvent("t", ""), 0, false, nil, nil)
		p.publish()
		begun = time.Now()
		// The server has been silent for longer than the client: it is asked first.
		p.want(wire.PINGREQ)
		if took := time.Since(begun); took != 10*time.Second {
			t.Errorf("PINGREQ after %v", took)
		}
		begun = time.Now()
		<-c.Done()
		if took := time.Since(begun); took != 10*time.Second || !errors.Is(c.Err(), errClientPing) {
			t.Errorf("gave up after %v: %v", took, c.Err())
		}
	})
}

func TestClientKeepAliveOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, p := clientPipe(t, ClientOptions{}, welcome(wire.V5, false, &wire.ConnackProps{HasServerKeepAlive: true}))
		p.quiet(30 * time.Minute)
	})
	bubble(t, func(t *testing.T) {
		_, p := clientPipe(t, ClientOptions{KeepAlive: -1}, welcome(wire.V5, false, nil))
		p.quiet(30 * time.Minute)
	})
}

// A handler that takes long is not taken for a dead server.
func TestClientKeepAliveBusy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, p := clientPipe(t, ClientOptions{KeepAlive: 30 * time.Second, OnPublish: func(_ *wire.Publish, ack func(bool)) {
			time.Sleep(305 * time.Second)
			ack(true)
		}}, welcome(wire.V5, false, nil))
		p.sendPublish(1, 1, false, "t")
		for pings := 0; ; pings++ {
			k, _, _ := p.next()
			if k == wire.PUBACK && pings == 10 {
				break
			}
			if k != wire.PINGREQ {
				t.Fatalf("client sent %v after %d pings: %v", k, pings, c.Err())
			}
		}
	})
}

// A server that stops reading: the write gives up, and Close does not wait for it long.
func TestClientServerStopsReading(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, _ := clientPipe(t, ClientOptions{KeepAlive: 20 * time.Second}, welcome(wire.V5, false, nil))
		var d dones
		begun := time.Now()
		c.Publish(testEvent("t", "0"), 0, false, nil, d.of("0"))
		c.Publish(testEvent("t", "1"), 1, false, nil, d.of("1"))
		<-c.Done()
		if took := time.Since(begun); took != 30*time.Second || c.Err() == nil {
			t.Errorf("gave up after %v: %v", took, c.Err())
		}
		d.once(t, "0", wire.ServerUnavailable, c.Err())
		d.once(t, "1", wire.ServerUnavailable, c.Err())
	})
	bubble(t, func(t *testing.T) {
		c, _ := clientPipe(t, ClientOptions{}, welcome(wire.V5, false, nil))
		c.Publish(testEvent("t", "0"), 0, false, nil, nil)
		synctest.Wait()
		begun := time.Now()
		c.Close()
		if err := c.Wait(); !errors.Is(err, ErrClosed) || time.Since(begun) > clientLinger {
			t.Errorf("closed after %v: %v", time.Since(begun), err)
		}
	})
}

// Close sends what waits of QoS 0, says DISCONNECT and answers for the rest.
func TestClientClose(t *testing.T) {
	for _, v := range []wire.Version{wire.V311, wire.V5} {
		bubble(t, func(t *testing.T) {
			c, p := clientPipe(t, ClientOptions{Version: v, Clean: true}, welcome(v, false, nil))
			var d dones
			c.Publish(testEvent("t", "1"), 1, false, nil, d.of("1"))
			p.publish()
			big := strings.Repeat("x", clientBatch)
			for _, name := range []string{"a", "b", "c"} {
				c.Publish(testEvent("t", big), 0, false, nil, d.of(name))
			}
			c.Disconnect(wire.DisconnectWithWill)
			c.Close()
			c.Publish(testEvent("t", "late"), 0, false, nil, d.of("late"))
			for range 3 {
				p.publish()
			}
			want := wire.DisconnectWithWill
			if v != wire.V5 {
				want = wire.Success
			}
			p.disconnect(want)
			if err := c.Wait(); !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
			for _, name := range []string{"a", "b", "c"} {
				d.once(t, name, wire.Success, nil)
			}
			d.once(t, "1", wire.ServerUnavailable, ErrClosed)
			d.once(t, "late", wire.ServerUnavailable, ErrClosed)
			c.Close()
			c.Abort()
		})
	}
}

// An acknowledgement that comes after Close still counts.
func TestClientCloseTakesAnswers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, p := clientPipe(t, ClientOptions{}, welcome(wire.V5, false, nil))
		var d dones
		c.Publish(testEvent("t", "1"), 1, false, nil, d.of("1"))
		id := p.publish().PacketID
		c.Close()
		p.want(wire.DISCONNECT)
		p.sendAck(wire.PUBACK, id, wire.Success)
		p.conn.Close()
		<-c.Done()
		d.once(t, "1", wire.Success, nil)
	})
}

// MQTT 5 sections 3.8 to 3.11.
func TestClientSubscribe(t *testing.T) {
	for _, v := range []wire.Version{wire.V311, wire.V5} {
		bubble(t, func(t *testing.T) {
			c, p := clientPipe(t, ClientOptions{Version: v, Clean: true}, welcome(v, false, nil))
			var wg sync.WaitGroup
			wg.Go(func() {
				_, body := p.want(wire.SUBSCRIBE)
				var s wire.Subscribe
				if err := p.dec.Subscribe(v, body, &s); err != nil || s.Filters != 2 {
					t.Errorf("%+v, %v", s, err)
				}
				p.send(wire.AppendUnsuback(nil, v, s.PacketID, []byte{0, 0})) // another call's answer: ignored
				p.send(wire.AppendSuback(nil, v, s.PacketID+1, []byte{0, 0})) // nobody's: ignored
				p.send(wire.AppendSuback(nil, v, s.PacketID, []byte{2, 0x80}))
				_, body = p.want(wire.UNSUBSCRIBE)
				var u wire.Unsubscribe
				if err := p.dec.Unsubscribe(v, body, &u); err != nil || u.Filters != 2 {
					t.Errorf("%+v, %v", u, err)
				}
				p.send(wire.AppendUnsuback(nil, v, u.PacketID, []byte{0x11, 0}))
			})
			codes, err := c.Subscribe(t.Context(), wire.Filter{Filter: "a/#", SubOptions: wire.SubOptions{QoS: 2}}, wire.Filter{Filter: "b"})
			if err != nil || len(codes) != 2 || codes[0] != wire.GrantedQoS2 || codes[1] != wire.UnspecifiedError {
				t.Errorf("%v: Subscribe: %v, %v", v, codes, err)
			}
			codes, err = c.Unsubscribe(t.Context(), "a/#", "b")
			if err != nil || len(codes) != 2 || (codes[0] == wire.NoSubscriptionExisted) != (v == wire.V5) {
				t.Errorf("%v: Unsubscribe: %v, %v", v, codes, err)
			}
			wg.Wait()
			if len(c.calls) != 0 {
				t.Error("a call is left")
			}
		})
	}
}

func TestClientSubscribeFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, p := clientPipe(t, ClientOptions{}, welcome(wire.V5, false, &wire.ConnackProps{MaxPacket: 30}))
		if _, err := c.Subscribe(t.Context()); !errors.Is(err, errClientNoFilters) {
			t.Error(err)
		}
		if _, err := c.Subscribe(t.Context(), wire.Filter{Filter: "a/#/b"}); !errors.Is(err, errClientFilter) {
			t.Error(err)
		}
		if _, err := c.Unsubscribe(t.Context(), strings.Repeat("x", 30)); !errors.Is(err, errClientMaxPacket) {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Subscribe(ctx, wire.Filter{Filter: "a"}); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
		p.want(wire.SUBSCRIBE)
		wg.Wait()
		if len(c.calls) != 1 {
			t.Error("the identifier of a call without an answer is free for others")
		}
		wg.Go(func() {
			var e *wire.Error
			if _, err := c.Subscribe(t.Context(), wire.Filter{Filter: "a"}, wire.Filter{Filter: "b"}); !errors.As(err, &e) {
				t.Error(err)
			}
		})
		_, body := p.want(wire.SUBSCRIBE)
		p.send([]byte{0x90, 4, body[0], body[1], 0, 0}) // one code for two filters
		p.disconnect(wire.ProtocolError)
		wg.Wait()
	})
}
