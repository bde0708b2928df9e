//go:build race

package expr

// underRace says that the race detector watches.
const underRace = true
