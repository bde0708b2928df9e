package expr

import "cel.dev/cel-go/common/ast"

// compiler makes closures of a checked tree. Owned by one compilation.
type compiler struct {
	*checked
}

func (k *compiler) bool(ast.Expr) (boolFn, bool) { return nil, false }
func (k *compiler) val(ast.Expr) (valFn, bool)   { return nil, false }
