package policy

import (
	"strings"

	"github.com/windrose-edc/windrose/internal/event"
)

// sessionValue is a {name} in a topic that stands for something of the session: {client}, {user} or {attrs.NAME}.
// Immutable after New.
type sessionValue struct {
	kind valueKind
	attr string
}

type valueKind uint8

const (
	valueClient valueKind = iota
	valueUser
	valueAttr
)

// parseSessionValue reads the name between the braces; ok is false for any other name.
func parseSessionValue(name string) (v sessionValue, ok bool) {
	switch {
	case name == "client":
		return sessionValue{kind: valueClient}, true
	case name == "user":
		return sessionValue{kind: valueUser}, true
	}
	attr, ok := strings.CutPrefix(name, "attrs.")
	return sessionValue{kind: valueAttr, attr: attr}, ok && attr != ""
}

// of returns the value in a session, "" where it has none.
func (v sessionValue) of(o *event.Origin) string {
	if o == nil {
		return ""
	}
	switch v.kind {
	case valueClient:
		return o.Client
	case valueUser:
		return o.User
	case valueAttr:
		return o.Attr(v.attr)
	}
	return ""
}

// usable says whether a value can stand for exactly one level: what a client calls itself must not become a wildcard or
// reach another level.
func usable(v string) bool {
	for i := range len(v) {
		switch v[i] {
		case '/', '+', '#', 0:
			return false
		}
	}
	return v != ""
}
