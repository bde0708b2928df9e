package wire

import "errors"

// SignalOption is the number of an option of a signalling message (RFC 8323, section 5): each code has numbers of its own.
type SignalOption = uint16

// The options of signals.
const (
	CSMMaxMessageSize  SignalOption = 2 // in a CSM: the longest message that its sender takes
	CSMBlockWise       SignalOption = 4 // in a CSM: its sender does block-wise transfers, with BERT where messages may be longer than 1,152 bytes
	PingCustody        SignalOption = 2 // in a ping or pong: answered when what came before it is dealt with
	ReleaseAlternative SignalOption = 2 // in a release: another address
	ReleaseHoldOff     SignalOption = 4 // in a release: seconds to wait before connecting again
	AbortBadCSMOption  SignalOption = 2 // in an abort: the option of the CSM that was not understood
)

// DefaultMaxMessage is the longest message that a peer takes before its CSM says otherwise, in bytes (RFC 8323, section
// 5.3.1).
const DefaultMaxMessage = 1152

// From which length on the length has 1, 2 and 4 bytes of its own (RFC 8323, section 3.2).
const (
	extendedLength13 = 13
	extendedLength14 = 269
	extendedLength15 = 65805
)

// Next reads the first message of a stream (RFC 8323, section 3.2). n is how many bytes it took; 0 without an error means
// that it is not complete yet. max bounds what follows the length, in bytes: options, marker and payload; a longer message
// is ErrSize as soon as its length is read, with the code and the token set as far as they have come. m.Type and m.ID mean
// nothing.
func Next(b []byte, max int, m *Message) (n int, err error) {
	m.Reset()
	if len(b) == 0 {
		return 0, nil
	}
	length, head, ok := frameLength(b)
	if !ok {
		return 0, nil
	}
	if length > max {
		return 0, ErrSize
	}
	if len(b) <= head {
		return 0, nil
	}
	m.Code = Code(b[head])
	head++
	token, ext, err := tokenLength(b[head:], b[0]&15)
	switch {
	case errors.Is(err, ErrShort):
		return 0, nil
	case err != nil:
		return 0, err
	case len(b) < head+ext+token+length:
		return 0, nil
	}
	n = head + ext + token + length
	if err := m.body(b[head:n:n], b[0]&15); err != nil {
		return n, err
	}
	return n, nil
}

// frameLength reads the length of options, marker and payload; head is where the code is.
func frameLength(b []byte) (length, head int, ok bool) {
	var base int
	switch b[0] >> 4 {
	case 13:
		base, head = extendedLength13, 2
	case 14:
		base, head = extendedLength14, 3
	case 15:
		base, head = extendedLength15, 5
	default:
		return int(b[0] >> 4), 1, true
	}
	if len(b) < head {
		return 0, 0, false
	}
	v := 0
	for _, c := range b[1:head] {
		v = v<<8 | int(c)
	}
	return v + base, head, true
}

// AppendFrame appends the message as a frame of a stream (RFC 8323, section 3.2).
func AppendFrame(dst []byte, m *Message) []byte {
	length := len(m.Options)
	if len(m.Payload) > 0 {
		length += 1 + len(m.Payload)
	}
	tkl, ext, n := tokenHeader(len(m.Token))
	switch {
	case length < extendedLength13:
		dst = append(dst, byte(length)<<4|tkl)
	case length < extendedLength14:
		dst = append(dst, 13<<4|tkl, byte(length-extendedLength13))
	case length < extendedLength15:
		v := length - extendedLength14
		dst = append(dst, 14<<4|tkl, byte(v>>8), byte(v))
	default:
		v := uint32(length - extendedLength15)
		dst = append(dst, 15<<4|tkl, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	dst = append(dst, byte(m.Code))
	dst = append(dst, ext[:n]...)
	return appendBody(dst, m)
}
