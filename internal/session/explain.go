package session

import (
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/tap"
)

// explainHolds is how often an event that is not sent is asked about again after a hold.
const explainHolds = 3

// Explain walks an event that is not sent (tap.Hub.Ask) the way that Publish walks one that is: the same policies, routes,
// subscribers and fan-in, of which each says what it would do. Where its client has a session here, the event is that
// session's: its origin, its subscriptions and a copy of what policies remember of it. Nothing is taken, counted or kept.
// What would hold the event is said, and the walk goes on as if its time had come. said puts an outcome into the words of
// the protocol; byPolicy: it is a policy's. On the loop; ev.From.Client must be set. ev is the host's from now on.
func (h *Host) Explain(ev *event.Event, said func(o event.Outcome, byPolicy bool) string) {
	hub := h.shared.Tap
	received, full := tap.Step{Step: tap.StepReceived, Loop: h.clock.ID() + 1}, false
	var st policy.State
	if s := h.Find(ev.From.Client); s == nil {
		h.classify(ev.From)
	} else {
		s.reclassify(nil)
		ev.From = s.Origin
		st = s.policy.Copy()
		if ev.QoS != event.AtMostOnce && s.Unanswered() >= s.maxReceive() {
			full = true
		}
	}
	if c := ev.From.Class; c != nil && c.Name != "" {
		received.Detail = "device class " + c.Name
	}
	hub.Step(ev.Trace, received, 0)
	if full {
		h.traceHold(ev, HoldQuota, 0)
	}
	if h.walk.Congested() {
		h.traceHold(ev, HoldMail, 0)
	}
	answer := func(o event.Outcome, byPolicy bool) {
		if ev.QoS == event.AtMostOnce {
			word := ""
			if byPolicy {
				word = o.String()
			}
			h.traceAck(ev, word, noAnswer)
			return
		}
		hub.Step(ev.Trace, tap.Step{Step: tap.StepAck, Outcome: o.String(), Detail: said(o, byPolicy), Loop: h.clock.ID() + 1}, 0)
	}
	now := h.clock.Now()
	v := h.judgeAt(ev, &st, now)
	for n := 0; v.Kind == policy.Park && n < explainHolds; n++ {
		h.traceHold(ev, HoldLimit, v.Until)
		now = max(now, v.Until)
		v = h.judgeAt(ev, &st, now)
	}
	switch v.Kind {
	case policy.Pass:
	case policy.Drop:
		answer(event.Accepted, true)
		return
	case policy.Park:
		hub.Step(ev.Trace, tap.Step{Step: tap.StepAck, Verdict: "none", Detail: "it is held again and again"}, 0)
		return
	default:
		answer(v.Outcome, true)
		return
	}
	h.keepRetained(ev)
	t := event.Ticket{}
	if ev.QoS != event.AtMostOnce {
		t.To = &explained{h: h, ev: ev, answer: answer}
	}
	h.walk.Explain(ev, t)
	if !t.Waits() {
		answer(event.Accepted, false)
	}
	if at := h.walk.Due(); at != 0 && !h.due.Armed() {
		h.clock.Arm(&h.due, at)
	}
}

// judgeAt is judge at another time.
func (h *Host) judgeAt(ev *event.Event, st *policy.State, now int64) policy.Verdict {
	h.ctx.Now, h.ctx.Session = now, st
	h.ctx.Watch = &watcher{tap: h.shared.Tap, topic: string(ev.Topic)}
	defer func() { h.ctx.Watch = nil }()
	return h.shared.Chain().Apply(&h.ctx, ev)
}

// explained takes the outcome of an event that is not sent. Owned by its loop.
type explained struct {
	h      *Host
	ev     *event.Event
	answer func(o event.Outcome, byPolicy bool)
}

// Settle implements event.Settler.
func (x *explained) Settle(_ uint64, o event.Outcome, _ int) {
	x.h.shared.Tap.Step(x.ev.Trace, tap.Step{Step: tap.StepOutcome, Outcome: o.String(), Loop: x.h.clock.ID() + 1}, 0)
	x.answer(o, false)
}

// ExplainOn is Explain from any goroutine: on the loop where the client's session lives, else on the first. hosts are
// those of all loops; ev is theirs from now on.
func ExplainOn(hosts []*Host, d *Directory, ev *event.Event, ask func(ev *event.Event) *tap.Answer, said func(o event.Outcome, byPolicy bool) string) *tap.Answer {
	h := hosts[0]
	if loop, ok := d.LoopOf(ev.From.Client); ok {
		h = hosts[loop]
	}
	a := ask(ev)
	h.clock.Post(func() { h.Explain(ev, said) })
	return a
}
