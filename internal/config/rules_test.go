package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func load(t *testing.T, text string) *Snapshot {
	t.Helper()
	s, err := fleetSchema().LoadBytes("test.yaml", []byte("windrose: v1\n"+text), fleetEnv)
	if err != nil {
		t.Fatalf("load:\n%v", err)
	}
	return s
}

func TestUnits(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "30s": 30 * time.Second, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute, "30d": 720 * time.Hour, "2w": 336 * time.Hour,
		"250ms": 250 * time.Millisecond, "5us": 5 * time.Microsecond, "5µs": 5 * time.Microsecond, "7ns": 7, "-5s": -5 * time.Second, "1d12h": 36 * time.Hour,
	} {
		got, err := parseDuration(text)
		if err != nil || got != want {
			t.Errorf("duration %q: got %v, %v", text, got, err)
		}
		if back, err := parseDuration(formatDuration(got)); err != nil || back != got {
			t.Errorf("duration %q is written as %q, read as %v, %v", text, formatDuration(got), back, err)
		}
	}
	for text, want := range map[string]int64{
		"0": 0, "4096": 4096, "64KiB": 65536, "1MB": 1e6, "1kB": 1000, "1.5GiB": 3 << 29, "20GiB": 20 << 30, "5B": 5, "1 MiB": 1 << 20, "123457": 123457,
	} {
		got, err := parseSize(text)
		if err != nil || got != want {
			t.Errorf("size %q: got %v, %v", text, got, err)
		}
		if back, err := parseSize(formatSize(got)); err != nil || back != got {
			t.Errorf("size %q is written as %q, read as %v, %v", text, formatSize(got), back, err)
		}
	}
	for text, want := range map[string]float64{"0": 0, "50/s": 50, "10/m": 10. / 60, "2.5/h": 2.5 / 3600, "0.5/s": .5, "100/day": 100. / 86400} {
		got, err := parseRate(text, false)
		if err != nil || got != want {
			t.Errorf("rate %q: got %v, %v", text, got, err)
		}
		if back, err := parseRate(formatRate(got, false), false); err != nil || back != got {
			t.Errorf("rate %q is written as %q, read as %v, %v", text, formatRate(got, false), back, err)
		}
	}
	if got, err := parseRate("256KiB/s", true); err != nil || got != 256<<10 || formatRate(got, true) != "256KiB/s" {
		t.Errorf("byte rate: got %v, %v, written as %q", got, err, formatRate(got, true))
	}
}

func TestUnitsAreReadAsTheyAreWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, 99*365*24*int64(time.Hour)).Draw(t, "duration"))
		if got, err := parseDuration(formatDuration(d)); err != nil || got != d {
			t.Errorf("%d is written as %q and read as %d, %v", d, formatDuration(d), got, err)
		}
		n := rapid.Int64Min(0).Draw(t, "size")
		if got, err := parseSize(formatSize(n)); err != nil || got != n {
			t.Errorf("%d is written as %q and read as %d, %v", n, formatSize(n), got, err)
		}
		r := float64(rapid.IntRange(0, 1<<40).Draw(t, "rate")) / rapid.SampledFrom([]float64{1, 10, 60, 3600, 86400, 7}).Draw(t, "per")
		if got, err := parseRate(formatRate(r, false), false); err != nil || got != r {
			t.Errorf("%v is written as %q and read as %v, %v", r, formatRate(r, false), got, err)
		}
	})
}

// YAML 1.2, section 10.3.2.
func TestCoreSchema(t *testing.T) {
	for text, want := range map[string]nodeKind{
		"": kindNull, "~": kindNull, "Null": kindNull, "true": kindBool, "FALSE": kindBool, "yes": kindText, "No": kindText, "on": kindText, "off": kindText, "y": kindText,
		"0": kindInt, "-12": kindInt, "+3": kindInt, "0o17": kindInt, "0x1F": kindInt, "017": kindInt, "0b11": kindText, "1_000": kindText, "1:30": kindText,
		"1.5": kindFloat, ".5": kindFloat, "1e3": kindFloat, "-.inf": kindFloat, ".NaN": kindFloat, "2026-01-02": kindText, "1.2.3": kindText, "=": kindText, "<<": kindText, "-": kindText,
	} {
		if got := coreKind(text); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
	s := load(t, "devices:\n  d: { when: yes, attrs: { a: on, b: 2026-01-02, c: 1_000, d: 0b11, e: 12:30:45 } }\n")
	d := spec[deviceSpec](t, s, "devices", "d")
	if want := map[string]string{"a": "on", "b": "2026-01-02", "c": "1_000", "d": "0b11", "e": "12:30:45"}; d.When != "yes" || !reflect.DeepEqual(d.Attrs, want) {
		t.Errorf("got %+v", d)
	}
	s = load(t, "listeners:\n  a: { mqtt: { bind: ':1', backlog: 0x1F, load: 1e-1 } }\n  b: { mqtt: { bind: ':1', backlog: 0o17 } }\n")
	if a := spec[mqttListener](t, s, "listeners", "a"); a.Backlog != 31 || a.Load != 0.1 {
		t.Errorf("got %+v", a)
	}
	if b := spec[mqttListener](t, s, "listeners", "b"); b.Backlog != 15 {
		t.Errorf("got %+v", b)
	}
}

func TestEnvironmentReplacesWholeValues(t *testing.T) {
	s := load(t, "node: { name: \"${env.HOSTNAME}\" }\nsurge:\n  a:\n    queue: ${env.TEN}\nlisteners:\n  a: { mqtt: { bind: ':1', backlog: \"${env.TEN}\", max_packet: 1KiB } }\n")
	if n, ok := s.Single("node").(*nodeSpec); !ok || n.Name != "edc-1" {
		t.Errorf("node: %+v", s.Single("node"))
	}
	if a := spec[mqttListener](t, s, "listeners", "a"); a.Backlog != 10 {
		t.Errorf("backlog: %d", a.Backlog)
	}
	if a := spec[surgeSpec](t, s, "surge", "a"); a.Queue != 10 {
		t.Errorf("queue: %d", a.Queue)
	}
	// A value from the environment is a value: it is not read as YAML and not replaced again.
	s, err := fleetSchema().LoadBytes("x", []byte("windrose: v1\nnode: { name: \"${env.X}\" }\n"), func(string) (string, bool) { return "{a: ${env.Y}}", true })
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := s.Single("node").(*nodeSpec); !ok || n.Name != "{a: ${env.Y}}" {
		t.Errorf("node: %+v", s.Single("node"))
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	const value = "value of /run/secrets/kafka"
	s := mustLoad(t, "testdata/fleet.yaml")
	sec := spec[amqpPool](t, s, "pools", "alarms").URL
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "secret", sec)
	j, err := json.Marshal(map[string]any{"s": sec, "p": &sec})
	if err != nil {
		t.Fatal(err)
	}
	out := logged.String() + string(j) + string(s.Rendered()) + s.Hash()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		out += fmt.Sprintf(verb, sec) + fmt.Sprintf(verb, &sec) + fmt.Sprintf(verb, struct{ S Secret }{sec})
	}
	if strings.Contains(out, "user:pass") || strings.Contains(out, value) || strings.Contains(out, fmt.Sprintf("%x", "user:pass")) {
		t.Errorf("a secret is printed:\n%s", out)
	}
	if !strings.Contains(string(s.Rendered()), "password: <secret kafka-pass>") || !strings.Contains(out, "secret=\"<secret amqp-url>\"") {
		t.Errorf("the name is missing:\n%s", out)
	}
	if sec.Name() != "amqp-url" || sec.IsZero() || !(Secret{}).IsZero() || (Secret{}).String() != "<no secret>" {
		t.Error("name or zero value")
	}
}

func TestSecretFilesAreReadAtLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("pass", "geheim \n")
	write("windrose.yaml", "windrose: v1\nsecrets: { p: { file: pass } }\npools:\n  k: { kafka: { brokers: ['k:1'], topic: t, password: { secret: p } } }\n")
	schema := fleetSchema()
	schema.ReadFile = nil
	s, err := schema.Load(filepath.Join(dir, "windrose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if k := spec[kafkaPool](t, s, "pools", "k"); k.Password != "geheim " {
		t.Errorf("got %q", k.Password)
	}
	write("pass", strings.Repeat("x", maxSecret+1))
	if _, err := schema.Load(dir); err == nil || !strings.Contains(err.Error(), "larger than its limit") {
		t.Errorf("too large: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "pass")); err != nil {
		t.Fatal(err)
	}
	if _, err := schema.Load(dir); err == nil || !strings.Contains(err.Error(), "cannot be read: no such file") {
		t.Errorf("missing: %v", err)
	}
}

func TestFilesOfAFolderAreMerged(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{
		"10-base.yaml":     "windrose: v1\nnode: { site: a }\ntls: { a: { cert: tls/a.crt, key: /k } }\nacl: [{ allow: publish, topic: one }]\n",
		"20-more.yaml":     "windrose: v1\ntls: { b: { cert: c, key: k } }\nlisteners: { m: { mqtt: { bind: ':1', tls: a } } }\nacl: [{ allow: publish, topic: two }]\n",
		"fleet.test.yaml":  "tests: []\n",
		"notes.txt":        "hello",
		"sub/ignored.yaml": "nothing",
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := fleetSchema().Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if a := spec[tlsSpec](t, s, "tls", "a"); a.Cert != filepath.Join(dir, "tls/a.crt") || a.Key != "/k" {
		t.Errorf("paths: %+v", a)
	}
	if acl := s.Entries("acl"); len(acl) != 2 || acl[1].Name != "2" || acl[1].Pos != (Pos{filepath.Join(dir, "20-more.yaml"), 4, 7}) {
		t.Errorf("acl: %+v", acl)
	}
	clash := "windrose: v1\nnode: { site: b }\ntls: { a: { cert: c, key: k } }\n"
	if err := os.WriteFile(filepath.Join(dir, "30-clash.yaml"), []byte(clash), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = fleetSchema().Load(dir)
	want := fmt.Sprintf("%[1]s/30-clash.yaml:2:1: node: the section is already written at %[1]s/10-base.yaml:2:7 (fix: keep it in one file)\n"+
		"%[1]s/30-clash.yaml:3:8: tls.a: the name is already taken at %[1]s/10-base.yaml:3:8 (fix: rename one of the two)", dir)
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(big, []byte("windrose: v1\n"+strings.Repeat("#\n", maxFile/2)), 0o644); err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	_, err := fleetSchema().Load(big, filepath.Join(dir, "none.yaml"), empty)
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != 3 {
		t.Fatalf("got %v", err)
	}
	for i, want := range []string{"larger than 4 MiB", "no such file", "no *.yaml file"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %q is missing in\n%v", i, want, err)
		}
	}
	if _, err := fleetSchema().LoadBytes("b", make([]byte, maxFile+1), nil); err == nil || !strings.Contains(err.Error(), "4 MiB") {
		t.Errorf("bytes: %v", err)
	}
}

func TestNothingWrittenGivesDefaults(t *testing.T) {
	s, err := fleetSchema().Load()
	if err != nil {
		t.Fatal(err)
	}
	n, ok := s.Single("node").(*nodeSpec)
	if !ok || n.Admin != "127.0.0.1:8400" || n.Drain.Grace != 20*time.Second || s.Has("node") {
		t.Errorf("node: %+v", n)
	}
	if s.Single("nonsense") != nil || s.Entries("nonsense") != nil || len(s.Entries("pools")) != 0 {
		t.Error("sections that are not there")
	}
	if c, ok := s.Single("cluster").(*clusterSpec); !ok || c.Store.Dir != "data" {
		t.Errorf("cluster: %+v", s.Single("cluster"))
	}
}

func TestHashIsThatOfTheMeaning(t *testing.T) {
	a := load(t, "surge: { x: { queue: 1MiB, max_age: 60s }, y: {} }\ntls: { f: { cert: /c, key: /k } }\n")
	b := load(t, "tls:\n  f:\n    key: '/k'\n    cert: /c\n\nsurge:\n  y: # nothing\n  x: { max_age: 1m, queue: 1048576, then: spill }\n")
	if a.Hash() != b.Hash() {
		t.Errorf("%s\n%s", a.Rendered(), b.Rendered())
	}
	for _, text := range []string{
		"surge: { x: { queue: 1MiB, max_age: 61s }, y: {} }\ntls: { f: { cert: /c, key: /k } }\n",
		"surge: { z: { queue: 1MiB, max_age: 60s }, y: {} }\ntls: { f: { cert: /c, key: /k } }\n",
		"surge: { x: { queue: 1MiB, max_age: 60s } }\ntls: { f: { cert: /c, key: /k } }\n",
	} {
		if load(t, text).Hash() == a.Hash() {
			t.Errorf("same hash for %s", text)
		}
	}
	// The order of devices means something, that of pools does not.
	one := load(t, "devices: { a: { when: x }, b: { when: y } }\n")
	if two := load(t, "devices: { b: { when: y }, a: { when: x } }\n"); one.Hash() == two.Hash() {
		t.Error("devices in another order have the same hash")
	}
}

func TestRedactedMeansTheSame(t *testing.T) {
	b, err := os.ReadFile("testdata/fleet.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for name := range map[string]bool{"kafka-pass": true, "psk-table": true, "cluster": true} {
		text = strings.ReplaceAll(text, ", password: { secret: "+name+" }", "")
		text = strings.ReplaceAll(text, ", psk: { secret: "+name+" }", "")
		text = strings.ReplaceAll(text, ", secret: { secret: "+name+" }", "")
	}
	text = strings.ReplaceAll(text, "  alarms: { amqp: { url: { secret: amqp-url }, address: alarms }, balance: least_pending }\n", "")
	text = strings.ReplaceAll(text, "to: alarms", "to: kafka")
	s, err := fleetSchema().LoadBytes("a", []byte(text), fleetEnv)
	if err != nil {
		t.Fatal(err)
	}
	again, err := fleetSchema().LoadBytes("b", s.Rendered(), fleetEnv)
	if err != nil {
		t.Fatalf("%v\n%s", err, s.Rendered())
	}
	if again.Hash() != s.Hash() {
		t.Errorf("got\n%s\nwant\n%s", again.Rendered(), s.Rendered())
	}
}

func TestRefsAreListed(t *testing.T) {
	s := mustLoad(t, "testdata/fleet.yaml")
	for _, c := range []struct {
		section, name string
		want          []Ref
	}{
		{"listeners", "mqtt-tls", []Ref{{"tls", "fleet"}}},
		{"listeners", "mqtt-lb", []Ref{{"pools", "brokers"}}},
		{"routes", "rest", []Ref{{"pools", "brokers"}, {"pools", "hooks"}, {"surge", "default"}}},
		{"routes", "commands", []Ref{{"surge", "default"}}},
		{"pools", "kafka", []Ref{{"secrets", "kafka-pass"}}},
	} {
		if got := entry(t, s, c.section, c.name).Refs; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s.%s: got %v, want %v", c.section, c.name, got, c.want)
		}
	}
}

func TestManyErrorsAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("windrose: v1\npools:\n")
	for i := range 5000 {
		fmt.Fprintf(&b, "  p%d: { webhok: {} }\n", i)
	}
	_, err := fleetSchema().LoadBytes("x", []byte(b.String()), nil)
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != maxErrors+1 || !strings.Contains(errs[maxErrors].Msg, "stopped after 100") {
		t.Fatalf("got %d errors", len(errs))
	}
}

func TestSuggestions(t *testing.T) {
	names := []string{"listeners", "limits", "routes", "pools", "tls", "max_packet", "keepalive"}
	for name, want := range map[string]string{
		"listener": "listeners", "listners": "listeners", "lisetners": "listeners", "Routes": "routes", "rotues": "routes", "max-packet": "max_packet", "maxpacket": "max_packet",
		"keep_alive": "keepalive", "pool": "pools", "tsl": "tls", "ssl": "", "zebra": "", "x": "", "packet": "max_packet", strings.Repeat("x", 5000): "",
	} {
		if got := nearest(name, names); got != want {
			t.Errorf("%.20q: got %q, want %q", name, got, want)
		}
	}
}

func TestLoadsRunAtTheSameTime(t *testing.T) {
	b, err := os.ReadFile("testdata/fleet.yaml")
	if err != nil {
		t.Fatal(err)
	}
	schema := fleetSchema()
	want := mustLoad(t, "testdata/fleet.yaml")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := schema.LoadBytes("testdata/fleet.yaml", b, fleetEnv)
			if err != nil || s.Hash() != want.Hash() {
				t.Errorf("load: %v", err)
				return
			}
			_ = want.Rendered()
			_ = Diff(want, s)
			_ = schema.JSONSchema()
		})
	}
	wg.Wait()
}

func TestValidateMayJoinErrorsAndNeedNotImportThisPackage(t *testing.T) {
	schema := &Schema{Sections: []Section{{Name: "x", Spec: joinSpec{}}}}
	_, err := schema.LoadBytes("f", []byte("windrose: v1\nx:\n  list: [a, b]\n"), nil)
	want := "f:3:3: x: the whole is wrong\nf:3:13: x.list[1]: b is wrong (fix: write c)"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

type joinSpec struct {
	List []string `yaml:"list" doc:"A list."`
}

func (*joinSpec) Validate() error {
	return errors.Join(errors.New("the whole is wrong"), fmt.Errorf("check: %w", ownError{errors.New("b is wrong")}))
}

type ownError struct{ error }

func (e ownError) Unwrap() error     { return e.error }
func (e ownError) FieldPath() string { return "list[1]" }
func (e ownError) FieldFix() string  { return "write c" }

func TestBombsAreRefusedInTime(t *testing.T) {
	fill := func(head, text string) string { return head + strings.Repeat(text, (maxFile-len(head))/len(text)) }
	for name, text := range map[string]string{
		"flow": fill("", "["), "maps": fill("", "{"), "pairs": fill("", "[{"), "dashes": fill("", "- "), "keys": fill("", "? "), "anchors": fill("", "&a "),
		"values": fill("windrose: v1\nacl: [", "a,"), "comments": fill("windrose: v1\n", "#\n"), "text": fill("windrose: v1\nnode: { name: \"", "a"), "escapes": fill("\"", "\\x41"),
	} {
		start := time.Now()
		_, err := fleetSchema().LoadBytes("x", []byte(text), nil)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
		if err == nil {
			t.Errorf("%s: is taken", name)
		}
	}
}

// oddSpec calls everything that a type of odd shape can.
type oddSpec struct{ seen string }

func (o *oddSpec) UnmarshalConfig(v *Value) error {
	o.seen = fmt.Sprint(v.Pos(), " ", v.Path(), v.IsNull(), v.IsMap(), v.IsList(), v.IsScalar())
	if err := v.Decode(nil); err == nil {
		return errors.New("decodes into nothing")
	}
	if _, err := v.Map(); err != nil {
		return err
	}
	_, err := v.List()
	return err
}

func TestOddShapes(t *testing.T) {
	schema := &Schema{Sections: []Section{{Name: "x", Shape: Map, Spec: oddSpec{}}}}
	s, err := schema.LoadBytes("f", []byte("windrose: v1\nx: { a: }\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := spec[oddSpec](t, s, "x", "a").seen; got != "f:2:9 x.atrue false false false" {
		t.Errorf("got %s", got)
	}
	_, err = schema.LoadBytes("f", []byte("windrose: v1\nx: { a: 5, b: {}, c: [] }\n"), nil)
	want := "f:2:9: x.a: expected a map, got a number\nf:2:15: x.b: expected a list, got a map\nf:2:22: x.c: expected a map, got a list"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// TestRedactedShowsNoEnvironment: what the environment says is shown by the name of the variable, wherever it is written.
func TestRedactedShowsNoEnvironment(t *testing.T) {
	const in = `windrose: v1
node: { name: "${env.SECRETISH}" }
pools:
  a: { webhook: { urls: ["http://a"], headers: { X: "${env.SECRETISH}" } } }
  b: { webhook: { urls: ["http://b"] } }
routes: [ { topic: "#", to: { a: "${env.TEN}", b: 1 } } ]
`
	s, err := fleetSchema().LoadBytes("x.yaml", []byte(in), fleetEnv)
	if err != nil {
		t.Fatal(err)
	}
	if out := string(s.Redacted()); strings.Contains(out, "hunter2") || strings.Count(out, `"${env.SECRETISH}"`) != 2 || !strings.Contains(out, `a: "${env.TEN}"`) {
		t.Errorf("redacted:\n%s", out)
	}
	if out := string(s.Rendered()); strings.Count(out, "hunter2") != 2 {
		t.Errorf("rendered:\n%s", out)
	}
	again, err := fleetSchema().LoadBytes("x.yaml", s.Redacted(), fleetEnv)
	if err != nil || again.Hash() != s.Hash() {
		t.Errorf("read again: %v", err)
	}
}
