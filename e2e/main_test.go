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

// binary is the real program, built once with the race detector.
var binary struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if binary.dir != "" {
		_ = os.RemoveAll(binary.dir)
	}
	os.Exit(code)
}

// build returns the folder that holds the binary.
func build(t *testing.T) string {
	t.Helper()
	binary.once.Do(func() {
		binary.dir, binary.err = os.MkdirTemp("", "windrose-e2e-") //nolint:usetesting // it outlives the test that builds it
		if binary.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-race", "-o", filepath.Join(binary.dir, "windrose"), "../cmd/windrose").CombinedOutput()
		if err != nil {
			binary.err = fmt.Errorf("build windrose: %w\n%s", err, out)
		}
	})
	if binary.err != nil {
		t.Fatal(binary.err)
	}
	return binary.dir
}

// TestScripts runs testdata/script/*.txtar; each is one promise to a user. The commands beyond testscript's own are in
// commands_test.go.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("the scripts start servers; not in -short")
	}
	for _, p := range []string{"mosquitto", "mosquitto_pub", "mosquitto_sub", "stdbuf"} {
		need.Program(t, p)
	}
	need.Paho(t)
	dir := build(t)
	py, err := filepath.Abs("testdata/py")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		Cmds:                commands,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
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
		},
	})
}
