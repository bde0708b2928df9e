package expr

import (
	"fmt"
	"strconv"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// Value is a compiled expression with a value: `key:`, `by:`, `topic:`, `let:`, `set:`. Immutable after CompileValue;
// safe for concurrent use.
type Value struct {
	c    *checked
	fn   valFn
	slow *slow // where fn is nil
}

// CompileValue compiles an expression whose result is of the kind that o.Want says, Any: of any kind. The error is an
// Errors.
func CompileValue(src string, o Options) (*Value, error) {
	c, err := checkEvent(src, &o, o.Want)
	if err != nil {
		return nil, err
	}
	v := &Value{c: c}
	k := compiler{checked: c}
	if fn, ok := k.val(c.tree.Expr()); ok {
		v.fn = fn
		return v, nil
	}
	if v.slow, err = newSlow(c); err != nil {
		return nil, err
	}
	return v, nil
}

// Src is the expression as it was written.
func (v *Value) Src() string { return v.c.src }

// Compiled says whether closures evaluate the expression.
func (v *Value) Compiled() bool { return v.fn != nil }

// Kind is the type of the result, Any where it is known only at run time.
func (v *Value) Kind() Kind { return kindOf(v.c.ast.OutputType()) }

// Result is what an expression yields. What it points to is valid until the event or the Input changes.
type Result struct {
	in *Input
	v  val
}

// Eval evaluates the expression. The error is an *EvalError.
func (v *Value) Eval(in *Input) (Result, error) {
	in.enter()
	x, err := v.eval(in)
	if err != nil {
		return Result{}, err
	}
	if want := v.c.o.Want; want != Any && x.kind() != want {
		return Result{}, &EvalError{Src: v.c.src, Col: 1, Err: fmt.Errorf("%w: it is %s, not %s", errType, x.kind(), want)}
	}
	return Result{in: in, v: x}, nil
}

func (v *Value) eval(in *Input) (val, error) {
	if v.fn == nil {
		out, err := v.slow.eval(in)
		if err != nil {
			return errVal, err
		}
		return fromRef(out)
	}
	x := v.fn(in)
	if x.k == vErr {
		return errVal, in.failed()
	}
	return x, nil
}

// ref is eval for cel-go.
func (v *Value) ref(in *Input) (ref.Val, error) {
	if v.fn == nil {
		return v.slow.eval(in)
	}
	x := v.fn(in)
	if x.k == vErr {
		return nil, in.failed()
	}
	return toRef(in, x), nil
}

// Kind is the type of the result.
func (r Result) Kind() Kind { return r.v.kind() }

// String is the text of a String, "" for all else.
func (r Result) String() string {
	if r.v.k == vString {
		return r.v.s
	}
	return ""
}

// Bytes is the content of a String or Bytes; not to be written.
func (r Result) Bytes() []byte {
	if r.v.k == vString || r.v.k == vBytes {
		return bytesOf(r.v.s)
	}
	return nil
}

// Bool is the truth of a Bool.
func (r Result) Bool() bool { return r.v.k == vBool && r.v.n == 1 }

// Int is a number as an integer; ok is false when it is none, or has a fraction, or does not fit.
func (r Result) Int() (n int64, ok bool) {
	switch r.v.k {
	case vInt, vTime, vDuration:
		return r.v.int(), true
	case vUint:
		return r.v.int(), r.v.n <= 1<<63-1
	case vDouble:
		f := r.v.float()
		return int64(f), f >= -1<<63 && f < 1<<63 && f == float64(int64(f))
	default:
	}
	return 0, false
}

// Float is a number as a floating point number.
func (r Result) Float() (f float64, ok bool) {
	switch r.v.k {
	case vInt:
		return float64(r.v.int()), true
	case vUint:
		return float64(r.v.n), true
	case vDouble:
		return r.v.float(), true
	default:
	}
	return 0, false
}

// AppendText appends the result as text: strings and bytes as they are, numbers in decimal, times as RFC 3339. ok is
// false for lists, maps and null, which have no text. It allocates only what dst needs to grow.
func (r Result) AppendText(dst []byte) (out []byte, ok bool) {
	switch r.v.k {
	case vString, vBytes:
		return append(dst, r.v.s...), true
	case vBool:
		return strconv.AppendBool(dst, r.v.n == 1), true
	case vInt:
		return strconv.AppendInt(dst, r.v.int(), 10), true
	case vUint:
		return strconv.AppendUint(dst, r.v.n, 10), true
	case vDouble:
		return strconv.AppendFloat(dst, r.v.float(), 'g', -1, 64), true
	case vTime:
		return time.Unix(0, r.v.int()).UTC().AppendFormat(dst, time.RFC3339Nano), true
	case vDuration:
		return append(dst, time.Duration(r.v.int()).String()...), true
	default:
	}
	return dst, false
}

// Native is the result as a Go value that shares nothing with the event: nil, bool, int64, uint64, float64, string,
// []byte, time.Time, time.Duration, []any, map[string]any (integer names in decimal). It allocates.
func (r Result) Native() any { return native(r.in, r.v) }

func native(in *Input, v val) any {
	switch v.k {
	case vBool:
		return v.n == 1
	case vInt:
		return v.int()
	case vUint:
		return v.n
	case vDouble:
		return v.float()
	case vString:
		return string([]byte(v.s))
	case vBytes:
		return []byte(v.s)
	case vTime:
		return time.Unix(0, v.int()).UTC()
	case vDuration:
		return time.Duration(v.int())
	default:
	}
	if v.isList() {
		out := []any{}
		in.walk(v, func(_, x val) bool {
			out = append(out, native(in, x))
			return true
		})
		return out
	}
	if v.isMap() {
		out := map[string]any{}
		in.walk(v, func(k, x val) bool {
			name, _ := Result{v: k}.AppendText(nil)
			if _, ok := out[string(name)]; !ok {
				out[string(name)] = native(in, x)
			}
			return true
		})
		return out
	}
	return nil
}

// fromRef is what cel-go made, as a val of its own.
func fromRef(r ref.Val) (val, error) {
	switch x := r.(type) {
	case types.Null:
		return val{k: vNull}, nil
	case types.Bool:
		return boolVal(bool(x)), nil
	case types.Int:
		return intVal(int64(x)), nil
	case types.Uint:
		return uintVal(uint64(x)), nil
	case types.Double:
		return doubleVal(float64(x)), nil
	case types.String:
		return stringVal(string(x)), nil
	case types.Bytes:
		return bytesVal(string(x)), nil
	case types.Timestamp:
		return timeVal(x.UnixNano()), nil
	case types.Duration:
		return val{k: vDuration, n: uint64(x.Duration)}, nil
	case traits.Mapper:
		p := &box{}
		for it := x.Iterator(); it.HasNext() == types.True; {
			key := it.Next()
			k, err := fromRef(key)
			if err != nil {
				return errVal, err
			}
			v, err := fromRef(x.Get(key))
			if err != nil {
				return errVal, err
			}
			p.keys, p.list = append(p.keys, k), append(p.list, v)
		}
		return val{k: vMap, p: p}, nil
	case traits.Lister:
		p := &box{}
		for it := x.Iterator(); it.HasNext() == types.True; {
			v, err := fromRef(it.Next())
			if err != nil {
				return errVal, err
			}
			p.list = append(p.list, v)
		}
		return val{k: vList, p: p}, nil
	case *types.Err:
		return errVal, x
	}
	return errVal, fmt.Errorf("a value of type %s cannot be used here", r.Type().TypeName())
}

// celType is the type that cel-go checks a field against.
func (k Kind) celType() *cel.Type {
	switch k {
	case Null:
		return cel.NullType
	case Bool:
		return cel.BoolType
	case Int:
		return cel.IntType
	case Uint:
		return cel.UintType
	case Double:
		return cel.DoubleType
	case String:
		return cel.StringType
	case Bytes:
		return cel.BytesType
	case Time:
		return cel.TimestampType
	case Duration:
		return cel.DurationType
	case List:
		return cel.ListType(cel.DynType)
	case Map:
		return cel.MapType(cel.StringType, cel.DynType)
	default:
	}
	return cel.DynType
}
