package wire

import (
	"strings"
	"testing"
)

// MQTT 5 section 3.1, 3.1.1 section 3.1 and MQTT 3.1 "CONNECT": what is refused, and with which code.
func TestConnectRefused(t *testing.T) {
	const (
		v4  = "00044d515454 04"
		v5  = "00044d515454 05"
		v31 = "00064d5149736470 03"
	)
	id, user := str("c"), str("u")
	will := str("w/t") + str("gone")
	for _, c := range []struct {
		name, in string
		want     Reason
		version  Version // what the refusal is phrased for
	}{
		{"nothing", "", MalformedPacket, 0},
		{"name cut", "0004 4d51", MalformedPacket, 0},
		{"name unknown [MQTT-3.1.2-1]", "00044d515455 04 02 000a" + id, UnsupportedVersion, 0},
		{"name empty", "0000 04 02 000a" + id, UnsupportedVersion, 0},
		{"level 6 [MQTT-3.1.2-2]", "00044d515454 06 02 000a" + id, UnsupportedVersion, 0},
		{"level 2", "00064d5149736470 02 02 000a" + id, UnsupportedVersion, 0},
		{"level 0", "00044d515454 00 02 000a" + id, UnsupportedVersion, 0},
		{"level 3 with the new name", "00044d515454 03 02 000a" + id, UnsupportedVersion, 0},
		{"level 4 with the old name", "00064d5149736470 04 02 000a" + id, UnsupportedVersion, 0},
		{"bridge bit in 5", "00044d515454 85 02 000a 00" + id, UnsupportedVersion, 0},
		{"no flags", v4, MalformedPacket, 0},
		{"no keep alive", v4 + "02 00", MalformedPacket, 0},
		{"no client id", v4 + "02 000a", MalformedPacket, V311},
		{"reserved flag [MQTT-3.1.2-3]", v4 + "03 000a" + id, MalformedPacket, V311},
		{"reserved flag in 5", v5 + "03 000a 00" + id, MalformedPacket, V5},
		{"will qos without will [MQTT-3.1.2-11]", v4 + "0a 000a" + id, MalformedPacket, V311},
		{"will retain without will [MQTT-3.1.2-13]", v4 + "22 000a" + id, MalformedPacket, V311},
		{"will qos 3 [MQTT-3.1.2-12]", v4 + "1e 000a" + id + will, MalformedPacket, V311},
		{"will qos 3 in 3.1", v31 + "1e 000a" + id + will, MalformedPacket, V31},
		{"will missing", v4 + "06 000a" + id, MalformedPacket, V311},
		{"will payload missing", v4 + "06 000a" + id + str("w"), MalformedPacket, V311},
		{"will topic empty", v4 + "06 000a" + id + str("") + str("x"), TopicNameInvalid, V311},
		{"will topic with wildcard", v4 + "06 000a" + id + str("a/#") + str("x"), TopicNameInvalid, V311},
		{"will topic with NUL", v4 + "06 000a" + id + str("a\x00") + str("x"), TopicNameInvalid, V311},
		{"will text that is none", v5 + "06 000a 00" + id + "02 0101" + str("w") + str("\xff"), PayloadFormatInvalid, V5},
		{"will property of another packet", v5 + "06 000a 00" + id + "03 230001" + str("w") + str("x"), ProtocolError, V5},
		{"will property length", v5 + "06 000a 00" + id + "7f", MalformedPacket, V5},
		{"client id not UTF-8", v4 + "02 000a" + str("c\xed\xa0\x80"), MalformedPacket, V311},
		{"client id empty in 3.1", v31 + "02 000a" + str(""), ClientIDNotValid, V31},
		{"client id empty, session kept [MQTT-3.1.3-8]", v4 + "00 000a" + str(""), ClientIDNotValid, V311},
		{"user name missing", v4 + "82 000a" + id, MalformedPacket, V311},
		{"user name not UTF-8", v4 + "82 000a" + id + str("\x01"), MalformedPacket, V311},
		{"password missing", v4 + "c2 000a" + id + user, MalformedPacket, V311},
		{"password without user name [MQTT-3.1.2-22]", v4 + "42 000a" + id + user, MalformedPacket, V311},
		{"password without user name in 3.1", v31 + "42 000a" + id + user, MalformedPacket, V31},
		{"password cut in 3.1", v31 + "c2 000a" + id + user + "0005 61", MalformedPacket, V31},
		{"user name not announced", v4 + "02 000a" + id + user, MalformedPacket, V311},
		{"properties missing", v5 + "02 000a", MalformedPacket, V5},
		{"receive maximum 0", v5 + "02 000a 03 210000" + id, ProtocolError, V5},
		{"maximum packet size 0", v5 + "02 000a 05 2700000000" + id, ProtocolError, V5},
		{"request problem information 2", v5 + "02 000a 02 1702" + id, ProtocolError, V5},
		{"session expiry twice", v5 + "02 000a 0a 1100000001 1100000001" + id, ProtocolError, V5},
		{"will delay among its own", v5 + "02 000a 05 1800000001" + id, ProtocolError, V5},
		{"authentication data alone", v5 + "02 000a 04 16000161" + id, ProtocolError, V5},
		{"unknown property", v5 + "02 000a 02 0401" + id, MalformedPacket, V5},
	} {
		var d Decoder
		var p Connect
		if got := code(t, d.Connect(raw(t, c.in), &p)); got != c.want || p.Version != c.version {
			t.Errorf("%s: %v for version %v, want %v for %v", c.name, got, p.Version, c.want, c.version)
		}
	}
}

func TestConnectTaken(t *testing.T) {
	id := str("c")
	long := strings.Repeat("i", 200)
	for _, c := range []struct {
		name, in string
		check    func(p *Connect) bool
	}{
		{"3.1", "00064d5149736470 03 02 000a" + id, func(p *Connect) bool {
			return p.Version == V31 && p.Clean && p.KeepAlive == 10 && string(p.ClientID) == "c"
		}},
		{"3.1 with its unused flag", "00064d5149736470 03 01 000a" + id, func(p *Connect) bool { return !p.Clean }},
		{"3.1 with will bits but no will", "00064d5149736470 03 2a 000a" + id, func(p *Connect) bool { return !p.Will.Present }},
		{"3.1 announces names that are missing", "00064d5149736470 03 c2 000a" + id, func(p *Connect) bool {
			return !p.HasUsername && !p.HasPassword
		}},
		{"3.1 bridge", "00064d5149736470 83 02 000a" + id, func(p *Connect) bool { return p.Bridge && p.Version == V31 }},
		{"3.1.1 bridge", "00044d515454 84 02 000a" + id, func(p *Connect) bool { return p.Bridge && p.Version == V311 }},
		{"more than 23 characters", "00044d515454 04 00 0000" + str(long), func(p *Connect) bool {
			return string(p.ClientID) == long
		}},
		{"spaces, dots and slashes", "00044d515454 04 02 0000" + str("a b/c.d"), func(p *Connect) bool {
			return string(p.ClientID) == "a b/c.d"
		}},
		{"empty client id, clean", "00044d515454 04 02 0000" + str(""), func(p *Connect) bool { return len(p.ClientID) == 0 }},
		{"empty client id in 5", "00044d515454 05 00 0000 00" + str(""), func(p *Connect) bool { return len(p.ClientID) == 0 }},
		{"empty will payload and user name", "00044d515454 04 e6 0000" + id + str("w") + str("") + str("") + str("\x00\xff"),
			func(p *Connect) bool {
				return p.Will.Present && p.Will.Retain && p.Will.QoS == 0 && p.HasUsername && p.HasPassword &&
					string(p.Password) == "\x00\xff"
			}},
		{"5 with password alone", "00044d515454 05 42 0000 00" + id + str("token"), func(p *Connect) bool {
			return !p.HasUsername && string(p.Password) == "token"
		}},
		{"5 with defaults", "00044d515454 05 02 0000 00" + id, func(p *Connect) bool {
			return p.ReceiveMax == 65535 && p.RequestProblemInfo && !p.RequestResponseInfo && p.MaxPacket == 0
		}},
	} {
		var d Decoder
		var p Connect
		if err := d.Connect(raw(t, c.in), &p); err != nil || !c.check(&p) {
			t.Errorf("%s: %v, %+v", c.name, err, p)
		}
	}
}

// full is a CONNECT of MQTT 5 with everything in it.
func full() *Connect {
	return &Connect{
		Version: V5, Clean: true, KeepAlive: 30, ClientID: []byte("dev-7"), Username: []byte("u"), HasUsername: true,
		Password: []byte{0, 1}, HasPassword: true, SessionExpiry: 0xffffffff, ReceiveMax: 20, MaxPacket: 4096,
		TopicAliasMax: 9, RequestResponseInfo: true, AuthMethod: []byte("SCRAM"), AuthData: []byte("n,,"), HasAuthMethod: true,
		UserProps: []byte("\x26\x00\x01k\x00\x01v"),
		Will: Will{
			Present: true, Topic: []byte("w/t"), Payload: []byte("gone"), QoS: 2, Retain: true, Delay: 5, Expiry: 0,
			HasExpiry: true, Meta: []byte("\x01\x01\x03\x00\x01t\x26\x00\x01a\x00\x01b\x26\x00\x01a\x00\x01b"),
		},
	}
}

// What is appended is read back, in every version.
func TestConnectRoundTrip(t *testing.T) {
	for _, p := range []*Connect{
		full(),
		{Version: V5, ReceiveMax: 65535, RequestProblemInfo: true},
		{Version: V311, Bridge: true, Clean: true, ReceiveMax: 65535, RequestProblemInfo: true, ClientID: []byte("b")},
		{Version: V31, KeepAlive: 1, ReceiveMax: 65535, RequestProblemInfo: true, ClientID: []byte("b"), HasUsername: true,
			Will: Will{Present: true, QoS: 1, Topic: []byte("t")}},
	} {
		b := AppendConnect([]byte("before"), p)
		first, body, n, err := Next(b[6:], 0)
		if err != nil || n != len(b)-6 || string(b[:6]) != "before" || CheckFlagsOf(p.Version, first) != nil {
			t.Fatalf("appended %x: %v", b, err)
		}
		var d Decoder
		var got Connect
		if err := d.Connect(body, &got); err != nil || !same(*p, got) {
			t.Errorf("%v, read back\n%+v, want\n%+v", err, got, *p)
		}
	}
}

// User properties and will properties that do not lie side by side both end in the scratch, without touching another.
func TestConnectScatteredProps(t *testing.T) {
	k, v := "26"+str("k1")+str("v1"), "26"+str("k2")+str("v2")
	props := k + "210014" + v + "220001" + k
	wp := "0101" + "1800000003" + k + "0200000007" + v
	in := "00044d515454 05 06 0000" + length(props) + props + str("c") + length(wp) + wp + str("w") + str("x")
	d := Decoder{scratch: make([]byte, 0, keepScratch+1), ids: make([]uint32, 0, keepIDs+1)}
	for range 3 {
		var p Connect
		if err := d.Connect(raw(t, in), &p); err != nil {
			t.Fatal(err)
		}
		if want := raw(t, k+v+k); string(p.UserProps) != string(want) {
			t.Errorf("user properties %q, want %q", p.UserProps, want)
		}
		if want := raw(t, "0101"+k+v); string(p.Will.Meta) != string(want) || p.Will.Delay != 3 || p.Will.Expiry != 7 {
			t.Errorf("will %+v", p.Will)
		}
	}
	if cap(d.scratch) > keepScratch || cap(d.ids) > keepIDs {
		t.Error("the decoder kept too much")
	}
}

// length is the length of a block of hex as a one-byte varint.
func length(hex string) string {
	return string("0123456789abcdef"[len(hex)/2>>4]) + string("0123456789abcdef"[len(hex)/2&15])
}
