package mqtt

import (
	"encoding/binary"

	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

const (
	formsMax = 8        // wire forms of one event that are kept
	formSize = 64 << 10 // larger ones are not kept: there the payload is what costs
)

// formKey is all in which the packets for the subscribers of one event differ, but for their packet id.
type formKey struct {
	version   wire.Version
	qos       byte
	retain    bool
	hasExpiry bool
	known     bool // the alias stands for the topic
	alias     uint16
	expiry    uint32
	subID     uint32
}

// form is a wire form that was encoded. Owned by its forms.
type form struct {
	key   formKey
	frame []byte
	idAt  int // where the packet id is; 0: QoS 0 has none
}

// forms are the wire forms of the event that is being handed to several subscribers of a loop: each is encoded once, and copied
// with another packet id. Owned by its loop.
type forms struct {
	pass    uint64 // of the walker; the list is of that fan-out
	n       int
	list    [formsMax]form
	encoded uint64 // packets encoded, ever
}

// append appends a PUBLISH. pass is the fan-out under way; 0: none, and the packet is only for one.
func (f *forms) append(dst []byte, p *wire.PublishOut, pass uint64) []byte {
	if pass == 0 || p.Dup || len(p.SubIDs) > 1 || len(p.Topic)+len(p.Payload)+len(p.Meta) > formSize {
		f.encoded++
		return wire.AppendPublish(dst, p)
	}
	if f.pass != pass {
		f.pass, f.n = pass, 0
	}
	k := formKey{version: p.Version, qos: p.QoS, retain: p.Retain, hasExpiry: p.HasExpiry, known: len(p.Topic) == 0, alias: p.Alias, expiry: p.Expiry}
	if len(p.SubIDs) == 1 {
		k.subID = p.SubIDs[0]
	}
	for i := range f.list[:f.n] {
		if x := &f.list[i]; x.key == k {
			return x.append(dst, p.PacketID)
		}
	}
	f.encoded++
	if f.n == formsMax { // aliases, say: of each client its own
		return wire.AppendPublish(dst, p)
	}
	x := &f.list[f.n]
	f.n++
	x.key, x.frame, x.idAt = k, wire.AppendPublish(x.frame[:0], p), 0
	if p.QoS > 0 {
		for x.idAt = 2; x.frame[x.idAt-1] >= 0x80; x.idAt++ {
		}
		x.idAt += 2 + len(p.Topic)
	}
	return append(dst, x.frame...)
}

// append appends the form for another subscriber.
func (x *form) append(dst []byte, id uint16) []byte {
	at := len(dst) + x.idAt
	dst = append(dst, x.frame...)
	if x.idAt > 0 {
		binary.BigEndian.PutUint16(dst[at:], id)
	}
	return dst
}
