package retain

import (
	"fmt"
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
)

// Whoever looks page by page goes on where the last page ended, in a cursor of its own.
func TestScanFromGoesOnAtThePlace(t *testing.T) {
	s := New(Limits{})
	for i := range 300 {
		set(t, s, kept(fmt.Sprintf("a/%03d", i), "x", 1), kept(fmt.Sprintf("b/%03d", i), "x", 1))
	}
	for _, filter := range []string{"#", "a/#", "+/007", "b/010"} {
		want := matches(s, filter, 2)
		var got []string
		place := ""
		for done := false; !done; {
			c := s.ScanFrom([]byte(filter), place)
			n := 0
			done = c.Next(2, 100, func(k *event.Kept) bool {
				got = append(got, string(k.Topic)+"="+string(k.Payload))
				n++
				return n < 7
			})
			place = c.Place()
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %d topics in pages, %d at once", filter, len(got), len(want))
		}
	}
}
