package sets

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// The bounds of one set.
const (
	MaxEntries = 10_000_000
	MaxFilters = 100_000 // topics
	MaxLength  = 4096    // bytes of an entry
	MaxFile    = 1 << 30 // bytes of a file
)

// Entry is one entry of a set; Value is that of a Map.
type Entry struct{ Key, Value string }

// Replace swaps the content for these entries. After an error the old content stays.
func (s *Set) Replace(entries []Entry) error {
	b := newBuilder(s.kind, len(entries))
	for i, e := range entries {
		if err := b.add(e.Key, e.Value); err != nil {
			return fmt.Errorf("set %s, entry %d: %w", s.name, i+1, err)
		}
	}
	s.current.Store(b.build())
	return nil
}

// Load swaps the content for what a file says, after inline entries. Each line is an entry; white space around it,
// empty lines and lines that begin with "# " do not count. In a Map a line is KEY = VALUE, cut at its first =. The
// error has the line; after it the old content stays.
func (s *Set) Load(path string, inline []Entry) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("set %s: %w", s.name, err)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("set %s: %w", s.name, err)
	}
	if info.Size() > MaxFile {
		return fmt.Errorf("set %s: %s has %d bytes, at most %d are allowed", s.name, path, info.Size(), MaxFile)
	}
	b := newBuilder(s.kind, int(info.Size()/32)+len(inline))
	for _, e := range inline {
		if err := b.add(e.Key, e.Value); err != nil {
			return fmt.Errorf("set %s: %w", s.name, err)
		}
	}
	if err := b.read(io.LimitReader(f, MaxFile)); err != nil {
		return fmt.Errorf("set %s: %s:%w", s.name, path, err)
	}
	s.current.Store(b.build())
	return nil
}

// read adds the lines of r. The error begins with the number of the line.
func (b *builder) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), 2*MaxLength+64)
	n := 0
	for lines.Scan() {
		n++
		line := bytes.TrimSpace(lines.Bytes())
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		if len(line) == 0 || bytes.HasPrefix(line, []byte("# ")) {
			continue
		}
		if !utf8.Valid(line) {
			return fmt.Errorf("%d: the line is not UTF-8", n)
		}
		key, value := string(line), ""
		if b.kind == Map {
			var ok bool
			if key, value, ok = strings.Cut(key, "="); !ok {
				return fmt.Errorf("%d: the line is not KEY = VALUE", n)
			}
			key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		}
		if err := b.add(key, value); err != nil {
			return fmt.Errorf("%d: %w", n, err)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("%d: the line is longer than %d bytes", n+1, 2*MaxLength)
	} else if err != nil {
		return fmt.Errorf("%d: %w", n+1, err)
	}
	return nil
}

// File is a set that is read from a file. Immutable.
type File struct {
	Set    *Set
	Path   string
	Inline []Entry // in the set beside what the file says
}

// Watch reads the files again when they change, looking every so often, until ctx ends. A file that cannot be read
// leaves its set as it is, and is told to log once. It blocks: call it in a goroutine of its own, never on a loop.
func Watch(ctx context.Context, files []File, every time.Duration, log *slog.Logger) {
	seen := make([]stamp, len(files))
	for i, f := range files {
		seen[i] = stampOf(f.Path)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i, f := range files {
			now := stampOf(f.Path)
			if now == seen[i] {
				continue
			}
			seen[i] = now
			if err := f.Set.Load(f.Path, f.Inline); err != nil {
				log.Error("set not reloaded, the old entries stay", "set", f.Set.Name(), "error", err)
				continue
			}
			log.Info("set reloaded", "set", f.Set.Name(), "entries", f.Set.Len())
		}
	}
}

// stamp is what tells one version of a file from another.
type stamp struct {
	mod  time.Time
	size int64
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info.ModTime(), info.Size()}
}
