package dtls

import (
	"crypto/cipher"
	"encoding/binary"
)

// cidSize is the length of our Connection IDs: node (2 bytes), loop (1), and 5 that are random.
const cidSize = 8

// cid is a Connection ID of ours.
type cid uint64

func (c cid) node() uint16 { return uint16(c >> 48) }
func (c cid) loop() int    { return int(c >> 40 & 0xff) }

// record is one DTLS record of a datagram. Its slices point into it.
type record struct {
	kind  byte
	epoch uint16
	seq   uint64
	cid   cid
	body  []byte // what is protected: explicit nonce, ciphertext, tag
}

// cutRecord takes the next record off a datagram (RFC 6347, section 4.1; RFC 9146, section 4).
func cutRecord(b []byte) (r record, rest []byte, ok bool) {
	if len(b) < recordHeader || b[1] != 0xfe {
		return r, nil, false
	}
	r.kind, r.epoch, r.seq = b[0], binary.BigEndian.Uint16(b[3:]), uint48(b[5:])
	at := 11
	if r.kind == typeCID {
		if len(b) < recordHeader+cidSize {
			return r, nil, false
		}
		r.cid = cid(binary.BigEndian.Uint64(b[11:]))
		at += cidSize
	}
	n := int(binary.BigEndian.Uint16(b[at:]))
	if at += 2; at+n > len(b) {
		return r, nil, false
	}
	r.body = b[at : at+n]
	return r, b[at+n:], true
}

const (
	nonceSize    = 12
	explicitSize = 8       // of the nonce, in each record (RFC 5288, section 3; RFC 6655, section 3)
	maxSeq       = 1 << 47 // far below the end of the numbers, at which a session must end (RFC 6347, section 4.1)
	maxPlain     = 1 << 14
)

// direction is how records are protected one way.
type direction struct {
	aead cipher.AEAD
	iv   [4]byte
}

// scratch is what sealing and opening need. Owned by its loop.
type scratch struct {
	nonce [nonceSize]byte
	id    [cidSize]byte
	aad   []byte
	inner []byte
	plain []byte
	out   []byte
}

// size is how long the record of n bytes is.
func (d *direction) size(peerCID, n int) int {
	n += recordHeader + explicitSize + d.aead.Overhead()
	if peerCID > 0 {
		n += peerCID + 1
	}
	return n
}

// seal makes a record of epoch 1. With a Connection ID of the peer's the kind goes inside (RFC 9146, section 4). The
// result is valid until the next call.
func (d *direction) seal(s *scratch, kind byte, seq uint64, peerCID, b []byte) []byte {
	inner := b
	outer := kind
	if len(peerCID) > 0 {
		s.inner = append(append(s.inner[:0], b...), kind)
		inner, outer = s.inner, typeCID
	}
	out := append(s.out[:0], outer, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 0)
	putUint48(out[5:], seq)
	out = append(out, peerCID...)
	out = binary.BigEndian.AppendUint16(out, uint16(explicitSize+len(inner)+d.aead.Overhead()))
	copy(s.nonce[:], d.iv[:])
	binary.BigEndian.PutUint64(s.nonce[4:], 1<<48|seq)
	out = append(out, s.nonce[4:]...)
	out = d.aead.Seal(out, s.nonce[:], inner, s.additional(outer, 1, seq, peerCID, len(inner)))
	s.out = out
	return out
}

// open returns what a record protects and its kind; false: it is not the peer's. The result is valid until the next call.
func (d *direction) open(s *scratch, r *record) (kind byte, b []byte, ok bool) {
	size := len(r.body) - explicitSize - d.aead.Overhead()
	if size < 0 {
		return 0, nil, false
	}
	copy(s.nonce[:], d.iv[:])
	copy(s.nonce[4:], r.body)
	var own []byte
	if r.kind == typeCID {
		binary.BigEndian.PutUint64(s.id[:], uint64(r.cid))
		own = s.id[:]
	}
	b, err := d.aead.Open(s.plain[:0], s.nonce[:], r.body[explicitSize:], s.additional(r.kind, r.epoch, r.seq, own, size))
	if err != nil {
		return 0, nil, false
	}
	s.plain = b[:0]
	if r.kind != typeCID {
		return r.kind, b, true
	}
	for len(b) > 0 && b[len(b)-1] == 0 { // padding
		b = b[:len(b)-1]
	}
	if len(b) == 0 {
		return 0, nil, false
	}
	return b[len(b)-1], b[:len(b)-1], true
}

// additional is the additional data of a record (RFC 5246, section 6.2.3.3; with a Connection ID RFC 9146, section 5.3).
func (s *scratch) additional(kind byte, epoch uint16, seq uint64, id []byte, size int) []byte {
	a := s.aad[:0]
	number := uint64(epoch)<<48 | seq
	if kind == typeCID {
		a = append(a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, typeCID, byte(len(id)), typeCID, 0xfe, 0xfd)
		a = binary.BigEndian.AppendUint64(a, number)
		a = append(a, id...)
	} else {
		a = binary.BigEndian.AppendUint64(a, number)
		a = append(a, kind, 0xfe, 0xfd)
	}
	a = binary.BigEndian.AppendUint16(a, uint16(size))
	s.aad = a
	return a
}

// window is the sliding window against replay (RFC 6347, section 4.1.2.6). Owned by its peer.
type window struct {
	next uint64 // one more than the newest number
	seen uint64 // bit i: next-1-i was there
}

// fresh says whether a number may still come.
func (w *window) fresh(seq uint64) bool {
	if seq >= w.next {
		return true
	}
	back := w.next - 1 - seq
	return back < 64 && w.seen&(1<<back) == 0
}

// note marks the number of an authentic record and says whether it is the newest.
func (w *window) note(seq uint64) (newest bool) {
	if seq >= w.next {
		if by := seq + 1 - w.next; by < 64 {
			w.seen = w.seen<<by | 1
		} else {
			w.seen = 1
		}
		w.next = seq + 1
		return true
	}
	w.seen |= 1 << (w.next - 1 - seq)
	return false
}
