package mqtt

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// publishWith is a PUBLISH with QoS 0 to topic t and the bytes of its properties.
func publishWith(props ...byte) []byte {
	b := append([]byte{0, 1, 't', byte(len(props))}, props...)
	return append([]byte{0x30, byte(len(b))}, b...)
}

// connectWith is a CONNECT of MQTT 5 with the bytes of its properties.
func connectWith(props ...byte) []byte {
	b := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, byte(len(props))}, props...)
	b = append(b, 0, 1, 'c')
	return append([]byte{0x10, byte(len(b))}, b...)
}

// refusedConnect expects a CONNACK with a refusal, or in MQTT 3.x the end without one.
func refusedConnect(t *testing.T, b []byte, codes ...wire.Reason) {
	t.Helper()
	n := trapNode(t)
	c := talkTo(t, n)
	got := c.raw(b)
	if !c.over() || n.hosts[0].Tally.Sessions != 0 {
		t.Errorf("%x: taken: %q", b, got)
	}
	if len(codes) == 0 {
		return
	}
	for _, code := range codes {
		if len(got) == 1 && strings.HasPrefix(got[0], fmt.Sprintf("CONNACK %02x", byte(code))) {
			return
		}
	}
	t.Errorf("%x: %q, want %v", b, got, codes)
}

func TestTrap17_duplicate_properties(t *testing.T) {
	for name, p := range map[string][]byte{
		"payload format": {1, 0}, "message expiry": {2, 0, 0, 0, 9}, "content type": {3, 0, 1, 'a'}, "response topic": {8, 0, 1, 'a'},
		"correlation data": {9, 0, 1, 'a'}, "topic alias": {0x23, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			refusedRaw(t, wire.V5, publishWith(append(bytes.Clone(p), p...)...), protocolError)
		})
	}
	for name, p := range map[string][]byte{"session expiry": {0x11, 0, 0, 0, 9}, "receive maximum": {0x21, 0, 9}, "maximum packet size": {0x27, 0, 0, 9, 9},
		"topic alias maximum": {0x22, 0, 9}, "request problem information": {0x17, 0}, "request response information": {0x19, 0}} {
		t.Run("CONNECT "+name, func(t *testing.T) { refusedConnect(t, connectWith(append(bytes.Clone(p), p...)...), protocolError) })
	}
	n := trapNode(t)
	c := talkTo(t, n).open("CONNECT v5 id=c clean")
	c.says("SUBSCRIBE id=1 t sub=7")
	want(t, c.says("PUBLISH t x user=a:1 user=a:1"), "PUBLISH t x q0 sub=7 user=a:1 user=a:1") // these may repeat
}

func TestTrap18_properties_belong_to_packets(t *testing.T) {
	for name, p := range map[string][]byte{
		"subscription identifier 0": {0x0b, 0}, "session expiry": {0x11, 0, 0, 0, 1}, "reason string": {0x1f, 0, 1, 'a'}, "assigned client id": {0x12, 0, 1, 'a'},
		"server keep alive": {0x13, 0, 1}, "will delay": {0x18, 0, 0, 0, 1}, "unknown": {0x7f, 0}, "0": {0, 0}, "overlong identifier": {0x81, 0x00, 1},
		"cut": {2, 0, 0}, "text longer than the list": {3, 0, 9, 'a'},
	} {
		t.Run(name, func(t *testing.T) { refusedRaw(t, wire.V5, publishWith(p...), protocolError, malformed) })
	}
	// A client must not send a subscription identifier in PUBLISH ([MQTT-3.3.4-6]); the vectors want one taken all the same. It
	// ends here: no subscriber sees another's.
	n := trapNode(t)
	c := talkTo(t, n).open("CONNECT v5 id=c clean")
	c.says("SUBSCRIBE id=1 t")
	want(t, c.raw(publishWith(0x0b, 9)), `PUBLISH t "" q0`)
	for name, b := range map[string][]byte{
		"overlong length": {0x30, 0x85, 0x80, 0x80, 0x80, 0x00}, "length of properties beyond the packet": {0x30, 4, 0, 1, 't', 9}, "overlong length of properties": {0x30, 8, 0, 1, 't', 0x80, 0x80, 0x80, 0x80, 1},
	} {
		t.Run(name, func(t *testing.T) { refusedRaw(t, wire.V5, b, malformed, wire.PacketTooLarge) })
	}
	for name, p := range map[string][]byte{"topic alias": {0x23, 0, 1}, "will delay outside of the will": {0x18, 0, 0, 0, 1}, "maximum QoS": {0x24, 1}} {
		t.Run("CONNECT "+name, func(t *testing.T) { refusedConnect(t, connectWith(p...), protocolError, malformed) })
	}
}

func TestTrap19_subscription_identifiers(t *testing.T) {
	refusedRaw(t, wire.V5, []byte{0x82, 9, 0, 1, 2, 0x0b, 0, 0, 1, 't', 0}, protocolError, malformed)           // 0
	refusedRaw(t, wire.V5, []byte{0x82, 11, 0, 1, 4, 0x0b, 1, 0x0b, 2, 0, 1, 't', 0}, protocolError, malformed) // two
	n := trapNode(t)
	c := talkTo(t, n).open("CONNECT v5 id=c clean")
	c.says("SUBSCRIBE id=1 t/# sub=7 ; SUBSCRIBE id=2 t/+ sub=268435455 ; SUBSCRIBE id=3 t/a")
	got := talkTo(t, n).open("CONNECT v5 id=p clean").says("PUBLISH t/a x")
	want(t, got)
	switch got = c.hears(); { // one message with all of them, in any order
	case len(got) == 1 && got[0] == "PUBLISH t/a x q0 sub=7 sub=268435455", len(got) == 1 && got[0] == "PUBLISH t/a x q0 sub=268435455 sub=7":
	default:
		t.Errorf("%q", got)
	}
}

func TestTrap20_overlapping_subscriptions(t *testing.T) {
	for _, v := range []string{"v5", "v3.1.1"} {
		n := trapNode(t)
		c := talkTo(t, n).open("CONNECT " + v + " id=c clean")
		c.says("SUBSCRIBE id=1 t/#:q2 ; SUBSCRIBE id=2 t/a:q0 ; SUBSCRIBE id=3 t/+:q1")
		talkTo(t, n).open("CONNECT v5 id=p clean").says("PUBLISH t/a x q2 id=1 ; PUBREL id=1 ; PUBLISH t/a y q1 id=2")
		want(t, c.hears(), "PUBLISH t/a x q2 id=1", "PUBLISH t/a y q1 id=2") // once each, at the highest that is granted
	}
	n := trapNode(t) // what is retained comes by the rules of each subscription
	talkTo(t, n).open("CONNECT v5 id=p clean").says("PUBLISH t/a x q1 id=1 retain")
	c := talkTo(t, n).open("CONNECT v5 id=c clean")
	want(t, c.says("SUBSCRIBE id=1 t/#:q1 t/a:rh2"), "SUBACK id=1 01 00", "PUBLISH t/a x q1 id=1 retain")
	want(t, c.says("SUBSCRIBE id=2 t/#:q0,rh1 t/+:rh1"), "SUBACK id=2 00 00", "PUBLISH t/a x q0 retain")
}

func TestTrap21_shared_subscriptions(t *testing.T) {
	for _, f := range []string{"$share//t", "$share/g", "$share/g/", "$share/+/t", "$share/g#/t"} {
		refusedRaw(t, wire.V5, wire.AppendSubscribe(nil, wire.V5, 1, 0, []wire.Filter{{Filter: f}}), wire.TopicFilterInvalid, malformed, protocolError)
	}
	refusedRaw(t, wire.V5, wire.AppendSubscribe(nil, wire.V5, 1, 0, []wire.Filter{{Filter: "$share/g/t", SubOptions: wire.SubOptions{NoLocal: true}}}), protocolError)
	n := trapNode(t)
	pub := talkTo(t, n).open("CONNECT v5 id=p clean")
	pub.says("PUBLISH t/kept x retain")
	one, two := talkTo(t, n).open("CONNECT v5 id=one clean"), talkTo(t, n).open("CONNECT v5 id=two expiry=100")
	want(t, one.says("SUBSCRIBE id=1 $share/g/t/#:q1 $share/h/t/#:q1"), "SUBACK id=1 01 01") // nothing retained
	two.says("SUBSCRIBE id=1 $share/g/t/#:q1")
	for i := range 4 {
		pub.says(fmt.Sprintf("PUBLISH t/a %d q1 id=%d", i, i+1))
	}
	a, b := one.hears(), two.hears()
	if len(a)+len(b) != 8 || len(b) != 2 { // each group gets each event once
		t.Errorf("%q %q", a, b)
	}
	two.drop() // with a session, without a connection: others are on
	n.run()
	for i := range 4 {
		pub.says(fmt.Sprintf("PUBLISH t/a %d q1 id=%d", i, i+11))
	}
	if got := one.hears(); len(got) != 8 {
		t.Errorf("%d of 8: %q", len(got), got)
	}
}

func TestTrap22_subscribe_options(t *testing.T) {
	for _, o := range []byte{3, 0x30, 0x40, 0x80, 0xc0} { // QoS 3, retain handling 3, reserved bits
		refusedRaw(t, wire.V5, []byte{0x82, 7, 0, 1, 0, 0, 1, 't', o}, malformed, protocolError)
	}
	for _, o := range []byte{3, 4, 0x80} {
		refusedRaw(t, wire.V311, []byte{0x82, 6, 0, 1, 0, 1, 't', o})
	}
	refusedRaw(t, wire.V311, []byte{0x80, 6, 0, 1, 0, 1, 't', 0}) // reserved bits of the fixed header
}

func TestTrap23_authentication_methods(t *testing.T) {
	refusedConnect(t, connectBy("KERBEROS", ""), wire.BadAuthMethod)
	refusedConnect(t, connectWith(0x16, 0, 1, 'x'), protocolError) // data without a method
	refusedRaw(t, wire.V5, authBy(again, "SCRAM-SHA-256", "x"), protocolError)
	refusedRaw(t, wire.V5, authBy(goOn, "SCRAM-SHA-256", "x"), protocolError)
	for _, b := range [][]byte{{0xf0, 0}, {0xf0, 1, 0x19}, {0xf0, 2, 0x19, 0}, {0xf1, 0}} {
		refusedRaw(t, wire.V5, b, protocolError, malformed)
	}
	refusedRaw(t, wire.V311, []byte{0xf0, 0})
	// to authenticate again with another method: TestReauthentication_4_12_1
}

func TestTrap24_text(t *testing.T) {
	bad := []string{"\x00", "\xed\xa0\x80", "\xed\xbf\xbf", "\xff", "\xc0\x80", "\xe2\x82", "\xf4\x90\x80\x80", "\x01", "\x1f", "\x7f", "\u0080", "\u009f", "\uffff"}
	for _, x := range bad {
		text := "a" + x
		for _, v := range []wire.Version{wire.V5, wire.V311} {
			refusedRaw(t, v, wire.AppendPublish(nil, &wire.PublishOut{Version: v, Topic: []byte(text)}), malformed, protocolError, wire.TopicNameInvalid)
			refusedRaw(t, v, wire.AppendSubscribe(nil, v, 1, 0, []wire.Filter{{Filter: text}}), malformed, protocolError, wire.TopicFilterInvalid)
			for _, c := range []wire.Connect{{ClientID: []byte(text)}, {ClientID: []byte("c"), Username: []byte(text), HasUsername: true},
				{ClientID: []byte("c"), Will: wire.Will{Present: true, Topic: []byte(text)}}} {
				c.Version, c.Clean, c.ReceiveMax, c.RequestProblemInfo = v, true, 10, true
				refusedConnect(t, wire.AppendConnect(nil, &c))
			}
		}
	}
	n := trapNode(t)
	c := talkTo(t, n).open("CONNECT v5 id=\"grün \U0001F600 \uFFFD\" clean")
	want(t, c.says("SUBSCRIBE id=1 \"ü/\uFEFF\""), "SUBACK id=1 00")
	want(t, c.says("PUBLISH \"ü/\uFEFF\" x"), "PUBLISH \"ü/\\ufeff\" x q0") // U+FEFF stays ([MQTT-1.5.4-3])
}

func TestTrap25_payload_format_and_response_topic(t *testing.T) {
	utf8 := publishWith(1, 1)
	bad := append(bytes.Clone(utf8), 0xff)
	bad[1]++
	refusedRaw(t, wire.V5, bad, wire.PayloadFormatInvalid)
	refusedRaw(t, wire.V5, publishWith(1, 2), protocolError, malformed)
	for _, topic := range []string{"a/#", "+", "", "\x00"} {
		refusedRaw(t, wire.V5, publishWith(append([]byte{8, 0, byte(len(topic))}, topic...)...), protocolError, malformed, wire.TopicNameInvalid)
	}
}

func TestTrap26_empty_and_short_packets(t *testing.T) {
	for _, b := range [][]byte{
		{0x32, 6, 0, 1, 't', 0, 0, 0}, {0x40, 2, 0, 0}, {0x50, 2, 0, 0}, {0x62, 2, 0, 0}, {0x70, 2, 0, 0}, {0x82, 7, 0, 0, 0, 0, 1, 't', 0}, {0xa2, 6, 0, 0, 0, 0, 1, 't'}, // packet id 0
		{0x40, 1, 0}, {0x40, 0}, {0xc0, 1, 0}, {0x40, 5, 0, 1, 0, 0, 0}, {0x82, 2, 0, 1}, {0x82, 3, 0, 1, 0}, {0xa2, 3, 0, 1, 0}, {0xe0, 3, 0, 0, 0},
	} {
		refusedRaw(t, wire.V5, b, malformed, protocolError)
	}
	for _, b := range [][]byte{{0x32, 5, 0, 1, 't', 0, 0}, {0x40, 2, 0, 0}, {0x40, 3, 0, 1, 0}, {0x40, 4, 0, 1, 0, 0}, {0xc0, 1, 0}, {0xe0, 1, 0}, {0x82, 2, 0, 1}, {0x36, 5, 0, 1, 't', 0, 1}} {
		refusedRaw(t, wire.V311, b)
	}
}

func TestTrap27_maximum_qos_is_0_or_1(t *testing.T) {
	for most, text := range map[int]string{0: v5Hello + "", 1: "", 2: v5Hello} {
		cfg := defaultSim()
		cfg.spec.MaxQoS = most
		c := talkTo(t, newSimNode(t, cfg))
		got := c.says("CONNECT v5 id=c clean")
		if most < 2 {
			text = fmt.Sprintf("CONNACK 00 rmax=64 maxqos=%d maxpkt=1048576 aliases=10", most)
		}
		want(t, got, text)
		want(t, c.says("SUBSCRIBE id=1 a:q2"), fmt.Sprintf("SUBACK id=1 %02x", most))
	}
}

func TestTrap28_takeover(t *testing.T) {
	n := trapNode(t)
	old := talkTo(t, n).open("CONNECT v5 id=c expiry=100")
	fresh := talkTo(t, n)
	b, err := packetOf("CONNECT v5 id=c expiry=100", &fresh.version)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.machine.feed(b); err != nil { // no turn passes: the order of what is put into the outputs is seen
		t.Fatal(err)
	}
	if !bytes.HasPrefix(old.out, []byte{0xe0}) || !old.closing {
		t.Errorf("the old connection has %x when the new one is answered", old.out)
	}
	n.run()
	want(t, old.hears(), "DISCONNECT 8e")
	want(t, fresh.hears(), "CONNACK 00 present*")
	if !old.over() {
		t.Error("the old connection is open")
	}
	three := talkTo(t, n).open("CONNECT v3.1.1 id=d clean") // who has no DISCONNECT of a server is just closed
	talkTo(t, n).open("CONNECT v5 id=d clean")
	if got := three.hears(); len(got) > 0 || !three.over() {
		t.Errorf("%q", got)
	}
}

func TestTrap29_client_ids(t *testing.T) {
	n := trapNode(t)
	for _, id := range []string{"a b", "a.b", "a/b", "$x", "+", "#", "a/#/b", "ü", strings.Repeat("x", 65535), "{client}", "'\"\\"} {
		for _, v := range []wire.Version{wire.V5, wire.V311} {
			c := talkTo(t, n)
			c.version = v
			got := c.raw(wire.AppendConnect(nil, &wire.Connect{Version: v, ClientID: []byte(id), Clean: true, KeepAlive: 60, ReceiveMax: 10, RequestProblemInfo: true}))
			if len(got) != 1 || c.over() || c.s.ID != id {
				t.Errorf("%.40q: %q", id, got)
				continue
			}
			want(t, c.says("SUBSCRIBE id=1 topic\\ with/spaces.and.dots")[:1], "SUBACK id=1*")
		}
	}
}

func TestTrap30_3_1_and_bridges(t *testing.T) {
	n := trapNode(t)
	c := talkTo(t, n)
	want(t, c.says("CONNECT v3.1 id=c clean"), "CONNACK 0")
	want(t, c.says("SUBSCRIBE id=1 a:q1"), "SUBACK id=1 01")
	want(t, c.says("PUBLISH a x q1 id=1"), "PUBLISH a x q1 id=1", "PUBACK id=1")
	for _, v := range []string{"v3.1", "v3.1.1"} {
		b := talkTo(t, n)
		want(t, b.says("CONNECT "+v+" id=bridge clean bridge"), "CONNACK 0")
		b.says("SUBSCRIBE id=1 r/#")
		want(t, b.says("PUBLISH r/a own"))                                      // not its own events
		talkTo(t, n).open("CONNECT v5 id=p clean").says("PUBLISH r/b x retain") // and with the retain flag as it was
		want(t, b.hears(), "PUBLISH r/b x q0 retain")
	}
}

func TestTrap31_dollar_topics_and_retained(t *testing.T) {
	n := trapNode(t)
	c := talkTo(t, n).open("CONNECT v5 id=c clean")
	c.says("SUBSCRIBE id=1 # +/x ; SUBSCRIBE id=2 $X/#")
	p := talkTo(t, n).open("CONNECT v5 id=p clean")
	p.says("PUBLISH $X/x 1 ; PUBLISH a/x 2")
	want(t, c.hears(), "PUBLISH $X/x 1 q0", "PUBLISH a/x 2 q0")
	p.says("PUBLISH r/a kept retain ; PUBLISH $X/r kept retain")
	c.hears()
	f := talkTo(t, n).open("CONNECT v5 id=f clean")
	want(t, f.says("SUBSCRIBE id=1 #"), "SUBACK id=1 00", "PUBLISH r/a kept q0 retain")
	want(t, f.says("SUBSCRIBE id=2 #:rh1"), "SUBACK id=2 00")                                 // handling 1: not new
	want(t, f.says("SUBSCRIBE id=3 r/a:rh1"), "SUBACK id=3 00", "PUBLISH r/a kept q0 retain") // new
	want(t, f.says("SUBSCRIBE id=4 r/+:rh2"), "SUBACK id=4 00")                               // 2: never
	want(t, f.says("UNSUBSCRIBE id=5 r/a r/+ ; SUBSCRIBE id=6 #:rap"), "UNSUBACK id=5 00 00", "SUBACK id=6 00", "PUBLISH r/a kept q0 retain")
	p.says("PUBLISH r/a new retain")
	want(t, f.hears(), "PUBLISH r/a new q0 retain") // as published
	want(t, c.hears(), "PUBLISH r/a new q0")        // not as published
	p.says(`PUBLISH r/a "" retain`)
	want(t, c.hears(), `PUBLISH r/a "" q0`) // the clearing is an event
	g := talkTo(t, n).open("CONNECT v5 id=g clean")
	want(t, g.says("SUBSCRIBE id=1 r/#"), "SUBACK id=1 00")
}

func TestTrap32_announced_length_reserves_nothing(t *testing.T) {
	n := trapNode(t)
	alloc := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.TotalAlloc
	}
	links := make([]*talk, 14)
	for i := range links {
		links[i] = talkTo(t, n)
	}
	before := alloc()
	for _, c := range links {
		c.send([]byte{0x10, 0xff, 0xff, 0xff, 0x2f, 0, 4, 'M', 'Q', 'T', 'T', 4}) // a CONNECT of 100 MB
	}
	n.run()
	if used := alloc() - before; used > 1<<20 {
		t.Errorf("%d bytes for 14 announcements", used)
	}
	for _, c := range links {
		if !c.over() {
			t.Error("waits for 100 MB")
		}
	}
	if event.MaxTopic != 65535 {
		t.Error("topics are longer than the protocol's")
	}
}
