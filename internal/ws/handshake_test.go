package ws

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// request is a good one with lines replaced (by the name of the field), removed (value "-") or added.
func request(change ...string) string {
	lines := []string{"GET /mqtt HTTP/1.1", "Host: broker.example", "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: mqtt"}
	for _, c := range change {
		name, value, field := strings.Cut(c, ":")
		switch {
		case !field:
			lines[0] = c
			continue
		case strings.HasPrefix(name, "+"):
			lines = append(lines, c[1:])
			continue
		}
		for i, l := range lines {
			if i > 0 && strings.HasPrefix(l, name+":") {
				lines[i] = c
				if value == "-" {
					lines = append(lines[:i], lines[i+1:]...)
				}
				break
			}
		}
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

var testTerms = terms{paths: []string{"/mqtt", "/"}, protocols: []string{"mqtt", "mqttv3.1"}}

func TestHandshake42(t *testing.T) {
	for _, x := range []struct {
		name   string
		raw    string
		status int // 101 when it is good
		reason string
	}{
		{"good", request(), 101, ""},
		{"4.1 path with a query", request("GET /mqtt?token=1 HTTP/1.1"), 101, ""},
		{"4.1 the other path", request("GET / HTTP/1.1"), 101, ""},
		{"4.1 absolute form", request("GET ws://broker.example/mqtt HTTP/1.1"), 101, ""},
		{"4.1 absolute form without a path", request("GET http://broker.example HTTP/1.1"), 101, ""},
		{"4.2.1 case of field names and tokens", request("Upgrade:-", "Connection:-", "+uPgRaDe: WebSocket", "+CONNECTION: keep-alive, UPGRADE"), 101, ""},
		{"4.2.1 upgrade among others", request("Upgrade: h2c, websocket"), 101, ""},
		{"4.2.1 connection in two fields", request("Connection: keep-alive", "+Connection: upgrade"), 101, ""},
		{"4.2.1 extensions are not taken", request("+Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"), 101, ""},
		{"4.2.1 no space behind the colon", request("Host:-", "+Host:b"), 101, ""},
		{"9110 8.6 empty body", request("+Content-Length: 0"), 101, ""},
		{"MQTT-6.0.0-3 one of several", request("Sec-WebSocket-Protocol: foo, mqttv3.1,mqtt"), 101, ""},
		{"MQTT-6.0.0-3 in two fields", request("Sec-WebSocket-Protocol: foo", "+Sec-WebSocket-Protocol: mqtt"), 101, ""},
		{"MQTT-6.0.0-3 none", request("Sec-WebSocket-Protocol:-"), 400, refusedSubprotocol},
		{"MQTT-6.0.0-3 another", request("Sec-WebSocket-Protocol: amqp, mqttv5"), 400, refusedSubprotocol},
		{"MQTT-6.0.0-3 case counts", request("Sec-WebSocket-Protocol: MQTT"), 400, refusedSubprotocol},
		{"4.1 POST", request("POST /mqtt HTTP/1.1"), 405, refusedMethod},
		{"4.1 HEAD", request("HEAD /mqtt HTTP/1.1"), 405, refusedMethod},
		{"4.1 get", request("get /mqtt HTTP/1.1"), 405, refusedMethod},
		{"4.1 HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\n", 405, refusedMethod},
		{"4.1 HTTP/1.0", request("GET /mqtt HTTP/1.0"), 400, refusedMalformed},
		{"4.1 HTTP/1.0 without an upgrade", "GET / HTTP/1.0\r\n\r\n", 426, refusedNoUpgrade},
		{"4.1 HTTP/2.0", request("GET /mqtt HTTP/2.0"), 400, refusedMalformed},
		{"4.1 no version", request("GET /mqtt"), 400, refusedMalformed},
		{"4.1 four words", request("GET /mqtt x HTTP/1.1"), 400, refusedMalformed},
		{"4.1 target without a slash", request("GET mqtt HTTP/1.1"), 400, refusedMalformed},
		{"4.1 star", request("GET * HTTP/1.1"), 404, refusedPath},
		{"4.2.2 another path", request("GET /other HTTP/1.1"), 404, refusedPath},
		{"4.2.2 path below", request("GET /mqtt/ HTTP/1.1"), 404, refusedPath},
		{"4.1 no Host", request("Host:-"), 400, refusedMalformed},
		{"4.1 empty Host", request("Host:"), 400, refusedMalformed},
		{"4.1 two Hosts", request("+Host: b"), 400, refusedMalformed},
		{"4.2.1 no Upgrade", request("Upgrade:-"), 426, refusedNoUpgrade},
		{"4.2.1 another Upgrade", request("Upgrade: h2c"), 426, refusedNoUpgrade},
		{"4.2.1 no Connection", request("Connection:-"), 400, refusedMalformed},
		{"4.2.1 another Connection", request("Connection: close"), 400, refusedMalformed},
		{"4.4 no version of WebSocket", request("Sec-WebSocket-Version:-"), 426, refusedVersion},
		{"4.4 version 8", request("Sec-WebSocket-Version: 8"), 426, refusedVersion},
		{"4.4 version 013", request("Sec-WebSocket-Version: 013"), 426, refusedVersion},
		{"4.4 two versions", request("+Sec-WebSocket-Version: 8"), 400, refusedMalformed},
		{"4.2.1 no key", request("Sec-WebSocket-Key:-"), 400, refusedMalformed},
		{"4.2.1 two keys", request("+Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400, refusedMalformed},
		{"4.2.1 key of 15 bytes", request("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"), 400, refusedMalformed},
		{"4.2.1 key of 17 bytes", request("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWE="), 400, refusedMalformed},
		{"4.2.1 key is not base64", request("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!=="), 400, refusedMalformed},
		{"9112 2.2 bare LF", strings.ReplaceAll(request(), "\r\nUpgrade", "\nUpgrade"), 400, refusedMalformed},
		{"9112 2.2 bare CR", request("Host: a\rb"), 400, refusedMalformed},
		{"9112 5.1 space before the colon", request("Host:-", "+Host : b"), 400, refusedMalformed},
		{"9112 5.2 folded line", request("Host: a\r\n b"), 400, refusedMalformed},
		{"9110 5.5 NUL", request("Host: a\x00b"), 400, refusedMalformed},
		{"9110 5.1 no name", request("+: x"), 400, refusedMalformed},
		{"9112 5 no colon", strings.Replace(request(), "Upgrade: ", "Upgrade ", 1), 400, refusedMalformed},
		{"9112 6 body", request("+Content-Length: 5"), 400, refusedMalformed},
		{"9112 6.1 chunks", request("+Transfer-Encoding: chunked"), 400, refusedMalformed},
		{"too many fields", request(strings.Split(strings.Repeat("+X: y\n", maxFields), "\n")[:maxFields]...), 400, refusedMalformed},
		{"another protocol", "SSH-2.0-OpenSSH\r\n\r\n", 400, refusedMalformed},
	} {
		t.Run(x.name, func(t *testing.T) {
			a, r := testTerms.check([]byte(x.raw))
			switch {
			case x.status == 101 && r != nil:
				t.Errorf("refused: %v", r)
			case x.status == 101 && (a.key == "" || a.protocol == ""):
				t.Errorf("%+v", a)
			case x.status != 101 && (r == nil || r.Status != x.status || r.Reason != x.reason):
				t.Errorf("got %+v, want %d %s", r, x.status, x.reason)
			}
		})
	}
}

func TestOrigin102(t *testing.T) {
	for _, x := range []struct {
		allowed []string
		change  []string
		status  int
	}{
		{nil, []string{"+Origin: https://evil.example"}, 101},
		{[]string{"https://app.example"}, nil, 101}, // no browser
		{[]string{"https://app.example"}, []string{"+Origin: https://app.example"}, 101},
		{[]string{"https://app.example"}, []string{"+Origin: HTTPS://App.example"}, 101},
		{[]string{"https://app.example", "http://x:8080"}, []string{"+Origin: http://x:8080"}, 101},
		{[]string{"https://app.example"}, []string{"+Origin: https://app.example.evil.example"}, 403},
		{[]string{"https://app.example"}, []string{"+Origin: http://app.example"}, 403},
		{[]string{"https://app.example"}, []string{"+Origin: null"}, 403},
		{[]string{"https://app.example"}, []string{"+Origin: https://app.example", "+Origin: https://evil.example"}, 400},
		{[]string{"*"}, []string{"+Origin: https://evil.example"}, 101},
	} {
		s := testTerms
		s.origins = x.allowed
		status := 101
		if _, r := s.check([]byte(request(x.change...))); r != nil {
			status = r.Status
		}
		if status != x.status {
			t.Errorf("%v allowed, %v: %d, want %d", x.allowed, x.change, status, x.status)
		}
	}
}

// The example of 1.3, and the client's preference of 1.9.
func TestAnswer13(t *testing.T) {
	a, r := testTerms.check([]byte(request("Sec-WebSocket-Protocol: x, mqttv3.1, mqtt", "+Sec-WebSocket-Extensions: permessage-deflate")))
	if r != nil {
		t.Fatal(r)
	}
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(a.append(nil))), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	h := res.Header
	if res.StatusCode != 101 || h.Get("Upgrade") != "websocket" || h.Get("Connection") != "Upgrade" ||
		h.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || h.Get("Sec-WebSocket-Protocol") != "mqttv3.1" ||
		h.Get("Sec-WebSocket-Extensions") != "" {
		t.Errorf("%d %v", res.StatusCode, h)
	}
}

func TestRefusalsAreHTTP(t *testing.T) {
	for _, x := range []struct {
		raw, field, want string
	}{
		{request("Sec-WebSocket-Version: 8"), "Sec-Websocket-Version", "13"}, {request("Upgrade:-"), "Upgrade", "websocket"},
		{request("POST / HTTP/1.1"), "Allow", "GET"}, {request("GET /x HTTP/1.1"), "Connection", "close"}, {"\x10\r\n\r\n", "Connection", "close"},
	} {
		_, r := testTerms.check([]byte(x.raw))
		if r == nil {
			t.Fatalf("%q is taken", x.raw)
		}
		res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(r.append(nil))), nil)
		if err != nil {
			t.Fatalf("%v: %v", r, err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if got := fmt.Sprint(res.Header[x.field]); err != nil || res.StatusCode != r.Status || string(body) != r.Text+"\n" ||
			!strings.Contains(got, x.want) && !res.Close {
			t.Errorf("%v: %d %v %q %v", r, res.StatusCode, res.Header, body, err)
		}
		if statusText[r.Status] == "" {
			t.Errorf("%d has no words", r.Status)
		}
	}
}

func TestAnswerChecks41(t *testing.T) {
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	good := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
	for _, x := range []struct{ old, put, want string }{
		{"", "", ""},
		{"101 Switching Protocols", "101", ""},
		{"101", "200", "answers 200"},
		{"101", "404", "answers 404"},
		{"HTTP/1.1", "SSH", "not HTTP"},
		{"Upgrade: websocket", "Upgrade: h2c", "no upgrade"},
		{"Connection: Upgrade", "Connection: close", "no upgrade"},
		{"s3pP", "s3pQ", "Accept is wrong"},
		{"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", "", "Accept is wrong"},
		{"Protocol: mqtt", "Protocol: amqp", "no subprotocol"},
		{"Sec-WebSocket-Protocol: mqtt\r\n", "", "no subprotocol"},
		{"Sec-WebSocket-Protocol: mqtt\r\n", "Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Extensions: permessage-deflate\r\n", "extension"},
	} {
		_, err := checkAnswer([]byte(strings.Replace(good, x.old, x.put, 1)), key, []string{"mqtt"})
		if (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("%q -> %q: %v, want %q", x.old, x.put, err, x.want)
		}
	}
}

func TestSpecValidate(t *testing.T) {
	for _, x := range []struct {
		s  Spec
		ok bool
	}{
		{Spec{}, true}, {Spec{Paths: []string{"/", "/mqtt"}, Origins: []string{"*", "https://a.example", "http://b:8080"}}, true},
		{Spec{Paths: []string{"mqtt"}}, false}, {Spec{Paths: []string{"/a?b"}}, false}, {Spec{Paths: []string{""}}, false},
		{Spec{Origins: []string{"app.example"}}, false}, {Spec{Origins: []string{"https://a.example/"}}, false},
	} {
		if err := x.s.Validate(); (err == nil) != x.ok {
			t.Errorf("%+v: %v", x.s, err)
		}
	}
}
