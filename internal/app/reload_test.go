package app

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// running is a node in this process. Owned by the test.
type running struct {
	*App
	t    *testing.T
	file string
}

func runApp(t *testing.T, conf string) *running {
	t.Helper()
	dir := t.TempDir()
	r := &running{t: t, file: filepath.Join(dir, "windrose.yaml")}
	r.write(conf)
	a, err := New(Options{ConfigFiles: []string{r.file}})
	if err != nil {
		t.Fatal(err)
	}
	r.App = a
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if last, _ := a.LastReload(); last != nil {
			return r
		}
		if time.Now().After(end) {
			t.Fatal("the node does not come up")
		}
	}
}

func (r *running) write(conf string) {
	r.t.Helper()
	text := "windrose: v1\nnode: { name: n, data: data, loops: 1 }\n" + conf
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) reload(conf string) {
	r.t.Helper()
	r.write(conf)
	if x := r.Reload("test"); !x.OK {
		r.t.Fatal(x.Err)
	}
}

func (r *running) live() *graph { return r.node.live.Load() }

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never happens: " + what)
		}
	}
}

// The same key is the same instance; what changed is another one.
func TestReloadReuses(t *testing.T) {
	conf := `
listeners: { a: { mqtt: { bind: "127.0.0.1:0" } }, b: { mqtt: { bind: "127.0.0.1:0" } } }
pools: { p: { webhook: { urls: ["http://127.0.0.1:1/"] } }, q: { webhook: { urls: ["http://127.0.0.1:2/"] } } }
routes: [ { name: all, topic: x, to: p } ]
`
	r := runApp(t, conf)
	one := r.live()
	r.reload(conf)
	two := r.live()
	if two == one || two.listener("a") != one.listener("a") || two.destPool("p") != one.destPool("p") {
		t.Error("instances of the same key are not the same")
	}
	r.reload(strings.NewReplacer("a: { mqtt: {", "a: { mqtt: { max_connections: 5,", ":2/", ":3/").Replace(conf))
	three := r.live()
	if three.listener("a") == one.listener("a") || three.destPool("q") == one.destPool("q") {
		t.Error("instances are the same although they changed")
	}
	if three.listener("b") != one.listener("b") || three.destPool("p") != one.destPool("p") {
		t.Error("what did not change is another instance")
	}
	if a, b := one.listener("a").Addr().String(), three.listener("a").Addr().String(); a != b {
		t.Errorf("listener a moved from %s to %s: its port 0 is a new one", a, b)
	}
}

// What is wrong changes nothing, whatever step finds it.
func TestBrokenReloadChangesNothing(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	conf := "listeners: { a: { mqtt: { bind: \"127.0.0.1:0\", anonymous: true } } }\n"
	r := runApp(t, conf)
	one := r.live()
	for name, bad := range map[string]string{
		"syntax":      conf + "pools: [",
		"reference":   conf + "routes: [ { name: x, to: nobody } ]\n",
		"certificate": conf + "tls: { t: { cert: none.pem, key: none.key } }\n",
		"users":       conf + "auth: [ { users: { file: none.yaml } } ]\n",
		"pool":        conf + "pools: { p: { webhook: { urls: [\"https://h/\"], tls: { ca: none.pem } } } }\n",
		"address":     strings.Replace(conf, "{ a:", fmt.Sprintf("{ b: { mqtt: { bind: %q } }, c: { mqtt: { bind: \"127.0.0.1:0\" } }, a:", taken.Addr()), 1),
	} {
		t.Run(name, func(t *testing.T) {
			r.write(bad)
			x := r.Reload("test")
			if x.OK || x.Err == nil || x.Error == "" {
				t.Fatalf("it was taken: %+v", x)
			}
			if r.live() != one {
				t.Fatal("the graph is another one")
			}
			last, applied := r.LastReload()
			if last != x || applied == x {
				t.Error("the last error is not kept")
			}
			c := (*status)(r.App).configCheck()
			if c.OK || !c.Optional || !strings.Contains(c.Text, x.Error) {
				t.Errorf("health says %+v", c)
			}
			if n := len(r.node.group.Stats().Open); n != 1 {
				t.Errorf("%d loops", n)
			}
		})
	}
	r.reload(conf)
	if c := (*status)(r.App).configCheck(); !c.OK {
		t.Errorf("after a good reload health says %+v", c)
	}
}

// Events that wait for an address that was wrong go to the right one once the configuration is corrected; a pool that is taken
// out delivers or leaves dead letters that can still be seen.
func TestReloadOfPools(t *testing.T) {
	var got atomic.Int64
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		got.Add(1)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer hook.Close()
	const wrong = "http://127.0.0.1:1/"
	conf := "pools: { p: { drain: 1s, webhook: { urls: [%q] } } }\nroutes: [ { name: all, topic: '#', to: p } ]\n"
	r := runApp(t, fmt.Sprintf(conf, wrong))
	send := func() {
		r.node.hosts[0].Inject((&event.Event{Topic: []byte("t"), QoS: event.AtLeastOnce}).Keep(), event.Ticket{})
	}
	for range 10 {
		send()
	}
	until(t, "ten events wait", func() bool { return r.live().pool("p").Stats().Queued == 10 })
	plan, err := r.PlanReload(t.Context())
	if err != nil || len(plan.Steps) != 0 {
		t.Errorf("plan of nothing: %+v, %v", plan, err)
	}
	r.write(fmt.Sprintf(conf, hook.URL))
	plan, err = r.PlanReload(t.Context())
	if err != nil || len(plan.Steps) != 1 || plan.Steps[0].Queued == nil || *plan.Steps[0].Queued != 10 {
		t.Errorf("plan: %+v, %v", plan, err)
	}
	r.reload(fmt.Sprintf(conf, hook.URL))
	until(t, "ten events reach the right address", func() bool { return got.Load() == 10 })
	r.reload(fmt.Sprintf(conf, wrong))
	send()
	until(t, "one waits", func() bool { return r.live().pool("p").Stats().Queued == 1 })
	r.reload("")
	until(t, "its dead letter is with those of the sessions", func() bool { return r.node.dead.len() == 1 })
	if d := r.node.dead.newest(0, 1)[0]; !strings.Contains(d.reason, "pool p was removed") {
		t.Errorf("reason %q", d.reason)
	}
}
