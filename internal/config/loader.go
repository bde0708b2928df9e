package config

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// loader is one Load. Owned by the goroutine that loads.
type loader struct {
	schema *Schema
	env    func(string) (string, bool)

	errs Errors
	more int // errors that were dropped because errs is full

	plans     map[reflect.Type]*plan
	parts     map[string][]*node // what the files wrote in each section, in order
	names     map[string]map[string]Pos
	secrets   map[string]*resolved
	refs      []pendingRef
	entries   map[string][]*Entry
	singles   map[string]any
	current   *Entry // the entry that is being decoded
	roots     []string
	files     []WrittenFile
	inDefault int // depth of defaults being read: they are not validated, and what they name need not exist
}

// pendingRef is a name that must exist when all files are read. Immutable.
type pendingRef struct {
	pos  Pos
	path string
	name string
	said string // name as it may be shown
	in   []string
	by   *Entry
	opt  bool // the field's default: the module knows what it means where nobody declares it
}

func newLoader(s *Schema, env func(string) (string, bool)) *loader {
	return &loader{
		schema: s, env: env,
		plans: map[reflect.Type]*plan{}, parts: map[string][]*node{}, names: map[string]map[string]Pos{},
		secrets: map[string]*resolved{}, entries: map[string][]*Entry{}, singles: map[string]any{},
	}
}

func (l *loader) full() bool { return len(l.errs) >= maxErrors }

// count is the number of errors so far.
func (l *loader) count() int { return len(l.errs) + l.more }

func (l *loader) fail(pos Pos, path, msg, fix string) {
	if l.full() {
		l.more++
		return
	}
	l.errs = append(l.errs, &Error{File: pos.File, Line: pos.Line, Col: pos.Col, Path: path, Msg: msg, Fix: fix})
}

// plan returns the plan of a struct type.
func (l *loader) plan(t reflect.Type) *plan {
	if p, ok := l.plans[t]; ok {
		return p
	}
	p, err := planOf(t)
	if err != nil {
		l.fail(Pos{}, "", "the schema is wrong: "+err.Error(), "")
		return nil
	}
	l.plans[t] = p
	return p
}

// add reads one file's content and sorts its sections into parts.
func (l *loader) add(name string, data []byte) {
	before := l.count()
	l.files = append(l.files, WrittenFile{name, data})
	root := l.parse(name, data)
	if root == nil {
		if l.count() == before {
			l.fail(Pos{name, 1, 1}, "", "the file is empty", "begin it with: windrose: "+Version)
		}
		return
	}
	if root.kind != kindMap {
		l.failGot(root, "", "a map of sections", "begin the file with: windrose: "+Version)
		return
	}
	l.checkVersion(root)
	sections := l.schema.sections()
	known := []string{"windrose"}
	for _, s := range sections {
		known = append(known, s.Name)
	}
	for i, k := range root.keys {
		if l.full() {
			break
		}
		switch at := slices.IndexFunc(sections, func(s Section) bool { return s.Name == k.text }); {
		case k.text == "windrose":
		case at < 0:
			l.failUnknown(k, "", known)
		default:
			l.merge(&sections[at], k, root.vals[i])
		}
	}
}

func (l *loader) checkVersion(root *node) {
	at, v := root.get("windrose")
	switch {
	case v == nil && l.schema.Bare:
	case v == nil:
		pos := root.pos
		pos.Line, pos.Col = 1, 1
		l.fail(pos, "windrose", "the version is missing", "begin the file with: windrose: "+Version)
	case v.kind == kindBad:
	case v.text != Version || v.kind != kindText:
		l.fail(v.pos, "windrose", "expected "+Version+", got "+v.describe(), "write windrose: "+Version+"; this build reads no other version")
	case at != 0:
		l.fail(root.keys[at].pos, "windrose", "the version must be the first key", "move it to the top of the file")
	}
}

// merge adds what a file writes in a section to what the files before it wrote.
func (l *loader) merge(s *Section, key, n *node) {
	if n.kind == kindBad {
		return
	}
	want, what := kindMap, "a map of keys"
	switch s.Shape {
	case Single:
	case Map, OrderedMap:
		what = "a map from names to entries"
	case List:
		want, what = kindList, "a list"
	}
	if n.kind == kindNull {
		n = &node{pos: n.pos, kind: want}
	}
	if n.kind != want {
		fix := ""
		switch {
		case want == kindList && n.kind == kindMap:
			fix = "begin each entry with a dash: - key: value"
		case want == kindMap && n.kind == kindList && s.Shape == Single:
			fix = "write the keys without dashes"
		case want == kindMap && n.kind == kindList:
			fix = "write each entry by its name, without a dash: name: { ... }"
		}
		l.failGot(n, s.Name, what, fix)
		return
	}
	switch s.Shape {
	case Single:
		if before := l.parts[s.Name]; len(before) > 0 {
			l.fail(key.pos, s.Name, "the section is already written at "+before[0].pos.String(), "keep it in one file")
			return
		}
	case Map, OrderedMap:
		n = l.mergeNames(s, n)
	case List:
	}
	l.parts[s.Name] = append(l.parts[s.Name], n)
}

// mergeNames drops the entries of a collection whose names are bad or taken.
func (l *loader) mergeNames(s *Section, n *node) *node {
	out := &node{pos: n.pos, kind: kindMap}
	for i, k := range n.keys {
		path := joinPath(s.Name, k.text)
		if !entryName.MatchString(k.text) {
			l.fail(k.pos, path, "a name has 1 to 64 letters, digits, dots, dashes or underscores, and begins with a letter, digit or underscore", "rename it")
			continue
		}
		if !l.name(s.Name, k.text, path, k.pos) {
			continue
		}
		out.keys, out.vals = append(out.keys, k), append(out.vals, n.vals[i])
	}
	return out
}

// name takes a name in a section; it reports one that is taken.
func (l *loader) name(section, name, path string, pos Pos) bool {
	if first, dup := l.names[section][name]; dup {
		l.fail(pos, path, "the name is already taken at "+first.String(), "rename one of the two")
		return false
	}
	if l.names[section] == nil {
		l.names[section] = map[string]Pos{}
	}
	l.names[section][name] = pos
	return true
}

func (l *loader) nameList(section string) []string {
	return slices.Sorted(maps.Keys(l.names[section]))
}

// use notes that the current entry depends on another.
func (l *loader) use(section, name, secretDigest string) {
	if l.current == nil {
		return
	}
	if r := (Ref{section, name}); !slices.Contains(l.current.Refs, r) {
		l.current.Refs = append(l.current.Refs, r)
	}
	if secretDigest != "" {
		l.current.secrets = append(l.current.secrets, secretDigest)
	}
}

// addRef notes a name that must exist when all files are read.
func (l *loader) addRef(n *node, path, name string, r *rules) {
	if slices.Contains(r.enum, name) {
		return
	}
	shown := quoteShort(name)
	if n.env != "" {
		shown = n.quote()
	}
	l.refs = append(l.refs, pendingRef{n.pos, path, name, shown, r.ref, l.current, l.inDefault > 0 || r.hasDef && name == r.def})
}

// checkRefs reports names that do not exist.
func (l *loader) checkRefs() {
	for _, r := range l.refs {
		if l.full() {
			l.more++
			break
		}
		at := slices.IndexFunc(r.in, func(section string) bool {
			_, ok := l.names[section][r.name]
			return ok
		})
		if at >= 0 {
			l.current = r.by
			l.use(r.in[at], r.name, "")
		}
		if at >= 0 || r.opt {
			continue
		}
		l.failRef(&r)
	}
	l.current = nil
}

func (l *loader) failRef(r *pendingRef) {
	var all []string
	for _, section := range r.in {
		all = append(all, l.nameList(section)...)
	}
	msg := r.in[0] + " has no entry " + r.said
	if len(r.in) > 1 {
		msg = "neither " + strings.Join(r.in, " nor ") + " has an entry " + r.said
	}
	fix := "add it under " + strings.Join(r.in, ": or ") + ":"
	if near := nearest(r.name, all); near != "" {
		fix = "did you mean '" + near + "'?"
	} else if len(all) > 0 {
		fix += listNames(", or use one of", all)
	}
	l.fail(r.pos, r.path, msg, fix)
}

// finish decodes all sections and closes the Load.
func (l *loader) finish() (*Snapshot, error) {
	sections := l.schema.sections()
	if errs := l.schema.check(false); len(errs) > 0 {
		return nil, errs
	}
	for i := range sections {
		if sections[i].Shape == List {
			l.nameLists(&sections[i])
		}
	}
	for i := range sections {
		l.section(&sections[i])
		if sections[i].Name == secretsSection {
			l.resolveSecrets()
		}
	}
	l.checkRefs()
	if len(l.errs) > 0 {
		errs := l.errs.sorted()
		if l.full() {
			errs = append(errs, &Error{Msg: "reading stopped after " + strconv.Itoa(maxErrors) + " errors"})
		}
		return nil, errs
	}
	return l.snapshot(sections), nil
}
