//go:build !loopdebug

package loop

import "time"

// SetBudget has an effect in builds with the tag loopdebug only: there the hook is called, on the loop, after a turn
// whose work took longer than the limit; what names the longest part of it.
func SetBudget(_ time.Duration, _ func(loop int, what string, took time.Duration)) {}

// debugState is empty without the tag loopdebug.
type debugState struct{} //nolint:unused // used with the tag

func debugEnterThread()        {}
func debugEnter(*Loop, string) {}
func debugLeave(*Loop)         {}
func debugTurn(*Loop)          {}
func debugTurnDone(*Loop)      {}
