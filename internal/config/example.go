package config

import (
	"reflect"
	"slices"
	"strings"
)

// Example writes a file that shows every section, kind and key with its default or a sample, commented out: it can be
// loaded as it is and means nothing. Removing the # at the beginning of a section's lines puts the section in effect.
func (s *Schema) Example() []byte {
	var b strings.Builder
	b.WriteString("# Every section, type and key with its default or a sample value.\n")
	b.WriteString("# To use one, remove the # at the beginning of its lines and everything you do not need.\n")
	b.WriteString("windrose: " + Version + "\n")
	for _, sec := range s.sections() {
		b.WriteString("\n# " + sec.Name + ": " + strings.ReplaceAll(sec.Doc, "\n", " ") + "\n")
		w := &exampleWriter{s: s}
		w.line(0, sec.Name+":")
		w.section(&sec)
		for _, line := range w.lines {
			b.WriteString("#" + line + "\n")
		}
	}
	return []byte(b.String())
}

// exampleWriter collects the lines of one section. Owned by the call of Example.
type exampleWriter struct {
	s     *Schema
	lines []string
}

func (w *exampleWriter) line(indent int, text string) {
	w.lines = append(w.lines, strings.Repeat("  ", indent)+text)
}

func (w *exampleWriter) comment(indent int, text string) {
	if text != "" {
		w.line(indent, "# "+strings.ReplaceAll(text, "\n", " "))
	}
}

func (w *exampleWriter) section(sec *Section) {
	kinds := sec.Kinds
	if len(kinds) == 0 {
		kinds = []Kind{{}}
	}
	for _, k := range kinds {
		switch sec.Shape {
		case Single:
			w.entry(1, sec, k)
		case Map, OrderedMap:
			w.line(1, sampleName(k)+":")
			w.entry(2, sec, k)
		case List:
			from := len(w.lines)
			w.entry(2, sec, k)
			w.dash(from)
		}
	}
}

// dash turns the first key after from into the beginning of a list's entry.
func (w *exampleWriter) dash(from int) {
	for i := from; i < len(w.lines); i++ {
		if text := strings.TrimLeft(w.lines[i], " "); !strings.HasPrefix(text, "#") {
			at := len(w.lines[i]) - len(text)
			w.lines[i] = w.lines[i][:at-2] + "- " + text
			return
		}
	}
}

func (w *exampleWriter) entry(indent int, sec *Section, k Kind) {
	if k.Name != "" {
		w.comment(indent, k.Doc)
		if empty := k.Spec == nil; empty {
			w.line(indent, k.Name+": {}")
		} else {
			w.line(indent, k.Name+":")
			w.keys(indent+1, base(reflect.TypeOf(k.Spec)))
		}
	}
	if sec.Spec != nil {
		w.keys(indent, base(reflect.TypeOf(sec.Spec)))
	}
}

// sampleName is what an entry of a collection is called in the example.
func sampleName(k Kind) string {
	if k.Name != "" {
		return k.Name
	}
	return "example"
}

func (w *exampleWriter) keys(indent int, t reflect.Type) {
	p, err := planOf(t)
	if err != nil {
		return
	}
	for i := range p.fields {
		f := &p.fields[i]
		if f.example == "-" {
			continue
		}
		doc := f.doc
		if f.required {
			doc = strings.TrimSpace(doc + " Required.")
		}
		if len(f.enum) > 0 && f.unit != unitURL {
			doc = strings.TrimSpace(doc + " One of " + strings.Join(f.enum, ", ") + ".")
		}
		w.comment(indent, doc)
		w.value(indent, f)
	}
}

// value writes a key with its default or a sample.
func (w *exampleWriter) value(indent int, f *field) {
	t := base(f.typ)
	c := classOf(t, f.unit)
	switch {
	case c == classStruct && f.example == "" && !f.hasDef:
		w.line(indent, f.key+":")
		w.keys(indent+1, t)
		return
	case c == classList && f.example == "" && !f.hasDef && classOf(base(t.Elem()), f.unit) == classStruct:
		w.line(indent, f.key+":")
		from := len(w.lines)
		w.keys(indent+2, base(t.Elem()))
		w.dash(from)
		return
	case c == classMap && f.example == "" && !f.hasDef && classOf(base(t.Elem()), f.unit) == classStruct:
		w.line(indent, f.key+":")
		w.line(indent+1, "example:")
		w.keys(indent+2, base(t.Elem()))
		return
	}
	w.line(indent, f.key+": "+w.sample(t, &f.rules))
}

// sample is a value on one line.
func (w *exampleWriter) sample(t reflect.Type, r *rules) string {
	t = base(t)
	c := classOf(t, r.unit)
	text := r.def
	if !r.hasDef {
		text = r.example
	}
	switch c {
	case classList:
		if text != "" {
			return text
		}
		elem := r.ofElem()
		return "[" + w.sample(t.Elem(), elem) + "]"
	case classMap:
		if text != "" {
			return text
		}
		elem := r.ofElem()
		key := "example"
		if len(r.ref) > 0 {
			key, elem.ref = w.refSample(r), nil
		}
		return "{ " + key + ": " + w.sample(t.Elem(), elem) + " }"
	case classSecret:
		return "{ secret: example }"
	case classCustom, classStruct:
		if text == "" && len(r.ref) > 0 {
			return w.refSample(r)
		}
		if text == "" {
			return "{}"
		}
		return text
	case classString, classText:
		if text == "" && !r.hasDef {
			text = w.textSample(r)
		}
		return inline(text)
	case classBool:
		text = or(text, "false")
	case classDuration:
		text = or(text, or(r.minimum, "30s"))
	case classRange:
		text = or(text, "1..10")
		if f, ok := t.FieldByName("Min"); ok && f.Type == typeDuration && r.example == "" && !r.hasDef {
			text = "20s..20m"
		}
	case classInt, classUint, classFloat:
		text = or(text, w.numberSample(r))
	case classBad:
	}
	return text
}

func (w *exampleWriter) numberSample(r *rules) string {
	switch {
	case len(r.enum) > 0:
		return r.enum[0]
	case r.minimum != "":
		return r.minimum
	}
	switch r.unit {
	case unitSize:
		return "64KiB"
	case unitRate:
		return "50/s"
	case unitByteRate:
		return "256KiB/s"
	}
	return "1"
}

func (w *exampleWriter) textSample(r *rules) string {
	switch {
	case len(r.ref) > 0:
		return w.refSample(r)
	case r.unit == unitURL:
		if len(r.enum) > 0 {
			return r.enum[len(r.enum)-1] + "://example.net"
		}
		return "https://example.net"
	case len(r.enum) > 0:
		return r.enum[0]
	}
	switch r.unit {
	case unitFilter:
		return "site/{name}/#"
	case unitTopic:
		return "site/example"
	case unitCIDR:
		return "10.0.0.0/8"
	case unitAddr:
		return "127.0.0.1:1883"
	case unitFile:
		return "/etc/windrose/example"
	case unitExpr:
		return "event.client"
	}
	return "example"
}

// refSample is the name of the first sample entry of the collections.
func (w *exampleWriter) refSample(r *rules) string {
	for _, name := range r.ref {
		at := slices.IndexFunc(w.s.Sections, func(s Section) bool { return s.Name == name })
		if at < 0 {
			continue
		}
		sec := &w.s.Sections[at]
		if len(sec.Kinds) > 0 && sec.Shape != List {
			return sec.Kinds[0].Name
		}
		return "example"
	}
	if len(r.enum) > 0 {
		return r.enum[0]
	}
	return "example"
}

// inline writes a text so that it is read as that text inside a flow list too.
func inline(s string) string {
	if coreKind(s) == kindText && !strings.ContainsAny(s, ":,[]{}#&*!|>'\"%@`\n\\") && s == strings.TrimSpace(s) &&
		!strings.HasPrefix(s, "-") && !strings.HasPrefix(s, "?") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(s) + `"`
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
