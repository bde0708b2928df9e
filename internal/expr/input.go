package expr

import (
	"unicode/utf8"
	"unsafe"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr/scan"
)

// Direction is where an event goes.
type Direction uint8

// The directions.
const (
	FromDevice Direction = iota // a client publishes
	ToDevice                    // a subscriber is to receive
)

// Input is what an expression looks at. Owned by one goroutine, usually a loop, which keeps one and uses it for every
// event; the zero value is ready. The caller sets the exported fields; what they point to must stay as it is while an
// expression is evaluated.
type Input struct {
	Event *event.Event // nil: there is none, as when a client is classified; its variables are then empty
	// Client is who is meant by client.*, conn.* and attrs; nil: Event.From.
	Client *event.Origin
	// Address is where the client comes from, as text without port; empty: what its origin says.
	Address string
	// Class and ClassAttrs are the client's device class and what the class adds to its attributes; empty: what its origin
	// says.
	Class      string
	ClassAttrs map[string]string
	Now        int64     // Unix nanoseconds
	Direction  Direction // of the event
	Key        []byte    // event.key: of an event that a source pulled
	// Captures are the levels of the topic that the names in Options.Captures stand for, in their order.
	Captures [][]byte
	// CaptureNames are the names of Captures for expressions with Options.AnyCapture.
	CaptureNames []string

	held    *event.Event // what Begin was told
	scanned uint8        // which of them were
	json    scan.Doc
	cbor    scan.Doc
	err     *EvalError // of the last term that failed
	locals  [maxLocals]val
	attrs   [2]box // the attribute maps: of the principal, of the device
	arena   []byte // strings that the evaluation made
	steps   int    // of comprehensions, in this evaluation
}

// Bounds of one evaluation.
const (
	maxLocals = 8      // variables of macros within each other
	maxSteps  = 20_000 // elements that macros look at, and lookups in the payload by length
	keepArena = 64 << 10
)

const (
	scannedJSON = 1 << iota
	scannedCBOR
)

// Begin says that ev is what the next expressions look at, until the next Begin: its payload is then checked once for
// all of them. Without it each Match begins anew. ev and its bytes must not change in between; who rewrites the event
// calls Begin again.
func (in *Input) Begin(ev *event.Event) {
	in.Event, in.held = ev, ev
	in.scanned = 0
}

// End forgets the event, so that nothing holds its bytes.
func (in *Input) End() {
	in.Event, in.held, in.scanned = nil, nil, 0
	in.json.Release()
	in.cbor.Release()
	clear(in.locals[:])
}

// enter begins an evaluation.
func (in *Input) enter() {
	if in.held == nil || in.held != in.Event {
		in.held, in.scanned = nil, 0
	}
	in.err = nil
	in.steps = 0
	if cap(in.arena) > keepArena {
		in.arena = nil
	}
	in.arena = in.arena[:0]
	if in.scanned != 0 {
		in.json.Reset()
		in.cbor.Reset()
	}
}

func (in *Input) origin() *event.Origin {
	if in.Client != nil {
		return in.Client
	}
	if in.Event != nil && in.Event.From != nil {
		return in.Event.From
	}
	return &nobody
}

// nobody is the client of an event that has none. Never written.
var nobody event.Origin

// view is b as a string without a copy.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// bytesOf is s as bytes without a copy; not to be written.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// doc returns the scanned payload.
func (in *Input) doc(cbor bool) *scan.Doc {
	d, bit := &in.json, uint8(scannedJSON)
	if cbor {
		d, bit = &in.cbor, scannedCBOR
	}
	if in.scanned&bit == 0 {
		in.scanned |= bit
		var b []byte
		if in.Event != nil {
			b = in.Event.Payload
		}
		if cbor {
			_ = d.ScanCBOR(b) // Doc.Err keeps it
		} else {
			_ = d.ScanJSON(b)
		}
	}
	return d
}

func validText(s string) bool { return utf8.ValidString(s) }

func (in *Input) text() (string, bool) {
	if in.Event == nil {
		return "", true
	}
	return view(in.Event.Payload), utf8.Valid(in.Event.Payload)
}

// timeVal is a point in time; the language has those that 64 bits of nanoseconds hold.
func timeVal(ns int64) val { return val{k: vTime, n: uint64(ns)} }

// maxUnix bounds the seconds that 64 bits of nanoseconds hold.
const maxUnix = 9_223_372_036
