package guard

import (
	"bytes"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"strings"
	"testing"
)

const (
	linesWarn = 600 // beyond it a file is named in the log
	linesMax  = 700 // beyond it the test fails
)

// checkInit: no init functions and no package whose name says nothing.
func checkInit(t *tree) []finding {
	var out []finding
	t.product(func(s *source) {
		switch name := s.file.Name.Name; name {
		case "util", "utils", "common", "helper", "helpers", "types", "base", "manager", "misc", "core":
			out = append(out, s.at(s.file.Package, "package %s: a name says what it is about", name))
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				out = append(out, s.at(f.Pos(), "no init: whoever needs it calls it"))
			}
		}
	})
	return out
}

var lowerSnake = regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)*\.go$`)

// checkFiles: names in lower_snake, and a length that can be read.
func checkFiles(t *tree) (bad, long []finding) {
	for _, s := range t.files {
		if !lowerSnake.MatchString(path.Base(s.path)) {
			bad = append(bad, finding{s.path, "file names are lower_snake"})
		}
		n := bytes.Count(s.text, []byte("\n"))
		if !s.test && n > linesMax {
			bad = append(bad, s.at(s.file.Package, "%d lines, at most %d: one concept each", n, linesMax))
		} else if n > linesWarn {
			long = append(long, s.at(s.file.Package, "%d lines, more than %d", n, linesWarn))
		}
	}
	return bad, long
}

// checkPanics: a panic says in a comment, on its line or the line before, why it cannot be an error.
func checkPanics(t *tree) []finding {
	var out []finding
	t.product(func(s *source) {
		explained := map[int]bool{}
		for _, g := range s.file.Comments {
			last := s.fset.Position(g.End()).Line
			explained[last], explained[last+1] = true, true
		}
		documented := map[ast.Node]bool{} // functions whose comment speaks of the panic
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				documented[f] = f.Doc != nil && strings.Contains(strings.ToLower(f.Doc.Text()), "panic")
			}
		}
		for _, d := range s.file.Decls {
			ast.Inspect(d, func(n ast.Node) bool {
				c, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if id, ok := c.Fun.(*ast.Ident); ok && id.Name == "panic" && !documented[d] && !explained[s.fset.Position(c.Pos()).Line] {
					out = append(out, s.at(c.Pos(), "panic without a comment that says why it is not an error"))
				}
				return true
			})
		}
	})
	return out
}

// checkGo: a go statement stands in a function that adds to a wait group, so that somebody waits for the goroutine.
func checkGo(t *tree) []finding {
	var out []finding
	t.product(func(s *source) {
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			adds := false
			ast.Inspect(f.Body, func(n ast.Node) bool {
				if c, ok := n.(*ast.CallExpr); ok {
					if sel, ok := c.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Add" && len(c.Args) == 1 {
						adds = true
					}
				}
				return true
			})
			if adds {
				continue
			}
			ast.Inspect(f.Body, func(n ast.Node) bool {
				if g, ok := n.(*ast.GoStmt); ok {
					out = append(out, s.at(g.Pos(), "go statement without the wait group that waits for it (use WaitGroup.Go)"))
				}
				return true
			})
		}
	})
	return out
}

var unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)

// checkUnfinished: what is left to do is an issue, not a comment.
func checkUnfinished(t *tree) []finding {
	var out []finding
	for _, s := range t.files {
		for _, g := range s.file.Comments {
			for _, c := range g.List {
				if m := unfinished.FindString(c.Text); m != "" {
					out = append(out, s.at(c.Pos(), "%s in a comment: make it an issue", m))
				}
			}
		}
	}
	return out
}

// checkErrors: an error's text says verb and object, never that something failed.
func checkErrors(t *tree) []finding {
	var out []finding
	t.product(func(s *source) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok || len(c.Args) == 0 {
				return true
			}
			sel, ok := c.Fun.(*ast.SelectorExpr)
			lit, isLit := c.Args[0].(*ast.BasicLit)
			if ok && isLit && lit.Kind == token.STRING && (sel.Sel.Name == "Errorf" || sel.Sel.Name == "New") {
				if x, ok := sel.X.(*ast.Ident); ok && (x.Name == "fmt" || x.Name == "errors") && strings.Contains(lit.Value, "failed to") {
					out = append(out, s.at(c.Pos(), "error text says \"failed to\": verb and object are enough"))
				}
			}
			return true
		})
	})
	return out
}

func TestNoInit(t *testing.T)             { report(t, checkInit(load(t))) }
func TestPanicsAreExplained(t *testing.T) { report(t, checkPanics(load(t))) }
func TestGoroutinesAreWaitedFor(t *testing.T) {
	report(t, checkGo(load(t)))
}
func TestNothingUnfinished(t *testing.T) { report(t, checkUnfinished(load(t))) }
func TestErrorTexts(t *testing.T)        { report(t, checkErrors(load(t))) }

func TestFiles(t *testing.T) {
	bad, long := checkFiles(load(t))
	for _, f := range long {
		t.Log(f)
	}
	report(t, bad)
}
