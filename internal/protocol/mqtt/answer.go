package mqtt

import (
	"fmt"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
	"github.com/windrose-edc/windrose/internal/session"
)

// answerHow is the way in which a publisher learns an outcome.
type answerHow uint8

const (
	answerAck     answerHow = iota // PUBACK, PUBREC
	answerSilence                  // nothing is sent
	answerClose                    // the connection ends without a word: an MQTT 3.x client sends the event again
	answerGoodbye                  // DISCONNECT with the reason
)

// answer is what a publisher is told. A value.
type answer struct {
	how    answerHow
	kind   wire.Kind
	reason wire.Reason
}

// answerTo is the table Outcomes for one receipt, on a connection of that version.
func answerTo(v wire.Version, r session.Receipt, onReject rule) answer {
	a := answer{kind: wire.PUBACK}
	if r.QoS == event.ExactlyOnce {
		a.kind = wire.PUBREC
	}
	w := &Outcomes[r.Outcome]
	if v == wire.V5 {
		if a.reason = w.v5; w.ends {
			a.how = answerGoodbye
		}
		return a
	}
	if r.Outcome.OK() {
		return a
	}
	on := ruleDisconnect // who is not told no must not be told yes: the client sends it again
	switch {
	case r.Policy && w.v3 == rule3:
		on = onReject
	case r.Outcome == event.Throttled: // by a subscriber's outbox, and it has become a dead letter
		on = ruleAck
	}
	switch on {
	case ruleDisconnect:
		a.how = answerClose
	case ruleSilent:
		a.how = answerSilence
	case ruleAck:
	}
	return a
}

// String is the answer in words, for a trace.
func (a answer) String() string {
	switch a.how {
	case answerSilence:
		return "nothing is sent"
	case answerClose:
		return "the connection is closed, the client sends it again"
	case answerGoodbye:
		return fmt.Sprintf("DISCONNECT 0x%02X %s", byte(a.reason), a.reason)
	case answerAck:
	}
	return fmt.Sprintf("%s 0x%02X %s", a.kind, byte(a.reason), a.reason)
}

// Said is what a publisher on a listener of that specification would be told of an outcome, in words: for events that are
// not sent. version is 3.1, 3.1.1, or 5, which is also that of the empty text.
func (s *ListenerSpec) Said(version string, qos event.QoS, o event.Outcome, byPolicy bool) string {
	c, err := s.settings("", 0)
	if err != nil || qos == event.AtMostOnce {
		return ""
	}
	v := wire.V5
	switch version {
	case "3.1":
		v = wire.V31
	case "3.1.1":
		v = wire.V311
	}
	return answerTo(v, session.Receipt{QoS: qos, Outcome: o, Policy: byPolicy}, c.onReject).String()
}
