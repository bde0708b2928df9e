package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Op is what happens to an entry.
type Op uint8

const (
	// Added entries are only in the new configuration.
	Added Op = iota + 1
	// Removed entries are only in the old one.
	Removed
	// Changed entries have the same kind and name and another hash.
	Changed
	// Replaced entries have the same name and another kind: they are removed and added.
	Replaced
	// Reordered sections hold the same entries in an order that means something else; Old and New are nil.
	Reordered
)

func (o Op) String() string {
	switch o {
	case Added:
		return "added"
	case Removed:
		return "removed"
	case Changed:
		return "changed"
	case Replaced:
		return "replaced"
	case Reordered:
		return "reordered"
	}
	return "unknown"
}

// FieldChange is one value that differs. Old is empty for a new value, New for one that is gone.
type FieldChange struct {
	Path string // below the entry: webhook.urls[1]
	Old  string
	New  string
}

// Change is one difference between two configurations. Immutable.
type Change struct {
	Op      Op
	Section string
	Kind    string // the new one, the old one of a removed entry
	Name    string // the new one, the old one of a removed entry
	Old     *Entry
	New     *Entry
	Fields  []FieldChange // of Changed; empty when only the value of a secret is new
	UsedBy  []Ref         // the entries that name this one, in the new configuration (of a removed entry: in the old)
}

// Diff says what becomes of a's entries when b takes over, by section, kind, name and hash; in the order of sections,
// removed entries first. An entry of a list without a name is found again by its content. a and b may come from
// different schemas.
func Diff(a, b *Snapshot) []Change {
	var out []Change
	before, after := a.users(), b.users()
	for _, sec := range b.sections {
		out = append(out, diffSection(&sec, a, b, before, after)...)
	}
	for _, sec := range a.sections {
		if !slices.ContainsFunc(b.sections, func(s Section) bool { return s.Name == sec.Name }) {
			out = append(out, diffSection(&sec, a, b, before, after)...)
		}
	}
	return out
}

func diffSection(sec *Section, a, b *Snapshot, before, after map[Ref][]Ref) []Change {
	olds, news := a.entries[sec.Name], b.entries[sec.Name]
	from := match(olds, news)
	kept := make([]bool, len(olds))
	for _, i := range from {
		if i >= 0 {
			kept[i] = true
		}
	}
	var out []Change
	for i := range olds {
		if !kept[i] {
			out = append(out, newChange(Removed, &olds[i], nil, before))
		}
	}
	ordered, last := true, -1
	for i := range news {
		n := &news[i]
		if from[i] < 0 {
			out = append(out, newChange(Added, nil, n, after))
			continue
		}
		ordered = ordered && from[i] > last
		last = max(last, from[i])
		switch o := &olds[from[i]]; {
		case o.Kind != n.Kind:
			out = append(out, newChange(Replaced, o, n, after))
		case o.Hash != n.Hash:
			c := newChange(Changed, o, n, after)
			c.Fields = diffTrees("", o.tree, n.tree)
			out = append(out, c)
		}
	}
	if !ordered && (sec.Shape == List || sec.Shape == OrderedMap) {
		out = append(out, Change{Op: Reordered, Section: sec.Name})
	}
	return out
}

// match returns for each new entry the index of the old one that it continues, -1 for none: the one of the same name;
// for entries without a name the one of the same content, else the next one left of the same kind.
func match(olds, news []Entry) []int {
	from := make([]int, len(news))
	for i := range from {
		from[i] = -1
	}
	taken := make([]bool, len(olds))
	for _, pass := range []struct {
		named bool
		key   func(e *Entry) string
	}{
		{true, func(e *Entry) string { return e.Name }},
		{false, func(e *Entry) string { return e.Hash }},
		{false, func(e *Entry) string { return e.Kind }},
	} {
		key := pass.key
		left := make(map[string][]int, len(olds))
		for j := range olds {
			if !taken[j] && olds[j].named == pass.named {
				left[key(&olds[j])] = append(left[key(&olds[j])], j)
			}
		}
		for i := range news {
			k := key(&news[i])
			if from[i] >= 0 || news[i].named != pass.named || len(left[k]) == 0 {
				continue
			}
			from[i] = left[k][0]
			taken[from[i]] = true
			left[k] = left[k][1:]
		}
	}
	return from
}

func newChange(op Op, o, n *Entry, users map[Ref][]Ref) Change {
	e := n
	if e == nil {
		e = o
	}
	c := Change{Op: op, Section: e.Section, Kind: e.Kind, Name: e.Name, Old: o, New: n}
	if e.named && e.Name != "" {
		c.UsedBy = slices.Clone(users[Ref{e.Section, e.Name}])
	}
	return c
}

// users lists, for each entry, the entries that name it.
func (s *Snapshot) users() map[Ref][]Ref {
	out := map[Ref][]Ref{}
	for _, sec := range s.sections {
		for i := range s.entries[sec.Name] {
			by := &s.entries[sec.Name][i]
			for _, r := range by.Refs {
				out[r] = append(out[r], Ref{by.Section, by.Name})
			}
		}
	}
	return out
}

// diffTrees lists the values that differ below path.
func diffTrees(path string, a, b *tree) []FieldChange {
	switch {
	case a != nil && b != nil && a.isMap && b.isMap:
		var out []FieldChange
		for i, k := range b.keys {
			out = append(out, diffTrees(joinPath(path, k), a.kid(k), b.kids[i])...)
		}
		for i, k := range a.keys {
			if b.kid(k) == nil {
				out = append(out, FieldChange{Path: joinPath(path, k), Old: a.kids[i].short()})
			}
		}
		return out
	case a != nil && b != nil && a.list && b.list && len(a.kids) == len(b.kids):
		var out []FieldChange
		for i := range b.kids {
			out = append(out, diffTrees(path+"["+strconv.Itoa(i)+"]", a.kids[i], b.kids[i])...)
		}
		return out
	}
	if o, n := a.flow(), b.flow(); o != n {
		return []FieldChange{{path, a.short(), b.short()}}
	}
	return nil
}

func (t *tree) kid(key string) *tree {
	if i := slices.Index(t.keys, key); i >= 0 {
		return t.kids[i]
	}
	return nil
}

// flow is the tree on one line.
func (t *tree) flow() string {
	switch {
	case t == nil:
		return ""
	case t.isMap:
		parts := make([]string, len(t.kids))
		for i, k := range t.kids {
			parts[i] = t.keys[i] + ": " + k.flow()
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case t.list:
		parts := make([]string, len(t.kids))
		for i, k := range t.kids {
			parts[i] = k.flow()
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case t.isText && (t.text == "" || strings.ContainsAny(t.text, " ,[]{}\"\n")):
		return strconv.Quote(t.text)
	}
	return t.text
}

func (t *tree) short() string {
	s := t.flow()
	if r := []rune(s); len(r) > 80 {
		return string(r[:77]) + "..."
	}
	return s
}

// String says in words what happens: "pools.hooks (webhook): webhook.timeout 5s becomes 10s".
func (c Change) String() string {
	what := c.Section
	if c.Name != "" {
		what += "." + c.Name
	}
	if c.Kind != "" {
		what += " (" + c.Kind + ")"
	}
	switch c.Op {
	case Added:
		return what + " is added"
	case Removed:
		return what + " is removed"
	case Replaced:
		return what + " replaces the " + c.Old.Kind + " of that name" + c.usedBy()
	case Reordered:
		return what + " is in another order"
	case Changed:
	}
	if len(c.Fields) == 0 {
		if c.Section == secretsSection {
			return what + " has a new value" + c.usedBy()
		}
		return what + ": a secret that it uses has a new value"
	}
	parts := make([]string, len(c.Fields))
	for i, f := range c.Fields {
		switch {
		case f.Old == "":
			parts[i] = fmt.Sprintf("%s is now %s", f.Path, f.New)
		case f.New == "":
			parts[i] = fmt.Sprintf("%s is no longer %s", f.Path, f.Old)
		default:
			parts[i] = fmt.Sprintf("%s %s becomes %s", f.Path, f.Old, f.New)
		}
	}
	return what + ": " + strings.Join(parts, ", ") + c.usedBy()
}

// usedBy names at most three entries that are concerned too.
func (c Change) usedBy() string {
	if len(c.UsedBy) == 0 {
		return ""
	}
	names := make([]string, 0, 4)
	for i, r := range c.UsedBy {
		if i == 3 {
			names = append(names, strconv.Itoa(len(c.UsedBy)-3)+" more")
			break
		}
		names = append(names, strings.TrimSuffix(r.Section+"."+r.Name, "."))
	}
	return "; used by " + strings.Join(names, ", ")
}
