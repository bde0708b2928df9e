package dtls

import (
	"net"
	"strings"
	"sync"
	"testing"
)

// relay carries datagrams between one client and the server, like a NAT whose mapping may change.
type relay struct {
	t    *testing.T
	down *net.UDPConn // towards the client
	to   *net.UDPAddr
	// up and back may drop (no result), delay or double datagrams; guarded by mu.
	mu       sync.Mutex
	client   *net.UDPAddr
	upstream *net.UDPConn
	onUp     func(b []byte) [][]byte
	onBack   func(b []byte) [][]byte
	wg       sync.WaitGroup
}

func newRelay(t *testing.T, to *net.UDPAddr) *relay {
	t.Helper()
	r := &relay{t: t, to: to}
	var err error
	if r.down, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	r.rebind()
	r.wg.Go(r.carryUp)
	t.Cleanup(func() {
		_ = r.down.Close()
		r.mu.Lock()
		_ = r.upstream.Close()
		r.mu.Unlock()
		r.wg.Wait()
	})
	return r
}

// rebind has the server see another port from now on; what it sends to the old one is lost.
func (r *relay) rebind() {
	u, err := net.DialUDP("udp", nil, r.to)
	if err != nil {
		r.t.Error(err)
		return
	}
	r.mu.Lock()
	old := r.upstream
	r.upstream = u
	r.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
	r.wg.Go(func() { r.carryBack(u) })
}

func (r *relay) carryUp() {
	b := make([]byte, 4096)
	for {
		n, from, err := r.down.ReadFromUDP(b)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.client = from
		out := [][]byte{append([]byte(nil), b[:n]...)}
		if r.onUp != nil {
			out = r.onUp(out[0])
		}
		for _, d := range out {
			_, _ = r.upstream.Write(d)
		}
		r.mu.Unlock()
	}
}

func (r *relay) carryBack(u *net.UDPConn) {
	b := make([]byte, 4096)
	for {
		n, err := u.Read(b)
		if err != nil {
			return
		}
		r.mu.Lock()
		out := [][]byte{append([]byte(nil), b[:n]...)}
		if r.onBack != nil {
			out = r.onBack(out[0])
		}
		to := r.client
		r.mu.Unlock()
		for _, d := range out {
			_, _ = r.down.WriteToUDP(d, to)
		}
	}
}

// lockedBuffer is what a program wrote. Guarded by mu.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

// Write implements io.Writer.
func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
