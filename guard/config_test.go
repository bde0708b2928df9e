package guard

import (
	"go/ast"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// notConfig names files whose yaml tags are no configuration, and why.
var notConfig = map[string]string{
	"internal/identity/users.go":      "records of the users file, which `windrose user` writes",
	"internal/identity/users_file.go": "records of the users file, which `windrose user` writes",
}

// checkConfigDocs: every field with a yaml tag has a doc tag: reference, schema and help are made of it.
func checkConfigDocs(t *tree) (out []finding, seen int) {
	t.product(func(s *source) {
		if notConfig[s.path] != "" {
			return
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			st, ok := n.(*ast.StructType)
			if !ok {
				return true
			}
			for _, f := range st.Fields.List {
				if f.Tag == nil {
					continue
				}
				raw, err := strconv.Unquote(f.Tag.Value)
				if err != nil {
					continue
				}
				name, isYAML := reflect.StructTag(raw).Lookup("yaml")
				if !isYAML || name == "-" || name == ",inline" {
					continue
				}
				seen++
				doc := reflect.StructTag(raw).Get("doc")
				if strings.TrimSpace(doc) == "" {
					out = append(out, s.at(f.Pos(), "configuration key %q has no doc tag", name))
				}
				if key, _, _ := strings.Cut(name, ","); key != strings.ToLower(key) {
					out = append(out, s.at(f.Pos(), "configuration key %q: keys are lower_snake", key))
				}
			}
			return true
		})
	})
	return out, seen
}

func TestConfigKeysAreDocumented(t *testing.T) {
	found, seen := checkConfigDocs(load(t))
	report(t, found)
	if seen == 0 {
		t.Error("no configuration key was seen")
	}
}
