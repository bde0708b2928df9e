package scan

// Root is the document's value. None after a scan that refused it.
func (d *Doc) Root() Value {
	if d.err != nil || d.b == "" {
		return Value{}
	}
	if d.cbor {
		return d.readCBOR(d.b, d.start)
	}
	return d.readJSON(d.b, d.start)
}

// RootMember is Root and then Member, without looking for the end of the root object.
func (d *Doc) RootMember(name string) (v Value, isObject bool) {
	if d.err != nil || d.b == "" {
		return Value{}, false
	}
	if !d.cbor {
		if d.b[d.start] != '{' {
			return Value{}, false
		}
		if i, ok := d.find(name); ok {
			return d.readJSON(d.b, i), true
		}
		return Value{}, true
	}
	if d.b[d.start]>>5 != 5 {
		return Value{}, false
	}
	if i, ok := d.find(name); ok {
		return d.readCBOR(d.b, i), true
	}
	return Value{}, true
}

// Member is the value of that name in the object obj, a Value of this document; None where there is no such name.
func (d *Doc) Member(obj Value, name string) Value {
	if obj.Kind != Object {
		return Value{}
	}
	if d.isRoot(obj.Text) {
		v, _ := d.RootMember(name)
		return v
	}
	for it := d.Iter(obj); it.Next(); {
		if it.Key.Kind == String && it.Key.Text == name {
			return it.Value()
		}
	}
	return Value{}
}

// MemberInt is Member for the integer names of CBOR.
func (d *Doc) MemberInt(obj Value, name Value) Value {
	if obj.Kind != Object || !obj.CBOR {
		return Value{}
	}
	for it := d.Iter(obj); it.Next(); {
		if it.Key.Kind == name.Kind && it.Key.N == name.N {
			return it.Value()
		}
	}
	return Value{}
}

// Elem is the i-th value of the array arr, counted from 0; None where there is none.
func (d *Doc) Elem(arr Value, i int64) Value {
	if arr.Kind != Array || i < 0 {
		return Value{}
	}
	for it := d.Iter(arr); it.Next(); i-- {
		if i == 0 {
			return it.Value()
		}
	}
	return Value{}
}

// Len is how many elements or members v has.
func (d *Doc) Len(v Value) int {
	if d.isRoot(v.Text) && v.Kind == Object {
		return d.top
	}
	n := 0
	for it := d.Iter(v); it.Next(); {
		n++
	}
	return n
}

// Iter walks the elements of an array or the members of an object in their order. Owned by its user.
type Iter struct {
	Key  Value // of a member: String, or of CBOR also Int or Uint
	d    *Doc
	b    string
	i    int // of what comes next
	at   int // of the value
	left int // CBOR: how many come, -1: until the break
	obj  bool
	cbor bool
	more bool
}

// Iter begins a walk of v, which must be an Array or Object of this document.
func (d *Doc) Iter(v Value) Iter {
	it := Iter{d: d, b: v.Text, obj: v.Kind == Object, cbor: v.CBOR}
	switch {
	case v.Kind != Object && v.Kind != Array:
	case v.CBOR:
		it.beginCBOR()
	default:
		it.i = skipSpace(it.b, 1)
		it.more = it.b[it.i] != ']' && it.b[it.i] != '}'
	}
	return it
}

// Next moves on; false at the end.
func (it *Iter) Next() bool {
	if !it.more {
		return false
	}
	if it.cbor {
		return it.nextCBOR()
	}
	b := it.b
	i := it.i
	if it.obj {
		end := skipText(b, i+1)
		it.Key = Value{Kind: String, Text: b[i+1 : end-1]}
		i = skipSpace(b, end)
		i = skipSpace(b, i+1)
	}
	it.at = i
	i = skipSpace(b, skip(b, i))
	if it.more = b[i] == ','; it.more {
		i = skipSpace(b, i+1)
	}
	it.i = i
	return true
}

// Value is the element or the member's value that Next moved to.
func (it *Iter) Value() Value {
	if it.cbor {
		return it.d.readCBOR(it.b, it.at)
	}
	return it.d.readJSON(it.b, it.at)
}
