package mqtt

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
	"github.com/windrose-edc/windrose/internal/route"
)

// The traps that other servers fell into, one test each (docs/protocols/mqtt.md has the list), as far as a machine shows them;
// trap_more_test.go has the second half.

const (
	v5Hello = "CONNACK 00 rmax=64 maxpkt=1048576 aliases=10"
)

// trapNode is a node of one loop.
func trapNode(t *testing.T) *simNode { return newSimNode(t, defaultSim()) }

func (c *talk) raw(b []byte) []string {
	c.send(b)
	c.n.run()
	return c.hears()
}

// refusedRaw sends bytes on a fresh connection of version v and expects it to end; code is the reason of MQTT 5.
func refusedRaw(t *testing.T, v wire.Version, b []byte, codes ...wire.Reason) {
	t.Helper()
	n := trapNode(t)
	other := talkTo(t, n).open("CONNECT v5 id=other clean")
	c := talkTo(t, n)
	if v == wire.V5 {
		c.open("CONNECT v5 id=c clean")
	} else {
		c.open("CONNECT v3.1.1 id=c clean")
	}
	got := c.raw(b)
	if !c.over() {
		t.Errorf("%x: still open, got %q", b, got)
	}
	if v == wire.V5 {
		ok := false
		for _, code := range codes {
			ok = ok || len(got) > 0 && strings.HasPrefix(got[len(got)-1], fmt.Sprintf("DISCONNECT %02x", byte(code)))
		}
		if !ok {
			t.Errorf("%x: got %q, want DISCONNECT %02x", b, got, codes)
		}
	} else if len(got) > 0 {
		t.Errorf("%x: an MQTT 3.1.1 client is sent %q", b, got)
	}
	want(t, other.says("PINGREQ"), "PINGRESP") // nobody else notices
}

const malformed, protocolError = wire.MalformedPacket, wire.ProtocolError

func TestTrap01_truncated_subscribe(t *testing.T) {
	whole5 := wire.AppendSubscribe(nil, wire.V5, 1, 0, []wire.Filter{{Filter: "a/b"}})
	whole3 := wire.AppendSubscribe(nil, wire.V311, 1, 0, []wire.Filter{{Filter: "a/b"}})
	for _, x := range []struct {
		v wire.Version
		b []byte
	}{{wire.V5, whole5}, {wire.V311, whole3}} {
		for cut := 2; cut < len(x.b); cut++ {
			b := bytes.Clone(x.b[:cut])
			b[1] = byte(cut - 2)
			refusedRaw(t, x.v, b, malformed, protocolError)
		}
	}
}

func TestTrap02_will_delay_bounded_by_session_expiry(t *testing.T) {
	for _, x := range []struct {
		connect string
		at      time.Duration // when the will is there
	}{{"expiry=0 willdelay=5", 0}, {"expiry=3 willdelay=5", 3 * time.Second}, {"expiry=100 willdelay=5", 5 * time.Second}, {"willdelay=0 expiry=100", 0}} {
		n := trapNode(t)
		w := talkTo(t, n).open("CONNECT v5 id=w clean")
		w.says("SUBSCRIBE id=1 will/#:q1")
		talkTo(t, n).open("CONNECT v5 id=c will=will/c:gone " + x.connect).drop()
		n.run()
		if x.at > 0 {
			n.advance(x.at - 100*time.Millisecond)
			want(t, w.hears())
			n.advance(200 * time.Millisecond)
		}
		if got := w.hears(); len(got) != 1 || !strings.HasPrefix(got[0], "PUBLISH will/c gone q0") {
			t.Errorf("%s: %q at %v", x.connect, got, x.at)
		}
	}
}

func TestTrap03_will_delay_cancelled_on_resume_sent_on_takeover(t *testing.T) {
	const will = " will=will/c:gone willdelay=5"
	for _, x := range []struct {
		name, first, second string
		drop                bool
		sent                int // wills by the end
	}{
		{"resumed in time", "expiry=100" + will, "expiry=100", true, 0},
		{"taken over, resumed, with a delay", "expiry=100" + will, "expiry=100", false, 0},
		{"taken over with clean start", "expiry=100" + will, "expiry=100 clean", false, 1},
		{"taken over without a delay", "expiry=100 will=will/c:gone", "expiry=100", false, 1},
		{"clean start after the connection was lost", "expiry=100" + will, "expiry=100 clean", true, 1},
	} {
		t.Run(x.name, func(t *testing.T) {
			n := trapNode(t)
			w := talkTo(t, n).open("CONNECT v5 id=w clean")
			w.says("SUBSCRIBE id=1 will/#")
			c := talkTo(t, n).open("CONNECT v5 id=c " + x.first)
			if x.drop {
				c.drop()
				n.run()
				n.advance(2 * time.Second)
			}
			talkTo(t, n).open("CONNECT v5 id=c " + x.second)
			n.advance(20 * time.Second)
			if got := w.hears(); len(got) != x.sent {
				t.Errorf("%q, want %d", got, x.sent)
			}
		})
	}
}

func TestTrap04_disconnect_with_will(t *testing.T) {
	for text, sent := range map[string]int{"DISCONNECT": 0, "DISCONNECT 04": 1, "DISCONNECT 80": 1} {
		n := trapNode(t)
		w := talkTo(t, n).open("CONNECT v5 id=w clean")
		w.says("SUBSCRIBE id=1 will/#")
		talkTo(t, n).open("CONNECT v5 id=c clean will=will/c:gone").says(text)
		if got := w.hears(); len(got) != sent {
			t.Errorf("%s: %q", text, got)
		}
	}
}

func TestTrap05_will_properties(t *testing.T) {
	n := trapNode(t)
	w := talkTo(t, n).open("CONNECT v5 id=w clean")
	w.says("SUBSCRIBE id=1 will/#")
	talkTo(t, n).open("CONNECT v5 id=c expiry=100 will=will/c:gone willdelay=2 willexpiry=60 text type=text/plain reply=r/c corr=7 user=a:1 user=a:2").drop()
	n.run()
	n.advance(3 * time.Second)
	want(t, w.hears(), "PUBLISH will/c gone q0 expiry=60 text type=text/plain reply=r/c corr=7 user=a:1 user=a:2")
	// the delay is no property of PUBLISH: the decoder of the test would have refused it
}

func TestTrap06_empty_will_and_codes_of_3_1_1(t *testing.T) {
	for _, v := range []string{"v5", "v3.1.1", "v3.1"} {
		n := trapNode(t)
		w := talkTo(t, n).open("CONNECT v3.1.1 id=w clean")
		w.says("SUBSCRIBE id=1 will/#")
		talkTo(t, n).open("CONNECT " + v + ` id=c clean will=will/c`).drop()
		n.run()
		want(t, w.hears(), `PUBLISH will/c "" q0`)
	}
	n := trapNode(t)
	c := talkTo(t, n)
	b, err := packetOf(`CONNECT v3.1.1 id=""`, &c.version) // no client id and no clean session
	if err != nil {
		t.Fatal(err)
	}
	want(t, c.raw(b), "CONNACK 2") // a code of 3.1.1, not 0x85
}

func TestTrap07_session_expiry_absent_is_0(t *testing.T) {
	for _, drop := range []bool{true, false} {
		n := trapNode(t)
		c := talkTo(t, n).open("CONNECT v5 id=c")
		c.says("SUBSCRIBE id=1 a:q1")
		if drop {
			c.drop()
		} else {
			c.says("DISCONNECT")
		}
		n.run()
		want(t, talkTo(t, n).says("CONNECT v5 id=c"), v5Hello) // not present
	}
	n := trapNode(t)
	talkTo(t, n).open("CONNECT v5 id=c expiry=100").drop()
	n.run()
	want(t, talkTo(t, n).says("CONNECT v5 id=c expiry=100"), "CONNACK 00 present rmax=64 maxpkt=1048576 aliases=10")
}

func TestTrap08_session_expiry_raised_from_0(t *testing.T) {
	n := trapNode(t)
	c := talkTo(t, n).open("CONNECT v5 id=c")
	want(t, c.says("DISCONNECT expiry=10"), "DISCONNECT 82*")
	if !c.over() {
		t.Error("still open")
	}
	c = talkTo(t, n).open("CONNECT v5 id=d expiry=5")
	c.says("DISCONNECT expiry=100") // raised from another value is fine
	n.advance(50 * time.Second)
	want(t, talkTo(t, n).says("CONNECT v5 id=d expiry=100"), "CONNACK 00 present*")
	c = talkTo(t, n).open("CONNECT v5 id=e expiry=100")
	c.says("DISCONNECT expiry=0") // and so is 0
	want(t, talkTo(t, n).says("CONNECT v5 id=e expiry=100"), v5Hello)
}

func TestTrap09_message_expiry_counts_down_and_is_not_invented(t *testing.T) {
	n := trapNode(t)
	pub := talkTo(t, n).open("CONNECT v5 id=p clean")
	sleeper := talkTo(t, n).open("CONNECT v5 id=s expiry=1000")
	sleeper.says("SUBSCRIBE id=1 t/#:q1")
	sleeper.drop()
	n.run()
	for _, p := range []string{"t/none x q1 id=1", "t/some x q1 id=2 expiry=60", "t/short x q1 id=3 expiry=5", "t/kept x q1 id=4 retain expiry=60", "t/kept/none x q1 id=5 retain"} {
		pub.says("PUBLISH " + p)
	}
	n.advance(10 * time.Second)
	got := talkTo(t, n).says("CONNECT v5 id=s expiry=1000") // queued
	want(t, got[1:], "PUBLISH t/none x q1 id=1", "PUBLISH t/some x q1 id=2 expiry=50", "PUBLISH t/kept x q1 id=3 expiry=50", "PUBLISH t/kept/none x q1 id=4")
	fresh := talkTo(t, n).open("CONNECT v5 id=f clean") // retained
	got = fresh.says("SUBSCRIBE id=1 t/#")
	want(t, got, "SUBACK id=1 00", "PUBLISH t/kept x q0 retain expiry=50", "PUBLISH t/kept/none x q0 retain")
	// a will's: TestTrap05_will_properties
}

func TestTrap10_maximum_packet_size_of_the_client(t *testing.T) {
	n := trapNode(t)
	c := talkTo(t, n).open("CONNECT v5 id=c clean maxpkt=60")
	c.says("SUBSCRIBE id=1 t/#:q1")
	pub := talkTo(t, n).open("CONNECT v5 id=p clean")
	want(t, pub.says("PUBLISH t/a x*100 q1 id=1"), "PUBACK id=1 00") // its publisher is told success, not another thing
	want(t, c.hears())
	want(t, pub.says("PUBLISH t/a small q1 id=2"), "PUBACK id=2 00")
	want(t, c.hears(), "PUBLISH t/a small q1 id=1") // the flow goes on, and its window was not used up
	// reason strings: script 3.1.2-24_client_max_packet
	small := talkTo(t, n).open("CONNECT v5 id=d clean maxpkt=40")
	for _, x := range small.says("SUBSCRIBE id=1 $SYS/x ; PUBLISH $x/y z q1 id=9") {
		if len(x) > 200 {
			t.Errorf("%q", x)
		}
	}
}

func TestTrap11_receive_maximum_is_enforced(t *testing.T) {
	for _, qos := range []string{"q1", "q2"} {
		cfg := defaultSim()
		cfg.limits.Receive = 3
		n := newSimNode(t, cfg)
		target := &simTarget{name: "t1"}
		n.routes(&route.Route{Name: "t1", Topic: "t/#", Target: target, Ack: route.Upstream})
		c := talkTo(t, n).open("CONNECT v5 id=c clean")
		for i := range 3 {
			want(t, c.says(fmt.Sprintf("PUBLISH t/a x %s id=%d", qos, i+1)))
		}
		want(t, c.says("PUBLISH t/a x "+qos+" id=4"), "DISCONNECT 93*")
		if !c.over() {
			t.Error(qos, "still open")
		}
	}
	// with QoS 2 an event counts until PUBCOMP
	cfg := defaultSim()
	cfg.limits.Receive = 2
	n := newSimNode(t, cfg)
	c := talkTo(t, n).open("CONNECT v5 id=c clean")
	c.says("PUBLISH t/a x q2 id=1 ; PUBLISH t/a x q2 id=2")
	want(t, c.says("PUBREL id=1"), "PUBCOMP id=1 00")
	want(t, c.says("PUBLISH t/a x q2 id=3"), "PUBREC id=3 10")
	want(t, c.says("PUBLISH t/a x q2 id=4"), "DISCONNECT 93*")
}

func TestTrap12_pubrec_with_an_error_ends_the_flow(t *testing.T) {
	n := trapNode(t)
	c := talkTo(t, n).open("CONNECT v5 id=c clean rmax=1")
	c.says("SUBSCRIBE id=1 t/#:q2")
	pub := talkTo(t, n).open("CONNECT v5 id=p clean")
	pub.says("PUBLISH t/a one q2 id=1 ; PUBLISH t/a two q2 id=2")
	want(t, c.hears(), "PUBLISH t/a one q2 id=1")
	want(t, c.says("PUBREC id=1 97"), "PUBLISH t/a two q2 id=2") // no PUBREL; the quota is free
	want(t, c.says("PUBREC id=2"), "PUBREL id=2 00")
	want(t, c.says("PUBCOMP id=2"))
}

func TestTrap13_wrong_acknowledgement(t *testing.T) {
	for _, x := range [][2]string{{"q1", "PUBREC id=1"}, {"q2", "PUBACK id=1"}, {"q1", "PUBCOMP id=1"}, {"q2", "PUBCOMP id=1"}} {
		n := trapNode(t)
		c := talkTo(t, n).open("CONNECT v5 id=c clean")
		c.says("SUBSCRIBE id=1 t/#:" + x[0])
		talkTo(t, n).open("CONNECT v5 id=p clean").says("PUBLISH t/a one " + x[0] + " id=1")
		want(t, c.hears(), "PUBLISH t/a one "+x[0]+" id=1")
		if want(t, c.says(x[1]), "DISCONNECT 82*"); !c.over() {
			t.Errorf("%q: still open", x)
		}
	}
}

func TestTrap14_pubrel_of_an_unknown_id(t *testing.T) {
	n := trapNode(t)
	want(t, talkTo(t, n).open("CONNECT v5 id=a clean").says("PUBREL id=7"), "PUBCOMP id=7 00")
	want(t, talkTo(t, n).open("CONNECT v3.1.1 id=b clean").says("PUBREL id=7"), "PUBCOMP id=7")
	want(t, talkTo(t, n).open("CONNECT v5 id=c clean").says("PUBREC id=7"), "PUBREL id=7 00") // the exchange goes to its end
	// and PUBREC for what was just sent is never answered as unknown, also with a window of one
	c := talkTo(t, n).open("CONNECT v5 id=d clean rmax=1")
	c.says("SUBSCRIBE id=1 t/#:q2")
	talkTo(t, n).open("CONNECT v5 id=p clean").says("PUBLISH t/a 1 q2 id=1 ; PUBLISH t/a 2 q2 id=2 ; PUBLISH t/a 3 q2 id=3")
	for i := 1; i <= 3; i++ {
		want(t, c.hears(), fmt.Sprintf("PUBLISH t/a %d q2 id=%d", i, i))
		want(t, c.says(fmt.Sprintf("PUBREC id=%d", i)), fmt.Sprintf("PUBREL id=%d 00", i))
		c.send(wire.AppendAck(nil, wire.V5, wire.PUBCOMP, uint16(i), wire.Success, ""))
		n.run()
	}
}

func TestTrap15_exactly_once_across_connections(t *testing.T) {
	n := trapNode(t)
	const connect = "CONNECT v5 id=c expiry=100"
	c := talkTo(t, n).open(connect)
	c.says("SUBSCRIBE id=1 t/#:q2")
	pub := talkTo(t, n).open("CONNECT v5 id=p clean")
	pub.says("PUBLISH t/a 1 q2 id=1 ; PUBLISH t/a 2 q2 id=2 ; PUBLISH t/a 3 q1 id=3")
	want(t, c.hears(), "PUBLISH t/a 1 q2 id=1", "PUBLISH t/a 2 q2 id=2", "PUBLISH t/a 3 q1 id=3")
	want(t, c.says("PUBREC id=1"), "PUBREL id=1 00")
	c.drop()
	n.run()
	pub.says("PUBLISH t/a 4 q2 id=4") // queued
	c = talkTo(t, n)
	want(t, c.says(connect)[1:], "PUBREL id=1 00", "PUBLISH t/a 2 q2 id=2 dup", "PUBLISH t/a 3 q1 id=3 dup", "PUBLISH t/a 4 q2 id=4") // the last one is no redelivery
}

func TestTrap16_topic_aliases(t *testing.T) {
	for _, x := range []struct {
		send string
		want string
	}{
		{"PUBLISH a x alias=11", "DISCONNECT 94*"},           // above what CONNACK allowed
		{"PUBLISH \"\" x alias=3", "DISCONNECT 82*"},         // not known
		{"PUBLISH \"\" x", "DISCONNECT 82*"},                 // no topic at all
		{"30 07 00 01 61 03 23 00 00", "DISCONNECT 94*"},     // 0
		{"PUBLISH a x alias=1 ; PUBLISH \"\" y alias=1", ""}, // fine
	} {
		n := trapNode(t)
		c := talkTo(t, n).open("CONNECT v5 id=c clean")
		if x.want == "" {
			want(t, c.says(x.send))
		} else {
			want(t, c.says(x.send), x.want)
		}
	}
	// Resolved before anything else sees the event: other subscribers, queues, another connection.
	n := trapNode(t)
	sub := talkTo(t, n).open("CONNECT v5 id=s clean")
	sub.says("SUBSCRIBE id=1 t/#")
	sleeper := talkTo(t, n).open("CONNECT v5 id=z expiry=100")
	sleeper.says("SUBSCRIBE id=1 t/#:q1")
	sleeper.drop()
	n.run()
	c := talkTo(t, n).open("CONNECT v5 id=c expiry=100")
	c.says(`PUBLISH t/a 1 q1 id=1 alias=1 ; PUBLISH "" 2 q1 id=2 alias=1 ; PUBLISH t/b 3 q1 id=3 alias=1 ; PUBLISH "" 4 q1 id=4 alias=1`)
	want(t, sub.hears(), "PUBLISH t/a 1 q0", "PUBLISH t/a 2 q0", "PUBLISH t/b 3 q0", "PUBLISH t/b 4 q0")
	want(t, talkTo(t, n).says("CONNECT v5 id=z expiry=100")[1:], "PUBLISH t/a 1 q1 id=1", "PUBLISH t/a 2 q1 id=2", "PUBLISH t/b 3 q1 id=3", "PUBLISH t/b 4 q1 id=4")
	c.drop()
	n.run()
	c = talkTo(t, n).open("CONNECT v5 id=c expiry=100") // an alias belongs to its connection, not to the session
	want(t, c.says(`PUBLISH "" 5 q1 id=5 alias=1`), "DISCONNECT 82*")
}
