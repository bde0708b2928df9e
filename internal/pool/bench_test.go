package pool

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// TestDeliverAllocates: an event that is kept already costs its place in the queue and in its lane, and no more.
func TestDeliverAllocates(t *testing.T) {
	p := New("test", Spec{}, &fakeDriver{}, nil, Options{}) // does not run: events stay
	leg := p.Leg(Received)
	e := &ev("c", 0, 1).Keep().Event
	leg.Deliver(e, event.Ticket{})
	l := newLedger()
	if n := testing.AllocsPerRun(1000, func() { leg.Deliver(e, event.Ticket{}) }); n > 1 {
		t.Errorf("%v allocations per event without a ticket, want 1", n)
	}
	up := p.Leg(Upstream)
	token := uint64(0)
	if n := testing.AllocsPerRun(1000, func() { token++; up.Deliver(e, event.Ticket{To: l, Token: token}) }); n > 1 {
		t.Errorf("%v allocations per event with a ticket, want 1 and now and then a larger map", n)
	}
}

// BenchmarkPool is what the pool itself costs: Deliver, dispatch, answer and settlement, with a driver that answers at
// once.
func BenchmarkPool(b *testing.B) {
	for _, lanes := range []int{1, 1000} {
		b.Run(map[int]string{1: "one lane", 1000: "1000 lanes"}[lanes], func(b *testing.B) {
			d := instant{}
			p := New("test", Spec{}, d, []string{"fake://a"}, Options{})
			ctx, cancel := context.WithCancel(b.Context())
			var wg sync.WaitGroup
			wg.Go(func() { _ = p.Run(ctx) })
			leg := p.Leg(Received)
			var evs []*event.Event
			for i := range lanes {
				evs = append(evs, &ev("c", i, 1).Keep().Event)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				for p.Stats().Queued > 50_000 {
					time.Sleep(time.Millisecond)
				}
				for range 99 {
					leg.Deliver(evs[i%lanes], event.Ticket{})
				}
				leg.Deliver(evs[i%lanes], event.Ticket{})
			}
			for p.Stats().Queued > 0 {
				time.Sleep(time.Millisecond)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*100), "ns/event")
			cancel()
			wg.Wait()
		})
	}
}

// instant accepts everything at once.
type instant struct{}

func (instant) Dial(context.Context, string) (Link, error) {
	return instantLink{make(chan struct{})}, nil
}

type instantLink struct{ done chan struct{} }

func (l instantLink) Send(_ ID, _ *event.Kept, done func(Result)) { done(yes) }
func (l instantLink) Done() <-chan struct{}                       { return l.done }
func (l instantLink) Close() error                                { close(l.done); return nil }
func (l instantLink) Window() int                                 { return 100 }
func (l instantLink) Ordered() bool                               { return true }
