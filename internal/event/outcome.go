package event

import "strconv"

// Outcome is what became of a delivery. The set is closed: each protocol has one table Outcome -> wire, and a test of
// guard fails when a protocol lacks a row.
type Outcome uint8

// The outcomes. Accepted is the only one that is not a refusal besides NoMatch, which is an acceptance that nobody was
// there to take.
const (
	Accepted Outcome = iota
	NoMatch
	Unauthorized
	BadTopic
	BadPayload
	TooLarge
	Throttled
	Released
	Modified
	Unavailable
	Timeout
	Indeterminate
	Internal
	NumOutcomes // how many there are; not an outcome
)

var outcomeNames = [NumOutcomes]string{
	"accepted", "no_match", "unauthorized", "bad_topic", "bad_payload", "too_large", "throttled", "released", "modified",
	"unavailable", "timeout", "indeterminate", "internal",
}

var outcomeTexts = [NumOutcomes]string{
	"accepted", "no subscriber matched", "not allowed", "topic not allowed here", "payload not acceptable", "too large",
	"slow down", "not taken, try again", "not taken, changed", "destination not available", "destination did not answer in time",
	"outcome not known", "internal error",
}

// String is the outcome's word in metrics, logs, API and configuration.
func (o Outcome) String() string {
	if o < NumOutcomes {
		return outcomeNames[o]
	}
	return "outcome(" + strconv.Itoa(int(o)) + ")"
}

// Text is what a peer may be told.
func (o Outcome) Text() string {
	if o < NumOutcomes {
		return outcomeTexts[o]
	}
	return "internal error"
}

// OK says whether the sender is to be acknowledged: someone took the event over, or nobody was there to take it.
func (o Outcome) OK() bool { return o == Accepted || o == NoMatch }
