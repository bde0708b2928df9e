package sets

import "slices"

// Spec is a set of strings, addresses or topics in the configuration: `sets: { blocked: { strings: { file: ... } } }`.
// Immutable after it is read.
type Spec struct {
	Values []string `yaml:"values" doc:"Entries of the set: strings, addresses and prefixes, or topic filters." example:"[a, b]"`
	File   string   `yaml:"file" unit:"file" doc:"A file with an entry on each line; empty lines and lines that begin with '# ' do not count. It is read again when it changes."`
}

// MapSpec is a map of strings in the configuration. Immutable after it is read.
type MapSpec struct {
	Values map[string]string `yaml:"values" doc:"Entries of the map."`
	File   string            `yaml:"file" unit:"file" doc:"A file with KEY = VALUE on each line; empty lines and lines that begin with '# ' do not count. It is read again when it changes."`
}

// Open makes the set of that name and fills it. watch has a path where there is a file to watch.
func (s *Spec) Open(name string, kind Kind) (set *Set, watch File, err error) {
	entries := make([]Entry, len(s.Values))
	for i, v := range s.Values {
		entries[i].Key = v
	}
	return open(name, kind, s.File, entries)
}

// Open makes the map of that name and fills it. watch has a path where there is a file to watch.
func (s *MapSpec) Open(name string) (set *Set, watch File, err error) {
	entries := make([]Entry, 0, len(s.Values))
	for k, v := range s.Values {
		entries = append(entries, Entry{k, v})
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	return open(name, Map, s.File, entries)
}

func open(name string, kind Kind, file string, entries []Entry) (*Set, File, error) {
	s := NewSet(name, kind)
	if file == "" {
		return s, File{}, s.Replace(entries)
	}
	return s, File{Set: s, Path: file, Inline: entries}, s.Load(file, entries)
}
