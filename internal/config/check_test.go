package config

import (
	"strings"
	"testing"
	"time"
)

type recursive struct {
	Next []recursive `yaml:"next" doc:"x"`
}

func TestCheckFindsMistakesOfModules(t *testing.T) {
	one := func(spec any) *Schema { return &Schema{Sections: []Section{{Name: "x", Spec: spec}}} }
	for _, c := range []struct {
		name   string
		schema *Schema
		want   string
	}{
		{"no tag", one(struct{ A int }{}), "without a yaml tag"},
		{"option", one(struct {
			A int `yaml:"a,omitempty"`
		}{}), `unknown option "omitempty"`},
		{"inline of a scalar", one(struct {
			A int `yaml:",inline"`
		}{}), "only structs can be inline"},
		{"twice", one(struct {
			A int `yaml:"a"`
			B int `yaml:"a"`
		}{}), "declared twice"},
		{"type", one(struct {
			A chan int `yaml:"a"`
		}{}), "chan int cannot be read"},
		{"any", one(struct {
			A any `yaml:"a"`
		}{}), "interface {} cannot be read"},
		{"keys", one(struct {
			A map[int]int `yaml:"a"`
		}{}), "keys of a map must be text"},
		{"recursion", one(recursive{}), "contains itself"},
		{"unit", one(struct {
			A string `yaml:"a" unit:"size"`
		}{}), `unit "size" does not fit type string`},
		{"unknown unit", one(struct {
			A []string `yaml:"a" unit:"colour"`
		}{}), `unit "colour" does not fit`},
		{"range", one(struct {
			A struct{ Low, High int } `yaml:"a" unit:"range"`
		}{}), "fields Min and Max"},
		{"range of text", one(struct {
			A struct{ Min, Max string } `yaml:"a" unit:"range"`
		}{}), "made of numbers"},
		{"default", one(struct {
			A time.Duration `yaml:"a" default:"30"`
		}{}), "x.a: expected a duration"},
		{"default against enum", one(struct {
			A string `yaml:"a" enum:"b|c" default:"d"`
		}{}), "x.a: expected one of b, c"},
		{"default against max", one(struct {
			A int `yaml:"a" max:"5" default:"6"`
		}{}), "x.a: expected at most 5"},
		{"default list", one(struct {
			A []string `yaml:"a" default:"[a"`
		}{}), "the default cannot be read"},
		{"min", one(struct {
			A time.Duration `yaml:"a" min:"5"`
		}{}), "min, max or enum: expected a duration"},
		{"min of a bool", one(struct {
			A bool `yaml:"a" min:"5"`
		}{}), "do not fit type bool"},
		{"min of text", one(struct {
			A string `yaml:"a" min:"5s"`
		}{}), "are counts"},
		{"enum of numbers", one(struct {
			A int `yaml:"a" enum:"1|two"`
		}{}), "min, max or enum: expected a whole number"},
		{"required with default", one(struct {
			A int `yaml:"a" required:"true" default:"1"`
		}{}), "a required field has no default"},
		{"single", one(struct {
			A int `yaml:"a" single:"true"`
		}{}), "only a list"},
		{"ref", one(struct {
			A string `yaml:"a" ref:"nowhere"`
		}{}), "section nowhere, which does not exist"},
		{"section twice", &Schema{Sections: []Section{{Name: "x", Spec: struct{}{}}, {Name: "x", Spec: struct{}{}}}}, "name is taken"},
		{"secrets", &Schema{Sections: []Section{{Name: "secrets", Spec: struct{}{}}}}, "name is taken"},
		{"no spec", &Schema{Sections: []Section{{Name: "x"}}}, "neither spec nor kinds"},
		{"kind twice", &Schema{Sections: []Section{{Name: "x", Kinds: []Kind{{Name: "k"}, {Name: "k"}}}}}, "the kind is declared twice"},
		{"kind and key", &Schema{Sections: []Section{{Name: "x", Spec: struct {
			K int `yaml:"k"`
		}{}, Kinds: []Kind{{Name: "k"}}}}}, "name of a common key"},
		{"common keys", &Schema{Sections: []Section{{Name: "x", Spec: 5, Kinds: []Kind{{Name: "k"}}}}}, "must be a struct"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.schema.Check()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if c.name != "ref" {
				if _, err := c.schema.LoadBytes("x", []byte("windrose: v1\nx: { a: b, k: {} }\n"), nil); err == nil {
					t.Error("Load takes the schema")
				}
			}
		})
	}
}

func TestUndocumentedKeysAreListed(t *testing.T) {
	s := &Schema{Sections: []Section{{Name: "x", Doc: "x", Shape: Map, Spec: struct {
		A int `yaml:"a"`
		B []struct {
			C int `yaml:"c"`
			D int `yaml:"d" doc:"x"`
		} `yaml:"b" doc:"x"`
	}{}, Kinds: []Kind{{Name: "k"}}}}}
	if got := strings.Join(s.Undocumented(), " "); got != "x.a x.b.c x.k" {
		t.Errorf("got %s", got)
	}
}
