package config

import (
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"strings"
)

// errReported is returned where the error itself is already on the loader's list.
var errReported = errors.New("already reported")

// Unmarshaler is a type that is written in an odd shape. An error is placed at the value's node, like one of Validate.
type Unmarshaler interface {
	UnmarshalConfig(v *Value) error
}

// Value is a node of a file, as UnmarshalConfig sees it. It is valid during the call it was given to, and owned by the
// goroutine that loads.
type Value struct {
	l    *loader
	n    *node
	path string
	r    *rules
}

// Pair is one key of a map, in written order.
type Pair struct {
	Key   string
	Value *Value
}

// IsNull says whether nothing is written.
func (v *Value) IsNull() bool { return v.n.kind == kindNull }

// IsMap says whether the value is a map.
func (v *Value) IsMap() bool { return v.n.kind == kindMap }

// IsList says whether the value is a list.
func (v *Value) IsList() bool { return v.n.kind == kindList }

// IsScalar says whether the value is a text, number or word.
func (v *Value) IsScalar() bool { return v.n.scalar() && v.n.kind != kindNull }

// Pos is the place of the value.
func (v *Value) Pos() Pos { return v.n.pos }

// TextPos is the place of the first character of a text: behind the quote where there is one, in the line behind the mark of a
// block.
func (v *Value) TextPos() Pos {
	p := v.n.pos
	switch {
	case v.n.block:
		p.Line, p.Col = p.Line+1, 1
	case v.n.quoted:
		p.Col++
	}
	return p
}

// Path is the path of the value.
func (v *Value) Path() string { return v.path }

// Text returns a text, after the rules of the field's tags (unit, enum, ref). It reports what does not fit.
func (v *Value) Text() (string, error) {
	var s string
	return s, v.Decode(&s)
}

// JSON is a scalar as JSON: numbers and words as they are, everything else as text. Nothing written is null.
func (v *Value) JSON() ([]byte, error) {
	switch v.n.kind {
	case kindNull:
		return []byte("null"), nil
	case kindBool:
		return []byte(strings.ToLower(v.n.text)), nil
	case kindInt, kindFloat:
		if json.Valid([]byte(v.n.text)) {
			return []byte(v.n.text), nil
		}
		return nil, v.Fail("the number "+quoteShort(v.n.text)+" is none of JSON", "write it in decimal, or in quotes")
	case kindText:
		return json.Marshal(v.n.text)
	case kindMap, kindList, kindBad:
	}
	return nil, v.Fail("expected a text, number or word", "")
}

// Decode reads the value into what into points to, which may be a struct with tags, a list, a map or a scalar. The
// rules of the field's own tags apply to scalars, lists and maps. Errors are reported with their place; the returned
// error only says that there were some, and may be returned from UnmarshalConfig.
func (v *Value) Decode(into any) error {
	dst := reflect.ValueOf(into)
	if dst.Kind() != reflect.Pointer || dst.IsNil() {
		return errors.New("decode: expected a pointer")
	}
	r := v.r
	if classOf(base(dst.Type()), "") == classStruct {
		r = &rules{}
	}
	if v.n.scalar() && len(r.ref) > 0 {
		r = r.ofElem() // an empty text is a name that does not exist, not a field that is left out
	}
	before := v.l.count()
	v.l.decode(dst.Elem(), v.n, v.path, r)
	if v.l.count() > before {
		return errReported
	}
	return nil
}

// Map returns the keys in written order; nothing written is an empty map.
func (v *Value) Map() ([]Pair, error) {
	if v.n.kind == kindNull {
		return nil, nil
	}
	if v.n.kind != kindMap {
		v.l.failGot(v.n, v.path, "a map", "")
		return nil, errReported
	}
	elem := v.r.ofElem()
	if len(elem.ref) > 0 {
		elem.ref, elem.enum = nil, nil // they speak about names, and the names are the keys
	}
	out := make([]Pair, len(v.n.keys))
	for i, k := range v.n.keys {
		out[i] = Pair{k.text, &Value{v.l, v.n.vals[i], joinPath(v.path, k.text), elem}}
	}
	return out, nil
}

// List returns the entries of a list; a scalar is a list of itself, nothing written an empty list.
func (v *Value) List() ([]*Value, error) {
	switch {
	case v.n.kind == kindNull:
		return nil, nil
	case v.n.kind == kindMap:
		v.l.failGot(v.n, v.path, "a list", "")
		return nil, errReported
	case v.n.kind != kindList:
		return []*Value{v}, nil
	}
	out := make([]*Value, len(v.n.vals))
	for i, c := range v.n.vals {
		out[i] = &Value{v.l, c, v.path + "[" + strconv.Itoa(i) + "]", v.r.ofElem()}
	}
	return out, nil
}

// Ref says that name must be an entry of one of the collections; it is checked when all files are read.
func (v *Value) Ref(name string, collections ...string) {
	v.l.addRef(v.n, v.path, name, &rules{ref: collections})
}

// Fail reports an error at the value and returns an error for UnmarshalConfig to return.
func (v *Value) Fail(msg, fix string) error {
	v.l.fail(v.n.pos, v.path, v.l.scrub(msg), v.l.scrub(fix))
	return errReported
}

// decodeCustom lets a type read itself.
func (l *loader) decodeCustom(dst reflect.Value, n *node, path string, r *rules) *tree {
	u, ok := dst.Addr().Interface().(Unmarshaler)
	if !ok {
		return nil
	}
	before := l.count()
	err := u.UnmarshalConfig(&Value{l, n, path, r})
	l.place(err, n, path)
	if err != nil || l.count() > before {
		return nil
	}
	return rawTree(n)
}

// rawTree is the canonical form of a value whose shape only its module knows: what is written.
func rawTree(n *node) *tree {
	switch n.kind {
	case kindMap:
		t := &tree{isMap: true}
		for i, k := range n.keys {
			t.add(k.text, rawTree(n.vals[i]))
		}
		return t
	case kindList:
		t := &tree{list: true}
		for _, c := range n.vals {
			t.kids = append(t.kids, rawTree(c))
		}
		return t
	case kindNull:
		return &tree{text: "null"}
	case kindBad:
		return nil
	case kindBool, kindInt, kindFloat, kindText:
	}
	return &tree{text: n.text, isText: n.kind == kindText, env: n.env}
}
