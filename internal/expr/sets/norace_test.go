//go:build !race

package sets

// underRace says that the race detector watches.
const underRace = false
