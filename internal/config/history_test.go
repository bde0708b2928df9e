package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func loadFiles(t *testing.T, files ...string) *Snapshot {
	t.Helper()
	s, err := fleetSchema().Load(files...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openHistory(t *testing.T, keep int) *History {
	t.Helper()
	h, err := OpenHistory(filepath.Join(t.TempDir(), "history"), keep)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHistoryKeepsTheTextAndPutsItBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "conf")
	first := "windrose: v1 # a comment stays\nnode: { name: \"${env.HOME}\" }\n"
	writeFile(t, filepath.Join(dir, "a.yaml"), first)
	writeFile(t, filepath.Join(dir, "b.yaml"), "windrose: v1\nsurge: { x: {} }\n")
	h := openHistory(t, 0)
	rev, err := h.Record(loadFiles(t, dir), "start")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := h.Record(loadFiles(t, dir), "reload"); err != nil || again != rev {
		t.Errorf("the same text is recorded as %s, %v, want %s", again, err, rev)
	}
	writeFile(t, filepath.Join(dir, "a.yaml"), "windrose: v1\nnode: { name: other }\n")
	writeFile(t, filepath.Join(dir, "c.yaml"), "windrose: v1\nsurge: { y: {} }\n")
	writeFile(t, filepath.Join(dir, "c.test.yaml"), "tests: []\n")
	if err := os.Remove(filepath.Join(dir, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	second, err := h.Record(loadFiles(t, dir), "reload")
	if err != nil || second == rev {
		t.Fatalf("another text is recorded as %s, %v", second, err)
	}
	list, err := h.List()
	if err != nil || len(list) != 2 || list[0].Rev != second || list[1].Rev != rev || list[1].How != "start" || list[1].Files[0].Text != "" {
		t.Fatalf("list: %+v, %v", list, err)
	}
	old, err := h.Load(rev[:6])
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Restore(); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, filepath.Join(dir, "a.yaml")); got != first {
		t.Errorf("a.yaml is\n%s\nwant\n%s", got, first)
	}
	if _, err := os.Stat(filepath.Join(dir, "c.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("c.yaml, which the revision does not have, is still there: %v", err)
	}
	readFile(t, filepath.Join(dir, "c.test.yaml"))
	if back, err := h.Record(loadFiles(t, dir), "rollback"); err != nil || back != rev {
		t.Errorf("what was put back is revision %s, %v, want %s", back, err, rev)
	}
	if list, err := h.List(); err != nil || len(list) != 3 || list[0].How != "rollback" {
		t.Errorf("list after the rollback: %+v, %v", list, err)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	h := openHistory(t, 3)
	for i := range 10 {
		if _, err := h.RecordFiles([]string{"x"}, []WrittenFile{{"x", fmt.Appendf(nil, "%d", i)}}, "reload", true); err != nil {
			t.Fatal(err)
		}
	}
	list, err := h.List()
	if err != nil || len(list) != 3 {
		t.Fatalf("%d revisions, %v, want 3", len(list), err)
	}
	r, err := h.Load(list[0].Rev)
	if err != nil || r.Files[0].Text != "9" {
		t.Errorf("the newest is %+v, %v", r, err)
	}
}

func TestHistoryRefusesWhatWasChanged(t *testing.T) {
	h := openHistory(t, 0)
	rev, err := h.RecordFiles(nil, []WrittenFile{{"x", []byte("genuine")}}, "start", true)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(h.dir, "00000001-"+rev+".json")
	if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", st.Mode(), err)
	}
	writeFile(t, name, strings.Replace(readFile(t, name), "genuine", "changed", 1))
	if _, err := h.Load(rev); err == nil || !strings.Contains(err.Error(), "was changed") {
		t.Errorf("a changed revision loads: %v", err)
	}
	if _, err := h.Load("ffff"); !errors.Is(err, ErrNoRevision) {
		t.Errorf("an unknown revision: %v", err)
	}
	if _, err := h.Load(""); !errors.Is(err, ErrNoRevision) {
		t.Errorf("no revision: %v", err)
	}
	writeFile(t, filepath.Join(h.dir, "notes.txt"), "not ours")
	writeFile(t, filepath.Join(h.dir, "00000002-0123456789abcdef.json"), "{")
	list, err := h.List()
	if len(list) != 0 || err == nil {
		t.Errorf("list of broken files: %+v, %v", list, err)
	}
}

func TestHistoryIsSafeForConcurrentUse(t *testing.T) {
	h := openHistory(t, 5)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 5 {
				if _, err := h.RecordFiles(nil, []WrittenFile{{"x", fmt.Appendf(nil, "%d %d", i, j)}}, "reload", true); err != nil {
					t.Error(err)
				}
				if _, err := h.List(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if list, err := h.List(); err != nil || len(list) != 5 {
		t.Errorf("%d revisions, %v, want 5", len(list), err)
	}
}

func TestAtomicWriteFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	writeFile(t, real, "old")
	if err := os.Symlink("real", link); err != nil {
		t.Skip(err)
	}
	if err := WriteFileAtomic(link, []byte("new"), 0o640); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Lstat(link); err != nil || st.Mode()&os.ModeSymlink == 0 || readFile(t, real) != "new" {
		t.Errorf("the link is %v, %v and leads to %q", st, err, readFile(t, real))
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
