package observe

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// The limits of a LimitedLogger.
const (
	LimitBurst  = 3                // lines per key and window that are written
	LimitWindow = 10 * time.Second // then one line says how many were not
	LimitKeys   = 1024             // keys remembered; beyond, all new keys share one
)

const overflowKey = "(other)"

// LimitedLogger writes log lines that a remote peer can trigger: LimitBurst per key and window, the rest is counted and
// told in one line, "log line repeated times=1234". Safe for concurrent use. All methods work on nil.
type LimitedLogger struct {
	log *slog.Logger
	*limits
}

// limits are the windows that a LimitedLogger and what For makes of it share. Guarded by mu.
type limits struct {
	suppressed *Counter

	mu        sync.Mutex
	keys      map[string]*limit
	lastSweep time.Time
}

// limit is the window of one key. Guarded by limits.mu.
type limit struct {
	log     *slog.Logger
	start   time.Time
	written int
	held    int // lines not written in this window
	level   slog.Level
	msg     string // of the last held line
}

// Limited wraps l. r counts the lines that were held back; it may be nil.
func Limited(l *slog.Logger, r *Registry) *LimitedLogger {
	return &LimitedLogger{l, &limits{
		suppressed: r.Counter("windrose_log_suppressed_lines_total", "Log lines of remote peers that were counted instead of written."),
		keys:       make(map[string]*limit),
	}}
}

// For is l for a component, with the same windows.
func (l *LimitedLogger) For(component string) *LimitedLogger {
	if l == nil {
		return nil
	}
	return &LimitedLogger{l.log.With(ComponentKey, component), l.limits}
}

// Warn writes msg as a warning unless key had its share in this window. The key is a reason and perhaps a listener or
// pool ("bad_packet/mqtt-1"), never something that the peer chooses alone.
func (l *LimitedLogger) Warn(key, msg string, attrs ...slog.Attr) {
	l.write(slog.LevelWarn, key, msg, attrs)
}

// Info is like Warn, at the level info.
func (l *LimitedLogger) Info(key, msg string, attrs ...slog.Attr) {
	l.write(slog.LevelInfo, key, msg, attrs)
}

func (l *LimitedLogger) write(level slog.Level, key, msg string, attrs []slog.Attr) {
	if l == nil || !l.log.Enabled(context.Background(), level) {
		return
	}
	now := time.Now()
	l.mu.Lock()
	due := l.sweep(now)
	k := l.keys[key]
	if k == nil {
		if len(l.keys) >= LimitKeys {
			key = overflowKey
			k = l.keys[key]
		}
		if k == nil {
			k = &limit{log: l.log, start: now}
			l.keys[key] = k
		}
	}
	if now.Sub(k.start) >= LimitWindow { // sweep runs at most once a second: this window may just have ended
		due = appendDue(due, key, k)
		*k = limit{log: l.log, start: now}
	}
	ok := k.written < LimitBurst
	if ok {
		k.written++
	} else {
		k.held++
		k.level, k.msg = level, msg
	}
	l.mu.Unlock()

	l.tell(due)
	if ok {
		l.log.LogAttrs(context.Background(), level, msg, attrs...) //nolint:sloglint // the caller's constant message
	} else {
		l.suppressed.Inc()
	}
}

// Run tells about held lines when nothing new comes, until ctx is done; then Flush. Without Run they are told with the
// next line of any key.
func (l *LimitedLogger) Run(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			l.Flush()
			return
		case <-t.C:
			if l == nil {
				continue
			}
			l.mu.Lock()
			due := l.sweep(time.Now())
			l.mu.Unlock()
			l.tell(due)
		}
	}
}

// Flush tells at once what was held back.
func (l *LimitedLogger) Flush() {
	if l == nil {
		return
	}
	l.mu.Lock()
	var due []summary
	for key, k := range l.keys {
		due = appendDue(due, key, k)
		delete(l.keys, key)
	}
	l.mu.Unlock()
	l.tell(due)
}

// summary is a line about lines.
type summary struct {
	log      *slog.Logger
	key, msg string
	held     int
	level    slog.Level
}

// sweep forgets windows that have ended, at most once a second; l.mu is held.
func (l *limits) sweep(now time.Time) (due []summary) {
	if now.Sub(l.lastSweep) < time.Second {
		return nil
	}
	l.lastSweep = now
	for key, k := range l.keys {
		if now.Sub(k.start) >= LimitWindow {
			due = appendDue(due, key, k)
			delete(l.keys, key)
		}
	}
	return due
}

func appendDue(due []summary, key string, k *limit) []summary {
	if k.held == 0 {
		return due
	}
	return append(due, summary{k.log, key, k.msg, k.held, k.level})
}

func (l *limits) tell(due []summary) {
	for _, s := range due {
		s.log.LogAttrs(context.Background(), s.level, "log line repeated", slog.Int("times", s.held), slog.String("line", s.msg),
			slog.String("limit", s.key))
	}
}
