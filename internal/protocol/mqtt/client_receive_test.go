package mqtt

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// inbox collects what a client was given. Owned by its client's reader; tests look at it when that is idle.
type inbox struct {
	topics []string
	acks   map[string]func(bool)
}

func (i *inbox) take(p *wire.Publish, ack func(bool)) {
	if i.acks == nil {
		i.acks = make(map[string]func(bool))
	}
	i.topics = append(i.topics, string(p.Topic))
	i.acks[string(p.Topic)] = ack
}

func (i *inbox) want(t *testing.T, topics ...string) {
	t.Helper()
	synctest.Wait()
	if len(i.topics) != len(topics) {
		t.Fatalf("given %q, want %q", i.topics, topics)
	}
	for n := range topics {
		if i.topics[n] != topics[n] {
			t.Fatalf("given %q, want %q", i.topics, topics)
		}
	}
}

func (p *clientPeer) wantAck(k wire.Kind, id uint16, r wire.Reason) {
	p.t.Helper()
	if a := p.ack(k); a.PacketID != id || a.Reason != r {
		p.t.Errorf("%v %+v, want %d %v", k, a, id, r)
	}
}

// MQTT 5 section 4.3 from the receiver's side: nothing is acknowledged before the caller says so, and then in order.
func TestClientReceive(t *testing.T) {
	for _, v := range []wire.Version{wire.V31, wire.V311, wire.V5} {
		bubble(t, func(t *testing.T) {
			var in inbox
			_, p := clientPipe(t, ClientOptions{Version: v, Clean: true, OnPublish: in.take}, welcome(v, false, nil))
			p.sendPublish(0, 0, false, "zero")
			p.sendPublish(1, 1, false, "one")
			p.sendPublish(2, 1, false, "two")
			p.sendPublish(1, 2, false, "exact") // QoS 2 with an identifier that a QoS 1 has, too
			in.want(t, "zero", "one", "two", "exact")
			in.acks["zero"](true)
			in.acks["two"](true) // waits for the older one [MQTT-4.6.0-2]
			p.quiet(time.Second)
			in.acks["exact"](true)
			p.wantAck(wire.PUBREC, 1, wire.Success)
			in.acks["one"](true)
			p.wantAck(wire.PUBACK, 1, wire.Success)
			p.wantAck(wire.PUBACK, 2, wire.Success)
			for _, ack := range in.acks { // exactly once
				ack(true)
				ack(false)
			}
			p.quiet(time.Second)

			p.sendPublish(1, 2, true, "again") // [MQTT-4.3.3-10]: not given twice
			p.wantAck(wire.PUBREC, 1, wire.Success)
			in.want(t, "zero", "one", "two", "exact")
			p.sendAck(wire.PUBREL, 1, wire.Success)
			p.wantAck(wire.PUBCOMP, 1, wire.Success)
			unknown := wire.Success
			if v == wire.V5 {
				unknown = wire.PacketIDNotFound
			}
			p.sendAck(wire.PUBREL, 1, wire.Success)
			p.wantAck(wire.PUBCOMP, 1, unknown)
			p.sendPublish(1, 2, false, "new") // the identifier is free [MQTT-4.3.3-12]
			in.want(t, "zero", "one", "two", "exact", "new")
			p.sendPublish(1, 2, true, "new") // joins what waits
			in.want(t, "zero", "one", "two", "exact", "new")
			p.quiet(time.Second)

			p.sendAck(wire.PUBREC, 99, wire.Success) // of a publish that we do not know
			p.wantAck(wire.PUBREL, 99, unknown)
			p.sendAck(wire.PUBACK, 99, wire.Success)
			p.quiet(time.Second)
		})
	}
}

// A refusal has a word in MQTT 5; in 3.x the acknowledgement is withheld and does not hold up those behind it.
func TestClientReceiveRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var in inbox
		_, p := clientPipe(t, ClientOptions{ReceiveMax: 2, OnPublish: in.take}, welcome(wire.V5, false, nil))
		for range 3 { // a refusal gives its place in the receive maximum back
			p.sendPublish(1, 1, false, "one")
			p.sendPublish(2, 2, false, "two")
			synctest.Wait()
			in.acks["one"](false)
			p.wantAck(wire.PUBACK, 1, wire.UnspecifiedError)
			in.acks["two"](false)
			p.wantAck(wire.PUBREC, 2, wire.UnspecifiedError)
		}
		in.want(t, "one", "two", "one", "two", "one", "two")
	})
	bubble(t, func(t *testing.T) {
		var in inbox
		_, p := clientPipe(t, ClientOptions{Version: wire.V311, Clean: true, OnPublish: in.take}, welcome(wire.V311, false, nil))
		p.sendPublish(1, 1, false, "one")
		p.sendPublish(2, 1, false, "two")
		synctest.Wait()
		in.acks["one"](false)
		in.acks["two"](true)
		p.wantAck(wire.PUBACK, 2, wire.Success)
	})
}

// Without a handler everything is acknowledged, and the place in the receive maximum comes back with PUBACK and PUBCOMP.
func TestClientReceiveWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, p := clientPipe(t, ClientOptions{ReceiveMax: 1}, welcome(wire.V5, false, nil))
		for id := uint16(1); id < 20; id++ {
			p.sendPublish(id, 1, false, "t")
			p.wantAck(wire.PUBACK, id, wire.Success)
			p.sendPublish(id, 2, false, "t")
			p.wantAck(wire.PUBREC, id, wire.Success)
			p.sendAck(wire.PUBREL, id, wire.Success)
			p.wantAck(wire.PUBCOMP, id, wire.Success)
		}
		synctest.Wait()
		if c.receiving != 0 || len(c.received1) != 0 || len(c.session.received2) != 0 {
			t.Errorf("receiving %d, %v, %v", c.receiving, c.received1, c.session.received2)
		}
	})
}

// A packet arrives in pieces, many arrive in one, and the buffer grows no further than what arrived.
func TestClientReceiveStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var in inbox
		c, p := clientPipe(t, ClientOptions{OnPublish: in.take}, append(welcome(wire.V5, false, nil), 0x30, 6, 0, 3, '1', 's'))
		p.send([]byte{'t', 0})
		in.want(t, "1st")
		big := wire.AppendPublish(nil, &wire.PublishOut{Version: wire.V5, Topic: []byte("big"), Payload: make([]byte, 300_000)})
		p.send(big[:5])
		synctest.Wait()
		if cap(c.buf) > 8192 {
			t.Errorf("%d bytes reserved for what was only announced", cap(c.buf))
		}
		for rest := big[5:]; len(rest) > 0; {
			n := min(len(rest), 1000)
			p.send(rest[:n])
			rest = rest[n:]
		}
		in.want(t, "1st", "big")
		if cap(c.buf) > clientKeepBuf {
			t.Errorf("%d bytes kept", cap(c.buf))
		}
	})
}

// A server that sends and does not read is no longer read from, instead of what it is owed growing without bound.
func TestClientReceiveFlood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, p := clientPipe(t, ClientOptions{KeepAlive: -1}, welcome(wire.V5, false, nil))
		var flood []byte
		for len(flood) < 4096 {
			flood = wire.AppendAck(flood, wire.V5, wire.PUBREL, 7, wire.Success, "")
		}
		_ = p.conn.SetWriteDeadline(time.Now().Add(30 * time.Second))
		for range 1000 {
			if _, err := p.conn.Write(flood); err != nil {
				break
			}
		}
		c.session.mu.Lock()
		owed := len(c.ctrl)
		c.session.mu.Unlock()
		if owed < clientCtrlMax || owed > 2*clientCtrlMax {
			t.Errorf("%d bytes owed", owed)
		}
		// As it reads again, all is as before.
		p.v = wire.V5
		p.wantAck(wire.PUBCOMP, 7, wire.PacketIDNotFound)
	})
}
