package expr

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/checker"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"

	"github.com/windrose-edc/windrose/internal/expr/sets"
)

// Options says where an expression stands and what it may name.
type Options struct {
	File      string // of the configuration
	Line, Col int    // of the expression's first character, from 1; 0: unknown
	// ClientOnly: there is no event yet, as when a client is classified; only what is known of the client has a name.
	ClientOnly bool
	// Captures are the names that vars.NAME may have, in the order of Input.Captures. AnyCapture allows all names, for
	// expressions that stand apart from the topic that captures (pools): one that is not there is an error at run time.
	Captures   []string
	AnyCapture bool
	Sets       *sets.Store // named sets; nil: none
	Let        []Let       // further names
	Want       Kind        // of the result of CompileValue; Any: any type
}

// Let is a name for the value of another expression. It is evaluated where it is used.
type Let struct {
	Name  string
	Value *Value
}

// The bounds of an expression.
const (
	maxSource = 16 << 10 // bytes
	maxNodes  = 4096
	maxNested = 100
	maxCost   = 100_000 // units of cel-go, about 70 ns each
	maxRegexp = 1000    // instructions of a regular expression
)

// environments are made once: they take milliseconds.
var (
	eventEnv  = sync.OnceValues(func() (*cel.Env, error) { return newEnv(false) })
	clientEnv = sync.OnceValues(func() (*cel.Env, error) { return newEnv(true) })
)

// baseOptions is the language without its variables.
func baseOptions() []cel.EnvOption {
	return []cel.EnvOption{
		cel.StdLib(),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(maxSource),
		cel.ParserRecursionLimit(maxNested),
		cel.ASTValidators(cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals(), cel.ValidateRegexProgramSizeLimit(maxRegexp),
			cel.ValidateComprehensionNestingLimit(maxLocals/2)),
		ext.Strings(ext.StringsVersion(4)), ext.Encoders(), ext.Math(),
	}
}

func newEnv(clientOnly bool) (*cel.Env, error) {
	opts := baseOptions()
	for _, v := range variables {
		if !clientOnly || !v.event {
			opts = append(opts, cel.VariableWithDoc(v.name, v.typ, v.doc))
		}
	}
	return cel.NewCustomEnv(opts...)
}

// checked is an expression that passed: the tree, and what its compilation needs.
type checked struct {
	src  string
	o    *Options
	env  *cel.Env
	ast  *cel.Ast
	tree *ast.AST
	row  bool // an expression over rows: it has neither captures nor sets
}

func (o *Options) env() (*cel.Env, error) {
	base := eventEnv
	if o.ClientOnly {
		base = clientEnv
	}
	env, err := base()
	if err != nil || len(o.Let) == 0 {
		return env, err
	}
	var lets []cel.EnvOption
	for _, l := range o.Let {
		if reserved(l.Name) {
			return nil, Errors{o.at(1, 1, fmt.Sprintf("%s already has a meaning", l.Name), "give the value another name")}
		}
		lets = append(lets, cel.Variable(l.Name, l.Value.c.ast.OutputType()))
	}
	return env.Extend(lets...)
}

// check parses src and holds it to types and bounds. names are what a wrong name may have meant.
func check(src string, o *Options, env *cel.Env, names []string, row bool) (*checked, error) {
	if strings.TrimSpace(src) == "" {
		return nil, Errors{o.at(1, 1, "the expression is empty", "")}
	}
	if len(src) > maxSource {
		return nil, Errors{o.at(1, 1, fmt.Sprintf("the expression has %d bytes, at most %d are allowed", len(src), maxSource), "")}
	}
	parsed, iss := env.Parse(src)
	if iss.Err() != nil {
		return nil, o.issues(iss.Errors(), nil, names)
	}
	loosen(parsed.NativeRep())
	a, iss := env.Check(parsed)
	if iss.Err() != nil {
		return nil, o.issues(iss.Errors(), parsed.NativeRep(), names)
	}
	c := &checked{src: src, o: o, env: env, ast: a, tree: a.NativeRep(), row: row}
	if errs := c.names(); errs != nil {
		return nil, errs
	}
	if err := c.cost(); err != nil {
		return nil, Errors{err}
	}
	return c, nil
}

// loosen takes a knot out of the tree before types are given to it. cel-go gives x["name"] and x[0] of a payload the
// type that the place asks for first, so that string(event.json["n"]) would take strings only. x["name"] becomes x.name,
// and x[0] becomes dyn(x[0]).
func loosen(tree *ast.AST) {
	fac := ast.NewExprFactory()
	next := int64(0)
	for id := range tree.IDs() {
		next = max(next, id)
	}
	var visit func(e ast.Expr)
	visit = func(e ast.Expr) {
		for _, c := range children(e) {
			visit(c)
		}
		if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != operators.Index || !ofPayload(e) {
			return
		}
		args := e.AsCall().Args()
		if args[1].Kind() == ast.LiteralKind {
			if s, ok := args[1].AsLiteral().(types.String); ok {
				e.SetKindCase(fac.NewSelect(e.ID(), args[0], string(s)))
				return
			}
		}
		next++
		inner := fac.NewCall(next, operators.Index, args...)
		if at, ok := tree.SourceInfo().GetOffsetRange(e.ID()); ok {
			tree.SourceInfo().SetOffsetRange(next, at)
		}
		e.SetKindCase(fac.NewCall(e.ID(), "dyn", inner))
	}
	visit(tree.Expr())
}

// ofPayload says whether e leads into event.json or event.cbor.
func ofPayload(e ast.Expr) bool {
	for {
		switch e.Kind() {
		case ast.SelectKind:
			if n, ok := dotted(e); ok && (n == "event.json" || n == "event.cbor") {
				return true
			}
			e = e.AsSelect().Operand()
		case ast.CallKind:
			call := e.AsCall()
			if n := call.FunctionName(); n != operators.Index && n != "dyn" {
				return false
			}
			e = call.Args()[0]
		default:
			return false
		}
	}
}

// at is an error at a place of the expression, line and column from 1.
func (o *Options) at(line, col int, msg, fix string) *Error {
	e := &Error{File: o.File, Line: line, Col: col, Msg: msg, Fix: fix}
	if o.Line > 0 {
		if line == 1 {
			e.Col += max(o.Col, 1) - 1
		}
		e.Line += o.Line - 1
	}
	return e
}

func (c *checked) at(e ast.Expr, msg, fix string) *Error {
	loc := c.tree.SourceInfo().GetStartLocation(e.ID())
	return c.o.at(max(loc.Line(), 1), loc.Column()+1, msg, fix)
}

var (
	undeclared = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	overload   = regexp.MustCompile(`^found no matching overload for '([^']*)' applied to '(.*)'`)
)

// issues turns what cel-go found into errors with places and suggestions.
func (o *Options) issues(found []*common.Error, tree *ast.AST, names []string) Errors {
	var out Errors
	for _, f := range found {
		line, col := 1, 1
		if f.Location != nil && f.Location.Line() > 0 {
			line, col = f.Location.Line(), f.Location.Column()+1
		}
		msg, fix := f.Message, ""
		if m := undeclared.FindStringSubmatch(f.Message); m != nil && tree != nil {
			msg, fix = o.unknown(m[1], f.ExprID, tree, names)
		} else if m := overload.FindStringSubmatch(f.Message); m != nil {
			msg = fmt.Sprintf("%s cannot be applied to %s", operatorWord(m[1]), m[2])
		}
		out = append(out, o.at(line, col, msg, fix))
		if len(out) == 10 {
			break
		}
	}
	slices.SortStableFunc(out, func(a, b *Error) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Col - b.Col
	})
	return slices.CompactFunc(out, func(a, b *Error) bool { return *a == *b })
}

func operatorWord(name string) string {
	if w, ok := operators.FindReverse(name); ok && w != "" {
		return w
	}
	switch name {
	case operators.Index:
		return "[]"
	case operators.Conditional:
		return "?:"
	}
	return name
}

// unknown says what a name that does not exist may have meant: name is what cel-go could not find, the first part of a
// dotted name or a function.
func (o *Options) unknown(name string, id int64, tree *ast.AST, names []string) (msg, fix string) {
	full, function := name, false
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch {
		case e.ID() == id && e.Kind() == ast.CallKind:
			function = true
		case e.Kind() == ast.SelectKind && !strings.Contains(full, "\x00"):
			if n, ok := dotted(e); ok && leaf(e).ID() == id {
				full = n // the longest comes last
			}
		}
	}))
	if function {
		return fmt.Sprintf("there is no function %s", name), suggest(name, functionNames())
	}
	// Of event.topik.x the first two parts are the name.
	parts := strings.Split(full, ".")
	if len(parts) == 1 {
		return fmt.Sprintf("there is no variable %s", full), suggest(full, names)
	}
	group := parts[0] + "."
	var same []string
	for _, n := range names {
		if strings.HasPrefix(n, group) {
			same = append(same, n)
		}
	}
	two := group + parts[1]
	if len(same) > 0 {
		fix = suggest(two, same)
		if strings.HasPrefix(fix, "see ") {
			fix = suggest(two, names)
		}
	} else {
		fix = suggest(two, names)
	}
	return fmt.Sprintf("there is no variable %s", two), fix
}

// dotted is the name that a chain of selections spells.
func dotted(e ast.Expr) (string, bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return strings.TrimPrefix(e.AsIdent(), "."), true
	case ast.SelectKind:
		if n, ok := dotted(e.AsSelect().Operand()); ok {
			return n + "." + e.AsSelect().FieldName(), true
		}
	default:
	}
	return "", false
}

func leaf(e ast.Expr) ast.Expr {
	for e.Kind() == ast.SelectKind {
		e = e.AsSelect().Operand()
	}
	return e
}

// functionNames are the functions and macros that users may write.
var functionNames = sync.OnceValue(func() []string {
	env, err := eventEnv()
	if err != nil {
		return nil
	}
	names := []string{"has", "all", "exists", "exists_one", "map", "filter"}
	for n := range env.Functions() {
		if !strings.ContainsAny(n, "_@!-") {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
})

// variableNames are the names that expressions with these options may use.
func (o *Options) variableNames() []string {
	var names []string
	for _, v := range variables {
		if !o.ClientOnly || !v.event {
			names = append(names, v.name)
		}
	}
	for _, l := range o.Let {
		names = append(names, l.Name)
	}
	return names
}

// names checks what cel-go knows nothing of: captures and sets.
func (c *checked) names() Errors {
	var errs Errors
	if c.row {
		return nil
	}
	allowed := map[int64]bool{} // sets that stand where one may be asked
	allow := func(e ast.Expr) { allowed[e.ID()] = true }
	var visit func(e ast.Expr)
	visit = func(e ast.Expr) {
		switch e.Kind() {
		case ast.ComprehensionKind:
			if n := e.AsComprehension().IterVar(); reserved(n) {
				errs = append(errs, c.at(e, fmt.Sprintf("%s already has a meaning", n), "give the element another name"))
			}
		case ast.SelectKind:
			allow(e.AsSelect().Operand())
		case ast.CallKind:
			call := e.AsCall()
			switch call.FunctionName() {
			case operators.In:
				allow(call.Args()[1])
			case operators.Index:
				allow(call.Args()[0])
			}
		default:
		}
		if name, of, ok := member(e); ok {
			switch of {
			case "vars":
				if !c.o.AnyCapture && !slices.Contains(c.o.Captures, name) {
					errs = append(errs, c.at(e, fmt.Sprintf("the topic has no {%s}", name), suggest(name, c.o.Captures)))
				}
			case "sets":
				if s := c.o.Sets.Lookup(name); s == nil {
					errs = append(errs, c.at(e, fmt.Sprintf("there is no set %s", name), suggest(name, c.o.Sets.Names())))
				} else if !allowed[e.ID()] {
					errs = append(errs, c.at(e, "a set can only be asked", fmt.Sprintf("write client.id in sets.%s or sets.%s[client.id]", name, name)))
				}
			}
			return
		}
		if e.Kind() == ast.IdentKind && e.AsIdent() == "vars" && !allowed[e.ID()] {
			errs = append(errs, c.at(e, "the captures can only be asked one by one", "write vars.NAME"))
		}
		if e.Kind() == ast.IdentKind && e.AsIdent() == "sets" {
			errs = append(errs, c.at(e, "sets stands only in front of the name of a set", "write sets.NAME"))
		}
		for _, k := range children(e) {
			visit(k)
		}
	}
	visit(c.tree.Expr())
	return errs
}

// reserved says whether a name begins one of the variables.
func reserved(name string) bool {
	return slices.ContainsFunc(variables, func(v variable) bool {
		return v.name == name || strings.HasPrefix(v.name, name+".")
	})
}

// member recognises vars.NAME, vars["NAME"], sets.NAME and sets["NAME"].
func member(e ast.Expr) (name, of string, ok bool) {
	var operand ast.Expr
	switch e.Kind() {
	case ast.SelectKind:
		operand, name = e.AsSelect().Operand(), e.AsSelect().FieldName()
	case ast.CallKind:
		call := e.AsCall()
		if call.FunctionName() != operators.Index || call.Args()[1].Kind() != ast.LiteralKind {
			return "", "", false
		}
		s, isString := call.Args()[1].AsLiteral().(types.String)
		if !isString {
			return "", "", false
		}
		operand, name = call.Args()[0], string(s)
	default:
		return "", "", false
	}
	if operand.Kind() != ast.IdentKind {
		return "", "", false
	}
	of = operand.AsIdent()
	return name, of, of == "vars" || of == "sets"
}

// children are the parts of an expression.
func children(e ast.Expr) []ast.Expr {
	switch e.Kind() {
	case ast.CallKind:
		call := e.AsCall()
		if call.IsMemberFunction() {
			return append([]ast.Expr{call.Target()}, call.Args()...)
		}
		return call.Args()
	case ast.SelectKind:
		return []ast.Expr{e.AsSelect().Operand()}
	case ast.ListKind:
		return e.AsList().Elements()
	case ast.MapKind:
		var out []ast.Expr
		for _, entry := range e.AsMap().Entries() {
			out = append(out, entry.AsMapEntry().Key(), entry.AsMapEntry().Value())
		}
		return out
	case ast.ComprehensionKind:
		f := e.AsComprehension()
		return []ast.Expr{f.IterRange(), f.AccuInit(), f.LoopCondition(), f.LoopStep(), f.Result()}
	case ast.StructKind:
		var out []ast.Expr
		for _, entry := range e.AsStruct().Fields() {
			out = append(out, entry.AsStructField().Value())
		}
		return out
	default:
	}
	return nil
}

// cost refuses an expression whose worst case is too expensive.
func (c *checked) cost() *Error {
	nodes := 0
	var count func(e ast.Expr)
	count = func(e ast.Expr) {
		nodes++
		for _, k := range children(e) {
			count(k)
		}
	}
	if count(c.tree.Expr()); nodes > maxNodes {
		return c.o.at(1, 1, fmt.Sprintf("the expression has %d terms, at most %d are allowed", nodes, maxNodes), "")
	}
	est, err := c.env.EstimateCost(c.ast, sizes{})
	if err != nil {
		return c.o.at(1, 1, fmt.Sprintf("its cost cannot be estimated: %v", err), "")
	}
	if est.Max > maxCost {
		return c.o.at(1, 1, fmt.Sprintf("the expression may cost %d units for one event, at most %d are allowed", est.Max, maxCost),
			"look at fewer elements: macros within macros and long texts multiply")
	}
	return nil
}

// sizes tells the cost bound how large things are.
type sizes struct{}

// EstimateSize implements checker.CostEstimator.
func (sizes) EstimateSize(n checker.AstNode) *checker.SizeEstimate {
	size := uint64(1024)
	if p := n.Path(); len(p) > 0 {
		if v := byName(p[0]); v != nil && len(p) == 1 && v.size > 0 && v.name != "event.json" && v.name != "event.cbor" {
			size = v.size
		}
	}
	return &checker.SizeEstimate{Min: 0, Max: size}
}

// EstimateCallCost implements checker.CostEstimator: the functions' own costs hold.
func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}
