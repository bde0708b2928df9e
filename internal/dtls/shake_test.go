package dtls

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
)

// RFC 4279, section 5.1: a wrong key and an unknown identity are the same to a client.
func TestWrongKeyIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, Options{Keys: pump, HandshakeTimeout: time.Second})
	var wg sync.WaitGroup
	for _, id := range []string{"pump-7", "nobody"} {
		wg.Go(func() {
			if _, err := dial(t, s.addr, 3*time.Second, clientOptions(id, []byte("a wrong key of 16"))...); err == nil {
				t.Errorf("%s: a wrong key is taken", id)
			}
		})
	}
	wg.Wait()
	eventually(t, "not counted", func() bool { return s.s.n.refused[refusedTimeout].Value() >= 2 })
	if s.opened.Load() != 0 || s.s.Peers() != 0 {
		t.Error("a peer was made")
	}
	eventually(t, "handshakes stay", func() bool { return s.s.n.halfOpen.Value() == 0 })
}

// RFC 6347, section 4.2.4: flights that are lost, doubled, reordered.
func TestHandshakeOverABadNetwork(t *testing.T) {
	for k := 1; k < 4; k++ {
		t.Run(fmt.Sprint("one of ", k+2, " lost"), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 2, Options{Keys: pump, HandshakeTimeout: 30 * time.Second})
			r := newRelay(t, s.addr)
			bad := func() func(b []byte) [][]byte { // every k+2nd is lost, others are held until the next or come twice
				n := 0
				var late []byte
				return func(b []byte) [][]byte {
					n++
					switch {
					case n > 8:
						return [][]byte{b}
					case n%(k+2) == 0:
						return nil
					case n%3 == 1 && late == nil:
						late = b
						return nil
					}
					out := [][]byte{b, b}
					if late != nil {
						out, late = append(out, late), nil
					}
					return out
				}
			}
			r.mu.Lock()
			r.onUp, r.onBack = bad(), bad()
			r.mu.Unlock()
			c := mustDial(t, r.down.LocalAddr(), clientOptions("pump-7", pump["pump-7"], dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()))...)
			mustAsk(t, c, "hello", "pump-7: hello")
		})
	}
}

// RFC 6347, section 4.2.4: the last flight is lost, so the client repeats its own and gets it again.
func TestLastFlightIsSentAgain(t *testing.T) {
	for _, id := range []bool{false, true} {
		s := newSite(t, 2, Options{Keys: pump})
		r := newRelay(t, s.addr)
		var lost atomic.Int64
		r.mu.Lock()
		r.onBack = func(b []byte) [][]byte {
			if b[0] == typeCCS && lost.Load() < 2 {
				lost.Add(1)
				return nil
			}
			return [][]byte{b}
		}
		r.mu.Unlock()
		var more []dtls.ClientOption
		if id {
			more = append(more, dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()))
		}
		c := mustDial(t, r.down.LocalAddr(), clientOptions("pump-7", pump["pump-7"], more...)...)
		mustAsk(t, c, "hello", "pump-7: hello")
		if lost.Load() != 2 || s.opened.Load() != 1 {
			t.Errorf("%d lost, %d handshakes", lost.Load(), s.opened.Load())
		}
	}
}
