package observe

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
)

func TestLevelsOfComponentsChangeWhileLoggersAreHeld(t *testing.T) {
	var b bytes.Buffer
	logs := NewLogs(&b, "mqtt")
	root := logs.Logger()
	mqtt, pool := root.With(ComponentKey, "mqtt"), root.With("pool", "hooks", ComponentKey, "pool")
	say := func(l *slog.Logger) string {
		b.Reset()
		l.Debug("d")
		l.Info("i")
		l.Warn("w")
		var got string
		for line := range strings.Lines(b.String()) {
			switch {
			case strings.Contains(line, "msg=d"), strings.Contains(line, `"msg":"d"`):
				got += "d"
			case strings.Contains(line, "msg=i"), strings.Contains(line, `"msg":"i"`):
				got += "i"
			default:
				got += "w"
			}
		}
		return got
	}
	check := func(when, r, m, p string) {
		t.Helper()
		if gr, gm, gp := say(root), say(mqtt), say(pool); gr != r || gm != m || gp != p {
			t.Errorf("%s: root %q, mqtt %q, pool %q, want %q, %q, %q", when, gr, gm, gp, r, m, p)
		}
	}
	set := func(component, level string) {
		t.Helper()
		if err := logs.Set(component, level); err != nil {
			t.Fatal(err)
		}
	}
	check("at first", "iw", "iw", "iw")
	set("mqtt", "debug")
	check("mqtt at debug", "iw", "diw", "iw")
	set("", "warn")
	check("all at warn", "w", "diw", "w")
	set("mqtt", "")
	check("mqtt as all", "w", "w", "w")
	logs.Apply(LogSpec{Format: "json", Level: "info", Levels: map[string]string{"pool": "warn"}})
	check("as configured", "iw", "iw", "w")
	if say(pool); !strings.Contains(b.String(), `"pool":"hooks","component":"pool"`) || !json.Valid(b.Bytes()) {
		t.Errorf("the line is %s", b.String())
	}
	if got := logs.Levels(); len(got) != len(Components())+1 || logs.Level() != "info" || logs.Format() != "json" {
		t.Errorf("levels %+v, %s, %s", got, logs.Level(), logs.Format())
	}
	for _, l := range logs.Levels() {
		if l.Own != (l.Component == "pool") {
			t.Errorf("own level: %+v", l)
		}
	}
}

func TestComponentIsToldOnceAndNothingSecretIs(t *testing.T) {
	var b bytes.Buffer
	l := NewLogs(&b, "mqtt").Logger().With(ComponentKey, "app").With(ComponentKey, "mqtt")
	l.Info("hello", "password", "hunter2")
	if got := b.String(); strings.Count(got, "component=") != 1 || !strings.Contains(got, "component=mqtt") || strings.Contains(got, "hunter2") {
		t.Error(got)
	}
}

func TestLevelsRefuseWhatDoesNotExist(t *testing.T) {
	logs := NewLogs(&bytes.Buffer{}, "mqtt")
	for _, c := range [][2]string{{"mqqt", "info"}, {"mqtt", "loud"}, {"", ""}, {"", "INFO"}} {
		if err := logs.Set(c[0], c[1]); err == nil {
			t.Errorf("Set(%q, %q) is accepted", c[0], c[1])
		}
	}
	if logs.SetFormat("xml") == nil {
		t.Error("the format xml is accepted")
	}
}

func TestLineBelowItsLevelDoesNotAllocate(t *testing.T) {
	l := NewLogs(&bytes.Buffer{}, "mqtt").Logger().With(ComponentKey, "mqtt")
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() { l.LogAttrs(ctx, slog.LevelDebug, "packet") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
