package policy

import (
	"errors"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr/when"
)

// DeviceSpec is a class of devices. Immutable after it is read.
type DeviceSpec struct {
	When  when.Text         `yaml:"when" doc:"Who belongs to the class: the first class whose condition holds is the device's. It knows the client, not its events." example:"'client.id.startsWith(\"PMP\")'"`
	Attrs map[string]string `yaml:"attrs" doc:"Attributes that its devices have beside those that authentication gives them, which win." example:"{ fw: \"1\" }"`
}

// Validate says what is wrong with a class.
func (s *DeviceSpec) Validate() error {
	if s.When.Src == "" {
		return badField("when", "the condition is missing: it says who belongs to the class")
	}
	for name := range s.Attrs {
		if name == "" {
			return badField("attrs", "an attribute has no name")
		}
	}
	return nil
}

// Condition compiles the condition of a class.
func (s *DeviceSpec) Condition(c *when.Compiler, name string) (*when.Condition, error) {
	return c.Compile(s.When, when.Place{Kind: "device", Name: name, ClientOnly: true})
}

// Classes says which class a client belongs to. Immutable after Add; safe for concurrent use. A nil Classes knows none.
type Classes struct {
	of   uint64
	none *event.Class
	list []class
}

// class is one class with its condition. Immutable.
type class struct {
	*event.Class
	when *when.Condition
}

// NewClasses makes an empty list of classes; of tells it from all others: clients that were classified by another list are
// classified again.
func NewClasses(of uint64) *Classes { return &Classes{of: of, none: &event.Class{Of: of}} }

// Number is what tells these classes from all others.
func (c *Classes) Number() uint64 { return c.of }

// Add adds a class behind all others. Before the classes are used.
func (c *Classes) Add(name string, attrs map[string]string, w *when.Condition) error {
	if w == nil {
		return errors.New("a class needs a condition")
	}
	c.list = append(c.list, class{&event.Class{Name: name, Attrs: attrs, Of: c.of}, w})
	return nil
}

// Current says whether a client's class is one of these.
func (c *Classes) Current(o *event.Origin) bool {
	return c == nil || o.Class != nil && o.Class.Of == c.of
}

// Of is the class of a client: the first whose condition holds; one without a name when none does. A condition without an
// answer is counted, told and taken for one that does not hold. o is looked at with no class.
func (c *Classes) Of(ctx *Context, o *event.Origin) *event.Class {
	if len(c.list) == 0 {
		return c.none
	}
	plain := *o
	plain.Class = nil
	in := ctx.clientInput(&plain)
	defer ctx.done()
	for i := range c.list {
		x := &c.list[i]
		ok, err := x.when.Holds(in)
		if err != nil {
			x.when.Failed(in, err)
		}
		if ok {
			return x.Class
		}
	}
	return c.none
}
