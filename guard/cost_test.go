package guard

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
)

// The measure of the architecture: a module of layer 3 is one folder and one line of builtin.go. Nothing else knows it.

const builtin = "internal/app/builtin.go"

// alsoKnows lists the other files that may import a module, and why.
var alsoKnows = []edge{
	{"internal/cli/*.go", "internal/protocol/mqtt", "pub, sub and bench are MQTT clients"},
}

// modules are the folders of layer 3, without what lies inside them.
func modules(t *tree) []string {
	var out []string
	for _, p := range t.packages() {
		if match("internal/protocol/*", p) || match("internal/destination/*", p) {
			out = append(out, p)
		}
	}
	return out
}

// checkCost: outside its folder a module is imported by builtin.go alone, and its name is no string anywhere below
// layer 5.
func checkCost(t *tree) []finding {
	mods := modules(t)
	var out []finding
	known := map[string]bool{}
	t.imports(func(s *source, at token.Pos, to string) {
		for _, m := range mods {
			if to != m && !strings.HasPrefix(to, m+"/") || s.pkg == m || strings.HasPrefix(s.pkg, m+"/") {
				continue
			}
			if s.path == builtin {
				known[m] = true
				continue
			}
			if !slices.ContainsFunc(alsoKnows, func(e edge) bool { return match(e.from, s.path) && e.to == m }) {
				out = append(out, s.at(at, "only %s names %s: adding a module is one folder and one line", builtin, m))
			}
		}
	})
	t.product(func(s *source) {
		if l := layerOf(s.pkg); l >= 5 || l == 3 || s.pkg == "internal/event" {
			return
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if f, ok := n.(*ast.Field); ok && f.Tag != nil {
				return false // tags are prose
			}
			if e, ok := n.(ast.Expr); ok {
				if v, ok := text(e); ok {
					for _, m := range mods {
						if v == path.Base(m) {
							out = append(out, s.at(n.Pos(), "%q is known outside %s: adding a module touches one line", v, m))
						}
					}
				}
			}
			return true
		})
	})
	if slices.Contains(t.packages(), path.Dir(builtin)) {
		for _, m := range mods {
			if !known[m] {
				out = append(out, finding{builtin, "does not list " + m})
			}
		}
	}
	return out
}

func TestCostOfAModule(t *testing.T) { report(t, checkCost(load(t))) }
