//go:build loopdebug

package loop

import (
	"runtime"
	"sync/atomic"
	"time"
)

// debugBudget is what a turn may take. Immutable.
type debugBudget struct {
	limit time.Duration
	hook  func(loop int, what string, took time.Duration)
}

var budget atomic.Pointer[debugBudget]

// defaultBudget is generous enough for the race detector on a busy machine.
const defaultBudget = 50 * time.Millisecond

// SetBudget says how long the work of a turn may take, 50 ms when it is never called, and what is called, on the loop,
// when it took longer (nil: an error is logged); what names the longest part of it. Tests make themselves fail with it.
func SetBudget(limit time.Duration, hook func(loop int, what string, took time.Duration)) {
	budget.Store(&debugBudget{limit, hook})
}

// debugState is the time of a turn. Owned by its loop.
type debugState struct {
	turn, part time.Time
	what       string
	longest    time.Duration
	slowest    string
	thread     threadUse // at the beginning
}

// debugEnterThread binds the loop's goroutine to its thread: what a turn used is what its thread used.
func debugEnterThread() { runtime.LockOSThread() }

func debugEnter(l *Loop, what string) { l.debug.what, l.debug.part = what, time.Now() }

func debugLeave(l *Loop) {
	if d := time.Since(l.debug.part); d > l.debug.longest {
		l.debug.longest, l.debug.slowest = d, l.debug.what
	}
}

func debugTurn(l *Loop) { l.debug = debugState{turn: time.Now(), thread: useOfThread()} }

func debugTurnDone(l *Loop) {
	took := time.Since(l.debug.turn)
	b := budget.Load()
	if b == nil {
		b = &debugBudget{limit: defaultBudget}
	}
	if took <= b.limit || !l.debug.thread.blames(b.limit) {
		return
	}
	if b.hook != nil {
		b.hook(l.id, l.debug.slowest, took)
		return
	}
	l.g.opt.Logger.Error("turn of the event loop over budget", "loop", l.id, "slowest", l.debug.slowest, "took", took)
}
