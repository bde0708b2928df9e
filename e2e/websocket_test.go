package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/e2e/need"
	"github.com/windrose-edc/windrose/internal/ws"
)

// clientOver is client by another transport than open's.
func clientOver(t testing.TB, way transport, port string, h hello) *raw {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	nc, err := way(ctx, port)
	if err != nil {
		t.Fatal(err)
	}
	c := &raw{t: t, c: nc, v: max(h.v, 4), r: bufio.NewReaderSize(nc, 4096)}
	if h.v == 0 {
		c.v = 5
	}
	t.Cleanup(func() { nc.Close() })
	c.must(c.send(appendConnect(nil, c.v, h)))
	if p := c.expect(connackKind); p.body[1] != 0 {
		t.Fatalf("CONNACK of %q: %#x", h.id, p.body[1])
	}
	return c
}

const waysConf = `windrose: v1
node: { name: n1, admin: "127.0.0.1:${ADMIN}", data: data }
tls:
  main:  { cert: server.pem, key: server.key }
  fleet: { cert: server.pem, key: server.key, client_ca: ca.pem, client: require }
listeners:
  tcp:  { mqtt: { bind: "127.0.0.1:${TCP}", anonymous: true } }
  tls:  { mqtt: { bind: "127.0.0.1:${TLS}", anonymous: true, tls: main } }
  mtls: { mqtt: { bind: "127.0.0.1:${MTLS}", tls: fleet } }
  ws:   { mqtt: { bind: "127.0.0.1:${WS}", anonymous: true, websocket: { plain: true, origins: ["https://app.example"] } } }
  wss:  { mqtt: { bind: "127.0.0.1:${WSS}", anonymous: true, tls: main, websocket: {} } }
  mwss: { mqtt: { bind: "127.0.0.1:${MWSS}", tls: fleet, websocket: { paths: [/mqtt] } } }
auth:
  - { x509: { listener: mtls, client: cert.cn } }
  - { x509: { listener: mwss, client: cert.cn } }
acl:
  - { allow: publish, topic: "site/{client}/#" }
  - { allow: subscribe, topic: "site/#" }
`

// TestTransports: TCP, TLS 1.2 and 1.3, mutual TLS, WebSocket and secure WebSocket, each with and without a certificate,
// meet in one node; who shows a certificate is who it says, by either.
func TestTransports(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	t.Parallel()
	dir := t.TempDir()
	if err := makeCerts(dir, "pump-1"); err != nil {
		t.Fatal(err)
	}
	n := startNodeIn(t, dir, filepath.Join(build(t), "windrose"), waysConf)
	versions := func(own bool, v uint16) *tls.Config {
		c := clientTLS(t, dir, own)
		c.MinVersion, c.MaxVersion = v, v
		return c
	}
	type way struct {
		name, port string
		own        bool
		to         transport
	}
	ways := []way{{"TCP", "TCP", false, overTCP}, {"WebSocket", "WS", false, overWebSocket(overTCP)}, {"TCP on the port of WebSocket", "WS", false, overTCP}}
	for v, name := range map[uint16]string{tls.VersionTLS12: " with TLS 1.2", tls.VersionTLS13: " with TLS 1.3"} {
		plain, own := overTLS(versions(false, v)), overTLS(versions(true, v))
		ways = append(ways, way{"TCP" + name, "TLS", false, plain}, way{"WebSocket" + name, "WSS", false, overWebSocket(plain)},
			way{"TCP and a certificate" + name, "MTLS", true, own}, way{"WebSocket and a certificate" + name, "MWSS", true, overWebSocket(own)})
	}
	var subs []*raw
	for _, x := range ways {
		if !x.own { // who shows a certificate is one client, and would take itself over
			c := clientOver(t, x.to, n.ports[x.port], hello{id: "sub " + x.name})
			if got := c.subscribe("site/#", 1); got != 1 {
				t.Fatalf("%s: SUBACK %#x", x.name, got)
			}
			subs = append(subs, c)
		}
	}
	payload := strings.Repeat("0123456789", 3000) // several records and frames
	for _, x := range ways {
		for v := byte(4); v <= 5; v++ {
			id := "dev"
			if x.own {
				id = "pump-1"
			}
			c := clientOver(t, x.to, n.ports[x.port], hello{id: id, v: v})
			c.publish("site/"+id+"/t", []byte(x.name+payload), 7)
			if code, _ := c.puback(7); code != 0 {
				t.Errorf("%s: PUBACK %#x", x.name, code)
			}
			if v == 5 && x.own {
				c.publish("site/pump-2/t", []byte("denied"), 8)
				if code, _ := c.puback(8); code != 0x87 {
					t.Errorf("%s: as somebody else: PUBACK %#x", x.name, code)
				}
			}
			for _, s := range subs {
				_, got, _, mid := s.message(s.expect(publishKind))
				if string(got) != x.name+payload {
					t.Fatalf("%s: %.60q arrives", x.name, got)
				}
				s.must(s.send(appendPuback(nil, mid)))
			}
			c.disconnect()
		}
	}
	for _, s := range subs {
		s.ping()
	}

	// Whom the certificate does not name, and pages of others.
	open := func(h string) string {
		nc, err := overTCP(t.Context(), n.ports["WS"])
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(nc, h); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(nc).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(line)
	}
	request := "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	for extra, want := range map[string]string{
		"Sec-WebSocket-Protocol: mqtt\r\nOrigin: https://app.example\r\n":  "HTTP/1.1 101 Switching Protocols",
		"Sec-WebSocket-Protocol: mqtt\r\nOrigin: https://evil.example\r\n": "HTTP/1.1 403 Forbidden",
		"": "HTTP/1.1 400 Bad Request",
	} {
		if got := open(request + extra + "\r\n"); got != want {
			t.Errorf("%q: %s, want %s", extra, got, want)
		}
	}
	n.await(1, "windrose_websocket_refused_handshakes_total", `reason="origin"`)
	n.await(1, "windrose_websocket_refused_handshakes_total", `reason="subprotocol"`)

	// [MQTT-6.0.0-1]: a frame that is not binary ends the connection; 7.4.1: the node says 1001 when it stops.
	nc, err := overTCP(t.Context(), n.ports["WS"])
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	w, err := ws.Client(t.Context(), nc, ws.ClientOptions{Host: "x", Path: "/", Protocols: []string{"mqtt"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(appendConnect(nil, 5, hello{id: "last"})); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	text, err := overTCP(t.Context(), n.ports["WS"])
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	if _, err := ws.Client(t.Context(), text, ws.ClientOptions{Host: "x", Path: "/", Protocols: []string{"mqtt"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := text.Write([]byte("\x81\x81\x00\x00\x00\x00a")); err != nil {
		t.Fatal(err)
	}
	if got := ending(t, text); !strings.HasPrefix(got, "\x88") || got[2:4] != "\x03\xeb" {
		t.Errorf("after a text frame: %q, want 1003", got)
	}
	if err := n.stop(syscall.SIGTERM, patience); err != nil {
		t.Error(err)
	}
	if got := ending(t, nc); !strings.HasSuffix(got, "\x88\x02\x03\xe9") {
		t.Errorf("when the node stops: %q, want 1001", got)
	}
}

// TestWebSocketAtAdmin: MQTT over WebSocket and the admin server on one port.
func TestWebSocketAtAdmin(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	t.Parallel()
	n := startNode(t, `windrose: v1
node: { name: n1, admin: "127.0.0.1:${ADMIN}", data: data }
listeners: { web: { mqtt: { bind: "127.0.0.1:${WS}", anonymous: true, max_connections: 300, websocket: { admin: true } } } }
`)
	admin := n.ports["ADMIN"]
	var clients []*raw
	for i := range 299 { // more than the admin server holds connections
		clients = append(clients, clientOver(t, overWebSocket(overTCP), admin, hello{id: "c" + strconv.Itoa(i)}))
	}
	sub := clientOver(t, overWebSocket(overTCP), n.ports["WS"], hello{id: "sub"})
	sub.subscribe("x", 0)
	payload := strings.Repeat("p", 100_000)
	for i := 0; i < len(clients); i += 50 {
		clients[i].publish("x", []byte(payload), 1)
		if code, _ := clients[i].puback(1); code != 0 {
			t.Errorf("PUBACK %#x", code)
		}
		if _, got, _, _ := sub.message(sub.expect(publishKind)); string(got) != payload {
			t.Errorf("%d bytes", len(got))
		}
	}
	n.await(300, "windrose_websocket_opened_connections_total")
	if _, err := overWebSocket(overTCP)(t.Context(), admin); err == nil {
		t.Error("one more than max_connections was let in")
	}
	for _, path := range []string{"/", "/livez", "/metrics"} {
		if status, _, err := get("http://127.0.0.1:" + admin + path); status != 200 || err != nil {
			t.Errorf("%s: %d %v", path, status, err)
		}
	}
	request := "GET /mqtt HTTP/1.1\r\nHost: 127.0.0.1:" + admin + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n"
	clients[0].disconnect()
	clients[1].disconnect()
	n.await(298, "windrose_loop_open_connections")
	for change, want := range map[[2]string]string{
		{"", ""}: "101", {"", "Origin: https://evil.example\r\n"}: "403", {"", "Origin: http://127.0.0.1:" + admin + "\r\n"}: "101",
		{"Host: 127.0.0.1", "Host: rebound.example"}: "421", {"Version: 13", "Version: 12"}: "426", {"Upgrade: websocket\r\n", ""}: "426",
		{"GET /mqtt", "GET /other"}: "404", {"", "Content-Length: 3\r\n"}: "400", {"GET", "POST"}: "405",
	} {
		nc, err := overTCP(t.Context(), admin)
		if err != nil {
			t.Fatal(err)
		}
		text := request + change[1]
		if change[0] != "" {
			text = strings.Replace(request, change[0], change[1], 1)
		}
		_ = nc.SetDeadline(time.Now().Add(patience))
		_, err = io.WriteString(nc, text+"\r\n")
		line, rerr := bufio.NewReader(nc).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 "+want+" ") {
			t.Errorf("%q: %q %v %v, want %s", change, line, err, rerr, want)
		}
		nc.Close()
	}
}

// ending is everything that comes until the end.
func ending(t testing.TB, c net.Conn) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("after %q: %v", b, err)
	}
	return string(b)
}

// TestWebSocketClients: clients that others wrote, by ws and wss. (mosquitto_pub and mosquitto_sub of Debian's 2.0 speak
// no WebSocket.)
func TestWebSocketClients(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	t.Parallel()
	dir := t.TempDir()
	if err := makeCerts(dir, "pump-1"); err != nil {
		t.Fatal(err)
	}
	n := startNodeIn(t, dir, filepath.Join(build(t), "windrose"), `windrose: v1
node: { name: n1, admin: "127.0.0.1:${ADMIN}", data: data }
tls: { main: { cert: server.pem, key: server.key } }
listeners:
  ws:  { mqtt: { bind: "127.0.0.1:${WS}", anonymous: true, websocket: {} } }
  wss: { mqtt: { bind: "127.0.0.1:${WSS}", anonymous: true, tls: main, websocket: {} } }
`)
	urls := []string{"ws://127.0.0.1:" + n.ports["WS"] + "/mqtt", "wss://localhost:" + n.ports["WSS"] + "/mqtt"}
	run := func(t *testing.T, env []string, argv ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), env...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "all came back") {
			t.Errorf("%v: %v\n%s", argv[1:], err, out)
		}
	}
	t.Run("paho", func(t *testing.T) {
		python, script := need.Paho(t), absolute(t, "testdata/py/websocket.py")
		for _, u := range urls {
			for _, v := range []string{"3", "4", "5"} {
				run(t, []string{"PYTHONDONTWRITEBYTECODE=1"}, python, script, u, v, filepath.Join(dir, "ca.pem"))
			}
		}
	})
	t.Run("mqtt.js", func(t *testing.T) {
		node, modules := need.MQTTjs(t)
		script := absolute(t, "testdata/js/websocket.js")
		for _, u := range urls {
			for _, v := range []string{"3", "4", "5"} {
				run(t, []string{"NODE_PATH=" + modules}, node, script, u, v, filepath.Join(dir, "ca.pem"))
			}
		}
	})
	t.Run("windrose", func(t *testing.T) {
		program := filepath.Join(build(t), "windrose")
		for _, u := range urls {
			args := []string{"sub", "--url", u, "-t", "own/#", "-C", "1", "--cafile", filepath.Join(dir, "ca.pem")}
			sub := exec.CommandContext(t.Context(), program, args...)
			out, err := sub.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := sub.Start(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			go func() { // until the subscriber has one; waited for below
				defer cancel()
				for ctx.Err() == nil {
					pub := exec.CommandContext(ctx, program, "pub", "--url", u, "-t", "own/x", "-m", "by windrose", "-q", "1", "--cafile", filepath.Join(dir, "ca.pem"))
					_ = pub.Run()
				}
			}()
			line, err := bufio.NewReader(out).ReadString('\n')
			cancel()
			<-ctx.Done()
			if err != nil || !strings.Contains(line, "by windrose") {
				t.Errorf("%s: %q %v", u, line, err)
			}
			_ = sub.Process.Kill()
			_ = sub.Wait()
		}
	})
}

func absolute(t testing.TB, path string) string {
	t.Helper()
	p, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
