package app

import (
	"fmt"
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
)

// TestDeadLettersBounds: the newest dead letters of sessions are kept, within their number and within their bytes, and
// what gives way is counted.
func TestDeadLettersBounds(t *testing.T) {
	for _, size := range []int{0, 1 << 20, maxDeadBytes + 1} {
		d := &deadLetters{}
		const events = 5*maxDead + 7
		payload := make([]byte, size)
		for i := range events {
			d.Dead(&event.Kept{Event: event.Event{Topic: fmt.Appendf(nil, "t/%d", i), Payload: payload}}, "c", "r")
			if n, b, _ := d.size(); n > maxDead || b > maxDeadBytes && n > 1 || len(d.list) > 3*maxDead {
				t.Fatalf("payload of %d: %d letters of %d bytes, %d places", size, n, b, len(d.list))
			}
		}
		n, _, dropped := d.size()
		if n == 0 || uint64(n)+dropped != events {
			t.Errorf("payload of %d: %d letters and %d dropped, want %d together", size, n, dropped, events)
		}
		for i, x := range d.newest(0, maxDead+1) {
			if want := fmt.Sprintf("t/%d", events-1-i); string(x.ev.Topic) != want {
				t.Fatalf("letter %d is %s, want %s", i, x.ev.Topic, want)
			}
		}
		if got := len(d.newest(0, 3)); got != min(3, n) {
			t.Errorf("newest(3) returns %d of %d", got, n)
		}
	}
}
