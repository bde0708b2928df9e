package pool

import (
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/tap"
)

// What a refusal means is decided at the source: only the fan-in there knows whether another target took the event. Until
// it says so, a refused event is kept here, undecided.

// Decide says what became of the event that was delivered with this token: park = true, its sender was told that it is
// accepted, so a refusal here becomes a dead letter, and an event that still waits becomes one that was received; park
// = false, its sender was told the refusal and will send it again, so it is forgotten. A token that is not known, or
// whose event was delivered, does nothing. Tokens of all settlers of a node are distinct. Safe for concurrent use, also
// within Settle.
func (l *Leg) Decide(token uint64, park bool) {
	p := l.p
	p.mu.Lock()
	it := p.tokens[token]
	for it != nil { // several where routes have led an event here more than once under one token
		next := it.sameToken
		p.decide(it, park)
		it = next
	}
	p.decideDry(token, park)
	heir := p.heir
	p.mu.Unlock()
	p.kick()
	if heir != nil {
		(&Leg{heir, l.ack}).Decide(token, park)
	}
}

// decide ends the doubt about an event; mu is held.
func (p *Pool) decide(it *item, park bool) {
	if it.state == undecided {
		p.settleUndecided(it, park)
		return
	}
	// Its sender was answered before this leg was.
	p.forget(it)
	it.byDeadline.remove()
	it.t = event.Ticket{}
	if !park {
		it.promised = false
		p.leave(it)
		it.state = gone
		p.counts.dropped[reasonWithdrawn].Add(1)
		p.traceEnd(it, "dropped", reasonWithdrawn, event.Accepted)
	}
}

// remember makes an event with an open ticket known by its token; mu is held.
func (p *Pool) remember(it *item) {
	for o := p.tokens[it.t.Token]; o != nil; o = o.sameToken {
		if o == it {
			return
		}
	}
	it.sameToken = p.tokens[it.t.Token]
	p.tokens[it.t.Token] = it
}

// forget is the opposite of remember; mu is held.
func (p *Pool) forget(it *item) {
	if !it.t.Waits() {
		return
	}
	first := p.tokens[it.t.Token]
	if first == it {
		if it.sameToken == nil {
			delete(p.tokens, it.t.Token)
		} else {
			p.tokens[it.t.Token] = it.sameToken
		}
	}
	for o := first; o != nil; o = o.sameToken {
		if o.sameToken == it {
			o.sameToken = it.sameToken
			break
		}
	}
	it.sameToken = nil
}

// hold keeps a refused event until it is decided; mu is held. Beyond the bound of the dead letters the oldest are parked.
func (p *Pool) hold(it *item) {
	it.state = undecided
	p.open.push(&it.byAge, it)
	p.openSize += int64(it.size)
	for p.open.n > p.spec.DeadLettersMax || p.openSize > p.spec.DeadLetters {
		p.parkUndecided(p.open.front())
	}
}

// unhold takes an event out of the undecided; mu is held.
func (p *Pool) unhold(it *item) {
	p.forget(it)
	it.byAge.remove()
	p.openSize -= int64(it.size)
	it.t = event.Ticket{}
}

// settleUndecided makes a dead letter of an undecided event or forgets it; mu is held.
func (p *Pool) settleUndecided(it *item, park bool) {
	p.unhold(it)
	if park {
		p.park(it)
		p.trace(it, tap.Step{Step: tap.StepTarget, Verdict: "dead_letter", Outcome: it.outcome.String(), Detail: it.reason.String()}, 0)
		return
	}
	it.state = gone
}

// parkUndecided parks what nobody decided about in time; mu is held.
func (p *Pool) parkUndecided(it *item) {
	it.reason = reasonUndecided
	p.settleUndecided(it, true)
}
