package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const (
	maxFile   = 4 << 20
	maxSecret = 1 << 20
	maxDepth  = 64
	maxFiles  = 1000
	maxMarks  = 1 << 20 // commas, brackets, colons and lines: what bounds the number of values before they are parsed
	maxLocate = 1 << 20 // largest file in which the exact line of a syntax error is searched
)

var errTooLarge = errors.New("larger than its limit")

// source is one file's content. Immutable.
type source struct {
	name string
	data []byte
}

// readAll reads all files; what cannot be read is reported.
func (l *loader) readAll(files []string) []source {
	var out []source
	read := func(name string) {
		b, err := readBounded(name, maxFile)
		switch {
		case errors.Is(err, errTooLarge):
			l.fail(Pos{File: name}, "", "the file is larger than 4 MiB", "split it into several files of one folder")
		case err != nil:
			l.fail(Pos{File: name}, "", "the file cannot be read: "+reason(err), "")
		default:
			out = append(out, source{name, b})
		}
	}
	for _, name := range files {
		st, err := os.Stat(name)
		if err != nil || !st.IsDir() {
			read(name)
			continue
		}
		entries, err := os.ReadDir(name)
		if err != nil {
			l.fail(Pos{File: name}, "", "the folder cannot be read: "+reason(err), "")
			continue
		}
		found := 0
		for _, e := range entries {
			if !isConfigFile(e) {
				continue
			}
			if found++; found > maxFiles {
				l.fail(Pos{File: name}, "", "the folder has more than "+strconv.Itoa(maxFiles)+" files", "")
				break
			}
			read(filepath.Join(name, e.Name()))
		}
		if found == 0 {
			l.fail(Pos{File: name}, "", "the folder has no *.yaml file", "write windrose.yaml there")
		}
	}
	return out
}

// isConfigFile says whether an entry of a folder belongs to the configuration. Hidden files do not: editors and WriteFileAtomic
// put such names beside the real ones.
func isConfigFile(e os.DirEntry) bool {
	n := e.Name()
	return !e.IsDir() && strings.HasSuffix(n, ".yaml") && !strings.HasSuffix(n, ".test.yaml") && !strings.HasPrefix(n, ".")
}

// reason is an error's cause without the path, which is shown already.
func reason(err error) string {
	if pe := (*os.PathError)(nil); errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// parse reads a file's only document. It returns nil where there is none; errors are reported.
func (l *loader) parse(name string, data []byte) *node {
	if len(data) > maxFile {
		l.fail(Pos{File: name}, "", "the file is larger than 4 MiB", "split it into several files of one folder")
		return nil
	}
	if countMarks(data) > maxMarks {
		l.fail(Pos{File: name}, "", "the file has more than a million values", "split it into several files of one folder")
		return nil
	}
	doc, more, err := parseYAML(data)
	if err != nil {
		l.failSyntax(name, data, err)
		return nil
	}
	if more != nil {
		l.fail(Pos{name, more.Line, more.Column}, "", "expected one document, got a second one", "remove the line --- or make it a file of its own")
	}
	if doc == nil || len(doc.Content) == 0 {
		return nil
	}
	return l.convert(name, doc.Content[0], "", 0)
}

// countMarks counts what can begin a value: the parser takes 250 bytes for each, however short it is.
func countMarks(data []byte) int {
	n := 0
	for i, b := range data {
		switch b {
		case '\n', ',', '[', '{':
			n++
		case ':', '-', '?':
			if i+1 < len(data) && data[i+1] == ' ' {
				n++
			}
		}
	}
	return n
}

// parseYAML returns the first document and, when there is one, the second.
func parseYAML(data []byte) (doc, more *yaml.Node, err error) {
	defer func() {
		// The parser is not ours: whatever it does with hostile bytes must stay an error.
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: %v", r)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	switch err := dec.Decode(&first); {
	case errors.Is(err, io.EOF):
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	}
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
		return &first, nil, nil
	case err != nil:
		return nil, nil, err
	}
	return &first, &second, nil
}

var yamlLine = regexp.MustCompile(`^line (\d+): `)

// failSyntax reports an error of the YAML parser.
func (l *loader) failSyntax(name string, data []byte, err error) {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		line = atoi(m[1])
		msg = msg[len(m[0]):]
	}
	pos, text := locateSyntax(name, data, err, line)
	fix := ""
	switch {
	case strings.Contains(msg, "cannot start any token") && strings.Contains(text, "\t"):
		fix = "indent with spaces, not tabs"
	case strings.Contains(msg, "cannot start any token"):
		fix = "put texts that start with @, % or a backtick in quotes"
	case strings.Contains(msg, "expected ':'"):
		fix = "check the indentation, and that a colon and a space follow every key"
	case strings.Contains(msg, "unexpected end of stream"):
		fix = "check that every quote is closed"
	case strings.Contains(msg, "mapping values are not allowed"):
		fix = "put a text that holds \": \" in quotes and check the indentation"
	case strings.Contains(msg, "expected key"), strings.Contains(msg, "block mapping"), strings.Contains(msg, "block collection"):
		fix = "check the indentation of this line and the ones before it"
	case strings.Contains(text, "${env."):
		fix = "put \"${env.NAME}\" in quotes"
	case strings.Contains(msg, "','"):
		fix = "check that every { and [ is closed and that entries are separated by commas"
	case strings.Contains(msg, "exceeded max depth"), strings.Contains(msg, "depth"):
		fix = "nest at most " + strconv.Itoa(maxDepth) + " levels"
	case strings.Contains(msg, "unknown anchor"):
		fix = "put a text that starts with * in quotes"
	}
	l.fail(pos, "", "not valid YAML: "+msg, fix)
}

// locateSyntax finds where the parser first sees an error: its own line is often the one where the surrounding
// structure begins. That is the last line of the shortest beginning of the file that gives the same error.
func locateSyntax(name string, data []byte, err error, line int) (pos Pos, text string) {
	var ends []int // of lines
	for i, b := range data {
		if b == '\n' {
			ends = append(ends, i+1)
		}
	}
	if len(data) > 0 && data[len(data)-1] != '\n' {
		ends = append(ends, len(data))
	}
	if len(ends) == 0 {
		return Pos{File: name}, ""
	}
	if len(data) <= maxLocate {
		first := sort.Search(len(ends), func(i int) bool {
			_, _, e := parseYAML(data[:ends[i]])
			return e != nil && e.Error() == err.Error()
		})
		line = first + 1
	}
	line = min(max(line, 1), len(ends))
	start := 0
	if line > 1 {
		start = ends[line-2]
	}
	col := 1
	for _, b := range data[start:ends[line-1]] {
		if b != ' ' && b != '\t' {
			break
		}
		col++
	}
	return Pos{name, line, col}, string(data[start:ends[line-1]])
}

var (
	envWhole = regexp.MustCompile(`^\$\{env\.([A-Za-z_][A-Za-z0-9_]*)\}$`)
	envName  = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$`)
)

// convert checks a YAML node and everything below it and makes it ours. It returns nil where something was reported
// that leaves no value.
func (l *loader) convert(file string, y *yaml.Node, path string, depth int) *node {
	n := &node{pos: Pos{file, y.Line, y.Column}}
	if l.full() {
		return nil
	}
	if depth > maxDepth {
		l.fail(n.pos, shortPath(path), "nested deeper than "+strconv.Itoa(maxDepth)+" levels", "")
		return nil
	}
	switch {
	case y.Kind == yaml.AliasNode:
		l.fail(n.pos, path, "YAML aliases (*name) are not used here", "write the value out, or put a text that starts with * in quotes")
		return nil
	case y.Anchor != "":
		l.fail(n.pos, path, "YAML anchors (&name) are not used here", "write the value out where it is needed, or put a text that starts with & in quotes")
	case y.Style&yaml.TaggedStyle != 0:
		l.fail(n.pos, path, "YAML tags ("+quoteShort(y.Tag)+") are not used here", "remove the tag; put texts in quotes where they look like numbers")
		return nil
	}
	switch y.Kind {
	case yaml.ScalarNode:
		return l.convertScalar(n, y, path)
	case yaml.SequenceNode:
		n.kind = kindList
		for i, c := range y.Content {
			if v := l.convert(file, c, path+"["+strconv.Itoa(i)+"]", depth+1); v != nil {
				n.vals = append(n.vals, v)
			} else {
				n.vals = append(n.vals, &node{pos: Pos{file, c.Line, c.Column}, kind: kindBad})
			}
		}
	case yaml.MappingNode:
		n.kind = kindMap
		l.convertMap(n, y, path, depth)
	case yaml.DocumentNode, yaml.AliasNode:
		return nil
	}
	return n
}

func (l *loader) convertScalar(n *node, y *yaml.Node, path string) *node {
	n.text = y.Value
	n.quoted = y.Style&^yaml.TaggedStyle != 0
	n.block = y.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0
	n.kind = kindText
	if !n.quoted {
		n.kind = coreKind(y.Value)
	}
	if !utf8.ValidString(n.text) {
		l.fail(n.pos, path, "expected UTF-8 text", "")
		return nil
	}
	if n.kind != kindText {
		return n
	}
	if m := envWhole.FindStringSubmatch(n.text); m != nil {
		v, ok := "", false
		if l.env != nil {
			v, ok = l.env(m[1])
		}
		switch {
		case !ok:
			l.fail(n.pos, path, "environment variable "+m[1]+" is not set", "set it, or write the value here")
			return nil
		case !utf8.ValidString(v):
			l.fail(n.pos, path, "environment variable "+m[1]+" is not UTF-8 text", "")
			return nil
		}
		n.text, n.free, n.env = v, true, m[1]
		return n
	}
	switch m := envName.FindStringSubmatch(n.text); {
	case m != nil:
		l.fail(n.pos, path, "expected an environment value as ${env.NAME}, got "+quoteShort(n.text), "write \"${env."+m[1]+"}\"")
		return nil
	case strings.Contains(n.text, "${env."):
		l.fail(n.pos, path, "an environment value stands for a whole value, not for a part of a text",
			"write \"${env.NAME}\" alone and put the rest of the text into the variable")
		return nil
	}
	return n
}

func (l *loader) convertMap(n *node, y *yaml.Node, path string, depth int) {
	seen := make(map[string]int, len(y.Content)/2)
	drop := func(pos Pos, msg, fix string) {
		n.partial = true
		l.fail(pos, path, msg, fix)
	}
	for i := 0; i+1 < len(y.Content); i += 2 {
		k, v := y.Content[i], y.Content[i+1]
		kpos := Pos{n.pos.File, k.Line, k.Column}
		switch {
		case k.Kind != yaml.ScalarNode:
			drop(kpos, "expected a name as the key, got something else", "put a key that starts with { [ * or & in quotes")
			continue
		case k.Anchor != "" || k.Style&yaml.TaggedStyle != 0:
			drop(kpos, "YAML anchors and tags are not used here", "write the key alone")
			continue
		case k.Tag == "!!merge" && k.Value == "<<":
			drop(kpos, "YAML merge keys (<<) are not used here", "write the keys out where they are needed")
			continue
		case strings.Contains(k.Value, "${env."):
			drop(kpos, "an environment value cannot be a key", "write the key out")
			continue
		}
		sub := joinPath(path, k.Value)
		if first, dup := seen[k.Value]; dup {
			l.fail(kpos, sub, "the key is already written on line "+strconv.Itoa(first), "keep one of the two")
			continue
		}
		seen[k.Value] = k.Line
		c := l.convert(n.pos.File, v, sub, depth+1)
		if c == nil {
			c = &node{pos: Pos{n.pos.File, v.Line, v.Column}, kind: kindBad}
		}
		n.keys = append(n.keys, &node{pos: kpos, kind: kindText, text: k.Value})
		n.vals = append(n.vals, c)
	}
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// joinPath appends a key to a path; a key that is not a plain name is quoted.
func joinPath(path, key string) string {
	if !plainKey.MatchString(key) {
		return path + "[" + quoteShort(key) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// shortPath keeps the path of a bomb readable.
func shortPath(path string) string {
	if len(path) > 60 {
		return path[:slices.Max([]int{0, strings.LastIndexAny(path[:60], ".[")})] + "..."
	}
	return path
}
