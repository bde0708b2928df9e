package config

import (
	"cmp"
	"encoding"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// problem is why a value does not fit its field.
type problem struct{ msg, fix string }

// noun says what a class of value is called, in "expected a ..." and "a list of ...s".
func noun(c class, r *rules) (one, many string) {
	if len(r.enum) > 0 && r.unit != unitURL && len(r.ref) == 0 {
		words := "one of " + strings.Join(r.enum, ", ")
		return words, words
	}
	switch r.unit {
	case unitSize:
		return "a size like 64KiB", "sizes"
	case unitRate:
		return "a rate like 50/s", "rates"
	case unitByteRate:
		return "a rate like 256KiB/s", "rates"
	case unitRange:
		return "a range like 20s..20m", "ranges"
	case unitFilter:
		return "a topic filter", "topic filters"
	case unitTopic:
		return "a topic", "topics"
	case unitCIDR:
		return "a network like 10.0.0.0/8", "networks"
	case unitAddr:
		return "an address like 127.0.0.1:1883", "addresses"
	case unitFile:
		return "a file path", "file paths"
	case unitURL:
		return "a URL", "URLs"
	case unitExpr:
		return "an expression", "expressions"
	}
	if len(r.ref) > 0 && c == classString {
		what := strings.Join(r.ref, " or ")
		return "a name from " + what, "names from " + what
	}
	switch c {
	case classDuration:
		return "a duration like 30s", "durations"
	case classBool:
		return "true or false", "true or false"
	case classInt, classUint:
		return "a whole number", "whole numbers"
	case classFloat:
		return "a number", "numbers"
	case classSecret:
		return "a secret like { secret: NAME }", "secrets like { secret: NAME }"
	case classStruct, classMap:
		return "a map", "maps"
	case classList:
		return "a list", "lists"
	default:
	}
	return "text", "text"
}

// readScalar sets dst, which is of class c, from a scalar. It returns the canonical text.
func readScalar(dst reflect.Value, c class, n *node, r *rules) (canon string, bad *problem) {
	one, _ := noun(c, r)
	what := n.describe()
	if n.kind == kindInt || n.kind == kindFloat {
		what = "the number " + n.text[:min(len(n.text), 40)]
	}
	got := func(fix string) *problem { return &problem{"expected " + one + ", got " + what, fix} }
	if n.kind == kindNull {
		return "", got("write a value or remove the key")
	}
	if !n.scalar() {
		return "", got("")
	}
	canon, bad = readByClass(dst, c, n, r, one, got)
	if bad == nil && c != classString && c != classText && len(r.enum) > 0 && !slices.Contains(r.enum, canon) {
		return "", got("")
	}
	return canon, bad
}

func readByClass(dst reflect.Value, c class, n *node, r *rules, one string, got func(string) *problem) (canon string, bad *problem) {
	switch c {
	case classBool:
		return readBool(dst, n, got)
	case classString, classText:
		return readText(dst, c, n, r, one, got)
	case classDuration:
		d, err := parseDuration(n.text)
		if err != nil || n.kind == kindBool {
			return "", got(hintOf(err, "write a number and a unit, like 500ms, 30s, 5m, 1h30m or 7d"))
		}
		if d < 0 && r.minimum == "" { // a field that wants negative durations says min
			return "", &problem{"expected a duration of at least 0, got " + n.quote(), ""}
		}
		dst.SetInt(int64(d))
		return formatDuration(d), nil
	case classInt, classUint:
		return readInt(dst, c, n, r, one, got)
	case classFloat:
		return readFloat(dst, n, r, got)
	case classRange:
		return readRange(dst, n, r, got)
	default:
	}
	return "", got("")
}

func hintOf(err error, otherwise string) string {
	if h, ok := err.(*hint); ok { //nolint:errorlint // the unit parsers return it unwrapped
		return h.fix
	}
	return otherwise
}

func readBool(dst reflect.Value, n *node, got func(string) *problem) (string, *problem) {
	text := strings.ToLower(n.text)
	switch {
	case n.kind == kindBool, n.free && (n.text == "true" || n.text == "false"):
		dst.SetBool(text == "true")
		return text, nil
	case n.kind == kindText && (text == "true" || text == "false"):
		return "", got("write " + text + " without quotes")
	case text == "yes" || text == "on" || text == "y" || n.text == "1":
		return "", got("write true")
	case text == "no" || text == "off" || text == "n" || n.text == "0":
		return "", got("write false")
	}
	return "", got("")
}

// readText reads a string or a type that reads itself from text.
func readText(dst reflect.Value, c class, n *node, r *rules, one string, got func(string) *problem) (string, *problem) {
	s := n.text
	if s == "" && r.required {
		return "", &problem{"must not be empty", ""}
	}
	isWord := c == classText // an address, a level: typed by its own rule, not by YAML's
	if n.kind != kindText && !isWord {
		fix := "write " + strconv.Quote(s) + " with the quotes"
		if r.unit == unitAddr && n.kind == kindInt {
			fix = `write ":` + s + `"`
		}
		return "", got(fix)
	}
	if len(r.enum) > 0 && r.unit != unitURL && len(r.ref) == 0 && !slices.Contains(r.enum, s) {
		fix := ""
		if near := nearest(s, r.enum); near != "" && n.env == "" {
			fix = "did you mean '" + near + "'?"
		}
		return "", got(fix)
	}
	normal, bad, fix := checkFormat(r.unit, s, r.enum)
	if bad != "" {
		if n.env != "" {
			fix = ""
		}
		return "", &problem{"expected " + one + ", got " + n.quote() + ": " + bad, fix}
	}
	s = normal
	if r.unit == unitFile && !(n.free && n.env == "") {
		s = resolveFile(s, n.pos.File)
	}
	if c == classString {
		dst.SetString(s)
		return s, nil
	}
	u, ok := dst.Addr().Interface().(encoding.TextUnmarshaler)
	if !ok {
		return "", got("")
	}
	if err := u.UnmarshalText([]byte(s)); err != nil {
		if n.env != "" {
			return "", got("")
		}
		return "", &problem{"got " + n.quote() + ": " + err.Error(), ""}
	}
	if m, ok := dst.Interface().(encoding.TextMarshaler); ok {
		if b, err := m.MarshalText(); err == nil {
			return string(b), nil
		}
	}
	return s, nil
}

var (
	octalLooking = regexp.MustCompile(`^[-+]?0[0-9]+$`)
	spacedDigits = regexp.MustCompile(`^[0-9]+([_,' ][0-9]+)+$`)
)

func readInt(dst reflect.Value, c class, n *node, r *rules, one string, got func(string) *problem) (string, *problem) {
	v, bad := parseInteger(n, r.unit == unitSize, got)
	if bad != nil {
		return "", bad
	}
	canon := strconv.FormatInt(v, 10)
	if r.unit == unitSize {
		canon = formatSize(v)
	}
	if v < 0 && (c == classUint || r.unit == unitSize) {
		return "", &problem{"expected " + one + " of at least 0, got " + canon, ""}
	}
	limit := strconv.FormatInt(math.MaxInt64>>(64-dst.Type().Bits()), 10)
	if c == classUint {
		limit = strconv.FormatUint(math.MaxUint64>>(64-dst.Type().Bits()), 10)
	}
	if r.maximum != "" {
		limit = r.maximum
	}
	if c == classUint && dst.OverflowUint(uint64(v)) || c == classInt && dst.OverflowInt(v) {
		return "", &problem{"expected at most " + limit + ", got " + canon, ""}
	}
	if c == classUint {
		dst.SetUint(uint64(v))
		return canon, nil
	}
	dst.SetInt(v)
	return canon, nil
}

// parseInteger reads a whole number of the core schema, or a size.
func parseInteger(n *node, size bool, got func(string) *problem) (int64, *problem) {
	s := n.text
	switch {
	case octalLooking.MatchString(s):
		plain := strings.TrimLeft(strings.TrimLeft(s, "+-"), "0")
		if plain == "" {
			plain = "0"
		}
		fix := "write " + plain
		if !strings.ContainsAny(plain, "89") && plain != "0" {
			fix += ", or 0o" + plain + " if it is octal"
		}
		return 0, &problem{"a number that begins with 0 can be read in two ways", fix}
	case n.kind == kindInt || n.free && coreInt.MatchString(s):
		v, err := strconv.ParseInt(s, 0, 64)
		if err != nil {
			return 0, &problem{"expected a whole number of at most " + strconv.Itoa(math.MaxInt64) + ", got a larger one", ""}
		}
		return v, nil
	case size && n.kind == kindText:
		v, err := parseSize(s)
		if err != nil {
			return 0, got(hintOf(err, "write bytes, or a number with B, kB, KiB, MB, MiB, GB, GiB"))
		}
		return v, nil
	case n.kind == kindFloat:
		if f, err := strconv.ParseFloat(s, 64); err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			return 0, got("write " + strconv.FormatInt(int64(f), 10))
		}
	case n.kind == kindText && n.env == "" && coreInt.MatchString(s):
		return 0, got("write " + s + " without quotes")
	case spacedDigits.MatchString(s) && n.env == "":
		return 0, got("write " + strings.Map(keepDigits, s))
	}
	return 0, got("")
}

func keepDigits(r rune) rune {
	if r < '0' || r > '9' {
		return -1
	}
	return r
}

func readFloat(dst reflect.Value, n *node, r *rules, got func(string) *problem) (string, *problem) {
	if r.unit == unitRate || r.unit == unitByteRate {
		v, err := parseRate(n.text, r.unit == unitByteRate)
		if err != nil || n.kind == kindBool {
			return "", got(hintOf(err, "write a number and /s, /m, /h or /d"))
		}
		dst.SetFloat(v)
		return formatRate(v, r.unit == unitByteRate), nil
	}
	if n.kind == kindText && !n.free {
		if coreKind(n.text) == kindInt || coreKind(n.text) == kindFloat {
			return "", got("write " + n.text + " without quotes")
		}
		return "", got("")
	}
	v, err := strconv.ParseFloat(n.text, 64)
	switch {
	case n.kind == kindBool:
		return "", got("")
	case err != nil && n.kind == kindInt:
		i, err := strconv.ParseInt(n.text, 0, 64) // 0x10, 0o17
		if err != nil {
			return "", got("")
		}
		v = float64(i)
	case err != nil, math.IsInf(v, 0), math.IsNaN(v):
		return "", got("")
	}
	dst.SetFloat(v)
	return strconv.FormatFloat(v, 'g', -1, 64), nil
}

// readRange reads "a..b" into a struct with fields Min and Max.
func readRange(dst reflect.Value, n *node, r *rules, got func(string) *problem) (string, *problem) {
	lowText, highText, found := strings.Cut(n.text, "..")
	if n.kind != kindText || !found {
		fix := "write the least and the greatest with two dots between"
		if n.env == "" && n.kind != kindBool {
			fix = "write " + n.text + ".." + n.text + " for exactly that"
		}
		return "", got(fix)
	}
	ends := &rules{minimum: r.minimum}
	var canon [2]string
	for i, text := range []string{lowText, highText} {
		v := dst.FieldByName([]string{"Min", "Max"}[i])
		s, bad := readScalar(v, classOf(v.Type(), ""), textNode(strings.TrimSpace(text)), ends)
		if bad != nil {
			return "", got(bad.fix)
		}
		canon[i] = s
	}
	if compareNumbers(dst.FieldByName("Min"), dst.FieldByName("Max")) > 0 {
		return "", got("write the smaller end first")
	}
	return canon[0] + ".." + canon[1], nil
}

// compareNumbers orders two values of the same numeric type.
func compareNumbers(a, b reflect.Value) int {
	switch a.Kind() {
	case reflect.Float32, reflect.Float64:
		return cmp.Compare(a.Float(), b.Float())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return cmp.Compare(a.Uint(), b.Uint())
	default:
		return cmp.Compare(a.Int(), b.Int())
	}
}

// checkBounds holds a value against min and max, which the value's own rules read.
func checkBounds(v reflect.Value, c class, r *rules, canon string) *problem {
	if r.minimum == "" && r.maximum == "" {
		return nil
	}
	switch c {
	case classString, classText, classList, classMap:
		return checkLength(v, c, r, canon)
	case classRange:
		ends := &rules{minimum: r.minimum, maximum: r.maximum}
		for _, name := range []string{"Min", "Max"} {
			end := v.FieldByName(name)
			if bad := checkBounds(end, classOf(end.Type(), ""), ends, canon); bad != nil {
				return bad
			}
		}
		return nil
	case classInt, classUint, classFloat, classDuration:
	default:
		return nil
	}
	plain := &rules{unit: r.unit, minimum: "-"}
	read := func(s string) reflect.Value {
		b := reflect.New(v.Type()).Elem()
		_, _ = readScalar(b, c, textNode(s), plain)
		return b
	}
	switch {
	case r.minimum != "" && compareNumbers(v, read(r.minimum)) < 0:
		return &problem{"expected at least " + r.minimum + ", got " + canon, ""}
	case r.maximum != "" && compareNumbers(v, read(r.maximum)) > 0:
		return &problem{"expected at most " + r.maximum + ", got " + canon, ""}
	}
	return nil
}

func checkLength(v reflect.Value, c class, r *rules, canon string) *problem {
	n, what := utf8.RuneCountInString(canon), " characters"
	if c == classList || c == classMap {
		n, what = v.Len(), " entries"
	}
	switch {
	case r.minimum != "" && n < atoi(r.minimum):
		return &problem{"expected at least " + r.minimum + ofCount(r.minimum, what) + ", got " + strconv.Itoa(n), ""}
	case r.maximum != "" && n > atoi(r.maximum):
		return &problem{"expected at most " + r.maximum + ofCount(r.maximum, what) + ", got " + strconv.Itoa(n), ""}
	}
	return nil
}

// atoi reads a number that Check has seen to be one.
func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}
