package guard

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/windrose-edc/windrose"

// source is one parsed Go file. All build tags are read: a rule holds on every system.
type source struct {
	path string // from the root of the tree, with slashes
	pkg  string // folder: "internal/route"
	test bool
	file *ast.File
	fset *token.FileSet
	text []byte
}

// tree is what the rules look at: Go files by folder, in order.
type tree struct {
	files []*source
}

// finding is one place that breaks a rule.
type finding struct {
	where, what string
}

func (f finding) String() string { return f.where + ": " + f.what }

// at makes a finding at a place of the file.
func (s *source) at(p token.Pos, format string, args ...any) finding {
	return finding{fmt.Sprintf("%s:%d", s.path, s.fset.Position(p).Line), fmt.Sprintf(format, args...)}
}

// add parses one file into the tree.
func (t *tree) add(name string, text []byte) error {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, text, parser.ParseComments)
	if err != nil {
		return fmt.Errorf("parse %s: %w", name, err)
	}
	t.files = append(t.files, &source{
		path: name, pkg: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), file: f, fset: fset, text: text,
	})
	return nil
}

// product calls f for every file of the product: below internal/ and cmd/, tests left out.
func (t *tree) product(f func(*source)) {
	for _, s := range t.files {
		if !s.test && (strings.HasPrefix(s.path, "internal/") || strings.HasPrefix(s.path, "cmd/")) {
			f(s)
		}
	}
}

// packages returns the product's folders, sorted.
func (t *tree) packages() []string {
	var out []string
	t.product(func(s *source) { out = append(out, s.pkg) })
	slices.Sort(out)
	return slices.Compact(out)
}

// imports calls f for every import of the module's own packages in the product, with the folder that is imported.
func (t *tree) imports(f func(s *source, at token.Pos, to string)) {
	t.product(func(s *source) {
		for _, i := range s.file.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				continue
			}
			if to, ok := strings.CutPrefix(p, module+"/"); ok {
				f(s, i.Pos(), to)
			}
		}
	})
}

// skipDir says which folders are not ours or not kept.
func skipDir(name string) bool {
	return name == ".git" || name == "node_modules" || name == "windrose-data" || name == "__pycache__" ||
		name == "bin" || name == "data" || name == "bench/results"
}

// walk calls f with the path and the text of every kept file below the root of the repository.
func walk(t *testing.T, f func(name string, text []byte)) {
	t.Helper()
	root := osRoot(t)
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (skipDir(name) || skipDir(d.Name())):
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		f(filepath.ToSlash(name), text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// loaded is the repository's Go files, parsed once for all tests, which only read them.
var loaded struct {
	once sync.Once
	tree *tree
	errs []error
}

// load reads the repository's Go files.
func load(t *testing.T) *tree {
	t.Helper()
	loaded.once.Do(func() {
		loaded.tree = &tree{}
		walk(t, func(name string, text []byte) {
			if strings.HasSuffix(name, ".go") && !strings.Contains(name, "testdata/") {
				if err := loaded.tree.add(name, text); err != nil {
					loaded.errs = append(loaded.errs, err)
				}
			}
		})
	})
	for _, err := range loaded.errs {
		t.Error(err)
	}
	if len(loaded.tree.files) == 0 {
		t.Fatal("no Go files found: wrong root?")
	}
	return loaded.tree
}

// report fails the test with the findings.
func report(t *testing.T, found []finding) {
	t.Helper()
	for _, f := range found {
		t.Error(f)
	}
}
