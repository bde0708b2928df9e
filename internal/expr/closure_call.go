package expr

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// call compiles a function call as a value.
func (k *compiler) call(e ast.Expr) (valFn, bool) {
	call := e.AsCall()
	args := call.Args()
	switch name := call.FunctionName(); name {
	case operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.Equals, operators.NotEquals, operators.Less,
		operators.LessEquals, operators.Greater, operators.GreaterEquals, operators.In, "startsWith", "endsWith", "contains", "matches":
		return k.boxed(e)
	case operators.Conditional:
		c, ok1 := k.bool(args[0])
		a, ok2 := k.val(args[1])
		b, ok3 := k.val(args[2])
		return func(in *Input) val {
			switch c(in) {
			case yes:
				return a(in)
			case no:
				return b(in)
			default:
			}
			return errVal
		}, ok1 && ok2 && ok3
	case operators.Index:
		return k.index(e)
	case operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo:
		return k.arithmetic(e, name[1])
	case operators.Negate:
		return k.negate(e)
	case "size":
		return k.size(e)
	case "dyn":
		return k.val(args[0])
	case "int", "uint", "double", "string":
		return k.convert(e, name)
	case "duration", "timestamp":
		v, ok := k.constantTime(e)
		return func(*Input) val { return v }, ok
	}
	return nil, false
}

// constantTime is duration("5m") and timestamp("2026-01-01T00:00:00Z").
func (k *compiler) constantTime(e ast.Expr) (val, bool) {
	if e.Kind() != ast.CallKind {
		return errVal, false
	}
	call := e.AsCall()
	if name := call.FunctionName(); (name != "duration" && name != "timestamp") || len(call.Args()) != 1 || call.Args()[0].Kind() != ast.LiteralKind {
		return errVal, false
	}
	s, ok := call.Args()[0].AsLiteral().(types.String)
	if !ok {
		return errVal, false
	}
	if call.FunctionName() == "duration" {
		d, ok := s.ConvertToType(types.DurationType).(types.Duration)
		return val{k: vDuration, n: uint64(d.Duration)}, ok
	}
	t, ok := s.ConvertToType(types.TimestampType).(types.Timestamp)
	if !ok || t.Unix() >= maxUnix || t.Unix() <= -maxUnix {
		return errVal, false
	}
	return timeVal(t.UnixNano()), true
}

// equals compiles == and !=.
func (k *compiler) equals(e ast.Expr) (boolFn, bool) {
	args := e.AsCall().Args()
	same, other := yes, no
	if e.AsCall().FunctionName() == operators.NotEquals {
		same, other = no, yes
	}
	if a, ok := k.str(args[0]); ok {
		if args[1].Kind() == ast.LiteralKind {
			if s, ok := args[1].AsLiteral().(types.String); ok {
				text := string(s)
				return func(in *Input) tri {
					if a(in) == text {
						return same
					}
					return other
				}, true
			}
		}
		if b, ok := k.str(args[1]); ok {
			return func(in *Input) tri {
				if a(in) == b(in) {
					return same
				}
				return other
			}, true
		}
	}
	a, ok1 := k.val(args[0])
	b, ok2 := k.val(args[1])
	fail := k.fail(e, errSteps)
	return func(in *Input) tri {
		x := a(in)
		if x.k == vErr {
			return bad
		}
		y := b(in)
		if y.k == vErr {
			return bad
		}
		switch in.equal(x, y) {
		case yes:
			return same
		case no:
			return other
		default:
		}
		fail(in)
		return bad
	}, ok1 && ok2
}

// orders compiles <, <=, > and >=.
func (k *compiler) orders(e ast.Expr) (boolFn, bool) {
	args := e.AsCall().Args()
	var less, same, more tri
	switch e.AsCall().FunctionName() {
	case operators.Less:
		less, same, more = yes, no, no
	case operators.LessEquals:
		less, same, more = yes, yes, no
	case operators.Greater:
		less, same, more = no, no, yes
	default:
		less, same, more = no, yes, yes
	}
	a, ok1 := k.val(args[0])
	fail := k.fail(e, errType)
	answer := func(in *Input, x, y val) tri {
		switch c, ok := order(x, y); {
		case !ok:
			fail(in)
			return bad
		case c == unordered:
			return no
		case c < 0:
			return less
		case c > 0:
			return more
		}
		return same
	}
	if y, ok := k.constant(args[1]); ok && ok1 {
		integer := y.k == vInt
		return func(in *Input) tri {
			x := a(in)
			if x.k == vErr {
				return bad
			}
			if integer && x.k == vInt {
				switch {
				case x.int() < y.int():
					return less
				case x.int() > y.int():
					return more
				}
				return same
			}
			return answer(in, x, y)
		}, true
	}
	b, ok2 := k.val(args[1])
	return func(in *Input) tri {
		x := a(in)
		if x.k == vErr {
			return bad
		}
		y := b(in)
		if y.k == vErr {
			return bad
		}
		return answer(in, x, y)
	}, ok1 && ok2
}

// stringTest compiles startsWith, endsWith, contains and matches.
func (k *compiler) stringTest(e ast.Expr) (boolFn, bool) {
	call := e.AsCall()
	var target, arg ast.Expr
	switch args := call.Args(); {
	case call.IsMemberFunction() && len(args) == 1:
		target, arg = call.Target(), args[0]
	case !call.IsMemberFunction() && len(args) == 2: // matches(s, re)
		target, arg = args[0], args[1]
	default:
		return nil, false
	}
	if call.FunctionName() == "matches" {
		return k.matches(e, target, arg)
	}
	test := strings.Contains
	switch call.FunctionName() {
	case "startsWith":
		test = strings.HasPrefix
	case "endsWith":
		test = strings.HasSuffix
	}
	if s, ok := k.str(target); ok && arg.Kind() == ast.LiteralKind {
		if lit, ok := arg.AsLiteral().(types.String); ok {
			text := string(lit)
			if call.FunctionName() == "startsWith" { // the commonest, without an indirect call
				return func(in *Input) tri { return truth(strings.HasPrefix(s(in), text)) }, true
			}
			return func(in *Input) tri { return truth(test(s(in), text)) }, true
		}
	}
	a, ok1 := k.val(target)
	b, ok2 := k.val(arg)
	fail := k.fail(e, errType)
	return func(in *Input) tri {
		x := a(in)
		if x.k == vErr {
			return bad
		}
		y := b(in)
		if y.k == vErr {
			return bad
		}
		if x.k != vString || y.k != vString {
			fail(in)
			return bad
		}
		return truth(test(x.s, y.s))
	}, ok1 && ok2
}

// matches compiles a test against a constant regular expression.
func (k *compiler) matches(e, target, arg ast.Expr) (boolFn, bool) {
	if arg.Kind() != ast.LiteralKind {
		return nil, false
	}
	text, ok := arg.AsLiteral().(types.String)
	if !ok {
		return nil, false
	}
	re, err := regexp.Compile(string(text))
	if err != nil {
		return nil, false
	}
	f, ok := k.val(target)
	fail := k.fail(e, errType)
	return func(in *Input) tri {
		v := f(in)
		switch v.k {
		case vString:
			return truth(re.MatchString(v.s))
		case vErr:
		default:
			fail(in)
		}
		return bad
	}, ok
}

// arithmetic compiles + - * / %.
func (k *compiler) arithmetic(e ast.Expr, op byte) (valFn, bool) {
	args := e.AsCall().Args()
	a, ok1 := k.val(args[0])
	b, ok2 := k.val(args[1])
	fails := map[error]func(in *Input){errType: k.fail(e, errType), errRange: k.fail(e, errRange), errZero: k.fail(e, errZero)}
	lists := kindOf(k.ast.NativeRep().GetType(e.ID())) == List
	return func(in *Input) val {
		x := a(in)
		if x.k == vErr {
			return errVal
		}
		y := b(in)
		if y.k == vErr {
			return errVal
		}
		if op == '+' && x.k == y.k && (x.k == vString || x.k == vBytes) {
			from := len(in.arena)
			in.arena = append(append(in.arena, x.s...), y.s...)
			return val{k: x.k, s: view(in.arena[from:])}
		}
		if op == '+' && x.isList() && y.isList() {
			return in.concat(x, y)
		}
		v, err := arithmetic(op, x, y)
		if err != nil {
			fails[err](in)
			return errVal
		}
		return v
	}, ok1 && ok2 && !lists
}

// concat is the list of the elements of both. It allocates.
func (in *Input) concat(x, y val) val {
	p := &box{}
	add := func(_, v val) bool {
		p.list = append(p.list, v)
		return true
	}
	in.walk(x, add)
	in.walk(y, add)
	return val{k: vList, p: p}
}

// negate compiles -a.
func (k *compiler) negate(e ast.Expr) (valFn, bool) {
	f, ok := k.val(e.AsCall().Args()[0])
	failType, failRange := k.fail(e, errType), k.fail(e, errRange)
	return func(in *Input) val {
		v := f(in)
		switch v.k {
		case vErr:
		case vInt, vDuration:
			if v.int() != math.MinInt64 {
				return val{k: v.k, n: -v.n}
			}
			failRange(in)
		case vDouble:
			return doubleVal(-v.float())
		default:
			failType(in)
		}
		return errVal
	}, ok
}

// size compiles size(a) and a.size().
func (k *compiler) size(e ast.Expr) (valFn, bool) {
	call := e.AsCall()
	operand := call.Target()
	if !call.IsMemberFunction() {
		operand = call.Args()[0]
	}
	f, ok := k.val(operand)
	fail, many := k.fail(e, errType), k.fail(e, errSteps)
	return func(in *Input) val {
		v := f(in)
		if v.k == vErr {
			return errVal
		}
		n, ok := in.size(v)
		switch {
		case ok:
			return intVal(int64(n))
		case in.steps > maxSteps:
			many(in)
		default:
			fail(in)
		}
		return errVal
	}, ok
}

// convert compiles int(), uint(), double() and string().
func (k *compiler) convert(e ast.Expr, to string) (valFn, bool) {
	f, ok := k.val(e.AsCall().Args()[0])
	fail, failRange := k.fail(e, errType), k.fail(e, errRange)
	only := Any // the type that the check decided on
	if ids := k.tree.GetOverloadIDs(e.ID()); len(ids) == 1 {
		only = overloadKinds[ids[0][:strings.IndexByte(ids[0], '_')]]
	}
	return func(in *Input) val {
		v := f(in)
		if v.k == vErr {
			return errVal
		}
		if only != Any && v.kind() != only {
			fail(in)
			return errVal
		}
		out, err := in.converted(v, to)
		switch {
		case err == nil:
			return out
		case err == errRange: //nolint:errorlint // ours, never wrapped
			failRange(in)
		default:
			fail(in)
		}
		return errVal
	}, ok
}

// overloadKinds are the kinds by the first word of a conversion's overload: int64_to_string.
var overloadKinds = map[string]Kind{"int64": Int, "uint64": Uint, "double": Double, "string": String, "bool": Bool, "bytes": Bytes,
	"timestamp": Time, "duration": Duration}

func (in *Input) converted(v val, to string) (val, error) {
	switch to {
	case "int":
		return toInt(v)
	case "uint":
		return toUint(v)
	case "double":
		switch v.k {
		case vDouble:
			return v, nil
		case vInt:
			return doubleVal(float64(v.int())), nil
		case vUint:
			return doubleVal(float64(v.n)), nil
		case vString:
			f, err := strconv.ParseFloat(v.s, 64)
			if err != nil {
				return errVal, errType
			}
			return doubleVal(f), nil
		default:
		}
		return errVal, errType
	}
	return in.toString(v)
}

func toInt(v val) (val, error) {
	switch v.k {
	case vInt:
		return v, nil
	case vUint:
		if v.n > math.MaxInt64 {
			return errVal, errRange
		}
		return intVal(int64(v.n)), nil
	case vDouble:
		if f := v.float(); f > math.MinInt64 && f < math.MaxInt64 {
			return intVal(int64(f)), nil
		}
		return errVal, errRange
	case vString:
		n, err := strconv.ParseInt(v.s, 10, 64)
		if err != nil {
			return errVal, errType
		}
		return intVal(n), nil
	case vTime:
		s := v.int() / 1e9
		if v.int()%1e9 < 0 {
			s--
		}
		return intVal(s), nil
	case vDuration:
		return intVal(v.int()), nil
	default:
	}
	return errVal, errType
}

func toUint(v val) (val, error) {
	switch v.k {
	case vUint:
		return v, nil
	case vInt:
		if v.int() < 0 {
			return errVal, errRange
		}
		return uintVal(v.n), nil
	case vDouble:
		if f := v.float(); f >= 0 && f < math.MaxUint64 {
			return uintVal(uint64(f)), nil
		}
		return errVal, errRange
	case vString:
		n, err := strconv.ParseUint(v.s, 10, 64)
		if err != nil {
			return errVal, errType
		}
		return uintVal(n), nil
	default:
	}
	return errVal, errType
}

func (in *Input) toString(v val) (val, error) {
	from := len(in.arena)
	switch v.k {
	case vString:
		return v, nil
	case vBytes:
		if !validText(v.s) {
			return errVal, errType
		}
		return stringVal(v.s), nil
	case vBool:
		in.arena = strconv.AppendBool(in.arena, v.n == 1)
	case vInt:
		in.arena = strconv.AppendInt(in.arena, v.int(), 10)
	case vUint:
		in.arena = strconv.AppendUint(in.arena, v.n, 10)
	case vDouble:
		in.arena = appendDouble(in.arena, v.float())
	case vTime:
		in.arena = time.Unix(0, v.int()).UTC().AppendFormat(in.arena, time.RFC3339Nano)
	case vDuration:
		in.arena = strconv.AppendFloat(in.arena, time.Duration(v.int()).Seconds(), 'f', -1, 64)
		in.arena = append(in.arena, 's')
	default:
		return errVal, errType
	}
	return stringVal(view(in.arena[from:])), nil
}

// appendDouble is %g, which cel-go uses.
func appendDouble(b []byte, f float64) []byte {
	from := len(b)
	b = strconv.AppendFloat(b, f, 'g', -1, 64)
	if math.IsInf(f, 1) && b[from] != '+' {
		return append(b[:from], "+Inf"...)
	}
	return b
}
