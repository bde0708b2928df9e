package session

import "github.com/windrose-edc/windrose/internal/event"

// fate is what a session does with an event that it is offered. It is decided before anything is done, so that it can be
// said of an event that is not sent.
type fate uint8

const (
	fateOwn      fate = iota // the client's own event, which it does not want back
	fateWithheld             // a policy keeps it from this client
	fateExpired              // its time has passed
	fateOffline              // QoS 0, no connection
	fateSlow                 // QoS 0, the connection's output is full
	fateTooLarge             // over what the client accepts
	fateSent
	fateQueued
	fateMakesRoom // queued; the oldest becomes a dead letter
	fateRefused   // no room
	fateEnds      // no room, and the connection ends
)

// fate decides about an event at that QoS.
func (s *Session) fate(ev *event.Event, qos event.QoS) fate {
	switch {
	case s.withheld(ev):
		return fateWithheld
	case ev.Expired(s.host.clock.Now()):
		return fateExpired
	case qos == 0 && s.peer == nil:
		return fateOffline
	case qos == 0 && !s.peer.Room():
		return fateSlow
	case qos == 0:
		return fateSent
	case s.peer != nil && s.out.waiting() == 0 && s.out.again == 0 && s.windowOpen() && s.peer.Room():
		return fateSent
	}
	l, size, most := s.host.limits, int64(ev.Size()), s.maxBytes()
	switch {
	case size <= most && s.out.waiting() < s.maxQueue() && s.out.bytes()+size <= most:
		return fateQueued
	case size <= most && l.Rule == DropOld && s.out.waiting() > 0:
		return fateMakesRoom
	case size <= most && l.Rule == Disconnect && s.peer != nil:
		return fateEnds
	}
	return fateRefused
}

// outcome is what the publisher's fan-in hears.
func (f fate) outcome(ev *event.Event) event.Outcome {
	switch f {
	case fateOffline, fateSlow, fateTooLarge:
		if ev.QoS == 0 {
			return event.NoMatch
		}
	case fateOwn, fateWithheld:
		return event.NoMatch
	case fateRefused, fateEnds:
		return event.Throttled
	case fateExpired, fateSent, fateQueued, fateMakesRoom:
	}
	return event.Accepted // as its sender asked; what was lost at QoS 0 the subscriber asked no promise for
}

// words are the fate in a trace.
func (f fate) words() (verdict, detail string) {
	switch f {
	case fateOwn:
		return "skipped", "its own event: no local"
	case fateWithheld:
		return "skipped", "a policy keeps it from this client"
	case fateExpired:
		return "dropped", DropExpired.String()
	case fateOffline:
		return "dropped", DropOffline.String()
	case fateSlow:
		return "dropped", DropSlow.String()
	case fateTooLarge:
		return "dropped", DropTooLarge.String()
	case fateSent:
		return "sent", ""
	case fateQueued:
		return "queued", ""
	case fateMakesRoom:
		return "queued", "the oldest became a dead letter"
	case fateRefused:
		return "refused", DropQueueFull.String()
	case fateEnds:
		return "refused", DropQueueFull.String() + "; its connection ends"
	}
	return "", ""
}

// withheld says whether a policy that looks at deliveries keeps the event from this client.
func (s *Session) withheld(ev *event.Event) bool {
	c := s.host.shared.Chain()
	if !c.Receives() {
		return false
	}
	ctx := &s.host.reading
	ctx.Now, ctx.Session = s.host.clock.Now(), &s.policy
	return !c.Receive(ctx, s.Origin, ev)
}
