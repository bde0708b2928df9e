package wire

import (
	"bytes"
	"strings"
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
)

// MQTT 5 section 3.3.
func TestPublishRefused(t *testing.T) {
	topic := str("a/b")
	for _, c := range []struct {
		name  string
		v     Version
		first byte
		in    string
		want  Reason
	}{
		{"nothing", V311, 0x30, "", MalformedPacket},
		{"topic cut", V311, 0x30, "0005 61", MalformedPacket},
		{"topic empty", V311, 0x30, "0000", ProtocolError},
		{"topic empty without alias [MQTT-3.3.2-8]", V5, 0x30, "0000 00", ProtocolError},
		{"topic with + [MQTT-3.3.2-2]", V311, 0x30, str("a/+"), TopicNameInvalid},
		{"topic with #", V5, 0x30, str("aaaaaaaa#aaaaaaaa") + "00", TopicNameInvalid},
		{"wildcard in non-ASCII", V5, 0x30, str("é/#") + "00", TopicNameInvalid},
		{"topic with NUL [MQTT-1.5.4-2]", V311, 0x30, str("a\x00"), MalformedPacket},
		{"topic with a surrogate [MQTT-1.5.4-1]", V311, 0x30, str("a\xed\xa0\x80"), MalformedPacket},
		{"topic with DEL", V311, 0x30, str("aaaaaaaaaaaaaaaaaaaa\x7f"), MalformedPacket},
		{"packet id missing", V311, 0x32, topic, MalformedPacket},
		{"packet id 0 [MQTT-2.2.1-2]", V311, 0x32, topic + "0000", ProtocolError},
		{"packet id 0 in 5", V5, 0x34, topic + "0000 00", ProtocolError},
		{"properties missing", V5, 0x30, topic, MalformedPacket},
		{"properties longer than the packet", V5, 0x30, topic + "05 0101", MalformedPacket},
		{"property length overlong", V5, 0x30, topic + "8000", MalformedPacket},
		{"property length of five bytes", V5, 0x30, topic + "8080808001", MalformedPacket},
		{"payload format 2", V5, 0x30, topic + "02 0102", ProtocolError},
		{"payload not as announced [3.3.2.3.2]", V5, 0x30, topic + "02 0101 fffe", PayloadFormatInvalid},
		{"payload format twice", V5, 0x30, topic + "04 0101 0100", ProtocolError},
		{"expiry twice", V5, 0x30, topic + "0a 0200000001 0200000001", ProtocolError},
		{"alias twice", V5, 0x30, topic + "06 230001 230002", ProtocolError},
		{"alias 0 [MQTT-3.3.2-8]", V5, 0x30, topic + "03 230000", TopicAliasInvalid},
		{"content type twice", V5, 0x30, topic + "08 03000161 03000161", ProtocolError},
		{"content type not UTF-8", V5, 0x30, topic + "04 030001ff", MalformedPacket},
		{"user property's name not UTF-8 [MQTT-1.5.7-1]", V5, 0x30, topic + "07 260001ff000161", MalformedPacket},
		{"user property's value not UTF-8 [MQTT-1.5.7-1]", V5, 0x30, topic + "07 260001610001ff", MalformedPacket},
		{"response topic with wildcard [MQTT-3.3.2-14]", V5, 0x30, topic + "04 08000123", ProtocolError},
		{"response topic empty", V5, 0x30, topic + "03 080000", ProtocolError},
		{"response topic twice", V5, 0x30, topic + "08 08000161 08000161", ProtocolError},
		{"correlation twice", V5, 0x30, topic + "06 090000 090000", ProtocolError},
		{"user property without value", V5, 0x30, topic + "04 26000161", MalformedPacket},
		{"user property without key", V5, 0x30, topic + "01 26", MalformedPacket},
		{"user property with bad value", V5, 0x30, topic + "07 26000161000100", MalformedPacket},
		{"subscription id 0", V5, 0x30, topic + "02 0b00", ProtocolError},
		{"subscription id overlong", V5, 0x30, topic + "03 0b8000", MalformedPacket},
		{"subscription id of five bytes", V5, 0x30, topic + "06 0b8080808001", MalformedPacket},
		{"subscription id cut", V5, 0x30, topic + "02 0b80", MalformedPacket},
		{"subscription id twice from a client", V5, 0x30, topic + "04 0b01 0b02", ProtocolError},
		{"session expiry", V5, 0x30, topic + "05 1100000001", ProtocolError},
		{"identifier 0", V5, 0x30, topic + "02 0000", MalformedPacket},
		{"identifier 0x7f", V5, 0x30, topic + "02 7f00", MalformedPacket},
		{"identifier 0xff", V5, 0x30, topic + "02 ff7f", MalformedPacket},
		{"expiry cut", V5, 0x30, topic + "04 02000000", MalformedPacket},
		{"alias cut", V5, 0x30, topic + "02 2300", MalformedPacket},
		{"string cut", V5, 0x30, topic + "03 030005", MalformedPacket},
		{"binary cut", V5, 0x30, topic + "03 090001", MalformedPacket},
		{"byte cut", V5, 0x30, topic + "01 01", MalformedPacket},
	} {
		var d Decoder
		var p Publish
		if got := code(t, d.Publish(c.v, c.first, raw(t, c.in), &p)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestPublishTaken(t *testing.T) {
	var d Decoder
	var p Publish
	if err := d.Publish(V311, 0x3b, raw(t, str("a/b")+"1234"+"0102"), &p); err != nil || string(p.Topic) != "a/b" ||
		!p.Dup || p.QoS != 1 || !p.Retain || p.PacketID != 0x1234 || !bytes.Equal(p.Payload, []byte{1, 2}) {
		t.Errorf("3.1.1: %v %+v", err, p)
	}
	if err := d.Publish(V5, 0x30, raw(t, "0000 03 230007"), &p); err != nil || !p.HasAlias || p.Alias != 7 ||
		len(p.Topic) != 0 || len(p.Payload) != 0 {
		t.Errorf("alias for a topic: %v %+v", err, p)
	}
	if err := d.Publish(V5, 0x30, raw(t, str("$x/ü𝛑")+"02 0b05"), &p); err != nil || len(p.SubIDs) != 1 || len(p.Meta) != 0 {
		t.Errorf("one subscription identifier is tolerated: %v %+v", err, p)
	}
	d.Client = true
	if err := d.Publish(V5, 0x30, raw(t, str("t")+"09 0b05 0bffffff7f 0b7f"+"61"), &p); err != nil || len(p.SubIDs) != 3 ||
		p.SubIDs[1] != 268435455 || string(p.Payload) != "a" {
		t.Errorf("subscription identifiers from a server: %v %+v", err, p)
	}
}

// Meta is a slice of the packet while what travels on lies side by side, and a copy otherwise; the order is kept.
func TestPublishMeta(t *testing.T) {
	ct, pf, up1, up2 := "03"+str("a/b"), "0101", "26"+str("k")+str("v"), "26"+str("k")+str("w")
	expiry, alias := "0200000009", "230003"
	for _, c := range []struct {
		name, props, meta string
		copied            bool
	}{
		{"nothing", "", "", false},
		{"only what stays", expiry + alias, "", false},
		{"only what travels", ct + up1 + pf + up2, ct + up1 + pf + up2, false},
		{"at the end", expiry + alias + up1 + ct, up1 + ct, false},
		{"at the start", up1 + ct + expiry, up1 + ct, false},
		{"in the middle", expiry + up1 + up2 + alias, up1 + up2, false},
		{"scattered", up1 + expiry + up2 + alias + ct + pf, up1 + up2 + ct + pf, true},
	} {
		in := raw(t, str("t")+length(c.props)+c.props+"68")
		before := bytes.Clone(in)
		var d Decoder
		var p Publish
		if err := d.Publish(V5, 0x30, in, &p); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !bytes.Equal(p.Meta, raw(t, c.meta)) || string(p.Payload) != "h" {
			t.Errorf("%s: meta %x, want %s", c.name, p.Meta, c.meta)
		}
		if copied := len(d.scratch) > 0; copied != c.copied {
			t.Errorf("%s: copied %v", c.name, copied)
		}
		if cap(p.Meta) != len(p.Meta) || !bytes.Equal(in, before) {
			t.Errorf("%s: who appends to meta would write over the packet", c.name)
		}
		for m := p.Meta; len(m) > 0; {
			var ok bool
			if _, m, ok = event.NextMeta(m); !ok {
				t.Errorf("%s: event cannot read meta", c.name)
				break
			}
		}
	}
}

func TestPublishRoundTrip(t *testing.T) {
	for _, p := range []PublishOut{
		{Version: V311, Topic: []byte("t")},
		{Version: V31, Topic: []byte("t/t"), QoS: 2, PacketID: 65535, Dup: true, Retain: true, Payload: []byte("x")},
		{Version: V5, Topic: []byte("t"), Payload: bytes.Repeat([]byte("x"), 300)},
		{Version: V5, Alias: 3, QoS: 1, PacketID: 1, Expiry: 0, HasExpiry: true, SubIDs: []uint32{1, 128, 268435455},
			Meta: bytes.Repeat([]byte("\x26\x00\x01k\x00\x01v"), 40), Payload: []byte("y")},
	} {
		b := AppendPublish([]byte{1}, &p)[1:]
		first, body, n, err := Next(b, 0)
		if err != nil || n != len(b) || n != PublishSize(&p) || CheckFlagsOf(p.Version, first) != nil {
			t.Fatalf("%+v: appended %d bytes, size says %d: %v", p, n, PublishSize(&p), err)
		}
		d := Decoder{Client: true}
		var got Publish
		err = d.Publish(p.Version, first, body, &got)
		want := Publish{Topic: p.Topic, Payload: p.Payload, Meta: p.Meta, PacketID: p.PacketID, QoS: p.QoS, Dup: p.Dup,
			Retain: p.Retain, Expiry: p.Expiry, HasExpiry: p.HasExpiry, Alias: p.Alias, HasAlias: p.Alias != 0, SubIDs: p.SubIDs}
		if err != nil || !same(want, got) {
			t.Errorf("%v: read back\n%+v, want\n%+v", err, got, want)
		}
	}
}

// QoS 0 has neither DUP nor a packet identifier, whatever the caller left in the fields.
func TestAppendPublishQoS0(t *testing.T) {
	b := AppendPublish(nil, &PublishOut{Version: V311, Topic: []byte("t"), Dup: true, PacketID: 7})
	if !bytes.Equal(b, []byte{0x30, 3, 0, 1, 't'}) {
		t.Errorf("appended %x", b)
	}
}

// A packet that the protocol cannot express is left out whole.
func TestAppendPublishTooLong(t *testing.T) {
	p := PublishOut{Version: V5, Topic: bytes.Repeat([]byte("t"), 65536)}
	if b := AppendPublish([]byte("x"), &p); string(b) != "x" {
		t.Errorf("appended %d bytes", len(b)-1)
	}
}

func TestPatchPublish(t *testing.T) {
	for _, size := range []int{0, 200, 20000} {
		p := PublishOut{Version: V5, Topic: []byte("a/b"), QoS: 1, PacketID: 1, Payload: make([]byte, size)}
		b := AppendPublish(nil, &p)
		p.PacketID, p.Dup = 0xabcd, true
		if PatchPublish(b, 0xabcd, true); !bytes.Equal(b, AppendPublish(nil, &p)) {
			t.Errorf("payload %d: patched packet is not what appending gives", size)
		}
	}
}

// The quick check never lets pass what the full one refuses.
func FuzzTopic(f *testing.F) {
	for _, s := range []string{"", "a/b/c", "a/b/c/d/e", "1234567#", "12345678+", "1234567\x1f", "\x7f2345678", "ÿ2345678", "a\x80aaaaaaa"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > event.MaxTopic {
			return
		}
		if validTopic(b) != event.ValidTopic(b) {
			t.Errorf("validTopic(%q) = %v, event says %v", b, validTopic(b), event.ValidTopic(b))
		}
		if plainTopic(b) && bytes.ContainsAny(b, "+#") {
			t.Errorf("%q is plain", b)
		}
		_, err := checkFilter(b)
		if _, _, _, ok := event.SplitShared(b); ok != (err == nil) {
			t.Errorf("checkFilter(%q) = %v", b, err)
		}
	})
}

// Every byte in every place of a word is judged as the slow way judges it.
func TestPlainTopic(t *testing.T) {
	for n := 1; n < 20; n++ {
		for at := range n {
			for c := range 128 {
				b := []byte(strings.Repeat("a", n))
				b[at] = byte(c)
				want := c >= 0x20 && c < 0x7f && c != '+' && c != '#'
				if plainTopic(b) != want {
					t.Fatalf("plainTopic(%q) = %v", b, !want)
				}
			}
		}
	}
}
