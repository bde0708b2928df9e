package mqtt

import (
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
	"github.com/windrose-edc/windrose/internal/session"
)

// Room implements session.Peer.
func (m *machine) Room() bool {
	if m.phase == phClosed {
		return false
	}
	if m.env.Pending() < m.cfg.maxOut {
		return true
	}
	m.env.WantRoom()
	return false
}

// Send implements session.Peer: it puts a PUBLISH into the output.
func (m *machine) Send(ev *event.Event, d session.Delivery) bool {
	sc := m.env.Scratch()
	p := &sc.out
	*p = wire.PublishOut{Version: m.version, Topic: ev.Topic, Payload: ev.Payload, PacketID: d.ID, QoS: byte(d.QoS), Dup: d.Dup, Retain: d.Retain}
	if m.version == wire.V5 {
		p.Meta = ev.Meta
		if ev.Expires != 0 {
			left := max(ev.Expires-m.env.Now(), 0)                                               // 0: sent again although its time has passed ([MQTT-4.3.3-7])
			p.Expiry, p.HasExpiry = uint32((left+int64(time.Second)-2)/int64(time.Second)), true // walk makes a nanosecond of 0 s
		}
		p.SubIDs = sc.ids[:0]
		for _, s := range d.Subs {
			if id := s.ID(); id != 0 {
				p.SubIDs = append(p.SubIDs, id)
			}
		}
		if len(d.Subs) == 0 && d.SubID != 0 {
			p.SubIDs = append(p.SubIDs, d.SubID)
		}
		sc.ids = p.SubIDs
	}
	known := m.shorten(p)
	if m.maxSend != 0 && wire.PublishSize(p) > int(m.maxSend) {
		if known || p.Alias == 0 {
			return false // [MQTT-3.1.2-24]
		}
		if p.Alias = 0; wire.PublishSize(p) > int(m.maxSend) {
			return false
		}
	}
	m.env.SetOut(sc.forms.append(m.env.Out(), p, m.env.Host().Walker().Passing()))
	if p.Alias != 0 {
		m.sent.set(p.Alias, ev.Topic, known)
	}
	return true
}

// Release implements session.Peer.
func (m *machine) Release(id uint16) { m.sendAck(wire.PUBREL, id, wire.Success, "") }
