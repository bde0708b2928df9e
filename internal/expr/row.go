package expr

import (
	"fmt"
	"reflect"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// RowField is one field of a row: a column of `get`, a claim, a part of a certificate. Name may be dotted (cert.cn); no
// name may begin another one (cert and cert.cn).
type RowField struct {
	Name string
	Kind Kind
}

// RowPredicate is a compiled condition on rows (`get --where`). Immutable after CompileRow; safe for concurrent use. It
// is made for listings, not for events: it allocates.
type RowPredicate struct{ v RowValue }

// RowValue is a compiled expression over a row. Immutable after CompileRowValue; safe for concurrent use.
type RowValue struct {
	c      *checked
	prog   cel.Program
	fields map[string]Kind
}

// CompileRow compiles a condition on rows with these fields and the time, now. The error is an Errors.
func CompileRow(fields []RowField, src string) (*RowPredicate, error) {
	v, err := CompileRowValue(fields, src, Options{Want: Bool})
	if err != nil {
		return nil, err
	}
	return &RowPredicate{v: *v}, nil
}

// CompileRowValue compiles an expression over rows with these fields: the `client:` and `attrs:` of auth, for one. Of o
// it uses the place and Want.
func CompileRowValue(fields []RowField, src string, o Options) (*RowValue, error) {
	opts := append(baseOptions(), cel.Variable("now", cel.TimestampType))
	names := []string{"now"}
	v := &RowValue{fields: make(map[string]Kind, len(fields))}
	for _, f := range fields {
		opts = append(opts, cel.Variable(f.Name, f.Kind.celType()))
		names = append(names, f.Name)
		v.fields[f.Name] = f.Kind
	}
	env, err := cel.NewCustomEnv(opts...)
	if err != nil {
		return nil, fmt.Errorf("make the environment of expressions: %w", err)
	}
	parsed, err := check(src, &o, env, names, true)
	if err != nil {
		return nil, err
	}
	if err := parsed.wants(o.Want); err != nil {
		return nil, err
	}
	v.c = parsed
	progOpts := programOptions()
	if folds(parsed.tree.Expr()) {
		progOpts = append(progOpts, cel.CostLimit(runtimeCost))
	}
	if v.prog, err = env.Program(parsed.ast, progOpts...); err != nil {
		return nil, Errors{o.at(1, 1, err.Error(), "")}
	}
	return v, nil
}

// Match says whether the condition holds for the row whose fields get returns: Go values of the field's kind (any
// integer type for Int and Uint, []T for List, map[string]T for Map). nil is null. The error says why it has no answer.
func (p *RowPredicate) Match(get func(name string) any) (bool, error) {
	r, err := p.v.Eval(get)
	if err != nil {
		return false, err
	}
	if r.Kind() != Bool {
		return false, &EvalError{Src: p.v.c.src, Col: 1, Err: errType}
	}
	return r.Bool(), nil
}

// Src is the expression as it was written.
func (p *RowPredicate) Src() string { return p.v.c.src }

// Src is the expression as it was written.
func (v *RowValue) Src() string { return v.c.src }

// Eval evaluates the expression for the row whose fields get returns.
func (v *RowValue) Eval(get func(name string) any) (Result, error) {
	out, _, err := v.prog.Eval(&row{get: get, fields: v.fields})
	if err != nil {
		return Result{}, &EvalError{Src: v.c.src, Col: 1, Err: err}
	}
	x, err := fromRef(out)
	if err != nil {
		return Result{}, &EvalError{Src: v.c.src, Col: 1, Err: err}
	}
	if want := v.c.o.Want; want != Any && x.kind() != want {
		return Result{}, &EvalError{Src: v.c.src, Col: 1, Err: fmt.Errorf("%w: it is %s, not %s", errType, x.kind(), want)}
	}
	return Result{v: x}, nil
}

// row gives cel-go the fields of a row. Owned by one evaluation.
type row struct {
	get    func(name string) any
	fields map[string]Kind
}

// Parent implements cel.Activation.
func (r *row) Parent() cel.Activation { return nil }

// ResolveName implements cel.Activation.
func (r *row) ResolveName(name string) (any, bool) {
	kind, ok := r.fields[name]
	if !ok {
		if name == "now" {
			return types.Timestamp{Time: time.Now().UTC()}, true
		}
		return nil, false
	}
	return rowValue(kind, r.get(name)), true
}

// rowValue holds a Go value to the kind of its field, so that `sessions > 3` holds for an int32 too.
func rowValue(kind Kind, v any) any {
	if v == nil {
		return types.NullValue
	}
	x := reflect.ValueOf(v)
	switch kind {
	case Int:
		switch {
		case x.CanInt():
			return types.Int(x.Int())
		case x.CanUint():
			return types.Int(int64(min(x.Uint(), 1<<63-1)))
		}
	case Uint:
		switch {
		case x.CanUint():
			return types.Uint(x.Uint())
		case x.CanInt() && x.Int() >= 0:
			return types.Uint(uint64(x.Int()))
		}
	case Double:
		switch {
		case x.CanFloat():
			return types.Double(x.Float())
		case x.CanInt():
			return types.Double(float64(x.Int()))
		case x.CanUint():
			return types.Double(float64(x.Uint()))
		}
	case String:
		if s, ok := v.(fmt.Stringer); ok {
			return types.String(s.String())
		}
		if x.Kind() == reflect.String {
			return types.String(x.String())
		}
	case Bool:
		if x.Kind() == reflect.Bool {
			return types.Bool(x.Bool())
		}
	default:
	}
	return types.DefaultTypeAdapter.NativeToValue(v)
}

// folds says whether an expression has macros that walk through lists.
func folds(e ast.Expr) bool {
	if e.Kind() == ast.ComprehensionKind {
		return true
	}
	for _, k := range children(e) {
		if folds(k) {
			return true
		}
	}
	return false
}
