package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// runningNode is windrose run in this process. Owned by the test.
type runningNode struct {
	mqtt, admin string
	out, err    *lockedBuffer
	end         func() int
}

// startNode runs a node on free ports of loopback.
func startNode(t *testing.T, more string, args ...string) *runningNode {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "windrose.yaml")
	conf := fmt.Sprintf(`windrose: v1
node: { name: n1, admin: "127.0.0.1:0", data: %q }
listeners: { mqtt: { mqtt: { bind: "127.0.0.1:0", anonymous: true } } }
acl: [ { allow: [publish, subscribe], topic: "#" } ]
%s`, filepath.Join(dir, "data"), more)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	n := &runningNode{out: &lockedBuffer{}, err: &lockedBuffer{}}
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	e := &env{in: strings.NewReader(""), out: n.out, err: n.err, exit: func(int) {}, dial: dialMQTT}
	go func() { code <- e.run(ctx, append([]string{"run", "-c", file}, args...)) }()
	ended := -1
	n.end = func() int {
		cancel()
		if ended < 0 {
			select {
			case ended = <-code:
			case <-time.After(20 * time.Second):
				t.Error("the node does not end")
			}
		}
		return ended
	}
	t.Cleanup(func() { n.end(); http.DefaultClient.CloseIdleConnections() })
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		m := regexp.MustCompile(`mqtt +(127\.0\.0\.1:[0-9]+)`).FindStringSubmatch(n.out.String())
		a := regexp.MustCompile(`http://(127\.0\.0\.1:[0-9]+)`).FindStringSubmatch(n.out.String())
		if m != nil && a != nil {
			n.mqtt, n.admin = m[1], a[1]
			return n
		}
		select {
		case c := <-code:
			t.Fatalf("the node ended with %d: %s", c, n.err)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("the node is not ready: %s %s", n.out, n.err)
		}
	}
}

// client runs a client verb by real MQTT against the node.
func (n *runningNode) client(ctx context.Context, stdin string, args ...string) result {
	var out, errw lockedBuffer
	e := &env{in: strings.NewReader(stdin), out: &out, err: &errw, exit: func(int) {}, dial: dialMQTT}
	code := e.run(ctx, append(args, "--url", "mqtt://"+n.mqtt))
	return result{code, out.String(), errw.String()}
}

// TestWalk: what a user can do, with the product's own verbs and nothing else.
func TestWalk(t *testing.T) {
	n := startNode(t, "", "--log-format", "json", "--pprof", "127.0.0.1:0")
	cli(t, "", "health", "--addr", n.admin, "-o", "name").want(t, exitOK, "*", "")

	for _, v := range []string{"3", "4", "5"} {
		got := make(chan result, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		go func() {
			got <- n.client(ctx, "", "sub", "-v", "-t", "site/+/state", "-q", "2", "-C", "4", "-W", "15", "-V", v, "-i", "watcher")
		}()
		n.subscribed(t, 1)
		n.client(ctx, "", "pub", "-t", "site/a/state", "-m", "hello", "-q", "1", "-V", v).want(t, exitOK, "", "")
		n.client(ctx, "", "pub", "-t", "site/a/other", "-m", "not this", "-V", v).want(t, exitOK, "", "")
		n.client(ctx, "one\ntwo\n", "pub", "-t", "site/b/state", "-l", "-q", "2", "-V", v).want(t, exitOK, "", "")
		n.client(ctx, "", "pub", "-t", "site/c/state", "-n", "-V", v).want(t, exitOK, "", "")
		r := <-got
		cancel()
		// Publishers are three clients: only what one of them sends has an order.
		lines := strings.Split(strings.TrimSuffix(r.out, "\n"), "\n")
		if r.code != exitOK || len(lines) != 4 || !strings.Contains(r.out, "site/b/state one\nsite/b/state two\n") ||
			!strings.Contains(r.out, "site/a/state hello\n") || !strings.Contains(r.out, "site/c/state \n") {
			t.Errorf("MQTT %s: exit code %d, got %q, %s", v, r.code, r.out, r.err)
		}
		n.subscribed(t, 0)
	}

	r := n.client(t.Context(), "", "bench", "mqtt", "--pubs", "4", "--subs", "4", "-q", "1", "--duration", "300ms", "--quiet", "-o", "json")
	r.want(t, exitOK, "*", "")
	var d benchDoc
	if err := json.Unmarshal([]byte(r.out), &d); err != nil || d.Delivered == 0 || d.Lost+d.Duplicated+d.Reordered+d.Foreign != 0 {
		t.Errorf("bench: %v %+v", err, d)
	}

	if code := n.end(); code != exitOK {
		t.Errorf("the node ended with %d", code)
	}
	for line := range strings.Lines(n.err.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("a log line is not JSON: %s", line)
		}
	}
	cli(t, "", "health", "--addr", n.admin).want(t, exitUnhealthy, "", "is the node running")
}

// subscribed waits until the node has that many subscriptions.
func (n *runningNode) subscribed(t *testing.T, want int) {
	t.Helper()
	var doc struct {
		Totals struct {
			Subscriptions int `json:"subscriptions"`
		} `json:"totals"`
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.admin+"/api/v1/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		err = json.NewDecoder(res.Body).Decode(&doc)
		_ = res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if doc.Totals.Subscriptions == want {
			return
		}
	}
	t.Fatalf("%d subscriptions, want %d", doc.Totals.Subscriptions, want)
}

func TestConfigVerbs(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := write("good.yaml", "windrose: v1\nlisteners: { mqtt: { mqtt: { bind: \"127.0.0.1:18830\", anonymous: true } } }\n")
	other := write("other.yaml", "windrose: v1\nlisteners: { mqtt: { mqtt: { bind: \"127.0.0.1:18831\", anonymous: true } } }\n")
	bad := write("bad.yaml", "windrose: v1\nlisteners: { mqtt: { mqtt: { bindd: \"127.0.0.1:18830\" } } }\nfoo: 1\n")

	cli(t, "", "config", "check", "-c", good).want(t, exitOK, "ok: "+good+"\n", "")
	cli(t, "", "config", "check", good).want(t, exitOK, "ok: "+good+"\n", "")
	r := cli(t, "", "config", "check", "-c", bad)
	r.want(t, exitError, "", "errors in the configuration; nothing was changed")
	if !strings.Contains(r.err, bad+":2:") || !strings.Contains(r.err, bad+":3:") {
		t.Errorf("no place in: %s", r.err)
	}
	r = cli(t, "", "config", "check", "-c", bad, "-o", "json")
	var doc checkDoc
	if err := json.Unmarshal([]byte(r.out), &doc); err != nil || r.code != exitError || r.err != "" || doc.OK || len(doc.Errors) < 2 || doc.Errors[0].Line != 2 {
		t.Errorf("%v, exit code %d: %s %s", err, r.code, r.out, r.err)
	}
	cli(t, "", "config", "check", "-c", good, "-o", "json").want(t, exitOK, "{\n  \"ok\": true,\n  \"files\": [\n    \""+good+"\"\n  ],\n  \"errors\": []\n}\n", "")
	cli(t, "", "config", "check", "-c", filepath.Join(dir, "none.yaml")).want(t, exitError, "", "1 error in the configuration")

	cli(t, "", "config", "diff", good, good).want(t, exitOK, "", "")
	if r = cli(t, "", "config", "diff", good, other); r.code != exitDifference || !strings.Contains(r.out, "18831") {
		t.Errorf("diff: %d %q %q", r.code, r.out, r.err)
	}
	if r = cli(t, "", "config", "show", "-c", good); r.code != exitOK || !strings.Contains(r.out, "127.0.0.1:18830") {
		t.Errorf("show: %d %q %q", r.code, r.out, r.err)
	}
	if r = cli(t, "", "config", "schema"); r.code != exitOK || !json.Valid([]byte(r.out)) {
		t.Errorf("schema: %d %.200q %q", r.code, r.out, r.err)
	}
	cli(t, "", "run", "-c", bad).want(t, exitError, "", "errors in the configuration")
	cli(t, "", "run", "-c", good, "--pprof", "0.0.0.0:0").want(t, exitUsage, "", "want a loopback address")
}
