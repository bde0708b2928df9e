package coap

import "github.com/windrose-edc/windrose/internal/event"

// Said is what a publisher would be told of an outcome, in words: for events that are not sent. How it was refused makes no
// difference here.
func Said(_ any, _ string, _ event.QoS, o event.Outcome, _ bool) string {
	w := Outcomes[o]
	s := w.code.String()
	if !o.OK() {
		s += " " + o.Text()
	}
	return s
}
