package config

import (
	"hash"
	"io"
	"slices"
	"strconv"
)

// Snapshot is a configuration that was read and found valid, defaults filled. Immutable; safe for concurrent use.
type Snapshot struct {
	hash     string
	sections []Section
	entries  map[string][]Entry
	singles  map[string]any
	roots    []string
	files    []WrittenFile
}

// WrittenFile is one file of a configuration as it was written. Immutable: nobody may write to Data.
type WrittenFile struct {
	Name string // as Load was given it, or found it in a folder
	Data []byte
}

// snapshot closes a Load without errors.
func (l *loader) snapshot(sections []Section) *Snapshot {
	s := &Snapshot{sections: sections, entries: map[string][]Entry{}, singles: l.singles, roots: l.roots, files: l.files}
	for name, es := range l.entries {
		for _, e := range es {
			e.seal()
			s.entries[name] = append(s.entries[name], *e)
		}
	}
	s.hash = sum(s.write)
	return s
}

// write feeds the canonical form of everything, without values of secrets.
func (s *Snapshot) write(h hash.Hash) {
	for _, sec := range s.sections {
		es := slices.Clone(s.entries[sec.Name])
		if sec.Shape == Map {
			slices.SortFunc(es, func(a, b Entry) int { return compareStrings(a.Name, b.Name) })
		}
		_, _ = io.WriteString(h, sec.Name+" "+strconv.Itoa(len(es))+"\n")
		for _, e := range es {
			_, _ = io.WriteString(h, e.Kind+"\x00"+e.Name+"\x00")
			if e.tree != nil {
				e.tree.write(h)
			}
		}
	}
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Hash is a SHA-256 in hex of the canonical form: equal for two files that mean the same, on any machine. The values of
// secrets and of files that are named do not count; see Entry.Hash.
func (s *Snapshot) Hash() string { return s.hash }

// Entries returns the entries of a section in written order; one or none for a single section. The slice is the
// caller's.
func (s *Snapshot) Entries(section string) []Entry { return slices.Clone(s.entries[section]) }

// Has says whether a section is written with at least one entry.
func (s *Snapshot) Has(section string) bool { return len(s.entries[section]) > 0 }

// Single returns a pointer to a single section's struct, with its defaults when the section is not written (see Has);
// nil when there is no such section or it has kinds and is not written.
func (s *Snapshot) Single(section string) any { return s.singles[section] }

// Files are the files that were read, in that order. The slice is the caller's, what Data points to is not.
func (s *Snapshot) Files() []WrittenFile { return slices.Clone(s.files) }

// Roots are the files and folders that Load was asked for.
func (s *Snapshot) Roots() []string { return slices.Clone(s.roots) }
