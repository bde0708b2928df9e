package ws

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzFrames: any bytes, cut anywhere, give what they give in one piece; what comes out is in what went in, and what is
// held is bounded.
func FuzzFrames(f *testing.F) {
	for _, x := range rfcCases {
		if len(x.in) < 2000 {
			f.Add([]byte(x.in), uint8(3), x.text, false)
		}
	}
	f.Add([]byte(frameAs(bin, false, 0, "abc")+frameAs(ping, false, 0, "p")), uint8(1), false, true)
	f.Fuzz(func(t *testing.T, in []byte, step uint8, text, client bool) {
		d := decoder{text: text, client: client, maxFrame: 1 << 20}
		whole := decode(d, string(in))
		var cuts []int
		for at := int(step); step > 0 && at < len(in); at += int(step) {
			cuts = append(cuts, at)
		}
		pieces := decode(d, string(in), cuts...)
		if (whole.err == nil) != (pieces.err == nil) || whole.err != nil && *whole.err != *pieces.err {
			t.Fatalf("whole: %v, in pieces: %v", whole, pieces)
		}
		if len(whole.pongs) != len(pieces.pongs) || strings.Join(whole.pongs, "|") != strings.Join(pieces.pongs, "|") {
			t.Fatalf("whole: %v, in pieces: %v", whole, pieces)
		}
		if bad := whole.err != nil && whole.err.Code == InvalidText; !bad && whole.data != pieces.data {
			t.Fatalf("whole: %v, in pieces: %v", whole, pieces)
		}
		if len(whole.data) > len(in) {
			t.Fatalf("%d bytes of %d", len(whole.data), len(in))
		}
		for _, p := range whole.pongs {
			if len(p) > maxControl {
				t.Fatalf("pong of %d bytes", len(p))
			}
		}
		if e := whole.err; e != nil && e.Remote && (!utf8.ValidString(e.Text) || e.Code != NoCode && !e.Code.valid()) {
			t.Fatalf("%v", e)
		}
		live := d
		_, _ = live.feed(bytes.Clone(in), func([]byte) {})
		if cap(live.ctl) > 4*maxControl {
			t.Fatalf("%d bytes are held", cap(live.ctl))
		}
	})
}

// FuzzHandshake: any bytes as a request; what is taken is read by net/http in the same way, and every refusal is HTTP.
func FuzzHandshake(f *testing.F) {
	f.Add([]byte(request()))
	f.Add([]byte(request("GET ws://h/mqtt?x HTTP/1.1", "Connection: keep-alive, Upgrade", "+Origin: https://a.example")))
	f.Add([]byte(request("Sec-WebSocket-Protocol: a, mqtt", "+Sec-WebSocket-Protocol: mqttv3.1")))
	f.Add([]byte(request("Sec-WebSocket-Version: 8")))
	f.Add([]byte("GET / HTTP/1.0\r\n\r\n"))
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		n := headEnd(in, 0)
		for from := range min(len(in), 40) {
			if n > from && headEnd(in, from) == 0 {
				t.Fatalf("the end at %d is not found from %d", n, from)
			}
		}
		if n == 0 || n > maxHead {
			return
		}
		s := testTerms
		s.origins = []string{"https://a.example"}
		a, r := s.check(in[:n])
		if r != nil {
			res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(r.append(nil))), nil)
			if err != nil || res.StatusCode != r.Status {
				t.Fatalf("%v: %v", r, err)
			}
			_ = res.Body.Close()
			return
		}
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(in[:n])))
		if err != nil {
			t.Fatalf("net/http does not read it: %v", err)
		}
		h := req.Header
		if req.Method != "GET" || len(h["Sec-Websocket-Key"]) != 1 || h.Get("Sec-Websocket-Version") != "13" || req.ContentLength != 0 ||
			a.key != acceptKey(h.Get("Sec-Websocket-Key")) || !strings.Contains(strings.Join(h["Sec-Websocket-Protocol"], ","), a.protocol) ||
			len(h["Origin"]) > 1 || !strings.EqualFold(h.Get("Origin"), "https://a.example") && h.Get("Origin") != "" {
			t.Fatalf("%v is read otherwise by net/http: %v", a, req)
		}
	})
}

// FuzzAnswer: any bytes as a server's answer; nothing but a good one is taken.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 404 Not Found\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := checkAnswer(in, "dGhlIHNhbXBsZSBub25jZQ==", []string{"mqtt"})
		if err == nil && (p != "mqtt" || !bytes.Contains(in, []byte("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))) {
			t.Fatalf("%q is taken", in)
		}
	})
}
