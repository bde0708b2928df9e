package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// DefaultKeep is how many revisions are kept where nobody says otherwise.
	DefaultKeep = 50
	// revisionLen is the number of hex digits of a revision: 64 bits, enough for the few that one node keeps.
	revisionLen = 16
	// maxRevision bounds the bytes of one revision's file.
	maxRevision = 64 << 20
)

// Errors of a history.
var (
	ErrNoRevision    = errors.New("no such revision")
	ErrManyRevisions = errors.New("more than one revision begins with that")
)

// History keeps the configurations that a node has run, as they were written: one file for each revision in one folder,
// mode 0600, never changed after it is there. Values of secrets are not in it, for a configuration only names where they
// come from. Guarded by mu within a process; between processes by atomic renames: a reader sees a revision whole or
// not at all.
type History struct {
	dir  string
	keep int

	mu sync.Mutex
}

// Revision is one configuration of a history. Immutable.
type Revision struct {
	Rev     string        `json:"rev"` // hash of roots, names and texts: equal revisions are the same text in the same places
	At      time.Time     `json:"at"`
	How     string        `json:"how"`               // start, reload, rollback, ...
	Invalid bool          `json:"invalid,omitempty"` // the text was never valid: it may hold anything and is not shown
	Roots   []string      `json:"roots"`             // absolute paths of the files and folders that were named
	Files   []HistoryFile `json:"files"`

	number int
	file   string
}

// HistoryFile is one file of a revision. Immutable.
type HistoryFile struct {
	Name string `json:"name"` // absolute path
	Text string `json:"text"`
}

// OpenHistory opens the history in dir, which is made when it is not there (mode 0700). keep is the number of revisions
// that stay, the newest; 0 is DefaultKeep.
func OpenHistory(dir string, keep int) (*History, error) {
	if keep <= 0 {
		keep = DefaultKeep
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the history: %w", err)
	}
	return &History{dir: dir, keep: keep}, nil
}

// Record adds what snap was read from as the newest revision and returns its hash. how says in a word or two why it is
// in effect: start, reload, rollback. The same text as that of the newest revision adds nothing. When Record returns
// without an error the revision is on disk.
func (h *History) Record(snap *Snapshot, how string) (rev string, err error) {
	return h.RecordFiles(snap.roots, snap.files, how, true)
}

// RecordFiles is Record for files that need not be valid: what a rollback replaces is kept too, but not shown.
func (h *History) RecordFiles(roots []string, files []WrittenFile, how string, valid bool) (rev string, err error) {
	r := Revision{At: time.Now().UTC().Truncate(time.Millisecond), How: how, Invalid: !valid, Roots: []string{}, Files: []HistoryFile{}}
	for _, name := range roots {
		r.Roots = append(r.Roots, absolute(name))
	}
	for _, f := range files {
		r.Files = append(r.Files, HistoryFile{absolute(f.Name), string(f.Data)})
	}
	r.Rev = r.hash()
	h.mu.Lock()
	defer h.mu.Unlock()
	all, err := h.names()
	if err != nil {
		return "", err
	}
	number := 1
	if len(all) > 0 {
		newest := all[len(all)-1]
		if newest.Rev == r.Rev {
			return r.Rev, nil
		}
		number = newest.number + 1
	}
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return "", fmt.Errorf("encode revision %s: %w", r.Rev, err)
	}
	if len(b) > maxRevision {
		return "", fmt.Errorf("record revision %s: larger than %d MiB", r.Rev, maxRevision>>20)
	}
	name := filepath.Join(h.dir, fmt.Sprintf("%08d-%s.json", number, r.Rev))
	if err := WriteFileAtomic(name, append(b, '\n'), 0o600); err != nil {
		return "", fmt.Errorf("record revision %s: %w", r.Rev, err)
	}
	for i := 0; i <= len(all)-h.keep; i++ {
		_ = os.Remove(filepath.Join(h.dir, all[i].file)) // the next Record tries again
	}
	return r.Rev, nil
}

// absolute makes a path absolute; what is no path of a file (built-in defaults) stays as it is.
func absolute(name string) string {
	if _, err := os.Lstat(name); err != nil {
		return name
	}
	if abs, err := filepath.Abs(name); err == nil {
		return abs
	}
	return name
}

func (r *Revision) hash() string {
	d := sha256.New()
	part := func(s string) { _, _ = io.WriteString(d, strconv.Itoa(len(s))+":"+s) }
	part(strconv.Itoa(len(r.Roots)))
	for _, root := range r.Roots {
		part(root)
	}
	for _, f := range r.Files {
		part(f.Name)
		part(f.Text)
	}
	return hex.EncodeToString(d.Sum(nil))[:revisionLen]
}

// names lists the revisions by the names of their files alone, oldest first.
func (h *History) names() ([]Revision, error) {
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	var out []Revision
	for _, e := range entries {
		number, rev, ok := strings.Cut(strings.TrimSuffix(e.Name(), ".json"), "-")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || len(rev) != revisionLen || !strings.HasSuffix(e.Name(), ".json") {
			continue // not ours
		}
		out = append(out, Revision{Rev: rev, number: n, file: e.Name()})
	}
	slices.SortFunc(out, func(a, b Revision) int { return a.number - b.number })
	return out, nil
}

// List returns all revisions, the newest first, without the texts of their files. A file that cannot be read is left
// out and reported in the error beside the others.
func (h *History) List() ([]Revision, error) {
	all, err := h.names()
	if err != nil {
		return nil, err
	}
	var out []Revision
	var errs []error
	for _, n := range slices.Backward(all) {
		r, err := h.read(n)
		if errors.Is(err, os.ErrNotExist) {
			continue // another process removed it as too old
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for i := range r.Files {
			r.Files[i].Text = ""
		}
		out = append(out, *r)
	}
	return out, errors.Join(errs...)
}

// Load returns the newest revision whose hash begins with rev. The error is ErrNoRevision or ErrManyRevisions where
// that names none or several, or says that the file was changed.
func (h *History) Load(rev string) (*Revision, error) {
	all, err := h.names()
	if err != nil {
		return nil, err
	}
	var found *Revision
	for _, n := range slices.Backward(all) {
		switch {
		case rev == "" || !strings.HasPrefix(n.Rev, rev):
		case found == nil:
			found = &n
		case found.Rev != n.Rev:
			return nil, fmt.Errorf("revision %q: %w", rev, ErrManyRevisions)
		}
	}
	if found == nil {
		return nil, fmt.Errorf("revision %q: %w", rev, ErrNoRevision)
	}
	return h.read(*found)
}

func (h *History) read(n Revision) (*Revision, error) {
	b, err := readBounded(filepath.Join(h.dir, n.file), maxRevision)
	if err != nil {
		return nil, fmt.Errorf("read revision %s: %w", n.Rev, err)
	}
	r := &Revision{number: n.number, file: n.file}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read revision %s: %w", n.Rev, err)
	}
	if r.Rev != n.Rev || r.hash() != r.Rev {
		return nil, fmt.Errorf("read revision %s: its file %s was changed: the hash is another", n.Rev, n.file)
	}
	return r, nil
}

// Restore writes the revision's files where they were and removes the *.yaml files that its folders did not have then,
// tests (*.test.yaml) excepted. Each file is replaced atomically, the set of them is not: check the revision and record
// what is there first.
func (r *Revision) Restore() error {
	keep := map[string]bool{}
	for _, f := range r.Files {
		if !filepath.IsAbs(f.Name) {
			return fmt.Errorf("restore revision %s: %q is not a file", r.Rev, f.Name)
		}
		keep[f.Name] = true
	}
	for _, f := range r.Files {
		mode := os.FileMode(0o640)
		if st, err := os.Stat(f.Name); err == nil {
			mode = st.Mode().Perm()
		}
		if err := os.MkdirAll(filepath.Dir(f.Name), 0o750); err != nil {
			return fmt.Errorf("restore %q: %w", f.Name, err)
		}
		if err := WriteFileAtomic(f.Name, []byte(f.Text), mode); err != nil {
			return fmt.Errorf("restore %q: %w", f.Name, err)
		}
	}
	for _, root := range r.Roots {
		entries, err := os.ReadDir(root)
		if err != nil {
			continue // a file
		}
		for _, e := range entries {
			name := filepath.Join(root, e.Name())
			if keep[name] || !isConfigFile(e) {
				continue
			}
			if err := os.Remove(name); err != nil {
				return fmt.Errorf("restore revision %s: %w", r.Rev, err)
			}
		}
	}
	return nil
}

// Written returns the files in the form of a Snapshot.
func (r *Revision) Written() []WrittenFile {
	out := make([]WrittenFile, len(r.Files))
	for i, f := range r.Files {
		out[i] = WrittenFile{f.Name, []byte(f.Text)}
	}
	return out
}

// WriteFileAtomic replaces a file: the new content is on disk before it has the name, so that after a crash there is the
// old one or the new one. A symbolic link is followed, and stays.
func WriteFileAtomic(name string, data []byte, mode os.FileMode) (err error) {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target
	}
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, ".windrose-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // the error that matters is the first
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err = os.Rename(f.Name(), name); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename durable. Where folders cannot be opened or synced (some file systems) the rename is all there is.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	_ = d.Sync() // EINVAL on file systems that do not have it
	return d.Close()
}
