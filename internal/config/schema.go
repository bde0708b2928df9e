package config

import (
	"fmt"
	"io"
	"os"
)

// Version is the value of the first key of every file: windrose: v1.
const Version = "v1"

// Shape says how a section is written.
type Shape uint8

const (
	// Single is one map of keys.
	Single Shape = iota
	// Map is a collection by name; its order means nothing.
	Map
	// OrderedMap is a collection by name that is read in written order.
	OrderedMap
	// List is a list whose order means something. An entry is named by its key "name" or "id", else by its position.
	List
)

// Section is one top-level key. Immutable once its Schema is used.
type Section struct {
	Name  string
	Doc   string
	Shape Shape
	// Spec is a zero value of the entry's struct; with Kinds, of the keys that all kinds share (nil: none).
	Spec any
	// Kinds are the types of a component, which is written as its single inner key: pools: {hooks: {webhook: {...}}}.
	Kinds []Kind
}

// Kind is one type of component. Immutable once its Schema is used.
type Kind struct {
	Name string
	Doc  string
	Spec any // zero value of the kind's struct; nil: no keys
}

// Schema lists all sections. Immutable once used; safe for concurrent use.
type Schema struct {
	Sections []Section
	// ReadFile reads the file of a secret; nil: the file system, at most 1 MiB. Offline checks set it where the
	// secrets of a node are not at hand.
	ReadFile func(path string) ([]byte, error)
	// Bare says that the files have no version and the entries of lists no names that others refer to: they stand beside a
	// configuration and are not one.
	Bare bool
}

// SecretSource is an entry of the section secrets, which every Schema has: where a secret comes from.
type SecretSource struct {
	File string `yaml:"file" unit:"file" doc:"A file that holds the secret; one trailing newline is cut off." example:"/run/secrets/example"`
	Env  string `yaml:"env" doc:"An environment variable that holds the secret, instead of a file." example:"-"`
}

// Validate asks for exactly one origin.
func (s *SecretSource) Validate() error {
	if (s.File == "") == (s.Env == "") {
		return &FieldError{Err: fmt.Errorf("expected exactly one of file, env"), Fix: "write { file: /path } or { env: NAME }"}
	}
	return nil
}

const secretsSection = "secrets"

// sections returns all sections, the built-in one included.
func (s *Schema) sections() []Section {
	return append([]Section{{
		Name: secretsSection, Shape: Map, Spec: SecretSource{},
		Doc: "Where secrets come from; fields refer to them as { secret: NAME }.",
	}}, s.Sections...)
}

func (s *Schema) readSecret(path string) ([]byte, error) {
	if s.ReadFile != nil {
		return s.ReadFile(path)
	}
	return readBounded(path, maxSecret)
}

// Load reads files and folders into a Snapshot. A folder stands for all its *.yaml files except *.test.yaml, in order of
// their names. Collections of several files are merged; a name that two files give is an error that names both
// places, lists are joined in order of the files. Without any file all sections are empty and hold their defaults.
// The error is Errors: everything that is wrong, sorted.
func (s *Schema) Load(files ...string) (*Snapshot, error) {
	l := newLoader(s, os.LookupEnv)
	l.roots = files
	for _, src := range l.readAll(files) {
		l.add(src.name, src.data)
	}
	return l.finish()
}

// LoadBytes reads one file's content. name stands for the file in errors and places; env gives environment variables
// (nil: there are none). The error is Errors.
func (s *Schema) LoadBytes(name string, b []byte, env func(string) (string, bool)) (*Snapshot, error) {
	l := newLoader(s, env)
	l.roots = []string{name}
	l.add(name, b)
	return l.finish()
}

// LoadWritten reads files as they were written, roots being what Load was asked for then. The environment and the files
// of secrets are those of now. The error is Errors.
func (s *Schema) LoadWritten(roots []string, files []WrittenFile) (*Snapshot, error) {
	l := newLoader(s, os.LookupEnv)
	l.roots = roots
	for _, f := range files {
		l.add(f.Name, f.Data)
	}
	return l.finish()
}

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read %s: %w", path, errTooLarge)
	}
	return b, nil
}
