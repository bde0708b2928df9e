package ws

import (
	"bytes"
	"strings"
)

// maxHead bounds the head of a handshake, in bytes; maxFields the header fields in it.
const (
	maxHead   = 8 << 10
	maxFields = 64
)

// head is the start line and the header fields of an HTTP/1.1 message (RFC 9112), read strictly: what one program may
// read in another way than the next is refused. Immutable.
type head struct {
	line   string
	fields []field
}

type field struct {
	name  string // lower case
	value string
}

// headEnd returns the length of the head that b begins with, 0 when its end is not there yet; from is where the search
// may begin.
func headEnd(b []byte, from int) int {
	from = max(0, from-3)
	if i := bytes.Index(b[from:], []byte("\r\n\r\n")); i >= 0 {
		return from + i + 4
	}
	return 0
}

// parseHead reads a complete head. ok false: it is not one.
func parseHead(b []byte) (h head, ok bool) {
	text := strings.TrimSuffix(string(b), "\r\n\r\n")
	var rest string
	h.line, rest, _ = strings.Cut(text, "\r\n")
	if !visible(h.line) {
		return h, false
	}
	for rest != "" {
		var line string
		line, rest, _ = strings.Cut(rest, "\r\n")
		name, value, found := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !found || !isToken(name) || !visible(value) || len(h.fields) == maxFields {
			return h, false
		}
		h.fields = append(h.fields, field{strings.ToLower(name), value})
	}
	return h, true
}

// visible says whether s has no control characters but tabs: no bare CR or LF, no NUL (RFC 9110, 5.5).
func visible(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// isToken says whether s is a token (RFC 9110, 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 {
			continue
		}
		return false
	}
	return s != ""
}

// one returns the value of a field that may be there once; twice says that it is there more often.
func (h *head) one(name string) (value string, there, twice bool) {
	for _, f := range h.fields {
		if f.name == name {
			if there {
				return "", true, true
			}
			value, there = f.value, true
		}
	}
	return value, there, false
}

// list returns the elements of all fields of that name (RFC 9110, 5.6.1).
func (h *head) list(name string) (out []string) {
	for _, f := range h.fields {
		if f.name != name {
			continue
		}
		for v := range strings.SplitSeq(f.value, ",") {
			if v = strings.Trim(v, " \t"); v != "" {
				out = append(out, v)
			}
		}
	}
	return out
}

// has says whether a list has an element, whatever the case.
func (h *head) has(name, element string) bool {
	for _, v := range h.list(name) {
		if strings.EqualFold(v, element) {
			return true
		}
	}
	return false
}
