package wire

import (
	"bytes"
	"strings"
	"testing"
)

// MQTT 5 sections 3.4 to 3.7.
func TestAck(t *testing.T) {
	for _, c := range []struct {
		name string
		v    Version
		k    Kind
		in   string
		want Reason // of the refusal
		code Reason // of the packet
	}{
		{"3.1.1", V311, PUBACK, "0001", 0, Success},
		{"3.1.1 too long", V311, PUBACK, "0001 00", MalformedPacket, 0},
		{"3.1.1 too short", V311, PUBREC, "01", MalformedPacket, 0},
		{"id 0", V311, PUBREL, "0000", ProtocolError, 0},
		{"5 short", V5, PUBACK, "0001", 0, Success},
		{"5 with reason", V5, PUBACK, "0001 10", 0, NoMatchingSubscribers},
		{"5 with reason and no properties", V5, PUBREC, "0001 97 00", 0, QuotaExceeded},
		{"5 with reason string", V5, PUBREC, "0001 87 04 1f000161", 0, NotAuthorized},
		{"PUBREL not found", V5, PUBREL, "0001 92", 0, PacketIDNotFound},
		{"PUBREL with a code of PUBACK", V5, PUBREL, "0001 87", ProtocolError, PacketIDNotFound},
		{"PUBACK with a code of PUBREL", V5, PUBACK, "0001 92", ProtocolError, 0},
		{"unknown code", V5, PUBCOMP, "0001 ff", ProtocolError, 0},
		{"property cut", V5, PUBCOMP, "0001 00 01", MalformedPacket, 0},
		{"bytes behind the properties", V5, PUBACK, "0001 00 00 00", MalformedPacket, 0},
		{"reason string twice", V5, PUBACK, "0001 00 08 1f000161 1f000161", ProtocolError, 0},
		{"property of another packet", V5, PUBACK, "0001 00 03 230001", ProtocolError, 0},
	} {
		var d Decoder
		var a Ack
		got := code(t, d.Ack(c.v, c.k, raw(t, c.in), &a))
		if got != c.want || got == Success && (a.PacketID != 1 || a.Reason != c.code) {
			t.Errorf("%s: %v, want %v; %+v", c.name, got, c.want, a)
		}
	}
}

func TestAckRoundTrip(t *testing.T) {
	for _, v := range []Version{V31, V311, V5} {
		for k := PUBACK; k <= PUBCOMP; k++ {
			for _, r := range []Reason{Success, PacketIDNotFound, NotAuthorized} {
				for _, text := range []string{"", "why", strings.Repeat("y", 300)} {
					if !okAck(k, r) {
						continue
					}
					b := AppendAck([]byte{9}, v, k, 0x1234, r, text)[1:]
					first, body, n, err := Next(b, 0)
					if err != nil || n != len(b) || CheckFlags(first) != nil || KindOf(first) != k {
						t.Fatalf("%v %v %v: %x: %v", v, k, r, b, err)
					}
					want := Ack{PacketID: 0x1234}
					if v == V5 {
						want.Reason, want.ReasonString = r, []byte(text)
					}
					var d Decoder
					var a Ack
					if err := d.Ack(v, k, body, &a); err != nil || !same(a, want) {
						t.Errorf("%v %v %v: %+v, %v", v, k, r, a, err)
					}
					if v != V5 && len(b) != 4 || r == Success && text == "" && len(b) != 4 {
						t.Errorf("%v %v: %d bytes", v, k, len(b))
					}
				}
			}
		}
	}
	if b := AppendAck(nil, V5, PUBACK, 1, NotAuthorized, strings.Repeat("x", 65536)); len(b) != 5 {
		t.Errorf("a reason string that does not fit is left out, got %d bytes", len(b))
	}
}

// MQTT 5 section 3.8, 3.1.1 section 3.8.
func TestSubscribeRefused(t *testing.T) {
	f := str("a")
	for _, c := range []struct {
		name string
		v    Version
		in   string
		want Reason
	}{
		{"nothing", V311, "", MalformedPacket},
		{"id 0", V311, "0000" + f + "00", ProtocolError},
		{"no filter [MQTT-3.8.3-2]", V311, "0001", ProtocolError},
		{"no filter in 5", V5, "0001 00", ProtocolError},
		{"no properties", V5, "0001", MalformedPacket},
		{"options missing", V311, "0001" + f, MalformedPacket},
		{"options of the second missing", V311, "0001" + f + "00" + f, MalformedPacket},
		{"filter cut", V311, "0001 0009 61", MalformedPacket},
		{"filter empty", V311, "0001 0000 00", MalformedPacket},
		{"filter not UTF-8", V311, "0001" + str("\xff") + "00", MalformedPacket},
		{"# not last", V311, "0001" + str("a/#/b") + "00", TopicFilterInvalid},
		{"# in a level", V5, "0001 00" + str("a#") + "00", TopicFilterInvalid},
		{"+ in a level", V5, "0001 00" + str("a/b+") + "00", TopicFilterInvalid},
		{"qos 3", V311, "0001" + f + "03", MalformedPacket},
		{"qos 3 in 5", V5, "0001 00" + f + "03", MalformedPacket},
		{"no local in 3.1.1", V311, "0001" + f + "04", MalformedPacket},
		{"reserved bits", V5, "0001 00" + f + "40", MalformedPacket},
		{"retain handling 3", V5, "0001 00" + f + "30", MalformedPacket},
		{"shared with no local [MQTT-3.8.3-4]", V5, "0001 00" + str("$share/g/a") + "04", ProtocolError},
		{"shared without group", V5, "0001 00" + str("$share//a") + "00", ProtocolError},
		{"shared without filter", V5, "0001 00" + str("$share/g") + "00", ProtocolError},
		{"shared with empty filter", V5, "0001 00" + str("$share/g/") + "00", ProtocolError},
		{"wildcard in the group [MQTT-4.8.2-2]", V5, "0001 00" + str("$share/+/a") + "00", ProtocolError},
		{"subscription id 0", V5, "0001 02 0b00" + f + "00", ProtocolError},
		{"subscription id twice", V5, "0001 04 0b01 0b01" + f + "00", ProtocolError},
		{"reason string", V5, "0001 04 1f000161" + f + "00", ProtocolError},
	} {
		var d Decoder
		var s Subscribe
		if got := code(t, d.Subscribe(c.v, raw(t, c.in), &s)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestSubscribeRoundTrip(t *testing.T) {
	filters := []Filter{
		{"#", SubOptions{QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2}},
		{"$share/g/+/a", SubOptions{QoS: 1, RetainHandling: 1}},
		{"$share", SubOptions{}},
		{"/", SubOptions{}},
	}
	for _, v := range []Version{V31, V311, V5} {
		for _, id := range []uint32{0, 1, 300, 268435455} {
			b := AppendSubscribe([]byte{7}, v, 0x102, id, filters)[1:]
			first, body, n, err := Next(b, 0)
			if err != nil || n != len(b) || CheckFlags(first) != nil {
				t.Fatalf("%v: %x: %v", v, b, err)
			}
			var d Decoder
			var s Subscribe
			if err := d.Subscribe(v, body, &s); err != nil || s.PacketID != 0x102 || s.Filters != len(filters) ||
				v == V5 && s.SubID != id || v != V5 && s.SubID != 0 {
				t.Fatalf("%v: %v %+v", v, err, s)
			}
			for _, want := range filters {
				filter, o, ok := s.Next()
				if v != V5 {
					want.SubOptions = SubOptions{QoS: want.QoS}
				}
				if !ok || string(filter) != want.Filter || o != want.SubOptions {
					t.Errorf("%v: %q %+v, want %+v", v, filter, o, want)
				}
			}
			if _, _, ok := s.Next(); ok {
				t.Error("more filters than were sent")
			}
		}
	}
}

// MQTT 5 section 3.10.
func TestUnsubscribe(t *testing.T) {
	for _, c := range []struct {
		name string
		v    Version
		in   string
		want Reason
	}{
		{"nothing", V311, "", MalformedPacket},
		{"id 0", V5, "0000 00" + str("a"), ProtocolError},
		{"no filter [MQTT-3.10.3-2]", V311, "0001", ProtocolError},
		{"no properties", V5, "0001", MalformedPacket},
		{"filter cut", V311, "0001 0002 61", MalformedPacket},
		{"filter empty", V311, "0001 0000", MalformedPacket},
		{"filter wrong", V311, "0001" + str("a/#/"), TopicFilterInvalid},
		{"property of another packet", V5, "0001 02 0b01" + str("a"), ProtocolError},
		{"user property", V5, "0001 07 26000161000162" + str("a"), Success},
	} {
		var d Decoder
		var u Unsubscribe
		if got := code(t, d.Unsubscribe(c.v, raw(t, c.in), &u)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	for _, v := range []Version{V311, V5} {
		_, body, _, _ := Next(AppendUnsubscribe(nil, v, 5, []string{"a/+", "b"}), 0)
		var d Decoder
		var u Unsubscribe
		if err := d.Unsubscribe(v, body, &u); err != nil || u.PacketID != 5 || u.Filters != 2 {
			t.Fatalf("%v: %v %+v", v, err, u)
		}
		a, _ := u.Next()
		b, _ := u.Next()
		if _, more := u.Next(); more || string(a) != "a/+" || string(b) != "b" {
			t.Errorf("%v: %q %q %v", v, a, b, more)
		}
	}
}

// MQTT 5 sections 3.9 and 3.11.
func TestSuback(t *testing.T) {
	for _, c := range []struct {
		name string
		v    Version
		un   bool
		in   string
		want Reason
	}{
		{"3.1.1", V311, false, "0001 00010280", Success},
		{"3.1.1 unknown code", V311, false, "0001 03", ProtocolError},
		{"no code", V311, false, "0001", MalformedPacket},
		{"id 0", V311, false, "0000 00", ProtocolError},
		{"5", V5, false, "0001 04 1f000161 0087", Success},
		{"5 without properties", V5, false, "0001", MalformedPacket},
		{"5 unknown code", V5, false, "0001 00 11", ProtocolError},
		{"5 no code", V5, false, "0001 00", MalformedPacket},
		{"3.1.1 UNSUBACK", V311, true, "0001", Success},
		{"3.1.1 UNSUBACK with codes", V311, true, "0001 00", MalformedPacket},
		{"3.1.1 UNSUBACK short", V311, true, "00", MalformedPacket},
		{"5 UNSUBACK", V5, true, "0001 00 0011", Success},
		{"5 UNSUBACK unknown code", V5, true, "0001 00 01", ProtocolError},
		{"5 UNSUBACK no code", V5, true, "0001 00", MalformedPacket},
	} {
		d := Decoder{Client: true}
		var s Suback
		decode := d.Suback
		if c.un {
			decode = d.Unsuback
		}
		if got := code(t, decode(c.v, raw(t, c.in), &s)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	codes := []byte{0, 2, 0x87}
	if b := AppendSuback(nil, V311, 1, codes); !bytes.Equal(b, []byte{0x90, 5, 0, 1, 0, 2, 0x80}) {
		t.Errorf("3.1.1 SUBACK %x", b)
	}
	if b := AppendSuback(nil, V5, 1, codes); !bytes.Equal(b, []byte{0x90, 6, 0, 1, 0, 0, 2, 0x87}) {
		t.Errorf("5 SUBACK %x", b)
	}
	if b := AppendUnsuback(nil, V311, 1, codes); !bytes.Equal(b, []byte{0xb0, 2, 0, 1}) {
		t.Errorf("3.1.1 UNSUBACK %x", b)
	}
	if b := AppendUnsuback(nil, V5, 1, []byte{0, 0x11}); !bytes.Equal(b, []byte{0xb0, 5, 0, 1, 0, 0, 0x11}) {
		t.Errorf("5 UNSUBACK %x", b)
	}
}

// MQTT 5 section 3.2.
func TestConnack(t *testing.T) {
	for _, c := range []struct {
		name string
		v    Version
		in   string
		want Reason
	}{
		{"short", V311, "00", MalformedPacket},
		{"reserved flags", V311, "02 00", MalformedPacket},
		{"unknown code", V311, "00 06", ProtocolError},
		{"too long", V311, "00 00 00", MalformedPacket},
		{"session with a refusal [MQTT-3.2.2-4]", V311, "01 05", ProtocolError},
		{"no properties", V5, "00 00", MalformedPacket},
		{"unknown code in 5", V5, "00 01 00", ProtocolError},
		{"bytes behind the properties", V5, "00 00 00 00", MalformedPacket},
		{"maximum QoS 2", V5, "00 00 02 2402", ProtocolError},
		{"maximum QoS twice", V5, "00 00 04 2400 2401", ProtocolError},
		{"property of another packet", V5, "00 00 02 0b01", ProtocolError},
	} {
		d := Decoder{Client: true}
		var a Connack
		if got := code(t, d.Connack(c.v, raw(t, c.in), &a)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	all := ConnackProps{
		SessionExpiry: 7, HasSessionExpiry: true, ReceiveMax: 9, MaximumQoS: 1, HasMaximumQoS: true, HasRetainAvailable: true,
		MaxPacket: 1000, AssignedClientID: []byte("id"), TopicAliasMax: 4, ReasonString: []byte("why"),
		UserProps: []byte("\x26\x00\x01k\x00\x01v"), ServerKeepAlive: 0, HasServerKeepAlive: true, ResponseInfo: []byte("r/"),
		ServerReference: []byte("other:1883"), AuthMethod: []byte("m"), HasAuthMethod: true, AuthData: []byte{1},
		WildcardSubAvail: true, HasWildcardSubAvail: true, HasSubIDAvail: true, SharedSubAvail: true, HasSharedSubAvail: true,
	}
	for _, c := range []struct {
		v       Version
		present bool
		r       Reason
		p       *ConnackProps
		want    Connack
	}{
		{V5, true, Success, &all, Connack{SessionPresent: true, ConnackProps: all}},
		{V5, true, NotAuthorized, nil, Connack{Reason: NotAuthorized}},
		{V311, true, Success, &all, Connack{SessionPresent: true}},
		{V31, true, Success, nil, Connack{}},
		{V311, true, Banned, nil, Connack{Reason: NotAuthorized}},
		{V311, false, ServerMoved, nil, Connack{Reason: ServerUnavailable}},
		{V311, false, ClientIDNotValid, nil, Connack{Reason: ClientIDNotValid}},
		{V311, false, UnsupportedVersion, nil, Connack{Reason: UnsupportedVersion}},
		{V311, false, BadUserNameOrPassword, nil, Connack{Reason: BadUserNameOrPassword}},
	} {
		_, body, n, err := Next(AppendConnack(nil, c.v, c.present, c.r, c.p), 0)
		if n == 0 || err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		d := Decoder{Client: true}
		var got Connack
		if err := d.Connack(c.v, body, &got); err != nil || !same(got, c.want) {
			t.Errorf("%v: read back\n%+v, want\n%+v", err, got, c.want)
		}
	}
	// Maximum QoS 2 is said by leaving the property out.
	if b := AppendConnack(nil, V5, false, Success, &ConnackProps{MaximumQoS: 2, HasMaximumQoS: true}); len(b) != 5 {
		t.Errorf("CONNACK with maximum QoS 2: %x", b)
	}
}

// MQTT 5 section 3.14.
func TestDisconnect(t *testing.T) {
	for _, c := range []struct {
		name   string
		v      Version
		client bool
		in     string
		want   Reason
		code   Reason
	}{
		{"3.1.1", V311, false, "", Success, Success},
		{"3.1.1 with a body", V311, false, "00", MalformedPacket, 0},
		{"5 empty", V5, false, "", Success, Success},
		{"5 with will", V5, false, "04", Success, DisconnectWithWill},
		{"5 with will from a server", V5, true, "04", ProtocolError, 0},
		{"5 server code from a client", V5, false, "8e", ProtocolError, 0},
		{"5 server code", V5, true, "8e 00", Success, SessionTakenOver},
		{"unknown code", V5, false, "05", ProtocolError, 0},
		{"session expiry", V5, false, "00 05 1100000001", Success, Success},
		{"session expiry from a server [MQTT-3.14.2-2]", V5, true, "00 05 1100000001", ProtocolError, 0},
		{"session expiry twice", V5, false, "00 0a 1100000001 1100000001", ProtocolError, 0},
		{"session expiry cut", V5, false, "00 04 11000000", MalformedPacket, 0},
		{"server reference from a client", V5, false, "00 04 1c000161", ProtocolError, 0},
		{"server reference", V5, true, "9d 04 1c000161", Success, ServerMoved},
		{"reason string and user property", V5, false, "82 0b 1f000161 26000161000162", Success, ProtocolError},
		{"property length wrong", V5, false, "00 01", MalformedPacket, 0},
		{"bytes behind", V5, false, "00 00 00", MalformedPacket, 0},
		{"alias", V5, false, "00 03 230001", ProtocolError, 0},
	} {
		d := Decoder{Client: c.client}
		var p Disconnect
		got := code(t, d.Disconnect(c.v, raw(t, c.in), &p))
		if got != c.want || got == Success && p.Reason != c.code {
			t.Errorf("%s: %v, want %v; %+v", c.name, got, c.want, p)
		}
	}
	user := []byte("\x26\x00\x01k\x00\x01v")
	for _, c := range []struct {
		client bool
		want   Disconnect
		size   int
	}{
		{false, Disconnect{}, 2},
		{true, Disconnect{Reason: ServerBusy}, 3},
		{false, Disconnect{DisconnectWithWill, DisconnectProps{SessionExpiry: 0, HasSessionExpiry: true}}, 9},
		{true, Disconnect{ServerMoved, DisconnectProps{ReasonString: []byte("r"), ServerReference: []byte("s"), UserProps: user}}, 19},
	} {
		b := AppendDisconnect([]byte{1}, V5, c.want.Reason, &c.want.DisconnectProps)[1:]
		_, body, n, err := Next(b, 0)
		d := Decoder{Client: c.client}
		var got Disconnect
		if err != nil || n != c.size || d.Disconnect(V5, body, &got) != nil || !same(got, c.want) {
			t.Errorf("%x read back %+v, want %+v", b, got, c.want)
		}
	}
	if b := AppendDisconnect(nil, V311, ServerBusy, &DisconnectProps{ReasonString: []byte("x")}); !bytes.Equal(b, []byte{0xe0, 0}) {
		t.Errorf("3.1.1 DISCONNECT %x", b)
	}
}

// MQTT 5 section 3.15.
func TestAuth(t *testing.T) {
	for _, c := range []struct {
		name   string
		client bool
		in     string
		want   Reason
	}{
		{"nothing", false, "", ProtocolError},
		{"success from a client", false, "00 04 15000161", ProtocolError},
		{"re-authenticate from a server", true, "19 04 15000161", ProtocolError},
		{"no properties", false, "18", ProtocolError},
		{"no method", false, "18 00", ProtocolError},
		{"data alone", false, "18 04 16000161", ProtocolError},
		{"method twice", false, "18 08 15000161 15000161", ProtocolError},
		{"bytes behind", false, "18 04 15000161 00", MalformedPacket},
		{"length wrong", false, "18 09 15000161", MalformedPacket},
		{"continue", false, "18 04 15000161", Success},
		{"re-authenticate", false, "19 08 15000161 16000162", Success},
		{"success from a server", true, "00 04 15000161", Success},
	} {
		d := Decoder{Client: c.client}
		var a Auth
		if got := code(t, d.Auth(raw(t, c.in), &a)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	want := Auth{Reason: ContinueAuthentication, Method: []byte("SCRAM"), Data: []byte{}, HasData: true,
		ReasonString: []byte("r"), UserProps: []byte("\x26\x00\x01k\x00\x01v")}
	_, body, _, _ := Next(AppendAuth(nil, &want), 0)
	var d Decoder
	var got Auth
	if err := d.Auth(body, &got); err != nil || !same(got, want) {
		t.Errorf("%v: read back %+v, want %+v", err, got, want)
	}
}
