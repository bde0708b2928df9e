package pool

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/windrose-edc/windrose/internal/event"
)

// An operator pages through dead letters, the newest first, while some of them go.
func TestNewestDeadLettersInPages(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p, stop := start(t, Spec{DeadLettersMax: 1000}, &fakeDriver{serve: script(never)})
		defer stop()
		for i := range 700 {
			p.Leg(Received).Deliver(ev("c", i, i), event.Ticket{})
		}
		synctest.Wait()
		version := p.LettersVersion()
		if version != p.LettersVersion() {
			t.Error("the version changes by itself")
		}
		var got []uint64
		for before := uint64(0); ; {
			page := p.NewestDeadLetters(before, 300)
			if len(page) > lettersAtOnce {
				t.Fatalf("%d at once", len(page))
			}
			if len(page) == 0 {
				break
			}
			for _, d := range page {
				got = append(got, d.ID)
			}
			before = got[len(got)-1]
			if len(got) == lettersAtOnce { // what the next page goes on from is gone, and everything near it
				var ids []uint64
				for id := before - 299; id <= before; id++ {
					ids = append(ids, id)
				}
				if n := p.Purge(ids...); n != 300 {
					t.Fatalf("purged %d", n)
				}
			}
		}
		if len(got) != 700-299 || !slices.IsSortedFunc(got, func(a, b uint64) int { return int(b) - int(a) }) {
			t.Errorf("%d dead letters", len(got))
		}
		if p.LettersVersion() == version {
			t.Error("the version is the same after a purge")
		}
		if p.NewestDeadLetters(0, -1) == nil || len(p.NewestDeadLetters(1, 10)) != 0 {
			t.Error("bounds")
		}
		if n := p.Purge(); n != 400 || len(p.NewestDeadLetters(0, 1)) != 0 {
			t.Errorf("purged %d", n)
		}
		invariants(t, p)
	})
}
