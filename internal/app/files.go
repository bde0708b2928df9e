package app

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"reflect"
	"slices"

	"github.com/windrose-edc/windrose/internal/config"
)

// digests are what the files that a pool names hold: certificates are renewed while the configuration stays the same.
type digests map[config.Ref]string

// fileDigests reads the files that pools name. One that cannot be read has none: building the pool says why.
func fileDigests(s *config.Snapshot) digests {
	d := digests{}
	for _, e := range s.Entries("pools") {
		names := namedFiles(reflect.ValueOf(e.Spec), nil)
		if len(names) == 0 {
			continue
		}
		h := sha256.New()
		for _, name := range names {
			b, _ := os.ReadFile(name)
			sum := sha256.Sum256(b)
			_, _ = h.Write(sum[:])
		}
		d[config.Ref{Section: "pools", Name: e.Name}] = hex.EncodeToString(h.Sum(nil))
	}
	return d
}

// namedFiles are the values of the fields of a specification that name files (unit:"file"), those that are empty left out.
func namedFiles(v reflect.Value, names []string) []string {
	switch v.Kind() { //nolint:exhaustive // nothing else holds fields
	case reflect.Pointer:
		if !v.IsNil() {
			names = namedFiles(v.Elem(), names)
		}
	case reflect.Slice:
		for i := range v.Len() {
			names = namedFiles(v.Index(i), names)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			switch x := v.Field(i); {
			case !f.IsExported():
			case f.Tag.Get("unit") == "file" && x.Kind() == reflect.String:
				if x.String() != "" {
					names = append(names, x.String())
				}
			case f.Tag.Get("unit") == "file" && x.Kind() == reflect.Slice:
				for i := range x.Len() {
					names = append(names, x.Index(i).String())
				}
			default:
				names = namedFiles(x, names)
			}
		}
	}
	return names
}

// files are the files that certificates, users and pools are made of, and which may change while the configuration does not.
func (g *graph) files() (names []string) {
	for _, section := range []string{"tls", "auth", "pools"} {
		for _, e := range g.snap.Entries(section) {
			names = namedFiles(reflect.ValueOf(e.Spec), names)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
