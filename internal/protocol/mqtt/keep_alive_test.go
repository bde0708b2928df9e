package mqtt

import (
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// Keep alive is about whole packets. A large one may take longer while it makes progress of a KiB; one that trickles in by
// bytes ends the connection, however large it says it is.
func TestKeepAliveOfHalfPackets_3_1_2_22(t *testing.T) {
	large := wire.AppendPublish(nil, &wire.PublishOut{Version: wire.V5, Topic: []byte("t"), Payload: make([]byte, 20_000)})
	n := newSimNode(t, defaultSim())
	slow := talkTo(t, n).open("CONNECT v5 id=slow clean keep=10")
	trickle := talkTo(t, n).open("CONNECT v5 id=trickle clean keep=10")
	sub := talkTo(t, n).open("CONNECT v5 id=sub clean")
	want(t, sub.says("SUBSCRIBE id=1 t"), "SUBACK id=1 00")
	trickled := 0
	for rest := large; len(rest) > 0; {
		k := min(1024, len(rest))
		want(t, slow.raw(rest[:k]))
		rest = rest[k:]
		if !trickle.over() {
			want(t, trickle.raw(large[trickled:trickled+100]))
			trickled += 100
		}
		n.advance(14 * time.Second)
	}
	if slow.over() {
		t.Error("a packet that made progress was cut off")
	}
	want(t, sub.hears(), "PUBLISH t *")
	if !trickle.over() || trickled > 200 {
		t.Errorf("alive after %d bytes, %v", trickled, trickle.over())
	}
	want(t, trickle.hears(), "DISCONNECT 8d")
	want(t, slow.says("PINGREQ"), "PINGRESP")
}
