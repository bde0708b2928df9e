package coap

import (
	"github.com/windrose-edc/windrose/internal/protocol/coap/wire"
)

// reply is a response or a notification while it is made. Owned by its desk, used again.
type reply struct {
	code    wire.Code
	last    wire.Number
	opts    []byte
	payload []byte // borrowed
}

// reset begins a reply.
func (r *reply) reset(c wire.Code) *reply {
	r.code, r.last, r.opts, r.payload = c, 0, r.opts[:0], nil
	return r
}

// option appends an option; the numbers must not fall.
func (r *reply) option(n wire.Number, v []byte) {
	r.opts = wire.AppendOption(r.opts, r.last, n, v)
	r.last = n
}

// uint appends an option of format uint.
func (r *reply) uint(n wire.Number, u uint32) {
	r.opts = wire.AppendUint(r.opts, r.last, n, u)
	r.last = n
}

// fail is a reply with a diagnostic payload (RFC 7252, section 5.5.2).
func (r *reply) fail(c wire.Code, why string) *reply {
	r.reset(c)
	r.payload = []byte(why)
	return r
}

// busy is 5.03 with the time after which to try again.
func (r *reply) busy() *reply {
	r.reset(wire.ServiceUnavailable).uint(wire.MaxAge, retryAfter)
	return r
}

// token is the token of a request that is answered later. A value; tokens of usual length need no memory of their own.
type token struct {
	n    uint8
	b    [8]byte
	long string // where it is longer than 8
}

func keepToken(t []byte) (k token) {
	if len(t) > len(k.b) {
		k.long = string(t)
		return k
	}
	k.n = uint8(copy(k.b[:], t))
	return k
}

// bytes is the token; it points into k or is memory of its own.
func (k *token) bytes() []byte {
	if k.long != "" {
		return []byte(k.long)
	}
	return k.b[:k.n]
}

// exchange is a request that is being answered. A value.
type exchange struct {
	token   token
	id      uint16
	con     bool
	acked   bool   // an empty acknowledgement is out: the response is one of its own (RFC 7252, section 5.2.2)
	silent  byte   // classes that its sender does not want to hear (RFC 7967, section 2)
	number  uint64 // in the table of duplicates
	known   bool   // it is in that table
	ackAt   int64  // when the empty acknowledgement is due
	block1  uint32 // value of the option in the response
	blocked bool   // there is one
	get     bool
	in      int // bytes of the request
}

// unwanted says whether No-Response covers a code (RFC 7967, section 2.1).
func (x *exchange) unwanted(c wire.Code) bool {
	switch c.Class() {
	case 2:
		return x.silent&2 != 0
	case 4:
		return x.silent&8 != 0
	case 5:
		return x.silent&16 != 0
	}
	return false
}
