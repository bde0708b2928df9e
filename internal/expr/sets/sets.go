// Package sets holds named sets that expressions ask: strings, addresses, topics, and maps from strings to strings. They
// are read from files or given in the configuration, and replaced as a whole while events are looked at.
//
// # Concurrency
//
// A Store is immutable after New except for the contents of its sets. A Set is safe for concurrent use: Replace swaps
// the content in one step, and a lookup sees the old one or the new one, never a mixture.
package sets

import (
	"fmt"
	"slices"
	"sync/atomic"
)

// Kind is what a set holds.
type Kind uint8

// The kinds.
const (
	Strings Kind = iota // exact strings
	CIDRs               // addresses and prefixes: holds an address when a prefix does
	Topics              // MQTT topic filters: holds a topic when a filter matches it
	Map                 // strings that lead to strings
)

// String is the kind's word in the configuration.
func (k Kind) String() string {
	switch k {
	case Strings:
		return "strings"
	case CIDRs:
		return "cidrs"
	case Topics:
		return "topics"
	case Map:
		return "map"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// content is what a set holds at one time. Immutable.
type content interface {
	has(key string) bool
	get(key string) (string, bool)
	size() int
}

// Set is one named set. Safe for concurrent use.
type Set struct {
	name    string
	kind    Kind
	current atomic.Pointer[held]
}

// held is a content with what is known of it. Immutable.
type held struct {
	content
	bytes int64
}

// NewSet makes an empty set.
func NewSet(name string, kind Kind) *Set {
	s := &Set{name: name, kind: kind}
	s.current.Store(&held{content: empty{}})
	return s
}

// Name is the set's name.
func (s *Set) Name() string { return s.name }

// Kind is what the set holds.
func (s *Set) Kind() Kind { return s.kind }

// Has says whether key is in the set. It allocates nothing.
func (s *Set) Has(key string) bool { return s.current.Load().has(key) }

// Get is what key leads to; only a Map has values. It allocates nothing.
func (s *Set) Get(key string) (string, bool) { return s.current.Load().get(key) }

// Len is how many entries the set has.
func (s *Set) Len() int { return s.current.Load().size() }

// Bytes is about how much memory the entries take.
func (s *Set) Bytes() int64 { return s.current.Load().bytes }

// empty is the content of a set that was not filled.
type empty struct{}

func (empty) has(string) bool           { return false }
func (empty) get(string) (string, bool) { return "", false }
func (empty) size() int                 { return 0 }

// Store is the named sets of a configuration. Immutable after New.
type Store struct {
	sets  map[string]*Set
	names []string
}

// New makes a store; two sets of one name are an error.
func New(list ...*Set) (*Store, error) {
	st := &Store{sets: make(map[string]*Set, len(list))}
	for _, s := range list {
		if st.sets[s.name] != nil {
			return nil, fmt.Errorf("set %q exists twice", s.name)
		}
		st.sets[s.name] = s
		st.names = append(st.names, s.name)
	}
	slices.Sort(st.names)
	return st, nil
}

// Lookup returns the set of that name, nil when there is none. A nil Store has none.
func (st *Store) Lookup(name string) *Set {
	if st == nil {
		return nil
	}
	return st.sets[name]
}

// Names lists the sets in order of name.
func (st *Store) Names() []string {
	if st == nil {
		return nil
	}
	return st.names
}

// Valued says whether the entries of such a set lead to values.
func (k Kind) Valued() bool { return k == Map }
