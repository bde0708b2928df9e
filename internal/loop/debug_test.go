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
		time.Sleep(30 * time.Millisecond) // what a loop must never do
		return echo(c, b)
	})
	c := dial(t, testListen(t, g, ListenOptions{Accept: accept}))
	send(t, c, "x")
	expect(t, c, "x")
	if o := wait(t, told); o.what != "data" || o.took < 30*time.Millisecond {
		t.Errorf("told %+v", o)
	}
	g.Loops()[0].Post(func() { time.Sleep(30 * time.Millisecond) })
	if o := wait(t, told); o.what != "posted functions" {
		t.Errorf("told %+v", o)
	}
}
