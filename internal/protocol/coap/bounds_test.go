package coap

import (
	"fmt"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/protocol/coap/wire"
)

func psPath(levels ...string) wire.Options {
	o := wire.AppendOption(nil, 0, wire.URIPath, []byte("ps"))
	for _, l := range levels {
		o = wire.AppendOption(o, wire.URIPath, wire.URIPath, []byte(l))
	}
	return o
}

// TestAmplification (RFC 9175, 2.4; RFC 7252, 11.3): whatever an address sends that has not shown that it is reachable, it gets at
// most three times as many bytes, summed; and no datagram of more than 136.
func TestAmplification(t *testing.T) {
	n := newSim(t, nil)
	n.publish("big", string(make([]byte, 5000)), true, event.AtLeastOnce)
	for i := range 50 {
		n.publish(fmt.Sprintf("t/%d", i), "value", true, event.AtLeastOnce)
	}
	observe := wire.AppendOption(wire.AppendOption(wire.AppendOption(nil, 0, wire.Observe, nil), wire.Observe, wire.URIPath, []byte("ps")), wire.URIPath, wire.URIPath, []byte("big"))
	core := wire.AppendOption(wire.AppendOption(nil, 0, wire.URIPath, []byte(".well-known")), wire.URIPath, wire.URIPath, []byte("core"))
	bad := wire.AppendOption(nil, 0, 9, nil)
	requests := map[string]*wire.Message{
		"read": {Code: wire.GET, Options: psPath("big")}, "small read": {Code: wire.GET, Options: psPath("t", "1")},
		"block": {Code: wire.GET, Options: wire.AppendUint(psPath("big"), wire.URIPath, wire.Block2, 6)}, "observe": {Code: wire.GET, Options: observe},
		"links": {Code: wire.GET, Options: core}, "space": {Code: wire.GET, Options: psPath()}, "nothing": {Code: wire.GET},
		"not there": {Code: wire.GET, Options: psPath("none")}, "event": {Code: wire.POST, Options: psPath("e")}, "value": {Code: wire.PUT, Options: psPath("e"), Payload: []byte("v")},
		"delete": {Code: wire.DELETE, Options: psPath("e")}, "bad option": {Code: wire.GET, Options: bad}, "bad level": {Code: wire.PUT, Options: psPath("#")},
		"fetch": {Code: wire.FETCH, Options: psPath("e")}, "ping": {}, "reserved": {Code: 1 << 5},
		"gap":       {Code: wire.PUT, Options: wire.AppendUint(psPath("e"), wire.URIPath, wire.Block1, 0x16), Payload: []byte("v")},
		"too large": {Code: wire.PUT, Options: wire.AppendUint(psPath("e"), wire.URIPath, wire.Size1, 1<<30), Payload: []byte("v")},
	}
	port := 1
	for name, m := range requests {
		for _, kind := range []wire.Type{wire.CON, wire.NON} {
			port++
			in, out := 0, 0
			for i := range 5 {
				m.Type, m.ID = kind, uint16(i/2) // duplicates too
				b := wire.Append(nil, m)
				in += len(b)
				n.sent()
				n.packet(port, b)
				n.advance(10 * time.Second)
				for _, p := range n.sent() {
					out += len(p.b)
					if len(p.b) > firstMax {
						t.Errorf("%s: a datagram of %d bytes", name, len(p.b))
					}
				}
				if out > 3*in {
					t.Errorf("%s, %s: %d bytes in answer to %d", name, kind, out, in)
				}
			}
		}
	}
}

// A flood of valid requests from many addresses fills no more than the table; from three quarters on strangers must show that they
// are reachable first, so that the rest is for who does.
func TestPeersAreBounded(t *testing.T) {
	n := newSim(t, func(s *ListenerSpec, _ *[]policy.Policy) { s.Peers = 64 })
	for port := range 2000 {
		n.packet(port+1, wire.Append(nil, &wire.Message{Type: wire.CON, Code: wire.GET, ID: 1, Options: psPath("a")}))
	}
	if got := len(n.gram.peers); got != 48 {
		t.Errorf("%d peers are known after a flood, want three quarters of 64", got)
	}
	e := n.desk.echo.append(nil, from(5000).AddrPort, n.loop.now)
	a := n.ask(5000, &wire.Message{Type: wire.CON, Code: wire.GET, ID: 1, Options: wire.AppendOption(psPath("a"), wire.URIPath, wire.Echo, e)})
	if a.Code != wire.NotFound {
		t.Errorf("who shows that it is reachable gets %s, want 4.04", a.Code)
	}
	for port := 5001; port < 5200; port++ {
		e := n.desk.echo.append(nil, from(port).AddrPort, n.loop.now)
		n.packet(port, wire.Append(nil, &wire.Message{Type: wire.CON, Code: wire.GET, ID: 1, Options: wire.AppendOption(psPath("a"), wire.URIPath, wire.Echo, e)}))
	}
	if got := len(n.gram.peers); got > 64 {
		t.Errorf("%d peers are known, the bound is 64", got)
	}
	n.advance(10 * time.Minute)
	if got := len(n.gram.peers); got != 0 || n.host.Tally.Sessions != 0 {
		t.Errorf("%d peers and %d sessions are left when all are idle", got, n.host.Tally.Sessions)
	}
}

// Datagrams that are no valid request leave nothing behind.
func TestNoStateForStrangers(t *testing.T) {
	n := newSim(t, nil)
	for i := range 10_000 {
		b := make([]byte, i%60)
		for j := range b {
			b[j] = byte(n.desk.chance.Uint32())
		}
		if len(b) > 1 && (b[1]>>5 == 0 && b[1] != 0) {
			b[1] |= 0x40 // not a request
		}
		n.packet(i%60000+1, b)
	}
	if len(n.gram.peers) != 0 || n.host.Tally.Sessions != 0 || len(n.gram.heard.index) != 0 {
		t.Errorf("%d peers, %d sessions, %d message ids are remembered", len(n.gram.peers), n.host.Tally.Sessions, len(n.gram.heard.index))
	}
}

// The table of duplicates is bounded by number and by bytes, in constant time, and says what it forgot early.
func TestDedupIsBounded(t *testing.T) {
	d := newDedup(256, 4096)
	now := int64(1)
	for i := range 10_000 {
		k := exchangeKey{from(i%100 + 1), uint16(i)}
		if _, ok := d.find(k, now); ok {
			t.Fatal("a message id that did not come is known")
		}
		n := d.add(k, now, exchangeLifetime)
		d.answered(n, make([]byte, i%300))
		if got, ok := d.find(k, now); !ok || got != n {
			t.Fatal("a request is forgotten at once")
		}
		if len(d.index) > 256 || d.next-d.first > 256 || d.bytes > 4096+300 {
			t.Fatalf("%d requests, %d bytes", len(d.index), d.bytes)
		}
	}
	if d.early == 0 {
		t.Error("nothing was forgotten early")
	}
	now += int64(exchangeLifetime)
	d.add(exchangeKey{from(1), 1}, now, exchangeLifetime)
	if len(d.index) != 1 || d.bytes != 0 {
		t.Errorf("%d requests and %d bytes are left after their lifetime", len(d.index), d.bytes)
	}
}

// Transfers are bounded: by client, and in total, where the oldest makes room.
func TestTransfersAreBounded(t *testing.T) {
	n := newSim(t, func(s *ListenerSpec, _ *[]policy.Policy) { s.MaxBody, s.TransferBytes = 64<<10, 64<<10 })
	block := wire.Block{More: true, SZX: 6}.Value()
	for i := range 400 {
		n.packet(i/8+1, wire.Append(nil, &wire.Message{Type: wire.CON, Code: wire.PUT, ID: uint16(i), Options: wire.AppendUint(psPath(fmt.Sprint(i)), wire.URIPath, wire.Block1, block), Payload: make([]byte, 1024)}))
		if n.desk.held > 64<<10 {
			t.Fatalf("%d bytes are held", n.desk.held)
		}
	}
	for _, p := range n.gram.peers {
		if len(p.ups) > n.desk.cfg.transfers {
			t.Errorf("a client has %d uploads", len(p.ups))
		}
	}
	n.advance(10 * time.Minute)
	if n.desk.held != 0 || n.desk.upFirst != nil {
		t.Errorf("%d bytes are held when nobody goes on", n.desk.held)
	}
}

// A snapshot for a read in blocks is kept for as long as an exchange may last, also where its client stays.
func TestSnapshotsEnd(t *testing.T) {
	n := newSim(t, nil)
	n.publish("v", string(make([]byte, 5000)), true, event.AtLeastOnce)
	n.packet(1, proof(n.desk.echo, 1, n.loop.now))
	n.packet(1, wire.Append(nil, &wire.Message{Type: wire.CON, Code: wire.GET, ID: 1, Options: psPath("v")}))
	p := n.gram.peers[from(1).AddrPort]
	if n.desk.held != 5000 || len(p.shots) != 1 {
		t.Fatalf("%d bytes and %d snapshots are held", n.desk.held, len(p.shots))
	}
	p.dropTransfers(n.loop.now + int64(exchangeLifetime) - 1)
	if len(p.shots) != 1 {
		t.Error("the snapshot is gone early")
	}
	p.dropTransfers(n.loop.now + int64(exchangeLifetime))
	if n.desk.held != 0 || len(p.shots) != 0 {
		t.Errorf("%d bytes and %d snapshots are held", n.desk.held, len(p.shots))
	}
}

// A read, and an event that is taken at once, allocate nothing.
func TestAllocations(t *testing.T) {
	n := newSim(t, nil)
	n.publish("v", "value", true, event.AtLeastOnce)
	get := wire.Append(nil, &wire.Message{Type: wire.CON, Code: wire.GET, ID: 1, Token: []byte{1}, Options: psPath("v")})
	n.packet(1, get)
	n.gram.peers[from(1).AddrPort].proven = true
	n.gram.send = func(_ loop.PacketAddr, _ []byte) {}
	if a := testing.AllocsPerRun(200, func() { n.gram.Packet(from(1), get) }); a > 0 {
		t.Errorf("a read allocates %.1f times", a)
	}
	id := uint16(10)
	post := &wire.Message{Type: wire.CON, Code: wire.POST, Token: []byte{1}, Options: psPath("nobody"), Payload: []byte("x")}
	var buf []byte
	for range 20_000 { // the table grows to its size
		id++
		post.ID = id
		buf = wire.Append(buf[:0], post)
		n.gram.Packet(from(1), buf)
	}
	if a := testing.AllocsPerRun(200, func() {
		id++
		post.ID = id
		buf = wire.Append(buf[:0], post)
		n.gram.Packet(from(1), buf)
	}); a > 0.1 {
		t.Errorf("an event allocates %.1f times", a)
	}
}
