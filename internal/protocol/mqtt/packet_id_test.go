package mqtt

import (
	"fmt"
	"testing"
)

// A delivery takes an id that is not in use, whatever is open and in whichever order it is acknowledged; after 65,535 comes
// 1, and 0 never.
func TestPacketIDsWrap_2_2_1_4(t *testing.T) {
	cfg := defaultSim()
	cfg.limits.Window = 10
	n := newSimNode(t, cfg)
	sub := talkTo(t, n).open("CONNECT v5 id=sub clean expiry=100")
	want(t, sub.says("SUBSCRIBE id=1 t:q1"), "SUBACK id=1 01")
	pub := talkTo(t, n).open("CONNECT v5 id=pub clean")
	open := map[int]bool{}
	var order []int
	delivered, highest := 0, 0
	take := func(texts []string) {
		for _, text := range texts {
			id := 0
			if _, err := fmt.Sscanf(text, "PUBLISH t x q1 id=%d", &id); err != nil || id == 0 || id > 65535 || open[id] {
				t.Fatalf("delivery %d: %q, open %v", delivered, text, order)
			}
			open[id] = true
			order = append(order, id)
			delivered++
			highest = max(highest, id)
		}
	}
	const events = 70_000
	for i := range events {
		want(t, pub.says("PUBLISH t x q1 id=1"), "PUBACK id=1 00")
		take(sub.hears())
		if len(order) < 10 {
			continue
		}
		k := 1 // an old one stays in the way for a while
		if i%30 == 0 {
			k = 0
		}
		id := order[k]
		delete(open, id)
		order = append(order[:k], order[k+1:]...)
		take(sub.says(fmt.Sprintf("PUBACK id=%d", id)))
	}
	if delivered != events || highest != 65535 {
		t.Errorf("%d delivered of %d, highest id %d", delivered, events, highest)
	}
}
