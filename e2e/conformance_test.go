package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/windrose-edc/windrose/e2e/need"
)

// TestConformanceVectors replays the raw packet vectors of Eclipse Mosquitto's own test suite. The floor in
// testdata/conformance.floor is the least number that must pass. It may only rise; whoever makes more pass raises it.
func TestConformanceVectors(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	suite := need.Suite(t, "mqtt")
	python := need.Paho(t)
	floor := readFloor(t)
	port, w := serve(t)

	cmd := exec.Command(python, filepath.Join(suite, "run_vectors.py"), "127.0.0.1:"+port, "--jobs", "4", "--list")
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput() // an error exit only says that some failed
	m := regexp.MustCompile(`(?m)^vectors: (\d+) passed, (\d+) failed`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("no result (%v):\n%s", err, out)
	}
	t.Logf("%s", out)
	passed, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	if passed < floor {
		t.Errorf("%d vectors passed, the floor is %d", passed, floor)
	}
	if passed > floor+5 {
		t.Logf("%d passed, well over the floor of %d: raise testdata/conformance.floor", passed, floor)
	}
	if err := w.check(); err != nil {
		t.Error(err)
	}
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
