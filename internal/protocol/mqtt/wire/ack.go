package wire

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP (sections 3.4 to 3.7).
type Ack struct {
	PacketID     uint16
	Reason       Reason // Success in MQTT 3.x
	ReasonString []byte
	UserProps    []byte // in the encoding of event/meta.go
}

// Ack reads the body of a packet of kind k: PUBACK, PUBREC, PUBREL or PUBCOMP.
func (d *Decoder) Ack(v Version, k Kind, body []byte, a *Ack) error {
	d.begin()
	*a = Ack{}
	id, b, err := splitID(body)
	if err != nil {
		return err
	}
	a.PacketID = id
	if len(b) == 0 {
		return nil
	}
	if v != V5 {
		return errLong
	}
	a.Reason = Reason(b[0])
	if !okAck(k, a.Reason) {
		return errReason
	}
	if b = b[1:]; len(b) == 0 {
		return nil
	}
	a.ReasonString, a.UserProps, b, err = d.reasonProps(b, ackProps)
	if err == nil && len(b) != 0 {
		return errLong
	}
	return err
}

// reasonProps reads a block of a reason string and user properties.
func (d *Decoder) reasonProps(b []byte, allowed propSet) (reason, user, rest []byte, err error) {
	p, rest, err := splitProps(b, allowed)
	if err != nil {
		return nil, nil, nil, err
	}
	var g gather
	for p.more() {
		if p.id == pReasonString {
			reason = p.val
		} else {
			g.add(d, &p)
		}
	}
	return reason, g.bytes(), rest, p.err
}

// AppendAck appends a packet of kind k: PUBACK, PUBREC, PUBREL or PUBCOMP. In MQTT 3.x there is no reason: whoever has
// a failure to report there does so in another way. reasonString is left out when empty or too long.
func AppendAck(dst []byte, v Version, k Kind, id uint16, r Reason, reasonString string) []byte {
	first := byte(k) << 4
	if k == PUBREL {
		first |= 2
	}
	hi, lo := byte(id>>8), byte(id)
	switch {
	case v != V5 || r == Success && reasonString == "":
		return append(dst, first, 2, hi, lo)
	case reasonString == "" || len(reasonString) > maxString:
		return append(dst, first, 3, hi, lo, byte(r))
	}
	n := 3 + len(reasonString)
	dst = appendVarint(append(dst, first), 3+varintSize(n)+n)
	dst = appendVarint(append(dst, hi, lo, byte(r)), n)
	return appendPropBytes(dst, pReasonString, reasonString)
}
