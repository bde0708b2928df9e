package wire

import "encoding/binary"

// Decoder reads packet bodies. Owned by its loop: one per loop or per reading goroutine; the zero value reads what a
// client sends. What its methods fill in is valid until the next call of any of them and as long as the body is.
type Decoder struct {
	// Client makes it the client's end: it reads what a server sends, where a few packets may carry other things.
	Client bool

	scratch []byte   // metadata that could not be passed on as a slice of the packet
	ids     []uint32 // subscription identifiers of a PUBLISH
}

// What a Decoder keeps for the next packet. A larger need is met and then given back.
const (
	keepScratch = 64 << 10
	keepIDs     = 1 << 10
)

// begin forgets what the last packet left.
func (d *Decoder) begin() {
	if cap(d.scratch) > keepScratch {
		d.scratch = nil
	}
	if cap(d.ids) > keepIDs {
		d.ids = nil
	}
	d.scratch, d.ids = d.scratch[:0], d.ids[:0]
}

var (
	errShort     = &Error{MalformedPacket, "packet cut short"}
	errLong      = &Error{MalformedPacket, "packet longer than its contents"}
	errIDZero    = &Error{ProtocolError, "packet identifier 0"}
	errReason    = &Error{ProtocolError, "reason code not allowed in this packet"}
	errNoFilters = &Error{ProtocolError, "packet names no topic filter"}
)

// splitID splits a packet identifier off the body; 0 is not one (section 2.2.1).
func splitID(b []byte) (id uint16, rest []byte, err error) {
	if len(b) < 2 {
		return 0, nil, errShort
	}
	if id = binary.BigEndian.Uint16(b); id == 0 {
		return 0, nil, errIDZero
	}
	return id, b[2:], nil
}

// splitBytes splits a string or binary off b.
func splitBytes(b []byte) (v, rest []byte, ok bool) {
	n := lenPrefixed(b)
	if n == 0 {
		return nil, nil, false
	}
	return b[2:n:n], b[n:], true
}

// userProps reads a block in which nothing but user properties may stand, besides what the caller handles.
func (d *Decoder) userProps(b []byte, allowed propSet) (user, rest []byte, err error) {
	p, rest, err := splitProps(b, allowed)
	if err != nil {
		return nil, nil, err
	}
	var g gather
	for p.more() {
		g.add(d, &p)
	}
	return g.bytes(), rest, p.err
}
