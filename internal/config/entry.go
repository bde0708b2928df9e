package config

import (
	"hash"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Entry is one component. Immutable after Load; nobody may write to what Spec and Common point to.
type Entry struct {
	Section string
	// Name is the name in a collection, the key "name" or "id" of a list's entry, else its position from 1; "" for a
	// single section.
	Name string
	Kind string // the single inner key, "" in sections without kinds
	Spec any    // pointer to the kind's decoded struct, or to the section's
	// Common is a pointer to the decoded struct of the keys that all kinds share; nil in sections without kinds or
	// without such keys.
	Common any
	Pos    Pos
	// Hash is a SHA-256 in hex of kind, name, spec and, keyed with a number of this process, the values of its
	// secrets: within one process it is equal exactly when nothing about the entry changed.
	Hash string
	Refs []Ref // the entries that this one names, each once

	tree    *tree
	node    *node
	named   bool     // Name was written
	secrets []string // digests
}

// Ref is the place of an entry.
type Ref struct {
	Section string
	Name    string
}

// nameKey returns the key that names an entry of a list, "" when its spec has none.
func (l *loader) nameKey(s *Section) string {
	if l.schema.Bare || s.Spec == nil || base(reflect.TypeOf(s.Spec)).Kind() != reflect.Struct {
		return ""
	}
	p := l.plan(base(reflect.TypeOf(s.Spec)))
	if p == nil {
		return ""
	}
	for _, key := range []string{"name", "id"} {
		if f := p.find(key); f != nil && f.typ.Kind() == reflect.String {
			return key
		}
	}
	return ""
}

// nameLists takes the names of a list's entries before anything refers to them.
func (l *loader) nameLists(s *Section) {
	key := l.nameKey(s)
	if key == "" {
		return
	}
	for _, part := range l.parts[s.Name] {
		for i, n := range part.vals {
			_, v := n.get(key)
			if v == nil || v.kind != kindText || v.text == "" {
				continue
			}
			path := s.Name + "[" + strconv.Itoa(i) + "]." + key
			if !entryName.MatchString(v.text) {
				l.fail(v.pos, path, "a name has 1 to 64 letters, digits, dots, dashes or underscores, and begins with a letter, digit or underscore", "rename it")
				continue
			}
			l.name(s.Name, v.text, path, v.pos)
		}
	}
}

// section decodes all entries of a section.
func (l *loader) section(s *Section) {
	position := 0
	for _, part := range l.parts[s.Name] {
		switch s.Shape {
		case Single:
			l.entry(s, &Entry{Section: s.Name, Pos: part.pos, node: part, named: true}, s.Name)
		case Map, OrderedMap:
			for i, k := range part.keys {
				e := &Entry{Section: s.Name, Name: k.text, Pos: k.pos, node: part.vals[i], named: true}
				l.entry(s, e, joinPath(s.Name, k.text))
			}
		case List:
			key := l.nameKey(s)
			for i, n := range part.vals {
				position++
				e := &Entry{Section: s.Name, Name: strconv.Itoa(position), Pos: n.pos, node: n}
				if _, v := n.get(key); v != nil && v.kind == kindText && v.text != "" {
					e.Name, e.named = v.text, true
				}
				l.entry(s, e, s.Name+"["+strconv.Itoa(i)+"]")
			}
		}
	}
	if s.Shape == Single {
		l.single(s)
	}
}

// single keeps a single section's struct, with its defaults when it is not written.
func (l *loader) single(s *Section) {
	if es := l.entries[s.Name]; len(es) > 0 {
		l.singles[s.Name] = es[0].Spec
		return
	}
	if s.Spec == nil || len(l.parts[s.Name]) > 0 {
		return
	}
	v := reflect.New(base(reflect.TypeOf(s.Spec)))
	l.fill(v.Elem(), &field{typ: v.Elem().Type()}, s.Name, Pos{})
	l.singles[s.Name] = v.Interface()
}

// entry decodes one entry and keeps it, whatever is wrong with it.
func (l *loader) entry(s *Section, e *Entry, path string) {
	if l.full() {
		return
	}
	l.entries[s.Name] = append(l.entries[s.Name], e)
	if e.node.kind == kindBad {
		return
	}
	if s.Name == secretsSection && e.node.kind != kindMap && e.node.kind != kindNull {
		l.fail(e.node.pos, path, "expected where the secret comes from, got a value written out", "write { file: /path } or { env: VARIABLE }")
		return
	}
	l.current = e
	defer func() { l.current = nil }()
	if len(s.Kinds) == 0 {
		if s.Spec == nil {
			return
		}
		v := reflect.New(base(reflect.TypeOf(s.Spec)))
		e.tree = l.decode(v.Elem(), e.node, path, &rules{})
		e.Spec = v.Interface()
		return
	}
	l.component(s, e, path)
}

// component decodes an entry that is written as its single inner key beside the common keys.
func (l *loader) component(s *Section, e *Entry, path string) {
	n := e.node
	kinds := make([]string, len(s.Kinds))
	for i, k := range s.Kinds {
		kinds[i] = k.Name
	}
	if n.kind != kindMap {
		fix := "write { " + kinds[0] + ": { ... } }"
		if n.scalar() && slices.Contains(kinds, n.text) {
			fix = "write { " + n.text + ": {} }"
		}
		l.failGot(n, path, "a map with one of "+strings.Join(kinds, ", "), fix)
		return
	}
	var kind *Kind
	var body *node
	common := &node{pos: n.pos, kind: kindMap}
	t := &tree{isMap: true}
	for i, k := range n.keys {
		at := slices.Index(kinds, k.text)
		switch {
		case at < 0:
			common.keys, common.vals = append(common.keys, k), append(common.vals, n.vals[i])
		case kind != nil:
			l.fail(k.pos, path, "is both "+kind.Name+" and "+k.text, "make two entries of it")
		default:
			kind, body = &s.Kinds[at], n.vals[i]
		}
	}
	spec := s.Spec
	if spec == nil {
		spec = struct{}{}
	}
	common.partial = n.partial
	before := l.count()
	v := reflect.New(base(reflect.TypeOf(spec)))
	if kind == nil {
		l.unknownKinds(common, v.Type().Elem(), path, s.Kinds)
	}
	unknown := l.count() > before
	ct := l.decodeStruct(v.Elem(), common, path, kinds)
	if kind == nil {
		if !unknown && !n.partial {
			l.fail(n.pos, path, "the type is missing: expected one of "+strings.Join(kinds, ", "), "write "+kinds[0]+": { ... } inside")
		}
		return
	}
	e.Kind = kind.Name
	if body.kind == kindBad {
		return
	}
	sub := joinPath(path, kind.Name)
	kspec := kind.Spec
	if kspec == nil {
		kspec = struct{}{}
	}
	kv := reflect.New(base(reflect.TypeOf(kspec)))
	body = l.misplaced(body, kv.Type().Elem(), v.Type().Elem(), sub, kind.Name)
	kt := l.decode(kv.Elem(), body, sub, &rules{})
	e.Spec = kv.Interface()
	if l.count() == before {
		l.validate(v.Elem(), n, path)
	}
	if s.Spec != nil {
		e.Common = v.Interface()
	}
	if kt == nil || ct == nil || l.count() > before {
		return
	}
	t.add(kind.Name, kt)
	t.keys, t.kids = append(t.keys, ct.keys...), append(t.kids, ct.kids...)
	e.tree = t
}

// unknownKinds reports keys of an entry without a kind that are no common keys either, and takes them out.
func (l *loader) unknownKinds(n *node, common reflect.Type, path string, kinds []Kind) {
	p := l.plan(common)
	if p == nil {
		return
	}
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.Name
	}
	keep := &node{pos: n.pos, kind: kindMap}
	for i, k := range n.keys {
		if p.find(k.text) != nil {
			keep.keys, keep.vals = append(keep.keys, k), append(keep.vals, n.vals[i])
			continue
		}
		fix := listNames("use one of", names)
		if owner := l.kindWith(kinds, k.text); owner != "" && nearest(k.text, names) == "" {
			l.fail(k.pos, path, "the type is missing before "+quoteShort(k.text), "write "+owner+": { "+k.text+": ... }")
			continue
		}
		if near := nearest(k.text, append(p.names(), names...)); near != "" {
			fix = "did you mean '" + near + "'?"
		}
		l.fail(k.pos, path, "unknown type "+quoteShort(k.text), fix)
	}
	n.keys, n.vals = keep.keys, keep.vals
}

// kindWith is the first kind that has a key, "" for none.
func (l *loader) kindWith(kinds []Kind, key string) string {
	for _, k := range kinds {
		if k.Spec == nil {
			continue
		}
		if p := l.plan(base(reflect.TypeOf(k.Spec))); p != nil && p.find(key) != nil {
			return k.Name
		}
	}
	return ""
}

// misplaced reports keys of a kind's body that belong beside the kind, and takes them out.
func (l *loader) misplaced(body *node, spec, common reflect.Type, path, kind string) *node {
	if body.kind != kindMap || classOf(spec, "") != classStruct || classOf(common, "") != classStruct {
		return body
	}
	p, c := l.plan(spec), l.plan(common)
	if p == nil || c == nil {
		return body
	}
	keep := *body
	keep.keys, keep.vals = nil, nil
	for i, k := range body.keys {
		if p.find(k.text) == nil && c.find(k.text) != nil {
			l.fail(k.pos, path, "the key "+quoteShort(k.text)+" belongs beside "+kind+", not inside it", "move it out: "+kind+": { ... }, "+k.text+": ...")
			keep.partial = true
			continue
		}
		keep.keys, keep.vals = append(keep.keys, k), append(keep.vals, body.vals[i])
	}
	return &keep
}

// seal computes the entry's hash.
func (e *Entry) seal() {
	e.Hash = sum(func(h hash.Hash) {
		_, _ = io.WriteString(h, e.Section+"\x00"+e.Kind+"\x00")
		if e.named {
			_, _ = io.WriteString(h, e.Name)
		}
		if e.tree != nil {
			e.tree.write(h)
		}
		for _, d := range slices.Compact(slices.Sorted(slices.Values(e.secrets))) {
			_, _ = io.WriteString(h, "s"+d)
		}
	})
}
