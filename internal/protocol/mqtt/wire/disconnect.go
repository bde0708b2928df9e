package wire

// Disconnect is the last packet of a connection (section 3.14).
type Disconnect struct {
	Reason Reason // Success in MQTT 3.x
	DisconnectProps
}

// DisconnectProps is what a DISCONNECT of MQTT 5 may tell besides. What has no Has field is absent when it is empty.
type DisconnectProps struct {
	SessionExpiry    uint32 // seconds; sent by clients only
	HasSessionExpiry bool
	ReasonString     []byte
	ServerReference  []byte // sent by servers only
	UserProps        []byte // in the encoding of event/meta.go
}

// Disconnect reads the body of a DISCONNECT.
func (d *Decoder) Disconnect(v Version, body []byte, p *Disconnect) error {
	d.begin()
	*p = Disconnect{}
	if v != V5 {
		return CheckEmpty(body)
	}
	if len(body) == 0 {
		return nil
	}
	if p.Reason = Reason(body[0]); !okDisconnect(p.Reason, d.Client) {
		return errReason
	}
	if len(body) == 1 {
		return nil
	}
	allowed := disconnectProps &^ (1 << pServerReference)
	if d.Client {
		allowed = disconnectProps &^ (1 << pSessionExpiry) // [MQTT-3.14.2-2]
	}
	w, rest, err := splitProps(body[1:], allowed)
	if err != nil {
		return err
	}
	var user gather
	for w.more() {
		switch w.id {
		case pSessionExpiry:
			p.SessionExpiry, p.HasSessionExpiry = w.num, true
		case pReasonString:
			p.ReasonString = w.val
		case pServerReference:
			p.ServerReference = w.val
		default:
			user.add(d, &w)
		}
	}
	p.UserProps = user.bytes()
	if w.err == nil && len(rest) != 0 {
		return errLong
	}
	return w.err
}

// AppendDisconnect appends a DISCONNECT; p may be nil. In MQTT 3.x neither r nor p is told, and only clients send it.
func AppendDisconnect(dst []byte, v Version, r Reason, p *DisconnectProps) []byte {
	const first = byte(DISCONNECT) << 4
	if p != nil && !p.HasSessionExpiry && len(p.ReasonString)+len(p.ServerReference)+len(p.UserProps) == 0 {
		p = nil
	}
	switch {
	case v != V5 || r == Success && p == nil:
		return append(dst, first, 0)
	case p == nil:
		return append(dst, first, 1, byte(r))
	}
	f, dst := beginFrame(dst, first)
	start, dst := beginProps(append(dst, byte(r)))
	if p.HasSessionExpiry {
		dst = appendProp32(dst, pSessionExpiry, p.SessionExpiry)
	}
	dst = appendOptional(dst, pReasonString, p.ReasonString)
	dst = appendOptional(dst, pServerReference, p.ServerReference)
	dst = append(dst, p.UserProps...)
	return f.end(endProps(dst, start))
}

// Auth is one step of an extended authentication (section 3.15).
type Auth struct {
	Reason       Reason
	Method       []byte
	Data         []byte
	HasData      bool
	ReasonString []byte
	UserProps    []byte // in the encoding of event/meta.go
}

var errNoAuthMethod = &Error{ProtocolError, "AUTH without an authentication method"}

// Auth reads the body of an AUTH. It always has a method (section 3.15.2.2.2), and therefore the short forms that other
// packets have are not valid here.
func (d *Decoder) Auth(body []byte, a *Auth) error {
	d.begin()
	*a = Auth{}
	if len(body) == 0 {
		return errNoAuthMethod
	}
	if a.Reason = Reason(body[0]); !okAuth(a.Reason, d.Client) {
		return errReason
	}
	if len(body) == 1 {
		return errNoAuthMethod
	}
	w, rest, err := splitProps(body[1:], authProps)
	if err != nil {
		return err
	}
	var user gather
	for w.more() {
		switch w.id {
		case pAuthMethod:
			a.Method = w.val
		case pAuthData:
			a.Data, a.HasData = w.val, true
		case pReasonString:
			a.ReasonString = w.val
		default:
			user.add(d, &w)
		}
	}
	a.UserProps = user.bytes()
	switch {
	case w.err != nil:
		return w.err
	case len(rest) != 0:
		return errLong
	case !w.seen.has(pAuthMethod):
		return errNoAuthMethod
	}
	return nil
}

// AppendAuth appends an AUTH.
func AppendAuth(dst []byte, a *Auth) []byte {
	f, dst := beginFrame(dst, byte(AUTH)<<4)
	start, dst := beginProps(append(dst, byte(a.Reason)))
	dst = appendPropBytes(dst, pAuthMethod, a.Method)
	if a.HasData {
		dst = appendPropBytes(dst, pAuthData, a.Data)
	}
	dst = appendOptional(dst, pReasonString, a.ReasonString)
	dst = append(dst, a.UserProps...)
	return f.end(endProps(dst, start))
}
