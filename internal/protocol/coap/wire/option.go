package wire

import "bytes"

// Number is the number of an option (RFC 7252, section 12.2).
type Number uint16

// The options that this server knows.
const (
	IfMatch       Number = 1
	URIHost       Number = 3
	ETag          Number = 4
	IfNoneMatch   Number = 5
	Observe       Number = 6 // RFC 7641
	URIPort       Number = 7
	LocationPath  Number = 8
	URIPath       Number = 11
	ContentFormat Number = 12
	MaxAge        Number = 14
	URIQuery      Number = 15
	HopLimit      Number = 16 // RFC 8768
	Accept        Number = 17
	LocationQuery Number = 20
	Block2        Number = 23 // RFC 7959
	Block1        Number = 27 // RFC 7959
	Size2         Number = 28 // RFC 7959
	ProxyURI      Number = 35
	ProxyScheme   Number = 39
	Size1         Number = 60
	Echo          Number = 252 // RFC 9175
	NoResponse    Number = 258 // RFC 7967
	RequestTag    Number = 292 // RFC 9175
)

// Critical says whether a message with this option must be refused where the option is not known (RFC 7252, section
// 5.4.1).
func (n Number) Critical() bool { return n&1 != 0 }

// Unsafe says whether a proxy that does not know the option must not forward it (RFC 7252, section 5.4.2).
func (n Number) Unsafe() bool { return n&2 != 0 }

// Known is what the registry says of an option.
type Known struct {
	Name       string
	Min, Max   int  // length of the value, in bytes
	Repeatable bool // may stand more than once (RFC 7252, section 5.4.5)
}

// Lookup finds an option in the registry. Options on signals have a registry of their own, see Signal.
func Lookup(n Number) (Known, bool) {
	switch n {
	case IfMatch:
		return Known{"If-Match", 0, 8, true}, true
	case URIHost:
		return Known{"Uri-Host", 1, 255, false}, true
	case ETag:
		return Known{"ETag", 1, 8, true}, true
	case IfNoneMatch:
		return Known{"If-None-Match", 0, 0, false}, true
	case Observe:
		return Known{"Observe", 0, 3, false}, true
	case URIPort:
		return Known{"Uri-Port", 0, 2, false}, true
	case LocationPath:
		return Known{"Location-Path", 0, 255, true}, true
	case URIPath:
		return Known{"Uri-Path", 0, 255, true}, true
	case ContentFormat:
		return Known{"Content-Format", 0, 2, false}, true
	case MaxAge:
		return Known{"Max-Age", 0, 4, false}, true
	case URIQuery:
		return Known{"Uri-Query", 0, 255, true}, true
	case HopLimit:
		return Known{"Hop-Limit", 1, 1, false}, true
	case Accept:
		return Known{"Accept", 0, 2, false}, true
	case LocationQuery:
		return Known{"Location-Query", 0, 255, true}, true
	case Block2:
		return Known{"Block2", 0, 3, false}, true
	case Block1:
		return Known{"Block1", 0, 3, false}, true
	case Size2:
		return Known{"Size2", 0, 4, false}, true
	case ProxyURI:
		return Known{"Proxy-Uri", 1, 1034, false}, true
	case ProxyScheme:
		return Known{"Proxy-Scheme", 1, 255, false}, true
	case Size1:
		return Known{"Size1", 0, 4, false}, true
	case Echo:
		return Known{"Echo", 1, 40, false}, true
	case NoResponse:
		return Known{"No-Response", 0, 1, false}, true
	case RequestTag:
		return Known{"Request-Tag", 0, 8, true}, true
	}
	return Known{}, false
}

// Options are the encoded options of a message, in the order of their numbers. Made by Parse or AppendOption: both keep
// the form, so that reading cannot fail.
type Options []byte

// Iter goes over options. The zero Iter is at the end. Owned by its caller.
type Iter struct {
	rest Options
	num  Number
}

// Iter begins at the first option.
func (o Options) Iter() Iter { return Iter{rest: o} }

// Next is the next option; ok is false at the end. The value points into the message.
func (it *Iter) Next() (n Number, value []byte, ok bool) {
	if len(it.rest) == 0 {
		return 0, nil, false
	}
	delta, length, head, ok := optionHeader(it.rest)
	if !ok || head+length > len(it.rest) {
		return 0, nil, false // not made by Parse or AppendOption
	}
	it.num += Number(delta)
	value = it.rest[head : head+length : head+length]
	it.rest = it.rest[head+length:]
	return it.num, value, true
}

// Get is the first value of an option.
func (o Options) Get(n Number) (value []byte, ok bool) {
	for it := o.Iter(); ; {
		num, v, more := it.Next()
		switch {
		case !more || num > n:
			return nil, false
		case num == n:
			return v, true
		}
	}
}

// Uint reads the value of an option of format uint (RFC 7252, section 3.2). Values longer than 4 bytes are cut off in
// front, which the registry's lengths exclude.
func Uint(value []byte) (u uint32) {
	for _, b := range value {
		u = u<<8 | uint32(b)
	}
	return u
}

// UintOf is the value of an option of format uint.
func (o Options) UintOf(n Number) (u uint32, ok bool) {
	v, ok := o.Get(n)
	return Uint(v), ok
}

// Problem looks for what a server must not overlook in a request: the first option, in order, that is critical and not
// known, of an illegal length, or one too many of an option that may stand once (RFC 7252, sections 5.4.1, 5.4.3 and
// 5.4.5). Elective options of that kind are ignored, see Usable.
func (o Options) Problem() (n Number, found bool) {
	prev, first := Number(0), true
	for it := o.Iter(); ; {
		num, v, more := it.Next()
		if !more {
			return 0, false
		}
		if num.Critical() && !usable(num, v, !first && num == prev) {
			return num, true
		}
		prev, first = num, false
	}
}

// Usable is Get for options that one may ignore: a value of an illegal length does not count, nor does the second of an
// option that may stand once.
func (o Options) Usable(n Number) (value []byte, ok bool) {
	value, ok = o.Get(n)
	return value, ok && usable(n, value, false)
}

func usable(n Number, value []byte, again bool) bool {
	k, known := Lookup(n)
	return known && len(value) >= k.Min && len(value) <= k.Max && (k.Repeatable || !again)
}

// Join appends the values of a repeatable option to dst with sep between them.
func (o Options) Join(dst []byte, n Number, sep byte) []byte {
	first := true
	for it := o.Iter(); ; {
		num, v, more := it.Next()
		if !more || num > n {
			return dst
		}
		if num == n {
			if !first {
				dst = append(dst, sep)
			}
			dst, first = append(dst, v...), false
		}
	}
}

// Query is the value of the Uri-Query option `name=value`; `name` alone has the value "".
func (o Options) Query(name string) (value []byte, ok bool) {
	for it := o.Iter(); ; {
		num, v, more := it.Next()
		if !more || num > URIQuery {
			return nil, false
		}
		if num != URIQuery {
			continue
		}
		if key, val, _ := bytes.Cut(v, []byte{'='}); string(key) == name {
			return val, true
		}
	}
}

// checkOptions walks over the options at the beginning of b and says where they end: at the payload marker or at the end
// of b.
func checkOptions(b []byte) (end int, err error) {
	num := 0
	for count := 0; end < len(b) && b[end] != PayloadMarker; count++ {
		delta, length, head, ok := optionHeader(b[end:])
		if num += delta; !ok || num > 0xffff {
			return 0, ErrOption
		}
		if count == MaxOptions {
			return 0, ErrMany
		}
		if end += head + length; end > len(b) {
			return 0, ErrShort
		}
	}
	return end, nil
}

// optionHeader reads delta and length of an option (RFC 7252, section 3.1); head is how many bytes said so.
func optionHeader(b []byte) (delta, length, head int, ok bool) {
	delta, length, head = int(b[0]>>4), int(b[0]&15), 1
	for _, v := range [2]*int{&delta, &length} {
		switch *v {
		case 13:
			if len(b) <= head {
				return 0, 0, 0, false
			}
			*v = int(b[head]) + 13
			head++
		case 14:
			if len(b) <= head+1 {
				return 0, 0, 0, false
			}
			*v = int(b[head])<<8 | int(b[head+1]) + 269
			head += 2
		case 15:
			return 0, 0, 0, false
		}
	}
	return delta, length, head, true
}

// AppendOption appends an option to dst. prev is the number of the option before it, 0 for the first; n must not be
// smaller.
func AppendOption(dst []byte, prev, n Number, value []byte) []byte {
	d, dExt, dn := nibble(int(n) - int(prev))
	l, lExt, ln := nibble(len(value))
	dst = append(dst, d<<4|l)
	dst = append(dst, dExt[:dn]...)
	dst = append(dst, lExt[:ln]...)
	return append(dst, value...)
}

// AppendUint appends an option of format uint, in as few bytes as its value needs (RFC 7252, section 3.2).
func AppendUint(dst []byte, prev, n Number, u uint32) []byte {
	b := [4]byte{byte(u >> 24), byte(u >> 16), byte(u >> 8), byte(u)}
	i := 0
	for i < 4 && b[i] == 0 {
		i++
	}
	return AppendOption(dst, prev, n, b[i:])
}

func nibble(v int) (n byte, ext [2]byte, bytes int) {
	switch {
	case v < 13:
		return byte(v), ext, 0
	case v < 269:
		return 13, [2]byte{byte(v - 13)}, 1
	}
	v -= 269
	return 14, [2]byte{byte(v >> 8), byte(v)}, 2
}
