// Package event holds the one thing that flows through Windrose and what is said about it: the event, its topic, the
// outcome of a delivery and the ticket that reports it. It is layer 0: it imports the standard library only and every
// other package may import it.
//
// # Concurrency
//
// An Event is borrowed: it and the bytes it points to are valid until the call that was given it returns. Whoever must
// keep it longer calls Keep, which copies once; every later Keep of the same event shares that copy. A Kept event is
// immutable and safe for concurrent use.
package event

// QoS is the delivery promise that the sender asked for, in MQTT's words; every protocol maps its own onto it (NON,
// settled, no confirm: 0; CON, unsettled, confirm: 1).
type QoS uint8

// The three promises.
const (
	AtMostOnce  QoS = 0
	AtLeastOnce QoS = 1
	ExactlyOnce QoS = 2
)

// Origin says where an event came from. Immutable once the session is open: one Origin is shared by all events of a
// connection.
type Origin struct {
	Client   string            // client id, link name, endpoint: what the protocol calls the peer
	User     string            // name of the principal, "" when anonymous
	Attrs    map[string]string // attributes of the principal; never written after the session is open
	Listener string            // name of the listener or source
	Protocol string            // "mqtt", "coap", "amqp", "http"
	Pool     string            // name of the pool that a source reads from: the event is never sent back to it
	Taker    uint32            // the session's own number in the route table, 0 when it has none (MQTT no local)
	// NoRefusal says that the client's protocol cannot tell it that an event was refused (MQTT 3.x): it is acknowledged, and
	// what no subscriber took becomes a dead letter
	NoRefusal bool
	Lane      uint32 // a number of the connection: events of one publisher, topic and QoS keep their order
	// Address is where the client comes from, without port; empty when unknown
	Address string
	Class   *Class // the client's device class; nil: nobody has asked
}

// Attr is an attribute of the client: what authentication gave it, else what its class gives; "" when there is none.
func (o *Origin) Attr(name string) string {
	if v, ok := o.Attrs[name]; ok || o.Class == nil {
		return v
	}
	return o.Class.Attrs[name]
}

// Class is a kind of device: what the configuration says of all clients that belong to it. Immutable.
type Class struct {
	Name  string            // "" where a client belongs to none
	Attrs map[string]string // that its clients have beside their own
	Of    uint64            // number of the classes of which this is one
}

// Event is one message from one source. Owned by the caller of the walk; borrowed by everyone it is handed to (see
// Keep). Topic, Payload and Meta must never be written by who was handed the event.
type Event struct {
	Topic   []byte // MQTT topic name, UTF-8, at most 65,535 bytes
	Payload []byte
	// Meta is the list of metadata in the encoding of meta.go: content type, payload format, reply-to, correlation,
	// headers. Order and duplicates of headers are kept.
	Meta    []byte
	From    *Origin
	Time    int64 // arrival, Unix nanoseconds
	Expires int64 // Unix nanoseconds; 0: never
	QoS     QoS
	Retain  bool
	// Dry says that the event is not sent: it walks so that every stage says what it would do, and no Target takes it.
	Dry bool
	// Trace is the number of the record of its decision path; 0, for almost every event: nobody looks.
	Trace uint32

	kept *Kept
}

// Kept is an event that owns its bytes. Immutable; safe for concurrent use. The garbage collector counts its
// references.
type Kept struct {
	Event
}

// Keep returns an event that owns its bytes. The first call copies topic, metadata and payload into one allocation;
// later calls on the same Event return the same copy.
func (e *Event) Keep() *Kept {
	if e.kept != nil {
		return e.kept
	}
	k := &Kept{Event: *e}
	b := make([]byte, len(e.Topic)+len(e.Meta)+len(e.Payload))
	n := copy(b, e.Topic)
	m := n + copy(b[n:], e.Meta)
	copy(b[m:], e.Payload)
	k.Topic, k.Meta, k.Payload = b[:n:n], b[n:m:m], b[m:]
	k.kept = k
	e.kept = k
	return k
}

// Changed forgets a copy that an earlier Keep made; who rewrites a field of an event (a policy) calls it afterwards.
func (e *Event) Changed() { e.kept = nil }

// Size is what the event counts against byte bounds of queues: its bytes and a fixed share for bookkeeping.
func (e *Event) Size() int { return len(e.Topic) + len(e.Meta) + len(e.Payload) + 128 }

// Expired says whether the event's time has passed. now is Unix nanoseconds.
func (e *Event) Expired(now int64) bool { return e.Expires != 0 && now >= e.Expires }
