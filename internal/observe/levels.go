package observe

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync/atomic"
)

// ComponentKey is the attribute that says which part of Windrose writes a log line: a logger belongs to the component of
// that name by With(ComponentKey, name).
const ComponentKey = "component"

// Components returns the parts of Windrose that every binary has and whose log level can be set apart. The set is closed:
// a new one is added here. Protocols and destinations are components under their own names, which NewLogs is told.
func Components() []string {
	return []string{"admin", "app", "auth", "config", "loop", "policy", "pool", "reload", "route", "session", "tap", "trace"}
}

// LogSpec is the section log of the configuration. Immutable after it is read.
type LogSpec struct {
	Format string            `yaml:"format" enum:"text|json" default:"text" doc:"How a line is written: key=value text, or JSON."`
	Level  string            `yaml:"level" enum:"debug|info|warn|error" default:"info" doc:"The least level that is logged."`
	Levels map[string]string `yaml:"levels" enum:"debug|info|warn|error" doc:"The least level of single components: admin, app, auth, config, loop, policy, pool, reload, route, session, tap, trace, and each protocol and destination by its name." example:"{ pool: debug }"`
}

// inherit stands for the level that all components have which have none of their own.
const inherit = math.MinInt64

// Logs writes the log of a node in a format and at levels that can be changed while it runs. Safe for concurrent use; a
// line that is below its level costs two atomic loads.
type Logs struct {
	w     io.Writer
	json  atomic.Bool
	level atomic.Int64
	own   map[string]*atomic.Int64 // by component; the map itself is immutable after New
}

// ComponentLevel is the level of one component; Own says that it was set for it alone.
type ComponentLevel struct {
	Component string `json:"component"`
	Level     string `json:"level"`
	Own       bool   `json:"own"`
}

// NewLogs writes to w, at first as a LogSpec without any key says: text, info. modules are components beside Components.
func NewLogs(w io.Writer, modules ...string) *Logs {
	l := &Logs{w: w, own: make(map[string]*atomic.Int64)}
	for _, name := range slices.Concat(Components(), modules) {
		l.own[name] = &atomic.Int64{}
		l.own[name].Store(inherit)
	}
	return l
}

// Apply takes over what the configuration says; levels that were set for components before are forgotten. The spec is
// valid: it was read by the configuration's rules.
func (l *Logs) Apply(s LogSpec) {
	l.json.Store(s.Format == "json")
	if v, err := parseLevel(s.Level); err == nil {
		l.level.Store(int64(v))
	}
	for name, own := range l.own {
		own.Store(inherit)
		if v, err := parseLevel(s.Levels[name]); err == nil {
			own.Store(int64(v))
		}
	}
}

// Set changes the level of a component, of all that have none of their own when component is "", until the next Apply.
// The level "" gives a component the level of all again.
func (l *Logs) Set(component, level string) error {
	v, err := parseLevel(level)
	if err != nil && (level != "" || component == "") {
		return err
	}
	if component == "" {
		l.level.Store(int64(v))
		return nil
	}
	own := l.own[component]
	switch {
	case own == nil:
		return fmt.Errorf("unknown component %q: want one of %s", component, strings.Join(l.names(), ", "))
	case level == "":
		own.Store(inherit)
	default:
		own.Store(int64(v))
	}
	return nil
}

// SetFormat changes the format of all lines that follow: text or json.
func (l *Logs) SetFormat(format string) error {
	if format != "text" && format != "json" {
		return fmt.Errorf("log format %q: want text or json", format)
	}
	l.json.Store(format == "json")
	return nil
}

// Level is the level of all components that have none of their own.
func (l *Logs) Level() string { return levelText(l.level.Load()) }

// Format is text or json.
func (l *Logs) Format() string {
	if l.json.Load() {
		return "json"
	}
	return "text"
}

// Levels lists all components, sorted.
func (l *Logs) Levels() []ComponentLevel {
	out := make([]ComponentLevel, 0, len(l.own))
	for _, name := range l.names() {
		v, own := l.own[name].Load(), true
		if v == inherit {
			v, own = l.level.Load(), false
		}
		out = append(out, ComponentLevel{name, levelText(v), own})
	}
	return out
}

// Logger returns the logger of the node. It hides what NewLogger hides.
func (l *Logs) Logger() *slog.Logger {
	o := &slog.HandlerOptions{Level: slog.Level(math.MinInt), ReplaceAttr: cleanAttr}
	return slog.New(&levelHandler{logs: l, text: slog.NewTextHandler(l.w, o), json: slog.NewJSONHandler(l.w, o)})
}

// levelHandler is a logger of one component. Immutable: With makes a new one.
type levelHandler struct {
	logs       *Logs
	own        *atomic.Int64 // nil: no component, or one that is not on the list
	component  string
	text, json slog.Handler
}

func (h *levelHandler) Enabled(_ context.Context, v slog.Level) bool {
	least := int64(inherit)
	if h.own != nil {
		least = h.own.Load()
	}
	if least == inherit {
		least = h.logs.level.Load()
	}
	return int64(v) >= least
}

func (h *levelHandler) Handle(ctx context.Context, r slog.Record) error {
	if h.component != "" {
		r.AddAttrs(slog.String(ComponentKey, h.component))
	}
	if h.logs.json.Load() {
		return h.json.Handle(ctx, r)
	}
	return h.text.Handle(ctx, r)
}

func (h *levelHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *h
	var rest []slog.Attr
	for _, a := range attrs {
		if a.Key == ComponentKey && a.Value.Kind() == slog.KindString {
			n.component = a.Value.String()
			n.own = h.logs.own[n.component]
			continue
		}
		rest = append(rest, a)
	}
	n.text, n.json = h.text.WithAttrs(rest), h.json.WithAttrs(rest)
	return &n
}

func (h *levelHandler) WithGroup(name string) slog.Handler {
	n := *h
	n.text, n.json = h.text.WithGroup(name), h.json.WithGroup(name)
	return &n
}

func parseLevel(s string) (slog.Level, error) {
	switch s {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log level %q: want debug, info, warn or error", s)
}

func levelText(v int64) string { return strings.ToLower(slog.Level(v).String()) }

func (l *Logs) names() []string { return slices.Sorted(maps.Keys(l.own)) }
