package guard

import (
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/windrose-edc/windrose/internal/observe"
)

// metricCalls are the methods of observe.Registry that name a metric, its kind, and where its labels begin.
var metricCalls = map[string]struct {
	kind   observe.Kind
	labels int
}{
	"Counter":     {observe.KindCounter, 2},
	"CounterFunc": {observe.KindCounter, 3},
	"Gauge":       {observe.KindGauge, 2},
	"GaugeFunc":   {observe.KindGauge, 3},
	"Histogram":   {observe.KindHistogram, 3},
}

// checkMetrics: the names and label keys that the product registers are well formed. observe refuses the others when
// they are registered; here they are found without running the line. It also returns how many it saw.
func checkMetrics(t *tree) (out []finding, seen int) {
	helped, places := map[string]bool{}, map[string][]finding{} // one registration of a name says what it is
	t.product(func(s *source) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := c.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			m, ok := metricCalls[sel.Sel.Name]
			if !ok || len(c.Args) < 2 {
				return true
			}
			name, ok := text(c.Args[0])
			if !ok || !strings.HasPrefix(name, observe.Prefix) {
				return true
			}
			seen++
			if err := observe.CheckName(m.kind, name); err != nil {
				out = append(out, s.at(c.Pos(), "%v", err))
			}
			if help, ok := text(c.Args[1]); !ok || help != "" {
				helped[name] = true
			} else if places[name] == nil {
				places[name] = append(places[name], s.at(c.Pos(), "metric %s has no help", name))
			}
			for i := m.labels; i < len(c.Args) && c.Ellipsis == token.NoPos; i += 2 {
				if key, ok := text(c.Args[i]); ok && !slices.Contains(observe.LabelKeys(), key) {
					out = append(out, s.at(c.Pos(), "metric %s: label %q is not in the closed set", name, key))
				}
			}
			return true
		})
	})
	for name, f := range places {
		if !helped[name] {
			out = append(out, f...)
		}
	}
	return out, seen
}

// text is the value of a string literal.
func text(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	v, err := strconv.Unquote(lit.Value)
	return v, err == nil
}

func TestMetricNames(t *testing.T) {
	found, seen := checkMetrics(load(t))
	report(t, found)
	if seen == 0 {
		t.Error("no metric was seen: has the registry's interface changed?")
	}
}

// What has no bound is never a label.
func TestLabelsAreClosed(t *testing.T) {
	for _, k := range []string{"client", "client_id", "topic", "filter", "address", "addr", "ip", "user", "principal", "error"} {
		if slices.Contains(observe.LabelKeys(), k) {
			t.Errorf("label %q: the number of its values has no bound", k)
		}
	}
}
