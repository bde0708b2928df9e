package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
)

// Check says what is wrong with the schema itself: tags that contradict their types, defaults that break their own
// rules, references to sections that do not exist. The error is Errors without places. It is the modules' mistake, and
// a test of the program's schema calls it.
func (s *Schema) Check() error {
	if errs := s.check(true); len(errs) > 0 {
		return errs
	}
	return nil
}

// check leaves out whether referenced sections exist unless closed: tests of modules use schemas of few sections.
func (s *Schema) check(closed bool) Errors {
	c := &checker{l: newLoader(s, nil), closed: closed}
	for i := range s.sections() {
		sec := s.sections()[i]
		if slices.ContainsFunc(s.sections()[:i], func(o Section) bool { return o.Name == sec.Name }) || sec.Name == "windrose" {
			c.fail(sec.Name, "the section's name is taken")
		}
		if sec.Spec == nil && len(sec.Kinds) == 0 {
			c.fail(sec.Name, "the section has neither spec nor kinds")
		}
		if sec.Spec != nil {
			t := base(reflect.TypeOf(sec.Spec))
			if len(sec.Kinds) > 0 && classOf(t, "") != classStruct {
				c.fail(sec.Name, "the common keys of kinds must be a struct")
				continue
			}
			c.walk(sec.Name, t, &rules{}, nil)
		}
		c.kinds(&sec)
	}
	return c.l.errs
}

// checker walks a schema. Owned by the call of check.
type checker struct {
	l      *loader
	closed bool
}

func (c *checker) fail(path, msg string) {
	c.l.fail(Pos{}, path, "the schema is wrong: "+msg, "")
}

func (c *checker) kinds(sec *Section) {
	var common *plan
	if sec.Spec != nil {
		common, _ = planOf(base(reflect.TypeOf(sec.Spec)))
	}
	for i, k := range sec.Kinds {
		path := joinPath(sec.Name, k.Name)
		switch {
		case slices.ContainsFunc(sec.Kinds[:i], func(o Kind) bool { return o.Name == k.Name }):
			c.fail(path, "the kind is declared twice")
		case common != nil && common.find(k.Name) != nil:
			c.fail(path, "the kind has the name of a common key")
		}
		if k.Spec != nil {
			c.walk(path, base(reflect.TypeOf(k.Spec)), &rules{}, nil)
		}
	}
}

// walk checks a type and everything below it; above are the structs around it.
func (c *checker) walk(path string, t reflect.Type, r *rules, above []reflect.Type) {
	t = base(t)
	switch cl := classOf(t, r.unit); cl {
	case classBad:
		c.fail(path, "values of type "+t.String()+" cannot be read")
	case classStruct:
		if slices.Contains(above, t) {
			c.fail(path, "type "+t.String()+" contains itself")
			return
		}
		p, err := planOf(t)
		if err != nil {
			c.fail(path, err.Error())
			return
		}
		for i := range p.fields {
			f := &p.fields[i]
			c.field(joinPath(path, f.key), f, append(slices.Clone(above), t))
		}
	case classList:
		c.walk(path, t.Elem(), r.ofElem(), above)
	case classMap:
		if t.Key().Kind() != reflect.String {
			c.fail(path, "the keys of a map must be text")
		}
		c.walk(path, t.Elem(), r.ofElem(), above)
	case classRange:
		lo, okLo := t.FieldByName("Min")
		hi, okHi := t.FieldByName("Max")
		switch {
		case !okLo || !okHi || t.NumField() != 2 || lo.Type != hi.Type:
			c.fail(path, "a range is a struct with the fields Min and Max of one type")
		case !numeric(classOf(lo.Type, "")):
			c.fail(path, "a range is made of numbers or durations")
		}
	default:
		if cl != classCustom && !unitFits(r.unit, cl) {
			c.fail(path, fmt.Sprintf("unit %q does not fit type %s", r.unit, t))
		}
	}
}

func numeric(c class) bool {
	return c == classInt || c == classUint || c == classFloat || c == classDuration
}

func (c *checker) field(path string, f *field, above []reflect.Type) {
	before := c.l.count()
	c.walk(path, f.typ, &f.rules, above)
	if c.l.count() > before {
		return
	}
	if f.required && f.hasDef {
		c.fail(path, "a required field has no default")
	}
	if c.closed {
		for _, name := range f.ref {
			if !slices.ContainsFunc(c.l.schema.sections(), func(s Section) bool { return s.Name == name }) {
				c.fail(path, "it refers to section "+name+", which does not exist")
			}
		}
	}
	t := base(f.typ)
	cl := classOf(t, f.unit)
	for _, bound := range []string{f.minimum, f.maximum} {
		if bound != "" {
			c.bound(path, t, cl, &f.rules, bound)
		}
	}
	if numeric(cl) {
		for _, word := range f.enum {
			c.bound(path, t, cl, &f.rules, word)
		}
	}
	if f.single && cl != classList {
		c.fail(path, "only a list can be written as one value")
	}
	if !f.hasDef || c.l.count() > before {
		return
	}
	v := reflect.New(f.typ).Elem()
	c.l.inDefault++
	c.l.fill(v, f, path, Pos{})
	c.l.inDefault--
}

// bound checks that min or max can be read by the field's own rules.
func (c *checker) bound(path string, t reflect.Type, cl class, r *rules, bound string) {
	plain := &rules{unit: r.unit, minimum: "-"}
	switch {
	case cl == classString || cl == classText || cl == classList || cl == classMap:
		if _, err := strconv.Atoi(bound); err != nil {
			c.fail(path, "min and max of texts and collections are counts, got "+bound)
		}
		return
	case cl == classRange:
		f, _ := t.FieldByName("Min")
		t, cl, plain = f.Type, classOf(f.Type, ""), &rules{minimum: "-"}
	case !numeric(cl):
		c.fail(path, "min and max do not fit type "+t.String())
		return
	}
	if _, bad := readScalar(reflect.New(t).Elem(), cl, textNode(bound), plain); bad != nil {
		c.fail(path, "min, max or enum: "+bad.msg)
	}
}

// Undocumented lists the paths of all sections, kinds and keys without a doc.
func (s *Schema) Undocumented() []string {
	var out []string
	note := func(path, doc string) {
		if doc == "" {
			out = append(out, path)
		}
	}
	for _, sec := range s.sections() {
		note(sec.Name, sec.Doc)
		if sec.Spec != nil {
			undocumented(sec.Name, reflect.TypeOf(sec.Spec), note)
		}
		for _, k := range sec.Kinds {
			path := joinPath(sec.Name, k.Name)
			note(path, k.Doc)
			if k.Spec != nil {
				undocumented(path, reflect.TypeOf(k.Spec), note)
			}
		}
	}
	return out
}

func undocumented(path string, t reflect.Type, note func(path, doc string)) {
	switch t = base(t); classOf(t, "") {
	case classList, classMap:
		undocumented(path, t.Elem(), note)
		return
	case classStruct:
	default:
		return
	}
	p, err := planOf(t)
	if err != nil {
		return
	}
	for i := range p.fields {
		f := &p.fields[i]
		sub := joinPath(path, f.key)
		note(sub, f.doc)
		if f.unit != unitRange {
			undocumented(sub, f.typ, note)
		}
	}
}
