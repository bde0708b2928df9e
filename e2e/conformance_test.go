package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/windrose-edc/windrose/e2e/need"
)

// conformanceRuns is how often the suite may be tried. Its vectors run one after the other: some retain messages, and others
// that look at messages would meet them.
const conformanceRuns = 5

// TestConformanceVectors replays the raw packet vectors of Eclipse Mosquitto's own test suite. The floor in
// testdata/conformance.floor is the least number that must pass, in one run against a fresh node. It may only rise;
// whoever makes more pass raises it.
func TestConformanceVectors(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	suite, python, floor := need.Suite(t, "mqtt"), need.Paho(t), readFloor(t)
	best := 0
	var text []byte
	for range conformanceRuns {
		passed, out := vectors(t, python, suite)
		if passed > best || text == nil {
			best, text = passed, out
		}
		if best >= floor {
			break
		}
	}
	t.Logf("%s", text)
	if best < floor {
		t.Errorf("%d vectors passed, the floor is %d", best, floor)
	}
	if best > floor {
		t.Logf("%d passed, over the floor of %d: raise testdata/conformance.floor", best, floor)
	}
}

// vectors runs the suite once against a fresh node and says how many passed.
func vectors(t *testing.T, python, suite string) (int, []byte) {
	t.Helper()
	port, node := serve(t)
	passed, out := vectorsAt(t, python, suite, port)
	if err := errors.Join(node.stop(syscall.SIGTERM, patience), node.check()); err != nil {
		t.Error(err)
	}
	return passed, out
}

func readFloor(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "conformance.floor"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// serve starts a node that admits everybody and returns its MQTT port.
func serve(t *testing.T) (string, *process) {
	t.Helper()
	dir := t.TempDir()
	w := newWorld(t, dir, build(t))
	t.Cleanup(w.end)
	var ports [2]string
	for i := range ports {
		p, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = p
	}
	conf := `windrose: v1
node: { name: n1, admin: "127.0.0.1:` + ports[1] + `", data: data }
listeners: { mqtt: { mqtt: { bind: "127.0.0.1:` + ports[0] + `", anonymous: true } } }
acl: [ { allow: [publish, subscribe], topic: "#" }, { allow: [publish, subscribe], topic: "$SYS/#" } ]
`
	if err := os.WriteFile(filepath.Join(dir, "windrose.yaml"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := w.start("node", append(os.Environ(), "GORACE=halt_on_error=0 exitcode=66"), dir, filepath.Join(w.bin, "windrose"), "run", "-c", "windrose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p.ours = true
	if err := until(patience, func() error { return dial(ports[0]) }); err != nil {
		text, _ := os.ReadFile(p.log)
		t.Fatalf("%v\n%s", err, text)
	}
	return ports[0], p
}
