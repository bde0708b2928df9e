package scan

import (
	"math"
	"unicode/utf8"
)

// ScanCBOR checks b, one CBOR data item (RFC 8949) and nothing after it, and remembers where the members of its root map
// are. Names must be text in one piece or integers in their shortest form, and text must be UTF-8. b must not be written
// until the next scan or Release.
func (d *Doc) ScanCBOR(b []byte) error {
	d.begin(b, true)
	d.err = d.checkCBOR()
	if d.err != nil {
		err := d.err
		d.Release()
		d.err = err
	}
	return d.err
}

func (d *Doc) checkCBOR() error {
	if len(d.b) > MaxSize {
		return ErrSize
	}
	start, err := d.untag(0)
	if err != nil {
		return err
	}
	d.start = start
	i, err := d.item(start, 0)
	if err != nil {
		return err
	}
	if i != len(d.b) {
		return ErrSyntax
	}
	return nil
}

// The major types of CBOR.
const (
	majorUint = iota
	majorNint
	majorBytes
	majorText
	majorArray
	majorMap
	majorTag
	majorSimple
)

const (
	indefinite = 31   // additional information: the length comes by and by
	breakCode  = 0xff // ends what is indefinite
)

// head reads the head of the item at i: its argument and where its content begins. info 31 has no argument.
func head(b string, i int) (major int, info byte, arg uint64, next int, ok bool) {
	if i >= len(b) {
		return 0, 0, 0, i, false
	}
	major, info = int(b[i]>>5), b[i]&0x1f
	i++
	switch {
	case info < 24:
		return major, info, uint64(info), i, true
	case info == indefinite:
		return major, info, 0, i, major >= majorBytes && major <= majorMap
	case info > 27:
		return major, info, 0, i, false
	}
	n := 1 << (info - 24)
	if len(b)-i < n {
		return major, info, 0, i, false
	}
	for _, c := range []byte(b[i : i+n]) {
		arg = arg<<8 | uint64(c)
	}
	return major, info, arg, i + n, true
}

// untag returns where the item behind the tags at i begins.
func (d *Doc) untag(i int) (int, error) {
	for n := 0; ; n++ {
		if i >= len(d.b) {
			return i, ErrSyntax
		}
		if d.b[i]>>5 != majorTag {
			return i, nil
		}
		if n == MaxTags {
			return i, ErrTags
		}
		_, _, tag, next, ok := head(d.b, i)
		if !ok {
			return i, ErrSyntax
		}
		if tag >= 2 && tag <= 5 { // big numbers: the content is not what other readers see
			return i, ErrNumber
		}
		i = next
	}
}

// item checks the item at i and returns where it ends.
func (d *Doc) item(i, depth int) (int, error) {
	i, err := d.untag(i)
	if err != nil {
		return i, err
	}
	b := d.b
	major, info, arg, i, ok := head(b, i)
	if !ok {
		return i, ErrSyntax
	}
	switch major {
	case majorNint:
		if arg > math.MaxInt64 {
			return i, ErrNumber
		}
	case majorBytes, majorText:
		return stringItem(b, i, major, info, arg)
	case majorArray:
		return d.arrayItem(i, depth+1, info, arg)
	case majorMap:
		return d.mapItem(i, depth+1, info, arg)
	case majorSimple:
		switch {
		case info >= 25 && info <= 27: // a float
		case info == 24 && arg < 32:
			return i, ErrSyntax
		case arg < 20 || arg > 23:
			return i, ErrSimple
		}
	}
	return i, nil
}

func stringItem(b string, i, major int, info byte, arg uint64) (int, error) {
	if info != indefinite {
		if uint64(len(b)-i) < arg {
			return i, ErrSyntax
		}
		end := i + int(arg)
		if major == majorText && !utf8.ValidString(b[i:end]) {
			return i, ErrUTF8
		}
		return end, nil
	}
	for {
		if i < len(b) && b[i] == breakCode {
			return i + 1, nil
		}
		m, in, n, next, ok := head(b, i)
		if !ok || m != major || in == indefinite {
			return i, ErrSyntax
		}
		var err error
		if i, err = stringItem(b, next, major, in, n); err != nil {
			return i, err
		}
	}
}

func (d *Doc) arrayItem(i, depth int, info byte, arg uint64) (int, error) {
	if depth > MaxDepth {
		return i, ErrDepth
	}
	if info != indefinite && arg > uint64(len(d.b)-i) {
		return i, ErrSyntax
	}
	for n := uint64(0); info == indefinite || n < arg; n++ {
		if info == indefinite && i < len(d.b) && d.b[i] == breakCode {
			return i + 1, nil
		}
		base := len(d.names)
		var err error
		if i, err = d.item(i, depth); err != nil {
			return i, err
		}
		d.names = d.names[:base]
	}
	return i, nil
}

func (d *Doc) mapItem(i, depth int, info byte, arg uint64) (int, error) {
	if depth > MaxDepth {
		return i, ErrDepth
	}
	if info != indefinite && arg > uint64(len(d.b)-i)/2 {
		return i, ErrSyntax
	}
	base, seen := len(d.names), uint64(0)
	for n := uint64(0); info == indefinite || n < arg; n++ {
		if info == indefinite && i < len(d.b) && d.b[i] == breakCode {
			i++
			break
		}
		m, next, err := d.name(i)
		if err != nil {
			return next, err
		}
		if !d.push(base, &seen, m) {
			return i, ErrDuplicate
		}
		if i, err = d.item(next, depth); err != nil {
			return i, err
		}
	}
	if !d.closed(base) {
		return i, ErrDuplicate
	}
	if depth == 1 {
		d.top = len(d.names)
	} else {
		d.names = d.names[:base]
	}
	return i, nil
}

// name checks the name at i of a map and returns where its value begins.
func (d *Doc) name(i int) (member, int, error) {
	b := d.b
	major, info, arg, next, ok := head(b, i)
	if !ok {
		return member{}, i, ErrSyntax
	}
	m := member{}
	switch {
	case major == majorText && info != indefinite:
		end, err := stringItem(b, next, major, info, arg)
		if err != nil {
			return member{}, end, err
		}
		m.off, m.end = uint32(next), uint32(end)
	case major <= majorNint && shortest(info, arg) && (major == majorUint || arg <= math.MaxInt64):
		m.off, m.end = uint32(i), uint32(next)|integer
	default:
		return member{}, i, ErrName
	}
	m.val = m.end &^ integer
	m.hash = hashAt(b, int(m.off), int(m.val))
	return m, int(m.val), nil
}

// shortest says whether an argument was encoded in as few bytes as it can be.
func shortest(info byte, arg uint64) bool {
	switch info {
	case 24:
		return arg >= 24
	case 25:
		return arg > math.MaxUint8
	case 26:
		return arg > math.MaxUint16
	case 27:
		return arg > math.MaxUint32
	}
	return true
}

// skipItem returns where the good item at i ends.
func skipItem(b string, i int) int {
	major, info, arg, i, _ := head(b, i)
	switch major {
	case majorTag:
		return skipItem(b, i)
	case majorBytes, majorText:
		if info != indefinite {
			return i + int(arg)
		}
		for b[i] != breakCode {
			i = skipItem(b, i)
		}
		return i + 1
	case majorArray, majorMap:
		if info == indefinite {
			for b[i] != breakCode {
				i = skipItem(b, i)
			}
			return i + 1
		}
		if major == majorMap {
			arg *= 2
		}
		for ; arg > 0; arg-- {
			i = skipItem(b, i)
		}
	}
	return i
}

// readCBOR makes a Value of the good item at i of b.
func (d *Doc) readCBOR(b string, i int) Value {
	from := i
	major, info, arg, i, _ := head(b, i)
	for major == majorTag {
		from = i
		major, info, arg, i, _ = head(b, i)
	}
	switch major {
	case majorUint:
		if arg > math.MaxInt64 {
			return Value{Kind: Uint, N: arg}
		}
		return Value{Kind: Int, N: arg}
	case majorNint:
		return Value{Kind: Int, N: ^arg}
	case majorBytes:
		return Value{Kind: Bytes, Text: d.pieces(b, i, info, arg)}
	case majorText:
		return Value{Kind: String, Text: d.pieces(b, i, info, arg)}
	case majorArray:
		return Value{Kind: Array, CBOR: true, Text: b[from:skipItem(b, from)]}
	case majorMap:
		return Value{Kind: Object, CBOR: true, Text: b[from:skipItem(b, from)]}
	}
	switch info {
	case 20:
		return Value{Kind: Bool}
	case 21:
		return Value{Kind: Bool, N: 1}
	case 25:
		return Value{Kind: Double, N: math.Float64bits(half(uint16(arg)))}
	case 26:
		return Value{Kind: Double, N: math.Float64bits(float64(math.Float32frombits(uint32(arg))))}
	case 27:
		return Value{Kind: Double, N: arg}
	}
	return Value{Kind: Null}
}

// pieces is the content of a string, put together where it came in pieces.
func (d *Doc) pieces(b string, i int, info byte, arg uint64) string {
	if info != indefinite {
		return b[i : i+int(arg)]
	}
	from := len(d.arena)
	for b[i] != breakCode {
		_, _, n, next, _ := head(b, i)
		i = next + int(n)
		d.arena = append(d.arena, b[next:i]...)
	}
	return view(d.arena[from:])
}

// half is the value of an IEEE 754 binary16 number.
func half(h uint16) float64 {
	exp, frac := int(h>>10&0x1f), float64(h&0x3ff)
	var f float64
	switch exp {
	case 0:
		f = math.Ldexp(frac, -24)
	case 31:
		f = math.Inf(1)
		if frac != 0 {
			return math.NaN()
		}
	default:
		f = math.Ldexp(1024+frac, exp-25)
	}
	if h&0x8000 != 0 {
		return -f
	}
	return f
}

func (it *Iter) beginCBOR() {
	_, info, arg, i, _ := head(it.b, 0)
	it.i, it.left = i, int(arg)
	if info == indefinite {
		it.left = -1
	}
	it.settle()
}

// settle finds out whether more comes.
func (it *Iter) settle() {
	if it.left < 0 {
		it.more = it.b[it.i] != breakCode
		return
	}
	it.more = it.left > 0
	it.left--
}

func (it *Iter) nextCBOR() bool {
	if it.obj {
		it.Key = it.d.readCBOR(it.b, it.i)
		it.i = skipItem(it.b, it.i)
	}
	it.at = it.i
	it.i = skipItem(it.b, it.i)
	it.settle()
	return true
}
