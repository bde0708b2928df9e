package wire

import "strconv"

// Reason is a reason code of MQTT 5 (section 2.4). Codes from 0x80 on say that something failed.
type Reason byte

// The reason codes. Success also stands for a normal disconnection and for granted QoS 0.
const (
	Success                  Reason = 0x00
	GrantedQoS1              Reason = 0x01
	GrantedQoS2              Reason = 0x02
	DisconnectWithWill       Reason = 0x04
	NoMatchingSubscribers    Reason = 0x10
	NoSubscriptionExisted    Reason = 0x11
	ContinueAuthentication   Reason = 0x18
	ReAuthenticate           Reason = 0x19
	UnspecifiedError         Reason = 0x80
	MalformedPacket          Reason = 0x81
	ProtocolError            Reason = 0x82
	ImplementationSpecific   Reason = 0x83
	UnsupportedVersion       Reason = 0x84
	ClientIDNotValid         Reason = 0x85
	BadUserNameOrPassword    Reason = 0x86
	NotAuthorized            Reason = 0x87
	ServerUnavailable        Reason = 0x88
	ServerBusy               Reason = 0x89
	Banned                   Reason = 0x8a
	ServerShuttingDown       Reason = 0x8b
	BadAuthMethod            Reason = 0x8c
	KeepAliveTimeout         Reason = 0x8d
	SessionTakenOver         Reason = 0x8e
	TopicFilterInvalid       Reason = 0x8f
	TopicNameInvalid         Reason = 0x90
	PacketIDInUse            Reason = 0x91
	PacketIDNotFound         Reason = 0x92
	ReceiveMaximumExceeded   Reason = 0x93
	TopicAliasInvalid        Reason = 0x94
	PacketTooLarge           Reason = 0x95
	MessageRateTooHigh       Reason = 0x96
	QuotaExceeded            Reason = 0x97
	AdministrativeAction     Reason = 0x98
	PayloadFormatInvalid     Reason = 0x99
	RetainNotSupported       Reason = 0x9a
	QoSNotSupported          Reason = 0x9b
	UseAnotherServer         Reason = 0x9c
	ServerMoved              Reason = 0x9d
	SharedSubsNotSupported   Reason = 0x9e
	ConnectionRateExceeded   Reason = 0x9f
	MaximumConnectTime       Reason = 0xa0
	SubIDsNotSupported       Reason = 0xa1
	WildcardSubsNotSupported Reason = 0xa2
)

// Failed says whether the code reports a failure.
func (r Reason) Failed() bool { return r >= 0x80 }

// String is the name of the code in the specification.
func (r Reason) String() string {
	switch {
	case r >= UnspecifiedError && r <= WildcardSubsNotSupported:
		return failureNames[r-UnspecifiedError]
	case r == Success:
		return "success"
	case r == GrantedQoS1:
		return "granted QoS 1"
	case r == GrantedQoS2:
		return "granted QoS 2"
	case r == DisconnectWithWill:
		return "disconnect with will message"
	case r == NoMatchingSubscribers:
		return "no matching subscribers"
	case r == NoSubscriptionExisted:
		return "no subscription existed"
	case r == ContinueAuthentication:
		return "continue authentication"
	case r == ReAuthenticate:
		return "re-authenticate"
	}
	return "reason 0x" + strconv.FormatUint(uint64(r), 16)
}

var failureNames = [...]string{
	"unspecified error", "malformed packet", "protocol error", "implementation specific error",
	"unsupported protocol version", "client identifier not valid", "bad user name or password", "not authorized",
	"server unavailable", "server busy", "banned", "server shutting down", "bad authentication method",
	"keep alive timeout", "session taken over", "topic filter invalid", "topic name invalid",
	"packet identifier in use", "packet identifier not found", "receive maximum exceeded", "topic alias invalid",
	"packet too large", "message rate too high", "quota exceeded", "administrative action", "payload format invalid",
	"retain not supported", "QoS not supported", "use another server", "server moved",
	"shared subscriptions not supported", "connection rate exceeded", "maximum connect time",
	"subscription identifiers not supported", "wildcard subscriptions not supported",
}

// ConnackCode3 is the return code of MQTT 3.x for a reason (3.1.1 section 3.2.2.3): its six codes are all that an older
// client understands. Whatever 3.x has no word for becomes 3, server unavailable. A CONNECT that breaks the protocol
// gets no CONNACK there: the connection is closed.
func ConnackCode3(r Reason) byte {
	switch r {
	case Success:
		return 0
	case UnsupportedVersion:
		return 1
	case ClientIDNotValid:
		return 2
	case BadUserNameOrPassword, BadAuthMethod:
		return 4
	case NotAuthorized, Banned:
		return 5
	default:
		return 3
	}
}

// connackReason3 is the other way round, for the client end; ok is false for codes that do not exist.
func connackReason3(code byte) (r Reason, ok bool) {
	switch code {
	case 0:
		return Success, true
	case 1:
		return UnsupportedVersion, true
	case 2:
		return ClientIDNotValid, true
	case 3:
		return ServerUnavailable, true
	case 4:
		return BadUserNameOrPassword, true
	case 5:
		return NotAuthorized, true
	}
	return 0, false
}

// The codes that each packet may carry, by the tables of their sections.

func okConnack(r Reason) bool { // 3.2.2.2
	switch r {
	case Success, UnspecifiedError, MalformedPacket, ProtocolError, ImplementationSpecific, UnsupportedVersion,
		ClientIDNotValid, BadUserNameOrPassword, NotAuthorized, ServerUnavailable, ServerBusy, Banned, BadAuthMethod,
		TopicNameInvalid, PacketTooLarge, QuotaExceeded, PayloadFormatInvalid, RetainNotSupported, QoSNotSupported,
		UseAnotherServer, ServerMoved, ConnectionRateExceeded:
		return true
	default:
		return false
	}
}

func okAck(k Kind, r Reason) bool { // 3.4.2.1 to 3.7.2.1
	switch r {
	case Success:
		return true
	case PacketIDNotFound:
		return k == PUBREL || k == PUBCOMP
	case NoMatchingSubscribers, UnspecifiedError, ImplementationSpecific, NotAuthorized, TopicNameInvalid,
		PacketIDInUse, QuotaExceeded, PayloadFormatInvalid:
		return k == PUBACK || k == PUBREC
	default:
		return false
	}
}

func okSuback(r Reason) bool { // 3.9.3
	switch r {
	case Success, GrantedQoS1, GrantedQoS2, UnspecifiedError, ImplementationSpecific, NotAuthorized,
		TopicFilterInvalid, PacketIDInUse, QuotaExceeded, SharedSubsNotSupported, SubIDsNotSupported,
		WildcardSubsNotSupported:
		return true
	default:
		return false
	}
}

func okUnsuback(r Reason) bool { // 3.11.3
	switch r {
	case Success, NoSubscriptionExisted, UnspecifiedError, ImplementationSpecific, NotAuthorized, TopicFilterInvalid,
		PacketIDInUse:
		return true
	default:
		return false
	}
}

func okDisconnect(r Reason, fromServer bool) bool { // 3.14.2.1
	switch r {
	case Success, UnspecifiedError, MalformedPacket, ProtocolError, ImplementationSpecific, TopicNameInvalid,
		ReceiveMaximumExceeded, TopicAliasInvalid, PacketTooLarge, MessageRateTooHigh, QuotaExceeded,
		AdministrativeAction, PayloadFormatInvalid:
		return true
	case DisconnectWithWill:
		return !fromServer
	case NotAuthorized, ServerBusy, ServerShuttingDown, KeepAliveTimeout, SessionTakenOver, TopicFilterInvalid,
		RetainNotSupported, QoSNotSupported, UseAnotherServer, ServerMoved, SharedSubsNotSupported,
		ConnectionRateExceeded, MaximumConnectTime, SubIDsNotSupported, WildcardSubsNotSupported:
		return fromServer
	default:
		return false
	}
}

func okAuth(r Reason, fromServer bool) bool { // 3.15.2.1
	switch r {
	case ContinueAuthentication:
		return true
	case Success:
		return fromServer
	case ReAuthenticate:
		return !fromServer
	default:
		return false
	}
}
