package pool

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// A pool is up while a member can be sent to: not before the first dial, not while all are gone, and after a failure only
// once the member has answered.
func TestLegUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var gone atomic.Bool
		gone.Store(true)
		d := &fakeDriver{
			refuse: func(string) error {
				if gone.Load() {
					return errors.New("connection refused")
				}
				return nil
			},
			serve: func(_ *fakeLink, s send) {
				if gone.Load() {
					s.done(Result{Outcome: event.Unavailable, Retry: true, Down: true, Err: errors.New("connection refused")})
					return
				}
				s.done(yes)
			},
		}
		p, stop := start(t, Spec{}, d)
		defer stop()
		leg := p.Leg(Received)
		want := func(up bool, when string) {
			t.Helper()
			synctest.Wait()
			if leg.Up() != up {
				t.Errorf("%s: up is %t", when, !up)
			}
		}
		want(false, "before a member could be reached")
		gone.Store(false)
		time.Sleep(time.Minute)
		want(true, "after the dial")
		gone.Store(true)
		leg.Deliver(ev("c", 0, 1), event.Ticket{})
		want(false, "after an event did not arrive")
		for range 20 { // also in the moments when the member is tried again
			time.Sleep(time.Second)
			want(false, "while the event waits")
		}
		gone.Store(false)
		time.Sleep(time.Minute)
		want(true, "after the member has answered")
		invariants(t, p)
	})
}
