package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxErrors bounds what one Load reports; then reading ends.
const maxErrors = 100

// Pos is a place in a file. Line and Col count from 1; 0 means unknown.
type Pos struct {
	File string
	Line int
	Col  int
}

func (p Pos) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Col == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Error is one thing that is wrong in a configuration. Immutable once returned.
type Error struct {
	File string
	Line int    // from 1; 0: the file as a whole
	Col  int    // from 1, in characters; 0: unknown
	Path string // pools.hooks.webhook.urls[1], empty for the file as a whole
	Msg  string // what was expected and what was found
	Fix  string // what to write instead, empty when there is nothing to say
}

// Error is "file:line:col: path: message (fix: ...)".
func (e *Error) Error() string {
	var b strings.Builder
	if pos := (Pos{e.File, e.Line, e.Col}).String(); pos != "" {
		b.WriteString(pos)
		b.WriteString(": ")
	}
	if e.Path != "" {
		b.WriteString(e.Path)
		b.WriteString(": ")
	}
	b.WriteString(e.Msg)
	if e.Fix != "" {
		b.WriteString(" (fix: ")
		b.WriteString(e.Fix)
		b.WriteString(")")
	}
	return b.String()
}

// Errors is everything that is wrong in a configuration, sorted by place; at most 100, and a last line when reading stopped there.
type Errors []*Error

// Error is one line per error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.Is and errors.As the single errors.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, one := range e {
		out[i] = one
	}
	return out
}

// Sorted returns the errors in order of their place, each once, for who gathers them after a Load.
func (e Errors) Sorted() Errors { return e.sorted() }

// sorted returns the errors in order of their place, each once.
func (e Errors) sorted() Errors {
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Msg, b.Msg))
	})
	return slices.CompactFunc(e, func(a, b *Error) bool { return *a == *b })
}

// FieldError is what a Validate method returns to point below its own field. Path is relative to it, as the user
// writes it: "urls[1]", "eject.for". Fix is optional. A module that does not want to import this package may return
// any error with methods FieldPath() string, Unwrap() error and, if it likes, FieldFix() string.
type FieldError struct {
	Path string
	Err  error
	Fix  string
}

func (e *FieldError) Error() string {
	if e.Path == "" {
		return e.Err.Error()
	}
	return e.Path + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *FieldError) Unwrap() error { return e.Err }

// FieldPath is the place below the validated field.
func (e *FieldError) FieldPath() string { return e.Path }

// FieldFix is what to write instead.
func (e *FieldError) FieldFix() string { return e.Fix }
