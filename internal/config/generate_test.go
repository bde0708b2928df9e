package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestGeneratedDocuments(t *testing.T) {
	s := fleetSchema()
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/reference.md", string(s.Reference()))
	golden(t, "testdata/schema.json", string(s.JSONSchema()))
	golden(t, "testdata/example.yaml", string(s.Example()))
	golden(t, "testdata/redacted.yaml", string(mustLoad(t, "testdata/fleet.yaml").Rendered()))
}

// uncomment takes the # off the lines of an example.
func uncomment(b []byte) []byte {
	return regexp.MustCompile(`(?m)^#(\S|  )`).ReplaceAll(b, []byte("$1"))
}

func TestExampleCanBeLoaded(t *testing.T) {
	s := fleetSchema()
	snap, err := s.LoadBytes("example.yaml", s.Example(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if empty := load(t, ""); snap.Hash() != empty.Hash() {
		t.Error("the example means something")
	}
	full, err := s.LoadBytes("example.yaml", uncomment(s.Example()), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, sec := range s.Sections {
		if n := len(full.Entries(sec.Name)); n != max(1, len(sec.Kinds)) {
			t.Errorf("%s: %d entries", sec.Name, n)
		}
	}
	if errs := jsonErrors(t, s, uncomment(s.Example())); len(errs) > 0 {
		t.Errorf("the JSON Schema refuses the example: %v", errs)
	}
}

func TestEveryKeyIsInTheReference(t *testing.T) {
	s := fleetSchema()
	ref := string(s.Reference())
	for _, key := range []string{"`drain.grace`", "`store.replicas`", "`proxy.pool`", "### pools: webhook", "`attrs`", "[`tls`](#tls)", "**required**", "map of pools with weights"} {
		if !strings.Contains(ref, key) {
			t.Errorf("%s is missing", key)
		}
	}
	if got := s.Undocumented(); got != nil {
		t.Errorf("undocumented: %v", got)
	}
}

// jsonErrors validates a YAML file against the JSON Schema.
func jsonErrors(t *testing.T, s *Schema, text []byte) []string {
	t.Helper()
	var root map[string]any
	if err := json.Unmarshal(s.JSONSchema(), &root); err != nil {
		t.Fatal(err)
	}
	l := newLoader(s, func(name string) (string, bool) { return "${env." + name + "}", true })
	n := l.parse("x", text)
	if n == nil {
		t.Fatal(l.errs)
	}
	v := &jsonValidator{root: root}
	v.check("", root, plainJSON(t, jsonOf(n)))
	return v.errs
}

func plainJSON(t *testing.T, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// jsonValidator knows the keywords of draft 2020-12 that JSONSchema uses, and refuses others.
type jsonValidator struct {
	root map[string]any
	errs []string
}

func (v *jsonValidator) fail(path, format string, args ...any) {
	v.errs = append(v.errs, path+": "+fmt.Sprintf(format, args...))
}

func (v *jsonValidator) fits(schema, value any) bool {
	sub := &jsonValidator{root: v.root}
	sub.check("", schema, value)
	return len(sub.errs) == 0
}

func typeOf(value any) string {
	switch x := value.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case float64:
		if x == float64(int64(x)) {
			return "integer"
		}
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	}
	return "object"
}

func (v *jsonValidator) check(path string, schema, value any) {
	s, ok := schema.(map[string]any)
	if !ok {
		if schema == false {
			v.fail(path, "not allowed")
		}
		return
	}
	obj, _ := value.(map[string]any)
	arr, _ := value.([]any)
	str, isStr := value.(string)
	num, isNum := value.(float64)
	for key, arg := range s {
		switch key {
		case "$schema", "title", "description", "default", "$defs", "x-unit", "x-ref":
		case "$ref":
			name, _ := arg.(string)
			defs, _ := v.root["$defs"].(map[string]any)
			v.check(path, defs[strings.TrimPrefix(name, "#/$defs/")], value)
		case "type":
			got := typeOf(value)
			names := fmt.Sprint(arg)
			if !strings.Contains(names, got) && (got != "integer" || !strings.Contains(names, "number")) {
				v.fail(path, "is %s, not %v", got, arg)
			}
		case "properties":
			for name, sub := range arg.(map[string]any) {
				if have, ok := obj[name]; ok {
					v.check(path+"."+name, sub, have)
				}
			}
		case "additionalProperties":
			props, _ := s["properties"].(map[string]any)
			for name, have := range obj {
				if _, known := props[name]; !known {
					v.check(path+"."+name, arg, have)
				}
			}
		case "propertyNames":
			for name := range obj {
				v.check(path, arg, name)
			}
		case "required":
			for _, name := range arg.([]any) {
				if _, ok := obj[name.(string)]; obj != nil && !ok {
					v.fail(path, "%v is missing", name)
				}
			}
		case "oneOf", "anyOf":
			n := 0
			for _, sub := range arg.([]any) {
				if v.fits(sub, value) {
					n++
				}
			}
			if n == 0 || key == "oneOf" && n != 1 {
				v.fail(path, "fits %d of %s", n, key)
			}
		case "items":
			for i, have := range arr {
				v.check(fmt.Sprintf("%s[%d]", path, i), arg, have)
			}
		case "enum":
			if !slices.ContainsFunc(arg.([]any), func(w any) bool { return reflect.DeepEqual(w, value) }) {
				v.fail(path, "is none of %v", arg)
			}
		case "const":
			if !reflect.DeepEqual(arg, value) {
				v.fail(path, "is not %v", arg)
			}
		case "pattern":
			if isStr && !regexp.MustCompile(arg.(string)).MatchString(str) {
				v.fail(path, "%q does not match %v", str, arg)
			}
		case "minimum", "maximum":
			if isNum && (key == "minimum") == (num < arg.(float64)) && num != arg.(float64) {
				v.fail(path, "%v is beyond %v", num, arg)
			}
		case "minLength", "maxLength":
			if n := float64(utf8.RuneCountInString(str)); isStr && n != arg.(float64) && (key == "minLength") == (n < arg.(float64)) {
				v.fail(path, "length %v is beyond %v", n, arg)
			}
		case "minItems", "maxItems":
			if n := float64(len(arr)); arr != nil && n != arg.(float64) && (key == "minItems") == (n < arg.(float64)) {
				v.fail(path, "%v entries are beyond %v", n, arg)
			}
		default:
			v.fail(path, "unknown keyword %s", key)
		}
	}
}

func TestJSONSchemaKnowsTheStructure(t *testing.T) {
	s := fleetSchema()
	b, err := os.ReadFile("testdata/fleet.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if errs := jsonErrors(t, s, b); len(errs) > 0 {
		t.Errorf("it refuses the fleet: %v", errs)
	}
	for _, name := range []string{
		"version-missing", "version-wrong", "unknown-section", "unknown-key", "unknown-kind", "missing-kind", "two-kinds", "required", "bool-words",
		"numbers", "texts", "durations", "sizes", "rates", "ranges", "enums", "lists", "names", "secrets",
	} {
		b, err := os.ReadFile(filepath.Join("testdata/errors", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if errs := jsonErrors(t, s, b); len(errs) == 0 {
			t.Errorf("it takes %s", name)
		}
	}
}
