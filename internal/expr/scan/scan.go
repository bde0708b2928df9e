// Package scan reads single values out of JSON and CBOR documents without building a tree. A document is checked once,
// strictly, from its first byte to its last; what is read afterwards is found by skipping over bytes known to be good.
//
// Strict means that no two readers can see different values in it: a name that occurs twice in one object, a name with
// an escape in it, text that is not UTF-8, half a surrogate pair, and a document deeper or longer than the bounds are
// refused. A policy that decided on one value while the backend acts on another would be no policy.
//
// # Concurrency
//
// Nothing here is shared. A Doc belongs to whoever made it, usually a loop, and is used again for each document; the
// Values it hands out are valid until its next Reset, Scan or Release.
package scan

import (
	"errors"
	"unsafe"
)

// The bounds of a document.
const (
	MaxDepth = 64      // objects and arrays within each other
	MaxSize  = 1 << 20 // bytes
	MaxTags  = 4       // CBOR tags in front of one value
)

// Why a document is refused. Nobody wraps them, so == compares them.
var (
	ErrSyntax    = errors.New("not well-formed")
	ErrDuplicate = errors.New("a name occurs twice in one object")
	ErrName      = errors.New("a name is written in a form that readers understand differently")
	ErrUTF8      = errors.New("text is not UTF-8")
	ErrDepth     = errors.New("nested deeper than 64 levels")
	ErrSize      = errors.New("longer than 1 MiB")
	ErrTags      = errors.New("more than 4 tags in front of one value")
	ErrSimple    = errors.New("a simple value without a meaning")
	ErrNumber    = errors.New("a number that 64 bits do not hold")
)

// Kind is the type of a value.
type Kind uint8

// The kinds. None stands for a value that does not exist.
const (
	None Kind = iota
	Null
	Bool
	Int
	Uint
	Double
	String
	Bytes
	Array
	Object
)

// Value is one value of a document. Its Text points into the document or into the Doc.
type Value struct {
	Kind Kind
	CBOR bool   // of an Array or Object: how Text is encoded
	N    uint64 // Bool: 0 or 1; Int, Uint: the number; Double: its bits
	Text string // String, Bytes: the content; Array, Object: the encoded value
}

// member is one name of an object under inspection.
type member struct {
	hash     uint32
	off, end uint32 // of the name; of an integer name of CBOR: its encoding, and end has the bit integer
	val      uint32 // where its value begins
}

// integer marks the end of an integer name. Documents are shorter than that.
const integer = 1 << 31

// name is what m is called in b.
func (m *member) name(b string) string { return b[m.off : m.end&^integer] }

// keepMembers and keepArena bound what a Doc keeps for the next document.
const (
	keepMembers = 4096
	keepArena   = 64 << 10
	linear      = 16 // members up to which an object is searched one by one
)

// Doc is a document that was checked, and the space to read it. Owned by its user; the zero value is ready.
type Doc struct {
	b     string
	cbor  bool
	start int // of the root value
	top   int // members of the root object, in names[:top]
	names []member
	arena []byte
	err   error
}

// Err is what the last scan found.
func (d *Doc) Err() error { return d.err }

// Reset gives the arena back: Values with unescaped text become invalid, the document stays.
func (d *Doc) Reset() {
	if cap(d.arena) > keepArena {
		d.arena = nil
	}
	d.arena = d.arena[:0]
}

// Release forgets the document.
func (d *Doc) Release() {
	if cap(d.names) > keepMembers {
		d.names = nil
	}
	d.b, d.names, d.top, d.start = "", d.names[:0], 0, 0
	d.Reset()
}

func (d *Doc) begin(b []byte, cbor bool) {
	d.Release()
	d.b = view(b)
	d.cbor = cbor
	d.err = nil
}

// view is b as a string without a copy; b must not be written while the string is used.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// isRoot says whether text is the root value of d.
func (d *Doc) isRoot(text string) bool {
	return len(text) > 0 && len(d.b) > d.start && unsafe.StringData(text) == unsafe.StringData(d.b[d.start:])
}

// hashName mixes length, beginning and end of a name; names that agree in it are compared byte by byte.
func hashName(s string) uint32 {
	var x uint64
	if len(s) >= 8 {
		x = load64(s) + load64(s[len(s)-8:])*0xff51afd7ed558ccd
	} else {
		for i := len(s) - 1; i >= 0; i-- {
			x = x<<8 | uint64(s[i])
		}
	}
	return mix(x, len(s))
}

// hashAt is hashName of b[off:end], with one load where b goes on behind a short name.
func hashAt(b string, off, end int) uint32 {
	if n := end - off; n < 8 && n > 0 && off+8 <= len(b) {
		return mix(load64(b[off:])&(1<<(8*n)-1), n)
	}
	return hashName(b[off:end])
}

func mix(x uint64, n int) uint32 {
	return uint32((x ^ uint64(n)*0x9e3779b97f4a7c15) * 0xc4ceb9fe1a85ec53 >> 32)
}

func load64(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// push notes a name of the object whose names begin at base; seen has a bit for each hash that was there. It reports
// false when a small object has the name already; large ones are looked at when they are complete (see closed).
func (d *Doc) push(base int, seen *uint64, m member) bool {
	bit := uint64(1) << (m.hash & 63)
	if *seen&bit != 0 && d.has(base, m) {
		return false
	}
	*seen |= bit
	d.names = append(d.names, m)
	return true
}

func (d *Doc) has(base int, m member) bool {
	if len(d.names)-base > linear {
		return false
	}
	name := m.name(d.b)
	for i := base; i < len(d.names); i++ {
		if o := &d.names[i]; o.hash == m.hash && (o.end^m.end)&integer == 0 && o.name(d.b) == name {
			return true
		}
	}
	return false
}

// closed ends the object whose names begin at base: false when one of them occurs twice.
func (d *Doc) closed(base int) bool {
	names := d.names[base:]
	if len(names) > linear {
		d.sort(names)
		for i := 1; i < len(names); i++ {
			if d.compare(names[i-1], names[i]) == 0 {
				return false
			}
		}
	}
	return true
}
