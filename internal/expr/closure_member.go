package expr

import (
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"github.com/windrose-edc/windrose/internal/expr/scan"
)

// member compiles a.b.
func (k *compiler) member(e ast.Expr) (valFn, bool) {
	if v, ok := k.constant(e); ok {
		return func(*Input) val { return v }, true
	}
	if names, cbor, ok := k.path(e); ok && len(names) > 0 {
		return k.payload(e, names, cbor), true
	}
	sel := e.AsSelect()
	return k.lookup(e, sel.Operand(), stringVal(sel.FieldName()))
}

// lookup compiles a[key] for a constant key.
func (k *compiler) lookup(e, operand ast.Expr, key val) (valFn, bool) {
	f, ok := k.val(operand)
	if !ok {
		return nil, false
	}
	get := k.getter(e)
	return func(in *Input) val {
		m := f(in)
		if m.k == vErr {
			return errVal
		}
		return get(in, m, key)
	}, true
}

// index compiles a[b].
func (k *compiler) index(e ast.Expr) (valFn, bool) {
	args := e.AsCall().Args()
	if v, ok := k.constant(e); ok {
		return func(*Input) val { return v }, true
	}
	if names, cbor, ok := k.path(e); ok && len(names) > 0 {
		return k.payload(e, names, cbor), true
	}
	if key, ok := k.constant(args[1]); ok {
		return k.lookup(e, args[0], key)
	}
	f, ok1 := k.val(args[0])
	g, ok2 := k.val(args[1])
	get := k.getter(e)
	return func(in *Input) val {
		m := f(in)
		if m.k == vErr {
			return errVal
		}
		key := g(in)
		if key.k == vErr {
			return errVal
		}
		return get(in, m, key)
	}, ok1 && ok2
}

// getter makes m[key] with the errors of e.
func (k *compiler) getter(e ast.Expr) func(in *Input, m, key val) val {
	failKey, failIndex, failType := k.fail(e, errNoKey), k.fail(e, errIndex), k.fail(e, errType)
	return func(in *Input, m, key val) val {
		switch {
		case m.isMap():
			v, found := in.find(m, key)
			if !found {
				failKey(in)
				return errVal
			}
			return v
		case m.isList():
			v, err := in.elem(m, key)
			if err == errIndex { //nolint:errorlint // ours, never wrapped
				failIndex(in)
			} else if err != nil {
				failType(in)
			}
			return v
		}
		failType(in)
		return errVal
	}
}

// payload compiles names that lead from the root of a payload to a value.
func (k *compiler) payload(e ast.Expr, names []string, cbor bool) valFn {
	read := k.read(e, names, cbor)
	fail := k.fail(e, errNoKey)
	return func(in *Input) val {
		v, ok := read(in)
		if !ok {
			return errVal
		}
		if v.Kind == scan.None {
			fail(in)
		}
		return fromScan(v)
	}
}

// read finds the value that names lead to: None where the last one leads nowhere, not ok where an earlier one does.
func (k *compiler) read(e ast.Expr, names []string, cbor bool) func(in *Input) (scan.Value, bool) {
	failDoc, fail := k.failDoc(e, cbor), k.fail(e, errNoKey)
	first, rest := names[0], names[1:]
	return func(in *Input) (scan.Value, bool) {
		d := &in.json
		if cbor {
			d = in.doc(true)
		} else if in.scanned&scannedJSON == 0 {
			d = in.doc(false)
		}
		v, isObject := d.RootMember(first)
		if !isObject {
			if d.Err() != nil {
				failDoc(in, d)
				return v, false
			}
			if d.Root().Kind == scan.Array { // a name is no place in a list
				fail(in)
				return v, false
			}
		}
		for _, name := range rest {
			switch {
			case v.Kind == scan.None || v.Kind == scan.Array || !in.charge(len(v.Text)/256):
				fail(in)
				return scan.Value{}, false
			default:
				v = d.Member(v, name)
			}
		}
		return v, true
	}
}

// has compiles has(a.b).
func (k *compiler) has(e ast.Expr) (boolFn, bool) {
	sel := e.AsSelect()
	if names, cbor, ok := k.path(sel.Operand()); ok {
		read := k.read(e, append(names, sel.FieldName()), cbor)
		return func(in *Input) tri {
			v, ok := read(in)
			if !ok {
				return bad
			}
			return truth(v.Kind != scan.None)
		}, true
	}
	f, ok := k.val(sel.Operand())
	key := stringVal(sel.FieldName())
	fail := k.fail(e, errType)
	return func(in *Input) tri {
		m := f(in)
		switch {
		case m.k == vErr:
			return bad
		case m.isMap():
			if m.k == vSet {
				return truth(m.p.set.Kind().Valued() && m.p.set.Has(key.s))
			}
			_, found := in.find(m, key)
			return truth(found)
		case m.isList():
			fail(in)
			return bad
		}
		return no
	}, ok
}

// in compiles a in b.
func (k *compiler) in(e ast.Expr) (boolFn, bool) {
	args := e.AsCall().Args()
	if set, ok := k.constant(args[1]); ok && set.k == vSet {
		if s, ok := k.str(args[0]); ok {
			return func(in *Input) tri { return truth(set.p.set.Has(s(in))) }, true
		}
	}
	x, ok := k.val(args[0])
	if !ok {
		return nil, false
	}
	if list, ok := k.constant(args[1]); ok && list.k == vList {
		if f, ok := k.inStrings(args[0], list); ok {
			return f, true
		}
	}
	fail, failSteps := k.fail(e, errType), k.fail(e, errSteps)
	if args[1].Kind() == ast.ListKind {
		if _, constant := k.constant(args[1]); !constant {
			return k.inList(e, x, args[1])
		}
	}
	c, ok := k.val(args[1])
	return func(in *Input) tri {
		v := x(in)
		if v.k == vErr {
			return bad
		}
		w := c(in)
		if w.k == vErr {
			return bad
		}
		t, err := in.contains(v, w)
		if t == bad {
			if err == errSteps { //nolint:errorlint // ours, never wrapped
				failSteps(in)
			} else {
				fail(in)
			}
		}
		return t
	}, ok
}

// inStrings compiles s in ["a", "b"].
func (k *compiler) inStrings(e ast.Expr, list val) (boolFn, bool) {
	s, ok := k.str(e)
	if !ok {
		return nil, false
	}
	words := make(map[string]struct{}, len(list.p.list))
	var few []string
	for _, v := range list.p.list {
		if v.k == vString {
			words[v.s] = struct{}{}
			few = append(few, v.s)
		}
	}
	if len(few) <= 4 {
		return func(in *Input) tri {
			text := s(in)
			for _, w := range few {
				if w == text {
					return yes
				}
			}
			return no
		}, true
	}
	return func(in *Input) tri {
		_, found := words[s(in)]
		return truth(found)
	}, true
}

// inList compiles a in [b, c] where not all elements are constant.
func (k *compiler) inList(e ast.Expr, x valFn, list ast.Expr) (boolFn, bool) {
	if len(list.AsList().OptionalIndices()) > 0 {
		return nil, false
	}
	var elems []valFn
	for _, el := range list.AsList().Elements() {
		f, ok := k.val(el)
		if !ok {
			return nil, false
		}
		elems = append(elems, f)
	}
	fail := k.fail(e, errSteps)
	return func(in *Input) tri {
		v := x(in)
		if v.k == vErr {
			return bad
		}
		result := no
		for _, f := range elems {
			w := f(in)
			if w.k == vErr {
				return bad
			}
			if result == no {
				if result = in.equal(v, w); result == bad {
					fail(in)
				}
			}
		}
		return result
	}, true
}

// quantifier compiles all, exists and exists_one.
func (k *compiler) quantifier(e ast.Expr) (boolFn, bool) {
	f := e.AsComprehension()
	if f.HasIterVar2() || len(k.locals) >= maxLocals || f.LoopStep().Kind() != ast.CallKind {
		return nil, false
	}
	step := f.LoopStep().AsCall()
	var pred ast.Expr
	switch op := step.FunctionName(); {
	case (op == operators.LogicalAnd || op == operators.LogicalOr) && accu(step.Args()[0], f) && accu(f.Result(), f):
		pred = step.Args()[1]
	case op == operators.Conditional && accu(step.Args()[2], f) && f.Result().Kind() == ast.CallKind && f.Result().AsCall().FunctionName() == operators.Equals:
		pred = step.Args()[0]
	default:
		return nil, false
	}
	elems, ok := k.val(f.IterRange())
	if !ok {
		return nil, false
	}
	slot := len(k.locals)
	k.locals = append(k.locals, f.IterVar())
	p, ok := k.bool(pred)
	k.locals = k.locals[:slot]
	if !ok {
		return nil, false
	}
	w := walker{slot: slot, pred: p, decides: no, fail: k.fail(e, errType), many: k.fail(e, errSteps)}
	switch step.FunctionName() {
	case operators.LogicalOr:
		w.decides = yes
	case operators.Conditional:
		return func(in *Input) tri { return w.one(in, elems(in)) }, true
	}
	return func(in *Input) tri { return w.any(in, elems(in)) }, true
}

// accu says whether e is the accumulator of a macro.
func accu(e ast.Expr, f ast.ComprehensionExpr) bool {
	return e.Kind() == ast.IdentKind && e.AsIdent() == f.AccuVar()
}

// walker looks at the elements of a list or the names of a map, one by one. Immutable.
type walker struct {
	slot       int // of the element among the locals
	pred       boolFn
	decides    tri // what one element may decide alone
	fail, many func(in *Input)
}

func (w *walker) each(in *Input, v val, f func(t tri) bool) bool {
	switch {
	case v.k == vErr:
		return false
	case !v.isList() && !v.isMap():
		w.fail(in)
		return false
	}
	if v.k == vAttrs || v.k == vHeaders {
		ok := true
		walkStrings(v, func(name, _ string) bool {
			if ok = in.charge(1); !ok {
				w.many(in)
				return false
			}
			in.locals[w.slot] = stringVal(name)
			return f(w.pred(in))
		})
		return ok
	}
	for c := in.elements(v); ; {
		more, x := c.next()
		if !more {
			return true
		}
		if !in.charge(1) {
			w.many(in)
			return false
		}
		in.locals[w.slot] = x
		if !f(w.pred(in)) {
			return true
		}
	}
}

// any is all (decides: no) or exists (decides: yes).
func (w *walker) any(in *Input, v val) tri {
	result := yes - w.decides
	if !w.each(in, v, func(t tri) bool {
		if t != yes-w.decides {
			result = t
		}
		return t != w.decides
	}) {
		return bad
	}
	return result
}

// one is exists_one: an error anywhere is an error.
func (w *walker) one(in *Input, v val) tri {
	n, failed := 0, false
	ok := w.each(in, v, func(t tri) bool {
		if t == yes {
			n++
		}
		failed = failed || t == bad
		return true
	})
	if !ok || failed {
		return bad
	}
	return truth(n == 1)
}
