package config

import (
	"regexp"
	"strconv"
	"strings"
)

// nodeKind is what a node is by the YAML 1.2 core schema.
type nodeKind uint8

const (
	kindNull nodeKind = iota
	kindBool
	kindInt
	kindFloat
	kindText
	kindList
	kindMap
	kindBad // already reported
)

// node is a value of a file with its place, after environment values were put in. Immutable after parse.
type node struct {
	pos    Pos
	kind   nodeKind
	text   string // of a scalar
	quoted bool   // text that was written in quotes or as a block
	block  bool   // as a block
	free   bool   // text without a type of its own, which the field's rules read: environment values and defaults
	// partial maps have lost a key that was reported: what is missing in them is not.
	partial bool
	env     string // the environment variable that text comes from
	keys    []*node
	vals    []*node // of a list or, beside keys, of a map
}

func (n *node) scalar() bool { return n.kind < kindList }

// get returns the value of a key and its position in keys.
func (n *node) get(key string) (int, *node) {
	for i, k := range n.keys {
		if k.text == key {
			return i, n.vals[i]
		}
	}
	return -1, nil
}

// describe says what a node is, for "expected ..., got ...". Texts are quoted only where they are known to hold
// nothing that must not be shown.
func (n *node) describe() string {
	switch n.kind {
	case kindNull:
		return "nothing"
	case kindBool:
		return n.text
	case kindInt, kindFloat:
		return "a number"
	case kindList:
		return "a list"
	case kindMap:
		return "a map"
	case kindText, kindBad:
	}
	return n.quote()
}

// quote shows a scalar's text, unless it comes from the environment.
func (n *node) quote() string {
	if n.env != "" {
		return "the value of environment variable " + n.env
	}
	return quoteShort(n.text)
}

// quoteShort quotes a text in at most 40 characters. A text that looks like a URL with a password is cut before it.
func quoteShort(s string) string {
	if i := strings.Index(s, "://"); i >= 0 {
		if at := strings.LastIndexByte(s, '@'); at > i {
			s = s[:i+3] + "..." + s[at:]
		}
	}
	if r := []rune(s); len(s) > 40 && len(r) > 40 {
		s = string(r[:37]) + "..."
	}
	return strconv.Quote(s)
}

var (
	coreInt   = regexp.MustCompile(`^[-+]?[0-9]+$|^0o[0-7]+$|^0x[0-9a-fA-F]+$`)
	coreFloat = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$`)
)

// coreKind is the type of a plain scalar by YAML 1.2, section 10.3.2 (core schema).
func coreKind(s string) nodeKind {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return kindNull
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return kindBool
	}
	switch s[0] {
	case '-', '+', '.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
	default:
		return kindText
	}
	switch {
	case coreInt.MatchString(s):
		return kindInt
	case coreFloat.MatchString(s):
		return kindFloat
	}
	return kindText
}

// textNode is a scalar that is read by the rules of its field only: a default.
func textNode(s string) *node { return &node{kind: kindText, text: s, free: true} }
