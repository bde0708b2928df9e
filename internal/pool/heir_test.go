package pool

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/observe"
)

func payloads(sends []send) (out []int) {
	for _, s := range sends {
		n, _ := strconv.Atoi(string(s.ev.Payload))
		out = append(out, n)
	}
	return out
}

// succeed replaces a running pool as the application does.
func succeed(t *testing.T, p *Pool, stopOld func(), s Spec, d Driver) (next *Pool, stop func()) {
	t.Helper()
	next = New("test", s, d, []string{"fake://b"}, Options{Logger: slog.New(slog.DiscardHandler), Metrics: observe.NewRegistry()})
	p.Yield(next)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		stopOld()
		_ = next.Run(ctx)
	}()
	return next, func() { cancel(); <-ended }
}

// What waits goes to the heir in its order, before what came to the heir itself; what is in flight is answered by the old pool;
// tickets, dead letters and undecided events go along.
func TestYield(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var held []send
		old := &fakeDriver{window: 2, serve: func(_ *fakeLink, s send) {
			if len(held) == 0 && len(s.ev.Payload) == 1 && s.ev.Payload[0] == '0' { // a first answer proves the member
				s.done(yes)
				return
			}
			held = append(held, s)
		}}
		p, stopOld := start(t, Spec{}, old)
		l := newLedger()
		p.Leg(Received).Deliver(ev("c", 0, 0), event.Ticket{})
		synctest.Wait()
		for i := 1; i <= 5; i++ { // one lane: 1 is in flight, the others wait
			p.Leg(Upstream).Deliver(ev("c", 1, i), event.Ticket{To: l, Token: uint64(i)})
		}
		synctest.Wait()
		next := &fakeDriver{serve: script(yes)}
		heir, stop := succeed(t, p, stopOld, Spec{}, next)
		defer stop()
		synctest.Wait()
		p.Leg(Upstream).Deliver(ev("c", 1, 6), event.Ticket{To: l, Token: 6}) // by a table that is not in force any more
		heir.Leg(Upstream).Deliver(ev("c", 1, 7), event.Ticket{To: l, Token: 7})
		synctest.Wait()
		if got := next.sent(); len(got) != 0 {
			t.Fatalf("the heir sent %v while its predecessor waits for an answer", payloads(got))
		}
		held[0].done(yes)
		time.Sleep(time.Second)
		for i := 1; i <= 7; i++ {
			only(t, l, uint64(i), event.Accepted)
		}
		if got := payloads(next.sent()); !slices.Equal(got, []int{2, 3, 4, 5, 6, 7}) {
			t.Errorf("the heir sent %v", got)
		}
		invariants(t, heir)
		invariants(t, p)
	})
}

// A member that does not answer is waited for no longer than Spec.Drain; then the event goes to the heir's member too, under
// the same id.
func TestYieldInFlight(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		old := &fakeDriver{}
		p, stopOld := start(t, Spec{Drain: 3 * time.Second}, old)
		l := newLedger()
		p.Leg(Upstream).Deliver(ev("c", 0, 1), event.Ticket{To: l, Token: 1})
		synctest.Wait()
		next := &fakeDriver{serve: script(yes)}
		heir, stop := succeed(t, p, stopOld, Spec{}, next)
		defer stop()
		time.Sleep(2900 * time.Millisecond)
		if len(next.sent()) != 0 {
			t.Error("sent by the heir before the drain time was over")
		}
		time.Sleep(time.Second)
		only(t, l, 1, event.Accepted)
		if a, b := old.sent(), next.sent(); len(a) != 1 || len(b) != 1 || a[0].id != b[0].id {
			t.Errorf("old sent %d, heir %d, want one each of the same id", len(a), len(b))
		}
		old.sent()[0].done(yes) // late: nobody is told twice
		synctest.Wait()
		only(t, l, 1, event.Accepted)
		invariants(t, heir)
	})
}

// A pool whose member is gone yields at once: whoever corrects an address gets what waited for it.
func TestYieldOfAPoolThatIsDown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		old := &fakeDriver{refuse: func(string) error { return errors.New("refused") }}
		p, stopOld := start(t, Spec{QueueMax: 3}, old)
		for i := range 3 {
			p.Leg(Received).Deliver(ev("c", i, i), event.Ticket{})
		}
		next := &fakeDriver{serve: script(yes), window: 9}
		heir, stop := succeed(t, p, stopOld, Spec{QueueMax: 1}, next)
		defer stop()
		time.Sleep(time.Second)
		if got := payloads(next.sent()); len(got) != 3 {
			t.Errorf("the heir sent %v, want all three although it has room for one", got)
		}
		invariants(t, heir)
	})
}

func TestYieldDeadLettersAndUndecided(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p, stopOld := start(t, Spec{}, &fakeDriver{serve: script(never)})
		l := newLedger()
		p.Leg(Received).Deliver(ev("c", 0, 1), event.Ticket{})
		synctest.Wait()
		leg := p.Leg(Upstream)
		leg.Deliver(ev("c", 0, 2), event.Ticket{To: l, Token: 2}) // refused; what its publisher was told is not known
		synctest.Wait()
		only(t, l, 2, event.BadPayload)
		id := p.DeadLetters(0, 9)[0].ID
		heir, stop := succeed(t, p, stopOld, Spec{}, &fakeDriver{serve: script(yes)})
		defer stop()
		synctest.Wait()
		if got := heir.DeadLetters(0, 9); len(got) != 1 || got[0].ID != id {
			t.Fatalf("the heir has dead letters %v, want that with id %d", got, id)
		}
		leg.Decide(2, true) // the fan-in knows the old leg
		if got := heir.DeadLetters(0, 9); len(got) != 2 || got[1].ID <= id {
			t.Errorf("after the decision the heir has %v", got)
		}
		if err := heir.Replay(id); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if s := heir.Stats(); s.Delivered != 1 || s.DeadLetters != 1 {
			t.Errorf("after a replay: %+v", s)
		}
		invariants(t, heir)
		invariants(t, p)
	})
}
