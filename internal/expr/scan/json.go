package scan

import (
	"math"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// ScanJSON checks b, one JSON text (RFC 8259) without anything after it but white space, and remembers where the members
// of its root object are. b must not be written until the next scan or Release.
func (d *Doc) ScanJSON(b []byte) error {
	d.begin(b, false)
	d.err = d.checkJSON()
	if d.err != nil {
		err := d.err
		d.Release()
		d.err = err
	}
	return d.err
}

func (d *Doc) checkJSON() error {
	if len(d.b) > MaxSize {
		return ErrSize
	}
	d.start = skipSpace(d.b, 0)
	i, err := d.value(d.start, 0)
	if err != nil {
		return err
	}
	if skipSpace(d.b, i) != len(d.b) {
		return ErrSyntax
	}
	return nil
}

// plain marks the bytes of a string that stand for themselves and need no look: printable ASCII but " and \.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x80; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

func skipSpace(b string, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// value checks the value that begins at i and returns where it ends.
func (d *Doc) value(i, depth int) (int, error) {
	b := d.b
	if i >= len(b) {
		return i, ErrSyntax
	}
	switch c := b[i]; c {
	case '{':
		return d.object(i+1, depth+1)
	case '[':
		return d.array(i+1, depth+1)
	case '"':
		return d.text(i+1, false)
	case 't':
		return literal(b, i, "true")
	case 'f':
		return literal(b, i, "false")
	case 'n':
		return literal(b, i, "null")
	default:
		return number(b, i)
	}
}

func literal(b string, i int, word string) (int, error) {
	if len(b)-i < len(word) || b[i:i+len(word)] != word {
		return i, ErrSyntax
	}
	return i + len(word), nil
}

func (d *Doc) object(i, depth int) (int, error) {
	if depth > MaxDepth {
		return i, ErrDepth
	}
	b, base, seen := d.b, len(d.names), uint64(0)
	i = skipSpace(b, i)
	if i < len(b) && b[i] == '}' {
		return i + 1, nil
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return i, ErrSyntax
		}
		off := i + 1
		end, err := d.text(off, true)
		if err != nil {
			return end, err
		}
		i = end
		if i < len(b) && b[i] != ':' {
			i = skipSpace(b, i)
		}
		if i >= len(b) || b[i] != ':' {
			return i, ErrSyntax
		}
		i = skipSpace(b, i+1)
		if !d.push(base, &seen, member{hash: hashAt(b, off, end-1), off: uint32(off), end: uint32(end - 1), val: uint32(i)}) {
			return i, ErrDuplicate
		}
		if i, err = d.value(i, depth); err != nil {
			return i, err
		}
		if i < len(b) && b[i] != ',' {
			i = skipSpace(b, i)
		}
		if i >= len(b) {
			return i, ErrSyntax
		}
		if b[i] == '}' {
			break
		}
		if b[i] != ',' {
			return i, ErrSyntax
		}
		i = skipSpace(b, i+1)
	}
	if !d.closed(base) {
		return i, ErrDuplicate
	}
	if depth == 1 {
		d.top = len(d.names)
	} else {
		d.names = d.names[:base]
	}
	return i + 1, nil
}

func (d *Doc) array(i, depth int) (int, error) {
	if depth > MaxDepth {
		return i, ErrDepth
	}
	b := d.b
	i = skipSpace(b, i)
	if i < len(b) && b[i] == ']' {
		return i + 1, nil
	}
	for {
		var err error
		base := len(d.names)
		if i, err = d.value(i, depth); err != nil {
			return i, err
		}
		d.names = d.names[:base]
		i = skipSpace(b, i)
		if i >= len(b) {
			return i, ErrSyntax
		}
		if b[i] == ']' {
			return i + 1, nil
		}
		if b[i] != ',' {
			return i, ErrSyntax
		}
		i = skipSpace(b, i+1)
	}
}

// text checks a string whose first character is at i and returns the place after its closing quote.
func (d *Doc) text(i int, name bool) (int, error) {
	b := d.b
	for i < len(b) {
		if len(b)-i >= 8 {
			if n := plainBytes(load64(b[i:])); n > 0 {
				i += n
				continue
			}
		}
		c := b[i]
		switch {
		case plain[c]:
			i++
		case c == '"':
			return i + 1, nil
		case c == '\\':
			if name {
				return i, ErrName
			}
			n, err := escape(b, i)
			if err != nil {
				return i, err
			}
			i += n
		case c < 0x20:
			return i, ErrSyntax
		default:
			r, n := utf8.DecodeRuneInString(b[i:])
			if r == utf8.RuneError && n <= 1 {
				return i, ErrUTF8
			}
			i += n
		}
	}
	return i, ErrSyntax
}

// plainBytes is how many of the 8 bytes in x, from the lowest, are plain.
func plainBytes(x uint64) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	t := (x - 0x20*ones) | ((x ^ '"'*ones) - ones) | ((x ^ '\\'*ones) - ones) | x
	return bits.TrailingZeros64(t&highs) / 8
}

// escape is the length of the escape at i; a surrogate must be half of a pair.
func escape(b string, i int) (int, error) {
	if i+1 >= len(b) {
		return 0, ErrSyntax
	}
	switch b[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2, nil
	case 'u':
		r, ok := hex4(b, i+2)
		if !ok {
			return 0, ErrSyntax
		}
		if !utf16.IsSurrogate(r) {
			return 6, nil
		}
		if i+12 <= len(b) && b[i+6] == '\\' && b[i+7] == 'u' {
			if r2, ok := hex4(b, i+8); ok && utf16.DecodeRune(r, r2) != utf8.RuneError {
				return 12, nil
			}
		}
		return 0, ErrUTF8
	}
	return 0, ErrSyntax
}

func hex4(b string, i int) (rune, bool) {
	if i+4 > len(b) {
		return 0, false
	}
	var r rune
	for _, c := range []byte(b[i : i+4]) {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20-'a' <= 5:
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// number checks the grammar of a number: -? (0 | [1-9][0-9]*) (\.[0-9]+)? ([eE][+-]?[0-9]+)?
// One that its type cannot hold is refused: a reader with other bounds would read another number.
func number(b string, i int) (int, error) {
	start, exponent := i, false
	if i < len(b) && b[i] == '-' {
		i++
	}
	switch {
	case i < len(b) && b[i] == '0':
		i++
	case i < len(b) && b[i]-'1' <= 8:
		i = digits(b, i)
	default:
		return i, ErrSyntax
	}
	if i < len(b) && b[i] == '.' {
		from := i + 1
		if i = digits(b, from); i == from {
			return i, ErrSyntax
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		exponent = true
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		from := i
		if i = digits(b, from); i == from {
			return i, ErrSyntax
		}
	}
	if exponent || i-start > 18 {
		if _, ok := readNumber(b[start:i]); !ok {
			return i, ErrNumber
		}
	}
	return i, nil
}

func digits(b string, i int) int {
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	return i
}

// skip returns where the good value at i ends.
func skip(b string, i int) int {
	switch b[i] {
	case '"':
		return skipText(b, i+1)
	case '{', '[':
		for depth := 0; ; {
			switch b[i] {
			case '"':
				i = skipText(b, i+1)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	}
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] > ' ' {
		i++
	}
	return i
}

func skipText(b string, i int) int {
	for b[i] != '"' {
		if b[i] == '\\' {
			i++
		}
		i++
	}
	return i + 1
}

// readJSON makes a Value of the good value at i of b.
func (d *Doc) readJSON(b string, i int) Value {
	switch b[i] {
	case '{':
		return Value{Kind: Object, Text: b[i:skip(b, i)]}
	case '[':
		return Value{Kind: Array, Text: b[i:skip(b, i)]}
	case '"':
		return Value{Kind: String, Text: d.unescape(b, i+1)}
	case 't':
		return Value{Kind: Bool, N: 1}
	case 'f':
		return Value{Kind: Bool}
	case 'n':
		return Value{Kind: Null}
	}
	v, _ := readNumber(b[i:skip(b, i)])
	return v
}

// readNumber: a number without fraction and exponent is an Int or, above it, a Uint; all else is a Double. ok is false
// for what 64 bits do not hold.
func readNumber(s string) (v Value, ok bool) {
	neg, digits := s[0] == '-', s
	if neg {
		digits = s[1:]
	}
	var n uint64
	for j := range len(digits) {
		c := digits[j] - '0'
		if c > 9 {
			f, err := strconv.ParseFloat(s, 64)
			return Value{Kind: Double, N: math.Float64bits(f)}, err == nil
		}
		n = n*10 + uint64(c)
	}
	if len(digits) > 19 {
		var err error
		if n, err = strconv.ParseUint(digits, 10, 64); err != nil {
			return Value{}, false
		}
	}
	switch {
	case neg:
		return Value{Kind: Int, N: -n}, n <= 1<<63
	case n > math.MaxInt64:
		return Value{Kind: Uint, N: n}, true
	}
	return Value{Kind: Int, N: n}, true
}

// unescape returns the content of the good string whose first character is at i.
func (d *Doc) unescape(b string, i int) string {
	for j := i; ; j++ {
		switch b[j] {
		case '"':
			return b[i:j]
		case '\\':
			return d.unescapeFrom(b, i, j)
		}
	}
}

func (d *Doc) unescapeFrom(b string, i, j int) string {
	from := len(d.arena)
	out := append(d.arena, b[i:j]...)
	for b[j] != '"' {
		if b[j] != '\\' {
			out = append(out, b[j])
			j++
			continue
		}
		switch c := b[j+1]; c {
		case 'u':
			r, _ := hex4(b, j+2)
			if utf16.IsSurrogate(r) {
				r2, _ := hex4(b, j+8)
				r = utf16.DecodeRune(r, r2)
				j += 6
			}
			out = utf8.AppendRune(out, r)
			j += 6
			continue
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		default:
			out = append(out, c)
		}
		j += 2
	}
	d.arena = out
	return view(out[from:])
}
