package ws

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// frame makes a frame of a client: first byte, payload, masked with a fixed key.
func frame(first byte, payload string) string { return frameAs(first, true, 0, payload) }

// frameAs makes a frame; form is the number of length bytes behind the second (0, 2, 8), -1 the shortest.
func frameAs(first byte, masked bool, form int, payload string) string {
	b := []byte{first}
	n, second := len(payload), byte(0)
	if masked {
		second = maskBit
	}
	if form == 0 && n > 125 {
		form = 2
		if n > 0xffff {
			form = 8
		}
	}
	switch form {
	case 2:
		b = binary.BigEndian.AppendUint16(append(b, second|126), uint16(n))
	case 8:
		b = binary.BigEndian.AppendUint64(append(b, second|127), uint64(n))
	default:
		b = append(b, second|byte(n))
	}
	if !masked {
		return string(b) + payload
	}
	key := [4]byte{0xa1, 0x02, 0xf3, 0x74}
	b = append(b, key[:]...)
	return string(append(b, plainMask([]byte(payload), key, 0)...))
}

func binaryFrame(payload string) string { return frame(finBit|opBinary, payload) }

func closeFrame(code Code, reason string) string {
	return frame(finBit|opClose, string([]byte{byte(code >> 8), byte(code)})+reason)
}

// seen is what came out of a decoder.
type seen struct {
	data  string
	pongs []string
	err   *Error
}

func (s seen) String() string {
	return fmt.Sprintf("data %.60q (%d bytes), pongs %.60q, error %v", s.data, len(s.data), s.pongs, s.err)
}

// decode feeds the input in pieces that end at the cuts.
func decode(d decoder, in string, cuts ...int) (s seen) {
	from, all := 0, []byte(nil)
	defer func() { s.data = string(all) }()
	for _, to := range append(cuts, len(in)) {
		data, err := d.feed([]byte(in[from:to]), func(p []byte) { s.pongs = append(s.pongs, string(p)) })
		all = append(all, data...)
		if err != nil {
			if s.err != nil {
				s.err = violation("a second error: " + err.Text)
				return s
			}
			s.err = err
		}
		from = to
	}
	return s
}

const (
	bin   = finBit | opBinary
	txt   = finBit | opText
	ping  = finBit | opPing
	pong  = finBit | opPong
	cont  = opContinuation
	final = finBit | opContinuation
)

var (
	kilo  = strings.Repeat("0123456789abcdef", 64)
	large = strings.Repeat(kilo, 70)
	goodT = "Hello-µ@ßöäüàá-UTF-8!!"
)

// rfcCases are in the manner of the Autobahn test suite, by section of RFC 6455. texts are taken where text says so.
var rfcCases = []struct {
	name  string
	text  bool
	limit uint64
	in    string
	data  string
	pongs []string
	code  Code // 0: the connection stays
	peer  bool // the code is that of the peer's close frame
}{
	// 5.1, 5.3: masks
	{name: "5.1 unmasked binary", in: frameAs(bin, false, 0, "abc"), code: ProtocolError},
	{name: "5.1 unmasked ping", in: frameAs(ping, false, 0, ""), code: ProtocolError},
	{name: "5.1 unmasked close", in: frameAs(finBit|opClose, false, 0, "\x03\xe8"), code: ProtocolError},
	{name: "5.1 unmasked after masked", in: binaryFrame("ok") + frameAs(bin, false, 0, "abc"), data: "ok", code: ProtocolError},
	{name: "5.1 unmasked continuation", in: frame(opBinary, "a") + frameAs(final, false, 0, "b"), data: "a", code: ProtocolError},
	{name: "5.3 key of zeros", in: "\x82\x83\x00\x00\x00\x00abc", data: "abc"},
	{name: "5.3 key that gives zeros", in: "\x82\x83abcdabc", data: "\x00\x00\x00"},

	// 5.2: lengths
	{name: "5.2 empty", in: binaryFrame(""), data: ""},
	{name: "5.2 length 125", in: binaryFrame(kilo[:125]), data: kilo[:125]},
	{name: "5.2 length 126", in: binaryFrame(kilo[:126]), data: kilo[:126]},
	{name: "5.2 length 127", in: binaryFrame(kilo[:127]), data: kilo[:127]},
	{name: "5.2 length 128", in: binaryFrame(kilo[:128]), data: kilo[:128]},
	{name: "5.2 length 65535", in: binaryFrame(large[:65535]), data: large[:65535]},
	{name: "5.2 length 65536, 64 bits", in: binaryFrame(large[:65536]), data: large[:65536]},
	{name: "5.2 length 71680, 64 bits", in: binaryFrame(large), data: large},
	{name: "5.2 many in one", in: strings.Repeat(binaryFrame("ab"), 500), data: strings.Repeat("ab", 500)},
	{name: "5.2 small among large", in: binaryFrame("a") + binaryFrame(kilo) + binaryFrame("b"), data: "a" + kilo + "b"},
	{name: "5.2 16 bits not the shortest", in: frameAs(bin, true, 2, kilo[:125]), code: ProtocolError},
	{name: "5.2 16 bits for nothing", in: frameAs(bin, true, 2, ""), code: ProtocolError},
	{name: "5.2 64 bits not the shortest", in: frameAs(bin, true, 8, kilo[:126]), code: ProtocolError},
	{name: "5.2 64 bits for 65535", in: frameAs(bin, true, 8, large[:65535]), code: ProtocolError},
	{name: "5.2 64 bits, highest set", in: "\x82\xff\x80\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00", code: ProtocolError},
	{name: "5.2 2^63-1 announced, not held", in: "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00abc", data: "abc"},
	{name: "10.4 at the limit", limit: 1024, in: binaryFrame(kilo), data: kilo},
	{name: "10.4 over the limit", limit: 1023, in: binaryFrame(kilo), code: TooBig},
	{name: "10.4 64 bits over the limit", limit: 1 << 20, in: "\x82\xff\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00", code: TooBig},
	{name: "10.4 fragments within the limit", limit: 1024, in: frame(opBinary, kilo) + frame(final, kilo), data: kilo + kilo},

	// 5.2: reserved bits and opcodes
	{name: "5.2 RSV1", in: frame(bin|0x40, "a"), code: ProtocolError},
	{name: "5.2 RSV2", in: frame(bin|0x20, "a"), code: ProtocolError},
	{name: "5.2 RSV3", in: frame(bin|0x10, "a"), code: ProtocolError},
	{name: "5.2 RSV1+2+3", in: frame(bin|0x70, ""), code: ProtocolError},
	{name: "5.2 RSV1 in a ping", in: frame(ping|0x40, ""), code: ProtocolError},
	{name: "5.2 RSV2 in a close", in: frame(finBit|opClose|0x20, ""), code: ProtocolError},
	{name: "5.2 RSV1 in a continuation", in: frame(opBinary, "a") + frame(final|0x40, "b"), data: "a", code: ProtocolError},
	{name: "5.2 RSV after a good message", in: binaryFrame("ok") + frame(bin|0x10, "a"), data: "ok", code: ProtocolError},
	{name: "5.2 opcode 3", in: frame(finBit|3, "a"), code: ProtocolError},
	{name: "5.2 opcode 4", in: frame(finBit|4, ""), code: ProtocolError},
	{name: "5.2 opcode 5", in: frame(finBit|5, "a"), code: ProtocolError},
	{name: "5.2 opcode 6", in: frame(finBit|6, "a"), code: ProtocolError},
	{name: "5.2 opcode 7", in: binaryFrame("ok") + frame(finBit|7, "a"), data: "ok", code: ProtocolError},
	{name: "5.2 opcode 11", in: frame(finBit|11, ""), code: ProtocolError},
	{name: "5.2 opcode 12", in: frame(finBit|12, "a"), code: ProtocolError},
	{name: "5.2 opcode 13", in: frame(finBit|13, "a"), code: ProtocolError},
	{name: "5.2 opcode 14", in: frame(finBit|14, "a"), code: ProtocolError},
	{name: "5.2 opcode 15", in: binaryFrame("ok") + frame(finBit|15, ""), data: "ok", code: ProtocolError},

	// 5.4: fragments
	{name: "5.4 two fragments", in: frame(opBinary, "ab") + frame(final, "cd"), data: "abcd"},
	{name: "5.4 many fragments", in: frame(opBinary, "a") + strings.Repeat(frame(cont, "b"), 300) + frame(final, "c"), data: "a" + strings.Repeat("b", 300) + "c"},
	{name: "5.4 empty fragments", in: frame(opBinary, "") + frame(cont, "") + frame(final, ""), data: ""},
	{name: "5.4 empty first, empty last", in: frame(opBinary, "") + frame(cont, "x") + frame(final, ""), data: "x"},
	{name: "5.4 ping between fragments", in: frame(opBinary, "a") + frame(ping, "p") + frame(final, "b"), data: "ab", pongs: []string{"p"}},
	{name: "5.4 pings among many fragments", in: frame(opBinary, "a") + frame(ping, "1") + frame(cont, "b") + frame(ping, "2") + frame(final, "c"), data: "abc", pongs: []string{"1", "2"}},
	{name: "5.4 pong between fragments", in: frame(opBinary, "a") + frame(pong, "p") + frame(final, "b"), data: "ab"},
	{name: "5.4 close between fragments", in: frame(opBinary, "a") + closeFrame(1000, ""), data: "a", code: Normal, peer: true},
	{name: "5.4 continuation without a message", in: frame(final, "a"), code: ProtocolError},
	{name: "5.4 continuation to be continued, without a message", in: frame(cont, "a"), code: ProtocolError},
	{name: "5.4 continuation after the last", in: frame(opBinary, "a") + frame(final, "b") + frame(final, "c"), data: "ab", code: ProtocolError},
	{name: "5.4 message within a message", in: frame(opBinary, "a") + binaryFrame("b"), data: "a", code: ProtocolError},
	{name: "5.4 first fragment within a message", in: frame(opBinary, "a") + frame(opBinary, "b"), data: "a", code: ProtocolError},
	{name: "5.4 text within a binary message", text: true, in: frame(opBinary, "a") + frame(txt, "b"), data: "a", code: ProtocolError},
	{name: "5.4 next message after fragments", in: frame(opBinary, "a") + frame(final, "b") + binaryFrame("c"), data: "abc"},

	// 5.5: control frames
	{name: "5.5 ping in fragments", in: frame(opPing, "a") + frame(final, "b"), code: ProtocolError},
	{name: "5.5 pong in fragments", in: frame(opPong, "a"), code: ProtocolError},
	{name: "5.5 close in fragments", in: frame(opClose, "\x03\xe8"), code: ProtocolError},
	{name: "5.5.2 empty ping", in: frame(ping, ""), pongs: []string{""}},
	{name: "5.5.2 ping with bytes", in: frame(ping, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), pongs: []string{"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"}},
	{name: "5.5.2 ping of 125 bytes", in: frame(ping, kilo[:125]), pongs: []string{kilo[:125]}},
	{name: "5.5.2 ping of 126 bytes", in: frame(ping, kilo[:126]), code: ProtocolError},
	{name: "5.5.2 ping with 64 bits of length", in: frameAs(ping, true, 8, large[:65536]), code: ProtocolError},
	{name: "5.5.2 ten pings", in: strings.Repeat(frame(ping, "x"), 10), pongs: strings.Split("xxxxxxxxxx", "")},
	{name: "5.5.2 ping behind a message", in: binaryFrame("m") + frame(ping, "p") + binaryFrame("n"), data: "mn", pongs: []string{"p"}},
	{name: "5.5.3 pong that nobody asked for", in: frame(pong, "p"), data: ""},
	{name: "5.5.3 pong, then ping", in: frame(pong, "no") + frame(ping, "yes"), pongs: []string{"yes"}},

	// 5.5.1, 7.4: close
	{name: "5.5.1 empty", in: frame(finBit|opClose, ""), code: NoCode, peer: true},
	{name: "5.5.1 half a code", in: frame(finBit|opClose, "\x03"), code: ProtocolError},
	{name: "5.5.1 1000", in: closeFrame(1000, ""), code: 1000, peer: true},
	{name: "5.5.1 1000 with a reason", in: closeFrame(1000, "bye µ"), code: 1000, peer: true},
	{name: "5.5.1 reason of 123 bytes", in: closeFrame(1000, kilo[:123]), code: 1000, peer: true},
	{name: "5.5.1 126 bytes", in: closeFrame(1000, kilo[:124]), code: ProtocolError},
	{name: "5.5.1 reason is not UTF-8", in: closeFrame(1000, "\xce\xba\xe1\xbd\xb9\xed\xa0\x80"), code: InvalidText},
	{name: "5.5.1 reason ends within a character", in: closeFrame(1000, "a\xc3"), code: InvalidText},
	{name: "5.5.1 nothing counts behind it", in: binaryFrame("a") + closeFrame(1000, "") + binaryFrame("b") + frame(ping, "p"), data: "a", code: 1000, peer: true},
	{name: "5.5.1 behind an error nothing counts", in: frame(finBit|3, "") + frame(ping, "p") + binaryFrame("a"), code: ProtocolError},

	// 5.6: text
	{name: "5.6 text where bytes are spoken", in: frame(txt, "a"), code: Unacceptable},
	{name: "5.6 text behind a message", in: binaryFrame("a") + frame(txt, "b"), data: "a", code: Unacceptable},
	{name: "5.6 first fragment is text", in: frame(opText, "a"), code: Unacceptable},
	{name: "8.1 good text", text: true, in: frame(txt, goodT), data: goodT},
	{name: "8.1 good text in fragments within characters", text: true, in: frame(opText, goodT[:7]) + frame(cont, goodT[7:13]) + frame(final, goodT[13:]), data: goodT},
	{name: "8.1 four bytes in four fragments", text: true, in: frame(opText, "\xf0") + frame(cont, "\x9f") + frame(cont, "\x98") + frame(final, "\x80"), data: "\xf0\x9f\x98\x80"},
	{name: "8.1 surrogate", text: true, in: frame(txt, "\xed\xa0\x80"), code: InvalidText},
	{name: "8.1 overlong slash", text: true, in: frame(txt, "\xc0\xaf"), code: InvalidText},
	{name: "8.1 overlong, three bytes", text: true, in: frame(txt, "\xe0\x80\xaf"), code: InvalidText},
	{name: "8.1 over U+10FFFF", text: true, in: frame(txt, "\xf4\x90\x80\x80"), code: InvalidText},
	{name: "8.1 lone continuation byte", text: true, in: frame(txt, "\x80"), code: InvalidText},
	{name: "8.1 impossible byte", text: true, in: frame(txt, "\xfe"), code: InvalidText},
	{name: "8.1 five bytes", text: true, in: frame(txt, "\xf8\x88\x80\x80\x80"), code: InvalidText},
	{name: "8.1 ends within a character", text: true, in: frame(txt, "\xce"), code: InvalidText},
	{name: "8.1 ends within a character, fragments", text: true, in: frame(opText, "a\xce") + frame(final, ""), code: InvalidText},
	{name: "8.1 bad in the second fragment", text: true, in: frame(opText, "a\xce") + frame(final, "a"), code: InvalidText},
	{name: "8.1 fails before the message ends", text: true, in: frame(opText, "\xf4\x90"), code: InvalidText},
	{name: "8.1 last code point", text: true, in: frame(txt, "\xf4\x8f\xbf\xbf"), data: "\xf4\x8f\xbf\xbf"},
	{name: "8.1 noncharacter", text: true, in: frame(txt, "\xef\xbf\xbe"), data: "\xef\xbf\xbe"},
	{name: "8.1 bytes are not checked", text: true, in: binaryFrame("\xff\xfe"), data: "\xff\xfe"},
	{name: "8.1 ping within a character", text: true, in: frame(opText, "\xce") + frame(ping, "\xff") + frame(final, "\xba"), data: "\xce\xba", pongs: []string{"\xff"}},
	{name: "8.1 binary in fragments behind text", text: true, in: frame(txt, "a") + frame(opBinary, "\xce") + frame(final, "\xff"), data: "a\xce\xff"},
}

// TestRFC6455 runs each case in one piece, byte by byte and cut at random places. Of text that fails, how much was
// handed on before depends on the pieces; it is not looked at.
func TestRFC6455(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 455))
	for _, x := range rfcCases {
		t.Run(x.name, func(t *testing.T) {
			check := func(how string, cuts ...int) {
				t.Helper()
				got := decode(decoder{text: x.text, maxFrame: x.limit}, x.in, cuts...)
				var code Code
				if got.err != nil {
					code = got.err.Code
				}
				peer := got.err != nil && got.err.Remote
				if code != x.code || peer != x.peer || fmt.Sprint(got.pongs) != fmt.Sprint(x.pongs) || got.data != x.data && code != InvalidText {
					t.Errorf("%s: %v", how, got)
				}
			}
			check("whole")
			var every []int
			for i := 1; i < len(x.in); i++ {
				every = append(every, i)
			}
			check("byte by byte", every...)
			for range 20 {
				check("cut at random", randomCuts(r, len(x.in))...)
			}
		})
	}
	t.Logf("%d cases", len(rfcCases))
}

// Each close code: 7.4.1 with the registrations since, 7.4.2.
func TestCloseCodes74(t *testing.T) {
	good := map[Code]bool{}
	for _, c := range []Code{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014} {
		good[c] = true
	}
	for c := range 1 << 16 {
		code := Code(c)
		got := decode(decoder{}, closeFrame(code, ""))
		if want := good[code] || code >= 3000 && code < 5000; got.err == nil || got.err.Remote != want || got.err.Remote && got.err.Code != code ||
			!want && got.err.Code != ProtocolError {
			t.Fatalf("%d: %v", c, got)
		}
	}
}

// randomCuts are places to cut n bytes.
func randomCuts(r *rand.Rand, n int) (cuts []int) {
	most := 1 + r.IntN(64)
	for at := 0; ; {
		at += 1 + r.IntN(most)
		if at >= n {
			return cuts
		}
		cuts = append(cuts, at)
	}
}

// Whatever messages, fragments, pings and pieces of the transport are: the same bytes come out (5.4).
func TestAnyFragmentsGiveTheSame(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 54))
		var in, want strings.Builder
		pings := 0
		for range 1 + r.IntN(20) {
			payload := make([]byte, r.IntN(1<<r.IntN(12)))
			for i := range payload {
				payload[i] = byte(r.Uint32())
			}
			want.Write(payload)
			for first, op := true, byte(opBinary); first || len(payload) > 0; first = false {
				n := len(payload)
				if r.IntN(3) > 0 {
					n = r.IntN(n + 1)
				}
				if n == len(payload) {
					op |= finBit
				}
				in.WriteString(frame(op, string(payload[:n])))
				payload, op = payload[n:], opContinuation
				if r.IntN(4) == 0 {
					in.WriteString(frame(ping, "p"))
					pings++
				}
			}
		}
		got := decode(decoder{}, in.String(), randomCuts(r, in.Len())...)
		if got.data != want.String() || got.err != nil || len(got.pongs) != pings {
			t.Fatalf("seed %d: %v; want %d bytes, %d pongs", seed, got, want.Len(), pings)
		}
	}
}

// The server's frames: never masked, one binary message, the shortest length (5.1, 5.2).
func TestFramesOfServer51(t *testing.T) {
	f := framing{}
	for _, n := range []int{1, 125, 126, 65535, 65536, 70000} {
		b := append(make([]byte, 10), large[:n]...)
		at := f.Frame(b)
		if want := frameAs(bin, false, 0, large[:n]); string(b[at:]) != want {
			t.Errorf("%d bytes: header % x", n, b[at:10])
		}
		if got := decode(decoder{client: true}, string(b[at:]), 1, 3); got.data != large[:n] || got.err != nil {
			t.Errorf("%d bytes: %v", n, got)
		}
	}
}

func TestClientRefusesMasked51(t *testing.T) {
	if got := decode(decoder{client: true}, frame(bin, "a")); got.err == nil || got.err.Code != ProtocolError {
		t.Errorf("%v", got)
	}
	in := frameAs(opBinary, false, 0, "ab") + frameAs(ping, false, 0, "p") + frameAs(final, false, 0, "cd")
	for i := range len(in) {
		if got := decode(decoder{client: true}, in, i); got.data != "abcd" || len(got.pongs) != 1 || got.err != nil {
			t.Errorf("cut at %d: %v", i, got)
		}
	}
}

func TestCloseFrameOfServer551(t *testing.T) {
	for _, x := range []struct {
		code Code
		text string
		want string
	}{
		{NoCode, "", "\x88\x00"}, {Normal, "", "\x88\x02\x03\xe8"}, {ProtocolError, "why", "\x88\x05\x03\xeawhy"},
		{Policy, strings.Repeat("a", 122) + "µ", "\x88\x7c\x03\xf0" + strings.Repeat("a", 122)},
	} {
		if got := appendClose(nil, x.code, x.text); string(got) != x.want {
			t.Errorf("%d %q: % x", x.code, x.text, got)
		}
	}
}

// What is on the hot path: frames in, frames out.
func TestFramesAllocateNothing(t *testing.T) {
	f := framing{}
	in := []byte(strings.Repeat(binaryFrame(kilo[:60]), 50) + frame(opBinary, kilo) + frame(final, kilo))
	b, out, reply := make([]byte, len(in)), make([]byte, 5000), make([]byte, 0, 100)
	if n := testing.AllocsPerRun(100, func() {
		copy(b, in)
		data, _, err := f.Unframe(b[:1000], reply)
		more, _, err2 := f.Unframe(b[1000:], reply)
		if err != nil || err2 != nil || len(data)+len(more) != 50*60+2*len(kilo) {
			t.Fatal("not decoded")
		}
		f.Frame(out)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkUnframe(b *testing.B) {
	for _, n := range []int{20, 200, 20000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			in := []byte(strings.Repeat(binaryFrame(large[:n]), 1+60000/n))
			work, f := make([]byte, len(in)), framing{}
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				copy(work, in)
				if data, _, _ := f.Unframe(work, nil); !bytes.HasPrefix(data, []byte("01")) {
					b.Fatal("wrong")
				}
			}
		})
	}
}
