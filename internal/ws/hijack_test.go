package ws

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/loop"
)

// A server of HTTP and a WebSocket on one port: what was read behind the request is not lost, what is refused is answered,
// the rest is the server's own.
func TestUpgradeOfHTTP(t *testing.T) {
	s := serve(t, Options{}, loop.Options{}, lines)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.srv.Wants(r) {
			s.srv.Upgrade(w, r, s.ln.Take)
			return
		}
		_, _ = io.WriteString(w, "page")
	}))
	defer web.Close()
	host := web.Listener.Addr().String()
	ask := func(text string) (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(patience))
		send(t, c, text)
		return c, bufio.NewReader(c)
	}
	for _, early := range []string{"", "\x82", binaryFrame("early\n")[:5], binaryFrame("early\n"), binaryFrame("early\n") + binaryFrame("ear")} {
		c, r := ask(request() + early)
		upgraded(t, r)
		want := binaryFrame("early\n") + binaryFrame("early\n") // the second is whole whatever came of the first
		if len(early) <= len(binaryFrame("early\n")) {
			send(t, c, want[len(early):])
		} else {
			send(t, c, binaryFrame("ly\n"))
		}
		var got string
		for n := 0; n < 2; {
			head := make([]byte, 2)
			if _, err := io.ReadFull(r, head); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, head[1])
			if _, err := io.ReadFull(r, b); err != nil {
				t.Fatal(err)
			}
			got += string(b)
			n = strings.Count(got, "\n")
		}
		if got != "early\nearly\n" {
			t.Errorf("early %q: %q", early, got)
		}
		send(t, c, closeFrame(1000, ""))
		if got := rest(t, r); got != "\x88\x02\x03\xe8" {
			t.Errorf("% x", got)
		}
	}
	for _, x := range []struct {
		text   string
		status int
	}{
		{request("GET / HTTP/1.1"), 200}, {request("GET /other HTTP/1.1"), 200}, {request("Upgrade:-", "Connection: close"), 426},
		{request("Sec-WebSocket-Version: 8"), 426}, {request("Sec-WebSocket-Key: x"), 400}, {request("Sec-WebSocket-Protocol: x"), 400},
		{request("POST /mqtt HTTP/1.1", "+Content-Length: 0"), 405}, {request("+Content-Length: 1") + "x", 400},
		{request("+Origin: http://other"), 403}, {request("+Origin: http://broker.example"), 101}, {request("+Origin: https://broker.example"), 101}, {request("+Origin: https://other"), 403},
	} {
		_, r := ask(x.text)
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("%q: %v", x.text, err)
		}
		_ = res.Body.Close()
		if res.StatusCode != x.status || x.status == 426 && (res.Header.Get("Upgrade") != "websocket" || res.Header.Get("Sec-WebSocket-Version") != "13") {
			t.Errorf("%q: %d %v, want %d", x.text, res.StatusCode, res.Header, x.status)
		}
	}
	s.ln.Close()
	if _, r := ask(request()); rest(t, r) != "" {
		t.Error("a listener that is closed takes connections")
	}
}
