package coap

import (
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/coap/wire"
)

// row is one outcome on the wire.
type row struct {
	code   wire.Code
	maxAge uint32 // seconds after which the request may be repeated (RFC 8516, section 3; RFC 7252, section 5.9.3.4); 0: not said
	size1  bool   // the answer says how large a body may be (RFC 7252, section 5.9.2.9)
}

// retryAfter is when a request that found no room may be repeated, in seconds.
const retryAfter = 1

// Outcomes is the table Outcome -> CoAP (docs: one event, every protocol).
var Outcomes = [event.NumOutcomes]row{
	event.Accepted:      {code: wire.Changed},
	event.NoMatch:       {code: wire.Changed},
	event.Unauthorized:  {code: wire.Forbidden},
	event.BadTopic:      {code: wire.BadRequest},
	event.BadPayload:    {code: wire.BadRequest},
	event.TooLarge:      {code: wire.RequestEntityTooLarge, size1: true},
	event.Throttled:     {code: wire.TooManyRequests, maxAge: retryAfter},
	event.Released:      {code: wire.ServiceUnavailable, maxAge: retryAfter},
	event.Modified:      {code: wire.ServiceUnavailable, maxAge: retryAfter},
	event.Unavailable:   {code: wire.ServiceUnavailable, maxAge: retryAfter},
	event.Timeout:       {code: wire.GatewayTimeout},
	event.Indeterminate: {code: wire.GatewayTimeout},
	event.Internal:      {code: wire.InternalServerError},
}
