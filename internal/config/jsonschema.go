package config

import (
	"encoding/json"
	"reflect"
	"strings"
)

// schemaNamer is a type of odd shape that gives its own JSON Schema.
type schemaNamer interface{ ConfigSchema() string }

// object is a JSON object; encoding/json writes its keys in order.
type object = map[string]any

const (
	envPattern      = `^\$\{env\.[A-Za-z_][A-Za-z0-9_]*\}$`
	durationPattern = `^-?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d|w))+$`
	sizePattern     = `^[0-9]+(\.[0-9]+)? ?(B|[kK]B|[MGT]B|[KMGT]iB)?$`
	entryPattern    = `^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`
)

// JSONSchema writes the schema as JSON Schema, draft 2020-12, for editors and forms. It knows the structure, the types
// and the words; references between entries, secrets and what modules check themselves are left to Load. The keys
// x-unit and x-ref name a field's unit and the collections it refers to.
func (s *Schema) JSONSchema() []byte {
	props := object{"windrose": object{"const": Version, "description": "Version of the configuration language."}}
	for _, sec := range s.sections() {
		props[sec.Name] = sectionSchema(&sec)
	}
	root := object{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "Windrose configuration",
		"type":    "object", "properties": props, "required": []string{"windrose"}, "additionalProperties": false,
		"$defs": object{
			"env":      object{"type": "string", "pattern": envPattern, "description": "A whole value from the environment."},
			"duration": anyOf(object{"type": "string", "pattern": durationPattern}, object{"const": 0}, env()),
			"size":     anyOf(object{"type": "integer", "minimum": 0}, object{"type": "string", "pattern": sizePattern}, env()),
			"rate":     anyOf(object{"type": "string", "pattern": `^[0-9]+(\.[0-9]+)?/(s|sec|second|m|min|minute|h|hour|d|day)$`}, object{"const": 0}, env()),
			"byterate": anyOf(object{"type": "string", "pattern": strings.TrimSuffix(sizePattern, "$") + `/(s|sec|second|m|min|minute|h|hour|d|day)$`}, object{"const": 0}, env()),
			"range":    anyOf(object{"type": "string", "pattern": `^.+\.\..+$`}, env()),
			"secret": object{"type": "object", "properties": object{"secret": object{"type": "string", "x-ref": []string{secretsSection}}},
				"required": []string{"secret"}, "additionalProperties": false},
		},
	}
	b, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return []byte("{}") // a map of strings, numbers and maps cannot fail
	}
	return append(b, '\n')
}

func env() object { return object{"$ref": "#/$defs/env"} }

func anyOf(alternatives ...any) object { return object{"anyOf": alternatives} }

func sectionSchema(sec *Section) object {
	var one object
	if len(sec.Kinds) == 0 {
		one = typeSchema(reflect.TypeOf(sec.Spec), &rules{})
	} else {
		one = componentSchema(sec)
	}
	out := object{}
	switch sec.Shape {
	case Single:
		out = one
	case Map, OrderedMap:
		out = object{"type": []string{"object", "null"}, "additionalProperties": one, "propertyNames": object{"pattern": entryPattern}}
	case List:
		out = object{"type": []string{"array", "null"}, "items": one}
	}
	if sec.Doc != "" {
		out["description"] = sec.Doc
	}
	return out
}

// componentSchema is an object with exactly one of the kinds.
func componentSchema(sec *Section) object {
	out := object{"type": "object", "properties": object{}, "additionalProperties": false}
	if sec.Spec != nil {
		out = structSchema(base(reflect.TypeOf(sec.Spec)))
		out["type"] = "object"
	}
	props, _ := out["properties"].(object)
	var choice []any
	for _, k := range sec.Kinds {
		kind := object{"type": []string{"object", "null"}, "additionalProperties": false}
		if k.Spec != nil {
			kind = typeSchema(reflect.TypeOf(k.Spec), &rules{})
		}
		if k.Doc != "" {
			kind["description"] = k.Doc
		}
		props[k.Name] = kind
		choice = append(choice, object{"required": []string{k.Name}})
	}
	out["oneOf"] = choice
	return out
}

// structSchema is an object; nothing written is an object without keys where none is required.
func structSchema(t reflect.Type) object {
	out := object{"type": []string{"object", "null"}, "additionalProperties": false}
	props := object{}
	var required []string
	p, err := planOf(t)
	if err != nil {
		return out
	}
	for i := range p.fields {
		f := &p.fields[i]
		props[f.key] = fieldSchema(f)
		if f.required {
			required = append(required, f.key)
		}
	}
	out["properties"] = props
	if required != nil {
		out["required"], out["type"] = required, "object"
	}
	return out
}

func fieldSchema(f *field) object {
	out := typeSchema(f.typ, &f.rules)
	if f.doc != "" {
		out["description"] = f.doc
	}
	if f.unit != "" {
		out["x-unit"] = f.unit
	}
	if len(f.ref) > 0 {
		out["x-ref"] = f.ref
	}
	if f.hasDef {
		if v, ok := defaultValue(f); ok {
			out["default"] = v
		}
	}
	return out
}

// defaultValue is a default as JSON.
func defaultValue(f *field) (any, bool) {
	n, err := defaultNode(f.typ, &f.rules)
	if err != nil {
		return nil, false
	}
	switch classOf(base(f.typ), f.unit) {
	case classBool, classInt, classUint, classFloat:
		if f.unit == "" {
			return json.RawMessage(f.def), json.Valid([]byte(f.def))
		}
	default:
	}
	return jsonOf(n), true
}

func jsonOf(n *node) any {
	switch n.kind {
	case kindNull, kindBad:
		return nil
	case kindBool, kindInt, kindFloat:
		if json.Valid([]byte(n.text)) {
			return json.RawMessage(n.text)
		}
	case kindText:
	case kindList:
		out := make([]any, len(n.vals))
		for i, v := range n.vals {
			out[i] = jsonOf(v)
		}
		return out
	case kindMap:
		out := object{}
		for i, k := range n.keys {
			out[k.text] = jsonOf(n.vals[i])
		}
		return out
	}
	return n.text
}

// typeSchema is the schema of a value by its type and tags.
func typeSchema(t reflect.Type, r *rules) object {
	t = base(t)
	switch classOf(t, r.unit) {
	case classStruct:
		return structSchema(t)
	case classList:
		elem := typeSchema(t.Elem(), r.ofElem())
		list := object{"type": []string{"array", "null"}, "items": elem}
		counts(list, r, "minItems", "maxItems")
		if r.single {
			return anyOf(list, elem)
		}
		return list
	case classMap:
		elem := r.ofElem()
		if len(r.ref) > 0 {
			elem.ref, elem.enum = nil, nil
		}
		out := object{"type": []string{"object", "null"}, "additionalProperties": typeSchema(t.Elem(), elem)}
		counts(out, r, "minProperties", "maxProperties")
		return out
	case classCustom:
		if n, ok := reflect.New(t).Interface().(schemaNamer); ok {
			out := object{}
			if json.Unmarshal([]byte(n.ConfigSchema()), &out) == nil {
				return out
			}
		}
		return object{}
	case classSecret:
		return object{"$ref": "#/$defs/secret"}
	case classRange:
		return object{"$ref": "#/$defs/range"}
	case classDuration:
		return object{"$ref": "#/$defs/duration"}
	case classBool:
		return anyOf(object{"type": "boolean"}, env())
	case classInt, classUint, classFloat:
		return numberSchema(t, r)
	case classString, classText, classBad:
	}
	return textSchema(t, r)
}

// counts puts min and max of a collection into its schema.
func counts(out object, r *rules, minKey, maxKey string) {
	if r.required {
		out[minKey], out["type"] = 1, typeWithoutNull(out["type"])
	}
	if r.minimum != "" {
		out[minKey] = atoi(r.minimum)
	}
	if r.maximum != "" {
		out[maxKey] = atoi(r.maximum)
	}
}

func typeWithoutNull(t any) any {
	if list, ok := t.([]string); ok {
		return list[0]
	}
	return t
}

func numberSchema(t reflect.Type, r *rules) object {
	switch r.unit {
	case unitSize, unitRate, unitByteRate:
		return object{"$ref": "#/$defs/" + r.unit}
	}
	out := object{"type": "integer"}
	switch classOf(t, "") {
	case classFloat:
		out["type"] = "number"
	case classUint:
		out["minimum"] = 0
	default:
	}
	if len(r.enum) > 0 {
		words := make([]any, len(r.enum))
		for i, w := range r.enum {
			words[i] = json.RawMessage(w)
		}
		out["enum"] = words
	}
	if json.Valid([]byte(r.minimum)) {
		out["minimum"] = json.RawMessage(r.minimum)
	}
	if json.Valid([]byte(r.maximum)) {
		out["maximum"] = json.RawMessage(r.maximum)
	}
	return anyOf(out, env())
}

func textSchema(t reflect.Type, r *rules) object {
	out := object{"type": "string"}
	if classOf(t, "") == classText {
		out["type"] = []string{"string", "number", "boolean"} // the type reads the text as it is written
	}
	if r.required {
		out["minLength"] = 1
	}
	if r.minimum != "" {
		out["minLength"] = atoi(r.minimum)
	}
	if r.maximum != "" {
		out["maxLength"] = atoi(r.maximum)
	}
	switch {
	case len(r.enum) > 0 && r.unit == unitURL:
		out["pattern"] = "^(" + strings.Join(r.enum, "|") + "):"
	case len(r.enum) > 0 && len(r.ref) == 0:
		out["enum"] = r.enum
	default:
		return out
	}
	return anyOf(out, env())
}
