// Package wire turns bytes into MQTT packets and packets into bytes, for MQTT 3.1 (MQIsdp), 3.1.1 and 5. It is pure:
// no I/O, clock, goroutine or state of a session. Decoding is zero copy, the slices of a packet point into the bytes
// that were given; everything that the specifications let one packet alone decide is validated here, so that who holds
// a decoded packet need not look at its bytes again. Section numbers are those of the OASIS standard of MQTT 5 unless
// they say 3.1.1.
//
// A peer's bytes take this way: Next splits a packet off, CheckFlags (or CheckFlagsOf, once the version is known)
// looks at its first byte, the Decoder's method of its Kind reads the body.
//
// # Concurrency
//
// A Decoder is owned by its loop (or by the one goroutine that reads); what it returns is valid until its next call and
// as long as the bytes it was given. The Append functions have no state and are safe for concurrent use.
package wire

import "strconv"

// Version is the protocol level that a CONNECT names.
type Version byte

// The versions.
const (
	V31  Version = 3
	V311 Version = 4
	V5   Version = 5
)

// String is the version as people write it.
func (v Version) String() string {
	switch v {
	case V31:
		return "3.1"
	case V311:
		return "3.1.1"
	case V5:
		return "5"
	}
	return "level " + strconv.Itoa(int(v))
}

// Kind is the type of a packet: the upper half of its first byte (section 2.1.2).
type Kind byte

// The packet types.
const (
	CONNECT     Kind = 1
	CONNACK     Kind = 2
	PUBLISH     Kind = 3
	PUBACK      Kind = 4
	PUBREC      Kind = 5
	PUBREL      Kind = 6
	PUBCOMP     Kind = 7
	SUBSCRIBE   Kind = 8
	SUBACK      Kind = 9
	UNSUBSCRIBE Kind = 10
	UNSUBACK    Kind = 11
	PINGREQ     Kind = 12
	PINGRESP    Kind = 13
	DISCONNECT  Kind = 14
	AUTH        Kind = 15
)

var kindNames = [16]string{
	"reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK",
	"UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
}

// KindOf returns the type of the packet that begins with first.
func KindOf(first byte) Kind { return Kind(first >> 4) }

// String is the name of the packet type in the specification.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// FromClient says whether a client may send packets of this type in version v.
func (k Kind) FromClient(v Version) bool {
	switch k {
	case CONNECT, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT:
		return true
	case AUTH:
		return v == V5
	case CONNACK, SUBACK, UNSUBACK, PINGRESP:
	}
	return false
}

// FromServer says whether a server may send packets of this type in version v.
func (k Kind) FromServer(v Version) bool {
	switch k {
	case CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, PINGRESP:
		return true
	case AUTH, DISCONNECT:
		return v == V5
	case CONNECT, SUBSCRIBE, UNSUBSCRIBE, PINGREQ:
	}
	return false
}

// Error is why bytes are refused. All values are static: refusing allocates nothing. Code is what MQTT 5 tells the
// peer; Text is for the log and may be told, too.
type Error struct {
	Code Reason
	Text string
}

// Error is the text.
func (e *Error) Error() string { return e.Text }

// MaxRemaining is the largest Remaining Length (section 2.1.4); MaxPacket the largest packet, fixed header included.
const (
	MaxRemaining = 268_435_455
	MaxPacket    = MaxRemaining + 5
)

// What Next, CheckFlags and CheckEmpty refuse.
var (
	ErrTooLarge = &Error{PacketTooLarge, "packet larger than allowed"}
	ErrLength   = &Error{MalformedPacket, "remaining length longer than four bytes"}
	ErrOverlong = &Error{MalformedPacket, "remaining length longer than it need be"}
	ErrFlags    = &Error{MalformedPacket, "reserved flags of the fixed header set"}
	ErrKind     = &Error{ProtocolError, "packet type not allowed here"}
	ErrNotEmpty = &Error{MalformedPacket, "packet has a body where none is allowed"}
	errQoS3     = &Error{MalformedPacket, "quality of service 3"}
	errDupQoS0  = &Error{MalformedPacket, "dup set with quality of service 0"}
)

// Next splits the first packet off b. body points into b; n is the size of the whole packet, and n == 0 without an
// error means that b does not hold all of it yet. limit bounds the whole packet, fixed header included (section
// 3.1.2.11.4); 0 stands for the protocol's own bound. A packet is refused as soon as its announced length is known, so
// nobody has to reserve memory for it.
func Next(b []byte, limit uint32) (first byte, body []byte, n int, err error) {
	if len(b) < 2 {
		return 0, nil, 0, nil
	}
	length, head := uint32(b[1]&0x7f), 2
	for c := b[1]; c >= 0x80; head++ {
		if head == 5 {
			return b[0], nil, 0, ErrLength
		}
		if head == len(b) {
			return 0, nil, 0, nil
		}
		c = b[head]
		length |= uint32(c&0x7f) << (7 * (head - 1))
	}
	n = head + int(length)
	if limit != 0 && uint32(n) > limit {
		return b[0], nil, 0, ErrTooLarge
	}
	if len(b) < n {
		return 0, nil, 0, nil
	}
	return b[0], b[head:n:n], n, nil
}

// Overlong says whether the Remaining Length of a packet that Next split off is encoded in more bytes than it need be. MQTT 5
// forbids that [MQTT-1.5.5-1]; 3.x does not, and there are devices that reserve room for it.
func Overlong(packet, body []byte) bool {
	head := len(packet) - len(body)
	return head > 2 && packet[head-1] == 0
}

// CheckFlags looks at the first byte of a packet: the type, its reserved flags (section 2.1.3; 3.1.1 section 2.2.2),
// and in PUBLISH the QoS and DUP [MQTT-3.3.1-2, -4].
func CheckFlags(first byte) error {
	flags := first & 0x0f
	switch KindOf(first) {
	case PUBLISH:
		switch flags & 0x0e {
		case 0x06, 0x0e:
			return errQoS3
		case 0x08:
			return errDupQoS0
		}
		return nil
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
		if flags != 2 {
			return ErrFlags
		}
		return nil
	case CONNECT, CONNACK, PUBACK, PUBREC, PUBCOMP, SUBACK, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH:
		if flags != 0 {
			return ErrFlags
		}
		return nil
	}
	return ErrKind
}

// CheckFlagsOf is CheckFlags for a known version. MQTT 3.1 (section 2.1) has QoS and DUP in the header of every packet
// and calls them unused where they have no meaning, so they are ignored there; AUTH exists in MQTT 5 only. The flags of
// a CONNECT can be judged only after Decoder.Connect has told its version.
func CheckFlagsOf(v Version, first byte) error {
	k := KindOf(first)
	if v == V31 && k != PUBLISH && k != 0 && k != AUTH {
		return nil
	}
	if v != V5 && k == AUTH {
		return ErrKind
	}
	return CheckFlags(first)
}

// CheckEmpty refuses a body: PINGREQ and PINGRESP have none (sections 3.12, 3.13).
func CheckEmpty(body []byte) error {
	if len(body) != 0 {
		return ErrNotEmpty
	}
	return nil
}
