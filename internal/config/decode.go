package config

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// decode sets dst from n by the rules r. It returns the canonical form, nil where something was reported.
func (l *loader) decode(dst reflect.Value, n *node, path string, r *rules) *tree {
	if n.kind == kindBad || l.full() {
		return nil
	}
	if dst.Kind() == reflect.Pointer {
		v := reflect.New(dst.Type().Elem())
		t := l.decode(v.Elem(), n, path, r)
		if t != nil {
			dst.Set(v)
		}
		return t
	}
	before := l.count()
	t := l.decodeBase(dst, n, path, r)
	if t == nil || l.count() > before {
		return nil
	}
	l.validate(dst, n, path)
	if l.count() > before {
		return nil
	}
	return t
}

func (l *loader) decodeBase(dst reflect.Value, n *node, path string, r *rules) *tree {
	c := classOf(dst.Type(), r.unit)
	switch c {
	case classCustom:
		return l.decodeCustom(dst, n, path, r)
	case classSecret:
		s, t := l.decodeSecret(n, path)
		if t == nil {
			return nil
		}
		if dst.Type() == typeSecret {
			dst.Set(reflect.ValueOf(s))
		} else {
			dst.SetString(s.value)
		}
		return t
	case classStruct:
		if n.kind != kindMap && n.kind != kindNull {
			l.failGot(n, path, "a map of keys", l.keysFix(dst.Type()))
			return nil
		}
		return l.decodeStruct(dst, n, path, nil)
	case classList:
		return l.decodeList(dst, n, path, r)
	case classMap:
		return l.decodeMap(dst, n, path, r)
	case classBad:
		l.fail(n.pos, path, "this build cannot read values of type "+dst.Type().String(), "")
		return nil
	default:
	}
	canon, bad := readScalar(dst, c, n, r)
	if bad == nil && r.required && canon == "" {
		bad = &problem{"must not be empty", ""}
	}
	if bad == nil {
		bad = checkBounds(dst, c, r, canon)
	}
	if bad != nil {
		l.fail(n.pos, path, bad.msg, bad.fix)
		return nil
	}
	if len(r.ref) > 0 && c == classString && (canon != "" || r.elem) {
		l.addRef(n, path, canon, r)
	}
	return &tree{text: canon, isText: c == classString || c == classText, env: n.env}
}

// keysFix lists the keys of a struct.
func (l *loader) keysFix(t reflect.Type) string {
	p := l.plan(t)
	if p == nil || len(p.fields) == 0 {
		return ""
	}
	return "write { " + strings.Join(p.names()[:min(3, len(p.fields))], ": ..., ") + ": ... }"
}

// decodeStruct reads a map into a struct; also are further keys that the caller reads itself.
func (l *loader) decodeStruct(dst reflect.Value, n *node, path string, also []string) *tree {
	p := l.plan(dst.Type())
	if p == nil {
		return nil
	}
	l.checkKeys(n, path, p, also)
	t := &tree{isMap: true}
	for i := range p.fields {
		f := &p.fields[i]
		v := dst.FieldByIndex(f.index)
		_, c := n.get(f.key)
		sub := joinPath(path, f.key)
		if c != nil {
			t.add(f.key, l.decode(v, c, sub, &f.rules))
			continue
		}
		if f.required {
			if n.partial {
				continue
			}
			one, _ := nounOf(f.typ, &f.rules)
			l.fail(n.pos, sub, "is missing: expected "+one, "")
			continue
		}
		t.add(f.key, l.fill(v, f, sub, n.pos))
	}
	for _, at := range p.inlined {
		l.validate(dst.FieldByIndex(at), n, path)
	}
	return t
}

// checkKeys reports keys that neither the plan nor also knows.
func (l *loader) checkKeys(n *node, path string, p *plan, also []string) {
	var known []string
	for _, k := range n.keys {
		if p.find(k.text) != nil || slices.Contains(also, k.text) {
			continue
		}
		if l.full() {
			l.more++
			return
		}
		if known == nil {
			known = append(p.names(), also...)
		}
		l.failUnknown(k, path, known)
	}
}

func (l *loader) failUnknown(k *node, path string, known []string) {
	fix := suggest(k.text, known)
	if len(known) == 0 {
		fix = "remove it: there are no keys here"
	}
	l.fail(k.pos, path, "unknown key "+quoteShort(k.text), fix)
}

// fill sets a field that is not written: to its default, else to the defaults below it.
func (l *loader) fill(v reflect.Value, f *field, path string, at Pos) *tree {
	if f.hasDef {
		n, err := defaultNode(f.typ, &f.rules)
		if err != nil {
			l.fail(at, path, "the default cannot be read: "+err.Error(), "")
			return nil
		}
		l.inDefault++
		t := l.decode(v, n, path, &f.rules)
		l.inDefault--
		return t
	}
	if v.Kind() != reflect.Struct || classOf(v.Type(), f.unit) != classStruct {
		return nil
	}
	p := l.plan(v.Type())
	if p == nil {
		return nil
	}
	t := &tree{isMap: true}
	for i := range p.fields {
		sub := &p.fields[i]
		t.add(sub.key, l.fill(v.FieldByIndex(sub.index), sub, joinPath(path, sub.key), at))
	}
	if t.empty() {
		return nil
	}
	return t
}

// defaultNode makes a node of a default: lists, maps and structs are YAML, everything else is text.
func defaultNode(t reflect.Type, r *rules) (*node, error) {
	switch classOf(base(t), r.unit) {
	case classList, classMap, classStruct, classCustom:
	default:
		return textNode(r.def), nil
	}
	l := newLoader(&Schema{}, nil)
	n := l.parse("default", []byte(r.def))
	if len(l.errs) > 0 {
		return nil, errors.New(l.errs[0].Msg)
	}
	if n == nil {
		n = &node{}
	}
	return n, nil
}

func (l *loader) decodeList(dst reflect.Value, n *node, path string, r *rules) *tree {
	elem := r.ofElem()
	items := n.vals
	switch {
	case n.kind == kindList:
	case n.kind == kindNull && !r.single:
		items = nil
	case r.single && n.scalar() && n.kind != kindNull:
		items = []*node{n}
	default:
		_, many := nounOf(dst.Type().Elem(), elem)
		fix := ""
		if n.scalar() && n.kind != kindNull && n.env == "" && r.unit != unitSecret {
			fix = "write [" + n.text + "]"
		}
		if r.unit == unitSecret && n.kind != kindMap {
			fix = "write [{ secret: NAME }]"
		}
		what := "a list of " + many
		if r.single {
			what = "one or " + what
		}
		l.failList(n, path, what, fix, r)
		return nil
	}
	if r.required && len(items) == 0 {
		l.fail(n.pos, path, "must not be empty", "")
		return nil
	}
	s := reflect.MakeSlice(dst.Type(), len(items), len(items))
	t := &tree{list: true}
	for i, c := range items {
		sub := path
		if n.kind == kindList {
			sub += "[" + strconv.Itoa(i) + "]"
		}
		if kid := l.decode(s.Index(i), c, sub, elem); kid != nil {
			t.kids = append(t.kids, kid)
		}
	}
	if len(items) > 0 {
		dst.Set(s)
	}
	if bad := checkBounds(dst, classList, r, ""); bad != nil {
		l.fail(n.pos, path, bad.msg, bad.fix)
		return nil
	}
	return t
}

func (l *loader) decodeMap(dst reflect.Value, n *node, path string, r *rules) *tree {
	elem := r.ofElem()
	if len(r.ref) > 0 {
		elem.ref, elem.enum = nil, nil // they speak about the keys
	}
	if n.kind != kindMap && n.kind != kindNull {
		_, many := nounOf(dst.Type().Elem(), elem)
		l.failList(n, path, "a map from names to "+many, "", r)
		return nil
	}
	if r.required && len(n.keys) == 0 {
		l.fail(n.pos, path, "must not be empty", "")
		return nil
	}
	m := reflect.MakeMapWithSize(dst.Type(), len(n.keys))
	t := &tree{isMap: true}
	for i, k := range n.keys {
		sub := joinPath(path, k.text)
		if len(r.ref) > 0 {
			l.addRef(k, path, k.text, r)
		}
		v := reflect.New(dst.Type().Elem()).Elem()
		if kid := l.decode(v, n.vals[i], sub, elem); kid != nil {
			t.add(k.text, kid)
			m.SetMapIndex(reflect.ValueOf(k.text).Convert(dst.Type().Key()), v)
		}
	}
	if len(n.keys) > 0 {
		dst.Set(m)
	}
	if bad := checkBounds(dst, classMap, r, ""); bad != nil {
		l.fail(n.pos, path, bad.msg, bad.fix)
		return nil
	}
	return t
}

// nounOf is noun for a type.
func nounOf(t reflect.Type, r *rules) (one, many string) {
	c := classOf(base(t), r.unit)
	if c == classList {
		_, many := nounOf(base(t).Elem(), r.ofElem())
		return "a list of " + many, "lists"
	}
	return noun(c, r)
}

// failGot reports "expected ..., got ...".
func (l *loader) failGot(n *node, path, expected, fix string) {
	l.fail(n.pos, path, "expected "+expected+", got "+n.describe(), fix)
}

// failList is failGot that shows nothing of a value that stands where secrets belong.
func (l *loader) failList(n *node, path, expected, fix string, r *rules) {
	if r.unit == unitSecret {
		l.fail(n.pos, path, "expected "+expected, fix)
		return
	}
	l.failGot(n, path, expected, fix)
}

// validate calls the value's own check and places its errors.
func (l *loader) validate(dst reflect.Value, n *node, path string) {
	if l.inDefault > 0 || !dst.CanAddr() || !dst.CanInterface() || !dst.Addr().Type().Implements(typeValidator) {
		return
	}
	if v, ok := dst.Addr().Interface().(validator); ok {
		l.place(v.Validate(), n, path)
	}
}

// place reports an error that a module returned for n, at the field that it names.
func (l *loader) place(err error, n *node, path string) {
	if err == nil {
		return
	}
	if errs, ok := err.(interface{ Unwrap() []error }); ok { // only a join on the outside is split
		for _, e := range errs.Unwrap() {
			l.place(e, n, path)
		}
		return
	}
	if errors.Is(err, errReported) {
		return
	}
	var at interface {
		FieldPath() string
		Unwrap() error
	}
	fix := ""
	if errors.As(err, &at) {
		var fixer interface{ FieldFix() string }
		if errors.As(err, &fixer) {
			fix = fixer.FieldFix()
		}
		if p := at.FieldPath(); p != "" {
			n, path = locate(n, p), joinRelative(path, p)
		}
		if inner := at.Unwrap(); inner != nil {
			err = inner
		}
	}
	l.fail(n.pos, path, l.scrub(err.Error()), l.scrub(fix))
}

func joinRelative(path, rel string) string {
	if path == "" || strings.HasPrefix(rel, "[") {
		return path + rel
	}
	return path + "." + rel
}

// locate finds the node at a relative path as far as it is written.
func locate(n *node, rel string) *node {
	for _, part := range strings.FieldsFunc(rel, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		var next *node
		switch n.kind {
		case kindMap:
			_, next = n.get(strings.Trim(part, `"`))
		case kindList:
			if i, err := strconv.Atoi(part); err == nil && i >= 0 && i < len(n.vals) {
				next = n.vals[i]
			}
		default:
		}
		if next == nil {
			return n
		}
		n = next
	}
	return n
}
