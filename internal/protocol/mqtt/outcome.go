package mqtt

import (
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// threeX is what an MQTT 3.x publisher sees of an outcome: it has no negative acknowledgement.
type threeX uint8

const (
	ack3   threeX = iota // PUBACK, PUBREC
	rule3                // of a policy: as the listener's on_reject says; of a delivery: see machine.Answer
	close3               // the connection is closed without an acknowledgement: the client sends it again
)

// row is one outcome on the wire.
type row struct {
	v5 wire.Reason // in PUBACK and PUBREC
	v3 threeX
	// ends says that an MQTT 5 client is disconnected with the reason, in place of an acknowledgement
	ends bool
}

// Outcomes is the table Outcome -> MQTT (docs: one event, every protocol).
var Outcomes = [event.NumOutcomes]row{
	event.Accepted:      {v5: wire.Success},
	event.NoMatch:       {v5: wire.NoMatchingSubscribers},
	event.Unauthorized:  {v5: wire.NotAuthorized, v3: rule3},
	event.BadTopic:      {v5: wire.TopicNameInvalid, v3: rule3},
	event.BadPayload:    {v5: wire.PayloadFormatInvalid, v3: rule3},
	event.TooLarge:      {v5: wire.PacketTooLarge, v3: close3, ends: true},
	event.Throttled:     {v5: wire.QuotaExceeded, v3: rule3},
	event.Released:      {v5: wire.QuotaExceeded, v3: close3},
	event.Modified:      {v5: wire.ImplementationSpecific, v3: close3},
	event.Unavailable:   {v5: wire.ImplementationSpecific, v3: close3},
	event.Timeout:       {v5: wire.ImplementationSpecific, v3: close3},
	event.Indeterminate: {v5: wire.ImplementationSpecific, v3: close3},
	event.Internal:      {v5: wire.UnspecifiedError, v3: close3},
}
