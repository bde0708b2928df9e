package expr

import (
	"fmt"
	"strings"
)

// Error is one thing that is wrong with an expression. Immutable.
type Error struct {
	File string // of the configuration; empty where the expression stands in none
	Line int    // from 1; 0: unknown
	Col  int    // from 1, in characters
	Msg  string
	Fix  string // what to write instead; empty when there is nothing to say
}

// Error is "file:line:col: message (fix: ...)".
func (e *Error) Error() string {
	var b strings.Builder
	switch {
	case e.File != "":
		fmt.Fprintf(&b, "%s:%d:%d: ", e.File, e.Line, e.Col)
	case e.Line > 1:
		fmt.Fprintf(&b, "line %d, column %d: ", e.Line, e.Col)
	case e.Line == 1:
		fmt.Fprintf(&b, "column %d: ", e.Col)
	}
	b.WriteString(e.Msg)
	if e.Fix != "" {
		b.WriteString(" (fix: ")
		b.WriteString(e.Fix)
		b.WriteString(")")
	}
	return b.String()
}

// Errors is everything that is wrong with an expression, in order of place.
type Errors []*Error

// Error is one line per error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.Is and errors.As the single errors.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, one := range e {
		out[i] = one
	}
	return out
}

// EvalError is why an expression has no value for one event. Immutable; made when the expression is compiled.
type EvalError struct {
	Src string // the expression
	Col int    // of the term that failed, from 1
	Err error
}

// Error says what failed and where.
func (e *EvalError) Error() string {
	return fmt.Sprintf("%s (column %d of %q)", e.Err.Error(), e.Col, e.Src)
}

// Unwrap returns the cause.
func (e *EvalError) Unwrap() error { return e.Err }

// Names of the language that are near to another.

// nearest returns the candidate that was most likely meant, "" when none is near.
func nearest(name string, candidates []string) string {
	if len(name) > 64 {
		return ""
	}
	limit := 3
	switch {
	case len(name) <= 4:
		limit = 1
	case len(name) <= 8:
		limit = 2
	}
	best, bestDist := "", limit+1
	low := strings.ToLower(name)
	for _, c := range candidates {
		if len(c) > len(name)+limit || len(name) > len(c)+limit {
			continue
		}
		if d := distance(low, strings.ToLower(c)); d < bestDist {
			best, bestDist = c, d
		}
	}
	if best == "" && len(name) >= 4 {
		for _, c := range candidates {
			if strings.HasPrefix(c, name) || strings.HasSuffix(c, "."+name) {
				return c
			}
		}
	}
	return best
}

// distance counts insertions, deletions, replacements and swaps of neighbours.
func distance(a, b string) int {
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}

// suggest is the fix for a name that does not exist.
func suggest(name string, candidates []string) string {
	if c := nearest(name, candidates); c != "" {
		return "did you mean " + c + "?"
	}
	switch {
	case len(candidates) == 0:
		return ""
	case len(candidates) > 12:
		return "see docs/reference/expressions.md for what there is"
	}
	return "use one of " + strings.Join(candidates, ", ")
}
