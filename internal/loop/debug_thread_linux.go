//go:build loopdebug && linux && !portable

package loop

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadUse is what a loop's thread has used so far. A value.
type threadUse struct {
	cpu     time.Duration
	taken   int64 // times that the kernel took the processor away
	unknown bool
}

func useOfThread() threadUse {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		return threadUse{unknown: true}
	}
	return threadUse{cpu: time.Duration(u.Utime.Nano() + u.Stime.Nano()), taken: u.Nivcsw}
}

// blames says whether a turn that took longer than limit by the clock is the code's fault: it computed that long, or it
// waited although nobody else wanted the processor. A busy machine that did not let the thread run is not.
func (t threadUse) blames(limit time.Duration) bool {
	now := useOfThread()
	return t.unknown || now.unknown || now.cpu-t.cpu > limit || now.taken == t.taken
}
