package coap

import (
	"strings"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/protocol/coap/wire"
)

// FuzzDatagrams hands sequences of datagrams to a machine: 2 bytes of length, 1 of the peer's port, the datagram; between them
// time passes. Nothing may panic; to a peer that has not shown that it is reachable no more than three times what it sent may go
// (RFC 9175, 2.4), and what is held stays within the bounds.
func FuzzDatagrams(f *testing.F) {
	frame := func(port byte, bs ...[]byte) (out []byte) {
		for _, b := range bs {
			out = append(out, byte(len(b)>>8), byte(len(b)), port)
			out = append(out, b...)
		}
		return out
	}
	path := wire.AppendOption(wire.AppendOption(nil, 0, wire.URIPath, []byte("ps")), wire.URIPath, wire.URIPath, []byte("a"))
	get := wire.Append(nil, &wire.Message{Code: wire.GET, ID: 1, Token: []byte{1}, Options: path})
	put := wire.Append(nil, &wire.Message{Code: wire.PUT, ID: 2, Token: []byte{1}, Options: path, Payload: []byte("v")})
	up := wire.Append(nil, &wire.Message{Code: wire.PUT, ID: 3, Options: wire.AppendUint(path, wire.URIPath, wire.Block1, 8), Payload: make([]byte, 16)})
	obs := wire.AppendOption(wire.AppendOption(wire.AppendOption(nil, 0, wire.Observe, nil), wire.Observe, wire.URIPath, []byte("ps")), wire.URIPath, wire.URIPath, []byte("a"))
	watch := wire.Append(nil, &wire.Message{Code: wire.GET, ID: 4, Token: []byte{9}, Options: obs})
	f.Add(frame(1, get, put, get, up, watch))
	f.Add(frame(2, watch, wire.AppendEmpty(nil, wire.CON, 7), wire.AppendEmpty(nil, wire.RST, 7)))
	for _, script := range scripts(f) { // what the scripts send, one after the other
		var all []byte
		for _, l := range strings.Split(script, "\n") {
			port, what, ok := strings.Cut(l, "> ")
			d, wait := strings.CutPrefix(l, "wait ")
			switch {
			case strings.HasPrefix(l, "prove "):
				all = append(all, frame(1, proof(&echoKey{1}, 1, simStart))...)
			case wait:
				if d, err := time.ParseDuration(d); err == nil && d >= time.Second {
					all = append(all, frame(255, make([]byte, d/time.Second))...)
				}
			case ok && len(port) < 4 && !strings.Contains(what, "$"):
				all = append(all, frame(byte(num(f, port)), parse(f, what))...)
			}
		}
		f.Add(all)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n := newSim(t, func(s *ListenerSpec, _ *[]policy.Policy) {
			s.Peers, s.Duplicates, s.MaxBody, s.TransferBytes = 16, 1024, 1024, 4096
		})
		in, out := map[uint16]int{}, map[uint16]int{}
		for len(data) > 3 {
			size, port := min(int(data[0])<<8|int(data[1]), len(data)-3), data[2]
			b := data[3 : 3+size]
			data = data[3+size:]
			if port == 255 {
				n.advance(time.Duration(size) * time.Second)
			} else {
				in[uint16(port)] += len(b)
				n.packet(int(port), b)
			}
			for _, p := range n.sent() {
				out[p.peer.Port()] += len(p.b)
			}
		}
		for port, sent := range out {
			if p := n.gram.peers[from(int(port)).AddrPort]; p != nil && p.proven {
				continue
			}
			if sent > 3*in[port] {
				t.Fatalf("%d bytes to a peer that sent %d", sent, in[port])
			}
		}
		if n := len(n.gram.peers); n > 16 {
			t.Fatalf("%d peers", n)
		}
		if n.desk.held < 0 || n.desk.held > n.desk.cfg.transferBytes {
			t.Fatalf("%d bytes of transfers are held", n.desk.held)
		}
	})
}
