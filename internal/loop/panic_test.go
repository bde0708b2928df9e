package loop

import (
	"io"
	"sync/atomic"
	"testing"
)

// bomb is a timer that panics. Owned by its loop.
type bomb struct{ Timer }

func (b *bomb) Expire(*Timer, int64) { panic("timer") }

// chime is a timer that tells. Owned by its loop.
type chime struct {
	Timer
	rung chan struct{}
}

func (b *chime) Expire(*Timer, int64) { close(b.rung) }

// A panic in what works for no connection ends neither the loop nor the rest of its turn; it is counted.
func TestPanicsOfFunctions(t *testing.T) {
	for _, gather := range []bool{false, true} {
		g, err := NewGroup(Options{Loops: 2, Gather: gather})
		if err != nil {
			t.Fatal(err)
		}
		var fail atomic.Bool
		var turns atomic.Int64
		l := g.Loops()[1]
		l.OnTurn(func() {
			if fail.CompareAndSwap(true, false) {
				panic("turn function")
			}
		})
		l.OnTurn(func() { turns.Add(1) })
		runGroup(t, g)
		accept, _ := handlers(echo)
		c := dial(t, testListen(t, g, ListenOptions{Accept: accept}))

		after := make(chan struct{})
		b, late := &bomb{}, &chime{rung: make(chan struct{})}
		on(t, l, func() {
			b.Init(b)
			late.Init(late)
			l.Arm(&late.Timer, l.Now()+1) // the same tick, the later one first: behind the one that panics
			l.Arm(&b.Timer, l.Now()+1)
			l.Post(func() { panic("posted") })
			l.Post(func() { close(after) })
		})
		wait(t, after)
		wait(t, late.rung)
		before := turns.Load()
		fail.Store(true)
		on(t, l, func() {})
		on(t, l, func() {})
		if turns.Load() == before {
			t.Error("the second turn function was skipped")
		}
		if s := stats(t, g); s.FuncPanics != 3 || s.Panics != 0 {
			t.Errorf("counted %d panics of functions and %d of handlers, want 3 and 0", s.FuncPanics, s.Panics)
		}
		if _, err := io.WriteString(c, "still here"); err != nil {
			t.Error(err)
		}
		expect(t, c, "still here")
	}
}
