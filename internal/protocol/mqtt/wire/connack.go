package wire

// Connack is the server's answer to a CONNECT (section 3.2).
type Connack struct {
	SessionPresent bool
	Reason         Reason // the return codes of MQTT 3.x are translated
	ConnackProps
}

// ConnackProps is what a CONNACK of MQTT 5 may tell besides (section 3.2.2.3). What has no Has field is absent when it
// is zero.
type ConnackProps struct {
	SessionExpiry       uint32 // seconds, in place of what the client asked for
	HasSessionExpiry    bool
	ReceiveMax          uint16 // 0: absent, which means 65535
	MaximumQoS          byte   // 0 or 1; 2 is said by leaving it out
	HasMaximumQoS       bool
	RetainAvailable     bool
	HasRetainAvailable  bool
	MaxPacket           uint32 // bytes; 0: absent, no bound
	AssignedClientID    []byte
	TopicAliasMax       uint16
	ReasonString        []byte
	UserProps           []byte // in the encoding of event/meta.go
	ServerKeepAlive     uint16 // seconds; 0 with Has: keep alive is off
	HasServerKeepAlive  bool
	ResponseInfo        []byte
	ServerReference     []byte
	AuthMethod          []byte
	HasAuthMethod       bool
	AuthData            []byte
	WildcardSubAvail    bool
	HasWildcardSubAvail bool
	SubIDAvail          bool
	HasSubIDAvail       bool
	SharedSubAvail      bool
	HasSharedSubAvail   bool
}

var (
	errConnackFlags   = &Error{MalformedPacket, "reserved flag of CONNACK set"}
	errConnackCode    = &Error{ProtocolError, "return code of CONNACK unknown"}
	errConnackSession = &Error{ProtocolError, "CONNACK refuses and speaks of a session"}
)

// Connack reads the body of a CONNACK.
func (d *Decoder) Connack(v Version, body []byte, c *Connack) error {
	d.begin()
	*c = Connack{}
	if len(body) < 2 {
		return errShort
	}
	if body[0] > 1 {
		return errConnackFlags
	}
	c.SessionPresent = body[0] == 1
	if v == V5 {
		if c.Reason = Reason(body[1]); !okConnack(c.Reason) {
			return errConnackCode
		}
		rest, err := d.connackProps(body[2:], &c.ConnackProps)
		if err != nil {
			return err
		}
		if len(rest) != 0 {
			return errLong
		}
	} else {
		var ok bool
		if c.Reason, ok = connackReason3(body[1]); !ok {
			return errConnackCode
		}
		if len(body) > 2 {
			return errLong
		}
	}
	if c.SessionPresent && c.Reason != Success {
		return errConnackSession // [MQTT-3.2.2-6]
	}
	return nil
}

func (d *Decoder) connackProps(b []byte, c *ConnackProps) (rest []byte, err error) {
	w, rest, err := splitProps(b, connackProps)
	if err != nil {
		return nil, err
	}
	var user gather
	for w.more() {
		on := w.num == 1
		switch w.id {
		case pSessionExpiry:
			c.SessionExpiry, c.HasSessionExpiry = w.num, true
		case pReceiveMax:
			c.ReceiveMax = uint16(w.num)
		case pMaximumQoS:
			c.MaximumQoS, c.HasMaximumQoS = byte(w.num), true
		case pRetainAvailable:
			c.RetainAvailable, c.HasRetainAvailable = on, true
		case pMaxPacket:
			c.MaxPacket = w.num
		case pAssignedID:
			c.AssignedClientID = w.val
		case pTopicAliasMax:
			c.TopicAliasMax = uint16(w.num)
		case pReasonString:
			c.ReasonString = w.val
		case pServerKeepAlive:
			c.ServerKeepAlive, c.HasServerKeepAlive = uint16(w.num), true
		case pResponseInfo:
			c.ResponseInfo = w.val
		case pServerReference:
			c.ServerReference = w.val
		case pAuthMethod:
			c.AuthMethod, c.HasAuthMethod = w.val, true
		case pAuthData:
			c.AuthData = w.val
		case pWildcardAvail:
			c.WildcardSubAvail, c.HasWildcardSubAvail = on, true
		case pSubIDAvail:
			c.SubIDAvail, c.HasSubIDAvail = on, true
		case pSharedAvail:
			c.SharedSubAvail, c.HasSharedSubAvail = on, true
		case pUserProperty:
			user.add(d, &w)
		}
	}
	c.UserProps = user.bytes()
	return rest, w.err
}

// AppendConnack appends a CONNACK. In MQTT 3.x r becomes ConnackCode3(r) and p is not told; p may be nil. A refusal
// never says that a session is present [MQTT-3.2.2-6].
func AppendConnack(dst []byte, v Version, sessionPresent bool, r Reason, p *ConnackProps) []byte {
	present := boolBit(sessionPresent && r == Success && v != V31, 1) // 3.1 has the byte, but reserved
	if v != V5 {
		return append(dst, byte(CONNACK)<<4, 2, present, ConnackCode3(r))
	}
	f, dst := beginFrame(dst, byte(CONNACK)<<4)
	dst = append(dst, present, byte(r))
	start, dst := beginProps(dst)
	if p != nil {
		dst = appendConnackProps(dst, p)
	}
	return f.end(endProps(dst, start))
}

func appendConnackProps(dst []byte, p *ConnackProps) []byte {
	if p.HasSessionExpiry {
		dst = appendProp32(dst, pSessionExpiry, p.SessionExpiry)
	}
	if p.ReceiveMax != 0 {
		dst = appendProp16(dst, pReceiveMax, p.ReceiveMax)
	}
	if p.HasMaximumQoS && p.MaximumQoS < 2 {
		dst = append(dst, pMaximumQoS, p.MaximumQoS)
	}
	if p.MaxPacket != 0 {
		dst = appendProp32(dst, pMaxPacket, p.MaxPacket)
	}
	if p.TopicAliasMax != 0 {
		dst = appendProp16(dst, pTopicAliasMax, p.TopicAliasMax)
	}
	if p.HasServerKeepAlive {
		dst = appendProp16(dst, pServerKeepAlive, p.ServerKeepAlive)
	}
	dst = appendFlagProp(dst, pRetainAvailable, p.HasRetainAvailable, p.RetainAvailable)
	dst = appendFlagProp(dst, pWildcardAvail, p.HasWildcardSubAvail, p.WildcardSubAvail)
	dst = appendFlagProp(dst, pSubIDAvail, p.HasSubIDAvail, p.SubIDAvail)
	dst = appendFlagProp(dst, pSharedAvail, p.HasSharedSubAvail, p.SharedSubAvail)
	dst = appendOptional(dst, pAssignedID, p.AssignedClientID)
	dst = appendOptional(dst, pReasonString, p.ReasonString)
	dst = appendOptional(dst, pResponseInfo, p.ResponseInfo)
	dst = appendOptional(dst, pServerReference, p.ServerReference)
	if p.HasAuthMethod {
		dst = appendPropBytes(dst, pAuthMethod, p.AuthMethod)
	}
	dst = appendOptional(dst, pAuthData, p.AuthData)
	return append(dst, p.UserProps...)
}

func appendFlagProp(dst []byte, id byte, has, on bool) []byte {
	if !has {
		return dst
	}
	return append(dst, id, boolBit(on, 1))
}

func appendOptional(dst []byte, id byte, v []byte) []byte {
	if len(v) == 0 {
		return dst
	}
	return appendPropBytes(dst, id, v)
}
