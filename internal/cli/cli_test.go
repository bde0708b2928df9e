package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestUsageErrorsAreOneLineAndExitCode2(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"frobnicate", `unknown command "frobnicate"`},
		{"rnu", "windrose --help"},
		{"config frobnicate", `unknown command "frobnicate" for windrose config; see windrose config --help`},
		{"config chekc x", `did you mean "check"?`},
		{"pub --frob", "unknown flag: --frob; see windrose pub --help"},
		{"pub -t a -m b extra", "takes no arguments"},
		{"pub -m b", "no topic"},
		{"pub -t a", "exactly one of -m MESSAGE, -f FILE, -l and -n"},
		{"pub -t a -m b -n", "exactly one of"},
		{"pub -t a/# -m b", "-t a/#"},
		{"pub -t a -m b -q 3", "want 0, 1 or 2"},
		{"pub -t a -m b -V 6", "want 3 (MQTT 3.1), 4 (3.1.1) or 5"},
		{"pub -t a -m b --url http://x", "unknown scheme"},
		{"pub -t a -m b --url mqtt://", "want mqtt://HOST[:PORT]"},
		{"pub -t a -m b --cert x --url mqtts://h", "--cert and --key go together"},
		{"pub -t a -m b --header x", "want KEY=VALUE"},
		{"pub -t a -m b -V 4 --expiry 5s", "need MQTT 5"},
		{"pub -t a -m b --keepalive 20h", "want 0 to 65535s"},
		{"sub", "no topic filter"},
		{"sub -t a#", "not a topic filter"},
		{"sub -t a -q 7", "want 0, 1 or 2"},
		{"sub -t a -C -1", "number of events"},
		{"sub -t a -W x", "want seconds or a duration"},
		{"sub -t a -o xml", "want text or json"},
		{"sub -t a --resume", "needs a client id"},
		{"bench mqtt --pubs 0", "at least one publisher"},
		{"bench mqtt --size 10", "want 28 to"},
		{"bench mqtt --pattern star", "want pairs or fanout"},
		{"bench mqtt --pattern fanout --pubs 9000 --subs 9000", "pairs of publisher and subscriber"},
		{"bench mqtt --window 0", "want 1 to 65535"},
		{"bench mqtt --topic $SYS", "beginning of a topic"},
		{"bench amqp", "unknown command"},
		{"run", "name a file or folder with -c, or use windrose dev"},
		{"run windrose.yaml", "name the configuration with -c"},
		{"dev --log-format xml", "want text or json"},
		{"dev --log-level loud", "want debug, info, warn or error"},
		{"health --addr ftp://x", "want unix:PATH, host:port"},
		{"version -o xml", "want table, json, yaml, name"},
		{"user add", "takes one name"},
		{"user add a --attr b", "want KEY=VALUE"},
		{"config check", "name a file or folder with -c"},
		{"config diff", "one or two files or folders"},
	} {
		r := cli(t, "", strings.Fields(tc.args)...)
		r.want(t, exitUsage, "", tc.want)
		if !strings.HasPrefix(r.err, "windrose: ") || !strings.Contains(r.err, "--help") {
			t.Errorf("%s: %q", tc.args, r.err)
		}
	}
}

func TestHelpNamesEveryVerb(t *testing.T) {
	r := cli(t, "", "--help")
	r.want(t, exitOK, "*", "")
	for _, verb := range []string{"dev", "run", "config", "health", "user", "version", "pub", "sub", "bench"} {
		if !strings.Contains(r.out, "\n  "+verb+" ") {
			t.Errorf("help lacks %s:\n%s", verb, r.out)
		}
	}
	cli(t, "", "user").want(t, exitOK, "*", "")
}

func TestVersion(t *testing.T) {
	built := &debug.BuildInfo{Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef0123"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}, {Key: "vcs.modified", Value: "true"},
	}}
	for _, tc := range []struct {
		linked string
		bi     *debug.BuildInfo
		want   string
	}{
		{"", nil, "devel"},
		{"", built, "devel-0123456789ab+dirty"},
		{"v1.2.3", built, "v1.2.3"},
		{"", &debug.BuildInfo{Main: debug.Module{Version: "v0.4.0"}}, "v0.4.0"},
	} {
		if got := readVersion(tc.linked, tc.bi).Version; got != tc.want {
			t.Errorf("version %q, want %q", got, tc.want)
		}
	}
	r := cli(t, "", "version", "-o", "json")
	r.want(t, exitOK, "*", "")
	var v versionInfo
	if err := json.Unmarshal([]byte(r.out), &v); err != nil || v.Version == "" || v.Platform == "" {
		t.Errorf("%v: %s", err, r.out)
	}
	cli(t, "", "version", "-o", "name").want(t, exitOK, v.Version+"\n", "")
	if r := cli(t, "", "version"); !strings.HasPrefix(r.out, "windrose "+v.Version) || strings.Count(r.out, "\n") != 1 {
		t.Errorf("version: %q", r.out)
	}
}

func TestTableAndYAML(t *testing.T) {
	tab := table{header: []string{"NAME", "N"}, rows: [][]string{{"ä", "1"}, {"longer", ""}}}
	if got, want := tab.String(), "NAME    N\nä       1\nlonger\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	var out lockedBuffer
	doc := struct {
		B string   `json:"b"`
		A []string `json:"a"`
		N int      `json:"n"`
	}{"true", []string{"x: y"}, 3}
	if err := printYAML(&out, doc); err != nil {
		t.Fatal(err)
	}
	if want := "b: \"true\"\na:\n  - 'x: y'\nn: 3\n"; out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

// readyServer answers /readyz like a node.
func readyServer(t *testing.T, code int, body string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || r.Header.Get("Accept") != "application/json" {
			t.Errorf("asked for %s as %s", r.URL, r.Header.Get("Accept"))
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestHealth(t *testing.T) {
	const checks = `"checks":[{"name":"config","ok":true},{"name":"pool/a","ok":false,"optional":true,"text":"1 of 2 up"}`
	ok := readyServer(t, 200, `{"status":"ok",`+checks+`]}`)
	cli(t, "", "health", "--addr", ok).want(t, exitOK, "CHECK   STATE     TEXT\nconfig  ok\npool/a  degraded  1 of 2 up\nready   ok\n", "")
	cli(t, "", "health", "--addr", "http://"+ok+"/", "-o", "name").want(t, exitOK, "config\npool/a\n", "")
	cli(t, "", "health", "--addr", ok, "-o", "yaml").want(t, exitOK,
		"status: ok\nchecks:\n  - name: config\n    ok: true\n  - name: pool/a\n    ok: false\n    optional: true\n    text: 1 of 2 up\n", "")
	bad := readyServer(t, 503, `{"status":"unhealthy",`+checks+`,{"name":"listener/mqtt","ok":false,"text":"address in use"}]}`)
	cli(t, "", "health", "--addr", bad).want(t, exitUnhealthy, "*", "is not ready: listener/mqtt: address in use")
	r := cli(t, "", "health", "--addr", bad, "-o", "json")
	r.want(t, exitUnhealthy, "*", "not ready")
	if !json.Valid([]byte(r.out)) {
		t.Errorf("not JSON: %s", r.out)
	}
	cli(t, "", "health", "--addr", readyServer(t, 200, "<html>")).want(t, exitUnhealthy, "", "not of a Windrose node")
	cli(t, "", "health", "--addr", "127.0.0.1:1").want(t, exitUnhealthy, "", "is the node running")
}

func TestUserVerbs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users.yaml")
	f := []string{"--file", file}
	with := func(args ...string) []string { return append(args, f...) }
	cli(t, "", with("user", "ls")...).want(t, exitError, "", "open users file")
	cli(t, "", with("user", "add", "pump-7")...).want(t, exitError, "", "no password on stdin")
	cli(t, "secret-1\n", with("user", "add", "pump-7", "--attr", "tenant=acme", "--attr", "site=b=1")...).want(t, exitOK, "", "user pump-7 written")
	cli(t, "secret-2", with("user", "add", "anna", "--scram", "--password-stdin")...).want(t, exitOK, "", "written")
	cli(t, "secret-3", with("user", "add", "anna")...).want(t, exitError, "", "--replace")
	cli(t, "secret-3", with("user", "add", "anna", "--replace")...).want(t, exitOK, "", "written")
	cli(t, "", with("user", "ls")...).want(t, exitOK, "NAME    SCRAM  ATTRIBUTES\npump-7  no     site=b=1 tenant=acme\nanna    no\n", "")
	cli(t, "", with("user", "ls", "-o", "name")...).want(t, exitOK, "pump-7\nanna\n", "")
	b, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(b), "secret-") {
		t.Errorf("%v: the file holds a password", err)
	}
	cli(t, "", with("user", "rm", "anna", "nobody")...).want(t, exitPartly, "", "nobody")
	cli(t, "", with("user", "rm", "nobody")...).want(t, exitError, "", "nobody")
	cli(t, "", with("user", "rm", "pump-7")...).want(t, exitOK, "", "1 user removed")
	cli(t, "", with("user", "ls", "-o", "json")...).want(t, exitOK, "[]\n", "")
}

func TestFirstSignalEndsAndTheSecondExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		exited, cancelled := 0, 0
		var errw lockedBuffer
		e := &env{err: &errw, exit: func(code int) { exited = code }}
		ch, done := make(chan os.Signal, 2), make(chan struct{})
		ended := make(chan struct{})
		go func() { e.obey(ch, done, func() { cancelled++ }); close(ended) }()
		ch <- syscall.SIGTERM
		ch <- syscall.SIGTERM // timeout(1) sends it twice
		synctest.Wait()
		if cancelled != 1 || exited != 0 {
			t.Errorf("after one signal, sent twice: cancelled %d, exit %d", cancelled, exited)
		}
		time.Sleep(signalPause)
		ch <- os.Interrupt
		<-ended
		if cancelled != 1 || exited != exitError || !strings.Contains(errw.String(), "interrupt again") {
			t.Errorf("after the second: cancelled %d, exit %d, %q", cancelled, exited, errw.String())
		}
	})
}
