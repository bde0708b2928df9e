//go:build loopdebug && (!linux || portable)

package loop

import "time"

// threadUse is empty where loops have no thread of their own.
type threadUse struct{}

func useOfThread() threadUse { return threadUse{} }

func (threadUse) blames(time.Duration) bool { return true }
