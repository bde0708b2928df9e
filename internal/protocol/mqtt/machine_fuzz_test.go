package mqtt

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
	"github.com/windrose-edc/windrose/internal/route"
)

// fuzzRun is one run of the fuzzer: two clients that send arbitrary bytes in arbitrary pieces to a small node. Owned by
// its run.
type fuzzRun struct {
	t       simT
	n       *simNode
	target  *simTarget
	links   [2]*simLink
	streams [2][]byte
	planted bool
	opened  int // connections
}

// fuzzMachine plays two streams. plan says how: its first byte is the node's configuration, each of the others one step:
// bytes of a stream, time, a lost connection, an answer of the target, a client that stops reading or goes on.
func fuzzMachine(t simT, one, two, plan []byte, planted bool) {
	if len(one)+len(two) > 1<<16 || len(plan) > 200 {
		return
	}
	var c byte
	if len(plan) > 0 {
		c, plan = plan[0], plan[1:]
	}
	r := &fuzzRun{t: t, streams: [2][]byte{one, two}, planted: planted, target: &simTarget{name: "t1"}}
	r.n = newSimNode(t, fuzzConfig(c))
	r.n.routes(&route.Route{Name: "t1", Topic: "t/#", Target: r.target})
	for i := range r.links {
		r.connect(i)
	}
	for _, op := range plan {
		r.step(op)
		r.check()
	}
	for i := range r.links {
		r.send(i, len(r.streams[i]))
		r.check()
	}
	r.end()
}

func fuzzConfig(c byte) simConfig {
	cfg := defaultSim()
	cfg.loops = 1 + int(c&1)
	cfg.credit = []int64{300, 1 << 20}[c>>1&1]
	cfg.deadline = 5 * time.Second
	cfg.limits.Receive, cfg.limits.Window, cfg.limits.Queue, cfg.limits.QueueBytes = 8, 4, 10, 10_000
	cfg.retained.MaxMessages, cfg.retained.MaxBytes = 5, 10_000
	cfg.spec.MaxPacket, cfg.spec.HoldBytes, cfg.spec.MaxOutput, cfg.spec.TopicAliases = 1024, 200, 500, 3
	cfg.spec.SessionExpiry = 100 * time.Second
	cfg.spec.OnHold = []string{"pause", "drop_qos0", "disconnect", "pause"}[c>>2&3]
	cfg.spec.OnReject = []string{"ack", "disconnect", "silent", "ack"}[c>>4&3]
	if c>>6&1 == 0 {
		l, err := policy.NewLimit(policy.LimitSpec{Events: 2, Burst: 3})
		if err != nil {
			panic(err)
		}
		cfg.policies = append(cfg.policies, l)
	}
	cfg.policies = append(cfg.policies, outcomePolicy{})
	return cfg
}

func (r *fuzzRun) connect(i int) {
	r.links[i] = r.n.link(r.opened % len(r.n.loops))
	r.opened++
}

func (r *fuzzRun) step(op byte) {
	i := int(op & 1)
	k := int(op >> 3)
	switch op >> 1 & 3 {
	case 0:
		r.send(i, 1+k)
	case 1:
		r.send(i, 1+16*k)
	case 2:
		switch {
		case k < 16:
			r.n.advance(time.Duration(k*k) * 37 * time.Millisecond)
		case k < 24:
			r.target.answer(event.Outcome(k-16) % event.NumOutcomes)
		default:
			r.links[i].stalled = !r.links[i].stalled
			r.links[i].loop().Wake()
		}
	case 3:
		if k < 8 {
			r.links[i].drop()
			r.n.run()
			r.finish(r.links[i])
			r.connect(i)
		}
	}
	r.n.run()
}

func (r *fuzzRun) send(i, n int) {
	b := r.streams[i]
	n = min(n, len(b))
	if r.planted {
		plantedBug(r.links[i], b[:n])
	}
	r.links[i].send(b[:n])
	r.streams[i] = b[n:]
	r.n.run()
	if c := r.links[i]; c.told { // the rest of the stream goes on with a new connection
		r.finish(c)
		r.connect(i)
	}
}

// check holds what a connection and the node keep against their bounds.
func (r *fuzzRun) check() {
	for _, c := range r.links {
		if h := c.hold; h != nil && len(h.packets) > c.cfg.holdBytes+int(c.cfg.maxPacket)+8 {
			r.t.Fatalf("%d bytes of publishes are held", len(h.packets))
		}
		if c.aliases != nil && len(*c.aliases) > int(c.cfg.aliases) {
			r.t.Fatalf("%d aliases", len(*c.aliases))
		}
		if c.s != nil && c.s.Unanswered() > r.n.hosts[0].Limits().Receive {
			r.t.Fatalf("%d events without an answer", c.s.Unanswered())
		}
		if len(c.out) > c.cfg.maxOut+len(r.streams[0])+len(r.streams[1])+1<<17 {
			r.t.Fatalf("%d bytes of output wait", len(c.out))
		}
	}
	for _, h := range r.n.hosts {
		if t := &h.Tally; t.Queued > t.Sessions*int64(h.Limits().Queue) || t.Online > t.Sessions {
			r.t.Fatalf("gauges: %+v", *t)
		}
	}
}

// finish looks at what a client has received: whole packets that a server may send, one CONNACK first.
func (r *fuzzRun) finish(c *simLink) {
	v := c.version
	if v == 0 {
		v = wire.V311
	}
	b := c.got
	for i := 0; len(b) > 0; i++ {
		text, rest, ok := textOf(b, v)
		if !ok {
			r.t.Fatalf("half a packet: %x", b)
		}
		if strings.Contains(text, "MALFORMED") || strings.HasPrefix(text, "NOT FOR") || strings.HasPrefix(text, "CONNACK") != (i == 0) {
			r.t.Fatalf("packet %d: %s", i, text)
		}
		b = rest
	}
	c.got = nil
}

// end takes all connections away and lets everything come to its end: every ticket is settled, every session has ended.
func (r *fuzzRun) end() {
	for _, c := range r.links {
		c.stalled = false
		c.drop()
	}
	r.n.run()
	for _, c := range r.links {
		r.finish(c)
	}
	for i := 0; len(r.target.open) > 0; i++ {
		if r.target.answer(event.Accepted); len(r.target.open) > 0 {
			r.target.open = r.target.open[1:] // never answered
		}
	}
	r.n.advance(115 * time.Second)
	r.n.advance(20 * time.Second) // wills have their tickets, too
	for i, h := range r.n.hosts {
		t := &h.Tally
		if t.Sessions != 0 || t.Online != 0 || t.Subs != 0 || t.Queued != 0 || t.QueuedBytes != 0 {
			r.t.Fatalf("loop %d at the end: %+v", i, *t)
		}
		if n := h.Walker().Open(); n != 0 {
			r.t.Fatalf("loop %d: %d tickets are never settled", i, n)
		}
	}
	if n := r.n.index.Stats().Subs; n != 1 {
		r.t.Fatalf("%d subscriptions are left", n)
	}
}

// plantedBug is a decoder that has the bug of trap 1 (section 3 of the notes on MQTT): it believes that each filter of a
// SUBSCRIBE is followed by its options.
func plantedBug(c *simLink, b []byte) {
	if c.phase != phOpen || len(c.in)+len(c.arriving) > 0 {
		return
	}
	first, body, n, err := wire.Next(b, 0)
	if err != nil || n == 0 || wire.KindOf(first) != wire.SUBSCRIBE {
		return
	}
	at := 2
	if c.version == wire.V5 {
		at++
	}
	for at+2 <= len(body) {
		at += 2 + int(binary.BigEndian.Uint16(body[at:]))
		_ = body[at] // the options
		at++
	}
}

// quiet is a test that a run fails by a panic. It has no state besides what it has to clean up.
type quiet struct{ cleanups []func() }

func (q *quiet) Helper()                           {}
func (q *quiet) Fatal(args ...any)                 { panic(args) }
func (q *quiet) Fatalf(format string, args ...any) { panic(format) }
func (q *quiet) Cleanup(f func())                  { q.cleanups = append(q.cleanups, f) }

func (q *quiet) done() {
	for _, f := range q.cleanups {
		f()
	}
}

// scriptSeeds are the streams of the scripts: each client of each script is one.
func scriptSeeds(tb testing.TB) (streams [][]byte) {
	files, _ := filepath.Glob("testdata/script/*.txt")
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			tb.Fatal(err)
		}
		by := map[string][]byte{}
		versions := map[string]*wire.Version{}
		for line := range strings.SplitSeq(string(text), "\n") {
			who, packets, ok := strings.Cut(line, " > ")
			if !ok || strings.HasPrefix(line, "#") {
				continue
			}
			who, _, _ = strings.Cut(who, "@")
			if versions[who] == nil {
				v := wire.V311
				versions[who] = &v
			}
			for p := range strings.SplitSeq(packets, " ; ") {
				b, err := packetOf(p, versions[who])
				if err != nil {
					tb.Fatal(f, line, err)
				}
				by[who] = append(by[who], b...)
			}
		}
		for _, b := range by {
			if len(b) < 2000 {
				streams = append(streams, b)
			}
		}
	}
	return streams
}

// FuzzMachine: whatever two clients send, in whatever pieces, with lost connections, silent targets and time in between,
// nothing panics, what is kept stays within its bounds, what is sent is well-formed, every ticket is settled and every
// session ends. With WINDROSE_PLANT=1 the connection has the bug of plantedBug; the fuzzer finds it within a minute:
//
//	WINDROSE_PLANT=1 go test ./internal/protocol/mqtt -run ... -fuzz FuzzMachine -fuzztime 60s
//
// TestPlantedPanicIsFound does the same without the fuzzer's help.
func FuzzMachine(f *testing.F) {
	planted := os.Getenv("WINDROSE_PLANT") != ""
	for i, b := range scriptSeeds(f) {
		if planted && runPlanted(b, nil) != nil {
			continue // a script that shows just that
		}
		f.Add(b, []byte(nil), []byte{byte(i)})
		if planted {
			continue
		}
		for q := range byte(3) {
			f.Add(fuzzSubscriber(q), b, fuzzPlan(byte(i)*7+q))
		}
	}
	f.Fuzz(func(t *testing.T, one, two, plan []byte) { fuzzMachine(t, one, two, plan, planted) })
}

// fuzzSubscriber is a client that takes everything and acknowledges it.
func fuzzSubscriber(q byte) []byte {
	b := wire.AppendConnect(nil, &wire.Connect{Version: wire.V5, ClientID: []byte("s"), ReceiveMax: 9, TopicAliasMax: 3, SessionExpiry: 50, RequestProblemInfo: true})
	b = wire.AppendSubscribe(b, wire.V5, 1, 5, []wire.Filter{{Filter: "#", SubOptions: wire.SubOptions{QoS: q}}, {Filter: "$share/g/t", SubOptions: wire.SubOptions{QoS: q}}})
	for id := range uint16(20) {
		if q < 2 {
			b = wire.AppendAck(b, wire.V5, wire.PUBACK, id+1, wire.Success, "")
		} else {
			b = wire.AppendAck(b, wire.V5, wire.PUBREC, id+1, wire.Success, "")
			b = wire.AppendAck(b, wire.V5, wire.PUBCOMP, id+1, wire.Success, "")
		}
	}
	return b
}

// fuzzPlan lets the first client subscribe, then both take turns, with time in between.
func fuzzPlan(config byte) []byte {
	plan := []byte{config, 1<<1 | 2<<3}
	for range 12 {
		plan = append(plan, 1|1<<1|2<<3, 2<<1|3<<3, 3<<3)
	}
	return plan
}

// The body of the fuzz target finds a planted bug from the seeds, by nothing but random changes of a few bytes.
func TestPlantedPanicIsFound(t *testing.T) {
	if os.Getenv("WINDROSE_PLANT") != "" {
		t.Skip("planted in the fuzzer")
	}
	seeds := slices.DeleteFunc(scriptSeeds(t), func(b []byte) bool { return runPlanted(b, nil) != nil })
	rnd := rand.New(rand.NewPCG(1, 2))
	start := time.Now()
	const most = 20_000
	for i := range most {
		b := bytes.Clone(seeds[rnd.IntN(len(seeds))])
		for range 1 + rnd.IntN(4) {
			b = mutate(rnd, b)
		}
		if crash := runPlanted(b, []byte{byte(rnd.Uint32()), 0x02 | byte(rnd.IntN(4))<<3}); crash != nil {
			if _, ok := crash.(runtime.Error); !ok {
				t.Fatalf("run %d fails: %v", i, crash)
			}
			t.Logf("found by run %d, after %v: %v", i+1, time.Since(start).Round(time.Millisecond), crash)
			return
		}
	}
	t.Errorf("not found in %d runs", most)
}

func runPlanted(b, plan []byte) (crash any) {
	q := &quiet{}
	defer q.done()
	defer func() { crash = recover() }()
	fuzzMachine(q, b, nil, plan, true)
	return nil
}

func mutate(rnd *rand.Rand, b []byte) []byte {
	if len(b) < 4 {
		return append(b, byte(rnd.Uint32()))
	}
	i := rnd.IntN(len(b))
	switch rnd.IntN(4) {
	case 0:
		b[i] = byte(rnd.Uint32())
	case 1:
		b[i] += byte(rnd.IntN(9)) - 4
	case 2:
		b = append(b[:i:i], b[i+1:]...)
	case 3:
		b = append(b[:i:i], append([]byte{byte(rnd.IntN(4))}, b[i:]...)...)
	}
	return b
}

// An announced length reserves nothing (trap 32): neither before CONNECT nor after it.
func TestAnnouncedLengthReservesNothing(t *testing.T) {
	cfg := defaultSim()
	cfg.spec.MaxPacket = 256 << 20
	n := newSimNode(t, cfg)
	var m0, m1 runtime.MemStats
	head := []byte{0x10, 0xff, 0xff, 0xff, 0x7e, 0, 4, 'M', 'Q', 'T', 'T', 5}
	connect := wire.AppendConnect(nil, &wire.Connect{Version: wire.V5, Clean: true, ReceiveMax: 0xffff})
	publish := []byte{0x32, 0xff, 0xff, 0xff, 0x7e, 0, 1, 't', 0, 1, 0}
	const each = 50
	var links []*simLink
	runtime.ReadMemStats(&m0)
	for range each {
		a, b := n.link(0), n.link(0)
		a.send(head)
		b.send(connect)
		b.send(publish)
		links = append(links, a, b)
	}
	n.run()
	runtime.ReadMemStats(&m1)
	if got := m1.TotalAlloc - m0.TotalAlloc; got > each*100_000 {
		t.Errorf("%d connections that announce 256 MB each took %d bytes", 2*each, got)
	}
	for _, c := range links {
		if c.ended || c.most > 200 {
			t.Errorf("ended %v (%v), %d bytes kept", c.ended, c.err, c.most)
		}
	}
}
