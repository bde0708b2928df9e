// Package expr is the expression language of the configuration: CEL, typed when it is loaded, bounded in what it may
// cost, and evaluated per event without allocation. One language serves `when:` of routes and policies, `key:`, `by:`,
// `let:` and `set:`, and `--where` of the command line.
//
// An expression is parsed and checked by cel-go. What it says must then hold three ways: names exist (a wrong one is an
// error with its place and the nearest right one), types fit, and the worst case stays below a bound on its cost. The
// checked tree is compiled to closures; what the closures do not cover is evaluated by cel-go's own program, with the
// same result (FuzzClosures holds the two together). See docs/reference/expressions.md for the variables.
//
// # Errors while an event is looked at
//
// A field that is missing, a payload that is not JSON, a division by zero make a term an error, as CEL has it: && and ||
// still decide where the other side does, all else passes the error on, and Match returns it. Who calls treats an
// error as "does not match" for a route, as a refusal for a gate. Errors are made when the expression is compiled, so
// that an attacker who provokes them costs nothing.
//
// # Payloads
//
// event.json and event.cbor read single values out of the payload's bytes (package scan). The whole payload is checked
// first, strictly, so that no other reader can see another value in it.
//
// # Concurrency
//
// A Predicate, Value or RowPredicate is immutable after it was compiled and safe for concurrent use. An Input is not: it
// belongs to one goroutine, usually a loop that keeps one and uses it for every event.
package expr
