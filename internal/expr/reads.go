package expr

import (
	"slices"

	"cel.dev/cel-go/common/ast"
)

// inside are the variables that hold what a publisher wrote into its event besides the topic.
var inside = []string{"event.payload", "event.text", "event.json", "event.cbor", "event.headers", "event.correlation"}

// Inside says whether the condition looks at the payload or the headers of an event. Who may ask such a condition about
// events as they come can find out what is in them, one question after the other.
func (p *Predicate) Inside() bool {
	var visit func(e ast.Expr) bool
	visit = func(e ast.Expr) bool {
		if name, ok := dotted(e); ok && slices.Contains(inside, name) {
			return true
		}
		return slices.ContainsFunc(children(e), visit)
	}
	return visit(p.c.tree.Expr())
}
