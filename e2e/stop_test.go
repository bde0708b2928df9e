package e2e

import (
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStop: SIGTERM tells connected clients, also beside one that does not read, and ends the process well within 5 s;
// windrose health says so by its exit code before and after.
func TestStop(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	t.Parallel()
	for _, stuck := range []bool{false, true} {
		n := startNode(t, fmt.Sprintf(slowConf, "drop_new"))
		health := func(args ...string) int {
			cmd := exec.Command(filepath.Join(n.w.bin, "windrose"), append([]string{"health"}, args...)...)
			cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=50")
			_ = cmd.Run() // its exit code is what is asked for
			return cmd.ProcessState.ExitCode()
		}
		addr := "127.0.0.1:" + n.ports["ADMIN"]
		if code := health("--addr", addr); code != 0 {
			t.Errorf("health of a ready node: %d", code)
		}
		if code := health("--addr", addr, "--no-such-flag"); code != 2 {
			t.Errorf("health with a wrong flag: %d", code)
		}
		five, four := client(t, n.mqtt(), hello{id: "five"}), client(t, n.mqtt(), hello{id: "four", v: 4})
		if stuck {
			pub, slow := client(t, n.mqtt(), hello{id: "pub"}), client(t, n.mqtt(), hello{id: "slow", rcvbuf: 4096})
			slow.subscribe("s/#", 0)
			for i := range 200 {
				pub.publish("s/x", numbered(i, 50_000), 0)
			}
			pub.ping()
		}
		begin := time.Now()
		if err := n.stop(syscall.SIGTERM, patience); err != nil {
			t.Fatal(err)
		}
		took := time.Since(begin)
		if code := n.cmd.ProcessState.ExitCode(); code != 0 || took > 5*time.Second {
			t.Errorf("exit code %d after %v", code, took)
		}
		t.Logf("stuck client %v: ended after %v", stuck, took.Round(time.Millisecond))
		if before := five.ended(); len(before) != 1 || before[0].kind() != disconnectKind || len(before[0].body) == 0 || before[0].body[0] != 0x8b {
			t.Errorf("MQTT 5 got %v, want DISCONNECT 0x8b", before)
		}
		if before := four.ended(); len(before) != 0 {
			t.Errorf("MQTT 3.1.1 got %v", before)
		}
		if code := health("--addr", addr); code != 4 {
			t.Errorf("health of a node that is gone: %d", code)
		}
	}
}

func addUser(t *testing.T, program, file, name, password string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, append([]string{"user", "add", name, "--file", file, "--password-stdin"}, args...)...)
	cmd.Stdin = strings.NewReader(password)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=50")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestReload: SIGHUP takes renewed certificates and users into use, and no connection notices. A broken file changes
// nothing.
func TestReload(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	t.Parallel()
	dir, program := t.TempDir(), filepath.Join(build(t), "windrose")
	if err := makeCerts(dir, "pump-1"); err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(dir, "users.yaml")
	addUser(t, program, users, "old", "one")
	n := startNodeIn(t, dir, program, `windrose: v1
node: { name: n1, admin: "127.0.0.1:${ADMIN}", data: data }
tls: { public: { cert: server.pem, key: server.key } }
listeners: { mqtt: { mqtt: { bind: "127.0.0.1:${MQTT}", tls: public } } }
auth: [ { users: { file: users.yaml } } ]
`)
	serial := func(c *raw) string {
		return fmt.Sprintf("%x", c.c.(*tls.Conn).ConnectionState().PeerCertificates[0].Signature)
	}
	conf := func() *tls.Config { return &tls.Config{InsecureSkipVerify: true} } //nolint:gosec // the test compares certificates itself
	code := func(user, pass string) byte {
		c := open(t, n.mqtt(), hello{id: "try", user: user, pass: pass, tls: conf()})
		defer c.c.Close()
		return c.expect(connackKind).body[1]
	}
	stay := client(t, n.mqtt(), hello{id: "stay", user: "old", pass: "one", tls: conf()})
	before := serial(stay)
	if got := code("new", "two"); got != 0x86 {
		t.Errorf("a user that is not there yet: %#x", got)
	}

	if err := makeCerts(dir, "pump-1"); err != nil { // a new authority, new keys
		t.Fatal(err)
	}
	addUser(t, program, users, "new", "two")
	hangup := func(want string, times int) {
		t.Helper()
		if err := n.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if err := until(patience, func() error {
			text, err := os.ReadFile(n.log)
			if err == nil && strings.Count(string(text), want) < times {
				err = fmt.Errorf("no %q in the log", want)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	const said = "msg=reloaded"
	hangup(said, 1)
	fresh := client(t, n.mqtt(), hello{id: "fresh", user: "new", pass: "two", tls: conf()})
	renewed := serial(fresh)
	if renewed == before {
		t.Error("a new connection gets the old certificate")
	}
	if got := code("old", "one"); got != 0 {
		t.Errorf("a user that stayed: %#x", got)
	}
	stay.ping()

	// A broken certificate: it says so, and all that was there goes on, the users too.
	if err := os.WriteFile(filepath.Join(dir, "server.pem"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	addUser(t, program, users, "old", "other", "--replace")
	hangup("level=ERROR", 1)
	again := client(t, n.mqtt(), hello{id: "again", user: "new", pass: "two", tls: conf()})
	if serial(again) != renewed {
		t.Error("another certificate after a broken one was refused")
	}
	if got := code("old", "one"); got != 0 {
		t.Errorf("the old password after a reload that was refused: %#x", got)
	}
	if got := code("old", "other"); got != 0x86 {
		t.Errorf("the new password after a reload that was refused: %#x", got)
	}

	if err := makeCerts(dir, "pump-1"); err != nil {
		t.Fatal(err)
	}
	hangup(said, 2)
	if got := code("old", "one"); got != 0x86 {
		t.Errorf("the old password after the change: %#x", got)
	}
	if got := code("old", "other"); got != 0 {
		t.Errorf("the new password: %#x", got)
	}
	stay.ping()
	fresh.ping()
	if ended := n.metric("windrose_mqtt_ended_connections_total", `reason="stopped"`); ended != 0 {
		t.Errorf("%d connections were stopped", ended)
	}
	t.Logf("certificate %s... became %s...; the first connection stayed", before[:16], renewed[:16])
}
