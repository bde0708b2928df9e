package dtls

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
)

// RFC 9146: a device goes on from other ports; four loops, so that the kernel gives its records to other sockets, too.
func TestConnectionIDMoves(t *testing.T) {
	s := newSite(t, 4, Options{Keys: pump, Node: 0xbeef})
	r := newRelay(t, s.addr)
	c := mustDial(t, r.down.LocalAddr(), clientOptions("pump-7", pump["pump-7"], dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()))...)
	mustAsk(t, c, "first", "pump-7: first")
	for i := range 12 { // 3 for the claim, more so that another loop is hit
		r.rebind()
		mustAsk(t, c, fmt.Sprint("port ", i), fmt.Sprint("pump-7: port ", i))
	}
	if n := s.opened.Load(); n != 1 {
		t.Errorf("%d handshakes", n)
	}
	if n := s.moved.Load(); n != 12 {
		t.Errorf("moved %d times", n)
	}
	if s.s.n.forwarded.Value() == 0 {
		t.Error("no record came to another loop's socket")
	}
	st, ok := c.ConnectionState()
	if !ok {
		t.Fatal("no state")
	}
	b, err := st.MarshalBinary()
	if err != nil || len(b) == 0 {
		t.Fatal(err)
	}
}

// Without Connection ID a device that moves is a stranger: it must shake hands again, and can.
func TestWithoutConnectionIDHandshakesAgain(t *testing.T) {
	t.Parallel()
	for _, off := range []bool{false, true} { // at the client, at the server
		s := newSite(t, 2, Options{Keys: pump, NoCID: off})
		r := newRelay(t, s.addr)
		var more []dtls.ClientOption
		if off {
			more = append(more, dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()))
		}
		c := mustDial(t, r.down.LocalAddr(), clientOptions("pump-7", pump["pump-7"], more...)...)
		mustAsk(t, c, "first", "pump-7: first")
		r.rebind()
		if got, err := ask(c, "second", time.Second); err == nil {
			t.Errorf("an answer from another port: %q", got)
		}
		if s.s.n.dropped[dropUnknown].Value() == 0 {
			t.Error("not counted")
		}
		c = mustDial(t, r.down.LocalAddr(), clientOptions("pump-7", pump["pump-7"], more...)...)
		mustAsk(t, c, "again", "pump-7: again")
		if n := s.moved.Load(); n != 0 {
			t.Errorf("moved %d times", n)
		}
	}
}

// RFC 9146, section 6: only an authentic record that is newer than all before moves a peer, and what is sent to an address that
// is not confirmed is bounded.
func TestOnlyNewerRecordsMove(t *testing.T) {
	s := newSite(t, 2, Options{Keys: pump})
	r := newRelay(t, s.addr)
	c := mustDial(t, r.down.LocalAddr(), clientOptions("pump-7", pump["pump-7"], dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()))...)
	mustAsk(t, c, "first", "pump-7: first")
	var held atomic.Pointer[[]byte]
	r.mu.Lock()
	r.onUp = func(b []byte) [][]byte { held.Store(&b); return nil }
	r.mu.Unlock()
	if _, err := c.Write([]byte("old")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the relay saw nothing", func() bool { return held.Load() != nil })
	old := *held.Load()
	r.mu.Lock()
	r.onUp = nil
	r.mu.Unlock()
	mustAsk(t, c, "newer", "pump-7: newer")

	thief, err := net.DialUDP("udp", nil, s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = thief.Close() }()
	forged := append([]byte(nil), old...)
	forged[len(forged)-1] ^= 1
	count := func() uint64 { return s.s.n.dropped[dropForged].Value() }
	before := count()
	if _, err := thief.Write(forged); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a forged record is not counted", func() bool { return count() > before })
	for range 2 { // authentic, older: taken, but the peer stays; then replayed
		if _, err := thief.Write(old); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a replayed record is not counted", func() bool { return s.s.n.dropped[dropReplayed].Value() > 0 })
	mustAsk(t, c, "still here", "pump-7: still here")
	if n := s.moved.Load(); n != 0 {
		t.Errorf("moved %d times", n)
	}
}
