package guard

import (
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// outcomes reads the closed set from layer 0: the constants of type Outcome, without the count at the end.
func outcomes(t *tree) []string {
	var out []string
	for _, s := range t.files {
		if s.path != "internal/event/outcome.go" {
			continue
		}
		for _, d := range s.file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			isOutcome := false
			for _, spec := range g.Specs {
				v, ok := spec.(*ast.ValueSpec)
				if !ok {
					continue
				}
				if id, ok := v.Type.(*ast.Ident); ok {
					isOutcome = id.Name == "Outcome"
				}
				if n := v.Names[0].Name; isOutcome && ast.IsExported(n) && n != "NumOutcomes" {
					out = append(out, n)
				}
			}
		}
	}
	return out
}

// checkOutcomes: every table of an outcome.go that is indexed by outcomes has a row for each, and each protocol has such
// a file with such a table. The tables are composite literals with keys event.X, so the source says it all.
func checkOutcomes(t *tree) []finding {
	want := outcomes(t)
	var out []finding
	has := map[string]bool{}
	t.product(func(s *source) {
		if path.Base(s.path) != "outcome.go" || layerOf(s.pkg) != 3 {
			return
		}
		tables := 0
		ast.Inspect(s.file, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			var rows []string
			for _, e := range lit.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok {
					if sel, ok := kv.Key.(*ast.SelectorExpr); ok {
						if x, ok := sel.X.(*ast.Ident); ok && x.Name == "event" {
							rows = append(rows, sel.Sel.Name)
						}
					}
				}
			}
			if len(rows) == 0 {
				return true
			}
			tables++
			for _, w := range want {
				if !slices.Contains(rows, w) {
					out = append(out, s.at(lit.Pos(), "table of outcomes has no row for event.%s", w))
				}
			}
			return true
		})
		if tables == 0 && !strings.HasPrefix(s.pkg, "internal/destination/") {
			out = append(out, s.at(s.file.Package, "no table with keys event.X in the protocol's outcome.go"))
		}
		has[s.pkg] = true
	})
	for _, p := range t.packages() {
		if match("internal/protocol/*", p) && !has[p] {
			out = append(out, finding{p, "a protocol has an outcome.go with its table outcome -> wire"})
		}
	}
	return out
}

func TestOutcomeRows(t *testing.T) {
	tr := load(t)
	if n := len(outcomes(tr)); n < 13 {
		t.Fatalf("read %d outcomes from internal/event/outcome.go, want at least 13", n)
	}
	report(t, checkOutcomes(tr))
}
