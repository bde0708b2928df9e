package coap

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/protocol/coap/wire"
	"github.com/windrose-edc/windrose/internal/session"
)

// The scripts of testdata/script are conversations with the machine, one line each:
//
//	1> CON GET id=1 tk=0a Uri-Path=ps Uri-Path=a :payload    what the peer at port 1 sends
//	1< ACK 2.05 id=1 tk=0a ETag=$e :payload                  what it gets next; $x stands for a value, the same each time
//	1> raw 40017d34                                           bytes as they are
//	wait 2s; pub TOPIC TEXT; retain TOPIC TEXT; hold; settle accepted; spec KEY VALUE (first lines); prove 1; took EVENT
//
// What the server sends is to be expected before the next line that is not "<".

var optionNames = func() map[string]wire.Number {
	m := map[string]wire.Number{}
	for n := range wire.Number(512) {
		if k, ok := wire.Lookup(n); ok {
			m[k.Name] = n
		}
	}
	return m
}()

var methodNames = map[string]wire.Code{"GET": wire.GET, "PUT": wire.PUT, "POST": wire.POST, "DELETE": wire.DELETE, "FETCH": wire.FETCH, "Empty": wire.Empty}

func optionText(n wire.Number, v []byte) string {
	k, ok := wire.Lookup(n)
	if !ok {
		return fmt.Sprintf("#%d=%x", n, v)
	}
	switch n {
	case wire.Block1, wire.Block2:
		b := wire.ParseBlock(v)
		more := 0
		if b.More {
			more = 1
		}
		return fmt.Sprintf("%s=%d/%d/%d", k.Name, b.Num, more, 16<<b.SZX)
	case wire.Observe, wire.URIPort, wire.ContentFormat, wire.MaxAge, wire.HopLimit, wire.Accept, wire.Size1, wire.Size2, wire.NoResponse:
		return fmt.Sprintf("%s=%d", k.Name, wire.Uint(v))
	case wire.URIHost, wire.URIPath, wire.URIQuery, wire.LocationPath, wire.ProxyURI, wire.ProxyScheme:
		return k.Name + "=" + string(v)
	}
	return fmt.Sprintf("%s=%x", k.Name, v)
}

// show is a message in the words of a script.
func show(m *wire.Message) string {
	code := m.Code.String()
	for name, c := range methodNames {
		if c == m.Code {
			code = name
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s id=%d", m.Type, code, m.ID)
	if len(m.Token) > 0 {
		fmt.Fprintf(&b, " tk=%x", m.Token)
	}
	for it := m.Options.Iter(); ; {
		n, v, ok := it.Next()
		if !ok {
			break
		}
		b.WriteString(" " + optionText(n, v))
	}
	if p := string(m.Payload); len(p) > 0 {
		if len(p) >= 16 && strings.Count(p, p[:1]) == len(p) {
			p = fmt.Sprintf("@%s*%d", p[:1], len(p))
		}
		b.WriteString(" :" + p)
	}
	return b.String()
}

// parse makes a message of the words of a script.
func parse(t testing.TB, line string) []byte {
	t.Helper()
	line, payload, has := strings.Cut(line, " :")
	f := strings.Fields(line)
	if f[0] == "raw" {
		b, err := hex.DecodeString(strings.Join(f[1:], ""))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	m := wire.Message{Type: map[string]wire.Type{"CON": wire.CON, "NON": wire.NON, "ACK": wire.ACK, "RST": wire.RST}[f[0]]}
	code, ok := methodNames[f[1]]
	if !ok {
		class, detail, _ := strings.Cut(f[1], ".")
		code = wire.Code(num(t, class)<<5 | num(t, detail))
	}
	m.Code = code
	var prev wire.Number
	for _, w := range f[2:] {
		name, v, _ := strings.Cut(w, "=")
		raw, err := hex.DecodeString(v)
		switch name {
		case "id":
			m.ID = uint16(num(t, v))
			continue
		case "tk":
			m.Token = raw
			continue
		}
		n, known := optionNames[name]
		if !known {
			n = wire.Number(num(t, strings.TrimPrefix(name, "#")))
		}
		if n < prev {
			t.Fatalf("options out of order: %s", line)
		}
		switch {
		case n == wire.Block1 || n == wire.Block2:
			p := strings.Split(v, "/")
			b := wire.Block{Num: uint32(num(t, p[0])), More: p[1] == "1"}
			for 16<<b.SZX < num(t, p[2]) {
				b.SZX++
			}
			m.Options = wire.AppendUint(m.Options, prev, n, b.Value())
		case strings.HasPrefix(optionText(n, []byte{0x5b}), name+"=["): // text
			m.Options = wire.AppendOption(m.Options, prev, n, []byte(v))
		case known && optionText(n, []byte{0x5b}) == name+"=91":
			m.Options = wire.AppendUint(m.Options, prev, n, uint32(num(t, v)))
		case err != nil:
			t.Fatal(err)
		default:
			m.Options = wire.AppendOption(m.Options, prev, n, raw)
		}
		prev = n
	}
	if has {
		m.Payload = []byte(expand(t, payload))
	}
	return wire.Append(nil, &m)
}

// expand makes 100 x of @x*100.
func expand(t testing.TB, s string) string {
	t.Helper()
	if !strings.HasPrefix(s, "@") {
		return s
	}
	c, n, _ := strings.Cut(s[1:], "*")
	return strings.Repeat(c, num(t, n))
}

func num(t testing.TB, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// script is one run. Owned by its test.
type script struct {
	t    *testing.T
	n    *simNode
	vars map[string]string
	got  []packet
}

// scripts are the texts of all scripts, by name.
func scripts(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	m := map[string]string{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		m[strings.TrimSuffix(filepath.Base(f), ".txt")] = string(text)
	}
	return m
}

func TestScripts(t *testing.T) {
	for name, text := range scripts(t) {
		t.Run(name, func(t *testing.T) { runScript(t, text) })
	}
}

func runScript(t *testing.T, text string) {
	s := &script{t: t, vars: map[string]string{}}
	lines := strings.Split(text, "\n")
	s.n = newSim(t, func(spec *ListenerSpec, ps *[]policy.Policy) {
		spec.AckTimeout, spec.ObserverCheck = 2*time.Second, 5*time.Minute
		for _, l := range lines {
			f := strings.Fields(l)
			if len(f) != 3 || f[0] != "spec" {
				continue
			}
			switch f[1] {
			case "anonymous":
				spec.Anonymous = f[2] == "true"
			case "max_body":
				spec.MaxBody = num(t, f[2])
			case "transfers":
				spec.Transfers = num(t, f[2])
			case "transfer_bytes":
				spec.TransferBytes = int64(num(t, f[2]))
			case "observations":
				spec.Observations = num(t, f[2])
			case "deny":
				*ps = append(*ps, deny(f[2]))
			default:
				t.Fatalf("spec %s", f[1])
			}
		}
	})
	for i, l := range lines {
		l = strings.TrimRight(l, " ")
		if l == "" || l[0] == '#' || strings.HasPrefix(l, "spec ") {
			continue
		}
		if port, want, ok := strings.Cut(l, "< "); ok && port != "" && len(port) < 4 {
			s.expect(i+1, num(t, port), want)
			continue
		}
		s.flush(i + 1)
		s.step(i+1, l)
		s.got = append(s.got, s.n.sent()...)
	}
	s.flush(len(lines))
}

// flush fails where the server said what nobody expected.
func (s *script) flush(line int) {
	s.t.Helper()
	for _, p := range s.got {
		var m wire.Message
		_ = wire.Parse(p.b, &m)
		s.t.Errorf("line %d: before it, not expected: %d< %s", line, p.peer.Port(), show(&m))
	}
	s.got = nil
}

func (s *script) step(line int, l string) {
	s.t.Helper()
	if port, what, ok := strings.Cut(l, "> "); ok && len(port) < 4 {
		for k, v := range s.vars {
			what = strings.ReplaceAll(what, "$"+k, v)
		}
		s.n.packet(num(s.t, port), parse(s.t, what))
		return
	}
	f := strings.SplitN(l, " ", 3)
	switch f[0] {
	case "wait":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			s.t.Fatal(err)
		}
		s.n.advance(d)
	case "pub", "retain":
		s.n.publish(f[1], expand(s.t, f[2]), f[0] == "retain", event.AtLeastOnce)
	case "pub0":
		s.n.publish(f[1], expand(s.t, f[2]), false, event.AtMostOnce)
	case "hold":
		s.n.took.hold = true
	case "settle":
		for o := range event.NumOutcomes {
			if o.String() == f[1] {
				for _, k := range s.n.took.tickets {
					k.Settle(o)
				}
				s.n.took.tickets, s.n.took.outcome = nil, o
			}
		}
		s.n.run()
	case "took":
		want := strings.TrimPrefix(l, "took ")
		if len(s.n.took.events) != 1 || s.n.took.events[0] != want {
			s.t.Errorf("line %d: the route took %q, want %q", line, s.n.took.events, want)
		}
		s.n.took.events = nil
	case "prove": // the peer shows that it is reachable
		port := num(s.t, f[1])
		s.n.sent()
		s.n.packet(port, proof(s.n.desk.echo, port, s.n.loop.now))
		s.n.sent()
	case "end":
		s.n.gram.close(session.Shutdown)
		s.n.run()
	case "peers":
		if n := len(s.n.gram.peers); n != num(s.t, f[1]) {
			s.t.Errorf("line %d: %d peers are known, want %s", line, n, f[1])
		}
	default:
		s.t.Fatalf("line %d: %s", line, l)
	}
}

func (s *script) expect(line, port int, want string) {
	s.t.Helper()
	for i, p := range s.got {
		if int(p.peer.Port()) != port {
			continue
		}
		s.got = append(s.got[:i:i], s.got[i+1:]...)
		var m wire.Message
		if err := wire.Parse(p.b, &m); err != nil {
			s.t.Errorf("line %d: the server sent what cannot be parsed: %v", line, err)
			return
		}
		if got := show(&m); !s.matches(strings.Fields(want), strings.Fields(got)) {
			s.t.Errorf("line %d:\nwant %s\n got %s", line, want, got)
		}
		return
	}
	s.t.Errorf("line %d: nothing was sent, want %s", line, want)
}

func (s *script) matches(want, got []string) bool {
	if len(want) != len(got) {
		return false
	}
	for i, w := range want {
		head, name, ok := strings.Cut(w, "$")
		if !ok {
			if w != got[i] {
				return false
			}
			continue
		}
		v, ok := strings.CutPrefix(got[i], head)
		if !ok || s.vars[name] != "" && s.vars[name] != v {
			return false
		}
		s.vars[name] = v
	}
	return true
}

// deny is a policy that lets nobody publish or subscribe below a topic.
type deny string

func (d deny) Name() string { return "deny" }
func (d deny) Apply(_ *policy.Context, ev *event.Event) policy.Verdict {
	return d.verdict(ev.Topic)
}
func (d deny) Subscribe(_ *policy.Context, _ *event.Origin, filter []byte, _ event.QoS) policy.Verdict {
	return d.verdict(filter)
}
func (d deny) verdict(topic []byte) policy.Verdict {
	if bytes.HasPrefix(topic, []byte(d)) {
		return policy.Verdict{Kind: policy.Reject, Outcome: event.Unauthorized}
	}
	return policy.Verdict{}
}

// proof is a request by which a peer shows that it is reachable.
func proof(k *echoKey, port int, now int64) []byte {
	o := wire.AppendOption(nil, 0, wire.URIPath, []byte("ps"))
	o = wire.AppendOption(o, wire.URIPath, wire.URIPath, []byte("none"))
	o = wire.AppendOption(o, wire.URIPath, wire.Echo, k.append(nil, from(port).AddrPort, now))
	return wire.Append(nil, &wire.Message{Type: wire.CON, Code: wire.GET, ID: 65000, Options: o})
}
