package guard

import (
	"slices"
	"strings"
)

// checkForbidden: packages of others that few may import, and the ones that nobody may.
func checkForbidden(t *tree) []finding {
	never := map[string]string{
		"log":            "log/slog, with the logger that New was given",
		"math/rand":      "math/rand/v2",
		"io/ioutil":      "io and os",
		"container/ring": "a slice",
	}
	var out []finding
	t.product(func(s *source) {
		for _, i := range s.file.Imports {
			p := strings.Trim(i.Path.Value, `"`)
			if instead, bad := never[p]; bad {
				out = append(out, s.at(i.Pos(), "%s is not used here: %s", p, instead))
			}
			for _, o := range onlyImporter {
				if strings.HasPrefix(p+"/", strings.TrimSuffix(o.path, "/")+"/") && !slices.Contains(strings.Fields(o.folder), s.pkg) {
					out = append(out, s.at(i.Pos(), "only %s imports %s: %s", o.folder, p, o.reason))
				}
			}
		}
	})
	return out
}
