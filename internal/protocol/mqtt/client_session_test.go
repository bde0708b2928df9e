package mqtt

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// MQTT 5 section 4.4: what was under way goes on, in order; DUP on what was sent before, PUBREL for what was received.
func TestClientResume(t *testing.T) {
	for _, v := range []wire.Version{wire.V311, wire.V5} {
		bubble(t, func(t *testing.T) {
			s := NewClientSession()
			o := ClientOptions{Version: v, ClientID: "c", Session: s, MaxInflight: 3}
			c, p := clientPipe(t, o, welcome(v, false, nil))
			var d dones
			for i, name := range []string{"a", "b", "c", "d"} {
				c.Publish(testEvent("t/"+name, name), byte(1+i%2), false, nil, d.of(name))
			}
			c.Publish(testEvent("t/0", "0"), 0, false, nil, nil)
			ids := map[string]uint16{}
			for range 4 {
				pub := p.publish()
				ids[string(pub.Payload)] = pub.PacketID
			}
			p.sendAck(wire.PUBREC, ids["b"], wire.Success)
			p.ack(wire.PUBREL)
			if s.Drop(ErrClosed) {
				t.Error("dropped under a connection")
			}
			o.URL, o.DialContext = "mqtt://h", func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("dialled") }
			if _, err := Dial(t.Context(), o); !errors.Is(err, errClientSession) {
				t.Errorf("second connection: %v", err)
			}
			p.conn.Close()
			<-c.Done()
			if s.Len() != 4 {
				t.Errorf("%d under way, want 4", s.Len())
			}
			c.Publish(testEvent("t/e", "e"), 1, false, nil, d.of("e"))
			d.once(t, "e", wire.ServerUnavailable, errClientGone)

			c, p = clientPipe(t, o, welcome(v, true, nil))
			p.wantAck(wire.PUBREL, ids["b"], wire.Success)
			for _, name := range []string{"a", "c"} {
				if pub := p.publish(); string(pub.Payload) != name || !pub.Dup || pub.PacketID != ids[name] {
					t.Errorf("%v: sent again %+v, want %s", v, pub, name)
				}
			}
			p.quiet(time.Second) // the window is full
			p.sendAck(wire.PUBACK, ids["a"], wire.Success)
			if pub := p.publish(); string(pub.Payload) != "d" || pub.Dup || pub.QoS != 2 {
				t.Errorf("%v: first sending of d %+v", v, pub)
			} else {
				ids["d"] = pub.PacketID
			}
			for _, name := range []string{"b", "d"} {
				p.sendAck(wire.PUBREC, ids[name], wire.Success)
				p.ack(wire.PUBREL)
				p.sendAck(wire.PUBCOMP, ids[name], wire.Success)
				d.once(t, name, wire.Success, nil)
			}
			p.sendAck(wire.PUBACK, ids["c"], wire.Success)
			d.once(t, "a", wire.Success, nil)
			d.once(t, "c", wire.Success, nil)
			if s.Len() != 0 || c.open != 0 {
				t.Errorf("%d under way, %d open", s.Len(), c.open)
			}
		})
	}
}

// The server has lost the session: all is published as new, so that nothing is lost.
func TestClientResumeLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := NewClientSession()
		o := ClientOptions{ClientID: "c", Session: s}
		c, p := clientPipe(t, o, welcome(wire.V5, false, nil))
		var d dones
		c.Publish(testEvent("t", "a"), 1, false, nil, d.of("a"))
		c.Publish(testEvent("t", "b"), 2, false, nil, d.of("b"))
		p.publish()
		p.sendAck(wire.PUBREC, p.publish().PacketID, wire.Success)
		p.ack(wire.PUBREL)
		c.Close()
		p.disconnect(wire.Success)
		<-c.Done()
		d.waiting(t, "a")

		c, p = clientPipe(t, o, welcome(wire.V5, false, nil))
		a, b := p.publish(), p.publish()
		if a.Dup || b.Dup || string(a.Payload) != "a" || string(b.Payload) != "b" || b.QoS != 2 {
			t.Errorf("published as new: %+v %+v", a, b)
		}
		p.sendAck(wire.PUBACK, a.PacketID, wire.Success)
		p.sendAck(wire.PUBREC, b.PacketID, wire.Success)
		p.ack(wire.PUBREL)
		d.waiting(t, "b")
		// PUBCOMP "not found" ends what the server had taken with its PUBREC.
		p.sendAck(wire.PUBCOMP, b.PacketID, wire.PacketIDNotFound)
		d.once(t, "a", wire.Success, nil)
		d.once(t, "b", wire.Success, nil)

		c.Publish(testEvent("t", "c"), 1, false, nil, d.of("c"))
		p.publish()
		c.Abort()
		<-c.Done()
		gone := errors.New("given up")
		if !s.Drop(gone) || s.Len() != 0 {
			t.Error("not dropped")
		}
		d.once(t, "c", wire.ServerUnavailable, gone)
	})
}

// QoS 2 from the server: what was given to the caller is not given again on the next connection, whenever it is answered.
func TestClientResumeReceived(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var in inbox
		o := ClientOptions{ClientID: "c", Session: NewClientSession(), OnPublish: in.take}
		c, p := clientPipe(t, o, welcome(wire.V5, false, nil))
		for id, topic := range []string{"done", "later", "offline", "refused"} {
			p.sendPublish(uint16(id+1), 2, false, topic)
		}
		synctest.Wait()
		in.acks["done"](true)
		p.wantAck(wire.PUBREC, 1, wire.Success)
		p.conn.Close()
		<-c.Done()
		in.acks["offline"](true)
		in.acks["refused"](false)

		_, p = clientPipe(t, o, welcome(wire.V5, true, nil))
		p.sendPublish(1, 2, true, "done")
		p.wantAck(wire.PUBREC, 1, wire.Success)
		p.sendPublish(2, 2, true, "later")
		p.sendPublish(3, 2, true, "offline")
		p.sendPublish(4, 2, true, "refused")
		p.quiet(time.Second) // "later" holds the order
		in.want(t, "done", "later", "offline", "refused")
		in.acks["later"](true) // the function of the first connection counts on the second
		p.wantAck(wire.PUBREC, 2, wire.Success)
		p.wantAck(wire.PUBREC, 3, wire.Success)
		p.wantAck(wire.PUBREC, 4, wire.UnspecifiedError)
		for id := uint16(1); id <= 3; id++ {
			p.sendAck(wire.PUBREL, id, wire.Success)
			p.wantAck(wire.PUBCOMP, id, wire.Success)
		}
		p.sendAck(wire.PUBREL, 4, wire.Success)
		p.wantAck(wire.PUBCOMP, 4, wire.PacketIDNotFound)
		if n := len(o.Session.received2) + len(o.Session.order2); n != 0 {
			t.Errorf("%d receipts left", n)
		}
	})
}

// The server has lost its session: an identifier of it says nothing any more, and neither does an answer to it.
func TestClientResumeReceivedLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var in inbox
		o := ClientOptions{ClientID: "c", Session: NewClientSession(), OnPublish: in.take}
		c, p := clientPipe(t, o, welcome(wire.V5, false, nil))
		p.sendPublish(1, 2, false, "old")
		synctest.Wait()
		old := in.acks["old"]
		p.conn.Close()
		<-c.Done()
		_, p = clientPipe(t, o, welcome(wire.V5, false, nil))
		p.sendPublish(1, 2, false, "new")
		in.want(t, "old", "new")
		old(true)
		p.quiet(time.Second)
		in.acks["new"](true)
		p.wantAck(wire.PUBREC, 1, wire.Success)
	})
}

// No identifier is given twice while it is in use, and none when all are.
func TestClientSessionIDs(t *testing.T) {
	s := NewClientSession()
	c := &Client{calls: map[uint16]*clientCall{}}
	for range 0xffff {
		id := s.newID(c)
		if id == 0 || s.flights[id] != nil || c.calls[id] != nil {
			t.Fatalf("identifier %d", id)
		}
		if id%2 == 0 {
			s.flights[id] = &clientFlight{}
		} else {
			c.calls[id] = &clientCall{}
		}
	}
	if id := s.newID(c); id != 0 {
		t.Errorf("identifier %d although all are in use", id)
	}
	delete(s.flights, 4)
	if id := s.newID(c); id != 4 {
		t.Errorf("identifier %d, want the free one", id)
	}
}

// lossyServer keeps a session of MQTT 5 as a server does and loses its connection at random. Guarded by mu.
type lossyServer struct {
	mu    sync.Mutex
	rnd   *rand.Rand
	known bool
	held  map[uint16]string // QoS 2 that wait for PUBREL
	got   map[string]int    // payloads taken over
	next  uint16
	out   map[uint16]byte // QoS 2 of our own: 1 sent, 2 released
	sent  int
}

// serve speaks on one connection until it is lost.
func (l *lossyServer) serve(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer conn.Close()
	var d wire.Decoder
	buf := []byte{}
	life := 5 + l.rnd.IntN(60) // packets
	say := func(b []byte) bool {
		_, err := conn.Write(b)
		return err == nil
	}
	ack := func(k wire.Kind, id uint16) bool { return say(wire.AppendAck(nil, wire.V5, k, id, wire.Success, "")) }
	for ; life > 0; life-- {
		first, body, n, err := wire.Next(buf, 0)
		for n == 0 && err == nil {
			b := make([]byte, 1000)
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			got, rerr := conn.Read(b)
			if rerr != nil {
				return
			}
			buf = append(buf, b[:got]...)
			first, body, n, err = wire.Next(buf, 0)
		}
		ok := err == nil
		switch wire.KindOf(first) {
		case wire.CONNECT:
			ok = say(welcome(wire.V5, l.known, &wire.ConnackProps{ReceiveMax: 10}))
			l.known = true
			for id, state := range l.out {
				if state == 2 {
					ok = ok && ack(wire.PUBREL, id)
				} else {
					ok = ok && say(l.packet(id, true))
				}
			}
		case wire.PUBLISH:
			var p wire.Publish
			if d.Publish(wire.V5, first, body, &p) != nil {
				return
			}
			if p.QoS == 1 {
				l.got[string(p.Payload)]++
				ok = l.rnd.IntN(4) > 0 && ack(wire.PUBACK, p.PacketID)
				break
			}
			if _, dup := l.held[p.PacketID]; !dup {
				l.held[p.PacketID] = string(p.Payload)
				l.got[string(p.Payload)]++
			}
			ok = l.rnd.IntN(4) > 0 && ack(wire.PUBREC, p.PacketID)
		case wire.PUBREL:
			var a wire.Ack
			_ = d.Ack(wire.V5, wire.PUBREL, body, &a)
			delete(l.held, a.PacketID)
			ok = l.rnd.IntN(4) > 0 && ack(wire.PUBCOMP, a.PacketID)
		case wire.PUBREC:
			var a wire.Ack
			_ = d.Ack(wire.V5, wire.PUBREC, body, &a)
			l.out[a.PacketID] = 2
			ok = l.rnd.IntN(4) > 0 && ack(wire.PUBREL, a.PacketID)
		case wire.PUBCOMP:
			var a wire.Ack
			_ = d.Ack(wire.V5, wire.PUBCOMP, body, &a)
			delete(l.out, a.PacketID)
		}
		buf = buf[n:]
		if ok && len(l.out) < 5 && l.sent < 100 {
			l.next++
			l.sent++
			l.out[l.next] = 1
			ok = say(l.packet(l.next, false))
		}
		if !ok {
			return
		}
	}
}

func (l *lossyServer) packet(id uint16, dup bool) []byte {
	return wire.AppendPublish(nil, &wire.PublishOut{Version: wire.V5, Topic: []byte("s"), Payload: fmt.Append(nil, id), PacketID: id, QoS: 2, Dup: dup})
}

// However often the connection is lost: QoS 2 arrives exactly once in both directions, QoS 1 at least once, every done
// function is called exactly once, and with success.
func TestClientResumeProperty(t *testing.T) {
	for seed := range uint64(30) {
		bubble(t, func(t *testing.T) {
			l := &lossyServer{rnd: rand.New(rand.NewPCG(seed, 1)), held: map[uint16]string{}, got: map[string]int{}, out: map[uint16]byte{}}
			s := NewClientSession()
			var mu sync.Mutex
			given, said := map[string]int{}, map[string]int{}
			var wg sync.WaitGroup
			total, sent := 120, 0
			for conns := 0; ; conns++ {
				here, there := net.Pipe()
				wg.Go(func() { l.serve(there) })
				c, err := Dial(t.Context(), ClientOptions{URL: "mqtt://h", ClientID: "c", Session: s, KeepAlive: -1,
					DialContext: func(context.Context, string, string) (net.Conn, error) { return here, nil },
					OnPublish: func(p *wire.Publish, ack func(bool)) {
						mu.Lock()
						given[string(p.Payload)]++
						mu.Unlock()
						if seed%2 == 0 {
							ack(true)
							return
						}
						wg.Go(func() {
							time.Sleep(time.Duration(len(p.Payload)) * time.Millisecond)
							ack(true)
						})
					}})
				if err != nil {
					if conns > 5000 {
						t.Fatal(err)
					}
					continue
				}
				for taken := true; taken && sent < total && s.Len() < 20; {
					name := fmt.Sprintf("%d-%d", 1+sent%2, sent)
					c.Publish(testEvent("t", name), byte(1+sent%2), false, nil, func(_ wire.Reason, err error) {
						mu.Lock()
						defer mu.Unlock()
						if err != nil { // the connection is gone: said at once, and the event was never taken
							taken = false
						} else {
							said[name]++
						}
					})
					if taken {
						sent++
					}
				}
				<-c.Done()
				l.mu.Lock()
				finished := s.Len() == 0 && sent >= total && l.sent == 100 && len(l.out) == 0
				l.mu.Unlock()
				if finished {
					break
				}
				if conns > 5000 {
					t.Fatalf("seed %d: no end: %d under way, %d sent", seed, s.Len(), sent)
				}
			}
			wg.Wait()
			if len(said) != total || len(given) != 100 {
				t.Errorf("seed %d: %d of %d answered, %d of 100 given", seed, len(said), total, len(given))
			}
			for name, n := range said {
				if n != 1 {
					t.Errorf("seed %d: %s answered %d times", seed, name, n)
				}
				if got := l.got[name]; got == 0 || got > 1 && name[0] == '2' {
					t.Errorf("seed %d: %s arrived %d times", seed, name, got)
				}
			}
			for name, n := range given {
				if n != 1 {
					t.Errorf("seed %d: %s given %d times", seed, name, n)
				}
			}
		})
	}
}
