package ws

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/observe"
)

func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(loop.Procs(2))
	goleak.VerifyTestMain(m)
}

const patience = 20 * time.Second

// handler is a loop.Handler made of a function. Owned by its loop; closed is written once.
type handler struct {
	c      *loop.Conn
	data   func(c *loop.Conn, b []byte) (int, error)
	closed chan error
}

func (h *handler) Data(b []byte) (int, error) { return h.data(h.c, b) }
func (h *handler) Writable()                  {}
func (h *handler) Closed(err error)           { h.closed <- err }

func echo(c *loop.Conn, b []byte) (int, error) {
	c.SetOut(append(c.Out(), b...))
	return len(b), nil
}

// lines consumes whole lines, and echoes them.
func lines(c *loop.Conn, b []byte) (int, error) {
	return echo(c, b[:bytes.LastIndexByte(b, '\n')+1])
}

// site is a server on loops.
type site struct {
	t       testing.TB
	addr    string
	made    chan *handler
	metrics *observe.Registry
	srv     *Server
	ln      *loop.Listener
}

func serve(t testing.TB, o Options, lo loop.Options, data func(c *loop.Conn, b []byte) (int, error)) *site {
	t.Helper()
	lo.Loops = 2
	g, err := loop.NewGroup(lo)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := g.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	s := &site{t: t, made: make(chan *handler, 100), metrics: observe.NewRegistry()}
	o.Listener, o.Protocols, o.Metrics = "web", []string{"mqtt"}, s.metrics
	s.srv = NewServer(o, func(c *loop.Conn) loop.Handler {
		h := &handler{c: c, data: data, closed: make(chan error, 2)}
		s.made <- h
		return h
	})
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if s.ln, err = g.Listen(ln, loop.ListenOptions{Accept: s.srv.Accept}); err != nil {
		t.Fatal(err)
	}
	s.addr = s.ln.Addr().String()
	return s
}

func (s *site) dial() net.Conn {
	s.t.Helper()
	c, err := net.DialTimeout("tcp", s.addr, patience)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// open does the handshake with request lines; what is sent behind the request goes with it.
func (s *site) open(behind string) (net.Conn, *bufio.Reader) {
	s.t.Helper()
	c := s.dial()
	send(s.t, c, request()+behind)
	r := bufio.NewReader(c)
	upgraded(s.t, r)
	return c, r
}

// upgraded reads an answer that must be 101.
func upgraded(t testing.TB, r *bufio.Reader) {
	t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != 101 {
		t.Fatalf("status %d", res.StatusCode)
	}
}

func send(t testing.TB, c io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func expect(t testing.TB, r io.Reader, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(r, b); err != nil || string(b) != want {
		t.Fatalf("got %.200q (%v), want %.200q", b[:n], err, want)
	}
}

// rest is everything until the end of the connection.
func rest(t testing.TB, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("after %q: %v", b, err)
	}
	return string(b)
}

func wait[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func (s *site) metric(want string) bool {
	var b bytes.Buffer
	if err := s.metrics.WritePrometheus(&b); err != nil {
		s.t.Fatal(err)
	}
	return strings.Contains(b.String(), want+"\n")
}

func (s *site) await(want string) {
	s.t.Helper()
	for end := time.Now().Add(patience); !s.metric(want); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.t.Errorf("metrics lack %s", want)
			return
		}
	}
}

// out is a frame of the server.
func out(payload string) string { return frameAs(bin, false, 0, payload) }

func TestEchoOverFrames(t *testing.T) {
	s := serve(t, Options{}, loop.Options{}, lines)
	c, r := s.open("")
	send(t, c, binaryFrame("hello\n"))
	expect(t, r, out("hello\n"))
	send(t, c, frame(opBinary, "a")+frame(ping, "p")+frame(final, "b\nc")) // several frames, one turn, a line that goes on
	expect(t, r, "\x8a\x01p"+out("ab\n"))
	send(t, c, binaryFrame("d\n"))
	expect(t, r, out("cd\n"))
	for _, n := range []int{200, 70_000, 300_000} {
		line := strings.Repeat("x", n-1) + "\n"
		send(t, c, binaryFrame(line))
		expect(t, r, out(line))
	}
	for _, b := range []byte(binaryFrame("slow\n")) {
		send(t, c, string([]byte{b}))
		time.Sleep(100 * time.Microsecond)
	}
	expect(t, r, out("slow\n"))
	send(t, c, closeFrame(1000, "bye"))
	if got := rest(t, r); got != "\x88\x02\x03\xe8" {
		t.Errorf("% x", got)
	}
	if err := wait(t, wait(t, s.made).closed); !errors.Is(err, io.EOF) {
		t.Errorf("closed with %v", err)
	}
	s.await(`windrose_websocket_opened_connections_total{listener="web"} 1`)
	s.await(`windrose_websocket_closed_connections_total{code="1000",listener="web"} 1`)
}

// A frame that comes together with the request, as impatient clients send it, is not lost.
func TestFramesBehindRequest(t *testing.T) {
	s := serve(t, Options{}, loop.Options{}, lines)
	c, r := s.open(binaryFrame("early\nhal"))
	expect(t, r, out("early\n"))
	send(t, c, binaryFrame("f\n"))
	expect(t, r, out("half\n"))
}

func TestRequestInPieces(t *testing.T) {
	s := serve(t, Options{}, loop.Options{}, lines)
	c := s.dial()
	for _, b := range []byte(request()) {
		send(t, c, string([]byte{b}))
	}
	r := bufio.NewReader(c)
	upgraded(t, r)
	send(t, c, binaryFrame("x\n"))
	expect(t, r, out("x\n"))
}

// What ends a connection, and what the peer is told: 7.1, 7.4.1.
func TestCloseCodes741(t *testing.T) {
	errApp, errPolicy := errors.New("of the protocol"), errors.New("unknown")
	code := func(err error) Code {
		if errors.Is(err, errApp) {
			return 4000
		}
		return 0
	}
	for _, x := range []struct {
		name string
		data func(c *loop.Conn, b []byte) (int, error)
		in   string
		want string
		err  error
	}{
		{"peer closes", echo, closeFrame(1001, ""), "\x88\x02\x03\xe9", io.EOF},
		{"peer closes without a code", echo, frame(finBit|opClose, ""), "\x88\x00", io.EOF},
		{"peer closes behind a message", echo, binaryFrame("x") + closeFrame(3000, ""), out("x") + "\x88\x02\x0b\xb8", io.EOF},
		{"protocol error", echo, binaryFrame("x") + frameAs(bin, false, 0, "y"), out("x") + string(appendClose(nil, 1002, "frame of a client without a mask")), nil},
		{"text", echo, frame(txt, "x"), string(appendClose(nil, 1003, "text message where bytes are spoken")), nil},
		{"too big", echo, binaryFrame(strings.Repeat("x", 2000)), string(appendClose(nil, 1009, "frame is too big")), nil},
		{"input that cannot be used", func(*loop.Conn, []byte) (int, error) { return 0, nil }, strings.Repeat(binaryFrame(kilo), 20), "\x88\x02\x03\xf1", loop.ErrInputFull},
		{"panic", func(c *loop.Conn, b []byte) (int, error) { _, _ = echo(c, b); panic("test") }, binaryFrame("x"), "\x88\x02\x03\xf3", loop.ErrPanic},
		{"handler's error with a code", func(c *loop.Conn, b []byte) (int, error) { _, _ = echo(c, b); return len(b), errApp }, binaryFrame("x"), out("x") + "\x88\x02\x0f\xa0", errApp},
		{"handler's error without one", func(*loop.Conn, []byte) (int, error) { return 0, errPolicy }, binaryFrame("x"), "\x88\x02\x03\xf0", errPolicy},
		{"handler is done", func(c *loop.Conn, b []byte) (int, error) {
			_, _ = echo(c, b)
			c.CloseAfterFlush(nil, time.Second)
			return len(b), nil
		}, binaryFrame("x"), out("x") + "\x88\x02\x03\xe8", nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := serve(t, Options{Spec: Spec{MaxFrame: 1024}, Code: code}, loop.Options{MaxPartial: 10_000, ReadBuffer: 4096}, x.data)
			c, r := s.open("")
			send(t, c, x.in)
			if got := rest(t, r); got != x.want {
				t.Errorf("the peer was told %q, want %q", got, x.want)
			}
			err := wait(t, wait(t, s.made).closed)
			var own *Error
			if x.err != nil && !errors.Is(err, x.err) || x.err == nil && x.name != "handler is done" && !errors.As(err, &own) {
				t.Errorf("closed with %v", err)
			}
		})
	}
}

// A close frame that comes while the handler has paused takes nothing from it: it sees everything first.
func TestCloseWaitsForPausedHandler(t *testing.T) {
	var seen bytes.Buffer
	paused := make(chan *loop.Conn, 1)
	s := serve(t, Options{}, loop.Options{}, func(c *loop.Conn, b []byte) (int, error) {
		seen.Write(b[:1])
		if seen.Len() == 1 {
			c.PauseRead()
			paused <- c
			return 1, nil
		}
		if len(b) > 1 {
			c.Refeed()
		}
		return 1, nil
	})
	c, r := s.open("")
	send(t, c, binaryFrame("ab")+binaryFrame("cd")+closeFrame(1000, "")+binaryFrame("never"))
	lc := wait(t, paused)
	time.Sleep(20 * time.Millisecond)
	lc.Loop().Post(lc.ResumeRead)
	if got := rest(t, r); got != "\x88\x02\x03\xe8" {
		t.Errorf("% x", got)
	}
	if err := wait(t, wait(t, s.made).closed); !errors.Is(err, io.EOF) || seen.String() != "abcd" {
		t.Errorf("closed with %v after %q", err, seen.String())
	}
}

func TestRefusedOnTheWire(t *testing.T) {
	s := serve(t, Options{Spec: Spec{Timeout: 100 * time.Millisecond, Origins: []string{"https://app.example"}}}, loop.Options{}, echo)
	for _, x := range []struct {
		in, status, reason string
	}{
		{request("GET /other HTTP/1.1"), "404", "path"},
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "426", "no_upgrade"},
		{request("+Origin: https://evil.example"), "403", "origin"},
		{request("Sec-WebSocket-Protocol: amqp"), "400", "subprotocol"},
		{request("Sec-WebSocket-Version: 7"), "426", "version"},
		{request("PUT / HTTP/1.1"), "405", "method"},
		{"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", maxHead), "431", "too_large"},
		{"GET /" + strings.Repeat("x", maxHead) + " HTTP/1.1\r\n\r\n", "431", "too_large"},
		{"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", "400", "malformed"},
		{"\x16\x03\x01\x02\x00", "400", "malformed"},
		{"GET / HTTP/1.1\r\nHost: x\r\n", "408", "timeout"},
		{"", "408", "timeout"},
	} {
		c := s.dial()
		send(t, c, x.in)
		got := rest(t, c)
		if !strings.HasPrefix(got, "HTTP/1.1 "+x.status+" ") || !strings.Contains(got, "\r\n\r\n") {
			t.Errorf("%.60q: %q, want %s", x.in, got, x.status)
		}
	}
	for _, want := range []string{`reason="path"} 1`, `reason="no_upgrade"} 1`, `reason="origin"} 1`, `reason="subprotocol"} 1`, `reason="version"} 1`,
		`reason="method"} 1`, `reason="too_large"} 2`, `reason="malformed"} 2`, `reason="timeout"} 2`} {
		s.await(`windrose_websocket_refused_handshakes_total{listener="web",` + want)
	}
	if len(s.made) != 0 {
		t.Errorf("%d reached the protocol", len(s.made))
	}
}

// On one port with and without WebSocket: the first bytes tell, wherever they are cut.
func TestPlainAndWebSocket(t *testing.T) {
	s := serve(t, Options{Spec: Spec{Plain: true, Timeout: time.Second}}, loop.Options{}, lines)
	for _, in := range []string{"\x10abc\n", "GETX\n", "GE\n", "x\n"} {
		c := s.dial()
		for _, b := range []byte(in) {
			send(t, c, string([]byte{b}))
			time.Sleep(time.Millisecond)
		}
		expect(t, c, in)
	}
	c, r := s.open(binaryFrame("x\n"))
	expect(t, r, out("x\n"))
	send(t, c, binaryFrame("y\n"))
	expect(t, r, out("y\n"))
	if got := rest(t, s.dial()); got != "" { // says nothing until its time is over
		t.Errorf("%q", got)
	}
}

// Backpressure and large output: what waits behind a slow reader comes whole, in frames that are whole.
func TestSlowReader(t *testing.T) {
	s := serve(t, Options{}, loop.Options{MaxOut: 64 << 20, HighWater: 1 << 20}, lines)
	c, r := s.open("")
	const n = 400
	line := strings.Repeat("z", 50_000) + "\n"
	var wg sync.WaitGroup
	wg.Go(func() {
		for range n {
			if _, err := io.WriteString(c, binaryFrame(line)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	time.Sleep(50 * time.Millisecond) // the server's socket fills up
	d, got, buf := decoder{client: true}, 0, make([]byte, 100_000)
	for got < n*len(line) {
		k, err := r.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		data, derr := d.feed(buf[:k], func([]byte) {})
		if derr != nil {
			t.Fatal(derr)
		}
		for _, b := range data {
			if want := line[got%len(line)]; b != want {
				t.Fatalf("byte %d is %q", got, b)
			}
			got++
		}
	}
	wg.Wait()
}

func TestClient(t *testing.T) {
	s := serve(t, Options{}, loop.Options{}, lines)
	c, err := Client(t.Context(), s.dial(), ClientOptions{Host: s.addr, Path: "/mqtt?x=y", Protocols: []string{"other", "mqtt"}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Subprotocol() != "mqtt" {
		t.Errorf("subprotocol %q", c.Subprotocol())
	}
	r := bufio.NewReader(c)
	for _, n := range []int{1, 125, 126, 65535, 65536, 65537, 300_000} {
		line := strings.Repeat("x", n-1) + "\n"
		var wg sync.WaitGroup
		wg.Go(func() { send(t, c, line) })
		expect(t, r, line)
		wg.Wait()
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := wait(t, wait(t, s.made).closed); !errors.Is(err, io.EOF) {
		t.Errorf("closed with %v", err)
	}
	s.await(`windrose_websocket_closed_connections_total{code="1000",listener="web"} 1`)
}

func TestClientIsRefused(t *testing.T) {
	s := serve(t, Options{}, loop.Options{}, lines)
	if _, err := Client(t.Context(), s.dial(), ClientOptions{Host: "x", Path: "/no", Protocols: []string{"mqtt"}}); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("%v", err)
	}
	if _, err := Client(t.Context(), s.dial(), ClientOptions{Host: "x\r\ny: z", Protocols: []string{"mqtt"}}); err == nil {
		t.Error("a host with a line end is sent")
	}
}

// The client's end over a pipe, with a server that does as it likes: 5.5.2, 5.5.1, 7.1.5.
func TestClientAndServerThatPings(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	c := &ClientConn{Conn: near, dec: decoder{client: true}, early: []byte(frameAs(bin, false, 0, "ear"))}
	got := make(chan string, 10)
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 10)
		for {
			n, err := c.Read(b)
			if err != nil {
				got <- err.Error()
				return
			}
			got <- string(b[:n])
		}
	})
	defer wg.Wait()
	if s := wait(t, got); s != "ear" {
		t.Errorf("%q", s)
	}
	_ = far.SetDeadline(time.Now().Add(patience))
	send(t, far, frameAs(ping, false, 0, "hi"))
	read := func(n int) seen {
		b := make([]byte, n)
		if _, err := io.ReadFull(far, b); err != nil {
			t.Fatal(err)
		}
		if b[1]&maskBit == 0 {
			t.Errorf("not masked: % x", b)
		}
		key := [4]byte(b[2:])
		return seen{data: string(b[0]) + string(plainMask(b[6:], key, 0))}
	}
	if s := read(8); s.data != "\u008ahi" {
		t.Errorf("%q", s.data)
	}
	send(t, far, string(appendClose(nil, 1008, "no")))
	if s := read(8); s.data[len(s.data)-2:] != "\x03\xf0" {
		t.Errorf("%q", s.data)
	}
	if s := wait(t, got); !strings.Contains(s, `closed by the peer (1008): "no"`) {
		t.Errorf("%q", s)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("written after the close frame: %v", err)
	}
	_ = c.Close()
}

func TestClientHandshakeTimeout(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(io.Discard, far) })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Client(ctx, near, ClientOptions{Host: "x", Protocols: []string{"mqtt"}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	_ = near.Close()
	wg.Wait()
}
