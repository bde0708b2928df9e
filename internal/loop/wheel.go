package loop

// Wheel is the timers of a loop without the loop: what simulates one passes the time in. Owned by its caller.
type Wheel struct{ w wheel }

// NewWheel makes one whose time is now (Unix nanoseconds).
func NewWheel(now int64) *Wheel {
	w := &Wheel{}
	w.w.init(now)
	return w
}

// Arm and Disarm are those of Loop.
func (w *Wheel) Arm(t *Timer, at int64) { w.w.arm(t, at) }

// Disarm stops t if it is armed.
func (w *Wheel) Disarm(t *Timer) { w.w.disarm(t) }

// Advance calls every timer that is due at now.
func (w *Wheel) Advance(now int64) { w.w.advance(now) }
