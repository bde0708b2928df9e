package mqtt

import (
	"fmt"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
	"github.com/windrose-edc/windrose/internal/route"
)

// crowd is four clients of a small node that send whole packets: they connect, subscribe, in groups too, publish with aliases,
// acknowledge what they got, authenticate again, go and come back. Owned by its run.
type crowd struct {
	t       simT
	n       *simNode
	target  *simTarget
	members [4]crowdMember
	next    int // loop of the next connection
}

// crowdMember is one of them. Owned by its crowd.
type crowdMember struct {
	*simLink
	name    string
	version wire.Version
	saidHi  bool
	asked   map[uint16]byte // publishes of this connection without an answer, and their QoS
	rel     []uint16        // PUBRECs to release
	todo    []byte          // acknowledgements of deliveries that the client has not sent
}

var (
	crowdFilters = []string{"t/#", "t/a", "+/a", "$share/g/t/#", "$share/h/t/a", "#", "$share/g/t/a", "w/+"}
	crowdTopics  = []string{"t/a", "t/b", "w/1", "x", ""}
)

// FuzzConversation plays sequences of packets: whatever four clients do, nothing panics, what is kept stays within its bounds,
// what is sent is well-formed, every ticket is settled once, every publish with QoS 1 or 2 is answered or its connection ends,
// and every session ends.
func FuzzConversation(f *testing.F) {
	f.Add([]byte{0})
	hello := []byte{0x00, 0x1f, 0x01, 0x10, 0x02, 0x0a, 0x03, 0x33}
	for config := range byte(8) {
		for kind := range byte(16) {
			plan := append([]byte{config}, hello...)
			for i := range byte(24) {
				plan = append(plan, (kind+i*5)<<4&0xf0|i&3, i*37+kind)
			}
			f.Add(plan)
		}
	}
	f.Fuzz(func(t *testing.T, plan []byte) { playCrowd(t, plan) })
}

func playCrowd(t simT, plan []byte) {
	if len(plan) < 3 || len(plan) > 400 {
		return
	}
	cfg := fuzzConfig(plan[0])
	cfg.auth = []identity.Authenticator{&quiz{rounds: 1}, identity.Open(func(string) bool { return true })}
	c := &crowd{t: t, n: newSimNode(t, cfg), target: &simTarget{name: "t1"}}
	c.n.routes(&route.Route{Name: "t1", Topic: "t/b", Target: c.target, Ack: route.Upstream})
	for i := range c.members {
		m := &c.members[i]
		m.name, m.version = fmt.Sprint("c", i/2), wire.V5 // two of each name: they take over
		c.connect(m)
	}
	for plan = plan[1:]; len(plan) >= 2; plan = plan[2:] {
		c.step(&c.members[plan[0]&3], plan[0]>>4, plan[1])
		c.n.run()
		c.read()
	}
	c.end()
}

func (c *crowd) connect(m *crowdMember) {
	m.simLink = c.n.link(c.next % len(c.n.loops))
	c.next++
	m.saidHi, m.asked, m.rel, m.todo = false, map[uint16]byte{}, nil, nil
}

// step does one thing; x says how.
func (c *crowd) step(m *crowdMember, op, x byte) {
	if m.told {
		c.connect(m)
	}
	v := m.version
	if !m.saidHi && op >= 1 && op <= 9 && x&0x80 == 0 {
		op = 0 // most of the time a client knows how to begin
	}
	switch op {
	case 0:
		m.hello(x)
	case 1, 2, 3:
		m.publish(x)
	case 4:
		m.send(wire.AppendSubscribe(nil, v, uint16(x)+1, uint32(x>>6), []wire.Filter{{Filter: crowdFilters[x&7], SubOptions: wire.SubOptions{QoS: x >> 3 & 3 % 3}}}))
	case 5:
		m.send(wire.AppendUnsubscribe(nil, v, uint16(x)+1, []string{crowdFilters[x&7]}))
	case 6, 7:
		n := min(len(m.todo), 1+int(x))
		m.send(m.todo[:n]) // maybe half a packet
		m.todo = m.todo[n:]
	case 8:
		m.release(v)
	case 9:
		m.send(authBy([]wire.Reason{goOn, again}[x&1], []string{"QUIZ", "OTHER", "QUIZ", "QUIZ"}[x>>1&3], []string{"I am anna", "x", "I am anna", ""}[x>>3&3]))
	case 10:
		m.send(wire.AppendDisconnect(nil, v, []wire.Reason{0, 4, 0x81}[x%3], nil))
	case 11:
		m.drop()
	case 12:
		c.n.advance(time.Duration(x) * time.Duration(x) * 2 * time.Millisecond)
	case 13:
		c.target.answer(event.Outcome(x) % event.NumOutcomes)
	case 14:
		m.stalled = !m.stalled
		m.loop().Wake()
	case 15:
		m.send([]byte{x, 2, 0, x})
	}
}

func (m *crowdMember) hello(x byte) {
	m.saidHi = true
	m.version = []wire.Version{wire.V5, wire.V5, wire.V311, wire.V31}[x&3]
	k := wire.Connect{Version: m.version, ClientID: []byte(m.name), Clean: x&4 != 0, KeepAlive: 30, ReceiveMax: 1 + uint16(x>>3&7), TopicAliasMax: uint16(x >> 5), RequestProblemInfo: x&16 == 0}
	if x&32 != 0 {
		k.SessionExpiry = 60
	}
	if x&64 != 0 {
		k.Will = wire.Will{Present: true, Topic: []byte("w/1"), Payload: []byte{x}, QoS: x >> 1 & 1, Delay: uint32(x >> 4), Retain: x&8 != 0}
	}
	if x&128 != 0 && m.version == wire.V5 {
		k.AuthMethod, k.HasAuthMethod = []byte("QUIZ"), true
	}
	m.send(wire.AppendConnect(nil, &k))
}

// release ends the exchanges of what was received. One that was begun again under the same id ends with it.
func (m *crowdMember) release(v wire.Version) {
	for _, id := range m.rel {
		m.send(wire.AppendAck(nil, v, wire.PUBREL, id, wire.Success, ""))
		if m.asked[id] == 2 {
			delete(m.asked, id)
		}
	}
	m.rel = nil
}

func (m *crowdMember) publish(x byte) {
	p := wire.PublishOut{Version: m.version, Topic: []byte(crowdTopics[x%5]), Payload: []byte{x}, QoS: x >> 3 % 3, Retain: x&64 != 0, Dup: x&0x84 == 0x84}
	if p.QoS > 0 {
		p.PacketID = 1 + uint16(x>>4&7)
		if !m.told && !m.eof {
			m.asked[p.PacketID] = p.QoS
		}
	}
	if m.version == wire.V5 {
		p.Expiry, p.HasExpiry = uint32(x>>5), x&32 != 0
		if p.Alias = uint16(x >> 2 & 3); len(p.Topic) == 0 && p.Alias == 0 {
			p.Alias = 1
		}
	}
	m.send(wire.AppendPublish(nil, &p))
}

// read takes what the clients received.
func (c *crowd) read() {
	for i := range c.members {
		m := &c.members[i]
		v := m.simLink.machine.version
		if v == 0 {
			v = wire.V311
		}
		d := wire.Decoder{Client: true}
		for len(m.got) > 0 {
			first, body, n, err := wire.Next(m.got, 0)
			if err != nil || n == 0 {
				if m.stalled {
					break
				}
				c.t.Fatalf("not a packet: %x", m.got)
			}
			switch kind := wire.KindOf(first); kind {
			case wire.PUBLISH:
				var p wire.Publish
				if err = d.Publish(v, first, body, &p); err == nil && p.QoS > 0 {
					m.todo = wire.AppendAck(m.todo, v, []wire.Kind{wire.PUBACK, wire.PUBREC}[p.QoS-1], p.PacketID, wire.Success, "")
				}
			case wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP:
				var a wire.Ack
				if err = d.Ack(v, kind, body, &a); err == nil {
					c.acked(m, kind, &a, v)
				}
			case wire.CONNACK:
				var k wire.Connack
				err = d.Connack(v, body, &k)
			case wire.AUTH:
				var a wire.Auth
				err = d.Auth(body, &a)
			case wire.DISCONNECT:
				var x wire.Disconnect
				err = d.Disconnect(v, body, &x)
			case wire.CONNECT, wire.SUBSCRIBE, wire.UNSUBSCRIBE, wire.PINGREQ:
				err = wire.ErrKind
			}
			if err != nil {
				c.t.Fatalf("%x: %v", m.got[:n], err)
			}
			m.got = m.got[n:]
		}
		if h := m.hold; h != nil && len(h.packets) > m.cfg.holdBytes+int(m.cfg.maxPacket)+8 {
			c.t.Fatalf("%d bytes of publishes are held", len(h.packets))
		}
		if m.aliases != nil && len(*m.aliases) > int(m.cfg.aliases) || m.sent != nil && len(m.sent.list) > int(m.aliasMax) {
			c.t.Fatalf("aliases above the bound")
		}
		if m.s != nil && m.s.Unanswered() > c.n.hosts[0].Limits().Receive {
			c.t.Fatalf("%d events without an answer", m.s.Unanswered())
		}
	}
	for _, h := range c.n.hosts {
		if t := &h.Tally; t.Queued > t.Sessions*int64(h.Limits().Queue) || t.Online > t.Sessions || t.Sessions > 2 && len(c.n.hosts) == 1 {
			c.t.Fatalf("gauges: %+v", *t)
		}
	}
}

func (c *crowd) acked(m *crowdMember, kind wire.Kind, a *wire.Ack, v wire.Version) {
	switch kind {
	case wire.PUBACK:
		delete(m.asked, a.PacketID)
	case wire.PUBREC:
		delete(m.asked, a.PacketID)
		if !a.Reason.Failed() {
			m.rel = append(m.rel, a.PacketID)
		}
	case wire.PUBREL:
		m.todo = wire.AppendAck(m.todo, v, wire.PUBCOMP, a.PacketID, wire.Success, "")
	}
}

// end lets everything come to its end.
func (c *crowd) end() {
	for i := range c.members {
		c.members[i].stalled = false
		c.members[i].loop().Wake()
	}
	for range 12 { // every client does its part, targets are silent, and limits let go
		for i := range c.members {
			m := &c.members[i]
			if m.phase == phOpen {
				m.release(m.machine.version)
				m.send(m.todo)
				m.todo = nil
				m.send(wire.AppendPingreq(nil))
			}
		}
		c.n.run()
		c.n.advance(3 * time.Second)
		c.read()
	}
	for i := range c.members {
		m := &c.members[i]
		if len(m.asked) > 0 && !m.told && m.phase == phOpen && len(m.in)+len(m.arriving) == 0 && m.cfg.onReject != ruleSilent {
			c.t.Fatalf("client %d: publishes without an answer: %v, held %+v", i, m.asked, m.hold)
		}
		m.drop()
	}
	c.n.run()
	for len(c.target.open) > 0 {
		c.target.open = c.target.open[1:] // never answered
	}
	c.n.advance(115 * time.Second)
	c.n.advance(20 * time.Second)
	for i, h := range c.n.hosts {
		t := &h.Tally
		if t.Sessions != 0 || t.Online != 0 || t.Subs != 0 || t.Queued != 0 || t.QueuedBytes != 0 {
			c.t.Fatalf("loop %d at the end: %+v", i, *t)
		}
		if n := h.Walker().Open(); n != 0 {
			c.t.Fatalf("loop %d: %d tickets are never settled", i, n)
		}
	}
	if n := c.n.index.Stats().Subs; n != 1 {
		c.t.Fatalf("%d subscriptions are left", n)
	}
}
