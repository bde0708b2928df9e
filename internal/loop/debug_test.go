//go:build loopdebug

package loop

import (
	"testing"
	"time"
)

func TestBudget(t *testing.T) {
	type over struct {
		what string
		took time.Duration
	}
	told := make(chan over, 10)
	SetBudget(20*time.Millisecond, func(_ int, what string, took time.Duration) { told <- over{what, took} })
	t.Cleanup(func() { budget.Store(nil) })
	g := testGroup(t, Options{Loops: 1})
	accept, _ := handlers(func(c *Conn, b []byte) (int, error) {
		for end := time.Now().Add(60 * time.Millisecond); time.Now().Before(end); {
			continue // computes for longer than a loop may
		}
		return echo(c, b)
	})
	c := dial(t, testListen(t, g, ListenOptions{Accept: accept}))
	send(t, c, "x")
	expect(t, c, "x")
	if o := wait(t, told); o.what != "data" || o.took < 30*time.Millisecond {
		t.Errorf("told %+v", o)
	}
	// A turn that waits is over budget where nobody else took the processor meanwhile: on a busy machine not each time.
	for end := time.Now().Add(10 * time.Second); ; {
		done := make(chan struct{})
		g.Loops()[0].Post(func() { time.Sleep(30 * time.Millisecond); close(done) })
		<-done
		select {
		case o := <-told:
			if o.what != "posted functions" {
				t.Errorf("told %+v", o)
			}
			return
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			t.Fatal("nothing was told of turns that wait")
		}
	}
}
