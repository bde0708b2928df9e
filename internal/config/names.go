package config

import (
	"regexp"
	"slices"
	"strings"
)

// entryName is what an entry of a collection may be called: names appear in topics, metrics, paths and commands.
var entryName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`)

// nearest returns the candidate that was most likely meant, "" when none is near. The distance allowed grows with the
// length of the name: 1 up to 4 characters, 2 up to 8, else 3.
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
	low := strings.ToLower(strings.ReplaceAll(name, "-", "_"))
	for _, c := range candidates {
		if len(c) > 64 || len(c) > len(name)+limit || len(name) > len(c)+limit {
			continue
		}
		if d := distance(low, strings.ToLower(strings.ReplaceAll(c, "-", "_"))); d < bestDist && d < max(len(c), len(name)) {
			best, bestDist = c, d
		}
	}
	if best != "" {
		return best
	}
	// A name whose beginning or end was left out is further away than that but just as clear.
	if len(name) >= 4 {
		for _, c := range candidates {
			if strings.HasPrefix(c, name) || strings.HasSuffix(c, name) || len(c) >= 4 && strings.HasPrefix(name, c) {
				return c
			}
		}
	}
	return ""
}

// distance counts insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
func distance(a, b string) int {
	prev2 := make([]int, len(b)+1)
	prev := make([]int, len(b)+1)
	cur := make([]int, len(b)+1)
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

// suggest is the fix for a name that does not exist: the nearest, else all of them when they are few.
func suggest(name string, candidates []string) string {
	if c := nearest(name, candidates); c != "" {
		return "did you mean '" + c + "'?"
	}
	return listNames("use one of", candidates)
}

// Suggest is a fix for a name that is not among candidates, for modules whose names the schema does not know.
func Suggest(name string, candidates []string) string { return suggest(name, candidates) }

// listNames lists at most eight names.
func listNames(lead string, names []string) string {
	switch {
	case len(names) == 0:
		return ""
	case len(names) == 1:
		return strings.TrimSuffix(lead, " one of") + " " + names[0]
	case len(names) > 8:
		return lead + " " + strings.Join(slices.Sorted(slices.Values(names))[:8], ", ") + ", ..."
	}
	return lead + " " + strings.Join(names, ", ")
}
