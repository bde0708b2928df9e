package expr

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"

	"github.com/windrose-edc/windrose/internal/expr/scan"
	"github.com/windrose-edc/windrose/internal/expr/sets"
)

// function is one function of the language, for its reference. Immutable.
type function struct {
	call string // as one writes it
	doc  string
	slow bool // cel-go evaluates the expressions that use it
}

// functions is what docs/reference/expressions.md tells of them; a test holds it to what there is.
var functions = []function{
	{call: `s.startsWith(t)`, doc: "s begins with t"},
	{call: `s.endsWith(t)`, doc: "s ends with t"},
	{call: `s.contains(t)`, doc: "t is in s"},
	{call: `s.matches(re)`, doc: "the regular expression (RE2) matches in s; a constant one is compiled once"},
	{call: `size(x)`, doc: "characters of a string, bytes, elements of a list, entries of a map; also x.size()"},
	{call: `has(a.b)`, doc: "a has an entry b"},
	{call: `l.all(x, c)`, doc: "c holds for all elements x of the list (names of the map) l"},
	{call: `l.exists(x, c)`, doc: "c holds for at least one"},
	{call: `l.exists_one(x, c)`, doc: "c holds for exactly one; also existsOne"},
	{call: `l.map(x, e)`, doc: "the list of e for each element", slow: true},
	{call: `l.filter(x, c)`, doc: "the elements for which c holds", slow: true},
	{call: `int(x), uint(x), double(x), string(x)`, doc: "conversions"},
	{call: `bool(x), bytes(x)`, doc: "further conversions", slow: true},
	{call: `dyn(x)`, doc: "x, whose type is looked at when the value is there"},
	{call: `type(x)`, doc: "the type of x", slow: true},
	{call: `duration("5m")`, doc: "a duration; of a text that is not constant cel-go makes it"},
	{call: `timestamp("2026-01-01T00:00:00Z")`, doc: "a time; of a text that is not constant cel-go makes it"},
	{call: `t.getFullYear(), t.getMonth(), t.getDate(), t.getDayOfMonth(), t.getDayOfWeek(), t.getDayOfYear(), t.getHours(), t.getMinutes(), t.getSeconds(), t.getMilliseconds()`, doc: "parts of a time (UTC, or in the zone that is given); hours and smaller also of a duration", slow: true},
	{call: `s.split(t), l.join(t), s.lowerAscii(), s.upperAscii(), s.trim(), s.replace(a, b), s.substring(i, j), s.charAt(i), s.indexOf(t), s.lastIndexOf(t), s.reverse(), s.format(l), strings.quote(s)`, doc: "strings, as cel-go's extension has them", slow: true},
	{call: `base64.encode(b), base64.decode(s), json.encode(x), json.decode(s)`, doc: "encodings", slow: true},
	{call: `math.greatest(a, b), math.least(a, b), math.abs(x), math.sign(x), math.ceil(x), math.floor(x), math.round(x), math.trunc(x), math.sqrt(x), math.isNaN(x), math.isInf(x), math.isFinite(x), math.bitAnd(a, b), math.bitOr(a, b), math.bitXor(a, b), math.bitNot(a), math.bitShiftLeft(a, n), math.bitShiftRight(a, n)`, doc: "numbers", slow: true},
}

// Reference is docs/reference/expressions.md.
func Reference() []byte {
	var b strings.Builder
	b.WriteString(`# Expressions

Generated from the declarations in internal/expr: do not edit, run make generate.

Conditions (` + "`when:`, `for:`, `--where`" + `) and values (` + "`key:`, `by:`, `let:`, `set:`" + `) are [CEL](https://cel.dev). An
expression is checked when it is loaded: names, types, and what it may cost at worst. A mistake is told with file, line and
column, and a wrong name with the nearest right one.

` + "```text" + `
event.json.temperature > 80.0 && event.topic.startsWith("site/")
client.id in sets.blocked || client.address in sets.office
has(event.json.alarm) && event.json.alarm.level >= 3
vars.tenant == client.attrs.tenant
` + "```" + `

## Variables

`)
	fmt.Fprintf(&b, "| name | type | meaning |\n|---|---|---|\n")
	for _, v := range variables {
		doc := v.doc
		if v.event {
			doc += " †"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v.name, cel.FormatCELType(v.typ), strings.ReplaceAll(doc, "|", `\|`))
	}
	b.WriteString(`
† Only where there is an event: not where a client is classified. ` + "`event.client`, `event.proto`" + ` and the like are there
then too.

## Functions

Operators: ` + "`&& || ! ?: == != < <= > >= in + - * / % [] .`" + `. A function marked × makes cel-go's own program evaluate the
expression, about ten times slower and with allocations; all else runs as closures without any.

| function | meaning | |
|---|---|---|
`)
	for _, f := range functions {
		mark := ""
		if f.slow {
			mark = "×"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.ReplaceAll(f.call, ", ", "`, `"), f.doc, mark)
	}
	fmt.Fprintf(&b, `
## Errors while an event is looked at

A name that the payload does not have, a payload that is not JSON, a type that does not fit, a division by zero make a term
an error. && and || still decide where their other side does: `+"`true || error`"+` is true, `+"`false && error`"+` is false. Any other
error is the answer: a route does not match, a gate refuses. `+"`has(event.json.x) && event.json.x > 1`"+` asks first.

Numbers of a payload are int where they are written without fraction and exponent, else double; they are compared by value,
so `+"`event.json.t > 80`"+` holds for 80.5. Arithmetic needs equal types: `+"`double(event.json.t) * 1.8`"+`. Times hold from 1678 to 2262.

## Payloads

event.json and event.cbor read single values out of the bytes. The payload is checked as a whole first, and refused where two
readers could see different values in it: a name twice in one object, a name with an escape (JSON), in pieces or as an integer
that is longer than it need be (CBOR), text that is not UTF-8, half a surrogate pair, numbers beyond 64 bits (in CBOR also
tags 2 to 5), more than %d levels, %d bytes or %d tags in a row. Other CBOR tags are read through.

## Bounds

| of an expression | |
|---|---|
| length | %d bytes, %d terms |
| worst case by cel-go's estimate | %d units; it takes payloads for 64 KiB, topics for %d bytes, lists and texts of payloads for 1,024 elements or characters |
| elements that macros look at, for one event | %d; then the term is an error |
| instructions of a regular expression | %d |

## Named sets

| kind | holds |
|---|---|
| %s | exact strings |
| %s | addresses and prefixes: an address that a prefix holds is in the set |
| %s | topic filters: a topic that a filter matches is in the set |
| %s | strings that lead to strings: sets.region[client.id] |

A file has one entry on each line (in a map: KEY = VALUE); empty lines and lines that begin with "# " do not count. A set has
at most %d entries of %d bytes (%d topic filters) and is replaced as a whole: events see the old entries or the new ones.
`, scan.MaxDepth, scan.MaxSize, scan.MaxTags, maxSource, maxNodes, maxCost, sizeTopic, maxSteps, maxRegexp,
		sets.Strings, sets.CIDRs, sets.Topics, sets.Map, sets.MaxEntries, sets.MaxLength, sets.MaxFilters)
	return []byte(b.String())
}

// Variables lists the names of the language with their documentation, in the order of the reference.
func Variables() (names, docs []string) {
	for _, v := range variables {
		names, docs = append(names, v.name), append(docs, v.doc)
	}
	return slices.Clip(names), slices.Clip(docs)
}
