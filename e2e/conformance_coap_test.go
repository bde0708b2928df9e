package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/windrose-edc/windrose/e2e/need"
)

// serveCoAP starts a node that admits everybody, by MQTT, CoAP over UDP and CoAP over TCP, and returns their ports.
func serveCoAP(t *testing.T) (mqtt, udp, tcp string) {
	t.Helper()
	dir := t.TempDir()
	w := newWorld(t, dir, build(t))
	t.Cleanup(w.end)
	var ports [3]string
	for i := range ports {
		p, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = p
	}
	conf := fmt.Sprintf(`windrose: v1
node: { name: n1, data: data }
listeners:
  mqtt: { mqtt: { bind: "127.0.0.1:%s", anonymous: true } }
  coap: { coap: { bind: "127.0.0.1:%s", anonymous: true } }
  coap-tcp: { coap: { bind: "127.0.0.1:%s", anonymous: true, transport: tcp } }
`, ports[0], ports[1], ports[2])
	if err := os.WriteFile(filepath.Join(dir, "windrose.yaml"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := w.start("node", append(os.Environ(), "GORACE=halt_on_error=0 exitcode=66"), dir, filepath.Join(w.bin, "windrose"), "run", "-c", "windrose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p.ours = true
	if err := until(patience, func() error { return errors.Join(dial(ports[0]), dial(ports[2])) }); err != nil {
		text, _ := os.ReadFile(p.log)
		t.Fatalf("%v\n%s", err, text)
	}
	t.Cleanup(func() {
		if err := errors.Join(p.stop(syscall.SIGTERM, patience), p.check()); err != nil {
			t.Error(err)
		}
	})
	return ports[0], ports[1], ports[2]
}

var passedLine = regexp.MustCompile(`(?m)^(\d+) passed, \d+ failed$`)

// TestConformanceCoAP drives a node with libcoap's coap-client over UDP and TCP. The floor in testdata/conformance_coap.floor is
// the least number of cases that must pass. It may only rise.
func TestConformanceCoAP(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	need.Program(t, "coap-client-openssl")
	suite := need.Suite(t, "coap")
	text, err := os.ReadFile(filepath.Join("testdata", "conformance_coap.floor"))
	if err != nil {
		t.Fatal(err)
	}
	floor, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	best := 0
	for range 3 { // the script has time limits of its own, and machines are busy
		mqtt, udp, tcp := serveCoAP(t)
		if out, err := exec.Command(need.Program(t, "mosquitto_pub"), "-p", mqtt, "-t", "c/get", "-m", "seed", "-r", "-q", "1").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		out, _ := exec.Command("bash", filepath.Join(suite, "drive_coap_client.sh"), "127.0.0.1", "PORT="+udp, "TCP="+tcp, "GET=ps/c/get", "PUT=ps/c/put",
			"OBS=ps/c/obs", "OBSPUT=1").CombinedOutput()
		m := passedLine.FindSubmatch(out)
		if m == nil {
			t.Fatalf("no count in what the script said:\n%s", out)
		}
		passed, _ := strconv.Atoi(string(m[1])) // digits
		t.Logf("%s", out)
		if best = max(best, passed); best >= floor {
			break
		}
	}
	if best < floor {
		t.Errorf("%d cases passed, the floor is %d", best, floor)
	}
	if best > floor {
		t.Logf("%d passed, over the floor of %d: raise testdata/conformance_coap.floor", best, floor)
	}
}
