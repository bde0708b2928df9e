package dtls

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"

	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/observe"
)

// aHello is the datagram of a ClientHello with a cipher suite and, as asked, a cookie.
func aHello(random uint64, messageSeq uint16, cookie []byte) []byte {
	body := binary.BigEndian.AppendUint64([]byte{0xfe, 0xfd}, random)
	body = append(body, make([]byte, 24)...)
	body = append(body, 0, byte(len(cookie)))
	body = append(body, cookie...)
	body = append(body, 0, 2, 0xc0, 0xa8, 1, 0)
	b := []byte{typeHandshake, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, byte(messageSeq), 0, byte(handshakeHeader + len(body)),
		helloRequest, 0, 0, byte(len(body)), 0, byte(messageSeq), 0, 0, 0, 0, 0, byte(len(body))}
	return append(b, body...)
}

func somewhere(r *rand.Rand) loop.PacketAddr {
	return loop.PacketAddr{AddrPort: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())}), uint16(r.Uint32()|1))}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// onLoop runs fn on a loop and waits for it.
func onLoop(l *loop.Loop, fn func()) {
	done := make(chan struct{})
	l.Post(func() { defer close(done); fn() })
	<-done
}

// 100,000 hellos and 100,000 random datagrams from forged addresses leave nothing behind, and an established peer is served
// meanwhile.
func TestFloodFromForgedAddresses(t *testing.T) {
	s := newSite(t, 1, Options{Keys: pump})
	c := mustDial(t, s.addr, clientOptions("pump-7", pump["pump-7"], dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()))...)
	mustAsk(t, c, "before", "pump-7: before")
	f := s.s.fronts[0].Load()
	var in, out atomic.Int64
	onLoop(s.loops[0], func() {
		send := f.out
		f.out = func(to loop.PacketAddr, b []byte) {
			if to.Addr().As4()[0] == 10 {
				out.Add(int64(len(b)))
				return
			}
			send(to, b)
		}
	})
	r := rand.New(rand.NewPCG(1, 2))
	goroutines, memory := runtime.NumGoroutine(), heap()
	const each, turns = 1000, 100
	for i := range turns {
		onLoop(s.loops[0], func() {
			for range each {
				b := aHello(r.Uint64(), 0, nil)
				switch r.IntN(8) {
				case 0:
					b = aHello(r.Uint64(), 1, bytes.Repeat([]byte{7}, cookieSize)) // an invented cookie
				case 1:
					b = b[:r.IntN(len(b))]
				}
				in.Add(int64(len(b)))
				f.Packet(somewhere(r), b)
				x := make([]byte, r.IntN(80))
				for k := range x {
					x[k] = byte(r.Uint32())
				}
				if len(x) > 3 {
					x[0], x[1] = byte(20+r.IntN(6)), 0xfe
				}
				f.Packet(somewhere(r), x)
			}
		})
		if i%10 == 0 {
			mustAsk(t, c, fmt.Sprint("during ", i), fmt.Sprint("pump-7: during ", i))
		}
	}
	mustAsk(t, c, "after", "pump-7: after")
	more := int64(heap()) - int64(memory)
	if more > 1<<20 {
		t.Errorf("%d bytes more", more)
	}
	if n := runtime.NumGoroutine(); n > goroutines+4 {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	if out.Load() > in.Load() {
		t.Errorf("%d bytes out for %d in", out.Load(), in.Load())
	}
	if got := s.s.n.cookies.Value(); got < each*turns/2 {
		t.Errorf("%d cookies", got)
	}
	if s.s.n.halfOpen.Value() != 0 || s.s.Peers() != 1 {
		t.Errorf("%d handshakes, %d peers", s.s.n.halfOpen.Value(), s.s.Peers())
	}
	t.Logf("%d bytes in, %d out, %d more in use, %d goroutines more", in.Load(), out.Load(), more, runtime.NumGoroutine()-goroutines)
}

// Addresses that do answer the cookie and then say nothing: a cap for each prefix and in total, and a deadline.
func TestHalfOpenHandshakesAreBounded(t *testing.T) {
	s := newSite(t, 1, Options{Keys: pump, Handshakes: 20, HandshakesPerPrefix: 8, HandshakeTimeout: time.Second})
	f := s.s.fronts[0].Load()
	goroutines := runtime.NumGoroutine()
	try := func(a netip.Addr, random uint64) {
		from := loop.PacketAddr{AddrPort: netip.AddrPortFrom(a, uint16(random|1))}
		b := aHello(random, 0, nil)
		h, ok := parseHello(b)
		if !ok {
			t.Fatal("a hello cannot be read")
		}
		cookie := append([]byte(nil), f.baker.bake(from, &h, f.loop.Now()/int64(cookieLife))...)
		f.Packet(from, aHello(random, 1, cookie))
	}
	onLoop(s.loops[0], func() {
		f.out = func(loop.PacketAddr, []byte) {}
		for i := range uint64(100) { // one /24, then one /48
			try(netip.AddrFrom4([4]byte{10, 1, 1, byte(i)}), i<<1)
			try(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 1, byte(i), 7: byte(i)}), i<<1)
		}
	})
	if n := s.s.n.halfOpen.Value(); n != 16 {
		t.Errorf("%d handshakes of two prefixes, %d failed, %d bad cookies", n, s.s.n.refused[refusedFailed].Value(), s.s.n.dropped[dropCookie].Value())
	}
	if n := s.s.n.refused[refusedPrefix].Value(); n != 184 {
		t.Errorf("%d refused by prefix", n)
	}
	onLoop(s.loops[0], func() {
		for i := range uint64(100) {
			try(netip.AddrFrom4([4]byte{10, 2, byte(i), 1}), i<<1)
		}
	})
	if n := s.s.n.refused[refusedTotal].Value(); n != 96 {
		t.Errorf("%d refused in total", n)
	}
	if n := runtime.NumGoroutine() - goroutines; n > 20*8 {
		t.Errorf("%d goroutines", n)
	}
	eventually(t, "half-open handshakes stay", func() bool { return s.s.n.halfOpen.Value() == 0 && runtime.NumGoroutine() <= goroutines+4 })
	if n := s.s.n.refused[refusedTimeout].Value(); n != 20 {
		t.Errorf("%d timed out", n)
	}
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	if len(s.s.byPrefix) != 0 {
		t.Error("prefixes stay")
	}
}

// When there is no room for another peer, the one that was silent longest gives way; idle ones are forgotten.
func TestSessionsAreBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, Options{Keys: pump, Sessions: 2, Idle: 3 * time.Second})
	var last *dtls.Conn
	for range 4 {
		last = mustDial(t, s.addr, clientOptions("pump-7", pump["pump-7"])...)
		mustAsk(t, last, "hello", "pump-7: hello")
	}
	if n := s.closed.Load(); n < 2 {
		t.Errorf("%d gave way", n)
	}
	eventually(t, "idle peers stay", func() bool { return s.s.Peers() == 0 })
	_ = last
}

// A record of an established peer costs no allocation, either way, with GCM and CCM.
func TestRecordsAllocateNothing(t *testing.T) {
	for _, kind := range suites() {
		f, client, server := pair(t, kind)
		b := make([]byte, 200)
		var sc scratch
		seq, id := uint64(1), cidBytes(f)
		n := testing.AllocsPerRun(100, func() {
			rec := client.seal(&sc, typeData, seq, id, b)
			seq++
			f.Packet(server.addr, rec)
		})
		if n > 0 {
			t.Errorf("%s: %v allocations", kind.id, n)
		}
		if server.keys.sent < 100 {
			t.Fatalf("%s: only %d answers", kind.id, server.keys.sent)
		}
	}
}

func cidBytes(f *front) []byte {
	for id := range f.byCID {
		return binary.BigEndian.AppendUint64(nil, uint64(id))
	}
	return nil
}

// pair is a front with one established peer, and the keys of its client, without a network.
func pair(t testing.TB, kind suite) (f *front, client *direction, p *Peer) {
	g, err := loop.NewGroup(loop.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	s, err := New(Options{Keys: pump, Metrics: observe.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	f = s.attach(g.Loops()[0], func(loop.PacketAddr, []byte) {}, echoBack{})
	x := &exported{CipherSuiteID: uint16(kind.id), MasterSecret: make([]byte, 48), SequenceNumber: 1, RemoteSequenceNumber: 1}
	k, err := x.derive()
	if err != nil {
		t.Fatal(err)
	}
	back, err := x.derive()
	if err != nil {
		t.Fatal(err)
	}
	r := &result{keys: k, own: 77, hasOwn: true, peerCID: []byte{1, 2}}
	sh := &shake{f: f, from: loop.PacketAddr{AddrPort: netip.MustParseAddrPort("10.0.0.1:5684")}}
	f.shakes[sh.from] = sh
	f.shaken(sh, r)
	return f, &back.rx, f.byCID[77]
}

// echoBack answers with what it is given.
type echoBack struct{}

func (echoBack) Open(*Peer)                   {}
func (echoBack) Data(p *Peer, b []byte)       { p.Send(b) }
func (echoBack) Moved(*Peer, loop.PacketAddr) {}
func (echoBack) Closed(*Peer, error)          {}

// What is sent to an address that is not confirmed is bounded by what came from there.
func TestUnconfirmedAddressBudget(t *testing.T) {
	f, client, p := pair(t, suites()[0])
	var sc scratch
	var in, out int
	f.out = func(_ loop.PacketAddr, b []byte) { out += len(b) }
	home, away := p.addr, loop.PacketAddr{AddrPort: netip.MustParseAddrPort("10.9.9.9:1")}
	rec := append([]byte(nil), client.seal(&sc, typeData, 5, cidBytes(f), make([]byte, 50))...)
	f.Packet(away, rec)
	in = len(rec)
	if p.Addr() != away || p.Confirmed() {
		t.Fatalf("peer at %v, confirmed %v", p.Addr(), p.Confirmed())
	}
	for range 20 {
		p.Send(make([]byte, 40))
	}
	if out == 0 || out > 3*in {
		t.Errorf("%d bytes out for %d in", out, in)
	}
	if p.Send(make([]byte, 40)) || f.s.n.dropped[dropBudget].Value() == 0 {
		t.Error("no bound")
	}
	p.Confirm()
	if !p.Send(make([]byte, 400)) {
		t.Error("bound after Confirm")
	}
	f.Packet(home, client.seal(&sc, typeData, 6, cidBytes(f), []byte("x")))
	if p.Confirmed() {
		t.Error("the former home is still trusted after another address was confirmed")
	}
}

// FuzzPacket: nothing that a stranger sends panics or makes a handshake or a peer.
func FuzzPacket(f *testing.F) {
	f.Add(aHello(1, 0, nil))
	f.Add(aHello(1, 1, make([]byte, cookieSize)))
	f.Add([]byte{typeCID, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 77, 0, 3, 1, 2, 3})
	f.Add([]byte{typeData, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 0})
	fr, _, p := pair(f, suites()[2])
	f.Fuzz(func(t *testing.T, b []byte) {
		fr.Packet(p.addr, b)
		fr.Packet(loop.PacketAddr{AddrPort: netip.MustParseAddrPort("[2001:db8::1]:1")}, b)
		if len(fr.shakes) != 0 || len(fr.byAddr) != 0 || len(fr.byCID) != 1 {
			t.Fatal("a stranger made state")
		}
	})
}

// Memory of idle peers, for the goal of issue 5 (48 KB): WINDROSE_MEASURE=1 go test -run TestMeasure -v.
func TestMeasureIdlePeers(t *testing.T) {
	if os.Getenv("WINDROSE_MEASURE") == "" {
		t.Skip("set WINDROSE_MEASURE=1")
	}
	s := newSite(t, 2, Options{Keys: pump, HandshakesPerPrefix: 512})
	const n = 2000
	before, goroutines := heap(), runtime.NumGoroutine()
	begin := time.Now()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for range n / 8 {
				more := []dtls.ClientOption{}
				if w%2 == 0 {
					more = append(more, dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()))
				}
				c, err := dial(t, s.addr, 20*time.Second, clientOptions("pump-7", pump["pump-7"], more...)...)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := ask(c, "x", 20*time.Second); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	both := heap() - before
	all := runtime.NumGoroutine() - goroutines
	runtime.GC()
	var servers []*Peer
	for i, l := range s.loops {
		onLoop(l, func() {
			f := s.s.fronts[i].Load()
			for _, p := range f.byAddr {
				servers = append(servers, p)
			}
			for _, p := range f.byCID {
				servers = append(servers, p)
			}
		})
	}
	peers := len(servers)
	servers = nil
	with := heap()
	for i, l := range s.loops {
		onLoop(l, func() {
			f := s.s.fronts[i].Load()
			f.byAddr, f.byCID, f.heard = map[loop.PacketAddr]*Peer{}, map[cid]*Peer{}, [2]list{}
		})
	}
	without := heap()
	t.Logf("%d peers: %d bytes each on the server's side; with pion clients in the same process %d bytes and %.1f goroutines each; %.0f handshakes/s with their clients",
		peers, (int64(with)-int64(without))/int64(peers), both/uint64(peers), float64(all)/float64(peers), float64(peers)/took.Seconds())
}

// How long an established peer waits while forged hellos come without pause, for the goal of issue 5 (p99 under 50 ms).
func TestMeasureFloodLatency(t *testing.T) {
	if os.Getenv("WINDROSE_MEASURE") == "" {
		t.Skip("set WINDROSE_MEASURE=1")
	}
	s := newSite(t, 2, Options{Keys: pump})
	c := mustDial(t, s.addr, clientOptions("pump-7", pump["pump-7"], dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()))...)
	mustAsk(t, c, "before", "pump-7: before")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var floods atomic.Int64
	for i, l := range s.loops {
		f := s.s.fronts[i].Load()
		onLoop(l, func() {
			send := f.out
			f.out = func(to loop.PacketAddr, b []byte) {
				if to.Addr().As4()[0] != 10 {
					send(to, b)
				}
			}
		})
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 2))
			for {
				select {
				case <-stop:
					return
				default:
				}
				onLoop(l, func() {
					for range 256 { // as many as a turn reads at most
						f.Packet(somewhere(r), aHello(r.Uint64(), 0, nil))
					}
				})
				floods.Add(256)
			}
		})
	}
	var took []time.Duration
	b := make([]byte, 100)
	for begin := time.Now(); time.Since(begin) < 3*time.Second; {
		at := time.Now()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(b); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(at))
	}
	close(stop)
	wg.Wait()
	slices.Sort(took)
	t.Logf("%d forged hellos/s, %d requests: p50 %v, p99 %v, worst %v", floods.Load()/3, len(took), took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
}
