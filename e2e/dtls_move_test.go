package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
)

// hop carries the datagrams of one client, like a NAT that gives it another port when asked. Guarded by mu.
type hop struct {
	mu     sync.Mutex
	down   *net.UDPConn
	up     *net.UDPConn
	client *net.UDPAddr
	to     string
	wg     sync.WaitGroup
}

func newHop(t *testing.T, to string) *hop {
	t.Helper()
	h := &hop{to: to}
	var err error
	if h.down, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	h.rebind(t)
	h.wg.Go(func() {
		b := make([]byte, 4096)
		for {
			n, from, err := h.down.ReadFromUDP(b)
			if err != nil {
				return
			}
			h.mu.Lock()
			h.client = from
			_, _ = h.up.Write(b[:n])
			h.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = h.down.Close()
		h.mu.Lock()
		_ = h.up.Close()
		h.mu.Unlock()
		h.wg.Wait()
	})
	return h
}

// rebind gives the client another port; what comes to the old one is lost.
func (h *hop) rebind(t *testing.T) {
	t.Helper()
	c, err := net.Dial("udp", h.to)
	if err != nil {
		t.Fatal(err)
	}
	u := c.(*net.UDPConn)
	h.mu.Lock()
	old := h.up
	h.up = u
	h.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
	h.wg.Go(func() {
		b := make([]byte, 4096)
		for {
			n, err := u.Read(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // nobody listens there yet
				continue
			}
			h.mu.Lock()
			to := h.client
			h.mu.Unlock()
			_, _ = h.down.WriteToUDP(b[:n], to)
		}
	})
}

// TestCoAPOverDTLSMoves: a device that observes and publishes by CoAP over DTLS with a Connection ID (RFC 9146) changes its port
// three times and goes on, its observation included. The client is pion's, behind a relay: no independent client with RFC 9146
// was at hand.
func TestCoAPOverDTLSMoves(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	dir := t.TempDir()
	w := newWorld(t, dir, build(t))
	t.Cleanup(w.end)
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf(`windrose: v1
node: { name: n1, data: data }
secrets: { keys: { file: %s } }
auth: [ { psk: {} } ]
listeners:
  coaps: { coap: { bind: "127.0.0.1:%s", transport: dtls, psk: { secret: keys } } }
`, filepath.Join(dir, "keys"), port)
	key := []byte("0123456789abcdef")
	for name, text := range map[string]string{"windrose.yaml": conf, "keys": fmt.Sprintf("pump-7:%x\n", key)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := w.start("node", append(os.Environ(), "GORACE=halt_on_error=0 exitcode=66"), dir, filepath.Join(w.bin, "windrose"), "run", "-c", "windrose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p.ours = true
	t.Cleanup(func() {
		if err := p.stop(syscall.SIGTERM, patience); err != nil {
			t.Error(err)
		}
		if err := p.check(); err != nil {
			t.Error(err)
		}
	})

	h := newHop(t, "127.0.0.1:"+port)
	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := dtls.ClientWithOptions(u, h.down.LocalAddr(), dtls.WithPSK(func([]byte) ([]byte, error) { return key, nil }), dtls.WithPSKIdentityHint([]byte("pump-7")),
		dtls.WithCipherSuites(dtls.TLS_PSK_WITH_AES_128_CCM_8), dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		t.Fatal(err)
	}
	const observed, put = 'o', 'p' // tokens
	id := byte(0)
	say := func(b ...byte) {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	// hear reads until a message with that token and payload comes; confirmable ones are acknowledged.
	hear := func(token byte, payload string, again func()) {
		t.Helper()
		b := make([]byte, 2048)
		for end := time.Now().Add(patience); time.Now().Before(end); {
			_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
			n, err := c.Read(b)
			if err != nil {
				again()
				continue
			}
			m := b[:n]
			if n >= 4 && m[0]>>4&3 == 0 {
				say(0x60, 0, m[2], m[3])
			}
			if n >= 5 && m[0]&15 == 1 && m[4] == token && m[1]>>5 == 2 && bytes.HasSuffix(m, []byte(payload)) {
				return
			}
		}
		t.Fatalf("no message with token %c and %q", token, payload)
	}
	publish := func(payload string) {
		id++
		mine := id
		send := func() { say(append([]byte{0x41, 3, 1, mine, put, 0xb2, 'p', 's', 1, 'm', 0xff}, payload...)...) }
		send()
		hear(observed, payload, send)
	}
	observe := func() { say(0x41, 1, 2, 0, observed, 0x60, 0x52, 'p', 's', 1, 'm') }
	say(0x41, 3, 1, 0, put, 0xb2, 'p', 's', 1, 'm', 0xff, 'z')
	hear(put, "", func() { say(0x41, 3, 1, 0, put, 0xb2, 'p', 's', 1, 'm', 0xff, 'z') })
	observe()
	hear(observed, "z", observe)
	for i := range 3 {
		h.rebind(t)
		publish(fmt.Sprintf("port-%d", i))
	}
}
