package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"github.com/windrose-edc/windrose/e2e/need"
)

const transportConf = `windrose: v1
node: { name: n1, admin: "127.0.0.1:${ADMIN}", data: data }
tls: { main: { cert: server.pem, key: server.key } }
listeners:
  tls: { mqtt: { bind: "127.0.0.1:${TLS}", anonymous: true, tls: main } }
  ws:  { mqtt: { bind: "127.0.0.1:${WS}", anonymous: true, websocket: { plain: true } } }
  wss: { mqtt: { bind: "127.0.0.1:${WSS}", anonymous: true, tls: main, websocket: {} } }
acl: [ { allow: [publish, subscribe], topic: "#" }, { allow: [publish, subscribe], topic: "$SYS/#" } ]
`

// TestConformanceTransports replays the vectors of TestConformanceVectors, with the same floor, over TLS, WebSocket,
// secure WebSocket, and on the port that speaks MQTT with and without WebSocket.
func TestConformanceTransports(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers; not in -short")
	}
	suite, python, floor := need.Suite(t, "mqtt"), need.Paho(t), readFloor(t)
	dir := t.TempDir()
	if err := makeCerts(dir, "client"); err != nil {
		t.Fatal(err)
	}
	conf := clientTLS(t, dir, false)
	for _, x := range []struct {
		name, port string
		way        transport
	}{
		{"TLS", "TLS", overTLS(conf)}, {"WebSocket", "WS", overWebSocket(overTCP)}, {"secure WebSocket", "WSS", overWebSocket(overTLS(conf))}, {"detected", "WS", overTCP},
	} {
		t.Run(x.name, func(t *testing.T) {
			best := 0
			var text []byte
			for range conformanceRuns {
				n := startNodeIn(t, dir, filepath.Join(build(t), "windrose"), transportConf)
				passed, out := vectorsAt(t, python, suite, adapter(t, x.way, n.ports[x.port]))
				if err := errors.Join(n.stop(syscall.SIGTERM, patience), n.check()); err != nil {
					t.Error(err)
				}
				if passed > best || text == nil {
					best, text = passed, out
				}
				if best >= floor {
					break
				}
			}
			if best < floor {
				t.Errorf("%d vectors passed, the floor is %d\n%s", best, floor, text)
			}
			t.Logf("%d vectors passed", best)
		})
	}
}

// vectorsAt runs the suite against a port and says how many passed.
func vectorsAt(t *testing.T, python, suite, port string) (int, []byte) {
	t.Helper()
	cmd := exec.Command(python, filepath.Join(suite, "run_vectors.py"), "127.0.0.1:"+port, "--jobs", "1", "--list")
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput() // an error exit only says that some failed
	m := regexp.MustCompile(`(?m)^vectors: (\d+) passed, (\d+) failed`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("no result (%v):\n%s", err, out)
	}
	passed, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return passed, out
}
