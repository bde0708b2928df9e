package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/e2e/need"
)

// startDev starts `windrose dev` in a network of its own and prints how many milliseconds it took to be ready, then what
// listens.
const startDev = `set -eu
ip link set lo up
begin=$(date +%s%N)
windrose dev >dev.log 2>&1 &
dev=$!
until windrose health >/dev/null 2>&1; do
	[ $(( $(date +%s%N) - begin )) -lt 20000000000 ] || { cat dev.log; exit 1; }
done
echo "ready after $(( ($(date +%s%N) - begin) / 1000000 )) ms"
ss -Hltn
kill $dev
wait $dev
cat dev.log
`

// TestDev is what a user can do, 1: without any configuration, on loopback only, said in the banner, with three lines to
// try, in under a second.
func TestDev(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	argv := append(need.Namespace(t), "sh", "start.sh")
	need.Program(t, "ss")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "start.sh"), []byte(startDev), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+plain.folder(t)+":"+os.Getenv("PATH")+":/usr/sbin:/sbin", "HOME="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		`coap +127\.0\.0\.1:5683`, `mqtt +127\.0\.0\.1:1883`, `http://127\.0\.0\.1:8400`, `(?i)anonymous`, `(?i)loopback only`, `data +\S+`,
		`mosquitto_sub `, `mosquitto_pub `, `curl `, `127\.0\.0\.1:1883 +0\.0\.0\.0:\*`, `127\.0\.0\.1:8400 +0\.0\.0\.0:\*`,
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if m := regexp.MustCompile(`(?m)^LISTEN.* (\*|0\.0\.0\.0|\[::\]):\d+ `).Find(out); m != nil {
		t.Errorf("something listens beyond loopback: %s", m)
	}
	m := regexp.MustCompile(`ready after (\d+) ms`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("not ready:\n%s", out)
	}
	if ms, err := strconv.Atoi(string(m[1])); err != nil || ms > int(time.Second/time.Millisecond) {
		t.Errorf("ready after %s ms, want under a second", m[1])
	}
	t.Logf("ready after %s ms", m[1])
}
