package pool

import (
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/tap"
)

// trace writes a step into the record of an event at which somebody looks; mu may be held. A step without a word only
// opens or ends the target.
func (p *Pool) trace(it *item, s tap.Step, legs int) {
	if it.ev.Trace == 0 {
		return
	}
	if s.Step == "" {
		p.tap.End(it.ev.Trace, -legs)
		return
	}
	s.Kind, s.Name = tap.KindPool, p.name
	p.tap.Step(it.ev.Trace, s, legs)
}

// traceEnd is the end of an event here without a delivery; mu is held.
func (p *Pool) traceEnd(it *item, verdict string, why reason, o event.Outcome) {
	if it.ev.Trace != 0 {
		p.trace(it, tap.Step{Step: tap.StepTarget, Verdict: verdict, Outcome: o.String(), Detail: why.String()}, -1)
	}
}

// traceAttempt is the answer of a member; mu is held.
func (p *Pool) traceAttempt(a *attempt, r Result) {
	if a.it.ev.Trace == 0 {
		return
	}
	s := tap.Step{Step: tap.StepAttempt, Member: a.c.m.name, Attempt: a.it.attempts + 1, Outcome: r.Outcome.String(),
		Detail: "after " + time.Duration(p.now().UnixNano()-a.sent).Round(time.Microsecond).String()}
	switch {
	case r.Outcome.OK():
	case r.Down:
		s.Verdict = "not reached"
	case r.Retry:
		s.Verdict = "may be tried again"
	}
	if r.Err != nil {
		s.Detail += ": " + r.Err.Error()
	}
	p.trace(a.it, s, 0)
}

// isFrom says whether an event was read from this very pool.
func (p *Pool) isFrom(ev *event.Event) bool {
	return ev.From != nil && ev.From.Pool != "" && ev.From.Pool == p.name
}

func (p *Pool) traceFrom(ev *event.Event) {
	if ev.Trace != 0 {
		p.tap.Step(ev.Trace, tap.Step{Step: tap.StepTarget, Kind: tap.KindPool, Name: p.name, Verdict: "skipped", Outcome: event.Accepted.String(),
			Detail: "it came from here"}, 0)
	}
}

// dryRefusal is what was said of an event that is not sent. A value.
type dryRefusal struct {
	trace   uint32
	outcome event.Outcome
	detail  string
}

// dryMax bounds the refusals of events that are not sent and about which the fan-in has not decided.
const dryMax = 1024

// waitsForMember is what a pool says that cannot deliver now.
const waitsForMember = "no member is up: it waits for one, at most until its sender's deadline or the pool's max_age"

// explain says of an event that is not sent what this leg would do with it, and settles t with what it would say. What
// its members would answer is what the question assumes (tap.Hub.Assumed); else that they accept, where one is up.
func (l *Leg) explain(ev *event.Event, t event.Ticket) {
	p := l.p
	say := func(verdict string, o event.Outcome, detail string) {
		p.tap.Step(ev.Trace, tap.Step{Step: tap.StepTarget, Kind: tap.KindPool, Name: p.name, Verdict: verdict, Outcome: o.String(), Detail: detail}, 0)
	}
	if p.isFrom(ev) {
		p.traceFrom(ev)
		t.Settle(event.Accepted)
		return
	}
	p.mu.Lock()
	heir := p.heir
	o, why, evict := p.room(ev.Size(), l.ack)
	up := p.anyUp()
	p.mu.Unlock()
	if heir != nil {
		(&Leg{heir, l.ack}).explain(ev, t)
		return
	}
	answer, detail := event.Accepted, "a member is up"
	switch a, assumed := p.tap.Assumed(ev.Trace, p.name); {
	case o != event.Accepted:
		answer, detail = o, why.String()
	case assumed:
		answer, detail = a, "assumed"
	case !up:
		answer, detail = event.Unavailable, waitsForMember
	}
	waits := t.Waits()
	if o == event.Accepted {
		room := ""
		switch {
		case evict:
			room = "the oldest becomes a dead letter"
		case detail == waitsForMember:
			room = waitsForMember
		}
		p.tap.Step(ev.Trace, tap.Step{Step: tap.StepTarget, Kind: tap.KindPool, Name: p.name, Verdict: "queued", Detail: room}, 0)
	}
	if o == event.Accepted && l.ack == Received && detail == waitsForMember {
		t.Settle(event.Accepted)
		return
	}
	told := answer
	if o == event.Accepted && l.ack == Received || why == reasonOverflow && o != event.Accepted {
		told = event.Accepted // before anything else happens
		waits = false
	}
	switch {
	case answer.OK():
		say("delivered", event.Accepted, detail)
	case waits:
		say("refused", answer, detail)
		p.mu.Lock()
		if p.dry == nil {
			p.dry = make(map[uint64]dryRefusal)
		}
		if len(p.dry) < dryMax {
			p.dry[t.Token] = dryRefusal{ev.Trace, answer, detail}
		}
		p.mu.Unlock()
	case t.Waits() || ev.QoS > event.AtMostOnce: // promised
		say("dead_letter", answer, detail)
	default:
		say("dropped", answer, detail)
	}
	t.Settle(told)
}

// decideDry is Decide for an event that is not sent; mu is held.
func (p *Pool) decideDry(token uint64, park bool) {
	r, ok := p.dry[token]
	if !ok {
		return
	}
	if delete(p.dry, token); len(p.dry) == 0 {
		p.dry = nil
	}
	if park {
		p.tap.Step(r.trace, tap.Step{Step: tap.StepTarget, Kind: tap.KindPool, Name: p.name, Verdict: "dead_letter", Outcome: r.outcome.String(),
			Detail: r.detail}, 0)
	}
}
