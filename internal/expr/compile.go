package expr

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// tri is the three-valued truth of CEL.
type tri uint8

const (
	no tri = iota
	yes
	bad // the term is an error
)

type (
	boolFn func(in *Input) tri
	valFn  func(in *Input) val
)

// Predicate is a compiled condition on events. Immutable after CompileEvent; safe for concurrent use.
type Predicate struct {
	c    *checked
	fn   boolFn
	slow *slow // where fn is nil
}

// CompileEvent compiles a condition: `when:`, `for:`, `--where` of tap. Its type must be bool, or known only at run time.
// The error is an Errors. It takes about a tenth of a millisecond: compile when a configuration is loaded, not on a loop.
func CompileEvent(src string, o Options) (*Predicate, error) {
	c, err := checkEvent(src, &o, Bool)
	if err != nil {
		return nil, err
	}
	p := &Predicate{c: c}
	k := compiler{checked: c}
	if fn, ok := k.bool(c.tree.Expr()); ok {
		p.fn = fn
		return p, nil
	}
	if p.slow, err = newSlow(c); err != nil {
		return nil, err
	}
	return p, nil
}

func checkEvent(src string, o *Options, want Kind) (*checked, error) {
	env, err := o.env()
	if err != nil {
		return nil, envError(err)
	}
	c, err := check(src, o, env, o.variableNames(), false)
	if err != nil {
		return nil, err
	}
	return c, c.wants(want)
}

// envError is an Errors as it is; all else is ours to explain.
func envError(err error) error {
	var errs Errors
	if errors.As(err, &errs) {
		return errs
	}
	return fmt.Errorf("make the environment of expressions: %w", err)
}

// wants holds the type of the result.
func (c *checked) wants(want Kind) error {
	if got := kindOf(c.ast.OutputType()); want != Any && got != Any && got != want {
		return Errors{c.at(c.tree.Expr(), fmt.Sprintf("the expression must be %s, it is %s", want, got), "")}
	}
	return nil
}

func kindOf(t *cel.Type) Kind {
	switch t.Kind() {
	case types.BoolKind:
		return Bool
	case types.IntKind:
		return Int
	case types.UintKind:
		return Uint
	case types.DoubleKind:
		return Double
	case types.StringKind:
		return String
	case types.BytesKind:
		return Bytes
	case types.TimestampKind:
		return Time
	case types.DurationKind:
		return Duration
	case types.ListKind:
		return List
	case types.MapKind:
		return Map
	case types.NullTypeKind:
		return Null
	default:
	}
	return Any
}

// Src is the expression as it was written.
func (p *Predicate) Src() string { return p.c.src }

// Compiled says whether closures evaluate the expression; otherwise cel-go does, about ten times slower and with
// allocations.
func (p *Predicate) Compiled() bool { return p.fn != nil }

// Match says whether the condition holds. The error, an *EvalError, says why it has no answer: then ok is false. It
// allocates nothing where Compiled.
func (p *Predicate) Match(in *Input) (ok bool, err error) {
	in.enter()
	if p.fn == nil {
		return p.slow.match(in)
	}
	switch p.fn(in) {
	case yes:
		return true, nil
	case no:
		return false, nil
	default:
	}
	return false, in.failed()
}

// failed is the error of an evaluation that gave none of the values.
func (in *Input) failed() error {
	if in.err == nil {
		return errNoReason
	}
	return in.err
}

// Why a term has no value.
var (
	errNoReason = errors.New("the expression has no value")
	errNoKey    = errors.New("no such name")
	errIndex    = errors.New("no such element")
	errType     = errors.New("the value has another type than the operation takes")
	errRange    = errors.New("the result is out of range")
	errZero     = errors.New("division by zero")
	errText     = errors.New("the payload is not UTF-8 text")
	errSteps    = errors.New("macros looked at too many elements")
)

// fail makes the closure's way to say why e has no value.
func (k *compiler) fail(e ast.Expr, err error) func(in *Input) {
	first := leaf(e)
	col := k.tree.SourceInfo().GetStartLocation(first.ID()).Column() + 1
	if first.Kind() == ast.IdentKind { // the place of a dotted name is its last dot
		col = max(col-max(strings.LastIndexByte(trimDot(first.AsIdent()), '.'), 0), 1)
	}
	ee := &EvalError{Src: k.src, Col: col, Err: err}
	return func(in *Input) { in.err = ee }
}
