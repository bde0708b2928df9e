package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/windrose-edc/windrose/internal/observe"
)

// everything is a configuration with an entry of every kind, so that every module registers its metrics.
const everything = `windrose: v1
node: { name: n, admin: "127.0.0.1:0", data: data }
listeners: { mqtt: { mqtt: { bind: "127.0.0.1:0", anonymous: true, websocket: {} } }, coap: { coap: { bind: "127.0.0.1:0", anonymous: true } },
  coaps: { coap: { bind: "127.0.0.1:0", transport: dtls, psk: { secret: keys } } } }
secrets: { keys: { env: WINDROSE_TEST_KEYS } }
auth: [ { users: { file: users.yaml } }, { http: { url: "http://127.0.0.1:9/" } } ]
acl: [ { allow: [publish, subscribe], topic: "#" }, { deny: publish, topic: "#", when: "false" } ]
limits: { per_client: { events: 10/s } }
rewrites: [ { topic: "a/{b}", to: "b/{b}" } ]
pools:
  hooks: { webhook: { urls: ["http://127.0.0.1:1/"] } }
  north: { mqtt: { urls: ["mqtt://127.0.0.1:1"] } }
routes: [ { name: all, topic: "#", to: hooks }, { name: north, topic: "#", to: north } ]
sources: { back: { mqtt: { pool: north, subscribe: ["x"] } } }
`

// families are all metrics of the binary.
func families(t *testing.T) []observe.Family {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("WINDROSE_TEST_KEYS", "pump-7:30313233343536373839616263646566")
	for name, text := range map[string]string{"windrose.yaml": everything, "users.yaml": "users: []\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lines := observe.NewAsyncWriter(t.Output(), 1<<20)
	defer func() { _ = lines.Close() }()
	a, err := New(Options{ConfigFiles: []string{filepath.Join(dir, "windrose.yaml")}, Version: "test", Log: lines})
	if err != nil {
		t.Fatal(err)
	}
	return a.metrics.Families()
}

// TestMetricsAreCurrent: the list of metrics, the dashboard and the alerts are generated from the registry.
func TestMetricsAreCurrent(t *testing.T) {
	fs := families(t)
	for name, want := range map[string][]byte{
		"../../docs/reference/metrics.md":     metricsReference(fs),
		"../../deploy/grafana/windrose.json":  dashboard(t, fs),
		"../../deploy/prometheus/alerts.yaml": alertRules(t),
	} {
		if *update {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s is not current: run make generate", name)
		}
	}
}

func metricsReference(fs []observe.Family) []byte {
	var b bytes.Buffer
	b.WriteString("# Metrics\n\nGenerated from the registry. `/metrics` of `node.admin` shows them in the Prometheus text format. No metric has a label for a\n" +
		"client, a topic or an address: their number has no bound. What single clients do is what `windrose get sessions` is for.\n" +
		"A dashboard is in `deploy/grafana/windrose.json`, alerts are in `deploy/prometheus/alerts.yaml`.\n")
	noun := ""
	for _, f := range fs {
		part, _, _ := strings.Cut(strings.TrimPrefix(f.Name, observe.Prefix), "_")
		if part != noun {
			noun = part
			fmt.Fprintf(&b, "\n## %s\n\n| name | type | unit | labels | what it is |\n|---|---|---|---|---|\n", noun)
		}
		labels := ""
		if len(f.Labels) > 0 {
			labels = "`" + strings.Join(f.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.Name, f.Kind, f.Unit, labels, f.Help)
	}
	return b.Bytes()
}

var metricName = regexp.MustCompile(`windrose_[a-z0-9_]+`)

// lint says what is wrong with an expression of PromQL: metrics and labels that do not exist, rates of gauges.
func lint(fs []observe.Family, expr string) (out []string) {
	for _, at := range metricName.FindAllStringIndex(expr, -1) {
		name := expr[at[0]:at[1]]
		base := name
		i := slices.IndexFunc(fs, func(f observe.Family) bool { return f.Name == base })
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if i < 0 && strings.HasSuffix(name, suffix) {
				base = strings.TrimSuffix(name, suffix)
				i = slices.IndexFunc(fs, func(f observe.Family) bool { return f.Name == base && f.Kind == observe.KindHistogram })
			}
		}
		if i < 0 {
			out = append(out, name+" is not a metric")
			continue
		}
		f := fs[i]
		if before := expr[:at[0]]; (strings.HasSuffix(before, "rate(") || strings.HasSuffix(before, "increase(")) == (f.Kind == observe.KindGauge) {
			out = append(out, name+" is a "+string(f.Kind)+": counters have rates, gauges have none")
		}
		known := append([]string{"job", "instance", "le"}, f.Labels...)
		if rest, ok := strings.CutPrefix(expr[at[1]:], "{"); ok {
			inner, _, _ := strings.Cut(rest, "}")
			for _, m := range regexp.MustCompile(`([a-z_]+)\s*(=~|!~|!=|=)`).FindAllStringSubmatch(inner, -1) {
				if !slices.Contains(known, m[1]) {
					out = append(out, name+" has no label "+m[1])
				}
			}
		}
		for _, m := range regexp.MustCompile(`by \(([a-z_, ]+)\)`).FindAllStringSubmatch(expr, -1) {
			for key := range strings.SplitSeq(m[1], ",") {
				if key = strings.TrimSpace(key); !slices.Contains(known, key) && !slices.Contains(observe.LabelKeys(), key) {
					out = append(out, "by ("+key+") is no label")
				}
			}
		}
	}
	return out
}

// TestDashboardsAndAlertsAreLinted looks at the files as they are, so that an edit by hand is seen too.
func TestDashboardsAndAlertsAreLinted(t *testing.T) {
	fs := families(t)
	exprs := map[string]string{}
	var board struct {
		Panels []struct {
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	b, err := os.ReadFile("../../deploy/grafana/windrose.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		for i, q := range p.Targets {
			exprs[fmt.Sprintf("panel %q, query %d", p.Title, i+1)] = q.Expr
		}
		if p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W == 0 || p.GridPos.H == 0 {
			t.Errorf("panel %q has no place: %+v", p.Title, p.GridPos)
		}
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	b, err = os.ReadFile("../../deploy/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, &rules); err != nil {
		t.Fatal(err)
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			exprs["alert "+r.Alert] = r.Expr
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Labels["severity"] == "" || r.For == "" && r.Alert != "WindroseRestarted" {
				t.Errorf("alert %s: severity, for, summary or description is missing", r.Alert)
			}
		}
	}
	if len(exprs) < 30 {
		t.Errorf("only %d expressions were seen", len(exprs))
	}
	for where, expr := range exprs {
		for _, bad := range lint(fs, expr) {
			t.Errorf("%s: %s: %s", where, bad, expr)
		}
	}
	for _, bad := range []string{"rate(windrose_no_such_events_total[5m])", "rate(windrose_pool_queued_events[5m])", `windrose_pool_queued_events{client="x"}`, "windrose_session_received_events_total > 1"} {
		if len(lint(fs, bad)) == 0 {
			t.Errorf("nothing is found wrong with %s", bad)
		}
	}
}

// TestPromtoolReadsTheAlerts asks Prometheus' own tool.
func TestPromtoolReadsTheAlerts(t *testing.T) {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("WINDROSE_REQUIRE_PEERS") != "" {
			t.Fatal("promtool is missing (Debian: prometheus)")
		}
		t.Skip("promtool is missing (Debian: prometheus): the alerts were linted by our own rules only")
	}
	if out, err := exec.Command(tool, "check", "rules", "../../deploy/prometheus/alerts.yaml").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
