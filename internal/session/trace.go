package session

import (
	"strconv"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/tap"
)

// look begins the trace of a client's event when somebody wants it. One that was held before goes on with its own.
func (s *Session) look(ev *event.Event) {
	h := s.host
	if h.held != nil {
		if id, ok := h.held[s]; ok {
			if delete(h.held, s); len(h.held) == 0 {
				h.held = nil
			}
			ev.Trace = id
			return
		}
	}
	h.shared.Tap.Begin(ev, h.clock.ID())
}

// holds says in an event's trace that it must wait, and remembers the trace: the client's next event is this one again.
func (s *Session) holds(ev *event.Event, why Hold, until int64) (Hold, int64) {
	if ev.Trace != 0 {
		h := s.host
		if h.held == nil {
			h.held = make(map[*Session]uint32)
		}
		h.held[s] = ev.Trace
		h.traceHold(ev, why, until)
	}
	return why, until
}

func (h *Host) traceHold(ev *event.Event, why Hold, until int64) {
	d := [...]string{HoldLimit: "a policy holds it", HoldMail: "another loop has no room", HoldQuota: "too many events without an answer"}[why]
	if until > 0 {
		d += " for " + time.Duration(max(until-h.clock.Now(), 0)).Round(time.Millisecond).String()
	}
	h.shared.Tap.Step(ev.Trace, tap.Step{Step: tap.StepHeld, Detail: d}, 0)
}

// unlook ends the traces of a session whose connection is gone: nobody is told any more.
func (s *Session) unlook() {
	h := s.host
	gone := func(id uint32) {
		h.shared.Tap.Step(id, tap.Step{Step: tap.StepAck, Detail: "the connection ended before the answer"}, 0)
	}
	if id, ok := h.held[s]; ok {
		delete(h.held, s)
		gone(id)
	}
	if s.in == nil {
		return
	}
	for _, id := range s.in.traces {
		gone(id)
	}
	s.in.traces = nil
}

// judge asks the policies about an event; now: it cannot be held.
func (h *Host) judge(ev *event.Event, st *policy.State, now bool) policy.Verdict {
	h.ctx.Now, h.ctx.Session = h.clock.Now(), st
	if ev.Trace != 0 {
		h.ctx.Watch = &watcher{tap: h.shared.Tap, topic: string(ev.Topic)}
		defer func() { h.ctx.Watch = nil }()
	}
	if now {
		return h.shared.Chain().ApplyNow(&h.ctx, ev)
	}
	return h.shared.Chain().Apply(&h.ctx, ev)
}

// watcher writes the verdicts of policies into an event's trace. Owned by one call.
type watcher struct {
	tap   *tap.Hub
	topic string // before the policy that speaks
}

// Verdict implements policy.Watcher.
func (w *watcher) Verdict(v policy.Verdict, ev *event.Event, failed bool) {
	s := tap.Step{Step: tap.StepPolicy, Name: v.By, Verdict: v.Kind.String()}
	if v.Kind == policy.Reject {
		s.Outcome = v.Outcome.String()
	}
	s.Detail = v.Why
	if string(ev.Topic) != w.topic {
		w.topic = string(ev.Topic)
		s.Topic = w.topic
	}
	switch {
	case failed:
		s.Detail = "it failed"
	case v.Disconnect:
		s.Detail = "the connection ends"
	}
	w.tap.Step(ev.Trace, s, 0)
}

// traceAck says in an event's trace that its publisher waits for no answer.
func (h *Host) traceAck(ev *event.Event, o string, why string) {
	if ev.Trace != 0 {
		h.shared.Tap.Step(ev.Trace, tap.Step{Step: tap.StepAck, Verdict: "none", Outcome: o, Detail: why, Loop: h.clock.ID() + 1}, 0)
	}
}

// noAnswer is why there is no acknowledgement.
const noAnswer = "qos 0: the publisher waits for no answer"

// traceRetained says in an event's trace that it becomes the last one of its topic.
func (h *Host) traceRetained(ev *event.Event, err error) {
	s := tap.Step{Step: tap.StepRetained, Verdict: "kept"}
	switch {
	case err != nil:
		s.Verdict, s.Detail = "not kept", err.Error()
	case len(ev.Payload) == 0:
		s.Verdict = "cleared"
	}
	h.shared.Tap.Step(ev.Trace, s, 0)
}

// refusal is the word for a policy's no; "" where it let the event pass.
func refusal(v policy.Verdict) string {
	switch v.Kind {
	case policy.Reject:
		return v.Outcome.String()
	case policy.Drop:
		return event.Accepted.String()
	case policy.Pass, policy.Park:
	}
	return ""
}

// traceTake says in an event's trace what a session does with it.
func (s *Session) traceTake(ev *event.Event, f fate, qos event.QoS) {
	verdict, detail := f.words()
	if f == fateSent || f == fateQueued || f == fateMakesRoom {
		if detail != "" {
			detail = "; " + detail
		}
		detail = "qos " + strconv.Itoa(int(qos)) + detail
	}
	h := s.host
	h.shared.Tap.Step(ev.Trace, tap.Step{Step: tap.StepTarget, Kind: tap.KindSession, Name: s.ID, Verdict: verdict, Outcome: f.outcome(ev).String(),
		Detail: detail, Loop: h.clock.ID() + 1}, 0)
}

// traced remembers that the receipt of that number belongs to an event at which somebody looks.
func (r *receipts) traced(seq, trace uint32) {
	if r.traces == nil {
		r.traces = make(map[uint32]uint32)
	}
	r.traces[seq] = trace
}

// traceOutcome says in a trace what the fan-in made of all targets.
func (h *Host) traceOutcome(r *receipts, seq uint32, o event.Outcome) {
	if id := r.traces[seq]; id != 0 {
		h.shared.Tap.Step(id, tap.Step{Step: tap.StepOutcome, Outcome: o.String(), Loop: h.clock.ID() + 1}, 0)
	}
}

// answering ends the trace of a receipt whose answer goes out now.
func (s *Session) answering(r Receipt, p Peer) {
	h, in := s.host, s.in
	seq := in.first - 1
	id := in.traces[seq]
	if id == 0 {
		p.Answer(r)
		return
	}
	if delete(in.traces, seq); len(in.traces) == 0 {
		in.traces = nil
	}
	h.watching, h.said = true, ""
	p.Answer(r)
	h.shared.Tap.Step(id, tap.Step{Step: tap.StepAck, Outcome: r.Outcome.String(), Detail: h.said, Loop: h.clock.ID() + 1}, 0)
	h.watching = false
}

// Watched says that somebody looks at the event that is being answered: then Said says how. Within Peer.Answer.
func (h *Host) Watched() bool { return h.watching }

// Said notes in the protocol's words what the publisher is told.
func (h *Host) Said(words string) { h.said = words }

// sourceTicket passes a source's outcome on and writes it into the event's trace. Immutable; safe for concurrent use.
type sourceTicket struct {
	tap   *tap.Hub
	trace uint32
	t     event.Ticket
}

// Settle implements event.Settler.
func (x *sourceTicket) Settle(_ uint64, o event.Outcome, n int) {
	x.tap.Step(x.trace, tap.Step{Step: tap.StepOutcome, Outcome: o.String()}, 0)
	x.t.SettleN(o, n)
	x.tap.Step(x.trace, tap.Step{Step: tap.StepAck, Outcome: o.String(), Detail: "told to the source"}, 0)
}

// traceSource wraps the ticket of a source's event at which somebody looks.
func (h *Host) traceSource(ev *event.Event, t event.Ticket) event.Ticket {
	if ev.Trace == 0 || !t.Waits() {
		return t
	}
	return event.Ticket{To: &sourceTicket{h.shared.Tap, ev.Trace, t}}
}
