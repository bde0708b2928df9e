package mqtt

import (
	"context"
	"errors"
	"fmt"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// clientCall is a SUBSCRIBE or UNSUBSCRIBE that waits for its answer. Guarded by the session's mu.
type clientCall struct {
	kind   wire.Kind
	count  int
	answer chan []wire.Reason // holds one
}

var (
	errClientNoFilters = errors.New("no topic filter")
	errClientNoID      = errors.New("all packet identifiers are in use")
	errClientFilter    = errors.New("not a topic filter")
)

// Subscribe asks for events under the filters and returns what the server granted, one code for each: up to 2 is the
// QoS, from 0x80 on a refusal, which is not an error. Not from within OnPublish, which it would wait for.
func (c *Client) Subscribe(ctx context.Context, filters ...wire.Filter) ([]wire.Reason, error) {
	names := make([]string, len(filters))
	for i := range filters {
		names[i] = filters[i].Filter
	}
	return c.call(ctx, wire.SUBSCRIBE, names, func(dst []byte, id uint16) []byte {
		return wire.AppendSubscribe(dst, c.version, id, 0, filters)
	})
}

// Unsubscribe ends subscriptions. MQTT 3.x tells no codes: they are all Success there. Not from within OnPublish.
func (c *Client) Unsubscribe(ctx context.Context, filters ...string) ([]wire.Reason, error) {
	return c.call(ctx, wire.UNSUBSCRIBE, filters, func(dst []byte, id uint16) []byte {
		return wire.AppendUnsubscribe(dst, c.version, id, filters)
	})
}

func (c *Client) call(ctx context.Context, k wire.Kind, filters []string, packet func([]byte, uint16) []byte) ([]wire.Reason, error) {
	codes, err := c.ask(ctx, k, filters, packet)
	if err != nil {
		return nil, fmt.Errorf("%v to %s: %w", k, c.server.Address, err)
	}
	return codes, nil
}

func (c *Client) ask(ctx context.Context, k wire.Kind, filters []string, packet func([]byte, uint16) []byte) ([]wire.Reason, error) {
	if len(filters) == 0 {
		return nil, errClientNoFilters
	}
	for _, f := range filters {
		if _, _, _, ok := event.SplitShared([]byte(f)); !ok {
			return nil, fmt.Errorf("%w: %q", errClientFilter, f)
		}
	}
	call := &clientCall{kind: k, count: len(filters), answer: make(chan []wire.Reason, 1)}
	s := c.session
	s.mu.Lock()
	if c.closing {
		defer s.mu.Unlock()
		return nil, c.err
	}
	id := s.newID(c)
	if id == 0 {
		s.mu.Unlock()
		return nil, errClientNoID
	}
	p := packet(nil, id)
	if len(p) == 0 || c.server.MaxPacket != 0 && uint32(len(p)) > c.server.MaxPacket {
		s.mu.Unlock()
		return nil, errClientMaxPacket
	}
	c.calls[id] = call // stays until the answer, even when nobody waits for it any more: the identifier is in use
	c.ctrl = append(c.ctrl, p...)
	s.mu.Unlock()
	c.nudge()
	select {
	case codes := <-call.answer:
		return codes, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.stop:
		return nil, c.Err()
	}
}

// answered takes SUBACK and UNSUBACK.
func (c *Client) answered(k wire.Kind, a *wire.Suback) *wire.Error {
	s := c.session
	s.mu.Lock()
	call := c.calls[a.PacketID]
	want := wire.SUBSCRIBE
	if k == wire.UNSUBACK {
		want = wire.UNSUBSCRIBE
	}
	if call == nil || call.kind != want {
		s.mu.Unlock()
		c.ignored("unknown packet identifier", k)
		return nil
	}
	delete(c.calls, a.PacketID)
	s.mu.Unlock()
	codes := make([]wire.Reason, call.count) // Success where MQTT 3.x tells nothing
	if k == wire.SUBACK || c.version == wire.V5 {
		if len(a.Codes) != call.count {
			return errClientCodes
		}
		for i, b := range a.Codes {
			codes[i] = wire.Reason(b)
		}
	}
	call.answer <- codes
	return nil
}
