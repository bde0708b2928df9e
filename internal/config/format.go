package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// ErrFormat says that a file holds something that Format does not lay out anew: complex keys, or a layout whose meaning
// would change. Nothing is wrong with the file.
var ErrFormat = errors.New("cannot be formatted")

// Format lays a file out as all are: two columns for each level, list entries below their key and one level in, one space
// behind a key's colon and a list's dash, at most one empty line between others, none at the ends, LF. It changes
// white space only: words, quotes, comments, their order and what stands within texts and braces stay. name stands for
// the file in errors, which are Errors where the file is not YAML and ErrFormat where its layout is not understood.
// Format of what it returned is the same.
func Format(name string, data []byte) ([]byte, error) {
	l := newLoader(&Schema{}, nil)
	text := strings.ReplaceAll(strings.TrimPrefix(string(data), "\ufeff"), "\r\n", "\n")
	if len(data) > maxFile || countMarks(data) > maxMarks {
		l.parse(name, data) // says so
		return nil, l.errs
	}
	doc, more, err := parseYAML([]byte(text))
	switch {
	case err != nil:
		l.failSyntax(name, []byte(text), err)
		return nil, l.errs
	case more != nil:
		l.fail(Pos{name, more.Line, more.Column}, "", "expected one document, got a second one", "remove the line --- or make it a file of its own")
		return nil, l.errs
	case !utf8.ValidString(text):
		l.fail(Pos{name, 1, 1}, "", "expected UTF-8 text", "")
		return nil, l.errs
	}
	if strings.ContainsAny(text, "\r\u0085\u2028\u2029") { // the parser ends lines at them, where the layout would not
		return nil, fmt.Errorf("%s: %w: it holds line ends that are neither LF nor CR LF", name, ErrFormat)
	}
	out := text
	for range 3 { // what moves one line may let another one move
		next, err := formatOnce(out)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if next == out {
			break
		}
		out = next
	}
	again, more, err := parseYAML([]byte(out))
	if err != nil || more != nil || !sameYAML(doc, again, 0) || !sameWords(text, out) {
		return nil, fmt.Errorf("%s: %w: its layout is not understood", name, ErrFormat)
	}
	if last, err := formatOnce(out); err != nil || last != out {
		return nil, fmt.Errorf("%s: %w: its layout is not understood", name, ErrFormat)
	}
	return []byte(out), nil
}

// sameYAML says whether two trees mean the same; where things stand and how they are written does not count.
func sameYAML(a, b *yaml.Node, depth int) bool {
	if a == nil || b == nil {
		return a == b
	}
	if depth > 10000 || a.Kind != b.Kind || a.Value != b.Value || a.Tag != b.Tag || a.Anchor != b.Anchor || a.Style != b.Style || len(a.Content) != len(b.Content) {
		return false
	}
	for i := range a.Content {
		if !sameYAML(a.Content[i], b.Content[i], depth+1) {
			return false
		}
	}
	return true
}

// sameWords says whether two texts differ in white space only.
func sameWords(a, b string) bool {
	strip := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r == ' ' || r == '\n' || r == '\t' || r == '\r' {
				return -1
			}
			return r
		}, s)
	}
	return strip(a) == strip(b)
}

// owner is a key or a dash in front of a value: where it stands and will stand, in columns from 0. Immutable.
type owner struct {
	line     int // of the value
	old, new int
	value    *yaml.Node
}

// startLine is a line that begins with a key or a dash.
type startLine struct {
	old, new int
	gaps     []gap
	levels   [][2]int // old and new columns of this line's level and those around it, outermost first
	last     *owner   // the last one on the line
}

// gap is white space within a line that becomes one space.
type gap struct{ from, to int }

// layout is one pass over a file. Owned by the goroutine that formats.
type layout struct {
	lines  [][]rune
	starts map[int]*startLine // by line, from 0
	err    error
}

func formatOnce(text string) (string, error) {
	doc, _, err := parseYAML([]byte(text))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrFormat, err)
	}
	f := &layout{starts: map[int]*startLine{}}
	for line := range strings.SplitSeq(text, "\n") {
		f.lines = append(f.lines, []rune(line))
	}
	if doc != nil && len(doc.Content) > 0 {
		f.walk(doc.Content[0], 0, 0, nil)
	}
	if f.err != nil {
		return "", f.err
	}
	return f.write(), nil
}

func (f *layout) fail(n *yaml.Node, what string) {
	if f.err == nil {
		f.err = fmt.Errorf("line %d: %s: %w", n.Line, what, ErrFormat)
	}
}

// walk notes where the lines of a block begin. to is the new column of its keys or dashes.
func (f *layout) walk(n *yaml.Node, to, depth int, around [][2]int) {
	if f.err != nil || n.Style&yaml.FlowStyle != 0 || len(n.Content) == 0 {
		return
	}
	if depth > 2*maxDepth {
		f.fail(n, "nested too deep")
		return
	}
	levels := append(slices.Clip(around), [2]int{n.Column - 1, to})
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			f.key(n.Content[i], n.Content[i+1], to, depth, levels)
		}
	case yaml.SequenceNode:
		for _, e := range n.Content {
			f.entry(n, e, to, depth, levels)
		}
	case yaml.ScalarNode, yaml.AliasNode, yaml.DocumentNode:
	}
}

func (f *layout) key(k, v *yaml.Node, to, depth int, levels [][2]int) {
	if k.Kind != yaml.ScalarNode || k.Anchor != "" || k.Style&yaml.TaggedStyle != 0 {
		f.fail(k, "a key that is not a plain name")
		return
	}
	line, col := k.Line-1, k.Column-1
	o := &owner{line: v.Line - 1, old: col, new: to, value: v}
	s := f.begin(line, col, to, levels, k)
	if s == nil {
		return
	}
	s.last = o
	if v.Line == k.Line && v.Anchor == "" && v.Style&yaml.TaggedStyle == 0 {
		f.gap(s, line, v.Column-1, ':')
	}
	f.walk(v, to+2, depth+1, levels)
}

func (f *layout) entry(seq, e *yaml.Node, to, depth int, levels [][2]int) {
	dash, line := seq.Column-1, e.Line-1
	for line > seq.Line-1 && !f.dashAt(line, dash) {
		line--
	}
	if !f.dashAt(line, dash) {
		f.fail(e, "a list entry without its dash")
		return
	}
	s := f.begin(line, dash, to, levels, e)
	if s == nil {
		return
	}
	s.last = &owner{line: e.Line - 1, old: dash, new: to, value: e}
	if line == e.Line-1 && e.Anchor == "" && e.Style&yaml.TaggedStyle == 0 {
		f.gap(s, line, e.Column-1, '-')
	}
	f.walk(e, to+2, depth+1, levels)
}

func (f *layout) dashAt(line, col int) bool {
	l := f.lines[line]
	return col < len(l) && l[col] == '-' && (col+1 == len(l) || l[col+1] == ' ' || l[col+1] == '\t')
}

// begin notes a key or dash at a column; only the first of a line moves it.
func (f *layout) begin(line, col, to int, levels [][2]int, n *yaml.Node) *startLine {
	if s := f.starts[line]; s != nil {
		s.levels = levels
		return s
	}
	if line >= len(f.lines) || indentOf(f.lines[line]) != col {
		f.fail(n, "something stands before a key")
		return nil
	}
	s := &startLine{old: col, new: to, levels: levels}
	f.starts[line] = s
	return s
}

// gap notes the white space before a column that follows a colon or a dash.
func (f *layout) gap(s *startLine, line, col int, after rune) {
	l, from := f.lines[line], col
	if col > len(l) {
		return
	}
	for from > 0 && (l[from-1] == ' ' || l[from-1] == '\t') {
		from--
	}
	if from > 0 && l[from-1] == after && col-from > 1 && col < len(l) {
		s.gaps = append(s.gaps, gap{from, col})
	}
}

func indentOf(line []rune) int {
	n := 0
	for n < len(line) && line[n] == ' ' {
		n++
	}
	return n
}

func isBlank(line []rune) bool { return len(bytes.TrimSpace([]byte(string(line)))) == 0 }

func isComment(line []rune) bool {
	n := 0
	for n < len(line) && (line[n] == ' ' || line[n] == '\t') {
		n++
	}
	return n < len(line) && line[n] == '#'
}

// write makes the new text.
func (f *layout) write() string {
	order := make([]int, 0, len(f.starts))
	for line := range f.starts {
		order = append(order, line)
	}
	slices.Sort(order)
	var b strings.Builder
	empty, began := false, false
	put := func(indent int, rest string) {
		if empty && began {
			b.WriteByte('\n')
		}
		empty, began = false, true
		b.WriteString(strings.Repeat(" ", indent))
		b.WriteString(rest)
		b.WriteByte('\n')
	}
	var cur *startLine
	within := -1 // last line of the value that began
	for i, line := range f.lines {
		if s := f.starts[i]; s != nil {
			cur = s
			at, _ := slices.BinarySearch(order, i)
			next := len(f.lines)
			if at+1 < len(order) {
				next = order[at+1]
			}
			within = f.end(s.last, i, next)
			rest := string(f.squeeze(line, s)[s.old:])
			if within == i || !inBlockHeader(s.last) {
				rest = strings.TrimRight(rest, " \t")
			}
			put(s.new, rest)
			continue
		}
		switch {
		case cur != nil && i <= within:
			if empty && began {
				b.WriteByte('\n')
				empty = false
			}
			if isBlank(line) && !isBlockScalar(cur.last) {
				b.WriteByte('\n')
				continue
			}
			b.WriteString(shift(line, cur.last.new-cur.last.old) + "\n")
		case isBlank(line):
			empty = true
		case isComment(line):
			put(f.commentColumn(i, cur, order), strings.TrimSpace(string(line)))
		default: // document marks, directives, a value without keys
			put(indentOf(line), strings.TrimRight(strings.TrimLeft(string(line), " "), " \t"))
		}
	}
	return b.String()
}

// squeeze takes the gaps out of a line.
func (f *layout) squeeze(line []rune, s *startLine) []rune {
	if len(s.gaps) == 0 {
		return line
	}
	slices.SortFunc(s.gaps, func(a, b gap) int { return cmp.Compare(a.from, b.from) })
	out := slices.Clone(line[:s.gaps[0].from])
	for i, g := range s.gaps {
		end := len(line)
		if i+1 < len(s.gaps) {
			end = s.gaps[i+1].from
		}
		out = append(append(out, ' '), line[g.to:end]...)
	}
	return out
}

// shift moves a line of a value. An empty line of a block text keeps its spaces: they may count.
func shift(line []rune, by int) string {
	n := indentOf(line)
	if n == len(line) && by < 0 {
		return strings.Repeat(" ", max(n+by, 0))
	}
	if n == len(line) && n == 0 {
		return ""
	}
	return strings.Repeat(" ", max(n+by, 0)) + string(line[n:])
}

func isBlockScalar(o *owner) bool {
	return o.value.Kind == yaml.ScalarNode && o.value.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0
}

func inBlockHeader(o *owner) bool {
	return o.value.Kind == yaml.ScalarNode && o.value.Style == yaml.DoubleQuotedStyle
}

// end is the last line of the value that begins on or after line; next is the line of the next key or dash.
func (f *layout) end(o *owner, line, next int) int {
	v := o.value
	if v.Kind == yaml.MappingNode && v.Style&yaml.FlowStyle == 0 && len(v.Content) > 0 || v.Kind == yaml.SequenceNode && v.Style&yaml.FlowStyle == 0 && len(v.Content) > 0 {
		return line // its own keys follow
	}
	if v.Kind == yaml.ScalarNode && v.Tag == "!!null" && v.Value == "" {
		return line
	}
	last := line
	if isBlockScalar(o) {
		keep := f.keepsTail(o)
		for i := o.line + 1; i < next; i++ {
			if isBlank(f.lines[i]) {
				if keep {
					last = i
				}
				continue
			}
			if indentOf(f.lines[i]) <= o.old {
				break
			}
			last = i
		}
		return last
	}
	for i := line + 1; i < next; i++ {
		if !isBlank(f.lines[i]) && !isComment(f.lines[i]) {
			last = i
		}
	}
	return max(last, min(o.line, next-1))
}

// keepsTail says whether a block text ends in a + that makes its empty last lines count.
func (f *layout) keepsTail(o *owner) bool {
	l := f.lines[o.line]
	from := min(o.value.Column-1, len(l))
	head, _, _ := strings.Cut(string(l[from:]), "#")
	return strings.Contains(head, "+")
}

// commentColumn is where a comment goes: with the line below it when it stood in its column, else with the level around
// that it was at or inside of.
func (f *layout) commentColumn(i int, cur *startLine, order []int) int {
	at, _ := slices.BinarySearch(order, i)
	col := indentOf(f.lines[i])
	best, found := [2]int{-1, 0}, false
	see := func(levels [][2]int) {
		for _, l := range levels {
			if l[0] <= col && l[0] > best[0] {
				best, found = l, true
			}
		}
	}
	if at < len(order) {
		next := f.starts[order[at]]
		if next.old == col {
			return next.new
		}
		see(next.levels)
	}
	if cur != nil {
		see(cur.levels)
	}
	if found {
		return best[1]
	}
	return 0
}
