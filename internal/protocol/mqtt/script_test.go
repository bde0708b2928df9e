package mqtt

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
	"github.com/windrose-edc/windrose/internal/route"
	"github.com/windrose-edc/windrose/internal/session"
)

var updateScripts = flag.Bool("update", false, "write what the machines answer into testdata/script")

// Each file of testdata/script is a conversation of clients with machines on a simulated node, named after the section or
// the normative statement (MQTT 5 where nothing else is said) that it shows:
//
//	node loops=2 credit=1000 receive=4 window=8 queue=10 rule=drop_new deadline=30s balance=round_robin handon=disconnect
//	listener max_packet=1KiB on_hold=pause hold_bytes=100 on_reject=silent expiry=1h aliases=5 keep=10s..60s accept=5 out=2000
//		maxqos=1 levels=8 subs=2 window=4 receive=4 queue=2 queue_bytes=500 sessions=3 shared=v5 noretain nowild
//	limit events=1 burst=1 excess=delay       a policy.Limit
//	outcomes                                  a policy that answers events on outcome/NAME with that outcome
//	user NAME PASSWORD [CLIENT]               a slow... name is looked up slowly
//	route FILTER TARGET [final]               a target that answers when it is told
//
//	c1@0 > CONNECT v5 id=a clean ; PINGREQ    a client sends, in one segment; its first line may name its loop
//	c1 > 30 0a ..                             bytes
//	c1 drop, stall, drain, answer             its end is gone; it stops reading, goes on; its slow authentication is done
//	t1 accepted                               a target answers its oldest event
//	+5s                                       time passes
//	stop                                      the node stops
//
// and what they receive, which -update writes: "c1 < PACKET", "c1 ! why it was closed", "t1 < EVENT", and at the end, after
// the line "count", the counters of the sessions that are not zero.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := playScript(t, string(b))
			if got == string(b) {
				return
			}
			if *updateScripts {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s: %s", f, firstDifference(string(b), got))
		})
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := 0; ; i++ {
		if i >= len(w) || i >= len(g) || w[i] != g[i] {
			return fmt.Sprintf("line %d\ngot:\n%s\nwant:\n%s", i+1, strings.Join(g[min(max(i-3, 0), len(g)):min(i+6, len(g))], "\n"),
				strings.Join(w[min(max(i-3, 0), len(w)):min(i+6, len(w))], "\n"))
		}
	}
}

// script is a run of one file. Owned by its test.
type script struct {
	t       *testing.T
	cfg     simConfig
	users   simUsers
	routes  []*route.Route
	n       *simNode
	clients map[string]*scriptClient
	order   []string
	targets []*simTarget
	out     strings.Builder
}

// scriptClient is one name of a script; it may connect again. Owned by its script.
type scriptClient struct {
	*simLink
	at      int
	version wire.Version
	head    []byte // the first that it sent on this connection
	closed  bool
}

// speak finds the version out from the bytes of a CONNECT; what is refused for its version is answered in 3.1.1.
func (c *scriptClient) speak(sent []byte) {
	if len(c.head) < 16 {
		c.head = append(c.head, sent...)
	}
	if h := c.head; len(h) > 3 && h[0] == 0x10 && h[1] < 0x80 && len(h) > 4+int(h[3]) {
		if v := wire.Version(h[4+int(h[3])]); v == wire.V31 || v == wire.V5 {
			c.version = v
		}
	}
}

func (c *scriptClient) over() bool { return c.simLink == nil || c.closed }

var isOutput = regexp.MustCompile(`^(\w+ [<!]|#=) `)

// playScript runs a script and returns it with what came out.
func playScript(t *testing.T, text string) string {
	s := &script{t: t, cfg: defaultSim(), clients: map[string]*scriptClient{}}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if isOutput.MatchString(line) {
			continue
		}
		s.out.WriteString(line + "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := s.play(line); err != nil {
			t.Fatalf("line %d: %s: %v", i+1, line, err)
		}
	}
	return s.out.String()
}

func (s *script) play(line string) error {
	ws, err := words(line)
	if err != nil {
		return err
	}
	if s.n == nil {
		done, err := s.configure(ws)
		if done || err != nil {
			return err
		}
		s.build()
	}
	switch {
	case ws[0][0] == '+':
		d, err := time.ParseDuration(ws[0][1:])
		if err != nil {
			return err
		}
		s.n.advance(d)
	case ws[0] == "stop":
		s.n.shutdown()
	case ws[0] == "count":
		s.n.run()
		s.count()
		return nil
	case ws[0][0] == 't':
		if err := s.answer(ws); err != nil {
			return err
		}
	default:
		if err := s.client(ws, line); err != nil {
			return err
		}
	}
	s.n.run()
	s.collect()
	return nil
}

// configure reads a line that comes before the first packet.
func (s *script) configure(ws []string) (done bool, err error) {
	a := parseArgs(ws[1:])
	switch ws[0] {
	case "node":
		s.configureNode(a)
	case "listener":
		s.configureListener(a)
	case "limit":
		var l policy.LimitSpec
		n, _ := a.num("events")
		l.Events = float64(n)
		l.Burst, _ = a.num("burst")
		n, _ = a.num("bytes")
		l.Bytes = float64(n)
		l.OnExcess, _ = a.str("excess")
		p, err := policy.NewLimit(l)
		a.fail(err)
		s.cfg.policies = append(s.cfg.policies, p)
	case "outcomes":
		s.cfg.policies = append(s.cfg.policies, outcomePolicy{})
	case "user":
		if s.users == nil {
			s.users = simUsers{}
			s.cfg.auth = []identity.Authenticator{s.users, identity.Anonymous(func(string) bool { return len(s.users) == 0 })}
		}
		u := s.users[a.plain[0]]
		u.password = a.plain[1]
		if len(a.plain) > 2 {
			u.client = a.plain[2]
		}
		s.users[a.plain[0]] = u
		a.plain = nil
	case "route":
		r := &route.Route{Name: a.plain[1], Final: a.has("final"), Topic: a.plain[0]}
		x := &simTarget{name: a.plain[1]}
		r.Target = x
		s.targets = append(s.targets, x)
		s.routes = append(s.routes, r)
		a.plain = nil
	default:
		return false, nil
	}
	return true, a.done()
}

func (s *script) configureNode(a *args) {
	for key, field := range map[string]*int{"loops": &s.cfg.loops, "receive": &s.cfg.limits.Receive, "window": &s.cfg.limits.Window,
		"queue": &s.cfg.limits.Queue, "retained": &s.cfg.retained.MaxMessages} {
		if n, ok := a.num(key); ok {
			*field = n
		}
	}
	if n, ok := a.num("credit"); ok {
		s.cfg.credit = int64(n)
	}
	if d, ok := a.str("deadline"); ok {
		var err error
		s.cfg.deadline, err = time.ParseDuration(d)
		a.fail(err)
	}
	if b, ok := a.str("balance"); ok {
		var err error
		s.cfg.limits.Balance, err = route.ParseBalance(b)
		a.fail(err)
	}
	if r, ok := a.str("handon"); ok {
		s.cfg.limits.HandOn = map[string]session.HandOn{"session_end": session.HandOnEnd, "disconnect": session.HandOnDisconnect}[r]
	}
	if r, ok := a.str("rule"); ok {
		s.cfg.limits.Rule = map[string]session.Overflow{"drop_new": session.DropNew, "drop_old": session.DropOld, "disconnect": session.Disconnect}[r]
	}
}

func (s *script) configureListener(a *args) {
	l := &s.cfg.spec
	for key, field := range map[string]*int{"max_packet": &l.MaxPacket, "hold_bytes": &l.HoldBytes, "aliases": &l.TopicAliases, "out": &l.MaxOutput, "outaliases": &l.AliasesOut,
		"maxqos": &l.MaxQoS, "levels": &l.TopicLevels, "subs": &l.Subscriptions, "window": &l.MaxInflight, "receive": &l.Receive, "queue": &l.Queue,
		"sessions": &l.Sessions} {
		if n, ok := a.num(key); ok {
			*field = n
		}
	}
	for key, field := range map[string]*string{"on_hold": &l.OnHold, "on_reject": &l.OnReject} {
		if v, ok := a.str(key); ok {
			*field = v
		}
	}
	for key, field := range map[string]*time.Duration{"expiry": &l.SessionExpiry, "connect": &l.ConnectTimeout, "keepmin": &l.KeepAlive.Min, "keepmax": &l.KeepAlive.Max} {
		if v, ok := a.str(key); ok {
			var err error
			*field, err = time.ParseDuration(v)
			a.fail(err)
		}
	}
	if n, ok := a.num("queue_bytes"); ok {
		l.QueueBytes = int64(n)
	}
	l.Retain, l.Wildcards = !a.has("noretain"), !a.has("nowild")
	if v, ok := a.str("respond"); ok {
		l.ResponseInfo = v
	}
	if v, ok := a.str("shared"); ok {
		l.Shared = v
	}
	if v, ok := a.str("accept"); ok {
		l.Accept = strings.Split(v, ",")
	}
}

func (s *script) build() {
	s.n = newSimNode(s.t, s.cfg)
	s.n.routes(s.routes...)
}

func (s *script) answer(ws []string) error {
	i := slices.IndexFunc(s.targets, func(x *simTarget) bool { return x.name == ws[0] })
	if i < 0 || len(ws) != 2 {
		return errors.New("no such target")
	}
	o, ok := outcomeOf(ws[1])
	if !ok {
		return fmt.Errorf("no outcome %q", ws[1])
	}
	if !s.targets[i].answer(o) {
		return errors.New("the target has nothing to answer")
	}
	return nil
}

func outcomeOf(name string) (event.Outcome, bool) {
	for o := range event.NumOutcomes {
		if o.String() == name {
			return o, true
		}
	}
	return 0, false
}

func (s *script) client(ws []string, line string) error {
	name, at, _ := strings.Cut(ws[0], "@")
	c := s.clients[name]
	if c == nil {
		c = &scriptClient{}
		s.clients[name] = c
		s.order = append(s.order, name)
		slices.Sort(s.order)
	}
	if at != "" {
		n, err := strconv.Atoi(at)
		if err != nil || n >= len(s.n.loops) {
			return errors.New("no such loop")
		}
		c.at = n
	}
	if len(ws) < 2 {
		return errors.New("what does it do?")
	}
	if ws[1] != ">" && ws[1] != "answer" && c.over() {
		return errors.New("not connected")
	}
	switch ws[1] {
	case ">":
		if c.over() {
			c.simLink, c.closed = s.n.link(c.at), false
			c.name = name
			c.version, c.head = wire.V311, nil
		}
		_, packets, _ := strings.Cut(line, ">")
		var b []byte
		for p := range strings.SplitSeq(packets, " ; ") {
			k, err := packetOf(p, &c.version)
			if err != nil {
				return err
			}
			b = append(b, k...)
		}
		c.speak(b)
		c.send(b)
	case "drop":
		c.drop()
	case "stall":
		c.stalled = true
	case "drain":
		c.stalled = false
		c.loop().Wake()
	case "answer":
		if c.waits == nil {
			return errors.New("nobody authenticates")
		}
		c.waits()
	case "kick":
		why := map[string]session.Why{"kicked": session.Kicked, "busy": session.Busy}[ws[2]]
		c.Kick(why)
	default:
		return fmt.Errorf("unknown: %q", ws[1])
	}
	return nil
}

// collect writes down what everybody has received.
func (s *script) collect() {
	for _, name := range s.order {
		c := s.clients[name]
		if c.simLink == nil {
			continue
		}
		for {
			text, rest, ok := textOf(c.got, c.version)
			if !ok {
				break
			}
			fmt.Fprintf(&s.out, "%s < %s\n", name, text)
			c.got = rest
		}
		if c.told && !c.closed {
			if len(c.got) > 0 {
				fmt.Fprintf(&s.out, "%s < HALF A PACKET %x\n", name, c.got)
			}
			c.closed = true
			fmt.Fprintf(&s.out, "%s ! %v\n", name, c.err)
		}
	}
	for _, x := range s.targets {
		for _, e := range x.got {
			fmt.Fprintf(&s.out, "%s < %s\n", x.name, e)
		}
		for _, park := range x.decided {
			fmt.Fprintf(&s.out, "%s ! %s\n", x.name, map[bool]string{true: "park", false: "forget"}[park])
		}
		x.got, x.decided = nil, nil
	}
}

// count writes down the counters of the sessions.
func (s *script) count() {
	var t session.Tally
	for _, h := range s.n.hosts {
		for i, n := range h.Tally.Dropped {
			t.Dropped[i] += n
		}
		for i, n := range h.Tally.Outcomes {
			t.Outcomes[i] += n
		}
		t.Sessions += h.Tally.Sessions
		t.Online += h.Tally.Online
		t.Subs += h.Tally.Subs
		t.Queued += h.Tally.Queued
		t.Duplicates += h.Tally.Duplicates
		t.TakenOver += h.Tally.TakenOver
		t.Late += h.Tally.Late
	}
	line := func(name string, n int64) {
		if n != 0 {
			fmt.Fprintf(&s.out, "#= %s %d\n", name, n)
		}
	}
	line("sessions", t.Sessions)
	line("online", t.Online)
	line("subscriptions", t.Subs)
	line("queued", t.Queued)
	for i, n := range t.Dropped {
		line("dropped "+session.Drop(i).String(), int64(n))
	}
	for i, n := range t.Outcomes[:event.NumOutcomes] {
		line("outcome "+event.Outcome(i).String(), int64(n))
	}
	line("duplicates", int64(t.Duplicates))
	line("taken over", int64(t.TakenOver))
	line("late", int64(t.Late))
	for _, d := range s.n.dead {
		fmt.Fprintf(&s.out, "#= dead %s\n", d)
	}
	s.n.dead = nil
}

// outcomePolicy answers events on outcome/NAME with that outcome, drops those on outcome/drop, and refuses filters in the
// same way. It has no state.
type outcomePolicy struct{}

func (outcomePolicy) Name() string { return "outcomes" }

func (outcomePolicy) Apply(_ *policy.Context, ev *event.Event) policy.Verdict {
	return outcomePolicy{}.verdict(string(ev.Topic))
}

func (outcomePolicy) Subscribe(_ *policy.Context, _ *event.Origin, filter []byte, _ event.QoS) policy.Verdict {
	return outcomePolicy{}.verdict(string(filter))
}

func (outcomePolicy) verdict(topic string) policy.Verdict {
	name, ok := strings.CutPrefix(topic, "outcome/")
	if !ok {
		return policy.Verdict{}
	}
	switch name {
	case "drop":
		return policy.Verdict{Kind: policy.Drop}
	case "disconnect":
		return policy.Verdict{Kind: policy.Reject, Outcome: event.Throttled, Disconnect: true}
	}
	if o, ok := outcomeOf(name); ok {
		return policy.Verdict{Kind: policy.Reject, Outcome: o}
	}
	return policy.Verdict{}
}
