package mqtt

import (
	"errors"
	"fmt"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// Why a publish was not sent. The done function gets them with the code of the same meaning.
var (
	ErrExpired         = errors.New("event expired before it was sent")
	errClientQoS       = errors.New("no such quality of service")
	errClientMaxQoS    = errors.New("server does not take this quality of service")
	errClientNoRetain  = errors.New("server does not retain")
	errClientMaxPacket = errors.New("larger than the server takes")
)

// Publish sends ev under topic, ev.Topic when nil. It waits while QueueMax publishes are without an answer, and no
// longer than the connection lives; within Window it never waits. ev and topic must not change until done is called.
//
// done is called exactly once: err is nil when the server has taken the event (QoS 0: when it was written), and reason
// is what it said. Otherwise err says why not; a refusal of the server is a *ReasonError. When the connection ends
// before the answer, done is called with ErrClosed or what ended it; with a ClientSession QoS 1 and 2 wait for the next
// connection instead. done runs on a goroutine of the connection, or on the caller's before Publish returns, and must
// not block. It may be nil.
func (c *Client) Publish(ev *event.Kept, qos byte, retain bool, topic []byte, done func(reason wire.Reason, err error)) {
	c.publish(&clientFlight{ev: ev, topic: topic, qos: qos, retain: retain, done: done}, true)
}

// TryPublish is Publish that does not wait: where that would, it returns false and done is not called.
func (c *Client) TryPublish(ev *event.Kept, qos byte, retain bool, topic []byte, done func(reason wire.Reason, err error)) bool {
	return c.publish(&clientFlight{ev: ev, topic: topic, qos: qos, retain: retain, done: done}, false)
}

func (c *Client) publish(f *clientFlight, wait bool) bool {
	if f.topic == nil {
		f.topic = f.ev.Topic
	}
	if f.qos > 2 {
		c.unsendable(f, wire.QoSNotSupported, errClientQoS)
		return true
	}
	if err := event.CheckTopic(f.topic); err != nil {
		c.unsendable(f, wire.TopicNameInvalid, err)
		return true
	}
	s := c.session
	s.mu.Lock()
	for !c.closing && s.count+len(c.queue0) >= c.queueMax {
		if !wait {
			s.mu.Unlock()
			return false
		}
		s.room.Wait()
	}
	if c.closing {
		err := c.err
		s.mu.Unlock()
		c.unsendable(f, wire.ServerUnavailable, err)
		return true
	}
	if f.qos == 0 {
		c.queue0 = append(c.queue0, f)
	} else {
		s.push(f)
		if c.unsent == nil {
			c.unsent = f
		}
	}
	s.mu.Unlock()
	c.nudge()
	return true
}

func (c *Client) unsendable(f *clientFlight, r wire.Reason, err error) {
	if f.done != nil {
		f.done(r, fmt.Errorf("publish to %s: %w", c.server.Address, err))
	}
}

// appendFlights begins exchanges as far as window and batch allow. Called by the writer with the lock.
func (c *Client) appendFlights(buf []byte) []byte {
	now := time.Now().UnixNano()
	for c.unsent != nil && c.open < c.window && len(buf) < clientBatch {
		f := c.unsent
		c.unsent = f.next
		if f.on == c { // a PUBREL that was sent when the session was resumed
			continue
		}
		if f.id == 0 {
			if f.id = c.session.newID(c); f.id == 0 {
				c.unsent = f // all identifiers are in use: an answer will free one
				return buf
			}
			c.session.flights[f.id] = f
		}
		packet, r, err := c.appendFlight(buf, f, now)
		if err != nil {
			c.session.remove(c, f)
			c.failed = append(c.failed, clientEnd{f.done, r, err})
			continue
		}
		buf = packet
		f.on, f.sent = c, true
		c.open++
	}
	return buf
}

// appendQueue0 takes QoS 0 events off their queue. Called by the writer with the lock.
func (c *Client) appendQueue0(buf []byte) []byte {
	now := time.Now().UnixNano()
	n := 0
	for n < len(c.queue0) && len(buf) < clientBatch {
		f := c.queue0[n]
		n++
		packet, r, err := c.appendFlight(buf, f, now)
		if err != nil {
			c.failed = append(c.failed, clientEnd{f.done, r, err})
			continue
		}
		buf = packet
		c.batch = append(c.batch, f)
	}
	if n == 0 {
		return buf
	}
	rest := copy(c.queue0, c.queue0[n:])
	clear(c.queue0[rest:])
	c.queue0 = c.queue0[:rest]
	c.session.room.Broadcast()
	return buf
}

// appendFlight appends the PUBLISH of f, or says why the server would not take it.
func (c *Client) appendFlight(buf []byte, f *clientFlight, now int64) ([]byte, wire.Reason, error) {
	p := wire.PublishOut{Version: c.version, Topic: f.topic, Payload: f.ev.Payload, Meta: f.ev.Meta, PacketID: f.id,
		QoS: f.qos, Dup: f.sent, Retain: f.retain}
	if f.ev.Expires != 0 {
		left := f.ev.Expires - now
		// An exchange that was begun is finished: the server may have the event already.
		if left <= 0 && !f.sent {
			return buf, wire.UnspecifiedError, c.wrap(ErrExpired)
		}
		p.HasExpiry = true
		const second = int64(time.Second)
		p.Expiry = uint32(min((max(left, 0)+second-1)/second, 1<<32-1))
	}
	switch {
	case f.qos > c.server.MaxQoS:
		return buf, wire.QoSNotSupported, c.wrap(errClientMaxQoS)
	case f.retain && c.server.NoRetain:
		return buf, wire.RetainNotSupported, c.wrap(errClientNoRetain)
	}
	if size := wire.PublishSize(&p); size > wire.MaxPacket || c.server.MaxPacket != 0 && uint32(size) > c.server.MaxPacket {
		return buf, wire.PacketTooLarge, c.wrap(errClientMaxPacket)
	}
	return wire.AppendPublish(buf, &p), wire.Success, nil
}

func (c *Client) wrap(err error) error { return fmt.Errorf("publish to %s: %w", c.server.Address, err) }

// acked takes PUBACK, PUBREC and PUBCOMP (sections 4.3.2, 4.3.3): they answer an exchange or move it on.
func (c *Client) acked(k wire.Kind, a *wire.Ack) *wire.Error {
	s := c.session
	s.mu.Lock()
	f := s.flights[a.PacketID]
	if f == nil || f.on != c {
		if k == wire.PUBREC { // [MQTT-4.3.3-4]: the server may have kept what we have forgotten
			r := wire.Success
			if c.version == wire.V5 {
				r = wire.PacketIDNotFound
			}
			c.ctrl = wire.AppendAck(c.ctrl, c.version, wire.PUBREL, a.PacketID, r, "")
		}
		s.mu.Unlock()
		c.nudge()
		c.ignored("unknown packet identifier", k)
		return nil
	}
	var wrong bool
	switch k {
	case wire.PUBACK:
		wrong = f.qos != 1
	case wire.PUBREC:
		wrong = f.qos != 2
	default:
		wrong = !f.released
	}
	if wrong {
		s.mu.Unlock()
		return errClientAck
	}
	if k == wire.PUBREC && !a.Reason.Failed() {
		f.released = true
		c.ctrl = wire.AppendAck(c.ctrl, c.version, wire.PUBREL, f.id, wire.Success, "")
		s.mu.Unlock()
		c.nudge()
		return nil
	}
	s.remove(c, f)
	s.mu.Unlock()
	c.nudge()
	if f.done == nil {
		return nil
	}
	// PUBCOMP with an unknown identifier still ends an exchange that the server had taken with its PUBREC.
	if a.Reason.Failed() && k != wire.PUBCOMP {
		text := string(a.ReasonString)
		f.done(a.Reason, c.wrap(&ReasonError{What: "refused", Reason: a.Reason, Text: text}))
		return nil
	}
	if k == wire.PUBCOMP {
		a.Reason = wire.Success
	}
	f.done(a.Reason, nil)
	return nil
}
