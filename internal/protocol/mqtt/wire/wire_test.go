package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// raw turns hex with spaces into bytes.
func raw(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// str is a string as it stands on the wire.
func str(s string) string { return fmt.Sprintf("%04x%x", len(s), s) }

// code is the reason code of a refusal, Success for none.
func code(t testing.TB, err error) Reason {
	t.Helper()
	if err == nil {
		return Success
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v is not a *wire.Error", err)
	}
	if e.Text == "" || e.Error() != e.Text || !e.Code.Failed() {
		t.Fatalf("error %+v has no text or a code that is no failure", e)
	}
	return e.Code
}

// same compares packets; nil and empty slices are the same.
func same(a, b any) bool { return fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b) }

// MQTT 5 section 2.1.4.
func TestNext(t *testing.T) {
	for _, c := range []struct {
		in    string
		limit uint32
		n     int
		err   error
	}{
		{"", 0, 0, nil},
		{"30", 0, 0, nil},
		{"c000", 0, 2, nil},
		{"c000c000", 0, 2, nil},
		{"3002aabb", 0, 4, nil},
		{"3002aa", 0, 0, nil},
		{"308000", 0, 3, nil}, // longer than need be: the section does not forbid it
		{"30ff", 0, 0, nil},
		{"30ffffff", 0, 0, nil},
		{"30ffffff7f", 0, 0, nil},
		{"30ffffffff", 0, 0, ErrLength},
		{"30ffffff80", 0, 0, ErrLength},
		{"30ffffff7f", 1 << 20, 0, ErrTooLarge},
		{"3002aabb", 4, 4, nil},
		{"3002aabb", 3, 0, ErrTooLarge},
		{"3002", 3, 0, ErrTooLarge},
	} {
		in := raw(t, c.in)
		first, body, n, err := Next(in, c.limit)
		if n != c.n || !errors.Is(err, c.err) && (err != nil || c.err != nil) {
			t.Errorf("Next(%s, %d) = n %d, %v; want %d, %v", c.in, c.limit, n, err, c.n, c.err)
		}
		if n > 0 && (first != in[0] || len(body) > n-2 || cap(body) != len(body)) {
			t.Errorf("Next(%s): first %x, body %x cap %d", c.in, first, body, cap(body))
		}
	}
}

// A packet is found whole however its bytes arrive, and every length survives the way there and back.
func TestNextSizes(t *testing.T) {
	for _, size := range []int{0, 1, 127, 128, 16383, 16384, 2097151, 2097152} {
		p := PublishOut{Version: V311, Topic: []byte("t"), Payload: make([]byte, size)}
		b := AppendPublish(nil, &p)
		if len(b) != PublishSize(&p) {
			t.Fatalf("payload %d: size %d, PublishSize %d", size, len(b), PublishSize(&p))
		}
		for _, cut := range []int{1, 2, 3, 4, len(b) - 1} {
			if _, _, n, err := Next(b[:cut], 0); n != 0 || err != nil {
				t.Errorf("payload %d cut at %d: n %d, %v", size, cut, n, err)
			}
		}
		if _, body, n, err := Next(b, uint32(len(b))); n != len(b) || err != nil || len(body) != size+3 {
			t.Errorf("payload %d: n %d, body %d, %v", size, n, len(body), err)
		}
	}
}

// MQTT 5 section 2.1.3, MQTT-3.3.1-2, MQTT-3.3.1-4.
func TestCheckFlags(t *testing.T) {
	for first := range 256 {
		k, flags := KindOf(byte(first)), first&15
		want := flags == 0
		switch k {
		case 0:
			want = false
		case PUBLISH:
			qos := flags >> 1 & 3
			want = qos != 3 && (flags&8 == 0 || qos > 0)
		case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
			want = flags == 2
		}
		if err := CheckFlags(byte(first)); (err == nil) != want {
			t.Errorf("CheckFlags(%02x %v) = %v", first, k, err)
		}
		if err := CheckFlagsOf(V5, byte(first)); (err == nil) != want {
			t.Errorf("CheckFlagsOf(5, %02x %v) = %v", first, k, err)
		}
		if err := CheckFlagsOf(V311, byte(first)); (err == nil) != (want && k != AUTH) {
			t.Errorf("CheckFlagsOf(3.1.1, %02x %v) = %v", first, k, err)
		}
		want31 := k != 0 && k != AUTH && (k != PUBLISH || want)
		if err := CheckFlagsOf(V31, byte(first)); (err == nil) != want31 {
			t.Errorf("CheckFlagsOf(3.1, %02x %v) = %v", first, k, err)
		}
	}
}

func TestKinds(t *testing.T) {
	for k := range Kind(16) {
		both := k >= PUBLISH && k <= PUBCOMP
		client := both || k == CONNECT || k == SUBSCRIBE || k == UNSUBSCRIBE || k == PINGREQ || k == DISCONNECT
		server := both || k == CONNACK || k == SUBACK || k == UNSUBACK || k == PINGRESP
		if k.FromClient(V311) != client || k.FromClient(V5) != (client || k == AUTH) {
			t.Errorf("%v from a client: %v, %v", k, k.FromClient(V311), k.FromClient(V5))
		}
		if k.FromServer(V311) != server || k.FromServer(V5) != (server || k == AUTH || k == DISCONNECT) {
			t.Errorf("%v from a server: %v, %v", k, k.FromServer(V311), k.FromServer(V5))
		}
	}
	if CONNECT.String() != "CONNECT" || AUTH.String() != "AUTH" || Kind(77).String() != "kind(77)" {
		t.Error("names of kinds")
	}
	if V31.String() != "3.1" || V311.String() != "3.1.1" || V5.String() != "5" || Version(9).String() != "level 9" {
		t.Error("names of versions")
	}
}

// MQTT 5 section 2.4: the codes have their names, and 3.1.1 section 3.2.2.3: the few that 3.x knows.
func TestReasons(t *testing.T) {
	for r, want := range map[Reason]string{
		Success: "success", GrantedQoS1: "granted QoS 1", GrantedQoS2: "granted QoS 2",
		DisconnectWithWill: "disconnect with will message", NoMatchingSubscribers: "no matching subscribers",
		NoSubscriptionExisted: "no subscription existed", ContinueAuthentication: "continue authentication",
		ReAuthenticate: "re-authenticate", UnspecifiedError: "unspecified error", ServerUnavailable: "server unavailable",
		SessionTakenOver: "session taken over", PacketTooLarge: "packet too large",
		PayloadFormatInvalid: "payload format invalid", ServerMoved: "server moved",
		WildcardSubsNotSupported: "wildcard subscriptions not supported", 0x55: "reason 0x55", 0xff: "reason 0xff",
	} {
		if r.String() != want {
			t.Errorf("%#x is %q, want %q", byte(r), r, want)
		}
		if r.Failed() != (r >= 0x80) {
			t.Errorf("%v failed: %v", r, r.Failed())
		}
	}
	for r, want := range map[Reason]byte{
		Success: 0, UnsupportedVersion: 1, ClientIDNotValid: 2, ServerUnavailable: 3, ServerBusy: 3, ServerMoved: 3,
		QuotaExceeded: 3, BadUserNameOrPassword: 4, NotAuthorized: 5, Banned: 5,
	} {
		if got := ConnackCode3(r); got != want {
			t.Errorf("ConnackCode3(%v) = %d, want %d", r, got, want)
		}
		if r == Success || r >= UnsupportedVersion && r <= ServerUnavailable {
			if back, ok := connackReason3(want); !ok || back != r {
				t.Errorf("code %d is %v, want %v", want, back, r)
			}
		}
	}
}

// The tables of sections 3.2.2.2 to 3.15.2.1: how many codes each packet may carry, from each side.
func TestReasonSets(t *testing.T) {
	count := func(ok func(Reason) bool) (n int) {
		for r := range 256 {
			if ok(Reason(r)) {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		name string
		ok   func(Reason) bool
		n    int
	}{
		{"CONNACK", okConnack, 22},
		{"PUBACK", func(r Reason) bool { return okAck(PUBACK, r) }, 9},
		{"PUBREC", func(r Reason) bool { return okAck(PUBREC, r) }, 9},
		{"PUBREL", func(r Reason) bool { return okAck(PUBREL, r) }, 2},
		{"PUBCOMP", func(r Reason) bool { return okAck(PUBCOMP, r) }, 2},
		{"SUBACK", okSuback, 12},
		{"UNSUBACK", okUnsuback, 7},
		{"DISCONNECT from a client", func(r Reason) bool { return okDisconnect(r, false) }, 14},
		{"DISCONNECT from a server", func(r Reason) bool { return okDisconnect(r, true) }, 28},
		{"AUTH from a client", func(r Reason) bool { return okAuth(r, false) }, 2},
		{"AUTH from a server", func(r Reason) bool { return okAuth(r, true) }, 2},
	} {
		if n := count(c.ok); n != c.n {
			t.Errorf("%s may carry %d codes, want %d", c.name, n, c.n)
		}
	}
}

func TestPings(t *testing.T) {
	if b := AppendPingresp(AppendPingreq(nil)); !bytes.Equal(b, []byte{0xc0, 0, 0xd0, 0}) {
		t.Errorf("pings are %x", b)
	}
	if CheckEmpty(nil) != nil || code(t, CheckEmpty([]byte{0})) != MalformedPacket {
		t.Error("CheckEmpty")
	}
}
