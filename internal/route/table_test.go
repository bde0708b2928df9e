package route

import (
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
)

// choice is a target that may be up. Owned by its test.
type choice struct {
	up      bool
	got     int
	decided []uint64
}

func (c *choice) Up() bool { return c.up }

func (c *choice) Deliver(_ *event.Event, t event.Ticket) {
	c.got++
	t.Settle(event.Accepted)
}

func (c *choice) Decide(token uint64, _ bool) { c.decided = append(c.decided, token) }

// Failover goes to the first that is up, in the order of the list; where none is, the first keeps it until it is.
func TestFailover(t *testing.T) {
	for _, c := range []struct {
		name string
		up   [3]bool
		want int
	}{
		{"all up", [3]bool{true, true, true}, 0},
		{"first down", [3]bool{false, true, true}, 1},
		{"only the last up", [3]bool{false, false, true}, 2},
		{"none up", [3]bool{}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f Failover
			var targets [3]*choice
			for i, up := range c.up {
				targets[i] = &choice{up: up}
				f = append(f, targets[i])
			}
			f.Deliver(&event.Event{}, event.Ticket{})
			f.Decide(7, true)
			for i, x := range targets {
				if want := i == c.want; (x.got == 1) != want {
					t.Errorf("target %d got %d events", i, x.got)
				}
				if len(x.decided) != 1 || x.decided[0] != 7 {
					t.Errorf("target %d was told %v", i, x.decided)
				}
			}
		})
	}
}

// A target with the weight 0 gets nothing, and the others all there is.
func TestSplit(t *testing.T) {
	a, b, c := &choice{}, &choice{}, &choice{}
	s := &Split{Targets: []event.Target{a, b, c}, Weights: []int{3, 0, 1}, Sum: 4}
	const n = 4000
	for range n {
		s.Deliver(&event.Event{}, event.Ticket{})
	}
	if b.got != 0 || a.got+c.got != n || a.got < n/2 || c.got < n/8 {
		t.Errorf("3:0:1 became %d:%d:%d", a.got, b.got, c.got)
	}
}
