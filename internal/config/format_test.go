package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFormatLaysOut(t *testing.T) {
	const in = "\ufeffwindrose:   v1  \r\n" + `

# about the node
node:
    name:    edge   # why
        # deeper comment


    data: "a  b"
pools:
  hooks:
      webhook:
         urls:
         - "http://a"   
         # between
         -   "http://b"
         headers: { a:   b,
            c: d }
  # disabled:
  #   webhook: {}
listeners:
# at the left
  a: {mqtt: {bind:  ":1"}}
routes:
-   name: x
    topic: '#'
    text: |
        keep   this   

          and this
    folded: >+
       tail


-
    name: y
acl: []
`
	const want = `windrose: v1

# about the node
node:
  name: edge   # why
  # deeper comment

  data: "a  b"
pools:
  hooks:
    webhook:
      urls:
        - "http://a"
        # between
        - "http://b"
      headers: { a:   b,
         c: d }
  # disabled:
  #   webhook: {}
listeners:
# at the left
  a: {mqtt: {bind:  ":1"}}
routes:
  - name: x
    topic: '#'
    text: |
        keep   this   

          and this
    folded: >+
       tail


  -
    name: y
acl: []
`
	got, err := Format("x.yaml", []byte(in))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFormatLeavesWhatIsLaidOut(t *testing.T) {
	for _, name := range []string{"testdata/fleet.yaml", "../../docs/reference/example.yaml", "testdata/example.yaml"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out, err := Format(name, b)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Format(name, out); err != nil || string(again) != string(out) {
			t.Errorf("%s: formatting twice is another thing: %v", name, err)
		}
		if strings.Contains(name, "example") && string(out) != string(b) {
			t.Errorf("%s is not formatted", name)
		}
	}
}

func TestFormatSaysWhatItDoesNotUnderstand(t *testing.T) {
	var wrong Errors
	if _, err := Format("x.yaml", []byte("a: [\n")); !errors.As(err, &wrong) || wrong[0].Line == 0 {
		t.Errorf("not YAML: %v", err)
	}
	for _, in := range []string{"? a\n: b\n", "{ a: b }: c\n", "- a: 1\n---\n- b\n"} {
		if _, err := Format("x.yaml", []byte(in)); err == nil || !strings.Contains(err.Error(), "x.yaml") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// FuzzFormat: what can be formatted means the same, keeps its words and is formatted then.
func FuzzFormat(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	more, err := filepath.Glob("testdata/errors/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range append(files, more...) {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	for _, s := range []string{"", "\n\n", "a:\n- b\n-   c: |+\n     x\n\n\n-\n  - - d\n", "a: \"x\n\n  # y\"\n", "- # c\n  a: b\n#end", "a:\n    b\n  \n c: d", "a: >2\n    x\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		out, err := Format("x", []byte(in))
		if err != nil {
			if again, err2 := Format("x", []byte(in)); err2 == nil || again != nil {
				t.Fatalf("an error that comes and goes: %v, %v", err, err2)
			}
			return
		}
		again, err := Format("x", out)
		if err != nil || string(again) != string(out) {
			t.Fatalf("formatted twice: %v\n%q\n%q", err, out, again)
		}
		if !sameWords(strings.TrimPrefix(in, "\ufeff"), string(out)) {
			t.Fatalf("other words:\n%q\n%q", in, out)
		}
		x, errX := fleetSchema().LoadBytes("x", []byte(strings.TrimPrefix(in, "\ufeff")), fleetEnv)
		y, errY := fleetSchema().LoadBytes("x", out, fleetEnv)
		if (errX == nil) != (errY == nil) || errX == nil && x.Hash() != y.Hash() {
			t.Fatalf("another meaning:\n%q: %v\n%q: %v", in, errX, out, errY)
		}
	})
}
