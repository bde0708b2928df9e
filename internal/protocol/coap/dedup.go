package coap

import (
	"time"

	"github.com/windrose-edc/windrose/internal/loop"
)

// The times within which a message id means the same message (RFC 7252, section 4.8.2).
const (
	exchangeLifetime = 247 * time.Second
	nonLifetime      = 145 * time.Second
)

// exchangeKey is an endpoint and a message id. A value.
type exchangeKey struct {
	from loop.PacketAddr
	id   uint16
}

// heard is a request that was taken, and what was answered. Owned by its table.
type heard struct {
	key   exchangeKey
	until int64 // when its message id may mean something else; ring order is that of arrival
	short [24]byte
	n     uint8  // bytes of short that are the answer
	long  []byte // the answer where it does not fit into short
}

// answer is the datagram that a duplicate is answered with; empty: none yet, or none at all.
func (h *heard) answer() []byte {
	if h.long != nil {
		return h.long
	}
	return h.short[:h.n]
}

// dedup remembers requests for their lifetime, bounded by number and by bytes: a ring in the order of arrival, which is that of
// forgetting, and an index of it. Every operation takes constant time. Owned by its loop.
type dedup struct {
	ring     []heard // length is a power of two; the request of number n is at n modulo it
	first    uint64  // number of the oldest
	next     uint64  // number of the one that comes
	index    map[exchangeKey]uint64
	max      int   // requests
	maxBytes int64 // of answers
	bytes    int64
	early    uint64 // requests that were forgotten before their time, for lack of room
}

func newDedup(limit int, maxBytes int64) *dedup {
	return &dedup{index: make(map[exchangeKey]uint64), max: limit, maxBytes: maxBytes}
}

// find is the request of that key; ok is false where it is none, or too long ago.
func (d *dedup) find(k exchangeKey, now int64) (number uint64, ok bool) {
	n, ok := d.index[k]
	return n, ok && d.at(n).until > now
}

// at is a request that is still remembered.
func (d *dedup) at(n uint64) *heard { return &d.ring[n&uint64(len(d.ring)-1)] }

// add remembers a request and gives it a number.
func (d *dedup) add(k exchangeKey, now int64, life time.Duration) uint64 {
	for d.first < d.next {
		// what lives shorter than others stays until these are forgotten: it is as if it were not there
		old := now >= d.at(d.first).until
		if !old && d.next-d.first < uint64(d.max) && d.bytes <= d.maxBytes {
			break
		}
		if !old {
			d.early++
		}
		d.forget()
	}
	if n := d.next - d.first; n == uint64(len(d.ring)) {
		d.grow()
	}
	n := d.next
	d.next++
	h := d.at(n)
	h.key, h.until, h.n, h.long = k, now+int64(life), 0, nil
	d.index[k] = n
	return n
}

func (d *dedup) grow() {
	ring := make([]heard, max(2*len(d.ring), 64))
	for n := d.first; n < d.next; n++ {
		ring[n&uint64(len(ring)-1)] = *d.at(n)
	}
	d.ring = ring
}

// forget drops the oldest.
func (d *dedup) forget() {
	h := d.at(d.first)
	if d.index[h.key] == d.first {
		delete(d.index, h.key)
	}
	d.bytes -= int64(len(h.answer()))
	h.n, h.long = 0, nil
	if d.first++; d.first == d.next && len(d.ring) > 4096 {
		d.ring, d.index = nil, make(map[exchangeKey]uint64) // what a storm needed is not kept
	}
}

// answered keeps the answer to a request, where that is still remembered.
func (d *dedup) answered(number uint64, b []byte) {
	if number < d.first || number >= d.next {
		return
	}
	h := d.at(number)
	d.bytes += int64(len(b) - len(h.answer()))
	if h.long = nil; len(b) <= len(h.short) {
		h.n = uint8(copy(h.short[:], b))
		return
	}
	h.long = append([]byte(nil), b...)
}
