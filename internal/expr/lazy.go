package expr

import (
	"reflect"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// object is an object of a payload for cel-go: a name is looked up in the bytes; only what asks for all of it makes a
// map. Owned by one evaluation.
type object struct {
	in    *Input
	v     val
	whole traits.Mapper
}

// all is the object as a map.
func (o *object) all() traits.Mapper {
	if o.whole == nil {
		out := map[ref.Val]ref.Val{}
		o.in.walk(o.v, func(k, x val) bool {
			out[toRef(o.in, k)] = toRef(o.in, x)
			return true
		})
		o.whole = types.NewRefValMap(types.DefaultTypeAdapter, out)
	}
	return o.whole
}

// Find implements traits.Mapper.
func (o *object) Find(key ref.Val) (ref.Val, bool) {
	switch key.(type) {
	case types.String, types.Int, types.Uint, types.Double:
	default:
		return nil, false
	}
	k, err := fromRef(key)
	if err != nil {
		return nil, false
	}
	v, found := o.in.find(o.v, k)
	switch {
	case found:
		return toRef(o.in, v), true
	case o.in.steps > maxSteps:
		return types.WrapErr(errSteps), false
	}
	return nil, false
}

// Get implements traits.Indexer.
func (o *object) Get(key ref.Val) ref.Val {
	v, found := o.Find(key)
	switch {
	case found:
		return v
	case v != nil:
		return v
	}
	return types.NewErr("no such key: %v", key)
}

// Contains implements traits.Container.
func (o *object) Contains(key ref.Val) ref.Val {
	v, found := o.Find(key)
	if !found && v != nil {
		return v
	}
	return types.Bool(found)
}

// Size implements traits.Sizer.
func (o *object) Size() ref.Val {
	n, ok := o.in.size(o.v)
	if !ok {
		return types.WrapErr(errSteps)
	}
	return types.Int(n)
}

// Iterator implements traits.Iterable.
func (o *object) Iterator() traits.Iterator { return o.all().Iterator() }

// ConvertToNative implements ref.Val.
func (o *object) ConvertToNative(t reflect.Type) (any, error) { return o.all().ConvertToNative(t) }

// ConvertToType implements ref.Val.
func (o *object) ConvertToType(t ref.Type) ref.Val { return o.all().ConvertToType(t) }

// Equal implements ref.Val.
func (o *object) Equal(other ref.Val) ref.Val { return o.all().Equal(other) }

// Type implements ref.Val.
func (o *object) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (o *object) Value() any { return o.all().Value() }
