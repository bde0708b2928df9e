package cli

import (
	"bytes"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/windrose-edc/windrose/internal/admin"
	"github.com/windrose-edc/windrose/internal/observe"
)

func TestLogLevelByTheVerb(t *testing.T) {
	var lines bytes.Buffer
	logs := observe.NewLogs(&lines, "mqtt")
	log := logs.Logger().With(observe.ComponentKey, "mqtt")
	node := httptest.NewServer(admin.New(admin.Options{Node: struct{ admin.Node }{}, Logs: logs, Loopback: admin.Operator}).Handler())
	defer node.Close()
	log.Debug("before")
	if code, out, said := verb(t, "", "log", "level", "mqtt", "debug", "--admin", node.URL); code != exitOK || !strings.Contains(out, "mqtt") {
		t.Fatalf("exit code %d\n%s%s", code, out, said)
	}
	log.Debug("after")
	if got := lines.String(); strings.Contains(got, "before") || !strings.Contains(got, "after") {
		t.Errorf("the log is\n%s", got)
	}
	if code, out, said := verb(t, "", "log", "show", "--admin", node.URL, "-o", "json"); code != exitOK || !strings.Contains(out, `"level": "debug"`) {
		t.Errorf("exit code %d\n%s%s", code, out, said)
	}
	if code, _, said := verb(t, "", "log", "level", "warn", "--admin", node.URL); code != exitOK || logs.Level() != "warn" {
		t.Errorf("exit code %d %s", code, said)
	}
	if code, _, said := verb(t, "", "log", "format", "json", "--admin", node.URL); code != exitOK || logs.Format() != "json" {
		t.Errorf("exit code %d %s", code, said)
	}
	if code, _, said := verb(t, "", "log", "level", "mqqt", "info", "--admin", node.URL); code != exitError || !strings.Contains(said, "mqqt") {
		t.Errorf("exit code %d %s", code, said)
	}
}
