package policy

import "strings"

// glob is a text in which * stands for any text, the empty one too. The zero glob matches everything. Immutable after
// New.
type glob struct {
	prefix, suffix string
	middle         []string // what must come between, in order
	star           bool     // there is a *
	any            bool     // there is no pattern or it is *
}

func newGlob(s string) glob {
	parts := strings.Split(s, "*")
	last := len(parts) - 1
	if last == 0 {
		return glob{prefix: s, any: s == ""}
	}
	return glob{prefix: parts[0], suffix: parts[last], middle: parts[1:last], star: true, any: strings.Trim(s, "*") == ""}
}

// match takes time linear in the text for each part of the pattern: the first place where a part fits is as good as any
// later one.
func (g *glob) match(s string) bool {
	switch {
	case g.any:
		return true
	case !g.star:
		return s == g.prefix
	case len(s) < len(g.prefix)+len(g.suffix) || !strings.HasPrefix(s, g.prefix) || !strings.HasSuffix(s, g.suffix):
		return false
	}
	s = s[len(g.prefix) : len(s)-len(g.suffix)]
	for _, m := range g.middle {
		i := strings.Index(s, m)
		if i < 0 {
			return false
		}
		s = s[i+len(m):]
	}
	return true
}
