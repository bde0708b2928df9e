package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/windrose-edc/windrose/internal/observe"
)

func TestLogLevelsAreChangedByTheAPI(t *testing.T) {
	var lines bytes.Buffer
	logs := observe.NewLogs(&lines, "mqtt")
	pool := logs.Logger().With(observe.ComponentKey, "pool")
	s := New(Options{Node: &fakeNode{}, Logs: logs, Logger: logs.Logger(), Loopback: Operator})
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()
	ask := func(body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, srv.URL+"/api/v1/log", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var b bytes.Buffer
		if _, err := b.ReadFrom(resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, b.String()
	}
	pool.Debug("before")
	if code, body := ask(`{"component":"pool","level":"debug"}`); code != http.StatusOK || !strings.Contains(body, `{"component":"pool","level":"debug","own":true}`) {
		t.Fatalf("%d %s", code, body)
	}
	pool.Debug("after")
	if got := lines.String(); strings.Contains(got, "msg=before") || !strings.Contains(got, "msg=after") {
		t.Errorf("the log is\n%s", got)
	}
	if code, _ := ask(`{"component":"pool","level":"default"}`); code != http.StatusOK || len(lines.String()) == 0 {
		t.Errorf("default: %d", code)
	}
	if code, body := ask(`{"format":"json"}`); code != http.StatusOK || !json.Valid([]byte(body)) || logs.Format() != "json" {
		t.Errorf("format: %d %s", code, body)
	}
	for body, want := range map[string]int{
		`{"component":"pol","level":"debug"}`: http.StatusNotFound,
		`{"level":"loud"}`:                    http.StatusUnprocessableEntity,
		`{}`:                                  http.StatusUnprocessableEntity,
		`{"component":"pool"}`:                http.StatusUnprocessableEntity,
		`{"level":"default"}`:                 http.StatusUnprocessableEntity,
	} {
		if code, answer := ask(body); code != want || !strings.Contains(answer, `"status":`) {
			t.Errorf("%s: %d %s, want %d", body, code, answer, want)
		}
	}
}
