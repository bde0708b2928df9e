package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/windrose-edc/windrose/e2e/need"
)

// binary is the real program in a folder of its own, built once. Guarded by once.
type binary struct {
	once sync.Once
	dir  string
	err  error
}

// raced has the race detector in it and serves all tests but those that look at the time; timed logs each turn of a loop
// that took too long; plain is what users get.
var raced, timed, plain binary

func TestMain(m *testing.M) {
	code := m.Run()
	for _, b := range []*binary{&raced, &timed, &plain} {
		if b.dir != "" {
			_ = os.RemoveAll(b.dir)
		}
	}
	os.Exit(code)
}

func (b *binary) folder(t *testing.T, flags ...string) string {
	t.Helper()
	b.once.Do(func() {
		b.dir, b.err = os.MkdirTemp("", "windrose-e2e-") //nolint:usetesting // it outlives the test that builds it
		if b.err != nil {
			return
		}
		args := append([]string{"build", "-o", filepath.Join(b.dir, "windrose")}, flags...)
		if out, err := exec.Command("go", append(args, "../cmd/windrose")...).CombinedOutput(); err != nil {
			b.err = fmt.Errorf("build windrose: %w\n%s", err, out)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.dir
}

// build returns the folder that holds the binary.
func build(t *testing.T) string {
	t.Helper()
	return raced.folder(t, "-race")
}

// TestScripts runs testdata/script/*.txtar; each is one promise to a user. The commands beyond testscript's own are in
// commands_test.go.
func TestScripts(t *testing.T) { runScripts(t, &raced, "-race") }

// TestTurns runs scripts that make every part of a loop work, and fails when a turn of a loop exceeds its budget. Without
// the race detector, which would be measured otherwise.
func TestTurns(t *testing.T) {
	runScripts(t, &timed, "-tags", "loopdebug")
}

// turnScripts are those that TestTurns runs.
var turnScripts = []string{"never_stuck", "versions", "tls", "users", "takeover", "webhook_retry"}

func runScripts(t *testing.T, b *binary, flags ...string) {
	if testing.Short() {
		t.Skip("the scripts start servers; not in -short")
	}
	for _, p := range []string{"mosquitto", "mosquitto_pub", "mosquitto_sub", "stdbuf"} {
		need.Program(t, p)
	}
	need.Paho(t)
	dir := b.folder(t, flags...)
	p := testscript.Params{Dir: "testdata/script"}
	if b == &timed {
		p = testscript.Params{}
		for _, name := range turnScripts {
			p.Files = append(p.Files, filepath.Join("testdata", "script", name+".txtar"))
		}
	}
	py, err := filepath.Abs("testdata/py")
	if err != nil {
		t.Fatal(err)
	}
	p.Cmds, p.RequireExplicitExec, p.RequireUniqueNames = commands, true, true
	p.Setup = func(e *testscript.Env) error {
		w := newWorld(t, e.WorkDir, dir)
		e.Values[worldKey{}] = w
		e.Defer(w.end)
		e.Setenv("PATH", dir+":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
		e.Setenv("PYTHONPATH", py)
		e.Setenv("PYTHONUNBUFFERED", "1")
		e.Setenv("PYTHONDONTWRITEBYTECODE", "1")
		e.Setenv("HOME", e.WorkDir)
		e.Setenv("TMPDIR", e.WorkDir)
		e.Setenv("LC_ALL", "C.UTF-8")
		return nil
	}
	testscript.Run(t, p)
}
