package cli

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// operated answers like a node whose last reload failed where broken says so.
func operated(broken *bool) http.Handler {
	m := http.NewServeMux()
	doc := func(path string, text func() string) {
		m.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(text()))
		})
	}
	doc("/readyz", func() string { return `{"status":"ok","checks":[{"name":"config","ok":true}]}` })
	doc("/api/v1/routes", func() string { return `{"items":[{"name":"all","topic":"#","to":["north"],"ack":"received"}]}` })
	doc("/api/v1/log", func() string {
		return `{"level":"info","format":"text","components":[{"component":"mqtt","level":"info"},{"component":"pool","level":"info"}]}`
	})
	doc("/api/v1/config", func() string {
		if !*broken {
			return `{"hash":"0123456789abcdef","files":[]}`
		}
		return `{"hash":"0123456789abcdef","files":[],"failed":{"ok":false,"how":"signal","at":"2026-01-02T03:04:05Z","error":"w.yaml:2:1: one\nw.yaml:3:1: \u001b[2Jtwo"}}`
	})
	return m
}

func TestGetSaysThatTheLastReloadFailed(t *testing.T) {
	broken := true
	s := httptest.NewServer(operated(&broken))
	defer s.Close()
	r := cli(t, "", "get", "routes", "--admin", s.URL)
	r.want(t, exitOK, "*", "failed and changed nothing, configuration 0123456789ab is in force:\nw.yaml:2:1: one\nw.yaml:3:1: ")
	if !strings.Contains(r.out, "all") || strings.Contains(r.err, "\x1b") {
		t.Errorf("%q %q", r.out, r.err)
	}
	cli(t, "", "get", "routes", "--admin", s.URL, "-o", "name").want(t, exitOK, "all\n", "")
	broken = false
	if r := cli(t, "", "get", "routes", "--admin", s.URL); r.err != "" {
		t.Errorf("said %q", r.err)
	}
}

// The verbs find the node that runs in this folder without being told, health too.
func TestVerbsFindTheNodeOfThisFolder(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Mkdir("data", 0o700); err != nil {
		t.Fatal(err)
	}
	broken := false
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join("data", "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: operated(&broken)}} //nolint:gosec // a test on a socket of its own
	s.Start()
	defer s.Close()
	for _, args := range [][]string{{"health"}, {"health", "--admin", "unix:data/admin.sock"}, {"health", "--admin", "./data/admin.sock"}, {"health", "--addr", "unix:data/admin.sock"}} {
		cli(t, "", args...).want(t, exitOK, "CHECK   STATE  TEXT\nconfig  ok\nready   ok\n", "")
	}
	for args, want := range map[string]string{
		"log level p":          "pool\n",
		"log level mqtt d":     "debug\ndefault\n",
		"get routes --output ": "table\njson\nyaml\nname\n",
		"config rollback 4":    "",
	} {
		if r := cli(t, "", append([]string{"__complete"}, strings.Split(args, " ")...)...); !strings.HasPrefix(r.out, want+":") {
			t.Errorf("%s: offered %q, want %q", args, r.out, want)
		}
	}
	cli(t, "", "config", "history").want(t, exitUsage, "", "no configuration")
	if err := os.Mkdir(filepath.Join("data", "history"), 0o700); err != nil {
		t.Fatal(err)
	}
	if r := cli(t, "", "config", "history"); r.code != exitOK {
		t.Errorf("config history in the folder of a node: exit code %d: %s", r.code, r.err)
	}
}
