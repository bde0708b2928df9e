// Package cloudevents turns events into CloudEvents 1.0 and back: binary content mode of the HTTP binding, structured
// mode of the JSON event format, and the names that an attribute has in each protocol (mapping, "Fields").
//
// A CloudEvent exists only at the edges. Within Windrose its attributes are headers with bare names, as in the MQTT
// binding (section 3.1.3), so an event that carries them already is a CloudEvent in binary mode, and one whose content type begins
// with application/cloudevents is one in structured mode. Both pass as they are.
//
// # Concurrency
//
// An Encoder is immutable after New and safe for concurrent use; the functions have no state.
package cloudevents

import (
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/windrose-edc/windrose/internal/event"
)

// SpecVersion is the version of CloudEvents that is written. Any 1.x is read.
const SpecVersion = "1.0"

// StructuredType is the media type of the JSON event format.
const StructuredType = "application/cloudevents+json"

// DefaultType is the attribute type of an event that does not bring its own.
const DefaultType = "windrose.event"

// The extension attributes of Windrose, beside the documented extensions expirytime and correlationid.
const (
	ExtQoS         = "edcqos"         // integer: 0, 1, 2
	ExtRetain      = "edcretain"      // boolean, only when true
	ExtClient      = "edcclient"      // who sent it
	ExtUser        = "edcuser"        // the sender's principal
	ExtReplyTo     = "edcreplyto"     // topic for the answer
	ExtCorrelation = "edccorrelation" // correlation data that is not text, base64
)

// Attributes of documented extensions that Windrose writes.
const (
	attrExpiry      = "expirytime"
	attrCorrelation = "correlationid"
)

// Kind says whether an event already is a CloudEvent.
type Kind uint8

// The kinds of event.
const (
	Plain      Kind = iota // not a CloudEvent
	Binary                 // the attributes are headers
	Structured             // attributes and data are the payload
)

// KindOf looks at the content type and the headers of an event.
func KindOf(ev *event.Event) Kind {
	if IsStructured(string(ev.MetaValue(event.MetaContentType))) {
		return Structured
	}
	if strings.HasPrefix(string(ev.Header("specversion")), "1.") && len(ev.Header("id")) > 0 && len(ev.Header("source")) > 0 && len(ev.Header("type")) > 0 {
		return Binary
	}
	return Plain
}

// IsStructured says whether a content type announces a CloudEvent in structured (or batched) mode.
func IsStructured(contentType string) bool {
	const p = "application/cloudevents"
	return len(contentType) >= len(p) && strings.EqualFold(contentType[:len(p)], p)
}

// Options of an Encoder. Immutable.
type Options struct {
	Node   string // part of the default source
	Source string // the attribute source; /windrose/NODE/LISTENER when empty
	Type   string // the attribute type; DefaultType when empty
}

// Encoder writes events as CloudEvents. Immutable after New; safe for concurrent use.
type Encoder struct {
	source, prefix, typ string
}

// New returns an encoder.
func New(o Options) *Encoder {
	e := &Encoder{source: o.Source, prefix: "/windrose/" + url.PathEscape(o.Node) + "/", typ: o.Type}
	if e.typ == "" {
		e.typ = DefaultType
	}
	return e
}

// valueKind is the type of an attribute, where it is not a string (CloudEvents, section 3.1).
type valueKind uint8

const (
	text valueKind = iota
	integer
	boolean
)

type attribute struct {
	name, value string
	kind        valueKind
}

// attributes is the context of one event. Owned by the call that made it.
type attributes struct {
	list    []attribute
	content string // datacontenttype
	dropped int
}

func (a *attributes) add(name, value string, kind valueKind) {
	a.list = append(a.list, attribute{name, value, kind})
}

func (a *attributes) has(name string) bool {
	for i := range a.list {
		if a.list[i].name == name {
			return true
		}
	}
	return false
}

// attributes collects what an event becomes. id names a Plain event: unique, and the same whenever it is sent again.
func (e *Encoder) attributes(ev *event.Event, id string, kind Kind) attributes {
	a := attributes{list: make([]attribute, 0, 16)}
	if kind == Plain {
		e.own(&a, ev, id)
	}
	var isText bool
	var replyTo, correlation []byte
	for m := ev.Meta; ; {
		it, rest, ok := event.NextMeta(m)
		if !ok {
			break
		}
		m = rest
		switch it.ID {
		case event.MetaPayloadFormat:
			isText = it.Byte == 1
		case event.MetaContentType:
			a.content = string(it.Value)
		case event.MetaReplyTo:
			replyTo = it.Value
		case event.MetaCorrelation:
			correlation = it.Value
		case event.MetaHeader:
			e.header(&a, it, kind)
		}
	}
	if len(replyTo) > 0 && !a.has(ExtReplyTo) {
		a.add(ExtReplyTo, string(replyTo), text)
	}
	switch {
	case len(correlation) == 0 || a.has(ExtCorrelation) || a.has(attrCorrelation):
	case isString(correlation):
		a.add(attrCorrelation, string(correlation), text)
	default:
		a.add(ExtCorrelation, base64.StdEncoding.EncodeToString(correlation), text)
	}
	if a.content == "" && isText {
		a.content = "text/plain; charset=utf-8"
	}
	return a
}

// own adds what Windrose knows about an event that is no CloudEvent.
func (e *Encoder) own(a *attributes, ev *event.Event, id string) {
	from := ev.From
	if from == nil {
		from = &event.Origin{}
	}
	source := e.source
	if source == "" {
		source = e.prefix + url.PathEscape(from.Listener)
	}
	a.add("specversion", SpecVersion, text)
	a.add("id", id, text)
	a.add("source", source, text)
	a.add("type", e.typ, text)
	a.add("subject", string(ev.Topic), text)
	if ev.Time != 0 {
		a.add("time", timestamp(ev.Time), text)
	}
	if ev.Expires != 0 {
		a.add(attrExpiry, timestamp(ev.Expires), text)
	}
	a.add(ExtQoS, strconv.Itoa(int(ev.QoS)), integer)
	if ev.Retain {
		a.add(ExtRetain, "true", boolean)
	}
	if from.Client != "" {
		a.add(ExtClient, from.Client, text)
	}
	if from.User != "" {
		a.add(ExtUser, from.User, text)
	}
}

// header adds a header of the sender. What the sender of a Plain event says can never take the place of what Windrose
// says, and what no attribute can carry is counted.
func (e *Encoder) header(a *attributes, it event.Item, kind Kind) {
	name := string(it.Key)
	switch {
	case kind == Binary && name == "datacontenttype":
		if a.content == "" {
			a.content = string(it.Value)
		}
	case !isName(name), !isString(it.Value), a.has(name), kind == Plain && reserved(name):
		a.dropped++
	default:
		a.add(name, string(it.Value), text)
	}
}

// reserved names are not taken from the headers of an event that is no CloudEvent.
func reserved(name string) bool {
	switch name {
	case "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data", attrExpiry,
		attrCorrelation, "authid", "authtype", "authclaims":
		return true
	}
	return strings.HasPrefix(name, "edc")
}

// isName says whether an attribute may have this name (CloudEvents, section 3.1, "Attribute Naming Convention").
func isName(s string) bool {
	if s == "" || s == "data" {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// isString says whether an attribute may have this value (CloudEvents, section 3.1, "String").
func isString[T ~string | ~[]byte](v T) bool {
	s := string(v)
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < 0x20 || r >= 0x7f && r <= 0x9f {
			return false
		}
	}
	return true
}

func timestamp(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }

// Naming is how a protocol names the attributes of a CloudEvent among its own metadata.
type Naming string

// The namings of the bindings; MQTT's is also that of the headers of an event.
const (
	MQTT  Naming = ""
	HTTP  Naming = "ce-"
	AMQP  Naming = "cloudEvents_"
	Kafka Naming = "ce_"
	NATS  Naming = "ce-"
)

// Name is the attribute's name in the protocol.
func (n Naming) Name(attribute string) string { return string(n) + attribute }

// Attribute is the attribute that a name in the protocol stands for; ok is false where it stands for none. HTTP's
// names are compared without case, and AMQP's other prefix (cloudEvents:) is understood.
func (n Naming) Attribute(name string) (attribute string, ok bool) {
	switch n {
	case HTTP:
		name = strings.ToLower(name)
	case AMQP:
		if rest, found := strings.CutPrefix(name, "cloudEvents:"); found {
			return rest, isName(rest)
		}
	case MQTT, Kafka: // as they are
	}
	rest, found := strings.CutPrefix(name, string(n))
	return rest, found && isName(rest)
}
