package loop

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestPostWhileStopping: what other goroutines post while the loops end, and after, does nothing; above all it does not
// write to descriptors that are closed and may be another's by now.
func TestPostWhileStopping(t *testing.T) {
	for range 20 {
		g, err := NewGroup(Options{Loops: 2})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running, posting sync.WaitGroup
		running.Go(func() {
			if err := g.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		var over atomic.Bool
		for _, l := range g.Loops() {
			posting.Go(func() {
				for !over.Load() {
					l.Post(func() {})
					time.Sleep(10 * time.Microsecond) // so that the loop sleeps and must be woken
				}
			})
		}
		time.Sleep(time.Millisecond)
		cancel()
		running.Wait()
		time.Sleep(time.Millisecond)
		over.Store(true)
		posting.Wait()
	}
}
