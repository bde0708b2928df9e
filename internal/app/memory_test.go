package app

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/windrose-edc/windrose/internal/observe"
)

func TestCgroupLimit(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"version 2":              {map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "1000000\n"}, 1000000},
		"version 2, none":        {map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, 0},
		"the parent is tighter":  {map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "9000\n", "sys/fs/cgroup/a/memory.max": "5000\n"}, 5000},
		"container":              {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "7000\n"}, 7000},
		"version 1":              {map[string]string{"proc/self/cgroup": "5:memory:/x\n4:cpu:/x\n", "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "6000\n"}, 6000},
		"version 1, none":        {map[string]string{"proc/self/cgroup": "5:memory:/x\n", "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		"no control groups":      {nil, 0},
		"garbage":                {map[string]string{"proc/self/cgroup": "x\n\n0::\n::::\n"}, 0},
		"garbage in the numbers": {map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "-5\n"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for f, text := range c.files {
				f = filepath.Join(root, f)
				if err := os.MkdirAll(filepath.Dir(f), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got, file := cgroupLimit(root); got != c.want {
				t.Errorf("got %d of %q, want %d", got, file, c.want)
			}
		})
	}
}

func TestMemoryLook(t *testing.T) {
	m := &memory{limit: 1000}
	changes := 0
	look := func(used, collected int64) {
		m.look(used, func() int64 { return collected }, observe.Discard(), func() { changes++ })
	}
	look(900, 0)
	look(950, 500) // it was garbage
	if m.isShort() || changes != 0 {
		t.Fatal("short although a collection helped")
	}
	look(950, 940)
	if !m.isShort() || changes != 1 {
		t.Fatal("not short above the high mark")
	}
	look(900, 0) // between the marks nothing changes
	if !m.isShort() || changes != 1 {
		t.Fatal("no longer short between the marks")
	}
	look(800, 0)
	if m.isShort() || changes != 2 {
		t.Fatal("still short below the low mark")
	}
	(&memory{}).look(math.MaxInt64, nil, observe.Discard(), nil) // without a limit nothing is short
}

func TestMemoryOfTheGroup(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	root := t.TempDir()
	for f, text := range map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1073741824\n"} {
		f = filepath.Join(root, f)
		if err := os.MkdirAll(filepath.Dir(f), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := &memory{}
	m.configure(observe.NewRegistry(), observe.Discard(), root)
	if want := int64(1073741824 * 9 / 10); m.limit != want || debug.SetMemoryLimit(-1) != want {
		t.Errorf("limit %d, runtime %d, want nine tenths of 1 GiB", m.limit, debug.SetMemoryLimit(-1))
	}
	debug.SetMemoryLimit(5 << 30)
	m = &memory{}
	m.configure(observe.NewRegistry(), observe.Discard(), root)
	if m.limit != 5<<30 || m.from != "GOMEMLIMIT" {
		t.Errorf("limit %d from %s: what the operator said wins", m.limit, m.from)
	}
}
