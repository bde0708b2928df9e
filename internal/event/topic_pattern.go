package event

import (
	"bytes"
	"fmt"
	"strings"
)

// Pattern is a topic filter whose single-level wildcards may have names: site/{tenant}/{id}/#. Immutable after
// ParsePattern.
type Pattern struct {
	text   string
	filter []byte
	names  []string
	levels []int // levels[i] is the level that names[i] captures, counted from 0, ascending
}

// ParsePattern reads the topic syntax of routes and access rules: an MQTT filter in which {name} takes the place of a
// whole level and matches like +. A name is made of letters, digits, _, - and . and occurs once.
func ParsePattern(s string) (Pattern, error) {
	p := Pattern{text: s}
	levels := strings.Split(s, "/")
	for i, l := range levels {
		if !strings.ContainsAny(l, "{}") {
			continue
		}
		name := strings.TrimSuffix(l[1:], "}")
		if l[0] != '{' || len(name) != len(l)-2 || !validName(name) {
			return Pattern{}, fmt.Errorf("parse topic %q: level %d, %q, must be a plain level or {name}", s, i+1, l)
		}
		for _, n := range p.names {
			if n == name {
				return Pattern{}, fmt.Errorf("parse topic %q: {%s} occurs twice", s, name)
			}
		}
		p.names, p.levels = append(p.names, name), append(p.levels, i)
		levels[i] = "+"
	}
	p.filter = []byte(strings.Join(levels, "/"))
	if !ValidFilter(p.filter) {
		return Pattern{}, fmt.Errorf("parse topic %q: not a topic filter: + and {name} stand alone in their level, # alone in the last one", s)
	}
	return p, nil
}

// Filter is the plain MQTT filter of the pattern. Not to be written.
func (p *Pattern) Filter() []byte { return p.filter }

// Names are the names of the captures in the order of their levels. Not to be written.
func (p *Pattern) Names() []string { return p.names }

// String is the pattern as it was written.
func (p *Pattern) String() string { return p.text }

// Captures appends to dst the levels of topic that the names stand for, in the order of Names; they point into topic.
// topic must be one that Filter matches, else fewer may be appended. It also serves for a filter that Filter covers.
func (p *Pattern) Captures(topic []byte, dst [][]byte) [][]byte {
	next := 0
	for at, more := 0, true; more && next < len(p.levels); at++ {
		var level []byte
		level, topic, more = cutLevel(topic)
		if at == p.levels[next] {
			dst = append(dst, level)
			next++
		}
	}
	return dst
}

// Template makes topic names out of captures and other values: new/{tenant}/x-{id}. Immutable after ParseTemplate.
type Template struct {
	text  string
	parts []templatePart
}

// templatePart is some literal text and the value that follows it. Immutable after ParseTemplate.
type templatePart struct {
	lit  string
	name string // "" in a last part that ends with its literal
}

// ParseTemplate reads a topic name with {name} in any places.
func ParseTemplate(s string) (Template, error) {
	t := Template{text: s}
	for rest := s; rest != ""; {
		lit, tail, found := strings.Cut(rest, "{")
		part := templatePart{lit: lit}
		rest = ""
		if found {
			if part.name, rest, found = strings.Cut(tail, "}"); !found || !validName(part.name) {
				return Template{}, fmt.Errorf("parse topic %q: { must begin a {name}", s)
			}
		}
		if strings.Contains(lit, "}") {
			return Template{}, fmt.Errorf("parse topic %q: } without {", s)
		}
		t.parts = append(t.parts, part)
	}
	// What the template makes is a topic when each value is a piece of a level.
	sample, ok := t.AppendTo(nil, func(string) []byte { return []byte("x") })
	if !ok {
		return Template{}, fmt.Errorf("parse topic %q: %w", s, ErrTopicLength)
	}
	if err := CheckTopic(sample); err != nil {
		return Template{}, fmt.Errorf("parse topic %q: %w", s, err)
	}
	return t, nil
}

// Names are the names that the template uses, in order, repeated ones repeated.
func (t *Template) Names() []string {
	var names []string
	for _, p := range t.parts {
		if p.name != "" {
			names = append(names, p.name)
		}
	}
	return names
}

// String is the template as it was written.
func (t *Template) String() string { return t.text }

// AppendTo appends the topic to dst, with lookup's value in the place of each name. ok is false, and dst comes back as
// it was, when a value is empty, holds / + # or anything that ValidUTF8 refuses, when a value would make the topic begin
// with $ where the template does not, or when the topic would be longer than MaxTopic: values come from peers and must
// not move an event to another level.
func (t *Template) AppendTo(dst []byte, lookup func(name string) []byte) (topic []byte, ok bool) {
	start := len(dst)
	for _, p := range t.parts {
		dst = append(dst, p.lit...)
		if p.name == "" {
			continue
		}
		v := lookup(p.name)
		if !validLevel(v) || v[0] == '$' && len(dst) == start || len(v) > MaxTopic {
			return dst[:start], false
		}
		dst = append(dst, v...)
	}
	if len(dst)-start > MaxTopic {
		return dst[:start], false
	}
	return dst, true
}

// AppendFilterTo is AppendTo for a topic filter: a value may be +, where it stands alone in its level.
func (t *Template) AppendFilterTo(dst []byte, lookup func(name string) []byte) (filter []byte, ok bool) {
	start := len(dst)
	for _, p := range t.parts {
		dst = append(dst, p.lit...)
		if p.name == "" {
			continue
		}
		v := lookup(p.name)
		if string(v) != "+" && !validLevel(v) || v[0] == '$' && len(dst) == start || len(v) > MaxTopic {
			return dst[:start], false
		}
		dst = append(dst, v...)
	}
	if !ValidFilter(dst[start:]) {
		return dst[:start], false
	}
	return dst, true
}

// validLevel says whether v can stand for one level of a topic name.
func validLevel(v []byte) bool {
	return len(v) > 0 && bytes.IndexByte(v, '/') < 0 && bytes.IndexByte(v, '+') < 0 && bytes.IndexByte(v, '#') < 0 &&
		ValidUTF8(v)
}

func validName(s string) bool {
	for _, c := range []byte(s) {
		if c-'0' > 9 && c|0x20-'a' > 'z'-'a' && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return s != ""
}
