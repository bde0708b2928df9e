package wire

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/windrose-edc/windrose/internal/event"
)

// Publish is a decoded PUBLISH (section 3.3). Its slices point into the packet or into the Decoder.
type Publish struct {
	Topic    []byte // empty only where an alias stands for it
	Payload  []byte
	Meta     []byte // the properties that travel with the event, in the encoding of event/meta.go
	PacketID uint16 // 0 with QoS 0
	QoS      byte
	Dup      bool
	Retain   bool

	Expiry    uint32 // seconds
	HasExpiry bool
	Alias     uint16
	HasAlias  bool
	// SubIDs are the identifiers of the subscriptions that matched, as a server sends them. A client must not send any
	// [MQTT-3.3.4-6]; a single one is tolerated by the codec, as other servers do, and must not be passed on.
	SubIDs []uint32
}

var (
	errTopicEmpty = &Error{ProtocolError, "topic name is empty"}
	errTopicUTF8  = &Error{MalformedPacket, "topic name is not valid UTF-8"}
	errTopicWild  = &Error{TopicNameInvalid, "topic name has a wildcard"}
)

// Publish reads the body of a PUBLISH whose first byte has passed CheckFlags. Whether an alias is within the announced
// maximum and known is the connection's business.
func (d *Decoder) Publish(v Version, first byte, body []byte, p *Publish) error {
	d.begin()
	*p = Publish{QoS: first >> 1 & 3, Dup: first&8 != 0, Retain: first&1 != 0}
	topic, b, ok := splitBytes(body)
	if !ok {
		return errShort
	}
	if len(topic) > 0 && !validTopic(topic) {
		if !event.ValidUTF8(topic) {
			return errTopicUTF8
		}
		return errTopicWild
	}
	p.Topic = topic
	var err error
	if p.QoS > 0 {
		if p.PacketID, b, err = splitID(b); err != nil {
			return err
		}
	}
	if v == V5 {
		if b, err = d.publishProps(b, p); err != nil {
			return err
		}
	}
	if len(topic) == 0 && !p.HasAlias {
		return errTopicEmpty
	}
	p.Payload = b
	return nil
}

func (d *Decoder) publishProps(b []byte, p *Publish) (payload []byte, err error) {
	if len(b) > 0 && b[0] == 0 {
		return b[1:], nil
	}
	w, payload, err := splitProps(b, publishProps)
	if err != nil {
		return nil, err
	}
	if d.Client {
		w.repeat = 1 << pSubID
	}
	var meta gather
	text := false
	for w.more() {
		switch w.id {
		case pMessageExpiry:
			p.Expiry, p.HasExpiry = w.num, true
		case pTopicAlias:
			p.Alias, p.HasAlias = uint16(w.num), true
		case pSubID:
			d.ids = append(d.ids, w.num)
		default:
			text = text || w.id == pPayloadFormat && w.num == 1
			meta.add(d, &w)
		}
	}
	if w.err != nil {
		return nil, w.err
	}
	p.Meta, p.SubIDs = meta.bytes(), d.ids
	if text && !utf8.Valid(payload) {
		return nil, errPayloadFormat
	}
	return payload, nil
}

// PublishOut is a PUBLISH to be sent. Whoever fills it in answers for the contents: Topic is a valid topic name of at
// most 65,535 bytes (or empty, with a known Alias), Meta is valid by event/meta.go.
type PublishOut struct {
	Version  Version
	Topic    []byte
	Payload  []byte
	Meta     []byte // MQTT 5 only, like all below
	PacketID uint16 // ignored with QoS 0
	QoS      byte
	Dup      bool // ignored with QoS 0
	Retain   bool

	Expiry    uint32 // seconds that are left
	HasExpiry bool
	Alias     uint16   // 0: none
	SubIDs    []uint32 // of all subscriptions that matched
}

// propSize is the size of the block of properties without its length.
func (p *PublishOut) propSize() int {
	n := len(p.Meta)
	if p.HasExpiry {
		n += 5
	}
	if p.Alias != 0 {
		n += 3
	}
	for _, id := range p.SubIDs {
		n += 1 + varintSize(int(id))
	}
	return n
}

// sizes returns the size of the block of properties and the Remaining Length.
func (p *PublishOut) sizes() (props, remaining int) {
	remaining = 2 + len(p.Topic) + len(p.Payload)
	if p.QoS > 0 {
		remaining += 2
	}
	if p.Version == V5 {
		props = p.propSize()
		remaining += varintSize(props) + props
	}
	return props, remaining
}

// PublishSize is the size of the whole packet in bytes, to be held against the peer's Maximum Packet Size [MQTT-3.1.2-24]
// before it is sent.
func PublishSize(p *PublishOut) int {
	_, n := p.sizes()
	return 1 + varintSize(n) + n
}

// AppendPublish appends a PUBLISH. One that the protocol cannot express, with a topic over 65,535 bytes or over
// MaxPacket in all, is left out: dst comes back as it was.
func AppendPublish(dst []byte, p *PublishOut) []byte {
	props, n := p.sizes()
	if len(p.Topic) > maxString || n > MaxRemaining {
		return dst
	}
	first := byte(PUBLISH)<<4 | p.QoS<<1 | boolBit(p.Retain, 1) | boolBit(p.Dup && p.QoS > 0, 8)
	dst = appendVarint(append(dst, first), n)
	dst = append(dst, byte(len(p.Topic)>>8), byte(len(p.Topic)))
	dst = append(dst, p.Topic...)
	if p.QoS > 0 {
		dst = append(dst, byte(p.PacketID>>8), byte(p.PacketID))
	}
	if p.Version == V5 {
		dst = appendVarint(dst, props)
		if p.HasExpiry {
			dst = appendProp32(dst, pMessageExpiry, p.Expiry)
		}
		if p.Alias != 0 {
			dst = appendProp16(dst, pTopicAlias, p.Alias)
		}
		for _, id := range p.SubIDs {
			dst = appendVarint(append(dst, pSubID), int(id))
		}
		dst = append(dst, p.Meta...)
	}
	return append(dst, p.Payload...)
}

// PatchPublish changes packet identifier and DUP of a PUBLISH with QoS 1 or 2 that AppendPublish wrote: the same frame,
// copied, serves many subscribers.
func PatchPublish(frame []byte, id uint16, dup bool) {
	frame[0] = frame[0]&^8 | boolBit(dup, 8)
	at := 2
	for frame[at-1] >= 0x80 {
		at++
	}
	at += 2 + int(binary.BigEndian.Uint16(frame[at:]))
	binary.BigEndian.PutUint16(frame[at:], id)
}
