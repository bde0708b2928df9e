package dtls

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"time"

	"github.com/windrose-edc/windrose/internal/loop"
)

// Content types and sizes of records and handshake messages (RFC 6347, sections 4.1 and 4.2.2).
const (
	typeCCS       = 20
	typeAlert     = 21
	typeHandshake = 22
	typeData      = 23
	typeCID       = 25

	recordHeader    = 13
	handshakeHeader = 12
	helloRequest    = 1 // ClientHello
	helloVerify     = 3
	randomSize      = 32
	cookieSize      = 20 // what the library makes, too
)

// hello is a ClientHello in one fragment. Its slices point into the datagram.
type hello struct {
	recordSeq  uint64
	messageSeq uint16
	body       []byte // of the message
	random     []byte
	cookie     []byte
	cookieAt   int    // in body: where its length stands
	before     []byte // version, random, session id
	after      []byte // cipher suites, compression methods
}

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }
func uint48(b []byte) uint64 {
	return uint64(binary.BigEndian.Uint16(b))<<32 | uint64(binary.BigEndian.Uint32(b[2:]))
}
func putUint48(b []byte, v uint64) {
	binary.BigEndian.PutUint16(b, uint16(v>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(v))
}

// isHello says whether a datagram begins with a plaintext ClientHello.
func isHello(b []byte) bool {
	return len(b) > recordHeader && b[0] == typeHandshake && b[3] == 0 && b[4] == 0 && b[recordHeader] == helloRequest
}

// parseHello reads the first record of a datagram. A ClientHello in fragments is not taken: its cookie could not be checked
// without remembering the fragments (RFC 6347, section 4.2.1, lets a server ask for that).
func parseHello(b []byte) (h hello, ok bool) {
	n := int(binary.BigEndian.Uint16(b[11:]))
	if b[1] != 0xfe || recordHeader+n > len(b) || n < handshakeHeader {
		return h, false
	}
	h.recordSeq = uint48(b[5:])
	m := b[recordHeader : recordHeader+n]
	size := uint24(m[1:])
	h.messageSeq = binary.BigEndian.Uint16(m[4:])
	if uint24(m[6:]) != 0 || uint24(m[9:]) != size || handshakeHeader+size != len(m) {
		return h, false
	}
	h.body = m[handshakeHeader:]
	at := 2 + randomSize
	if len(h.body) < at+1 || h.body[0] != 0xfe {
		return h, false
	}
	h.random = h.body[2:at]
	at += 1 + int(h.body[at]) // session id
	if len(h.body) < at+1 {
		return h, false
	}
	h.before, h.cookieAt = h.body[:at], at
	end := at + 1 + int(h.body[at])
	if len(h.body) < end+2 {
		return h, false
	}
	h.cookie = h.body[at+1 : end]
	at = end + 2 + int(binary.BigEndian.Uint16(h.body[end:])) // cipher suites
	if len(h.body) < at+1 {
		return h, false
	}
	at += 1 + int(h.body[at]) // compression methods
	if len(h.body) < at {
		return h, false
	}
	h.after = h.body[end:at]
	return h, true
}

// withoutCookie is the datagram of the ClientHello that came before the cookie: the same with message_seq 0 and no cookie. It
// and the HelloVerifyRequest are no part of what Finished vouches for (RFC 6347, section 4.2.1).
func (h *hello) withoutCookie() []byte {
	size := len(h.body) - len(h.cookie)
	b := make([]byte, recordHeader+handshakeHeader, recordHeader+handshakeHeader+size)
	b[0], b[1], b[2] = typeHandshake, 0xfe, 0xfd
	if h.recordSeq == 0 { // the numbers of both must differ
		b[10] = 1
	}
	binary.BigEndian.PutUint16(b[11:], uint16(handshakeHeader+size))
	m := b[recordHeader:]
	m[0] = helloRequest
	m[1], m[2], m[3] = byte(size>>16), byte(size>>8), byte(size)
	copy(m[9:], m[1:4])
	b = append(b, h.body[:h.cookieAt]...)
	b = append(b, 0)
	return append(b, h.body[h.cookieAt+1+len(h.cookie):]...)
}

// appendVerify appends the HelloVerifyRequest (RFC 6347, section 4.2.1): 60 bytes at most, and never more than a ClientHello.
func (h *hello) appendVerify(b, cookie []byte) []byte {
	size := 3 + len(cookie)
	b = append(b, typeHandshake, 0xfe, 0xff, 0, 0)
	b = append(b, 0, 0, 0, 0, 0, 0)
	putUint48(b[len(b)-6:], h.recordSeq)
	b = binary.BigEndian.AppendUint16(b, uint16(handshakeHeader+size))
	b = append(b, helloVerify, 0, 0, byte(size), 0, 0, 0, 0, 0, 0, 0, byte(size))
	b = append(b, 0xfe, 0xff, byte(len(cookie)))
	return append(b, cookie...)
}

// cookies makes and checks cookies without remembering any. Immutable after New.
type cookies struct{ secret [32]byte }

// cookieLife is how long a cookie holds, at least; at most it is twice that.
const cookieLife = time.Minute

// baker makes cookies without allocation. Owned by its loop.
type baker struct {
	mac hash.Hash
	buf []byte
	sum [sha256.Size]byte
}

func newBaker(c *cookies) *baker { return &baker{mac: hmac.New(sha256.New, c.secret[:])} }

// bake is the cookie for an address and a ClientHello in a period; valid until the next call.
func (k *baker) bake(a loop.PacketAddr, h *hello, period int64) []byte {
	k.mac.Reset()
	ip := a.Addr().As16()
	k.buf = append(k.buf[:0], ip[:]...)
	k.buf = binary.BigEndian.AppendUint16(k.buf, a.Port())
	k.buf = binary.BigEndian.AppendUint64(k.buf, uint64(period))
	k.mac.Write(k.buf)
	k.mac.Write(h.before)
	k.mac.Write(h.after)
	return k.mac.Sum(k.sum[:0])[:cookieSize]
}

// holds says whether the ClientHello carries the cookie that it was given.
func (k *baker) holds(a loop.PacketAddr, h *hello, now int64) bool {
	period := now / int64(cookieLife)
	return len(h.cookie) == cookieSize &&
		(hmac.Equal(k.bake(a, h, period), h.cookie) || hmac.Equal(k.bake(a, h, period-1), h.cookie))
}
