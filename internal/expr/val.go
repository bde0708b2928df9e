package expr

import (
	"math"

	"github.com/windrose-edc/windrose/internal/expr/scan"
	"github.com/windrose-edc/windrose/internal/expr/sets"
)

// vkind is the type of a val.
type vkind uint8

// Of a container the kind says how it is kept.
const (
	vErr vkind = iota // the term has no value; Input.err says why
	vNull
	vBool
	vInt
	vUint
	vDouble
	vString
	vBytes
	vTime     // n: Unix nanoseconds
	vDuration // n: nanoseconds
	vList     // p.list
	vMap      // p.keys, p.list
	vAttrs    // p.attrs: first the one, then the other
	vHeaders  // s: event.Meta
	vVars     // the captures of Input, by the names in p.names
	vSet      // p.set
	vJSONArray
	vJSONObject // s: the text
	vCBORArray
	vCBORObject // s: the encoding
)

// val is a value while an expression is evaluated: small enough to travel in registers. Strings and bytes point into the
// event, the Input or the expression.
type val struct {
	k vkind
	n uint64
	s string
	p *box
}

// box is what does not fit a val. Immutable while an expression uses it.
type box struct {
	list  []val
	keys  []val // of a map: keys[i] leads to list[i]
	attrs [2]map[string]string
	names []string
	set   *sets.Set
}

var errVal = val{}

func boolVal(b bool) val {
	v := val{k: vBool}
	if b {
		v.n = 1
	}
	return v
}

func intVal(i int64) val      { return val{k: vInt, n: uint64(i)} }
func uintVal(u uint64) val    { return val{k: vUint, n: u} }
func doubleVal(f float64) val { return val{k: vDouble, n: math.Float64bits(f)} }
func stringVal(s string) val  { return val{k: vString, s: s} }
func bytesVal(s string) val   { return val{k: vBytes, s: s} }

func (v val) float() float64 { return math.Float64frombits(v.n) }
func (v val) int() int64     { return int64(v.n) }

func (v val) isList() bool { return v.k == vList || v.k == vJSONArray || v.k == vCBORArray }

func (v val) isMap() bool {
	switch v.k {
	case vMap, vAttrs, vHeaders, vVars, vSet, vJSONObject, vCBORObject:
		return true
	default:
	}
	return false
}

// kind is what users call the type of v.
func (v val) kind() Kind {
	switch v.k {
	case vNull:
		return Null
	case vBool:
		return Bool
	case vInt:
		return Int
	case vUint:
		return Uint
	case vDouble:
		return Double
	case vString:
		return String
	case vBytes:
		return Bytes
	case vTime:
		return Time
	case vDuration:
		return Duration
	case vList, vJSONArray, vCBORArray:
		return List
	case vErr:
		return Any
	default:
	}
	return Map
}

// fromScan is what a value of a payload is in the language. None is errVal: the caller says why.
func fromScan(v scan.Value) val {
	switch v.Kind {
	case scan.Null:
		return val{k: vNull}
	case scan.Bool:
		return val{k: vBool, n: v.N}
	case scan.Int:
		return val{k: vInt, n: v.N}
	case scan.Uint:
		return val{k: vUint, n: v.N}
	case scan.Double:
		return val{k: vDouble, n: v.N}
	case scan.String:
		return val{k: vString, s: v.Text}
	case scan.Bytes:
		return val{k: vBytes, s: v.Text}
	case scan.Array:
		if v.CBOR {
			return val{k: vCBORArray, s: v.Text}
		}
		return val{k: vJSONArray, s: v.Text}
	case scan.Object:
		if v.CBOR {
			return val{k: vCBORObject, s: v.Text}
		}
		return val{k: vJSONObject, s: v.Text}
	default:
	}
	return errVal
}
