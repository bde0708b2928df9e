package pool

import (
	"log/slog"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/tap"
)

// answer takes the result of an attempt, from any goroutine. A second answer to the same attempt is counted and ignored;
// a late acceptance still counts as one, wherever the event stands.
func (p *Pool) answer(a *attempt, r Result) {
	var later settlements
	p.mu.Lock()
	p.land(a)
	p.judge(a.c, r)
	p.traceAttempt(a, r)
	switch {
	case r.Outcome.OK():
		p.accepted(a, &later)
	case a.it.cur == a:
		p.failed(a.it, r, &later)
	default:
		p.counts.late.Add(1)
	}
	p.mu.Unlock()
	later.settle()
	p.kick()
}

// land gives an attempt's place in the window back; mu is held.
func (p *Pool) land(a *attempt) {
	if a.bySent.in != nil {
		a.bySent.remove()
		a.c.m.flying--
	}
}

// judge learns about the member from an answer; mu is held.
func (p *Pool) judge(c *conn, r Result) {
	m := c.m
	if m.c != c {
		if !m.sorted || m.c == nil || r.Down {
			return // it tells about a link that is gone
		}
		c = m.c // a resumed session
	}
	if r.Err != nil && !r.Outcome.OK() {
		m.lastErr = r.Err.Error()
	}
	if r.After > 0 {
		m.paused = max(m.paused, p.now().Add(min(r.After, longestPause)).UnixNano())
	}
	switch {
	case r.Down:
		p.tripConn(c, r.Err)
		return
	case r.Outcome.OK():
		if m.lastErr != "" {
			p.note(false, "up", "member is up again", slog.String("member", m.name))
		}
		m.fails, m.bad, m.lastErr = 0, 0, ""
	case r.Retry && r.After == 0:
		m.bad++
	case !r.Retry:
		m.bad = 0
	}
	c.proven = true
	if m.bad >= ejectAfter && p.otherUp(m) {
		p.tripConn(c, r.Err)
	}
}

func (p *Pool) otherUp(m *member) bool {
	for _, o := range p.members {
		if o != m && o.c != nil {
			return true
		}
	}
	return false
}

// accepted ends an event that a member has; mu is held.
func (p *Pool) accepted(a *attempt, later *settlements) {
	it := a.it
	switch it.state {
	case queued:
		later.add(it.t, event.Accepted)
		p.forget(it)
		p.leave(it)
	case undecided:
		p.counts.late.Add(1)
		p.unhold(it)
	case parked:
		p.counts.late.Add(1)
		p.dead.remove(it)
	case gone:
		p.counts.late.Add(1)
		return
	}
	it.state = gone
	p.counts.delivered.Add(1)
	p.trace(it, tap.Step{Step: tap.StepTarget, Verdict: "delivered", Outcome: event.Accepted.String()}, -1)
}

// failed decides between another attempt and the end; mu is held.
func (p *Pool) failed(it *item, r Result, later *settlements) {
	it.outcome, it.err = r.Outcome, ""
	if r.Err != nil {
		it.err = r.Err.Error()
	}
	if !r.Down {
		it.attempts++
	}
	now := p.now().UnixNano()
	switch {
	case !r.Retry:
		p.leave(it)
		p.refuse(it, reasonRefused, r.Outcome, later)
	case it.attempts >= p.spec.Attempts:
		p.leave(it)
		p.refuse(it, reasonAttempts, r.Outcome, later)
	default:
		pause := time.Duration(0)
		if !r.Down { // a member that is down has a pause of its own
			pause = backoff(p.spec.Backoff, it.attempts-1)
		}
		p.counts.retried.Add(1)
		p.again(it, pause, now)
	}
}

// overdue gives up an attempt without an answer; on an Ordered link it gives up the link, whose driver then answers for
// all that is in flight; mu is held.
func (p *Pool) overdue(a *attempt, later *settlements) {
	if m := a.c.m; m.sorted && m.c != nil {
		p.tripConn(m.c, errOverdue)
		return
	}
	p.land(a)
	p.traceAttempt(a, Result{Outcome: event.Timeout, Retry: true, Err: errOverdue})
	if a.it.cur == a {
		p.failed(a.it, Result{Outcome: event.Timeout, Retry: true, Err: errOverdue}, later)
	}
	if m := a.c.m; m.c == a.c {
		if m.bad++; m.bad >= ejectAfter && p.otherUp(m) {
			p.tripConn(a.c, errOverdue)
		}
	}
}

// expire ends an event whose time has passed, as its sender asked; mu is held.
func (p *Pool) expire(it *item, later *settlements) {
	later.add(it.t, event.Timeout)
	p.forget(it)
	it.state = gone
	p.counts.dropped[reasonExpired].Add(1)
	p.traceEnd(it, "dropped", reasonExpired, event.Timeout)
}

// refuse ends an event that is not in the queue (any more) without a delivery; mu is held. Where a sender waits, it
// hears the outcome, and the event is kept until it is known what the sender was told. What a sender was promised
// becomes a dead letter. The rest is dropped and counted.
func (p *Pool) refuse(it *item, why reason, o event.Outcome, later *settlements) {
	it.reason, it.outcome = why, o
	it.ended = p.now().UnixNano()
	p.counts.refused[why].Add(1)
	switch {
	case it.t.Waits():
		p.traceEnd(it, "refused", why, o)
		later.add(it.t, o)
		p.remember(it)
		p.hold(it)
	case it.promised:
		p.park(it)
		p.traceEnd(it, "dead_letter", why, o)
	default:
		it.state = gone
		p.counts.dropped[why].Add(1)
		p.traceEnd(it, "dropped", why, o)
	}
}
