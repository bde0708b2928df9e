package guard

import (
	"go/ast"
	"go/token"
	"regexp"
	"strings"
	"testing"
)

// ownership is what the comment of a struct that holds state says: who may touch it.
var ownership = regexp.MustCompile(`(?i)immutable|owned by|written by|guarded by|safe for concurrent use`)

// checkPackageDocs: every package has one comment, and says "# Concurrency" where it holds locks, channels, atomics or
// goroutines.
func checkPackageDocs(t *tree) []finding {
	type pkg struct {
		first      *source
		docs       int
		text       string
		concurrent string
	}
	pkgs := map[string]*pkg{}
	var order []string
	t.product(func(s *source) {
		p := pkgs[s.pkg]
		if p == nil {
			p = &pkg{first: s}
			pkgs[s.pkg] = p
			order = append(order, s.pkg)
		}
		if s.file.Doc != nil {
			p.docs++
			p.text += s.file.Doc.Text()
		}
		if why := concurrency(s.file); why != "" && p.concurrent == "" {
			p.concurrent = s.path + " has " + why
		}
	})
	var out []finding
	for _, name := range order {
		p := pkgs[name]
		at := p.first.at(p.first.file.Package, "")
		switch {
		case p.docs == 0:
			at.what = "package " + name + " has no comment"
		case p.docs > 1:
			at.what = "package " + name + " has more than one package comment"
		case p.concurrent != "" && !strings.Contains(p.text, "# Concurrency"):
			at.what = "the comment of package " + name + " has no section # Concurrency; " + p.concurrent
		default:
			continue
		}
		out = append(out, at)
	}
	return out
}

// concurrency names the first thing of a file that more than one goroutine may touch, "" when there is none.
func concurrency(f *ast.File) string {
	why := ""
	for _, i := range f.Imports {
		switch i.Path.Value {
		case `"sync"`, `"sync/atomic"`:
			why = "import of " + i.Path.Value
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n.(type) {
		case *ast.GoStmt:
			why = "a go statement"
		case *ast.ChanType:
			why = "a channel"
		}
		return why == ""
	})
	return why
}

// checkOwnership: a struct that holds state says who owns it. State is a lock, an atomic, a channel or a wait group among
// the fields, or a method that writes to its receiver. Plain data needs no owner; decoding (Unmarshal...) fills a value
// before anybody else sees it and does not count.
func checkOwnership(t *tree) []finding {
	pointer := map[string]bool{} // "folder.Type" that has a method that writes to it
	t.product(func(s *source) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil && !strings.HasPrefix(f.Name.Name, "Unmarshal") {
				if star, ok := f.Recv.List[0].Type.(*ast.StarExpr); ok && writesReceiver(f) {
					pointer[s.pkg+"."+typeName(star.X)] = true
				}
			}
		}
	})
	var out []finding
	t.product(func(s *source) {
		for _, d := range s.file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			for _, spec := range g.Specs {
				ts := spec.(*ast.TypeSpec)
				st, ok := ts.Type.(*ast.StructType)
				if !ok || !pointer[s.pkg+"."+ts.Name.Name] && !holdsState(st) {
					continue
				}
				doc := ts.Doc
				if doc == nil {
					doc = g.Doc
				}
				if doc == nil {
					out = append(out, s.at(ts.Pos(), "type %s holds state and has no comment that says who owns it", ts.Name.Name))
				} else if !ownership.MatchString(strings.ReplaceAll(doc.Text(), "\n", " ")) {
					out = append(out, s.at(ts.Pos(), "the comment of type %s does not say who owns it (immutable after New, "+
						"owned by its loop, guarded by mu, safe for concurrent use)", ts.Name.Name))
				}
			}
		}
	})
	return out
}

// writesReceiver says whether a method assigns to its receiver or to something reached through it.
func writesReceiver(f *ast.FuncDecl) bool {
	if len(f.Recv.List[0].Names) == 0 || f.Body == nil {
		return false
	}
	recv, writes := f.Recv.List[0].Names[0].Name, false
	ast.Inspect(f.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for _, l := range n.Lhs {
				writes = writes || n.Tok != token.DEFINE && rootName(l) == recv
			}
		case *ast.IncDecStmt:
			writes = writes || rootName(n.X) == recv
		}
		return !writes
	})
	return writes
}

// rootName is the variable that an assignable expression goes through, "" when it is the variable itself (assigning to
// the receiver's name changes nothing behind it).
func rootName(e ast.Expr) string {
	deep := false
	for {
		switch x := e.(type) {
		case *ast.Ident:
			if deep {
				return x.Name
			}
			return ""
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		default:
			return ""
		}
		deep = true
	}
}

// typeName is the name of a receiver's type, without its type parameters.
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.IndexExpr:
		return typeName(e.X)
	case *ast.IndexListExpr:
		return typeName(e.X)
	case *ast.ParenExpr:
		return typeName(e.X)
	}
	return ""
}

// holdsState looks for locks, atomics, wait groups and channels among the fields.
func holdsState(st *ast.StructType) bool {
	found := false
	for _, f := range st.Fields.List {
		ast.Inspect(f.Type, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ChanType:
				found = true
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && (x.Name == "sync" || x.Name == "atomic") {
					found = true
				}
			case *ast.FuncType:
				return false
			}
			return !found
		})
	}
	return found
}

func TestPackageComments(t *testing.T) { report(t, checkPackageDocs(load(t))) }
func TestOwnership(t *testing.T)       { report(t, checkOwnership(load(t))) }
