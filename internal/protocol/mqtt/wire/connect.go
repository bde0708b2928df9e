package wire

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/windrose-edc/windrose/internal/event"
)

// Connect is the first packet of a client (section 3.1). Its slices point into the packet.
type Connect struct {
	Version   Version
	Bridge    bool // bit 0x80 of the level: the client is a bridge of a Mosquitto-like broker (3.x only)
	Clean     bool // clean session (3.x), clean start (5)
	KeepAlive uint16

	ClientID    []byte
	Username    []byte
	Password    []byte
	HasUsername bool
	HasPassword bool
	Will        Will

	// The rest is of MQTT 5; older versions have the values that 5 gives to an absent property.
	SessionExpiry       uint32 // seconds; 0xffffffff: never
	ReceiveMax          uint16 // 65535 when absent
	MaxPacket           uint32 // bytes; 0: no bound
	TopicAliasMax       uint16
	RequestResponseInfo bool
	RequestProblemInfo  bool // true when absent
	AuthMethod          []byte
	AuthData            []byte
	HasAuthMethod       bool
	UserProps           []byte // in the encoding of event/meta.go
}

// Will is what the server publishes for a client that is gone (section 3.1.2.5).
type Will struct {
	Present bool
	Topic   []byte
	Payload []byte
	QoS     byte
	Retain  bool

	Delay     uint32 // seconds
	Expiry    uint32 // seconds
	HasExpiry bool
	Meta      []byte // in the encoding of event/meta.go
}

const (
	flagReserved = 1 << iota
	flagClean
	flagWill
	_
	_
	flagWillRetain
	flagPassword
	flagUsername
)

const bridgeBit = 0x80

var (
	errProtocolName  = &Error{UnsupportedVersion, "protocol name unknown"}
	errProtocolLevel = &Error{UnsupportedVersion, "protocol version not supported"}
	errConnectFlag   = &Error{MalformedPacket, "reserved flag of CONNECT set"}
	errWillFlags     = &Error{MalformedPacket, "will QoS or retain without a will"}
	errWillQoS       = &Error{MalformedPacket, "will with quality of service 3"}
	errWillTopic     = &Error{TopicNameInvalid, "will topic is not a topic name"}
	errPasswordAlone = &Error{MalformedPacket, "password without a user name"}
	errClientID      = &Error{MalformedPacket, "client identifier is not valid UTF-8"}
	errUsername      = &Error{MalformedPacket, "user name is not valid UTF-8"}
	errNoClientID    = &Error{ClientIDNotValid, "empty client identifier with a session to keep"}
	errAuthData      = &Error{ProtocolError, "authentication data without a method"}
	errPayloadFormat = &Error{PayloadFormatInvalid, "payload is not UTF-8 although the sender says so"}
)

// Connect reads a CONNECT. After an error p.Version is what the client speaks, as far as that was reached, and 0
// otherwise: then the refusal, if any, is phrased for MQTT 3.1.1. A client identifier of more than 23 characters is
// taken in every version. In MQTT 3.1 a user name or password that is announced but missing is as if it had not been
// announced (3.1 section "Connect flags").
func (d *Decoder) Connect(body []byte, p *Connect) error {
	d.begin()
	*p = Connect{ReceiveMax: 0xffff, RequestProblemInfo: true}
	name, b, ok := splitBytes(body)
	if !ok {
		return errShort
	}
	v31 := string(name) == "MQIsdp"
	if !v31 && string(name) != "MQTT" {
		return errProtocolName
	}
	if len(b) < 4 {
		return errShort
	}
	v := Version(b[0] &^ bridgeBit)
	switch {
	case v31 != (v == V31), v < V31, v > V5, v == V5 && b[0] != byte(V5):
		return errProtocolLevel
	}
	p.Version, p.Bridge = v, b[0]&bridgeBit != 0
	flags := b[1]
	if err := checkConnectFlags(v, flags); err != nil {
		return err
	}
	p.Clean = flags&flagClean != 0
	p.KeepAlive = binary.BigEndian.Uint16(b[2:])
	b = b[4:]
	var err error
	if v == V5 {
		if b, err = d.connectProps(b, p); err != nil {
			return err
		}
	}
	if p.ClientID, b, ok = splitBytes(b); !ok {
		return errShort
	}
	if !event.ValidUTF8(p.ClientID) {
		return errClientID
	}
	if flags&flagWill != 0 {
		if b, err = d.will(b, flags, p); err != nil {
			return err
		}
	}
	if flags&flagUsername != 0 && (v != V31 || len(b) > 0) {
		if p.Username, b, ok = splitBytes(b); !ok {
			return errShort
		}
		if !event.ValidUTF8(p.Username) {
			return errUsername
		}
		p.HasUsername = true
	}
	if flags&flagPassword != 0 && (v != V31 || len(b) > 0) {
		if p.Password, b, ok = splitBytes(b); !ok {
			return errShort
		}
		p.HasPassword = true
	}
	if len(b) != 0 {
		return errLong
	}
	// Last, because a refusal that the client is to understand needs a packet that is right otherwise [MQTT-3.1.3-8].
	if len(p.ClientID) == 0 && (v == V31 || v == V311 && !p.Clean) {
		return errNoClientID
	}
	return nil
}

func checkConnectFlags(v Version, flags byte) error {
	if flags&flagReserved != 0 && v != V31 {
		return errConnectFlag // [MQTT-3.1.2-3]; 3.1 calls the bit unused
	}
	qos := flags >> 3 & 3
	if flags&flagWill == 0 && v != V31 && (qos != 0 || flags&flagWillRetain != 0) {
		return errWillFlags // [MQTT-3.1.2-11, -13]
	}
	if qos == 3 {
		return errWillQoS
	}
	if flags&flagPassword != 0 && flags&flagUsername == 0 && v != V5 {
		return errPasswordAlone // 3.1.1 [MQTT-3.1.2-22]
	}
	return nil
}

func (d *Decoder) connectProps(b []byte, p *Connect) (rest []byte, err error) {
	w, rest, err := splitProps(b, connectProps)
	if err != nil {
		return nil, err
	}
	var user gather
	for w.more() {
		switch w.id {
		case pSessionExpiry:
			p.SessionExpiry = w.num
		case pReceiveMax:
			p.ReceiveMax = uint16(w.num)
		case pMaxPacket:
			p.MaxPacket = w.num
		case pTopicAliasMax:
			p.TopicAliasMax = uint16(w.num)
		case pRequestResponse:
			p.RequestResponseInfo = w.num == 1
		case pRequestProblem:
			p.RequestProblemInfo = w.num == 1
		case pAuthMethod:
			p.AuthMethod, p.HasAuthMethod = w.val, true
		case pAuthData:
			p.AuthData = w.val
		case pUserProperty:
			user.add(d, &w)
		}
	}
	p.UserProps = user.bytes()
	if w.err == nil && w.seen.has(pAuthData) && !p.HasAuthMethod {
		return nil, errAuthData
	}
	return rest, w.err
}

func (d *Decoder) will(b []byte, flags byte, p *Connect) (rest []byte, err error) {
	w := &p.Will
	w.Present, w.QoS, w.Retain = true, flags>>3&3, flags&flagWillRetain != 0
	text := false
	if p.Version == V5 {
		if b, text, err = d.willProps(b, w); err != nil {
			return nil, err
		}
	}
	var ok bool
	if w.Topic, b, ok = splitBytes(b); !ok {
		return nil, errShort
	}
	if w.Payload, b, ok = splitBytes(b); !ok {
		return nil, errShort
	}
	if !validTopic(w.Topic) {
		return nil, errWillTopic
	}
	if text && !utf8.Valid(w.Payload) {
		return nil, errPayloadFormat
	}
	return b, nil
}

func (d *Decoder) willProps(b []byte, w *Will) (rest []byte, text bool, err error) {
	p, rest, err := splitProps(b, willProps)
	if err != nil {
		return nil, false, err
	}
	var meta gather
	for p.more() {
		switch p.id {
		case pWillDelay:
			w.Delay = p.num
		case pMessageExpiry:
			w.Expiry, w.HasExpiry = p.num, true
		default:
			text = text || p.id == pPayloadFormat && p.num == 1
			meta.add(d, &p)
		}
	}
	w.Meta = meta.bytes()
	return rest, text, p.err
}

// AppendConnect appends a CONNECT. Strings longer than 65,535 bytes are cut.
func AppendConnect(dst []byte, p *Connect) []byte {
	f, dst := beginFrame(dst, byte(CONNECT)<<4)
	name := "MQTT"
	if p.Version == V31 {
		name = "MQIsdp"
	}
	dst = appendBytes(dst, name)
	flags := boolBit(p.Clean, flagClean) | boolBit(p.HasUsername, flagUsername) | boolBit(p.HasPassword, flagPassword)
	if p.Will.Present {
		flags |= flagWill | p.Will.QoS<<3 | boolBit(p.Will.Retain, flagWillRetain)
	}
	dst = append(dst, byte(p.Version)|boolBit(p.Bridge && p.Version != V5, bridgeBit), flags)
	dst = appendUint16(dst, p.KeepAlive)
	if p.Version == V5 {
		dst = appendConnectProps(dst, p)
	}
	dst = appendBytes(dst, p.ClientID)
	if p.Will.Present {
		if p.Version == V5 {
			dst = appendWillProps(dst, &p.Will)
		}
		dst = appendBytes(dst, p.Will.Topic)
		dst = appendBytes(dst, p.Will.Payload)
	}
	if p.HasUsername {
		dst = appendBytes(dst, p.Username)
	}
	if p.HasPassword {
		dst = appendBytes(dst, p.Password)
	}
	return f.end(dst)
}

func appendConnectProps(dst []byte, p *Connect) []byte {
	start, dst := beginProps(dst)
	if p.SessionExpiry != 0 {
		dst = appendProp32(dst, pSessionExpiry, p.SessionExpiry)
	}
	if p.ReceiveMax != 0xffff && p.ReceiveMax != 0 {
		dst = appendProp16(dst, pReceiveMax, p.ReceiveMax)
	}
	if p.MaxPacket != 0 {
		dst = appendProp32(dst, pMaxPacket, p.MaxPacket)
	}
	if p.TopicAliasMax != 0 {
		dst = appendProp16(dst, pTopicAliasMax, p.TopicAliasMax)
	}
	if p.RequestResponseInfo {
		dst = append(dst, pRequestResponse, 1)
	}
	if !p.RequestProblemInfo {
		dst = append(dst, pRequestProblem, 0)
	}
	if p.HasAuthMethod {
		dst = appendPropBytes(dst, pAuthMethod, p.AuthMethod)
		if len(p.AuthData) > 0 {
			dst = appendPropBytes(dst, pAuthData, p.AuthData)
		}
	}
	return endProps(append(dst, p.UserProps...), start)
}

func appendWillProps(dst []byte, w *Will) []byte {
	start, dst := beginProps(dst)
	if w.Delay != 0 {
		dst = appendProp32(dst, pWillDelay, w.Delay)
	}
	if w.HasExpiry {
		dst = appendProp32(dst, pMessageExpiry, w.Expiry)
	}
	return endProps(append(dst, w.Meta...), start)
}
