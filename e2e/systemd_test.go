package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/e2e/need"
)

// TestSystemd: a node as systemd starts it: the socket of a listener is passed, readiness, reload, watchdog and stop are told.
func TestSystemd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = manager.Close() })
	told := make(chan string, 1000)
	go func() { // ended by the Close above
		for b := make([]byte, 4096); ; {
			n, err := manager.Read(b)
			if err != nil {
				close(told)
				return
			}
			told <- string(b[:n])
		}
	}()
	await := func(want string) {
		t.Helper()
		for end := time.After(patience); ; {
			select {
			case got := <-told:
				if strings.HasPrefix(got, want) {
					return
				}
			case <-end:
				t.Fatalf("systemd was never told %s", want)
			}
		}
	}
	passed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := passed.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	_ = passed.Close()
	addr := passed.Addr().String()
	// Who connects before the node runs waits in the queue of the socket.
	early, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = early.Close() }()
	conf := "windrose: v1\nnode: { data: data }\nlisteners: { mqtt: { mqtt: { bind: \"127.0.0.1:1\", anonymous: true } } }\n"
	if err := os.WriteFile(filepath.Join(dir, "windrose.yaml"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	// A shell, for LISTEN_PID is the number of the process itself.
	cmd := exec.Command("/bin/sh", "-c", `export LISTEN_PID=$$; exec "$0" run -c windrose.yaml`, filepath.Join(build(t), "windrose"))
	cmd.Dir, cmd.ExtraFiles, cmd.Stderr = dir, []*os.File{file}, os.Stderr
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=1500000", "LISTEN_FDS=1", "LISTEN_FDNAMES=mqtt")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ended below
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	_ = file.Close()
	await("READY=1")
	if _, err := early.Write(framed(0x10, append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0}, text("early")...))); err != nil {
		t.Fatal(err)
	}
	_ = early.SetReadDeadline(time.Now().Add(patience))
	if b, err := bufio.NewReader(early).Peek(4); err != nil || b[0] != 0x20 || b[3] != 0 {
		t.Fatalf("who connected before the start got %x, %v", b, err)
	}
	await("WATCHDOG=1")
	await("STATUS=")
	await("WATCHDOG=1")
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	await("RELOADING=1\nMONOTONIC_USEC=")
	await("READY=1")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await("STOPPING=1")
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the node does not end")
	}
}

// TestUnits: what is in deploy/systemd is what systemd understands.
func TestUnits(t *testing.T) {
	need.Program(t, "systemd-analyze")
	dir := t.TempDir()
	for _, name := range []string{"windrose.service", "windrose.socket"} {
		b, err := os.ReadFile(filepath.Join("..", "deploy", "systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		unit := strings.ReplaceAll(string(b), "/usr/bin/windrose", "/bin/true")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(unit), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("systemd-analyze", "verify", filepath.Join(dir, "windrose.service"), filepath.Join(dir, "windrose.socket")).CombinedOutput()
	if err != nil || strings.Contains(string(out), dir) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// TestDrain: a node that drains tells its clients where to go and takes no new ones, is not ready, and takes them again.
func TestDrain(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	n := startNode(t, `windrose: v1
node: { name: n, admin: "127.0.0.1:${ADMIN}", data: data, admin_loopback: operator, drain: { server_reference: "other.example:1883" } }
listeners: { plain: { mqtt: { bind: "127.0.0.1:${MQTT}", anonymous: true } } }
`)
	connect5 := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0, 0}, text("five")...)
	dial := func(first []byte) net.Conn {
		t.Helper()
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+n.mqtt(), patience)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write(framed(0x10, first)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	next := func(c net.Conn) (byte, []byte) {
		t.Helper()
		first, body, err := newPacketReader(c).next()
		if err != nil {
			t.Fatal(err)
		}
		return first, body
	}
	drain := func(method string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:"+n.ports["ADMIN"]+"/api/v1/drain", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%s drain: %s", method, res.Status)
		}
	}
	ready := func(want int) {
		t.Helper()
		if err := until(patience, func() error {
			if code, body, err := get("http://127.0.0.1:" + n.ports["ADMIN"] + "/readyz"); err != nil || code != want {
				return fmt.Errorf("readyz says %d, want %d: %s %w", code, want, body, err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	open := dial(connect5)
	if _, body := next(open); body[1] != 0 {
		t.Fatalf("CONNACK %x", body)
	}
	drain(http.MethodPost)
	ready(http.StatusServiceUnavailable)
	if first, body := next(open); first != 0xe0 || body[0] != 0x9c || !strings.Contains(string(body), "other.example:1883") {
		t.Errorf("the client got %x %q, want DISCONNECT 0x9C with the Server Reference (4.11)", first, body)
	}
	if first, body := next(dial(connect5)); first != 0x20 || body[1] != 0x9c || !strings.Contains(string(body), "other.example:1883") {
		t.Errorf("a new client got %x %q, want CONNACK 0x9C with the Server Reference", first, body)
	}
	if first, body := next(dial(append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0}, text("three")...))); first != 0x20 || body[1] != 3 {
		t.Errorf("a new client of MQTT 3.1.1 got %x %x, want return code 3 (3.2.2.3)", first, body)
	}
	drain(http.MethodDelete)
	ready(http.StatusOK)
	if _, body := next(dial(connect5)); body[1] != 0 {
		t.Errorf("after the drain CONNACK is %x", body)
	}
}

// TestMemoryShort: a node that is short of memory refuses new clients with the code for it, says so, and goes on with those it
// has; when there is more again it takes them.
func TestMemoryShort(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	t.Setenv("GOMEMLIMIT", "48MiB")
	dir := t.TempDir()
	n := startNodeIn(t, dir, filepath.Join(plain.folder(t), "windrose"), `windrose: v1
node: { name: n, admin: "127.0.0.1:${ADMIN}", data: data }
listeners: { plain: { mqtt: { bind: "127.0.0.1:${MQTT}", anonymous: true } } }
sessions: { queue: 100000, queue_bytes: 256MiB }
`)
	if got := n.metric("windrose_memory_limit_bytes"); got != 48<<20 {
		t.Errorf("the limit is %d, want GOMEMLIMIT", got)
	}
	dial := func(id string, clean byte) (net.Conn, *packetReader, byte) {
		t.Helper()
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+n.mqtt(), patience)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(2 * patience))
		if _, err := c.Write(framed(0x10, append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, clean, 0, 0}, text(id)...))); err != nil {
			t.Fatal(err)
		}
		r := newPacketReader(c) // it may have read more than the CONNACK
		first, body, err := r.next()
		if err != nil || first != 0x20 {
			t.Fatalf("no CONNACK: %x, %v", first, err)
		}
		return c, r, body[1]
	}
	sub, subr, _ := dial("sleeper", 0) // what it does not take fills its queue
	if _, err := sub.Write(framed(0x82, append(append([]byte{0, 1}, text("#")...), 1))); err != nil {
		t.Fatal(err)
	}
	if first, _, err := subr.next(); err != nil || first != 0x90 {
		t.Fatalf("SUBACK: %x, %v", first, err)
	}
	_ = sub.Close()
	n.await(0, "windrose_session_online_sessions")
	pub, r, _ := dial("filler", 2)
	payload := make([]byte, 256<<10)
	filled := 0
	for ; filled < 800 && n.metric("windrose_memory_short_state") == 0; filled++ {
		body := append(append(text("fill"), 0, byte(1+filled%200)), payload...)
		if _, err := pub.Write(framed(0x32, body)); err != nil {
			t.Fatalf("after %d events: %v", filled, err)
		}
		if first, _, err := r.next(); err != nil || first != 0x40 {
			t.Fatalf("after %d events: %x, %v", filled, first, err)
		}
	}
	t.Logf("short after %d events of 256 KiB", filled)
	n.await(1, "windrose_memory_short_state")
	if _, _, code := dial("new", 2); code != 3 {
		t.Errorf("a new client got return code %d, want 3: server unavailable", code)
	}
	if _, err := pub.Write([]byte{0xc0, 0}); err != nil {
		t.Error(err)
	}
	if first, _, err := r.next(); err != nil || first != 0xd0 {
		t.Errorf("the client that was there is not served: %x, %v", first, err)
	}
	if n.metric("windrose_memory_short_times_total") != 1 {
		t.Error("it is not counted")
	}
	defer func() { // who comes back to its session is not refused: it takes what fills the memory
		c, r, code := dial("sleeper", 0)
		if code != 0 {
			t.Fatalf("the client whose events fill the memory got return code %d", code)
		}
		for got := 0; got < filled; {
			first, body, err := r.next()
			if err != nil {
				t.Fatalf("after %d of %d events: %v", got, filled, err)
			}
			if first>>4 == 3 {
				got++
				if _, err := c.Write(append([]byte{0x40, 2}, body[6:8]...)); err != nil {
					t.Fatal(err)
				}
			}
		}
		n.await(0, "windrose_memory_short_state")
		if _, _, code := dial("newer", 2); code != 0 {
			t.Errorf("when there is memory again a new client gets return code %d", code)
		}
	}()
	_, body, _ := get("http://127.0.0.1:" + n.ports["ADMIN"] + "/readyz?verbose")
	if !strings.Contains(string(body), "MiB are used: no new sessions") {
		t.Errorf("readyz does not say it: %s", body)
	}
}
