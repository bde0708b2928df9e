package expr

import (
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/windrose-edc/windrose/internal/expr/scan"
)

// compiler makes closures of a checked tree. Its methods report false for what closures do not cover; then cel-go
// evaluates the whole expression. Owned by one compilation.
type compiler struct {
	*checked
	locals []string // variables of macros, innermost last: Input.locals has their values
}

// bool compiles a condition.
func (k *compiler) bool(e ast.Expr) (boolFn, bool) {
	switch e.Kind() {
	case ast.LiteralKind:
		if b, ok := e.AsLiteral().(types.Bool); ok {
			t := truth(bool(b))
			return func(*Input) tri { return t }, true
		}
	case ast.SelectKind:
		if e.AsSelect().IsTestOnly() {
			return k.has(e)
		}
	case ast.ComprehensionKind:
		return k.quantifier(e)
	case ast.CallKind:
		call := e.AsCall()
		switch call.FunctionName() {
		case operators.LogicalAnd:
			return k.logic(e, operators.LogicalAnd, no)
		case operators.LogicalOr:
			return k.logic(e, operators.LogicalOr, yes)
		case operators.LogicalNot:
			f, ok := k.bool(call.Args()[0])
			return func(in *Input) tri {
				switch f(in) {
				case yes:
					return no
				case no:
					return yes
				default:
				}
				return bad
			}, ok
		case operators.Equals, operators.NotEquals:
			return k.equals(e)
		case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
			return k.orders(e)
		case operators.In:
			return k.in(e)
		case "startsWith", "endsWith", "contains", "matches":
			return k.stringTest(e)
		case operators.Conditional:
			return k.choose(e)
		}
	default:
	}
	f, ok := k.val(e)
	if !ok {
		return nil, false
	}
	fail := k.fail(e, errType)
	return func(in *Input) tri {
		switch v := f(in); v.k {
		case vBool:
			return tri(v.n)
		case vErr:
		default:
			fail(in)
		}
		return bad
	}, true
}

// logic compiles a chain of && or ||: decides is the value that decides it alone, even beside errors.
func (k *compiler) logic(e ast.Expr, op string, decides tri) (boolFn, bool) {
	var terms []boolFn
	var collect func(e ast.Expr) bool
	collect = func(e ast.Expr) bool {
		if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == op {
			return collect(e.AsCall().Args()[0]) && collect(e.AsCall().Args()[1])
		}
		f, ok := k.bool(e)
		terms = append(terms, f)
		return ok
	}
	if !collect(e) {
		return nil, false
	}
	other := yes - decides
	if len(terms) == 2 {
		a, b := terms[0], terms[1]
		return func(in *Input) tri {
			x := a(in)
			if x == decides {
				return x
			}
			if y := b(in); y != other {
				return y
			}
			return x
		}, true
	}
	if len(terms) == 3 {
		a, b, c := terms[0], terms[1], terms[2]
		return func(in *Input) tri {
			x := a(in)
			if x == decides {
				return x
			}
			y := b(in)
			if y == decides {
				return y
			}
			z := c(in)
			if z != other {
				return z
			}
			if x != other {
				return x
			}
			return y
		}, true
	}
	return func(in *Input) tri {
		result := other
		for _, f := range terms {
			switch f(in) {
			case decides:
				return decides
			case bad:
				result = bad
			default:
			}
		}
		return result
	}, true
}

// choose compiles c ? a : b as a condition.
func (k *compiler) choose(e ast.Expr) (boolFn, bool) {
	args := e.AsCall().Args()
	c, ok1 := k.bool(args[0])
	a, ok2 := k.bool(args[1])
	b, ok3 := k.bool(args[2])
	return func(in *Input) tri {
		switch c(in) {
		case yes:
			return a(in)
		case no:
			return b(in)
		default:
		}
		return bad
	}, ok1 && ok2 && ok3
}

// val compiles any expression.
func (k *compiler) val(e ast.Expr) (valFn, bool) {
	switch e.Kind() {
	case ast.LiteralKind:
		v, ok := literal(e.AsLiteral())
		return func(*Input) val { return v }, ok
	case ast.IdentKind:
		return k.ident(e)
	case ast.SelectKind:
		if e.AsSelect().IsTestOnly() {
			return k.boxed(e)
		}
		return k.member(e)
	case ast.ListKind, ast.MapKind:
		v, ok := k.constant(e)
		return func(*Input) val { return v }, ok
	case ast.ComprehensionKind:
		return k.boxed(e)
	case ast.CallKind:
		return k.call(e)
	default:
	}
	return nil, false
}

// boxed is a condition as a value.
func (k *compiler) boxed(e ast.Expr) (valFn, bool) {
	f, ok := k.bool(e)
	return func(in *Input) val {
		switch f(in) {
		case yes:
			return val{k: vBool, n: 1}
		case no:
			return val{k: vBool}
		default:
		}
		return errVal
	}, ok
}

// literal is a constant of the language.
func literal(r ref.Val) (val, bool) {
	switch x := r.(type) {
	case types.Null:
		return val{k: vNull}, true
	case types.Bool:
		return boolVal(bool(x)), true
	case types.Int:
		return intVal(int64(x)), true
	case types.Uint:
		return uintVal(uint64(x)), true
	case types.Double:
		return doubleVal(float64(x)), true
	case types.String:
		return stringVal(string(x)), true
	case types.Bytes:
		return bytesVal(string(x)), true
	}
	return errVal, false
}

// constant is the value of an expression that is the same for every event.
func (k *compiler) constant(e ast.Expr) (val, bool) {
	switch e.Kind() {
	case ast.LiteralKind:
		return literal(e.AsLiteral())
	case ast.ListKind:
		l := e.AsList()
		if len(l.OptionalIndices()) > 0 {
			return errVal, false
		}
		p := &box{}
		for _, x := range l.Elements() {
			v, ok := k.constant(x)
			if !ok {
				return errVal, false
			}
			p.list = append(p.list, v)
		}
		return val{k: vList, p: p}, true
	case ast.MapKind:
		p := &box{}
		for _, entry := range e.AsMap().Entries() {
			m := entry.AsMapEntry()
			key, ok1 := k.constant(m.Key())
			v, ok2 := k.constant(m.Value())
			if !ok1 || !ok2 || m.IsOptional() || key.k != vString && key.k != vInt && key.k != vBool && key.k != vUint {
				return errVal, false
			}
			for _, other := range p.keys {
				if (&Input{}).equal(other, key) != no {
					return errVal, false // an error that cel-go tells
				}
			}
			p.keys, p.list = append(p.keys, key), append(p.list, v)
		}
		return val{k: vMap, p: p}, true
	case ast.CallKind:
		if call := e.AsCall(); call.FunctionName() == operators.Negate {
			switch v, ok := k.constant(call.Args()[0]); {
			case ok && v.k == vInt && v.int() != -1<<63:
				return intVal(-v.int()), true
			case ok && v.k == vDouble:
				return doubleVal(-v.float()), true
			}
		}
		return k.constantTime(e)
	case ast.SelectKind, ast.IdentKind:
		if name, of, ok := member(e); ok && of == "sets" && !k.row {
			return val{k: vSet, p: &box{set: k.o.Sets.Lookup(name)}}, true
		}
	default:
	}
	return errVal, false
}

// ident compiles a variable.
func (k *compiler) ident(e ast.Expr) (valFn, bool) {
	name := e.AsIdent()
	for i := len(k.locals) - 1; i >= 0; i-- {
		if k.locals[i] == name {
			return func(in *Input) val { return in.locals[i] }, true
		}
	}
	name = trimDot(name)
	for _, l := range k.o.Let {
		if l.Name == name {
			// Its macros would write over the variables of those around it.
			clash := len(k.locals) > 0 && folds(l.Value.c.tree.Expr())
			return l.Value.fn, l.Value.fn != nil && !clash
		}
	}
	v := byName(name)
	switch {
	case v == nil:
		return nil, false
	case v.str != nil:
		str := v.str
		return func(in *Input) val { return stringVal(str(in)) }, true
	case name == "vars":
		x := val{k: vVars, p: &box{names: k.o.Captures}}
		return func(*Input) val { return x }, true
	case name == "event.json" || name == "event.cbor":
		return k.root(e, name == "event.cbor"), true
	case name == "event.text":
		fail := k.fail(e, errText)
		return func(in *Input) val {
			s, ok := in.text()
			if !ok {
				fail(in)
				return errVal
			}
			return stringVal(s)
		}, true
	case v.val == nil:
		return nil, false
	}
	return v.val, true
}

func trimDot(name string) string {
	if len(name) > 0 && name[0] == '.' {
		return name[1:]
	}
	return name
}

// root compiles event.json and event.cbor.
func (k *compiler) root(e ast.Expr, cbor bool) valFn {
	fail := k.failDoc(e, cbor)
	return func(in *Input) val {
		d := in.doc(cbor)
		v := d.Root()
		if v.Kind == scan.None {
			fail(in, d)
			return errVal
		}
		return fromScan(v)
	}
}

// failDoc tells why a payload has no values. The errors are made here, one for each cause.
func (k *compiler) failDoc(e ast.Expr, cbor bool) func(in *Input, d *scan.Doc) {
	as := "JSON"
	if cbor {
		as = "CBOR"
	}
	causes := []error{scan.ErrSyntax, scan.ErrDuplicate, scan.ErrName, scan.ErrUTF8, scan.ErrDepth, scan.ErrSize, scan.ErrTags, scan.ErrSimple, scan.ErrNumber}
	fails := make([]func(in *Input), len(causes))
	for i, err := range causes {
		fails[i] = k.fail(e, payloadError(as, err))
	}
	return func(in *Input, d *scan.Doc) {
		for i, err := range causes {
			if d.Err() == err { //nolint:errorlint // package scan says that nobody wraps them
				fails[i](in)
			}
		}
	}
}

// str compiles what is a string without any doubt: variables and constants.
func (k *compiler) str(e ast.Expr) (func(in *Input) string, bool) {
	switch e.Kind() {
	case ast.LiteralKind:
		if s, ok := e.AsLiteral().(types.String); ok {
			text := string(s)
			return func(*Input) string { return text }, true
		}
	case ast.IdentKind:
		for _, l := range k.locals {
			if l == e.AsIdent() {
				return nil, false
			}
		}
		for _, l := range k.o.Let {
			if l.Name == trimDot(e.AsIdent()) {
				return nil, false
			}
		}
		if v := byName(trimDot(e.AsIdent())); v != nil && v.str != nil {
			return v.str, true
		}
	default:
	}
	return nil, false
}

// path recognises event.json.a.b and event.cbor["a"].b: names that lead from the payload's root.
func (k *compiler) path(e ast.Expr) (names []string, cbor, ok bool) {
	switch e.Kind() {
	case ast.IdentKind:
		n := trimDot(e.AsIdent())
		return nil, n == "event.cbor", n == "event.json" || n == "event.cbor"
	case ast.SelectKind:
		if !e.AsSelect().IsTestOnly() {
			names, cbor, ok = k.path(e.AsSelect().Operand())
			return append(names, e.AsSelect().FieldName()), cbor, ok
		}
	case ast.CallKind:
		call := e.AsCall()
		if call.FunctionName() == operators.Index && call.Args()[1].Kind() == ast.LiteralKind {
			if s, isString := call.Args()[1].AsLiteral().(types.String); isString {
				names, cbor, ok = k.path(call.Args()[0])
				return append(names, string(s)), cbor, ok
			}
		}
	default:
	}
	return nil, false, false
}
