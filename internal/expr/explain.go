package expr

import (
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// Term is one thing that an expression names, with its value for one event.
type Term struct {
	Name  string // as it is written: event.json.temperature
	Value any    // as Result.Native makes it; nil with Err
	Err   error  // why it has no value
}

// Explain lists what the expression names, each name once, in the order of the text, with the values that it has now. It is
// made for `explain` and logs, not for events: it allocates. Sets are left out; what is looked up in them is there.
func (p *Predicate) Explain(in *Input) []Term { return p.c.explain(in) }

// Explain is Predicate.Explain.
func (v *Value) Explain(in *Input) []Term { return v.c.explain(in) }

func (c *checked) explain(in *Input) []Term {
	var out []Term
	seen := map[string]bool{}
	var visit func(e ast.Expr)
	visit = func(e ast.Expr) {
		if name, ok := c.term(e); ok {
			if !seen[name] {
				seen[name] = true
				out = append(out, c.valueOf(name, e, in))
			}
			return
		}
		for _, k := range children(e) {
			visit(k)
		}
	}
	visit(c.tree.Expr())
	return out
}

// term says whether e is a variable or leads from one by constant names.
func (c *checked) term(e ast.Expr) (name string, ok bool) {
	switch e.Kind() {
	case ast.IdentKind:
		name = trimDot(e.AsIdent())
		if name == "sets" {
			return "", false
		}
		for _, l := range c.o.Let {
			if l.Name == name {
				return name, true
			}
		}
		return name, byName(name) != nil
	case ast.SelectKind:
		name, ok = c.term(e.AsSelect().Operand())
		return name + "." + e.AsSelect().FieldName(), ok
	case ast.CallKind:
		call := e.AsCall()
		switch {
		case call.FunctionName() == "dyn":
			return c.term(call.Args()[0])
		case call.FunctionName() != operators.Index || call.Args()[1].Kind() != ast.LiteralKind:
			return "", false
		}
		if name, ok = c.term(call.Args()[0]); !ok {
			return "", false
		}
		key, _ := Result{v: must(literal(call.Args()[1].AsLiteral()))}.AppendText(nil)
		if _, isString := call.Args()[1].AsLiteral().(types.String); isString {
			return name + "." + string(key), true
		}
		return name + "[" + string(key) + "]", true
	default:
	}
	return "", false
}

// must is a literal, or null for those that the language does not have as keys.
func must(v val, ok bool) val {
	if !ok {
		return val{k: vNull}
	}
	return v
}

func (c *checked) valueOf(name string, e ast.Expr, in *Input) Term {
	k := compiler{checked: c}
	var f valFn
	var ok bool
	if e.Kind() == ast.SelectKind && e.AsSelect().IsTestOnly() {
		// has(a.b) names a.b.
		f, ok = k.member(e)
	} else {
		f, ok = k.val(e)
	}
	t := Term{Name: name}
	if !ok {
		t.Err = errNoReason
		return t
	}
	in.enter()
	v := f(in)
	if v.k == vErr {
		t.Err = in.failed()
		return t
	}
	if v.k == vVars || v.k == vSet {
		return t
	}
	t.Value = native(in, v)
	return t
}
