package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// node is one running product with a configuration of its own. Owned by the test.
type node struct {
	*process
	t     testing.TB
	w     *world
	dir   string
	ports map[string]string
}

// startNode writes the configuration, in which ${NAME} is a free port (${ADMIN} that of the admin server), and starts
// the product. When the test is over it ends it and checks that it ended well.
func startNode(t *testing.T, conf string) *node {
	t.Helper()
	dir := t.TempDir()
	return startNodeIn(t, dir, filepath.Join(build(t), "windrose"), conf)
}

func startNodeIn(t *testing.T, dir, program, conf string) *node {
	t.Helper()
	n := &node{t: t, w: newWorld(t, dir, filepath.Dir(program)), dir: dir, ports: map[string]string{}}
	t.Cleanup(n.w.end)
	text := os.Expand(conf, func(name string) string {
		if n.ports[name] == "" {
			p, err := freePort()
			if err != nil {
				t.Fatal(err)
			}
			n.ports[name] = p
		}
		return n.ports[name]
	})
	if err := os.WriteFile(filepath.Join(dir, "windrose.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := n.w.start("node", append(os.Environ(), "GORACE=halt_on_error=0 exitcode=66 atexit_sleep_ms=50"), dir, program, "run", "-c", "windrose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p.ours, n.process = true, p
	t.Cleanup(n.finish)
	err = until(patience, func() error {
		if p.ended() {
			return nil // said below
		}
		status, body, err := get("http://127.0.0.1:" + n.ports["ADMIN"] + "/readyz")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("readyz says %d: %s", status, body)
		}
		return err
	})
	if p.ended() {
		t.Fatalf("the node ended: %v\n%s", p.cmd.ProcessState, n.logText())
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) logText() []byte {
	text, _ := os.ReadFile(n.log)
	return tail(text, 6000)
}

// finish ends the node as an operator would and checks that it ended well and saw no race.
func (n *node) finish() {
	if !n.stopped {
		begin := time.Now()
		if err := n.stop(syscall.SIGTERM, patience); err != nil {
			n.t.Error(err)
		}
		if took := time.Since(begin); took > time.Second {
			n.t.Logf("the node took %v to stop", took.Round(time.Millisecond))
		}
		if code := n.cmd.ProcessState.ExitCode(); code != 0 {
			n.t.Errorf("the node ended with %d", code)
		}
	}
	text, err := os.ReadFile(n.log)
	if err != nil {
		n.t.Error(err)
	}
	for _, found := range trouble.FindAll(text, -1) {
		n.t.Errorf("%s", found)
	}
	if n.t.Failed() {
		n.t.Logf("[node.log]\n%s", n.logText())
	}
}

func (n *node) mqtt() string { return n.ports["MQTT"] }

// metric sums the series of a name whose labels hold all of the texts; 0 where there are none.
func (n *node) metric(name string, labels ...string) int {
	n.t.Helper()
	_, page, err := get("http://127.0.0.1:" + n.ports["ADMIN"] + "/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	v, _ := metric(page, name, labels)
	return int(v)
}

// await waits until a metric is what the test says; counters reach the page a moment after what they count.
func (n *node) await(want int, name string, labels ...string) {
	n.t.Helper()
	if err := until(patience, func() error {
		if got := n.metric(name, labels...); got != want {
			return fmt.Errorf("%s%v is %d, want %d", name, labels, got, want)
		}
		return nil
	}); err != nil {
		n.t.Error(err)
	}
}

// deadLetter is one entry of /api/v1/deadletters. Immutable.
type deadLetter struct {
	Pool     string `json:"pool"`
	Topic    string `json:"topic"`
	Reason   string `json:"reason"`
	Text     string `json:"text"`
	Attempts int    `json:"attempts"`
}

func (n *node) deadLetters(query string) []deadLetter {
	n.t.Helper()
	status, body, err := get("http://127.0.0.1:" + n.ports["ADMIN"] + "/api/v1/deadletters" + query)
	if err != nil || status != http.StatusOK {
		n.t.Fatalf("deadletters: status %d, %v", status, err)
	}
	var out struct {
		Items []deadLetter `json:"items"`
	}
	if err := json.Unmarshal(body, &out); err != nil {
		n.t.Fatal(err)
	}
	return out.Items
}

// rss is a line of /proc/PID/status in KiB: VmRSS is the memory now, VmHWM the most there was.
func (n *node) rss(line string) int {
	n.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(l, line+":"); ok {
			kb, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			if err != nil {
				n.t.Fatal(err)
			}
			return kb
		}
	}
	n.t.Fatalf("no %s in /proc/%d/status", line, n.cmd.Process.Pid)
	return 0
}

// post is one request that a hook got. Immutable.
type post struct {
	id     string // ce-id
	body   string
	status int
	at     time.Time // just before the answer was written
}

// hook is a webhook that remembers what it was posted and when it answered. Guarded by mu.
type hook struct {
	*httptest.Server
	mu  sync.Mutex
	got []post
}

// newHook answers request number i (from 0) with the status that answer returns.
func newHook(t *testing.T, answer func(i int) int) *hook {
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, 64)
		k, _ := r.Body.Read(body)
		h.mu.Lock()
		status := answer(len(h.got))
		h.got = append(h.got, post{r.Header.Get("Ce-Id"), string(body[:k]), status, time.Now()})
		h.mu.Unlock()
		w.WriteHeader(status)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) posts() []post {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]post(nil), h.got...)
}

// byID counts the posts of each event and checks that all have an id.
func (h *hook) byID(t *testing.T) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, p := range h.posts() {
		if p.id == "" {
			t.Error("a post without ce-id")
		}
		out[p.id]++
	}
	return out
}
