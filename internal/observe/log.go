package observe

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxAttr bounds the bytes of one text value in a log line: a client id may have 65,535.
const MaxAttr = 512

// NewLogger returns a structured logger that writes one line per record to w, as JSON when format is "json", else as
// key=value text. Values under a key that names a secret or a payload are not written, byte slices only by their
// length, and long texts are cut at MaxAttr bytes.
func NewLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: cleanAttr}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// Discard returns a logger that writes nothing, for tests and for components built without one.
func Discard() *slog.Logger { return slog.New(discard{}) }

// discard is a handler that is never enabled. Immutable.
type discard struct{}

func (discard) Enabled(context.Context, slog.Level) bool  { return false }
func (discard) Handle(context.Context, slog.Record) error { return nil }
func (d discard) WithAttrs([]slog.Attr) slog.Handler      { return d }
func (d discard) WithGroup(string) slog.Handler           { return d }

func cleanAttr(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime {
		return slog.String(slog.TimeKey, a.Value.Time().UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	if isSecret(a.Key) {
		return slog.String(a.Key, "[redacted]")
	}
	switch a.Value.Kind() {
	case slog.KindString:
		if s := a.Value.String(); len(s) > MaxAttr {
			return slog.String(a.Key, cut(s))
		}
	case slog.KindDuration:
		return slog.String(a.Key, a.Value.Duration().Round(time.Microsecond).String())
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case []byte:
			return slog.String(a.Key, "["+strconv.Itoa(len(v))+" bytes]")
		case error:
			return slog.String(a.Key, cut(v.Error()))
		}
	case slog.KindBool, slog.KindFloat64, slog.KindInt64, slog.KindUint64, slog.KindTime, slog.KindGroup, slog.KindLogValuer:
	}
	return a
}

func isSecret(key string) bool {
	switch strings.ToLower(key) {
	case "password", "passwd", "secret", "token", "authorization", "payload", "body", "psk", "private_key":
		return true
	}
	return false
}

// cut shortens s to MaxAttr bytes at the start of a rune and says how much is missing.
func cut(s string) string {
	if len(s) <= MaxAttr {
		return s
	}
	n := MaxAttr
	for n > MaxAttr-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "...(" + strconv.Itoa(len(s)-n) + " bytes more)"
}
