package expr

import (
	"fmt"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"

	"github.com/windrose-edc/windrose/internal/expr/scan"
	"github.com/windrose-edc/windrose/internal/expr/sets"
)

// slow evaluates an expression with cel-go's own program. Immutable; safe for concurrent use.
type slow struct {
	c    *checked
	prog cel.Program
}

// runtimeCost stops what the static bound could not foresee: payloads with more elements than it reckons with.
const runtimeCost = 10 * maxCost

// programOptions: regular expressions are compiled once. cel.OptOptimize would do more, and panics where bytes are looked
// for in a list of strings (v0.32.0: hash of unhashable type types.Bytes).
func programOptions() []cel.ProgramOption {
	return []cel.ProgramOption{cel.OptimizeRegex(interpreter.MatchesRegexOptimization)}
}

func newSlow(c *checked) (*slow, error) {
	opts := programOptions()
	if folds(c.tree.Expr()) {
		opts = append(opts, cel.CostLimit(runtimeCost))
	}
	prog, err := c.env.Program(c.ast, opts...)
	if err != nil {
		return nil, Errors{c.o.at(1, 1, err.Error(), "")}
	}
	return &slow{c: c, prog: prog}, nil
}

// activations are used again, for the boxes in them.
var activations = sync.Pool{New: func() any { return new(activation) }}

func (s *slow) eval(in *Input) (ref.Val, error) {
	a := activations.Get().(*activation)
	a.in, a.o = in, s.c.o
	out, _, err := s.prog.Eval(a)
	a.in, a.o = nil, nil
	activations.Put(a)
	if err != nil {
		return nil, &EvalError{Src: s.c.src, Col: 1, Err: err}
	}
	return out, nil
}

func (s *slow) match(in *Input) (bool, error) {
	out, err := s.eval(in)
	if err != nil {
		return false, err
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, &EvalError{Src: s.c.src, Col: 1, Err: errType}
	}
	return bool(b), nil
}

// activation gives cel-go the variables of an Input. Owned by one evaluation at a time.
type activation struct {
	in    *Input
	o     *Options
	boxes [64]struct { // strings that were boxed before, by variable
		text string
		val  ref.Val
	}
}

// Parent implements cel.Activation.
func (a *activation) Parent() cel.Activation { return nil }

// ResolveName implements cel.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	for i := range variables {
		v := &variables[i]
		if v.name != name {
			continue
		}
		switch {
		case v.str != nil:
			s := v.str(a.in)
			b := &a.boxes[i%len(a.boxes)]
			if b.val == nil || b.text != s {
				b.text = string([]byte(s)) // the event's bytes are borrowed
				b.val = types.String(b.text)
			}
			return b.val, true
		case name == "vars":
			return &lookup{adapt: a.o, in: a.in}, true
		case name == "sets":
			return &lookup{adapt: a.o, sets: a.o.Sets}, true
		}
		x := v.val(a.in)
		if x.k == vErr {
			return types.WrapErr(a.in.why(name)), true
		}
		return toRef(a.in, x), true
	}
	for _, l := range a.o.Let {
		if l.Name == name {
			out, err := l.Value.ref(a.in)
			if err != nil {
				return types.WrapErr(err), true
			}
			return out, true
		}
	}
	return nil, false
}

// why is the cause of a variable's having no value.
func (in *Input) why(name string) error {
	switch name {
	case "event.json":
		return payloadError("JSON", in.json.Err())
	case "event.cbor":
		return payloadError("CBOR", in.cbor.Err())
	}
	return errText
}

func payloadError(as string, err error) error {
	return fmt.Errorf("the payload is not strict %s: %w", as, err)
}

// toRef makes a cel-go value. It copies what is borrowed.
func toRef(in *Input, v val) ref.Val {
	switch v.k {
	case vNull:
		return types.NullValue
	case vBool:
		return types.Bool(v.n == 1)
	case vInt:
		return types.Int(v.int())
	case vUint:
		return types.Uint(v.n)
	case vDouble:
		return types.Double(v.float())
	case vString:
		return types.String(string([]byte(v.s)))
	case vBytes:
		return types.Bytes([]byte(v.s))
	case vTime:
		return types.Timestamp{Time: time.Unix(0, v.int()).UTC()}
	case vDuration:
		return types.Duration{Duration: time.Duration(v.int())}
	case vList:
		out := make([]ref.Val, len(v.p.list))
		for i, x := range v.p.list {
			out[i] = toRef(in, x)
		}
		return types.NewRefValList(types.DefaultTypeAdapter, out)
	case vMap:
		out := make(map[ref.Val]ref.Val, len(v.p.keys))
		for i, x := range v.p.keys {
			out[toRef(in, x)] = toRef(in, v.p.list[i])
		}
		return types.NewRefValMap(types.DefaultTypeAdapter, out)
	case vAttrs, vHeaders:
		out := map[string]string{}
		walkStrings(v, func(k, x string) bool {
			if _, ok := out[k]; !ok {
				out[string([]byte(k))] = string([]byte(x))
			}
			return true
		})
		return types.NewStringStringMap(types.DefaultTypeAdapter, out)
	case vJSONArray, vCBORArray:
		d := in.doc(v.k == vCBORArray)
		out := []ref.Val{}
		for it := d.Iter(toScan(v)); it.Next(); {
			out = append(out, toRef(in, fromScan(it.Value())))
		}
		return types.NewRefValList(types.DefaultTypeAdapter, out)
	case vJSONObject, vCBORObject:
		return &object{in: in, v: v}
	default:
	}
	return types.WrapErr(errType)
}

// toScan is a container as package scan knows it.
func toScan(v val) scan.Value {
	switch v.k {
	case vJSONArray:
		return scan.Value{Kind: scan.Array, Text: v.s}
	case vCBORArray:
		return scan.Value{Kind: scan.Array, CBOR: true, Text: v.s}
	case vJSONObject:
		return scan.Value{Kind: scan.Object, Text: v.s}
	case vCBORObject:
		return scan.Value{Kind: scan.Object, CBOR: true, Text: v.s}
	default:
	}
	return scan.Value{}
}

// lookup is a map that can be asked but not walked through, for cel-go: the captures, the sets, or one set.
type lookup struct {
	traits.Mapper // what is not overridden is refused by names and by the type of vars
	adapt         *Options
	in            *Input      // captures
	sets          *sets.Store // all sets
	set           *sets.Set   // one of them
}

// Find implements traits.Mapper.
func (l *lookup) Find(key ref.Val) (ref.Val, bool) {
	s, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	switch {
	case l.in != nil:
		if v, ok := l.in.capture(l.adapt.Captures, string(s)); ok {
			return types.String(string([]byte(v))), true
		}
	case l.sets != nil:
		if set := l.sets.Lookup(string(s)); set != nil {
			return &lookup{adapt: l.adapt, set: set}, true
		}
	case l.set != nil:
		if v, ok := l.set.Get(string(s)); ok {
			return types.String(v), true
		}
	}
	return nil, false
}

// Contains implements traits.Container.
func (l *lookup) Contains(key ref.Val) ref.Val {
	if s, ok := key.(types.String); ok && l.set != nil {
		return types.Bool(l.set.Has(string(s)))
	}
	_, ok := l.Find(key)
	return types.Bool(ok)
}

// Get implements traits.Indexer.
func (l *lookup) Get(key ref.Val) ref.Val {
	if v, ok := l.Find(key); ok {
		return v
	}
	return types.NewErr("no such key: %v", key)
}

// Type implements ref.Val.
func (l *lookup) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (l *lookup) Value() any { return l }

// Equal implements ref.Val.
func (l *lookup) Equal(other ref.Val) ref.Val { return types.Bool(other == ref.Val(l)) }

// capture is the level of the topic that a name stands for.
func (in *Input) capture(names []string, name string) (string, bool) {
	if names == nil {
		names = in.CaptureNames
	}
	for i, n := range names {
		if n == name && i < len(in.Captures) {
			return view(in.Captures[i]), true
		}
	}
	return "", false
}
