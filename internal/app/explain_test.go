package app

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
	"github.com/windrose-edc/windrose/internal/tap"
)

// answers are what the backends of the test say, with the outcome that a pool makes of it.
var answers = []struct {
	status  int
	outcome string
}{{200, "accepted"}, {422, "bad_payload"}, {403, "unauthorized"}, {404, "bad_topic"}, {413, "too_large"}, {503, "unavailable"}}

// world is a random configuration with what surrounds it.
type world struct {
	text   string
	assume map[string]string // what the members of each pool answer
	subs   []wish
}

// wish is a subscriber.
type wish struct {
	id      string
	filter  string
	qos     byte
	noLocal bool
	offline bool // with a session, and gone
}

func drawWorld(rt *rapid.T, backend string) *world {
	w := &world{assume: map[string]string{}}
	var b strings.Builder
	pick := func(of ...string) string { return rapid.SampledFrom(of).Draw(rt, "pick") }
	fmt.Fprintf(&b, "windrose: v1\nnode: { name: n1, data: %s, loops: 2, deadline: 20s }\n", "${DATA}")
	fmt.Fprintf(&b, "listeners: { l1: { mqtt: { bind: \"127.0.0.1:0\", anonymous: true, on_reject: %s, max_packet: 1MiB } } }\n", pick("ack", "silent", "disconnect"))
	fmt.Fprintf(&b, "sessions: { queue: %s, overflow: %s }\n", pick("0", "1", "100"), pick("drop_new", "drop_old", "disconnect"))
	if rapid.Bool().Draw(rt, "limits") {
		fmt.Fprintf(&b, "limits: { per_client: { events: 0.001/s, burst: %s, on_excess: %s } }\n", pick("1", "2", "5"), pick("drop", "reject", "disconnect"))
	}
	if rapid.Bool().Draw(rt, "acl") {
		b.WriteString("acl:\n")
		for range rapid.IntRange(0, 2).Draw(rt, "denies") {
			fmt.Fprintf(&b, "  - { deny: publish, topic: %q%s }\n", pick("a/#", "a/{client}", "+/2", "$x/#"), pick("", ", client: pub", ", user: nobody"))
		}
		b.WriteString("  - { allow: [publish, subscribe], topic: \"#\" }\n")
	}
	if rapid.Bool().Draw(rt, "topics") {
		b.WriteString("topics: { allow: \"$x/#\" }\n")
	}
	if n := rapid.IntRange(0, 2).Draw(rt, "rewrites"); n > 0 {
		b.WriteString("rewrites:\n")
		for i := range n {
			fmt.Fprintf(&b, "  - { name: r%d, topic: %q, to: %q }\n", i, pick("a/{id}", "b/{id}", "{x}/2"), pick("b/1", "c/{client}", "a/{client}/x", "d/{user}"))
		}
	}
	pools := []string{"p0", "p1", "p2"}
	b.WriteString("pools:\n")
	for i, p := range pools {
		x := rapid.SampledFrom(answers).Draw(rt, "answer")
		w.assume[p] = x.outcome
		fmt.Fprintf(&b, "  %s: { webhook: { urls: [\"%s/%d/%d\"] }, attempts: 1, queue: 64KiB }\n", p, backend, i, x.status)
	}
	if n := rapid.IntRange(0, 3).Draw(rt, "routes"); n > 0 {
		b.WriteString("routes:\n")
		for i := range n {
			fmt.Fprintf(&b, "  - { name: w%d, topic: %q, to: %s, ack: %s, final: %v }\n", i, pick("#", "a/#", "b/{x}", "c/+"), pick("p0", "p1", "[p1, p0]", "[p2, p0, p1]"),
				pick("received", "upstream"), rapid.IntRange(0, 3).Draw(rt, "final") == 0)
		}
	}
	for i := range rapid.IntRange(0, 4).Draw(rt, "subscribers") {
		w.subs = append(w.subs, wish{fmt.Sprintf("sub%d", i), pick("#", "a/#", "b/+", "c/pub", "$share/g/a/#", "$x/#"), byte(rapid.IntRange(0, 2).Draw(rt, "qos")),
			rapid.Bool().Draw(rt, "no local"), rapid.IntRange(0, 3).Draw(rt, "offline") == 0})
	}
	w.text = b.String()
	return w
}

// drawEvent is a question whose answer is compared with what happens.
func drawEvent(rt *rapid.T, w *world, version string) tap.Question {
	size := rapid.SampledFrom([]int{0, 1, 100, 70_000}).Draw(rt, "size")
	return tap.Question{Client: "pub", Listener: "l1", Protocol: "mqtt", Version: version, QoS: rapid.IntRange(0, 2).Draw(rt, "qos"), Retain: rapid.Bool().Draw(rt, "retain"),
		Topic:   rapid.SampledFrom([]string{"a/1", "a/2", "a/pub", "b/1", "b/2", "c/pub", "z", "$x/1", "$SYS/x"}).Draw(rt, "topic"),
		Payload: strings.Repeat("x", size), Assume: w.assume}
}

// device is a client that speaks as little MQTT as the test needs. Used by one goroutine.
type device struct {
	t    testing.TB
	conn net.Conn
	v    wire.Version
	id   uint16
}

func dialDevice(t testing.TB, addr, id string, v wire.Version, expiry uint32) *device {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	d := &device{t: t, conn: c, v: v}
	p := &wire.Connect{Version: v, ClientID: []byte(id), Clean: v == wire.V5 || expiry == 0, SessionExpiry: expiry, ReceiveMax: 100}
	d.write(wire.AppendConnect(nil, p))
	d.packet(bufio.NewReaderSize(c, 16), wire.CONNACK)
	return d
}

func (d *device) write(b []byte) {
	d.t.Helper()
	_ = d.conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := d.conn.Write(b); err != nil {
		d.t.Fatal(err)
	}
}

// packet reads one packet, which must be of that kind.
func (d *device) packet(r *bufio.Reader, want wire.Kind) {
	d.t.Helper()
	first, err := r.ReadByte()
	if err != nil {
		d.t.Fatal(err)
	}
	n, shift := 0, 0
	for {
		c, err := r.ReadByte()
		if err != nil {
			d.t.Fatal(err)
		}
		n |= int(c&0x7f) << shift
		if shift += 7; c < 0x80 {
			break
		}
	}
	if _, err := io.CopyN(io.Discard, r, int64(n)); err != nil {
		d.t.Fatal(err)
	}
	if wire.KindOf(first) != want {
		d.t.Fatalf("got %s, want %s", wire.KindOf(first), want)
	}
}

func (d *device) subscribe(w wish) {
	d.t.Helper()
	d.write(wire.AppendSubscribe(nil, d.v, 1, 0, []wire.Filter{{Filter: w.filter, SubOptions: wire.SubOptions{QoS: w.qos, NoLocal: w.noLocal && !strings.HasPrefix(w.filter, "$share"), RetainHandling: 2}}}))
	d.packet(bufio.NewReaderSize(d.conn, 16), wire.SUBACK)
}

func (d *device) publish(q tap.Question) {
	d.t.Helper()
	d.id++
	d.write(wire.AppendPublish(nil, &wire.PublishOut{Version: d.v, Topic: []byte(q.Topic), Payload: []byte(q.Payload), QoS: byte(q.QoS), Retain: q.Retain, PacketID: d.id}))
}

// firstWords is the banner of a node that listens. Guarded by mu.
type firstWords struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (f *firstWords) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.Write(b)
}

// address is where the node listens, once it does.
func (f *firstWords) address(t testing.TB) (addr string) {
	t.Helper()
	waitFor(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		addr = regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(f.text.String())
		return addr != ""
	})
	return addr
}

// startWorld makes a node of that configuration, which is in file.
func startWorld(t testing.TB, text string) (*App, *firstWords, string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "windrose.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "${DATA}", filepath.Join(dir, "data"))), 0o600); err != nil {
		t.Fatal(err)
	}
	words := &firstWords{}
	a, err := New(Options{ConfigFiles: []string{file}, Stdout: words})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return a, words, file
}

// path is a record without what may differ: times, numbers, the order of targets that answer from different places.
func path(r *tap.Record) []string {
	out := []string{}
	targets := map[string][]string{}
	var names []string
	refusals := []string{}
	for _, s := range r.Steps {
		if s.Step == tap.StepTarget && s.Verdict == "refused" && !slices.Contains(refusals, s.Outcome) {
			refusals = append(refusals, s.Outcome)
		}
	}
	slices.Sort(refusals)
	for _, s := range r.Steps {
		switch s.Step {
		case tap.StepReceived, tap.StepHop, tap.StepAttempt:
		case tap.StepTarget:
			k := s.Kind + " " + s.Name
			if targets[k] == nil {
				names = append(names, k)
			}
			targets[k] = append(targets[k], strings.TrimSpace(s.Verdict+" "+s.Outcome))
		case tap.StepOutcome, tap.StepAck:
			if len(refusals) > 1 && (slices.Contains(refusals, r.Outcome) || r.Outcome == event.Released.String()) {
				out = append(out, s.Step+" is the first of "+strings.Join(refusals, ", "))
				continue
			}
			out = append(out, strings.Join(strings.Fields(s.Step+" "+s.Verdict+" "+s.Outcome+" "+s.Detail), " "))
		default:
			d := s.Detail
			out = append(out, strings.Join(strings.Fields(strings.Join([]string{s.Step, s.Name, s.Verdict, s.Outcome, s.Topic, d}, " ")), " "))
		}
	}
	slices.Sort(names)
	for _, k := range names {
		if slices.Index(targets[k], "queued") != len(targets[k])-1-slices.Index(reversed(targets[k]), "queued") {
			slices.Sort(targets[k]) // several routes lead there, and their ends come in any order
		}
		out = append(out, k+": "+strings.Join(targets[k], ", "))
	}
	return out
}

func reversed(s []string) []string {
	s = slices.Clone(s)
	slices.Reverse(s)
	return s
}

// TestExplainAgreesWithWhatHappens: over random configurations and events, the answer about an event that is not sent and
// the record of the same event when it is published say the same; and the question itself changes nothing.
func TestExplainAgreesWithWhatHappens(t *testing.T) {
	if testing.Short() {
		t.Skip("starts nodes; not in -short")
	}
	few(t, 30)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		var pool, status int
		if _, err := fmt.Sscanf(r.URL.Path, "/%d/%d", &pool, &status); err != nil {
			status = http.StatusTeapot
		}
		w.WriteHeader(status)
	}))
	defer backend.Close()
	rapid.Check(t, func(rt *rapid.T) {
		w := drawWorld(rt, backend.URL)
		version, v := "5", wire.V5
		if rapid.Bool().Draw(rt, "old") {
			version, v = "3.1.1", wire.V311
		}
		var qs []tap.Question
		for range rapid.IntRange(1, 5).Draw(rt, "events") {
			qs = append(qs, drawEvent(rt, w, version))
		}
		if diff := compareWorld(t, w, v, qs); diff != "" {
			rt.Fatalf("%s\n%s", diff, w.text)
		}
	})
}

// few bounds the number of worlds: each is a node.
func few(t *testing.T, n int) {
	f := flag.Lookup("rapid.checks")
	if f == nil || f.Value.String() != f.DefValue {
		return // whoever runs the test says how many
	}
	old := f.Value.String()
	if err := f.Value.Set(fmt.Sprint(n)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Value.Set(old) })
}

// compareWorld runs a world and asks about each event before it is published; "" when all agree.
func compareWorld(t testing.TB, w *world, v wire.Version, qs []tap.Question) string {
	a, banner, file := startWorld(t, w.text)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer stop()
	addr := banner.address(t)
	for _, s := range w.subs {
		d := dialDevice(t, addr, s.id, wire.V5, 1000)
		defer func() { _ = d.conn.Close() }()
		d.subscribe(s)
		if s.offline {
			_ = d.conn.Close()
			waitFor(t, func() bool { return !online(a, s.id) })
			continue
		}
		wg.Go(func() { _, _ = io.Copy(io.Discard, d.conn) })
		defer func() { _ = d.conn.Close() }()
	}
	tp, err := a.node.tap.Listen(tap.Options{Client: "pub"})
	if err != nil {
		t.Fatal(err)
	}
	defer tp.Close()
	var pub *device
	leave := func() {
		if pub != nil {
			_ = pub.conn.Close()
			waitFor(t, func() bool { return !online(a, "pub") })
			pub = nil
		}
	}
	defer leave()
	for i, q := range qs {
		if pub == nil {
			pub = dialDevice(t, addr, "pub", v, 0)
			conn := pub.conn
			wg.Go(func() { _, _ = io.Copy(io.Discard, conn) })
		}
		said, err := a.node.explain(ctx, q)
		if err != nil {
			return fmt.Sprintf("event %d: %v", i, err)
		}
		again, err := a.node.explain(ctx, q)
		if err != nil {
			return fmt.Sprintf("event %d, again: %v", i, err)
		}
		pub.publish(q)
		live := nextComplete(t, tp)
		if got, want := path(&said), path(&live); !slices.Equal(got, want) {
			return fmt.Sprintf("event %d: %s\nexplain says\n  %s\nand it was\n  %s\n%s", i, ask(q), strings.Join(got, "\n  "), strings.Join(want, "\n  "), live.Path())
		}
		if got, want := path(&again), path(&said); !slices.Equal(got, want) {
			return fmt.Sprintf("event %d: %s\nexplain says\n  %s\nthe second time, and the first\n  %s", i, ask(q), strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
		if len(w.subs) == 0 && i == 0 {
			offline, err := Explain(ctx, q, file)
			if err != nil {
				return fmt.Sprintf("offline: %v", err)
			}
			if got, want := path(&offline), path(&live); !slices.Equal(got, want) {
				return fmt.Sprintf("%s\noffline explain says\n  %s\nand it was\n  %s", ask(q), strings.Join(got, "\n  "), strings.Join(want, "\n  "))
			}
		}
		if live.Outcome != event.Accepted.String() && live.Outcome != event.NoMatch.String() {
			leave() // what an answer does to the connection is not what is compared
		}
	}
	return ""
}

func ask(q tap.Question) string {
	q.Payload = fmt.Sprintf("%d bytes", len(q.Payload))
	b, _ := json.Marshal(q)
	return string(b)
}

func nextComplete(t testing.TB, tp *tap.Tap) tap.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var last tap.Record
	for {
		recs, err := tp.Next(ctx)
		if err != nil {
			t.Fatalf("no complete record: %v; the last was\n%s", err, last.Path())
		}
		for _, r := range recs {
			if last = r; r.Complete {
				return r
			}
		}
	}
}

func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to be")
		}
	}
}

// online says whether a client has a connection.
func online(a *App, id string) bool {
	loop, ok := a.node.directory.LoopOf(id)
	if !ok {
		return false
	}
	h := a.node.hosts[loop]
	is := make(chan bool, 1)
	h.Clock().Post(func() {
		s := h.Find(id)
		is <- s != nil && s.Online()
	})
	return <-is
}

// TestHeldEventIsOneRecord: an event that a limit holds is one record, from its arrival to its acknowledgement; and explain
// says that it would be held, and what becomes of it then.
func TestHeldEventIsOneRecord(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a node; not in -short")
	}
	a, banner, _ := startWorld(t, "windrose: v1\nnode: { data: ${DATA}, loops: 2 }\nlimits: { per_client: { events: 1/s, burst: 1 } }\n"+
		"listeners: { l1: { mqtt: { bind: \"127.0.0.1:0\", anonymous: true } } }\n")
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer stop()
	tp, err := a.node.tap.Listen(tap.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tp.Close()
	d := dialDevice(t, banner.address(t), "pub", wire.V5, 0)
	defer func() { _ = d.conn.Close() }()
	q := tap.Question{Client: "pub", Topic: "a", QoS: 1}
	for range 3 {
		d.publish(q)
	}
	records := []tap.Record{nextComplete(t, tp)} // from here on the bucket is empty: two more wait for it
	said, err := a.node.explain(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	records = append(records, nextComplete(t, tp), nextComplete(t, tp))
	for i, r := range records {
		if i > 0 && r.Held == 0 || r.Outcome != event.NoMatch.String() || strings.Count(r.Path(), " ack ") != 1 {
			t.Errorf("record %d:\n%s", i, r.Path())
		}
	}
	if i, j := strings.Index(said.Path(), "limit: park"), strings.Index(said.Path(), "limit: pass"); i < 0 || j < i || said.Outcome != event.NoMatch.String() {
		t.Errorf("explain says\n%s", said.Path())
	}
}
