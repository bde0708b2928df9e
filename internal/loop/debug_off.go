//go:build !loopdebug

package loop

import "time"

// SetBudget has an effect in builds with the tag loopdebug only; see there.
func SetBudget(time.Duration, func(loop int, what string, took time.Duration)) {}

func debugEnter(*Loop, string) {}
func debugLeave(*Loop)         {}
func debugPanic(*Loop)         {}
func debugTurn(*Loop)          {}
func debugTurnDone(*Loop)      {}
