package mqtt

import (
	"errors"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/pool"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// ViaHeader is the user property that names a node which an event passed. It comes once for each node, in their order.
const ViaHeader = "windrose-via"

// maxHops bounds how many nodes an event may pass.
const maxHops = 16

// passed says whether an event has been here, or everywhere.
func passed(meta []byte, node string) bool {
	hops := 0
	for {
		it, rest, ok := event.NextMeta(meta)
		if !ok {
			return hops >= maxHops
		}
		meta = rest
		if it.ID != event.MetaHeader || string(it.Key) != ViaHeader {
			continue
		}
		if hops++; string(it.Value) == node {
			return true
		}
	}
}

// pass returns the event with this node among those that it passed; ok is false when it has been here before. Topic and
// payload are shared with ev.
func (b *Bridge) pass(ev *event.Kept) (out *event.Kept, ok bool) {
	if passed(ev.Meta, b.node) {
		return nil, false
	}
	out = &event.Kept{Event: ev.Event}
	meta := make([]byte, len(ev.Meta), len(ev.Meta)+len(ViaHeader)+len(b.node)+5)
	copy(meta, ev.Meta)
	out.Meta, _ = event.AppendHeader(meta, ViaHeader, b.node) // a node's name is short
	out.Changed()
	return out, true
}

// reasonOutcome is one row of the table reason code -> outcome.
type reasonOutcome struct {
	outcome event.Outcome
	retry   bool
}

// bridgeOutcomes is what the answer of a broker to a PUBLISH says about the event (section 3.4.2.1). Codes without a row
// may not come; they count as not available and are tried again.
var bridgeOutcomes = map[wire.Reason]reasonOutcome{
	wire.Success:               {outcome: event.Accepted},
	wire.NoMatchingSubscribers: {outcome: event.NoMatch},
	wire.NotAuthorized:         {outcome: event.Unauthorized},
	wire.TopicNameInvalid:      {outcome: event.BadTopic},
	wire.PayloadFormatInvalid:  {outcome: event.BadPayload},
	wire.RetainNotSupported:    {outcome: event.BadPayload},
	wire.QoSNotSupported:       {outcome: event.BadPayload},
	wire.PacketTooLarge:        {outcome: event.TooLarge},
	wire.QuotaExceeded:         {outcome: event.Throttled, retry: true},
	wire.MessageRateTooHigh:    {outcome: event.Throttled, retry: true},
}

// bridgeResult is the result of an attempt. asked is the quality of service of the event itself: what promises nothing is not
// sent again once it may have been sent.
func bridgeResult(r wire.Reason, err error, asked event.QoS) pool.Result {
	row, known := bridgeOutcomes[r]
	if !known {
		row = reasonOutcome{event.Unavailable, true}
	}
	res := pool.Result{Outcome: row.outcome, Retry: row.retry, Err: err}
	var refused *ReasonError
	switch {
	case err == nil || errors.As(err, &refused):
	case errors.Is(err, ErrExpired):
		res.Outcome, res.Retry = event.Timeout, true // the pool looks at the time itself
	case r == wire.ServerUnavailable: // the connection ended
		res.Retry, res.Down = asked > event.AtMostOnce, true
	}
	return res
}
