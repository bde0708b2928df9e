package coap

import (
	"strings"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/protocol/coap/wire"
	"github.com/windrose-edc/windrose/internal/session"
)

// Ports that stand for something else than a datagram.
const (
	fuzzWait    = 255 - iota // as many seconds as there are bytes
	fuzzPublish              // by another client: "TOPIC PAYLOAD"
	fuzzRetain
	fuzzHold   // events of routes get no outcome
	fuzzSettle // now they do; the length says which
	fuzzEnd    // the node ends all peers
	fuzzAck    // of the last datagram
	fuzzReset
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
			word, rest, _ := strings.Cut(l, " ")
			control, is := map[string]byte{"pub": fuzzPublish, "pub0": fuzzPublish, "retain": fuzzRetain, "hold": fuzzHold, "settle": fuzzSettle, "end": fuzzEnd}[word]
			switch {
			case word == "prove":
				all = append(all, frame(1, proof(&echoKey{1}, 1, simStart))...)
			case word == "wait":
				if d, err := time.ParseDuration(rest); err == nil {
					all = append(all, frame(fuzzWait, make([]byte, (d+time.Second-1)/time.Second))...)
				}
			case is:
				all = append(all, frame(control, []byte(rest))...)
			case ok && len(port) < 4 && strings.HasPrefix(what, "ACK"):
				all = append(all, frame(fuzzAck, nil)...)
			case ok && len(port) < 4 && strings.HasPrefix(what, "RST"):
				all = append(all, frame(fuzzReset, nil)...)
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
		in, out, last, proven := map[uint16]int{}, map[uint16]int{}, uint16(0), map[uint16]bool{}
		for len(data) > 3 {
			size, port := min(int(data[0])<<8|int(data[1]), len(data)-3), data[2]
			b := data[3 : 3+size]
			data = data[3+size:]
			topic, payload, _ := strings.Cut(string(b), " ")
			switch port {
			case fuzzWait:
				n.advance(time.Duration(min(size, 600)) * time.Second)
			case fuzzPublish, fuzzRetain:
				if event.ValidTopic([]byte(topic)) {
					n.publish(topic, strings.Repeat(payload, 1+size%8), port == fuzzRetain, event.AtLeastOnce)
				}
			case fuzzHold:
				n.took.hold = true
			case fuzzSettle:
				for _, k := range n.took.tickets {
					k.Settle(event.Outcome(size) % event.NumOutcomes)
				}
				n.took.tickets, n.took.hold = nil, false
				n.run()
			case fuzzEnd:
				n.gram.close(session.Shutdown)
				n.run()
			case fuzzAck, fuzzReset:
				kind := wire.ACK
				if port == fuzzReset {
					kind = wire.RST
				}
				in[1] += 4
				n.packet(1, wire.AppendEmpty(nil, kind, last))
			default:
				in[uint16(port)] += len(b)
				n.packet(int(port), b)
			}
			for a, p := range n.gram.peers {
				proven[a.Port()] = proven[a.Port()] || p.proven
			}
			for _, p := range n.sent() {
				out[p.peer.Port()] += len(p.b)
				last = uint16(p.b[2])<<8 | uint16(p.b[3])
			}
		}
		for port, sent := range out {
			if !proven[port] && sent > 3*in[port] {
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
