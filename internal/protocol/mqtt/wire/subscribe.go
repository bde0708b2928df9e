package wire

// SubOptions is what a subscription asks for (section 3.8.3.1). MQTT 3.x has the QoS only.
type SubOptions struct {
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // 0: send retained messages; 1: only if the subscription is new; 2: do not
}

// Byte is the options in the encoding of MQTT 5.
func (o SubOptions) Byte() byte {
	return o.QoS&3 | boolBit(o.NoLocal, 4) | boolBit(o.RetainAsPublished, 8) | o.RetainHandling&3<<4
}

func subOptions(b byte) SubOptions {
	return SubOptions{QoS: b & 3, NoLocal: b&4 != 0, RetainAsPublished: b&8 != 0, RetainHandling: b >> 4 & 3}
}

// Subscribe is a decoded SUBSCRIBE (section 3.8): everything in it is valid, Next hands out its
// filters. Owned by whoever owns the Decoder that filled it.
type Subscribe struct {
	PacketID  uint16
	SubID     uint32 // 0: none
	Filters   int    // how many
	UserProps []byte // in the encoding of event/meta.go

	rest []byte
}

var (
	errSubOptions  = &Error{MalformedPacket, "subscription options not valid"}
	errShareNoLocl = &Error{ProtocolError, "shared subscription with no local"}
)

// Subscribe reads the body of a SUBSCRIBE and validates every filter in it.
func (d *Decoder) Subscribe(v Version, body []byte, s *Subscribe) error {
	d.begin()
	*s = Subscribe{}
	id, b, err := splitID(body)
	if err != nil {
		return err
	}
	s.PacketID = id
	if v == V5 {
		w, rest, err := splitProps(b, subscribeProps)
		if err != nil {
			return err
		}
		var user gather
		for w.more() {
			if w.id == pSubID {
				s.SubID = w.num
			} else {
				user.add(d, &w)
			}
		}
		if w.err != nil {
			return w.err
		}
		b, s.UserProps = rest, user.bytes()
	}
	s.rest = b
	for len(b) > 0 {
		filter, rest, ok := splitBytes(b)
		if !ok || len(rest) == 0 {
			return errShort
		}
		shared, err := checkFilter(filter)
		if err != nil {
			return err
		}
		if err := checkSubOptions(v, rest[0], shared); err != nil {
			return err
		}
		b = rest[1:]
		s.Filters++
	}
	if s.Filters == 0 {
		return errNoFilters // [MQTT-3.8.3-2]
	}
	return nil
}

func checkSubOptions(v Version, o byte, shared bool) error {
	reserved := byte(0xc0)
	if v != V5 {
		reserved = 0xfc
	}
	if o&reserved != 0 || o&3 == 3 || o>>4&3 == 3 {
		return errSubOptions // [MQTT-3.8.3-5]
	}
	if shared && o&4 != 0 {
		return errShareNoLocl // [MQTT-3.8.3-4]
	}
	return nil
}

// Next hands out the filters one after the other; ok is false after the last.
func (s *Subscribe) Next() (filter []byte, opts SubOptions, ok bool) {
	filter, rest, ok := splitBytes(s.rest)
	if !ok || len(rest) == 0 {
		return nil, opts, false
	}
	s.rest = rest[1:]
	return filter, subOptions(rest[0]), true
}

// Unsubscribe is a decoded UNSUBSCRIBE (section 3.10). Owned by whoever owns the Decoder that filled it.
type Unsubscribe struct {
	PacketID  uint16
	Filters   int    // how many
	UserProps []byte // in the encoding of event/meta.go

	rest []byte
}

// Unsubscribe reads the body of an UNSUBSCRIBE and validates every filter in it.
func (d *Decoder) Unsubscribe(v Version, body []byte, u *Unsubscribe) error {
	d.begin()
	*u = Unsubscribe{}
	id, b, err := splitID(body)
	if err != nil {
		return err
	}
	u.PacketID = id
	if v == V5 {
		if u.UserProps, b, err = d.userProps(b, unsubscribeProps); err != nil {
			return err
		}
	}
	u.rest = b
	for len(b) > 0 {
		filter, rest, ok := splitBytes(b)
		if !ok {
			return errShort
		}
		if _, err := checkFilter(filter); err != nil {
			return err
		}
		b = rest
		u.Filters++
	}
	if u.Filters == 0 {
		return errNoFilters // [MQTT-3.10.3-2]
	}
	return nil
}

// Next hands out the filters one after the other; ok is false after the last.
func (u *Unsubscribe) Next() (filter []byte, ok bool) {
	filter, rest, ok := splitBytes(u.rest)
	if ok {
		u.rest = rest
	}
	return filter, ok
}

// Filter is one subscription that a client asks for.
type Filter struct {
	Filter string
	SubOptions
}

// AppendSubscribe appends a SUBSCRIBE. subID is 0 for none; it and the options besides QoS are of MQTT 5.
func AppendSubscribe(dst []byte, v Version, id uint16, subID uint32, filters []Filter) []byte {
	f, dst := beginFrame(dst, byte(SUBSCRIBE)<<4|2)
	dst = appendUint16(dst, id)
	if v == V5 {
		n := 0
		if subID != 0 {
			n = 1 + varintSize(int(subID))
		}
		if dst = append(dst, byte(n)); n != 0 {
			dst = appendVarint(append(dst, pSubID), int(subID))
		}
	}
	for i := range filters {
		o := filters[i].Byte()
		if v != V5 {
			o &= 3
		}
		dst = append(appendBytes(dst, filters[i].Filter), o)
	}
	return f.end(dst)
}

// AppendUnsubscribe appends an UNSUBSCRIBE.
func AppendUnsubscribe(dst []byte, v Version, id uint16, filters []string) []byte {
	f, dst := beginFrame(dst, byte(UNSUBSCRIBE)<<4|2)
	dst = appendUint16(dst, id)
	if v == V5 {
		dst = append(dst, 0)
	}
	for _, filter := range filters {
		dst = appendBytes(dst, filter)
	}
	return f.end(dst)
}

// Suback is a decoded SUBACK or UNSUBACK (sections 3.9, 3.11).
type Suback struct {
	PacketID     uint16
	Codes        []byte // one Reason per filter; MQTT 3.x: 0, 1, 2 or 0x80, and none at all in an UNSUBACK
	ReasonString []byte
	UserProps    []byte // in the encoding of event/meta.go
}

// Suback reads the body of a SUBACK.
func (d *Decoder) Suback(v Version, body []byte, s *Suback) error {
	if err := d.suback(v, body, s); err != nil {
		return err
	}
	for _, c := range s.Codes {
		if v == V5 && !okSuback(Reason(c)) || v != V5 && c > 2 && c != byte(UnspecifiedError) {
			return errReason
		}
	}
	if len(s.Codes) == 0 {
		return errShort
	}
	return nil
}

// Unsuback reads the body of an UNSUBACK.
func (d *Decoder) Unsuback(v Version, body []byte, s *Suback) error {
	if err := d.suback(v, body, s); err != nil {
		return err
	}
	if v != V5 {
		if len(s.Codes) != 0 {
			return errLong
		}
		return nil
	}
	for _, c := range s.Codes {
		if !okUnsuback(Reason(c)) {
			return errReason
		}
	}
	if len(s.Codes) == 0 {
		return errShort
	}
	return nil
}

func (d *Decoder) suback(v Version, body []byte, s *Suback) error {
	d.begin()
	*s = Suback{}
	id, b, err := splitID(body)
	if err != nil {
		return err
	}
	s.PacketID = id
	if v == V5 {
		if s.ReasonString, s.UserProps, b, err = d.reasonProps(b, ackProps); err != nil {
			return err
		}
	}
	s.Codes = b
	return nil
}

// AppendSuback appends a SUBACK. codes holds one Reason per filter; MQTT 3.1.1 knows a single one for failures.
func AppendSuback(dst []byte, v Version, id uint16, codes []byte) []byte {
	dst = appendCodesHead(dst, SUBACK, v, id, len(codes))
	if v == V5 {
		return append(dst, codes...)
	}
	for _, c := range codes {
		if Reason(c).Failed() {
			c = byte(UnspecifiedError)
		}
		dst = append(dst, c)
	}
	return dst
}

// AppendUnsuback appends an UNSUBACK. codes holds one Reason per filter; MQTT 3.x tells none.
func AppendUnsuback(dst []byte, v Version, id uint16, codes []byte) []byte {
	if v != V5 {
		codes = nil
	}
	return append(appendCodesHead(dst, UNSUBACK, v, id, len(codes)), codes...)
}

func appendCodesHead(dst []byte, k Kind, v Version, id uint16, codes int) []byte {
	n := 2 + codes
	if v == V5 {
		n++
	}
	dst = appendUint16(appendVarint(append(dst, byte(k)<<4), n), id)
	if v == V5 {
		dst = append(dst, 0)
	}
	return dst
}
