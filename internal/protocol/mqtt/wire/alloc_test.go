package wire

import (
	"bytes"
	"testing"
)

// benchPublish is the packet that the codecs of section 4 of the reference were measured with: QoS 1, 128 bytes of
// payload, a topic of 43 bytes, a content type and one user property.
func benchPublish() PublishOut {
	meta := []byte("\x03\x00\x10application/json\x26\x00\x06tenant\x00\x04acme")
	return PublishOut{
		Version: V5, Topic: []byte("site/berlin/building-7/pump-0042/state/flow"), Payload: bytes.Repeat([]byte("x"), 128),
		Meta: meta, PacketID: 7, QoS: 1,
	}
}

// Nothing on the way of an event allocates, and neither does a refusal.
func TestNoAllocations(t *testing.T) {
	p := benchPublish()
	packet := AppendPublish(nil, &p)
	first := packet[0]
	p.HasExpiry, p.Alias = true, 2
	scattered := "26" + str("k") + str("v") + "0200000001" + "26" + str("k") + str("v") + "0b01"
	scatteredBody := raw(t, str("t")+length(scattered)+scattered)
	_, connect, _, _ := Next(AppendConnect(nil, full()), 0)
	_, sub, _, _ := Next(AppendSubscribe(nil, V5, 1, 5, []Filter{{"a/#", SubOptions{QoS: 1}}, {"$share/g/b", SubOptions{}}}), 0)
	_, connack, _, _ := Next(AppendConnack(nil, V5, true, Success, &ConnackProps{ReceiveMax: 5, AssignedClientID: []byte("x")}), 0)
	ack := []byte{0, 1, 0x10, 0}
	bad := raw(t, str("a/#")+"00")
	dst := make([]byte, 0, 4096)
	var d Decoder
	var pub Publish
	var con Connect
	var s Subscribe
	var a Ack
	var ca Connack
	check := func(name string, f func()) {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	check("Next and Publish", func() {
		if _, b, _, err := Next(packet, 1<<20); err != nil || CheckFlags(first) != nil || d.Publish(V5, first, b, &pub) != nil {
			t.Fatal("refused")
		}
	})
	check("Publish with scattered properties", func() {
		if d.Publish(V5, 0x30, scatteredBody, &pub) != nil || len(pub.Meta) != 14 {
			t.Fatal("refused")
		}
	})
	check("a refusal", func() {
		if d.Publish(V5, 0x30, bad, &pub) == nil || CheckFlags(0x36) == nil {
			t.Fatal("taken")
		}
	})
	check("Connect", func() {
		if d.Connect(connect, &con) != nil {
			t.Fatal("refused")
		}
	})
	check("Connack", func() {
		if d.Connack(V5, connack, &ca) != nil {
			t.Fatal("refused")
		}
	})
	check("Subscribe", func() {
		if d.Subscribe(V5, sub, &s) != nil {
			t.Fatal("refused")
		}
		for _, _, ok := s.Next(); ok; _, _, ok = s.Next() {
		}
	})
	check("Ack", func() {
		if d.Ack(V5, PUBACK, ack, &a) != nil {
			t.Fatal("refused")
		}
	})
	check("appending", func() {
		b := AppendPublish(dst, &p)
		b = AppendAck(b, V5, PUBREC, 1, NotAuthorized, "no")
		b = AppendSuback(b, V5, 1, bad[:2])
		b = AppendConnack(b, V5, false, Success, &ca.ConnackProps)
		b = AppendConnect(b, &con)
		b = AppendDisconnect(b, V5, ServerBusy, &DisconnectProps{ReasonString: bad})
		AppendPingresp(b)
	})
}

func BenchmarkPublishDecode(b *testing.B) {
	p := benchPublish()
	packet := AppendPublish(nil, &p)
	var d Decoder
	var pub Publish
	b.ReportAllocs()
	for b.Loop() {
		first, body, _, err := Next(packet, 1<<20)
		if err != nil || CheckFlags(first) != nil || d.Publish(V5, first, body, &pub) != nil {
			b.Fatal("refused")
		}
	}
}

func BenchmarkPublishDecode311(b *testing.B) {
	p := benchPublish()
	p.Version = V311
	packet := AppendPublish(nil, &p)
	var d Decoder
	var pub Publish
	b.ReportAllocs()
	for b.Loop() {
		first, body, _, err := Next(packet, 1<<20)
		if err != nil || CheckFlags(first) != nil || d.Publish(V311, first, body, &pub) != nil {
			b.Fatal("refused")
		}
	}
}

func BenchmarkPublishEncode(b *testing.B) {
	p := benchPublish()
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if len(AppendPublish(dst, &p)) == 0 {
			b.Fatal("nothing appended")
		}
	}
}

func BenchmarkPublishPatch(b *testing.B) {
	p := benchPublish()
	packet := AppendPublish(nil, &p)
	dst := make([]byte, len(packet))
	b.ReportAllocs()
	for b.Loop() {
		copy(dst, packet)
		PatchPublish(dst, 9, false)
	}
}
