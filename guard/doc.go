// Package guard holds the tests of the repository itself: which package may import which, what every comment must say,
// and the other promises of docs/ARCHITECTURE.md that a compiler does not check. It holds no code of the product.
//
// Each rule is a function from a parsed tree to findings, so each has a small sample that breaks it (rules_test.go):
// a rule that finds nothing anywhere is not a rule.
package guard
