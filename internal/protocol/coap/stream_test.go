package coap

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/coap/wire"
	"github.com/windrose-edc/windrose/internal/session"
)

// fakeEnd is a connection that keeps what is written. Owned by the test.
type fakeEnd struct {
	out    []byte
	closed error
}

func (e *fakeEnd) Out() []byte                                { return e.out }
func (e *fakeEnd) SetOut(b []byte)                            { e.out = b }
func (e *fakeEnd) Pending() int                               { return 0 }
func (e *fakeEnd) WantWritable()                              {}
func (e *fakeEnd) CloseAfterFlush(err error, _ time.Duration) { e.closed = err }
func (e *fakeEnd) RemoteAddr() netip.AddrPort                 { return from(77).AddrPort }

// pipe is a stream and its client. Owned by the test.
type pipe struct {
	t   testing.TB
	n   *simNode
	s   *stream
	end *fakeEnd
	buf []byte
}

func newPipe(t testing.TB) *pipe {
	n := newSim(t, nil)
	cfg := *n.desk.cfg
	cfg.datagrams = false
	n.desk.cfg = &cfg
	p := &pipe{t: t, n: n, end: &fakeEnd{}}
	p.s = &stream{end0: p.end}
	p.s.d, p.s.via = n.desk, p.s
	p.s.begin()
	return p
}

// send hands bytes to the stream, as a connection does that keeps what was not used.
func (p *pipe) send(b []byte) {
	p.t.Helper()
	p.buf = append(p.buf, b...)
	n, err := p.s.Data(p.buf)
	if err != nil {
		p.t.Fatal(err)
	}
	p.buf = p.buf[n:]
	p.n.turn()
	p.n.run()
}

func (p *pipe) say(ms ...wire.Message) {
	p.t.Helper()
	var b []byte
	for i := range ms {
		b = wire.AppendFrame(b, &ms[i])
	}
	p.send(b)
}

// got takes what was written, in words.
func (p *pipe) got() string {
	p.t.Helper()
	var out []string
	for b := p.end.out; len(b) > 0; {
		var m wire.Message
		n, err := wire.Next(b, 1<<24, &m)
		if err != nil || n == 0 {
			p.t.Fatalf("what was written cannot be read: %v", err)
		}
		b = b[n:]
		s := strings.Replace(show(&m), "CON ", "", 1)
		out = append(out, strings.Replace(s, " id=0", "", 1))
	}
	p.end.out = nil
	return strings.Join(out, "\n")
}

func (p *pipe) want(want string) {
	p.t.Helper()
	if got := p.got(); got != want {
		p.t.Errorf("got  %s\nwant %s", got, want)
	}
}

// csm is what a client sends first.
func csm(maxMessage uint32, blocks bool) wire.Message {
	o := wire.AppendUint(nil, 0, wire.Number(wire.CSMMaxMessageSize), maxMessage)
	if blocks {
		o = wire.AppendOption(o, wire.Number(wire.CSMMaxMessageSize), wire.Number(wire.CSMBlockWise), nil)
	}
	return wire.Message{Code: wire.CSM, Options: o}
}

func request(c wire.Code, token string, o wire.Options, payload string) wire.Message {
	return wire.Message{Code: c, Token: []byte(token), Options: o, Payload: []byte(payload)}
}

// RFC 8323, 5.3: each side sends a CSM first; whoever does not is not spoken to.
func TestStream_5_3_CSM(t *testing.T) {
	p := newPipe(t)
	if got := p.got(); !strings.HasPrefix(got, "7.01 ") {
		t.Errorf("the first message is %s", got)
	}
	p.say(request(wire.GET, "a", psPath("x"), ""))
	p.want("7.05 :first message is not a CSM")
	if p.end.closed == nil {
		t.Error("the connection goes on")
	}
	q := newPipe(t)
	q.got()
	q.n.advance(11 * time.Second)
	q.want("7.05 :no CSM in time")
	r := newPipe(t)
	r.got()
	r.say(wire.Message{Code: wire.CSM, Options: wire.AppendUint(nil, 0, 9, 1)})
	if got := r.got(); !strings.HasPrefix(got, "7.05 #2=09") {
		t.Errorf("an option that is critical and not known gets %s", got)
	}
}

// RFC 8323, 5.4 to 5.6, 3.4: ping with custody, release, abort; empty messages are ignored.
func TestStream_5_4_Signals(t *testing.T) {
	p := newPipe(t)
	p.got()
	p.say(csm(1152, true), wire.Message{}, wire.Message{Code: wire.Ping, Token: []byte("p")})
	p.want("7.03 tk=70")
	p.say(wire.Message{Code: wire.Ping, Options: wire.AppendOption(nil, 0, 2, nil)})
	p.want("7.03 #2=")
	p.n.took.hold = true
	p.say(request(wire.POST, "e", psPath("route", "x"), "x"), wire.Message{Code: wire.Release})
	p.want("")
	if p.end.closed != nil {
		t.Error("the connection ends before what is under way is answered (5.5)")
	}
	p.n.took.tickets[0].Settle(event.Accepted)
	p.n.run()
	p.want("2.04 tk=65")
	if p.end.closed == nil {
		t.Error("the connection goes on after its release")
	}
	q := newPipe(t)
	q.say(csm(1152, true), wire.Message{Code: wire.Abort})
	if q.end.closed == nil || q.n.host.Tally.Sessions != 0 {
		t.Error("the connection goes on after an abort")
	}
	r := newPipe(t)
	r.say(csm(1152, true))
	r.got()
	r.say(wire.Message{Code: wire.Ping, Options: wire.AppendOption(nil, 0, 9, nil)})
	r.want("7.05 :option 9 of a signal")
}

// RFC 8323, 3.2, 5.6: frames that come in pieces; one that is longer than we said, or malformed, is the end.
func TestStream_3_2_Frames(t *testing.T) {
	p := newPipe(t)
	p.got()
	first, get := csm(1152, true), request(wire.GET, "abc", psPath("none"), "")
	for _, b := range wire.AppendFrame(wire.AppendFrame(nil, &first), &get) {
		p.send([]byte{b})
	}
	p.want("4.04 tk=616263")
	p.send([]byte{0xf0, 0x7f, 0xff, 0xff, 0xff, 0x01})
	p.want("7.05 :frame too long")
	q := newPipe(t)
	q.got()
	q.say(first)
	q.send([]byte{0x1f, 0x01})
	if got := q.got(); !strings.HasPrefix(got, "7.05") {
		t.Errorf("a malformed message gets %s", got)
	}
}

// RFC 8323, 4.3, 7.1: the same requests, no acknowledgements; observation ends with the connection.
func TestStream_7_1_Observe(t *testing.T) {
	p := newPipe(t)
	p.got()
	o := wire.AppendOption(nil, 0, wire.Observe, nil)
	o = wire.AppendOption(o, wire.Observe, wire.URIPath, []byte("ps"))
	o = wire.AppendOption(o, wire.URIPath, wire.URIPath, []byte("v"))
	p.say(csm(1152, true), request(wire.GET, "o", o, ""))
	p.want("2.05 tk=6f Observe=1")
	for i := range 100 {
		p.n.publish("v", fmt.Sprint(i), false, event.AtLeastOnce)
	}
	if n := strings.Count(p.got(), "2.05"); n != 100 {
		t.Errorf("%d notifications of 100 events", n)
	}
	if p.n.host.Tally.Queued != 0 {
		t.Errorf("%d events wait", p.n.host.Tally.Queued)
	}
	p.say(request(wire.GET, "o", wire.AppendUint(nil, 0, wire.Observe, 1), ""))
	p.got()
	p.s.Closed(nil)
	if p.n.host.Tally.Sessions != 0 || p.n.desk.n.observers.Value() != 0 {
		t.Error("the session outlives its connection")
	}
}

// RFC 8323, 6: blocks of several KiB where the client takes longer messages; whole bodies where they fit; RFC 7959 otherwise.
func TestStream_6_BERT(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 640) // 10 KiB
	read := func(max uint32, blocks bool, num uint32, szx uint8, with bool) string {
		p := newPipe(t)
		p.n.publish("v", string(body), true, event.AtLeastOnce)
		p.got()
		o := psPath("v")
		if with {
			o = wire.AppendUint(o, wire.URIPath, wire.Block2, wire.Block{Num: num, SZX: szx}.Value())
		}
		p.say(csm(max, blocks), request(wire.GET, "r", o, ""))
		got, payload, _ := strings.Cut(p.got(), " :")
		f := strings.Fields(got)
		return fmt.Sprintf("%s %s %d", f[0], f[len(f)-1], len(payload))
	}
	for _, x := range []struct {
		max    uint32
		blocks bool
		num    uint32
		szx    uint8
		with   bool
		want   string
	}{
		{1152, true, 0, 0, false, "2.05 Size2=10240 1024"},
		{1152, false, 0, 0, false, "5.00 tk=72 26"},
		{64 << 10, true, 0, 0, false, ""},
		{8 << 10, true, 0, 7, true, "2.05 Size2=10240 7168"},
		{8 << 10, true, 7, 7, true, "2.05 Block2=7/0/2048 3072"},
		{8 << 10, true, 2, 6, true, "2.05 Block2=2/1/1024 1024"},
	} {
		got := read(x.max, x.blocks, x.num, x.szx, x.with)
		if x.want == "" {
			if !strings.HasSuffix(got, " 10240") {
				t.Errorf("%+v: %s", x, got)
			}
		} else if got != x.want {
			t.Errorf("%+v: %s", x, got)
		}
	}
	p := newPipe(t)
	p.got()
	up := func(num uint32, more bool, part []byte) wire.Message {
		return request(wire.POST, "u", wire.AppendUint(psPath("route", "b"), wire.URIPath, wire.Block1, wire.Block{Num: num, More: more, SZX: wire.BERT}.Value()), string(part))
	}
	p.say(csm(64<<10, true), up(0, true, body[:4096]), up(4, true, body[4096:8192]), up(8, false, body[8192:]))
	p.want("2.31 tk=75 Block1=0/1/2048\n2.31 tk=75 Block1=4/1/2048\n2.04 tk=75 Block1=8/0/2048")
	if len(p.n.took.events) != 1 || p.n.took.events[0] != "route/b "+string(body) {
		t.Error("the body is another")
	}
}

// A client that is silent is asked, and given up.
func TestStreamSilence(t *testing.T) {
	p := newPipe(t)
	p.say(csm(1152, true))
	p.got()
	p.n.advance(5*time.Minute + time.Second)
	p.want("7.02")
	p.n.advance(6 * time.Minute)
	if p.end.closed == nil {
		t.Error("the connection goes on")
	}
}

// FuzzStream hands bytes to a stream, in two pieces.
func FuzzStream(f *testing.F) {
	first := csm(1152, true)
	get, put := request(wire.GET, "a", psPath("v"), ""), request(wire.PUT, "a", psPath("v"), "value")
	ping := wire.Message{Code: wire.Ping, Options: wire.AppendOption(nil, 0, 2, nil)}
	release := wire.Message{Code: wire.Release}
	var b []byte
	for _, m := range []wire.Message{first, put, get, ping, release} {
		b = wire.AppendFrame(b, &m)
	}
	f.Add(b, uint16(3))
	f.Add(wire.AppendFrame(nil, &get), uint16(1))
	o := wire.AppendOption(wire.AppendOption(nil, 0, wire.Observe, nil), wire.Observe, wire.URIPath, []byte("ps"))
	watch := request(wire.GET, "o", wire.AppendOption(o, wire.URIPath, wire.URIPath, []byte("v")), "")
	up := request(wire.POST, "u", wire.AppendUint(psPath("b"), wire.URIPath, wire.Block1, wire.Block{More: true, SZX: wire.BERT}.Value()), string(make([]byte, 2048)))
	page := request(wire.GET, "g", wire.AppendUint(psPath("v"), wire.URIPath, wire.Block2, wire.Block{Num: 1, SZX: 6}.Value()), "")
	bad, silent := request(wire.GET, "b", wire.AppendOption(nil, 0, 9, nil), ""), request(wire.POST, "s", wire.AppendUint(psPath("b"), wire.URIPath, wire.NoResponse, 2), "x")
	core := request(wire.GET, "c", wire.AppendOption(wire.AppendOption(nil, 0, wire.URIPath, []byte(".well-known")), wire.URIPath, wire.URIPath, []byte("core")), "")
	abort := wire.Message{Code: wire.Abort}
	b = wire.AppendFrame(nil, &first)
	for _, m := range []wire.Message{watch, up, page, bad, silent, core, {Code: wire.Content}} {
		b = wire.AppendFrame(b, &m)
	}
	f.Add(b, uint16(len(b)))
	f.Add(wire.AppendFrame(b, &abort), uint16(9))
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		p := newPipe(t)
		at := min(int(cut), len(b))
		p.send(b[:at])
		p.n.publish("v", string(make([]byte, 3000)), true, event.AtLeastOnce)
		p.send(b[at:])
		p.got()
		p.n.advance(20 * time.Minute)
		p.s.end(session.Kicked)
		p.got()
	})
}
