package guard

import (
	"bytes"
	"fmt"
	"regexp"
	"testing"
)

// The patterns are joined at run time, so that this file does not hold what it looks for.
var (
	machinePath  = regexp.MustCompile(`(^|[^\w.~-])(/wo` + `rk/|/fa` + `rm/|/ro` + `ot/|/ho` + `me/[a-z]|/Us` + `ers/)|\.lib` + `rary/`)
	registryHost = regexp.MustCompile(`proxy\.gol` + `ang\.org|sum\.gol` + `ang\.org|registry\.np` + `mjs|deb\.deb` + `ian\.org|py` + `pi\.org`)
)

// checkHygiene: nothing in the tree knows the machine it was written on or the registries it was built from.
func checkHygiene(name string, text []byte) []finding {
	var out []finding
	for i, line := range bytes.Split(text, []byte("\n")) {
		for _, re := range []*regexp.Regexp{machinePath, registryHost} {
			if m := re.Find(line); m != nil {
				out = append(out, finding{fmt.Sprintf("%s:%d", name, i+1), fmt.Sprintf("%q: no paths of a machine and no registry hosts", m)})
			}
		}
	}
	return out
}

func TestNoMachinePaths(t *testing.T) {
	walk(t, func(name string, text []byte) {
		if bytes.IndexByte(text, 0) >= 0 {
			t.Errorf("%s: binary file", name)
			return
		}
		report(t, checkHygiene(name, text))
	})
}
