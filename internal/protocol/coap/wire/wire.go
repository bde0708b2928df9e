// Package wire turns bytes into CoAP messages and back: datagrams (RFC 7252, section 3) and frames on a stream (RFC 8323,
// section 3), with extended tokens (RFC 8974). It has no state, does no I/O and allocates nothing: a parsed Message points
// into the bytes it was parsed from.
//
// Parsing checks the form of the whole message, so that reading its options later cannot fail. What an option means, and
// whether it may stand in this message, is the machine's matter; the registry in option.go says what is known of each.
package wire

import "errors"

// Type is the type of a message on an unreliable transport (RFC 7252, section 3).
type Type uint8

// The four types.
const (
	CON Type = iota // asks for an acknowledgement
	NON             // asks for none
	ACK             // acknowledges a CON, and may carry its response
	RST             // rejects a CON or a NON
)

// String is the name of the type as RFC 7252 writes it.
func (t Type) String() string { return [...]string{"CON", "NON", "ACK", "RST"}[t&3] }

// The limits of what is parsed.
const (
	// MaxToken is the longest token that is taken, in bytes. RFC 8974 allows 65,804; 8 are usual.
	MaxToken = 256
	// MaxOptions bounds the options of one message.
	MaxOptions = 256
	// PayloadMarker stands before a payload (RFC 7252, section 3).
	PayloadMarker = 0xff
	// version is the only version of CoAP (RFC 7252, section 3).
	version = 1
)

// What is wrong with a message. All of them are message format errors of RFC 7252, section 3, except ErrVersion, which
// must be ignored silently, and ErrToken, a length that RFC 8974 allows and this server does not.
var (
	ErrShort   = errors.New("message ends early")
	ErrVersion = errors.New("unknown version")
	ErrToken   = errors.New("token too long")
	ErrEmpty   = errors.New("empty message with a token, options or payload")
	ErrOption  = errors.New("malformed option")
	ErrMarker  = errors.New("payload marker without payload")
	ErrMany    = errors.New("too many options")
	ErrSize    = errors.New("frame too long")
)

// Message is one CoAP message. Token, Payload and the options point into the bytes that Parse was given, or into what the
// caller put there for Append. Owned by its caller.
type Message struct {
	Type    Type   // datagrams only
	Code    Code   //
	ID      uint16 // datagrams only
	Token   []byte
	Options Options
	Payload []byte
}

// Reset forgets everything but keeps nothing either: a Message holds no buffer of its own.
func (m *Message) Reset() { *m = Message{} }

// Parse reads one datagram into m. Where the error is not ErrShort or ErrVersion, the type, the code and the message id
// are set: they are what a reset needs (RFC 7252, section 4.2).
func Parse(b []byte, m *Message) error {
	m.Reset()
	if len(b) < 4 {
		return ErrShort
	}
	if b[0]>>6 != version {
		return ErrVersion
	}
	m.Type = Type(b[0] >> 4 & 3)
	m.Code = Code(b[1])
	m.ID = uint16(b[2])<<8 | uint16(b[3])
	if m.Code == Empty && (b[0]&15 != 0 || len(b) > 4) {
		return ErrEmpty
	}
	return m.body(b[4:], b[0]&15)
}

// body reads the token, the options and the payload.
func (m *Message) body(b []byte, tkl byte) error {
	n, ext, err := tokenLength(b, tkl)
	if err != nil {
		return err
	}
	b = b[ext:]
	if len(b) < n {
		return ErrShort
	}
	m.Token, b = b[:n:n], b[n:]
	end, err := checkOptions(b)
	if err != nil {
		return err
	}
	m.Options = Options(b[:end:end])
	if end == len(b) {
		return nil
	}
	if m.Payload = b[end+1:]; len(m.Payload) == 0 {
		return ErrMarker
	}
	return nil
}

// tokenLength reads an extended token length (RFC 8974, section 2.1): n is the length, ext how many bytes said so.
func tokenLength(b []byte, tkl byte) (n, ext int, err error) {
	switch {
	case tkl <= 12:
		n = int(tkl)
	case tkl == 13 && len(b) >= 1:
		n, ext = int(b[0])+13, 1
	case tkl == 14 && len(b) >= 2:
		n, ext = (int(b[0])<<8|int(b[1]))+269, 2
	case tkl == 15:
		return 0, 0, ErrToken
	default:
		return 0, 0, ErrShort
	}
	if n > MaxToken {
		return 0, 0, ErrToken
	}
	return n, ext, nil
}

// Append appends the datagram to dst. The options must be in the order that AppendOption keeps.
func Append(dst []byte, m *Message) []byte {
	tkl, ext, n := tokenHeader(len(m.Token))
	dst = append(dst, version<<6|byte(m.Type&3)<<4|tkl, byte(m.Code), byte(m.ID>>8), byte(m.ID))
	dst = append(dst, ext[:n]...)
	return appendBody(dst, m)
}

func appendBody(dst []byte, m *Message) []byte {
	dst = append(dst, m.Token...)
	dst = append(dst, m.Options...)
	if len(m.Payload) > 0 {
		dst = append(dst, PayloadMarker)
		dst = append(dst, m.Payload...)
	}
	return dst
}

// tokenHeader is the token length field and its n extension bytes.
func tokenHeader(length int) (tkl byte, ext [2]byte, n int) {
	switch {
	case length <= 12:
		return byte(length), ext, 0
	case length < 269:
		return 13, [2]byte{byte(length - 13)}, 1
	}
	length -= 269
	return 14, [2]byte{byte(length >> 8), byte(length)}, 2
}

// AppendEmpty appends an empty message: an acknowledgement, a reset or a ping (RFC 7252, sections 4.2 and 4.3).
func AppendEmpty(dst []byte, t Type, id uint16) []byte {
	return append(dst, version<<6|byte(t&3)<<4, 0, byte(id>>8), byte(id))
}
