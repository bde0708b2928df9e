package config

import (
	"fmt"
	"reflect"
	"strings"
)

// typeNamer is a type of odd shape that says how it is written, for the reference.
type typeNamer interface{ ConfigType() string }

// Reference writes the reference documentation as Markdown: a chapter per section, a table per kind.
func (s *Schema) Reference() []byte {
	var b strings.Builder
	b.WriteString("# Configuration reference\n\nGenerated from the declarations in the code. A file begins with `windrose: " + Version + "`.\n\n")
	b.WriteString(referenceValues)
	b.WriteString("| section | shape | what it is |\n|---|---|---|\n")
	for _, sec := range s.sections() {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s |\n", sec.Name, sec.Name, shapeText(sec.Shape), cell(sec.Doc))
	}
	for _, sec := range s.sections() {
		fmt.Fprintf(&b, "\n## %s\n\n", sec.Name)
		if sec.Doc != "" {
			b.WriteString(sec.Doc + "\n\n")
		}
		b.WriteString(shapeIntro(&sec) + "\n")
		if len(sec.Kinds) == 0 {
			referenceTable(&b, sec.Spec)
			continue
		}
		b.WriteString("\nAn entry has exactly one of these keys, which is its type:\n\n")
		for _, k := range sec.Kinds {
			fmt.Fprintf(&b, "- `%s`: %s\n", k.Name, k.Doc)
		}
		if sec.Spec != nil {
			b.WriteString("\nand any of the keys of all types:\n")
			referenceTable(&b, sec.Spec)
		}
		for _, k := range sec.Kinds {
			fmt.Fprintf(&b, "\n### %s: %s\n\n%s\n", sec.Name, k.Name, k.Doc)
			referenceTable(&b, k.Spec)
		}
	}
	return []byte(b.String())
}

// referenceValues says how values are written.
const referenceValues = "A folder stands for all its `*.yaml` files except `*.test.yaml`; their collections are merged, lists are joined in order of the file names.\n\n" +
	"| type | written as |\n|---|---|\n" +
	"| text | `berlin`, `\"5\"`: a text that looks like a number, `true`, `false` or `null` needs quotes; `yes`, `no`, `on`, `off` are text |\n" +
	"| duration | `250ms`, `30s`, `5m`, `1h30m`, `7d`, `2w` |\n" +
	"| size | bytes, or `64KiB`, `1MiB`, `20GiB` (powers of 1024), `1kB`, `1MB`, `1GB` (powers of 1000) |\n" +
	"| rate | `50/s`, `10/m`, `1000/h`, `5/d`; of bytes `256KiB/s`; `0` |\n" +
	"| range | `20s..20m`, `1..10` |\n" +
	"| address | `127.0.0.1:1883`, `[::1]:1883`, `:1883` for all addresses, `unix:/path` |\n" +
	"| network | `10.0.0.0/8`, `2001:db8::/32` |\n" +
	"| topic filter | `site/+/state`, `site/#`; where a key says so, `{name}` stands for one level |\n" +
	"| file path | a relative path is taken from the directory of the file that names it |\n" +
	"| secret | `{ secret: NAME }`, where NAME is an entry of [`secrets`](#secrets) |\n\n" +
	"Any value may be `\"${env.NAME}\"`: the environment variable then is the whole value. Anchors, aliases, merge keys and tags are not used.\n\n"

func shapeText(s Shape) string {
	switch s {
	case Single:
		return "map of keys"
	case Map:
		return "collection by name"
	case OrderedMap:
		return "collection by name, in written order"
	case List:
		return "list, in order"
	}
	return ""
}

func shapeIntro(sec *Section) string {
	switch sec.Shape {
	case Single:
		return "One map of keys."
	case Map:
		return "A map from names to entries; their order means nothing."
	case OrderedMap:
		return "A map from names to entries, read in written order."
	case List:
		return "A list; its order matters."
	}
	return ""
}

func referenceTable(b *strings.Builder, spec any) {
	if spec == nil || classOf(base(reflect.TypeOf(spec)), "") != classStruct {
		b.WriteString("\nNo keys.\n")
		return
	}
	rows := referenceRows("", base(reflect.TypeOf(spec)))
	if len(rows) == 0 {
		b.WriteString("\nNo keys.\n")
		return
	}
	b.WriteString("\n| key | type | default | what it is |\n|---|---|---|---|\n")
	b.WriteString(strings.Join(rows, ""))
}

// referenceRows is one row per key, nested keys with their path.
func referenceRows(prefix string, t reflect.Type) []string {
	p, err := planOf(t)
	if err != nil {
		return nil
	}
	var rows []string
	for i := range p.fields {
		f := &p.fields[i]
		def := ""
		switch {
		case f.required:
			def = "**required**"
		case f.hasDef && f.def != "":
			def = "`" + f.def + "`"
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |\n", prefix+f.key, cell(typeText(f.typ, &f.rules)), cell(def), cell(f.doc)))
		if f.unit == unitRange {
			continue
		}
		sub, below := prefix+f.key, base(f.typ)
		switch classOf(below, f.unit) {
		case classList:
			sub, below = sub+"[]", base(below.Elem())
		case classMap:
			sub, below = sub+".NAME", base(below.Elem())
		default:
		}
		if classOf(below, f.unit) == classStruct {
			rows = append(rows, referenceRows(sub+".", below)...)
		}
	}
	return rows
}

// cell keeps a text inside its cell of a table.
func cell(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\n", " "), "|", "\\|")
}

// typeText says what is written in a field.
func typeText(t reflect.Type, r *rules) string {
	t = base(t)
	text := ""
	switch c := classOf(t, r.unit); c {
	case classList:
		text = "list of " + plural(typeText(t.Elem(), r.ofElem()))
		if r.single {
			text += ", or one"
		}
		return text + boundsText(r, " entries")
	case classMap:
		elem := r.ofElem()
		if len(r.ref) > 0 {
			elem.ref = nil
			return "map from entries of " + refText(r) + " to " + plural(typeText(t.Elem(), elem)) + boundsText(r, " entries")
		}
		return "map of " + plural(typeText(t.Elem(), elem)) + boundsText(r, " entries")
	case classStruct:
		return "map of keys"
	case classCustom:
		if n, ok := reflect.New(t).Interface().(typeNamer); ok {
			return n.ConfigType()
		}
		return "see the text"
	case classSecret:
		return "secret: `{ secret: NAME }`"
	case classRange:
		text = "range of numbers"
		if f, ok := t.FieldByName("Min"); ok && f.Type == typeDuration {
			text = "range of durations"
		}
	case classBool:
		return "`true`, `false`"
	case classDuration:
		text = "duration"
	case classInt, classUint:
		text = "whole number"
	case classFloat:
		text = "number"
	case classString, classText, classBad:
		text = "text"
	}
	switch r.unit {
	case unitSize:
		text = "size"
	case unitRate:
		text = "rate"
	case unitByteRate:
		text = "rate of bytes"
	case unitFilter:
		text = "topic filter"
	case unitTopic:
		text = "topic"
	case unitCIDR:
		text = "network"
	case unitAddr:
		text = "address"
	case unitFile:
		text = "file path"
	case unitURL:
		text = "URL"
	case unitExpr:
		text = "expression"
	}
	switch {
	case len(r.ref) > 0:
		text = "name from " + refText(r)
		for _, w := range r.enum {
			text += ", or `" + w + "`"
		}
	case r.unit == unitURL && len(r.enum) > 0:
		text += " (" + strings.Join(r.enum, ", ") + ")"
	case len(r.enum) > 0:
		text = "`" + strings.Join(r.enum, "`, `") + "`"
	}
	what := ""
	if c := classOf(t, r.unit); c == classString || c == classText {
		what = " characters"
	}
	return text + boundsText(r, what)
}

// plural makes a type's text speak of several; words in backticks stay.
func plural(s string) string {
	if strings.HasPrefix(s, "`") {
		return s
	}
	at := len(s)
	for _, sep := range []string{" of ", " from ", " (", ":", ","} {
		if i := strings.Index(s, sep); i >= 0 {
			at = min(at, i)
		}
	}
	switch word := s[:at]; {
	case word == "text":
		return s
	case strings.HasSuffix(word, "s"):
		return word + "es" + s[at:]
	default:
		return word + "s" + s[at:]
	}
}

func refText(r *rules) string {
	parts := make([]string, len(r.ref))
	for i, name := range r.ref {
		parts[i] = "[`" + name + "`](#" + name + ")"
	}
	return strings.Join(parts, " or ")
}

// ofCount is the word after a count: " entries", " entry".
func ofCount(n, what string) string {
	if n != "1" {
		return what
	}
	return map[string]string{" entries": " entry", " characters": " character"}[what]
}

func boundsText(r *rules, what string) string {
	switch {
	case r.minimum != "" && r.maximum != "":
		return ", " + r.minimum + " to " + r.maximum + what
	case r.minimum != "":
		return ", at least " + r.minimum + ofCount(r.minimum, what)
	case r.maximum != "":
		return ", at most " + r.maximum + ofCount(r.maximum, what)
	}
	return ""
}
