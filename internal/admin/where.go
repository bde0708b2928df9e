package admin

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/windrose-edc/windrose/internal/expr"
)

// whereField is a field of a row as a condition sees it: by its name in JSON. Immutable.
type whereField struct {
	index []int
	kind  expr.Kind
}

// whereFields are the fields of a row.
func whereFields(t reflect.Type) map[string]whereField {
	out := map[string]whereField{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		out[name] = whereField{f.Index, kindOf(f.Type)}
	}
	return out
}

func kindOf(t reflect.Type) expr.Kind {
	if t == reflect.TypeFor[time.Time]() {
		return expr.Time
	}
	switch t.Kind() { //nolint:exhaustive // the others are any
	case reflect.Bool:
		return expr.Bool
	case reflect.String:
		return expr.String
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return expr.Int
	case reflect.Float32, reflect.Float64:
		return expr.Double
	case reflect.Slice:
		return expr.List
	case reflect.Map, reflect.Struct:
		return expr.Map
	}
	return expr.Any
}

// compileWhere makes a test of rows of a condition; "" accepts everything.
func compileWhere[T any](src string) (accepts func(row *T) (bool, error), err error) {
	if src == "" {
		return func(*T) (bool, error) { return true, nil }, nil
	}
	fields := whereFields(reflect.TypeFor[T]())
	var rows []expr.RowField
	for name, f := range fields {
		rows = append(rows, expr.RowField{Name: name, Kind: f.kind})
	}
	p, err := expr.CompileRow(rows, src)
	if err != nil {
		return nil, fmt.Errorf("read the condition: %w", err)
	}
	return func(row *T) (bool, error) {
		v := reflect.ValueOf(row).Elem()
		return p.Match(func(name string) any { return whereValue(v.FieldByIndex(fields[name].index)) })
	}, nil
}

// whereValue makes maps of structs, so that a condition reaches into them: members.exists(m, m.state == "down").
func whereValue(v reflect.Value) any {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		return v.Interface()
	case v.Kind() == reflect.Pointer && v.IsNil():
		return nil
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		out := make([]any, v.Len())
		for i := range out {
			out[i] = whereValue(v.Index(i))
		}
		return out
	case v.Kind() == reflect.Struct:
		out := map[string]any{}
		for name, f := range whereFields(v.Type()) {
			out[name] = whereValue(v.FieldByIndex(f.index))
		}
		return out
	}
	return v.Interface()
}
