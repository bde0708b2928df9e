package identity

import (
	"errors"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr"
)

// maxValue bounds a name and an attribute that an expression gives, in bytes.
const maxValue = 1024

var errAttrName = errors.New("a name is letters, digits and the signs . _ -")

// fieldError says which field of a specification is wrong: config places it there.
type fieldError struct {
	path string
	err  error
}

func (e *fieldError) Error() string     { return e.path + ": " + e.err.Error() }
func (e *fieldError) Unwrap() error     { return e.err }
func (e *fieldError) FieldPath() string { return e.path }

// naming is the expressions of an authenticator: whom a credential names, which client it is and its attributes. Immutable
// after New; safe for concurrent use.
type naming struct {
	user, client *expr.RowValue // nil: none
	attrs        map[string]*expr.RowValue
}

func newNaming(fields []expr.RowField, user, client string, attrs map[string]string) (n naming, err error) {
	compile := func(path, src string) *expr.RowValue {
		if src == "" || err != nil {
			return nil
		}
		v, e := expr.CompileRowValue(fields, src, expr.Options{})
		if e != nil {
			err = &fieldError{path, e}
		}
		return v
	}
	n.user, n.client = compile("user", user), compile("client", client)
	if len(attrs) > 0 {
		n.attrs = make(map[string]*expr.RowValue, len(attrs))
	}
	for name, src := range attrs {
		if !attrName(name) {
			return n, &fieldError{"attrs." + name, errAttrName}
		}
		n.attrs[name] = compile("attrs."+name, src)
	}
	return n, err
}

// text evaluates an expression to a text that may be a name; ok is false where it has no value, or none that may.
func text(v *expr.RowValue, get func(string) any) (s string, ok bool) {
	r, err := v.Eval(get)
	if err != nil {
		return "", false
	}
	b, ok := r.AppendText(nil)
	if !ok || len(b) == 0 || len(b) > maxValue || !event.ValidUTF8(b) {
		return "", false
	}
	return string(b), true
}

// name fills in a principal; ok is false where the credential gives no name or no client id and has to. An attribute without a
// value is left out.
func (n *naming) name(p *Principal, get func(string) any) (ok bool) {
	if n.user != nil {
		if p.Name, ok = text(n.user, get); !ok {
			return false
		}
	}
	if n.client != nil {
		if p.Client, ok = text(n.client, get); !ok {
			return false
		}
	}
	for name, v := range n.attrs {
		if s, ok := text(v, get); ok {
			if p.Attrs == nil {
				p.Attrs = make(map[string]string, len(n.attrs))
			}
			p.Attrs[name] = s
		}
	}
	return true
}
