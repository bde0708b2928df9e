package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// rules are what the tags of a field say. Immutable after planOf.
type rules struct {
	key      string
	doc      string
	def      string
	hasDef   bool
	required bool
	single   bool
	elem     bool // of an entry of a list or map
	unit     string
	minimum  string
	maximum  string
	example  string
	enum     []string
	ref      []string
}

// ofElem are the rules of the entries of a list or map: those that speak about the collection are gone.
func (r *rules) ofElem() *rules {
	return &rules{key: r.key, unit: r.unit, enum: r.enum, ref: r.ref, elem: true}
}

// field is one key of a struct. Immutable after planOf.
type field struct {
	rules
	index []int // of reflect.Value.FieldByIndex
	typ   reflect.Type
}

// plan is a struct type as it is written in a file. Immutable after planOf.
type plan struct {
	fields  []field
	inlined [][]int // structs whose fields were lifted up, in order
}

func (p *plan) find(key string) *field {
	for i := range p.fields {
		if p.fields[i].key == key {
			return &p.fields[i]
		}
	}
	return nil
}

func (p *plan) names() []string {
	out := make([]string, len(p.fields))
	for i := range p.fields {
		out[i] = p.fields[i].key
	}
	return out
}

// The units and the kinds of fields that may have them.
const (
	unitSize     = "size"
	unitRate     = "rate"
	unitByteRate = "byterate"
	unitRange    = "range"
	unitSecret   = "secret"
	unitFilter   = "filter"
	unitTopic    = "topic"
	unitCIDR     = "cidr"
	unitAddr     = "addr"
	unitFile     = "file"
	unitURL      = "url"
	unitExpr     = "expr"
)

var (
	typeDuration    = reflect.TypeFor[time.Duration]()
	typeSecret      = reflect.TypeFor[Secret]()
	typeUnmarshaler = reflect.TypeFor[Unmarshaler]()
	typeTextual     = reflect.TypeFor[encoding.TextUnmarshaler]()
	typeValidator   = reflect.TypeFor[validator]()
)

// validator is a spec that checks itself.
type validator interface{ Validate() error }

// class is how a type is written.
type class uint8

const (
	classBad class = iota
	classCustom
	classSecret
	classText // encoding.TextUnmarshaler
	classDuration
	classBool
	classInt
	classUint
	classFloat
	classString
	classRange
	classStruct
	classList
	classMap
)

// classOf says how a value of type t (not a pointer) is written under the given unit.
func classOf(t reflect.Type, unit string) class {
	p := reflect.PointerTo(t)
	switch {
	case t == typeSecret:
		return classSecret
	case p.Implements(typeUnmarshaler):
		return classCustom
	case t == typeDuration:
		return classDuration
	case p.Implements(typeTextual):
		return classText
	}
	switch t.Kind() {
	case reflect.Bool:
		return classBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return classInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return classUint
	case reflect.Float32, reflect.Float64:
		return classFloat
	case reflect.String:
		if unit == unitSecret {
			return classSecret
		}
		return classString
	case reflect.Struct:
		if unit == unitRange {
			return classRange
		}
		return classStruct
	case reflect.Slice:
		return classList
	case reflect.Map:
		return classMap
	default:
		return classBad
	}
}

// unitFits says whether a scalar or range of that class may have the unit.
func unitFits(unit string, c class) bool {
	switch unit {
	case "":
		return true
	case unitSize:
		return c == classInt || c == classUint
	case unitRate, unitByteRate:
		return c == classFloat
	case unitRange:
		return c == classRange
	case unitSecret:
		return c == classSecret
	case unitFilter, unitTopic, unitCIDR, unitAddr, unitFile, unitURL, unitExpr:
		return c == classString || c == classText
	}
	return false
}

// base follows pointers.
func base(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// planOf reads the tags of a struct type. The error names the type and field: it is the module's mistake.
func planOf(t reflect.Type) (*plan, error) {
	p := &plan{}
	if err := p.collect(t, nil); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *plan) collect(t reflect.Type, at []int) error {
	for i := range t.NumField() {
		sf := t.Field(i)
		index := append(slices.Clone(at), i)
		key, opts, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		switch {
		case key == "-" || !sf.IsExported() && key == "" && opts == "":
			continue
		case !sf.IsExported() && (opts != "inline" || !sf.Anonymous):
			return fmt.Errorf("%s.%s: has a yaml tag but is not exported", t, sf.Name)
		case opts == "inline":
			if sf.Type.Kind() != reflect.Struct {
				return fmt.Errorf("%s.%s: only structs can be inline", t, sf.Name)
			}
			p.inlined = append(p.inlined, index)
			if err := p.collect(sf.Type, index); err != nil {
				return err
			}
			continue
		case key == "":
			return fmt.Errorf("%s.%s: exported field without a yaml tag (use yaml:\"-\" to leave it out)", t, sf.Name)
		case opts != "":
			return fmt.Errorf("%s.%s: unknown option %q of tag yaml", t, sf.Name, opts)
		case p.find(key) != nil:
			return fmt.Errorf("%s.%s: key %q is declared twice", t, sf.Name, key)
		}
		f := field{index: index, typ: sf.Type, rules: rules{
			key: key, doc: sf.Tag.Get("doc"), unit: sf.Tag.Get("unit"), example: sf.Tag.Get("example"),
			minimum: sf.Tag.Get("min"), maximum: sf.Tag.Get("max"),
			required: sf.Tag.Get("required") == "true", single: sf.Tag.Get("single") == "true",
			enum: splitBar(sf.Tag.Get("enum")), ref: splitBar(sf.Tag.Get("ref")),
		}}
		f.def, f.hasDef = sf.Tag.Lookup("default")
		p.fields = append(p.fields, f)
	}
	return nil
}

func splitBar(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "|")
}
