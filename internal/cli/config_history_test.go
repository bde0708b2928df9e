package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windrose-edc/windrose/internal/app"
	"github.com/windrose-edc/windrose/internal/config"
)

const historyConfig = "windrose: v1\nnode: { name: %s, data: data%s }\nlisteners: { mqtt: { mqtt: { bind: \"127.0.0.1:1883\" } } }\n"

// recorded makes a configuration and a history with the revisions one and two; two is in the file.
func recorded(t *testing.T, admin string) (file, one, two string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "windrose.yaml")
	h, err := config.OpenHistory(filepath.Join(dir, "data", "history"), 0)
	if err != nil {
		t.Fatal(err)
	}
	var revs []string
	for _, name := range []string{"one", "two"} {
		put(t, file, fmt.Sprintf(historyConfig, name, admin))
		snap, err := app.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		rev, err := h.Record(snap, "reload")
		if err != nil {
			t.Fatal(err)
		}
		revs = append(revs, rev)
	}
	return file, revs[0], revs[1]
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestConfigHistoryListsAndShows(t *testing.T) {
	file, one, two := recorded(t, "")
	code, out, said := verb(t, "", "config", "history", "-c", file, "-o", "name")
	if code != exitOK || out != two+"\n"+one+"\n" {
		t.Fatalf("exit code %d\n%s%s", code, out, said)
	}
	code, out, _ = verb(t, "", "config", "history", "-c", file, "-o", "json")
	var docs []revisionDoc
	if err := json.Unmarshal([]byte(out), &docs); err != nil || code != exitOK || len(docs) != 2 || !docs[0].Current || docs[1].Current || docs[1].Files[0] != file {
		t.Fatalf("%v %+v", err, docs)
	}
	if code, out, _ = verb(t, "", "config", "history", "-c", file, one[:5]); code != exitOK || out != fmt.Sprintf(historyConfig, "one", "") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if code, _, said = verb(t, "", "config", "history", "-c", file, "ffffffffff"); code != exitError || !strings.Contains(said, "no such revision") {
		t.Errorf("exit code %d %s", code, said)
	}
	if code, _, said = verb(t, "", "config", "history"); code != exitUsage || !strings.Contains(said, "-c") {
		t.Errorf("exit code %d %s", code, said)
	}
}

func TestConfigRollbackPutsBackWhatWasBrokenSince(t *testing.T) {
	file, one, _ := recorded(t, "")
	put(t, file, "windrose: v1\nnode: { data: data }\nlistenrs: { password: hunter2 }\n")
	code, out, said := verb(t, "", "config", "rollback", "-c", file, one)
	if code != exitOK || !strings.Contains(out, one) || get(t, file) != fmt.Sprintf(historyConfig, "one", "") {
		t.Fatalf("exit code %d\n%s%s%s", code, out, said, get(t, file))
	}
	code, out, _ = verb(t, "", "config", "history", "-c", file, "-o", "json")
	var docs []revisionDoc
	if err := json.Unmarshal([]byte(out), &docs); err != nil || code != exitOK || len(docs) != 4 || docs[0].How != "rollback" || !docs[1].Invalid {
		t.Fatalf("%v\n%s", err, out)
	}
	// What was never valid may hold a secret: it is kept, but neither shown nor put back.
	if code, out, said = verb(t, "", "config", "history", "-c", file, docs[1].Rev); code != exitError || strings.Contains(out+said, "hunter2") {
		t.Errorf("exit code %d %s %s", code, out, said)
	}
	if code, _, said = verb(t, "", "config", "rollback", "-c", file, docs[1].Rev); code != exitError || !strings.Contains(said, "never valid") {
		t.Errorf("exit code %d %s", code, said)
	}
}

func TestConfigRollbackTellsTheNode(t *testing.T) {
	answer := http.StatusOK
	asked := 0
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.String() == "/api/v1/config/reload?how=rollback" {
			asked++
		}
		w.WriteHeader(answer)
		_, _ = w.Write([]byte(`{"status":409,"detail":"no: it is Sunday"}`))
	}))
	defer node.Close()
	file, one, two := recorded(t, `, admin: "`+strings.TrimPrefix(node.URL, "http://")+`"`)
	if code, out, said := verb(t, "", "config", "rollback", "-c", file, one); code != exitOK || asked != 1 || !strings.Contains(out, "runs it") {
		t.Errorf("exit code %d, asked %d times: %s%s", code, asked, out, said)
	}
	answer = http.StatusConflict
	if code, _, said := verb(t, "", "config", "rollback", "-c", file, two); code != exitPartly || !strings.Contains(said, "Sunday") {
		t.Errorf("exit code %d: %s", code, said)
	}
	node.Close()
	if code, _, said := verb(t, "", "config", "rollback", "-c", file, one); code != exitOK || !strings.Contains(said, "no node answers") {
		t.Errorf("exit code %d: %s", code, said)
	}
}

func TestConfigFmt(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yaml")
	put(t, good, "windrose: v1\n")
	put(t, bad, "windrose: v1\nnode:\n     name:  x # why\n")
	if code, out, _ := verb(t, "", "config", "fmt", "--check", dir); code != exitDifference || out != bad+"\n" || !strings.Contains(get(t, bad), "     name") {
		t.Errorf("check: exit code %d %s", code, out)
	}
	if code, out, _ := verb(t, "", "config", "fmt", dir); code != exitOK || out != bad+"\n" || get(t, bad) != "windrose: v1\nnode:\n  name: x # why\n" {
		t.Errorf("exit code %d %s\n%s", code, out, get(t, bad))
	}
	if code, out, _ := verb(t, "", "config", "fmt", "--check", dir); code != exitOK || out != "" {
		t.Errorf("check again: exit code %d %s", code, out)
	}
	if code, out, _ := verb(t, "a:   b\n", "config", "fmt", "-"); code != exitOK || out != "a: b\n" {
		t.Errorf("stdin: exit code %d %q", code, out)
	}
	put(t, bad, "windrose: v1\nnode: [\n")
	put(t, good, "windrose:   v1\n")
	if code, _, said := verb(t, "", "config", "fmt", dir); code != exitError || !strings.Contains(said, "b.yaml:2:") || get(t, good) != "windrose:   v1\n" {
		t.Errorf("a broken file: exit code %d %s", code, said)
	}
}

func TestConfigShowHidesTheEnvironment(t *testing.T) {
	t.Setenv("WHERE", "vault 7")
	file := filepath.Join(t.TempDir(), "windrose.yaml")
	put(t, file, "windrose: v1\nnode: { site: \"${env.WHERE}\" }\n")
	for flag, want := range map[string]string{"--rendered": "site: vault 7", "--redacted": `site: "${env.WHERE}"`} {
		if code, out, said := verb(t, "", "config", "show", flag, "-c", file); code != exitOK || !strings.Contains(out, want) {
			t.Errorf("%s: exit code %d\n%s%s", flag, code, out, said)
		}
	}
}
