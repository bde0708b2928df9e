package event

import "encoding/binary"

// Metadata is kept as bytes, validated once where it enters and copied through where it leaves: a sequence of
// (identifier, value) in the encoding of MQTT 5 properties (section 2.2.2) without the leading length, holding only
// the identifiers below. A protocol that does not speak it builds it with the Append functions and reads it with Next.

// The identifiers that Meta may hold.
const (
	MetaPayloadFormat = 0x01 // one byte, 1: the payload is UTF-8 text
	MetaContentType   = 0x03 // string
	MetaReplyTo       = 0x08 // string: MQTT Response Topic
	MetaCorrelation   = 0x09 // bytes
	MetaHeader        = 0x26 // string pair: user property, header
)

// Item is one entry of Meta; its slices point into it.
type Item struct {
	ID    byte
	Byte  byte   // MetaPayloadFormat
	Key   []byte // MetaHeader
	Value []byte // all others
}

// NextMeta splits the first item off meta. ok is false at the end of meta or where it is malformed.
func NextMeta(meta []byte) (it Item, rest []byte, ok bool) {
	if len(meta) < 2 {
		return it, nil, false
	}
	it.ID = meta[0]
	b := meta[1:]
	switch it.ID {
	case MetaPayloadFormat:
		it.Byte = b[0]
		return it, b[1:], true
	case MetaHeader:
		if it.Key, b, ok = metaBytes(b); !ok {
			return it, nil, false
		}
	case MetaContentType, MetaReplyTo, MetaCorrelation:
	default:
		return it, nil, false
	}
	it.Value, b, ok = metaBytes(b)
	return it, b, ok
}

func metaBytes(b []byte) (v, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

// AppendMetaByte appends MetaPayloadFormat.
func AppendMetaByte(meta []byte, id, v byte) []byte { return append(meta, id, v) }

// AppendMeta appends a content type, reply-to or correlation. A value over 65,535 bytes is left out and reported by
// ok = false.
func AppendMeta[T ~string | ~[]byte](meta []byte, id byte, v T) (m []byte, ok bool) {
	if len(v) > 0xffff {
		return meta, false
	}
	meta = append(meta, id, byte(len(v)>>8), byte(len(v)))
	return append(meta, v...), true
}

// AppendHeader appends a header. A key or value over 65,535 bytes is left out and reported by ok = false.
func AppendHeader[T ~string | ~[]byte](meta []byte, k, v T) (m []byte, ok bool) {
	if len(k) > 0xffff || len(v) > 0xffff {
		return meta, false
	}
	meta = append(meta, MetaHeader, byte(len(k)>>8), byte(len(k)))
	meta = append(meta, k...)
	meta = append(meta, byte(len(v)>>8), byte(len(v)))
	return append(meta, v...), true
}

// Header returns the first header of that name, nil when there is none.
func (e *Event) Header(key string) []byte {
	for m := e.Meta; ; {
		it, rest, ok := NextMeta(m)
		if !ok {
			return nil
		}
		if it.ID == MetaHeader && string(it.Key) == key {
			return it.Value
		}
		m = rest
	}
}

// MetaValue returns the value of a content type, reply-to or correlation; nil when there is none.
func (e *Event) MetaValue(id byte) []byte {
	for m := e.Meta; ; {
		it, rest, ok := NextMeta(m)
		if !ok {
			return nil
		}
		if it.ID == id {
			return it.Value
		}
		m = rest
	}
}
