package wire

import (
	"encoding/binary"

	"github.com/windrose-edc/windrose/internal/event"
)

// The identifiers of properties (section 2.2.2.2).
const (
	pPayloadFormat   = 0x01
	pMessageExpiry   = 0x02
	pContentType     = 0x03
	pResponseTopic   = 0x08
	pCorrelation     = 0x09
	pSubID           = 0x0b
	pSessionExpiry   = 0x11
	pAssignedID      = 0x12
	pServerKeepAlive = 0x13
	pAuthMethod      = 0x15
	pAuthData        = 0x16
	pRequestProblem  = 0x17
	pWillDelay       = 0x18
	pRequestResponse = 0x19
	pResponseInfo    = 0x1a
	pServerReference = 0x1c
	pReasonString    = 0x1f
	pReceiveMax      = 0x21
	pTopicAliasMax   = 0x22
	pTopicAlias      = 0x23
	pMaximumQoS      = 0x24
	pRetainAvailable = 0x25
	pUserProperty    = 0x26
	pMaxPacket       = 0x27
	pWildcardAvail   = 0x28
	pSubIDAvail      = 0x29
	pSharedAvail     = 0x2a
)

// propSet is a set of identifiers, all of which are below 64.
type propSet uint64

func (s propSet) has(id byte) bool { return id < 64 && s>>id&1 != 0 }

// Which packet may carry what (table 2-4), and which of it may come more than once.
const (
	metaProps propSet = 1<<pPayloadFormat | 1<<pContentType | 1<<pResponseTopic | 1<<pCorrelation | 1<<pUserProperty

	connectProps propSet = 1<<pSessionExpiry | 1<<pAuthMethod | 1<<pAuthData | 1<<pRequestProblem |
		1<<pRequestResponse | 1<<pReceiveMax | 1<<pTopicAliasMax | 1<<pUserProperty | 1<<pMaxPacket
	willProps    propSet = metaProps | 1<<pMessageExpiry | 1<<pWillDelay
	connackProps propSet = 1<<pSessionExpiry | 1<<pAssignedID | 1<<pServerKeepAlive | 1<<pAuthMethod | 1<<pAuthData |
		1<<pResponseInfo | 1<<pServerReference | 1<<pReasonString | 1<<pReceiveMax | 1<<pTopicAliasMax |
		1<<pMaximumQoS | 1<<pRetainAvailable | 1<<pUserProperty | 1<<pMaxPacket | 1<<pWildcardAvail | 1<<pSubIDAvail |
		1<<pSharedAvail
	publishProps     propSet = metaProps | 1<<pMessageExpiry | 1<<pTopicAlias | 1<<pSubID
	ackProps         propSet = 1<<pReasonString | 1<<pUserProperty
	subscribeProps   propSet = 1<<pSubID | 1<<pUserProperty
	unsubscribeProps propSet = 1 << pUserProperty
	disconnectProps  propSet = 1<<pReasonString | 1<<pUserProperty | 1<<pSessionExpiry | 1<<pServerReference
	authProps        propSet = 1<<pAuthMethod | 1<<pAuthData | 1<<pReasonString | 1<<pUserProperty
)

// The encodings of values (section 1.5).
const (
	encNone = iota
	encBool
	encUint16
	encUint32
	encVarint
	encString
	encBinary
	encPair
)

var propEncoding = [64]byte{
	pPayloadFormat: encBool, pMessageExpiry: encUint32, pContentType: encString, pResponseTopic: encString,
	pCorrelation: encBinary, pSubID: encVarint, pSessionExpiry: encUint32, pAssignedID: encString,
	pServerKeepAlive: encUint16, pAuthMethod: encString, pAuthData: encBinary, pRequestProblem: encBool,
	pWillDelay: encUint32, pRequestResponse: encBool, pResponseInfo: encString, pServerReference: encString,
	pReasonString: encString, pReceiveMax: encUint16, pTopicAliasMax: encUint16, pTopicAlias: encUint16,
	pMaximumQoS: encBool, pRetainAvailable: encBool, pUserProperty: encPair, pMaxPacket: encUint32,
	pWildcardAvail: encBool, pSubIDAvail: encBool, pSharedAvail: encBool,
}

var (
	errPropLength    = &Error{MalformedPacket, "property length wrong"}
	errPropShort     = &Error{MalformedPacket, "property cut short"}
	errPropUnknown   = &Error{MalformedPacket, "unknown property"}
	errPropNot       = &Error{ProtocolError, "property not allowed in this packet"}
	errPropTwice     = &Error{ProtocolError, "property given twice"}
	errPropValue     = &Error{ProtocolError, "property value not allowed"}
	errPropVarint    = &Error{MalformedPacket, "variable byte integer not valid"}
	errPropUTF8      = &Error{MalformedPacket, "property is not valid UTF-8"}
	errAliasZero     = &Error{TopicAliasInvalid, "topic alias 0"}
	errResponseTopic = &Error{ProtocolError, "response topic is not a topic name"}
)

// props walks over a block of properties and validates each. Owned by the decoding call.
type props struct {
	b        []byte // the whole block
	at, next int    // where the current property begins, where the next one does
	allowed  propSet
	seen     propSet
	repeat   propSet // what may come more than once besides user properties
	err      error

	id  byte
	num uint32 // value of a bool, integer
	val []byte // value of a string, binary, pair
}

// splitProps splits a length and a block of properties off b.
func splitProps(b []byte, allowed propSet) (p props, rest []byte, err error) {
	n, k := varint(b)
	if k <= 0 || int(n) > len(b)-k {
		return p, nil, errPropLength
	}
	p.b, p.allowed = b[k:k+int(n)], allowed
	return p, b[k+int(n):], nil
}

// more steps to the next property; false at the end and after an error, which is then in p.err.
func (p *props) more() bool {
	if p.next >= len(p.b) {
		return false
	}
	p.at = p.next
	id := p.b[p.at]
	p.id = id
	if id >= 64 || propEncoding[id] == encNone {
		return p.fail(errPropUnknown)
	}
	if !p.allowed.has(id) {
		return p.fail(errPropNot)
	}
	if p.seen.has(id) && id != pUserProperty && !p.repeat.has(id) {
		return p.fail(errPropTwice)
	}
	p.seen |= 1 << id
	v := p.b[p.at+1:]
	used := 0
	switch propEncoding[id] {
	case encBool:
		if len(v) < 1 {
			return p.fail(errPropShort)
		}
		if v[0] > 1 {
			return p.fail(errPropValue)
		}
		p.num, used = uint32(v[0]), 1
	case encUint16:
		if len(v) < 2 {
			return p.fail(errPropShort)
		}
		p.num, used = uint32(binary.BigEndian.Uint16(v)), 2
		if p.num == 0 && id == pTopicAlias {
			return p.fail(errAliasZero)
		}
		if p.num == 0 && id == pReceiveMax {
			return p.fail(errPropValue)
		}
	case encUint32:
		if len(v) < 4 {
			return p.fail(errPropShort)
		}
		p.num, used = binary.BigEndian.Uint32(v), 4
		if p.num == 0 && id == pMaxPacket {
			return p.fail(errPropValue)
		}
	case encVarint:
		n, k := varint(v)
		if k == 0 {
			return p.fail(errPropShort)
		}
		if k < 0 {
			return p.fail(errPropVarint)
		}
		if n == 0 {
			return p.fail(errPropValue) // a subscription identifier, the only one of its kind
		}
		p.num, used = n, k
	case encString:
		if used = lenPrefixed(v); used == 0 {
			return p.fail(errPropShort)
		}
		p.val = v[2:used:used]
		if id == pResponseTopic {
			if !validTopic(p.val) {
				return p.fail(errResponseTopic)
			}
		} else if !event.ValidUTF8(p.val) {
			return p.fail(errPropUTF8)
		}
	case encBinary:
		if used = lenPrefixed(v); used == 0 {
			return p.fail(errPropShort)
		}
		p.val = v[2:used:used]
	case encPair:
		key := lenPrefixed(v)
		if key == 0 {
			return p.fail(errPropShort)
		}
		value := lenPrefixed(v[key:])
		if value == 0 {
			return p.fail(errPropShort)
		}
		used = key + value
		if !event.ValidUTF8(v[2:key]) || !event.ValidUTF8(v[key+2:used]) {
			return p.fail(errPropUTF8)
		}
	}
	p.next = p.at + 1 + used
	return true
}

func (p *props) fail(err *Error) bool {
	p.err = err
	p.next = len(p.b)
	return false
}

// raw is the current property as it stands in the packet.
func (p *props) raw() []byte { return p.b[p.at:p.next] }

// gather collects properties that are passed on as they are. As long as they lie side by side that is a slice of the
// packet; the first gap makes it a copy in the decoder's scratch. Owned by
// the decoding call.
type gather struct {
	meta   []byte
	from   int // offset of meta in the block
	copied bool
}

func (g *gather) add(d *Decoder, p *props) {
	switch {
	case len(g.meta) == 0:
		g.from, g.meta = p.at, p.raw()
	case g.copied:
		d.scratch = append(d.scratch, p.raw()...)
		g.meta = d.scratch[g.from:]
	case g.from+len(g.meta) == p.at:
		g.meta = p.b[g.from:p.next]
	default:
		from := len(d.scratch)
		d.scratch = append(append(d.scratch, g.meta...), p.raw()...)
		g.from, g.meta, g.copied = from, d.scratch[from:], true
	}
}

// bytes returns what was gathered, with no room to append to.
func (g *gather) bytes() []byte { return g.meta[:len(g.meta):len(g.meta)] }

// lenPrefixed is the size of a string or binary with its length, 0 when b is too short for it.
func lenPrefixed(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	n := 2 + int(binary.BigEndian.Uint16(b))
	if n > len(b) {
		return 0
	}
	return n
}

// varint reads a Variable Byte Integer (section 1.5.5). used is 0 when b is too short and negative when the encoding is
// longer than four bytes or than it need be [MQTT-1.5.5-1].
func varint(b []byte) (n uint32, used int) {
	for i, c := range b {
		if i == 4 {
			return 0, -1
		}
		n |= uint32(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 {
				return 0, -1
			}
			return n, i + 1
		}
	}
	if len(b) >= 4 {
		return 0, -1
	}
	return 0, 0
}

func varintSize(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

func appendVarint(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}
