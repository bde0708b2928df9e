package guard

import (
	"go/ast"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windrose-edc/windrose/internal/observe"
)

// notListed are metrics that no configuration of this binary registers, and why.
var notListed = map[string]string{
	"windrose_policy_withheld_events_total": "no policy of the binary looks at deliveries yet",
}

// TestMetricsAreListed: docs/reference/metrics.md is made of a running registry; what the code can register is in it.
func TestMetricsAreListed(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "docs", "reference", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	var found []finding
	load(t).product(func(s *source) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			e, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			name, ok := text(e)
			if ok && strings.HasPrefix(name, observe.Prefix) && strings.Count(name, "_") > 2 && !strings.Contains(name, " ") && notListed[name] == "" && !strings.Contains(string(b), "| `"+name+"` |") {
				found = append(found, s.at(n.Pos(), "metric %s is not in docs/reference/metrics.md: run make generate", name))
			}
			return true
		})
	})
	report(t, found)
}
