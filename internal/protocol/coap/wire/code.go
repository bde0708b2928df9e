package wire

import "fmt"

// Code is the class (3 bits) and detail (5 bits) of a message (RFC 7252, section 12.1).
type Code uint8

// The codes of requests, responses and signals that have a meaning here.
const (
	Empty Code = 0

	GET    Code = 0<<5 | 1
	POST   Code = 0<<5 | 2
	PUT    Code = 0<<5 | 3
	DELETE Code = 0<<5 | 4
	FETCH  Code = 0<<5 | 5 // RFC 8132
	PATCH  Code = 0<<5 | 6 // RFC 8132
	IPATCH Code = 0<<5 | 7 // RFC 8132

	Created  Code = 2<<5 | 1
	Deleted  Code = 2<<5 | 2
	Valid    Code = 2<<5 | 3
	Changed  Code = 2<<5 | 4
	Content  Code = 2<<5 | 5
	Continue Code = 2<<5 | 31 // RFC 7959

	BadRequest               Code = 4 << 5
	Unauthorized             Code = 4<<5 | 1
	BadOption                Code = 4<<5 | 2
	Forbidden                Code = 4<<5 | 3
	NotFound                 Code = 4<<5 | 4
	MethodNotAllowed         Code = 4<<5 | 5
	NotAcceptable            Code = 4<<5 | 6
	RequestEntityIncomplete  Code = 4<<5 | 8 // RFC 7959
	Conflict                 Code = 4<<5 | 9 // RFC 8132
	PreconditionFailed       Code = 4<<5 | 12
	RequestEntityTooLarge    Code = 4<<5 | 13
	UnsupportedContentFormat Code = 4<<5 | 15
	TooManyRequests          Code = 4<<5 | 29 // RFC 8516

	InternalServerError  Code = 5 << 5
	NotImplemented       Code = 5<<5 | 1
	BadGateway           Code = 5<<5 | 2
	ServiceUnavailable   Code = 5<<5 | 3
	GatewayTimeout       Code = 5<<5 | 4
	ProxyingNotSupported Code = 5<<5 | 5
	HopLimitReached      Code = 5<<5 | 8 // RFC 8768

	CSM     Code = 7<<5 | 1 // RFC 8323, section 5
	Ping    Code = 7<<5 | 2
	Pong    Code = 7<<5 | 3
	Release Code = 7<<5 | 4
	Abort   Code = 7<<5 | 5
)

// Class is the first digit of a code.
func (c Code) Class() uint8 { return uint8(c) >> 5 }

// Detail is what follows the dot.
func (c Code) Detail() uint8 { return uint8(c) & 31 }

// IsRequest says whether the code is a method, known or not.
func (c Code) IsRequest() bool { return c.Class() == 0 && c != Empty }

// IsResponse says whether the code is of one of the three classes of responses.
func (c Code) IsResponse() bool { return c.Class() == 2 || c.Class() == 4 || c.Class() == 5 }

// IsSignal says whether the code is a signalling message (RFC 8323, section 5).
func (c Code) IsSignal() bool { return c.Class() == 7 }

// String is the code as people write it: 2.05.
func (c Code) String() string { return fmt.Sprintf("%d.%02d", c.Class(), c.Detail()) }
