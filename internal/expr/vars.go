package expr

import (
	"slices"

	"cel.dev/cel-go/cel"

	"github.com/windrose-edc/windrose/internal/event"
)

// variable is one name of the language: its type, what it means and how it is read. Immutable.
type variable struct {
	name  string
	typ   *cel.Type
	doc   string
	event bool   // there is none without an event
	size  uint64 // greatest size that the cost bound reckons with; 0: a number
	// str reads a string without further ado; val reads everything else. One of the two is nil.
	str func(in *Input) string
	val func(in *Input) val
}

const (
	sizeWord    = 256
	sizeTopic   = 1024
	sizePayload = 64 << 10
)

var stringMap = cel.MapType(cel.StringType, cel.StringType)

// variables is the language: docs/reference/expressions.md is made of it.
var variables = []variable{
	{name: "event.topic", typ: cel.StringType, event: true, size: sizeTopic, doc: "Topic of the event.", str: func(in *Input) string {
		if in.Event == nil {
			return ""
		}
		return view(in.Event.Topic)
	}},
	{name: "event.payload", typ: cel.BytesType, event: true, size: sizePayload, doc: "The payload as bytes.", val: func(in *Input) val {
		if in.Event == nil {
			return bytesVal("")
		}
		return bytesVal(view(in.Event.Payload))
	}},
	{name: "event.text", typ: cel.StringType, event: true, size: sizePayload, doc: "The payload as text; an error when it is not UTF-8.", val: func(in *Input) val {
		s, ok := in.text()
		if !ok {
			return errVal
		}
		return stringVal(s)
	}},
	{name: "event.json", typ: cel.DynType, event: true, size: sizePayload, doc: "The payload as JSON: event.json.temperature, event.json.list[0], event.json[\"a-b\"]. Whole numbers are int (above 2^63-1 uint), all others double. An error when it is not strict JSON: every reader must see the same value in it.", val: func(in *Input) val {
		return fromScan(in.doc(false).Root())
	}},
	{name: "event.cbor", typ: cel.DynType, event: true, size: sizePayload, doc: "The payload as CBOR, read like event.json; names may also be integers: event.cbor[1].", val: func(in *Input) val {
		return fromScan(in.doc(true).Root())
	}},
	{name: "event.size", typ: cel.IntType, event: true, doc: "Bytes of the payload.", val: func(in *Input) val {
		if in.Event == nil {
			return intVal(0)
		}
		return intVal(int64(len(in.Event.Payload)))
	}},
	{name: "event.qos", typ: cel.IntType, event: true, doc: "What the sender asked for: 0 at most once, 1 at least once, 2 exactly once.", val: func(in *Input) val {
		if in.Event == nil {
			return intVal(0)
		}
		return intVal(int64(in.Event.QoS))
	}},
	{name: "event.retain", typ: cel.BoolType, event: true, doc: "Whether the event is to be kept as the last of its topic.", val: func(in *Input) val {
		return boolVal(in.Event != nil && in.Event.Retain)
	}},
	{name: "event.time", typ: cel.TimestampType, event: true, doc: "When the event arrived.", val: func(in *Input) val {
		if in.Event == nil {
			return timeVal(in.Now)
		}
		return timeVal(in.Event.Time)
	}},
	{name: "event.direction", typ: cel.StringType, size: sizeWord, doc: "`from_device` where a client publishes, `to_device` where a subscriber is to receive.", str: func(in *Input) string {
		if in.Direction == ToDevice {
			return "to_device"
		}
		return "from_device"
	}},
	{name: "event.content_type", typ: cel.StringType, event: true, size: sizeWord, doc: "Content type that the sender gave; empty when none.", str: meta(event.MetaContentType)},
	{name: "event.reply_to", typ: cel.StringType, event: true, size: sizeTopic, doc: "Where an answer is expected (MQTT response topic, AMQP reply-to); empty when nowhere.", str: meta(event.MetaReplyTo)},
	{name: "event.correlation", typ: cel.BytesType, event: true, size: sizeWord, doc: "Correlation data; empty when none.", val: func(in *Input) val {
		return bytesVal(meta(event.MetaCorrelation)(in))
	}},
	{name: "event.headers", typ: stringMap, event: true, size: sizeWord, doc: "Headers, by name (MQTT user properties, AMQP application properties): event.headers[\"x-id\"], \"x-id\" in event.headers. The first counts where a name occurs twice.", val: func(in *Input) val {
		if in.Event == nil {
			return val{k: vHeaders}
		}
		return val{k: vHeaders, s: view(in.Event.Meta)}
	}},
	{name: "event.key", typ: cel.StringType, event: true, size: sizeWord, doc: "Key of the record that a source pulled; empty for all else.", str: func(in *Input) string { return view(in.Key) }},
	{name: "event.client", typ: cel.StringType, size: sizeWord, doc: "The same as client.id.", str: clientID},
	{name: "event.protocol", typ: cel.StringType, size: sizeWord, doc: "The same as conn.protocol.", str: protocol},
	{name: "event.proto", typ: cel.StringType, size: sizeWord, doc: "Short for event.protocol.", str: protocol},
	{name: "client.id", typ: cel.StringType, size: sizeWord, doc: "Client id, link name or endpoint: what the protocol calls the peer.", str: clientID},
	{name: "client.user", typ: cel.StringType, size: sizeWord, doc: "Name of the principal; empty when anonymous.", str: func(in *Input) string { return in.origin().User }},
	{name: "client.attrs", typ: stringMap, size: sizeWord, doc: "Attributes of the principal, as authentication gave them.", val: principalAttrs},
	{name: "client.listener", typ: cel.StringType, size: sizeWord, doc: "The same as conn.listener.", str: listener},
	{name: "client.protocol", typ: cel.StringType, size: sizeWord, doc: "The same as conn.protocol.", str: protocol},
	{name: "client.class", typ: cel.StringType, size: sizeWord, doc: "The same as device.class.", str: class},
	{name: "client.address", typ: cel.StringType, size: sizeWord, doc: "Address that the client comes from, without port; empty when unknown.", str: address},
	{name: "attrs", typ: stringMap, size: sizeWord, doc: "Short for client.attrs.", val: principalAttrs},
	{name: "conn.listener", typ: cel.StringType, size: sizeWord, doc: "Name of the listener or source.", str: listener},
	{name: "conn.protocol", typ: cel.StringType, size: sizeWord, doc: "`mqtt`, `coap`, `amqp`, `http`.", str: protocol},
	{name: "conn.pool", typ: cel.StringType, size: sizeWord, doc: "Pool that a source reads from; empty for clients.", str: func(in *Input) string { return in.origin().Pool }},
	{name: "device.class", typ: cel.StringType, size: sizeWord, doc: "Class of the device: the first under `devices` whose expression holds; empty when none.", str: class},
	{name: "device.attrs", typ: stringMap, size: sizeWord, doc: "The attributes of the principal, and beside them what the class gives: where both have a name, the principal's counts.", val: func(in *Input) val {
		given := in.ClassAttrs
		if c := in.origin().Class; given == nil && c != nil {
			given = c.Attrs
		}
		in.attrs[1].attrs = [2]map[string]string{in.origin().Attrs, given}
		return val{k: vAttrs, p: &in.attrs[1]}
	}},
	{name: "now", typ: cel.TimestampType, doc: "The time.", val: func(in *Input) val { return timeVal(in.Now) }},
	{name: "vars", typ: stringMap, event: true, size: sizeTopic, doc: "What the {names} of the topic stand for: vars.tenant for site/{tenant}/#."},
	{name: "sets", typ: cel.MapType(cel.StringType, stringMap), size: sizeWord, doc: "Named sets: client.id in sets.blocked, client.address in sets.office, event.topic in sets.alarms, sets.region[client.id]. A set can be asked, not walked through."},
}

func meta(id byte) func(in *Input) string {
	return func(in *Input) string {
		if in.Event == nil || len(in.Event.Meta) == 0 {
			return ""
		}
		return view(in.Event.MetaValue(id))
	}
}

func clientID(in *Input) string { return in.origin().Client }
func protocol(in *Input) string { return in.origin().Protocol }
func listener(in *Input) string { return in.origin().Listener }

func class(in *Input) string {
	if in.Class != "" {
		return in.Class
	}
	if c := in.origin().Class; c != nil {
		return c.Name
	}
	return ""
}

func address(in *Input) string {
	if in.Address != "" {
		return in.Address
	}
	return in.origin().Address
}

func principalAttrs(in *Input) val {
	in.attrs[0].attrs[1] = in.origin().Attrs
	return val{k: vAttrs, p: &in.attrs[0]}
}

// byName finds a variable; nil when there is none.
func byName(name string) *variable {
	if i := slices.IndexFunc(variables, func(v variable) bool { return v.name == name }); i >= 0 {
		return &variables[i]
	}
	return nil
}
