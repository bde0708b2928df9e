package observe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLoggerWritesNoSecretNoPayloadAndBoundsText(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var b bytes.Buffer
		l := NewLogger(&b, format, slog.LevelInfo)
		l.Debug("hidden")
		l.Info("refused", slog.String("password", "hunter2"), slog.String("token", "hunter2"), slog.Any("data", []byte("hunter2")),
			slog.Group("auth", slog.String("secret", "hunter2")), slog.String("client", strings.Repeat("é", 5000)),
			slog.Any("err", errors.New(strings.Repeat("x", 5000))), slog.Duration("took", 1234567*time.Nanosecond), slog.Int("n", 1))
		out := b.String()
		if strings.Contains(out, "hunter2") || strings.Contains(out, "hidden") {
			t.Errorf("%s: %s", format, out)
		}
		if len(out) > 2000 || strings.Count(out, "\n") != 1 {
			t.Errorf("%s: %d bytes, %d lines", format, len(out), strings.Count(out, "\n"))
		}
		for _, want := range []string{"[redacted]", "[7 bytes]", "bytes more", "1.235ms", "refused"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in %s", format, want, out)
			}
		}
		if format == "json" && !json.Valid(b.Bytes()) {
			t.Error("not JSON: " + out)
		}
	}
}

func TestLimitedRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b lockedBuffer
		r := NewRegistry()
		l := Limited(NewLogger(&b, "text", slog.LevelInfo), r)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { l.Run(ctx) })
		for range 1237 {
			l.Warn("bad_packet/mqtt", "packet refused", slog.String("client", "a"))
		}
		l.Info("other", "something else")
		if n := strings.Count(b.String(), "\n"); n != LimitBurst+1 {
			t.Errorf("%d lines, want %d", n, LimitBurst+1)
		}
		time.Sleep(LimitWindow + 2*time.Second)
		synctest.Wait()
		if want := `msg="log line repeated" times=1234 line="packet refused" limit=bad_packet/mqtt`; !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
		// A new window writes again; Run's end tells the rest.
		for range 5 {
			l.Warn("bad_packet/mqtt", "packet refused")
		}
		cancel()
		wg.Wait()
		if !strings.Contains(b.String(), "times=2") {
			t.Errorf("no summary at the end in\n%s", b.String())
		}
		if v := l.suppressed.Value(); v != 1236 {
			t.Errorf("suppressed %d, want 1236", v)
		}
	})
}

func TestLimitedWithoutRunTellsWithTheNextLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b lockedBuffer
		l := Limited(NewLogger(&b, "text", slog.LevelInfo), nil)
		for range LimitBurst + 4 {
			l.Warn("a", "first")
		}
		time.Sleep(LimitWindow)
		l.Warn("b", "second")
		if !strings.Contains(b.String(), "times=4 line=first limit=a") {
			t.Error(b.String())
		}
	})
}

func TestLimitedKeysAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b lockedBuffer
		l := Limited(NewLogger(&b, "text", slog.LevelInfo), nil)
		for i := range 3 * LimitKeys {
			l.Warn(fmt.Sprint("key", i), "x")
		}
		if len(l.keys) > LimitKeys+1 {
			t.Errorf("%d keys remembered", len(l.keys))
		}
		if n := strings.Count(b.String(), "\n"); n > LimitKeys+LimitBurst {
			t.Errorf("%d lines written", n)
		}
		time.Sleep(LimitWindow)
		l.Warn("again", "x")
		if len(l.keys) != 1 {
			t.Errorf("%d keys after the window, want 1", len(l.keys))
		}
	})
}

func TestNilLimitedLogger(t *testing.T) {
	var l *LimitedLogger
	l.Warn("a", "b")
	l.Info("a", "b")
	l.Flush()
	Limited(Discard(), nil).Warn("a", "b")
}

func TestAsyncWriterNeverBlocksAndCountsWhatItDrops(t *testing.T) {
	r := NewRegistry()
	w := &stuckWriter{release: make(chan struct{})}
	a := NewAsyncWriter(w, 100)
	a.Register(r)
	line := []byte(strings.Repeat("x", 39) + "\n")
	for range 50 {
		if n, err := a.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	dropped := a.Dropped()
	if dropped < 44 || dropped > 48 { // two lines queued, and up to four with the batch that is being written
		t.Errorf("dropped %d", dropped)
	}
	close(w.release)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if got := w.buf.Len() / len(line); uint64(got)+dropped != 50 {
		t.Errorf("%d written and %d dropped of 50", got, dropped)
	}
	if _, err := a.Write(line); err != nil || a.Dropped() != dropped+1 {
		t.Error("a write after Close was not counted as dropped")
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

// stuckWriter blocks until release is closed. Owned by the goroutine of the AsyncWriter until Close.
type stuckWriter struct {
	release chan struct{}
	buf     bytes.Buffer
}

func (s *stuckWriter) Write(p []byte) (int, error) {
	<-s.release
	return s.buf.Write(p)
}

// lockedBuffer is guarded by mu.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
