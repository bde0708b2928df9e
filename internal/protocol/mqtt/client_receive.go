package mqtt

import "github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"

func ackNothing(bool) {}

// publishIn takes a PUBLISH of the server.
func (c *Client) publishIn(p *wire.Publish) *wire.Error {
	if p.HasAlias {
		return errClientAlias
	}
	if p.QoS == 0 {
		c.give(p, ackNothing)
		return nil
	}
	s := c.session
	s.mu.Lock()
	known := c.received1
	if p.QoS == 2 {
		known = s.received2
	}
	r := known[p.PacketID]
	if r != nil {
		c.seenAgain(r)
		s.mu.Unlock()
		c.nudge()
		return nil
	}
	if c.version == wire.V5 && c.receiving >= c.recvMax {
		s.mu.Unlock()
		return errClientWindow
	}
	c.receiving++
	r = &clientReceipt{id: p.PacketID, qos: p.QoS, on: c}
	known[p.PacketID] = r
	if p.QoS == 2 {
		s.order2 = append(s.order2, r)
	} else {
		c.order1 = append(c.order1, r)
	}
	s.mu.Unlock()
	c.give(p, func(ok bool) { c.answer(r, ok) })
	return nil
}

// seenAgain is a packet that was sent again: it joins what is known of it and is never given to the caller twice
// [MQTT-4.3.3-10].
func (c *Client) seenAgain(r *clientReceipt) {
	if r.on != c {
		r.on = c
		c.receiving++
	}
	if r.qos == 2 && r.answered && !c.waits(r) {
		c.ctrl = wire.AppendAck(c.ctrl, c.version, wire.PUBREC, r.id, wire.Success, "")
	}
}

// waits says whether the answer to r is held back by an older one.
func (c *Client) waits(r *clientReceipt) bool {
	for _, o := range c.session.order2 {
		if o == r {
			return true
		}
	}
	return false
}

func (c *Client) give(p *wire.Publish, ack func(bool)) {
	if c.handle == nil {
		ack(true)
		return
	}
	c.busy.Store(true)
	c.handle(p, ack)
	c.lastRecv.Store(int64(c.clock())) // the time in the caller's code does not count as silence of the server
	c.busy.Store(false)
}

// answer is the caller's word on what it was given. It is bound to the session, not to the connection: for QoS 2 it
// counts on the next one, too.
func (c *Client) answer(r *clientReceipt, ok bool) {
	s := c.session
	s.mu.Lock()
	if r.answered {
		s.mu.Unlock()
		return
	}
	r.answered, r.ok = true, ok
	if r.qos == 1 {
		c.order1 = c.flush(c.order1)
	} else {
		s.order2 = c.flush(s.order2)
	}
	cur := s.cur
	s.mu.Unlock()
	if cur != nil {
		cur.nudge()
	}
}

// flush sends the answers that no older one holds back [MQTT-4.6.0-2, -3].
func (c *Client) flush(order []*clientReceipt) []*clientReceipt {
	n := 0
	for n < len(order) && order[n].answered {
		c.tell(order[n])
		n++
	}
	rest := copy(order, order[n:])
	clear(order[rest:])
	return order[:rest]
}

// tell sends PUBACK or PUBREC where the connection that r came on still lives.
func (c *Client) tell(r *clientReceipt) {
	s := c.session
	kind, known := wire.PUBACK, c.received1
	if r.qos == 2 {
		kind, known = wire.PUBREC, s.received2
	}
	if known[r.id] != r {
		return // the server has lost the session that r belonged to
	}
	reason := wire.Success
	if !r.ok {
		reason = wire.UnspecifiedError
	}
	withheld := !r.ok && c.version != wire.V5
	finished := r.qos == 1 || !r.ok // a QoS 2 packet that was taken is remembered until PUBREL
	if finished {
		delete(known, r.id)
	}
	if live := s.cur; live != nil && live == r.on && !withheld {
		if finished {
			live.receiving--
		}
		live.ctrl = wire.AppendAck(live.ctrl, live.version, kind, r.id, reason, "")
	}
}

// released takes a PUBREL: the identifier may be used anew [MQTT-4.3.3-9].
func (c *Client) released(a *wire.Ack) {
	s := c.session
	s.mu.Lock()
	reason := wire.Success
	if r := s.received2[a.PacketID]; r != nil && r.answered {
		delete(s.received2, a.PacketID)
		if r.on == c {
			c.receiving--
		}
	} else if c.version == wire.V5 {
		reason = wire.PacketIDNotFound
	}
	c.ctrl = wire.AppendAck(c.ctrl, c.version, wire.PUBCOMP, a.PacketID, reason, "")
	s.mu.Unlock()
	c.nudge()
}
