package pool

import (
	"context"
	"sync"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// batchMax is how many events are picked while mu is held.
const batchMax = 32

// Run delivers until ctx ends; then it refuses new events, goes on for Spec.Drain with what it holds, and makes dead
// letters or refusals of the rest; with an heir (see Yield) it waits for the answers to what is in flight and hands over the
// rest. It returns nil when all its goroutines have ended. Call it once.
func (p *Pool) Run(ctx context.Context) error {
	links, closeLinks := context.WithCancel(context.WithoutCancel(ctx))
	defer closeLinks()
	var wg sync.WaitGroup
	for _, m := range p.members {
		wg.Add(1)
		go func() {
			defer wg.Done()
			p.serve(links, m)
		}()
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	stop := ctx.Done()
	var end <-chan time.Time // of the drain
	batch := make([]*attempt, 0, batchMax)
	var later settlements
	for {
		p.mu.Lock()
		wait := p.sweep(&later)
		batch = p.pick(batch[:0], &later)
		empty := p.stopping && (p.age.n == 0 || p.heir != nil && p.inFlight() == 0)
		notes := p.notes
		p.notes = nil
		p.mu.Unlock()
		later.settle()
		p.tell(notes)
		for i, a := range batch {
			a.c.link.Send(a.it.id, a.it.ev, func(r Result) { p.answer(a, r) })
			batch[i] = nil
		}
		if empty {
			break
		}
		if len(batch) > 0 {
			continue // more may be ready, and what was sent can be overdue
		}
		timer.Reset(wait)
		select {
		case <-p.wake:
			continue
		case <-timer.C:
			continue
		case <-stop:
			stop = nil
			end = time.After(p.drainTime())
			p.mu.Lock()
			p.stopping = true
			p.mu.Unlock()
			continue
		case <-end:
		}
		break
	}
	closeLinks()
	wg.Wait()
	p.finish()
	return nil
}

// finish ends what is left after the links are closed.
func (p *Pool) finish() {
	var later settlements
	p.mu.Lock()
	if p.heir != nil {
		p.bequeath()
	}
	for it := range p.age.all() {
		o := event.Unavailable
		if it.cur != nil {
			o = event.Indeterminate // it may have arrived
		}
		p.leave(it)
		p.refuse(it, reasonShutdown, o, &later)
	}
	notes := p.notes
	p.notes = nil
	p.mu.Unlock()
	later.settle()
	p.tell(notes)
	p.unlist()
}

// pick takes events that can be sent now and marks them as in flight; mu is held.
func (p *Pool) pick(batch []*attempt, later *settlements) []*attempt {
	if p.heir != nil {
		return batch
	}
	now := p.now().UnixNano()
	for len(batch) < batchMax {
		l, m := p.choose(now)
		if l == nil {
			break
		}
		it := l.next.of
		if it.ev.Expired(now) {
			p.leave(it)
			p.expire(it, later)
			continue
		}
		a := &attempt{it: it, c: m.c, sent: now}
		it.cur = a
		l.m = m
		l.flying++
		l.next = l.next.next
		m.flying++
		p.flying.push(&a.bySent, a)
		p.displace(l) // to the end of its list: lanes take turns
		p.place(l)
		batch = append(batch, a)
	}
	return batch
}

// choose finds the next lane to send from and the member to send to; mu is held.
func (p *Pool) choose(now int64) (*lane, *member) {
	for range p.members {
		m := p.members[p.turn%len(p.members)]
		p.turn++
		if !m.free(now) {
			continue
		}
		first, second := &m.pinned, &p.ready
		if m.flip = !m.flip; m.flip {
			first, second = second, first
		}
		if l := first.front(); l != nil {
			return l, m
		}
		if l := second.front(); l != nil {
			return l, m
		}
	}
	return nil, nil
}

// sweep does what is due: deadlines, ages, overdue answers, pauses; mu is held. It returns how long nothing will be.
func (p *Pool) sweep(later *settlements) time.Duration {
	t := p.now()
	now := t.UnixNano()
	wake := now + int64(time.Hour)
	next := func(at int64) bool {
		if at > now {
			wake = min(wake, at)
			return false
		}
		return true
	}
	for it := p.waiting.front(); it != nil && next(it.queued+int64(p.deadline)); it = p.waiting.front() {
		o := p.lateOutcome(it)
		p.leave(it)
		p.refuse(it, reasonDeadline, o, later)
	}
	for it := range p.age.all() {
		if !next(it.queued + int64(p.spec.MaxAge)) {
			break
		}
		if it.cur != nil && it.cur.bySent.in == &p.flying {
			continue // its answer comes, or will be overdue
		}
		o := p.lateOutcome(it)
		p.leave(it)
		p.refuse(it, reasonMaxAge, o, later)
	}
	for a := p.flying.front(); a != nil && next(a.sent+int64(p.patience(a.c.m))); a = p.flying.front() {
		p.overdue(a, later)
	}
	for it := p.open.front(); it != nil && next(it.ended+2*int64(p.deadline)); it = p.open.front() {
		p.parkUndecided(it)
	}
	for len(p.timed) > 0 && next(p.timed[0].due) {
		l := p.timed[0]
		p.displace(l)
		l.due = 0
		p.place(l)
	}
	for _, m := range p.members {
		if m.c != nil && m.paused > now {
			next(m.paused)
		}
	}
	return time.Duration(wake - now)
}

// patience is how long a member may take to answer. Who keeps a session, as a broker does, may hold its acknowledgement
// until a deadline of its own, and that it lives its driver knows by other means.
func (p *Pool) patience(m *member) time.Duration {
	if m.sorted {
		return p.spec.Timeout + DefaultDeadline
	}
	return p.spec.Timeout
}

// lateOutcome is what a sender hears whose time has run out; mu is held.
func (p *Pool) lateOutcome(it *item) event.Outcome {
	switch {
	case it.cur != nil:
		return event.Indeterminate
	case it.outcome != event.Accepted: // of the last attempt
		return it.outcome
	case !p.anyUp():
		return event.Unavailable
	}
	return event.Timeout
}
