package expr

import (
	"cmp"
	"math"
	"strings"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr/scan"
)

// charge counts work whose amount the payload decides; false when it was too much.
func (in *Input) charge(n int) bool {
	in.steps += n
	return in.steps <= maxSteps
}

// numeric says whether v is a number.
func (v val) numeric() bool { return v.k == vInt || v.k == vUint || v.k == vDouble }

// compareNumbers orders numbers by value, whatever their types, as CEL does. Neither may be NaN.
func compareNumbers(a, b val) int {
	switch {
	case a.k == vInt && b.k == vInt:
		return cmp.Compare(a.int(), b.int())
	case a.k == vUint && b.k == vUint:
		return cmp.Compare(a.n, b.n)
	case a.k == vDouble && b.k == vDouble:
		return compareFloats(a.float(), b.float())
	case a.k == vDouble && b.k == vInt:
		return compareDoubleInt(a.float(), b.int())
	case a.k == vInt && b.k == vDouble:
		return -compareDoubleInt(b.float(), a.int())
	case a.k == vDouble && b.k == vUint:
		return compareDoubleUint(a.float(), b.n)
	case a.k == vUint && b.k == vDouble:
		return -compareDoubleUint(b.float(), a.n)
	case a.k == vInt: // b is uint
		if a.int() < 0 {
			return -1
		}
		return cmp.Compare(a.n, b.n)
	default: // uint, int
		if b.int() < 0 {
			return 1
		}
		return cmp.Compare(a.n, b.n)
	}
}

func compareFloats(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func compareDoubleInt(d float64, i int64) int {
	switch {
	case d < math.MinInt64:
		return -1
	case d > math.MaxInt64:
		return 1
	}
	return compareFloats(d, float64(i))
}

func compareDoubleUint(d float64, u uint64) int {
	switch {
	case d < 0:
		return -1
	case d > math.MaxUint64:
		return 1
	}
	return compareFloats(d, float64(u))
}

// unordered is what order says of NaN: no comparison with it holds.
const unordered = 2

// order compares values of one type, or numbers of any: -1, 0, 1 or unordered. ok is false for what has no order.
func order(a, b val) (c int, ok bool) {
	if a.isNaN() || b.isNaN() {
		switch a.k {
		case vInt, vUint, vDouble, vString, vBytes, vBool, vTime, vDuration:
			return unordered, true
		default:
		}
		return 0, false
	}
	if a.numeric() && b.numeric() {
		return compareNumbers(a, b), true
	}
	if a.k != b.k {
		return 0, false
	}
	switch a.k {
	case vString, vBytes:
		return strings.Compare(a.s, b.s), true
	case vBool:
		return cmp.Compare(a.n, b.n), true
	case vTime, vDuration:
		return cmp.Compare(a.int(), b.int()), true
	default:
	}
	return 0, false
}

func (v val) isNaN() bool { return v.k == vDouble && math.IsNaN(v.float()) }

// equal is CEL's ==: values of different types are not equal, numbers are compared by value. It is bad only when there
// is too much to compare.
func (in *Input) equal(a, b val) tri {
	if a.numeric() && b.numeric() {
		if a.isNaN() || b.isNaN() {
			return no
		}
		return truth(compareNumbers(a, b) == 0)
	}
	switch {
	case a.isList():
		if !b.isList() {
			return no
		}
		return in.equalLists(a, b)
	case a.isMap():
		if !b.isMap() {
			return no
		}
		return in.equalMaps(a, b)
	case a.k != b.k:
		return no
	}
	switch a.k {
	case vString, vBytes:
		return truth(a.s == b.s)
	case vErr:
		return bad
	default:
	}
	return truth(a.n == b.n)
}

func truth(b bool) tri {
	if b {
		return yes
	}
	return no
}

func (in *Input) equalLists(a, b val) tri {
	n, ok := in.size(a)
	m, ok2 := in.size(b)
	if !ok || !ok2 {
		return bad
	}
	if n != m {
		return no
	}
	result := yes
	ib := in.elements(b)
	in.walk(a, func(_, x val) bool {
		_, y := ib.next()
		result = in.equal(x, y)
		if result == yes && !in.charge(1) {
			result = bad
		}
		return result == yes
	})
	return result
}

func (in *Input) equalMaps(a, b val) tri {
	n, ok := in.size(a)
	m, ok2 := in.size(b)
	if !ok || !ok2 {
		return bad
	}
	if n != m {
		return no
	}
	result := yes
	in.walk(a, func(key, x val) bool {
		if a.k == vHeaders { // the first of a name counts
			x, _ = in.find(a, key)
		}
		y, found := in.find(b, key)
		if !found {
			if result = no; y.k == vErr && in.steps > maxSteps {
				result = bad
			}
			return false
		}
		result = in.equal(x, y)
		if result == yes && !in.charge(1) {
			result = bad
		}
		return result == yes
	})
	return result
}

// size is the number of elements, entries, characters or bytes; ok is false for what has none.
func (in *Input) size(v val) (n int, ok bool) {
	switch v.k {
	case vString:
		return runes(v.s), true
	case vBytes:
		return len(v.s), true
	case vList:
		return len(v.p.list), true
	case vMap:
		return len(v.p.keys), true
	case vJSONArray, vJSONObject:
		return in.docLen(&in.json, v)
	case vCBORArray, vCBORObject:
		return in.docLen(&in.cbor, v)
	case vAttrs, vHeaders:
		if v.k == vHeaders {
			return in.headers(v), true
		}
		walkStrings(v, func(string, string) bool {
			n++
			return true
		})
		return n, true
	default:
	}
	return 0, false
}

func (in *Input) docLen(d *scan.Doc, v val) (int, bool) {
	return d.Len(toScan(v)), in.charge(len(v.s) / 256)
}

// headers counts the names of headers, repeated ones once.
func (in *Input) headers(v val) int {
	n := 0
	for m := bytesOf(v.s); ; {
		it, rest, ok := event.NextMeta(m)
		if !ok {
			return n
		}
		if it.ID == event.MetaHeader {
			if _, again := header(v.s[:len(v.s)-len(m)], view(it.Key)); !again {
				n++
			}
			if !in.charge(1 + (len(v.s)-len(m))/256) {
				return n
			}
		}
		m = rest
	}
}

func header(meta, key string) (string, bool) {
	for m := bytesOf(meta); ; {
		it, rest, ok := event.NextMeta(m)
		if !ok {
			return "", false
		}
		if it.ID == event.MetaHeader && string(it.Key) == key {
			return view(it.Value), true
		}
		m = rest
	}
}

// runes is utf8.RuneCountInString with a shortcut for what is nearly always ASCII.
func runes(s string) int {
	n := 0
	for range s {
		n++
	}
	return n
}

// index is v as a place in a list; ok is false when it is no whole number.
func (v val) index() (int64, bool) {
	switch v.k {
	case vInt:
		return v.int(), true
	case vUint:
		return v.int(), v.n <= math.MaxInt64
	case vDouble:
		f := v.float()
		i := int64(f)
		return i, f >= math.MinInt64 && f < math.MaxInt64 && float64(i) == f
	default:
	}
	return 0, false
}

// find is the value that key leads to in the map m.
func (in *Input) find(m, key val) (v val, found bool) {
	switch m.k {
	case vAttrs:
		if key.k == vString {
			s, ok := m.p.attrs[0][key.s]
			if !ok {
				s, ok = m.p.attrs[1][key.s]
			}
			return stringVal(s), ok
		}
	case vHeaders:
		if key.k == vString {
			s, ok := header(m.s, key.s)
			return stringVal(s), ok
		}
	case vVars:
		if key.k == vString {
			s, ok := in.capture(m.p.names, key.s)
			return stringVal(s), ok
		}
	case vSet:
		if key.k == vString {
			s, ok := m.p.set.Get(key.s)
			return stringVal(s), ok
		}
	case vMap:
		for i, k := range m.p.keys {
			if k.k == vString && key.k == vString {
				if k.s == key.s {
					return m.p.list[i], true
				}
			} else if in.equal(k, key) == yes {
				return m.p.list[i], true
			}
		}
	case vJSONObject:
		if key.k == vString && in.charge(len(m.s)/256) {
			return found1(in.json.Member(toScan(m), key.s))
		}
	case vCBORObject:
		if !in.charge(len(m.s) / 256) {
			return errVal, false
		}
		if key.k == vString {
			return found1(in.cbor.Member(toScan(m), key.s))
		}
		if key.k == vUint && key.n > math.MaxInt64 {
			return found1(in.cbor.MemberInt(toScan(m), scan.Value{Kind: scan.Uint, N: key.n}))
		}
		if i, ok := key.index(); ok {
			return found1(in.cbor.MemberInt(toScan(m), scan.Value{Kind: scan.Int, N: uint64(i)}))
		}
	default:
	}
	return errVal, false
}

func found1(v scan.Value) (val, bool) { return fromScan(v), v.Kind != scan.None }

// contains is `x in c`.
func (in *Input) contains(x, c val) (tri, error) {
	switch {
	case c.k == vSet:
		return truth(x.k == vString && c.p.set.Has(x.s)), nil
	case c.k == vList:
		for _, y := range c.p.list {
			if t := in.equal(x, y); t != no {
				return t, errSteps
			}
		}
		return no, nil
	case c.isList():
		result := no
		in.walk(c, func(_, y val) bool {
			if !in.charge(1) {
				result = bad
				return false
			}
			result = in.equal(x, y)
			return result == no
		})
		return result, errSteps
	case c.isMap():
		_, ok := in.find(c, x)
		return truth(ok), nil
	}
	return bad, errType
}

// elem is l[i].
func (in *Input) elem(l, i val) (val, error) {
	n, ok := i.index()
	if !ok {
		return errVal, errType
	}
	switch l.k {
	case vList:
		if n < 0 || n >= int64(len(l.p.list)) {
			return errVal, errIndex
		}
		return l.p.list[n], nil
	case vJSONArray, vCBORArray:
		if !in.charge(len(l.s) / 256) {
			return errVal, errSteps
		}
		d := &in.json
		if l.k == vCBORArray {
			d = &in.cbor
		}
		v := d.Elem(toScan(l), n)
		if v.Kind == scan.None {
			return errVal, errIndex
		}
		return fromScan(v), nil
	default:
	}
	return errVal, errType
}

// cursor walks through a list, or the names of a map, without a callback. Owned by its user.
type cursor struct {
	in *Input
	v  val
	i  int
	it scan.Iter
}

func (in *Input) elements(v val) cursor {
	c := cursor{in: in, v: v}
	switch v.k {
	case vJSONArray, vJSONObject:
		c.it = in.json.Iter(toScan(v))
	case vCBORArray, vCBORObject:
		c.it = in.cbor.Iter(toScan(v))
	default:
	}
	return c
}

// next is the next element of a list or name of a map; more is false at the end.
func (c *cursor) next() (more bool, x val) {
	c.i++
	switch c.v.k {
	case vList:
		if c.i <= len(c.v.p.list) {
			return true, c.v.p.list[c.i-1]
		}
	case vMap:
		if c.i <= len(c.v.p.keys) {
			return true, c.v.p.keys[c.i-1]
		}
	case vJSONArray, vCBORArray:
		if c.it.Next() {
			return true, fromScan(c.it.Value())
		}
	case vJSONObject, vCBORObject:
		if c.it.Next() {
			return true, fromScan(c.it.Key)
		}
	default:
	}
	return false, errVal
}

// arithmetic is a op b for values of one type.
func arithmetic(op byte, a, b val) (val, error) {
	switch {
	case a.k == vInt && b.k == vInt:
		return intArithmetic(op, a.int(), b.int())
	case a.k == vUint && b.k == vUint:
		return uintArithmetic(op, a.n, b.n)
	case a.k == vDouble && b.k == vDouble:
		x, y := a.float(), b.float()
		switch op {
		case '+':
			return doubleVal(x + y), nil
		case '-':
			return doubleVal(x - y), nil
		case '*':
			return doubleVal(x * y), nil
		case '/':
			return doubleVal(x / y), nil
		}
		return errVal, errType
	}
	return timeArithmetic(op, a, b)
}

func intArithmetic(op byte, x, y int64) (val, error) {
	var r int64
	switch op {
	case '+':
		if r = x + y; (r > x) != (y > 0) {
			return errVal, errRange
		}
	case '-':
		if r = x - y; (r < x) != (y > 0) {
			return errVal, errRange
		}
	case '*':
		if x == 0 || y == 0 {
			return intVal(0), nil
		}
		if r = x * y; r/y != x || x == math.MinInt64 && y == -1 || y == math.MinInt64 && x == -1 {
			return errVal, errRange
		}
	default:
		if y == 0 {
			return errVal, errZero
		}
		if x == math.MinInt64 && y == -1 {
			return errVal, errRange
		}
		if r = x / y; op == '%' {
			r = x % y
		}
	}
	return intVal(r), nil
}

func uintArithmetic(op byte, x, y uint64) (val, error) {
	var r uint64
	switch op {
	case '+':
		if r = x + y; r < x {
			return errVal, errRange
		}
	case '-':
		if r = x - y; y > x {
			return errVal, errRange
		}
	case '*':
		if r = x * y; y != 0 && r/y != x {
			return errVal, errRange
		}
	default:
		if y == 0 {
			return errVal, errZero
		}
		if r = x / y; op == '%' {
			r = x % y
		}
	}
	return uintVal(r), nil
}

// timeArithmetic: times and durations, in nanoseconds of 64 bits: a time before 1678 or after 2262 is out of range.
func timeArithmetic(op byte, a, b val) (val, error) {
	kind := vDuration
	switch {
	case a.k == vDuration && b.k == vDuration:
	case op == '+' && a.k == vTime && b.k == vDuration, op == '+' && a.k == vDuration && b.k == vTime, op == '-' && a.k == vTime && b.k == vDuration:
		kind = vTime
	case op == '-' && a.k == vTime && b.k == vTime:
	default:
		return errVal, errType
	}
	if op != '+' && op != '-' {
		return errVal, errType
	}
	r, err := intArithmetic(op, a.int(), b.int())
	if err != nil {
		return errVal, err
	}
	return val{k: kind, n: r.n}, nil
}
