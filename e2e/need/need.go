// Package need is how a test says what it needs from the machine: a program, a right, a suite. Where that is missing the
// test is skipped and says why, loudly; with WINDROSE_REQUIRE_PEERS set (CI sets it) it fails instead, so that a green
// run never hides a test that did not run.
package need

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Strict says whether something missing is a failure.
func Strict() bool { return os.Getenv("WINDROSE_REQUIRE_PEERS") != "" }

// Skip ends the test: it needs what is not there.
func Skip(t testing.TB, what string) {
	t.Helper()
	if Strict() {
		t.Fatalf("NEEDED AND MISSING: %s", what)
	}
	t.Skipf("SKIPPED, the machine lacks: %s", what)
}

// Program returns the path of a program, looking where only root's PATH looks as well.
func Program(t testing.TB, name string) string {
	t.Helper()
	if p := find(name); p != "" {
		return p
	}
	Skip(t, "the program "+name)
	return ""
}

func find(name string) string {
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p
		}
	}
	return ""
}

// Paho returns the Python that has Eclipse Paho's MQTT client.
func Paho(t testing.TB) string {
	t.Helper()
	const python = "/usr/bin/python3" // Debian's own: its packages are not for others
	if err := exec.Command(python, "-c", "import paho.mqtt.client").Run(); err != nil {
		Skip(t, "python3-paho-mqtt for "+python)
	}
	return python
}

// Namespace returns the beginning of a command that runs in a network of its own, where every port is free: as root or
// where the kernel lets others do it. The command brings its loopback device up itself.
func Namespace(t testing.TB) []string {
	t.Helper()
	unshare := Program(t, "unshare")
	Program(t, "ip")
	args := []string{unshare, "--net"}
	if os.Getuid() != 0 {
		args = []string{unshare, "--net", "--user", "--map-root-user"}
	}
	if err := exec.Command(args[0], append(args[1:], "true")...).Run(); err != nil {
		Skip(t, "the right to make a network namespace (unshare)")
	}
	return args
}

// Suite returns the folder of a conformance suite that is kept beside the repository.
func Suite(t testing.TB, name string) string {
	t.Helper()
	root := os.Getenv("WINDROSE_CONFORMANCE")
	if root == "" {
		root = filepath.Join("..", "..", "shared", "conformance")
	}
	dir := filepath.Join(root, name)
	if _, err := os.Stat(dir); err != nil {
		Skip(t, "the suite "+name+" (WINDROSE_CONFORMANCE names its folder)")
	}
	return dir
}
