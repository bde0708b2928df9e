package wire

import "encoding/binary"

// maxString is the longest string or binary that a packet can hold.
const maxString = 0xffff

func appendUint16(dst []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(dst, v) }

func appendUint32(dst []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(dst, v) }

// appendBytes appends a string or binary with its length. One that is longer than a packet can hold is cut: callers
// that must not lose bytes check before.
func appendBytes[T ~string | ~[]byte](dst []byte, v T) []byte {
	if len(v) > maxString {
		v = v[:maxString]
	}
	dst = appendUint16(dst, uint16(len(v)))
	return append(dst, v...)
}

func appendPropBytes[T ~string | ~[]byte](dst []byte, id byte, v T) []byte {
	return appendBytes(append(dst, id), v)
}

func appendProp32(dst []byte, id byte, v uint32) []byte { return appendUint32(append(dst, id), v) }

func appendProp16(dst []byte, id byte, v uint16) []byte { return appendUint16(append(dst, id), v) }

// frame writes packets whose length is known only once they are written: it leaves the longest head free and closes
// the gap at the end. For all packets but PUBLISH and the acknowledgements, which are few and short.
type frame struct{ start int }

const headRoom = 5

func beginFrame(dst []byte, first byte) (frame, []byte) {
	return frame{len(dst)}, append(dst, first, 0, 0, 0, 0)
}

// end closes the gap. A packet over MaxPacket is taken back.
func (f frame) end(dst []byte) []byte {
	body := len(dst) - f.start - headRoom
	if body > MaxRemaining {
		return dst[:f.start]
	}
	k := varintSize(body)
	copy(dst[f.start+1+k:], dst[f.start+headRoom:])
	appendVarint(dst[f.start+1:f.start+1], body)
	return dst[:f.start+1+k+body]
}

// beginProps leaves room for the length of a block of properties, endProps writes it.
func beginProps(dst []byte) (int, []byte) { return len(dst), append(dst, 0, 0, 0, 0) }

func endProps(dst []byte, start int) []byte {
	body := len(dst) - start - 4
	k := varintSize(body)
	copy(dst[start+k:], dst[start+4:])
	appendVarint(dst[start:start], body)
	return dst[:start+k+body]
}

func boolBit(b bool, bit byte) byte {
	if b {
		return bit
	}
	return 0
}

// AppendPingreq appends a PINGREQ (section 3.12).
func AppendPingreq(dst []byte) []byte { return append(dst, byte(PINGREQ)<<4, 0) }

// AppendPingresp appends a PINGRESP (section 3.13).
func AppendPingresp(dst []byte) []byte { return append(dst, byte(PINGRESP)<<4, 0) }
