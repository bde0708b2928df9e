package mqtt

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// recorder keeps the packets with an identifier of all connections of one client, as they were on the wire. Safe for
// concurrent use: guarded by mu.
type recorder struct {
	version wire.Version

	mu      sync.Mutex
	conns   int
	packets []recorded
}

// recorded is one packet. Immutable.
type recorded struct {
	conn    int
	out     bool // from the client
	kind    wire.Kind
	id      uint16
	qos     byte
	dup     bool
	payload string
}

// String is one line.
func (p recorded) String() string {
	way := "<-"
	if p.out {
		way = "->"
	}
	s := fmt.Sprintf("connection %d %s %v %d", p.conn, way, p.kind, p.id)
	if p.kind == wire.PUBLISH {
		s += fmt.Sprintf(" qos %d dup %v %q", p.qos, p.dup, p.payload)
	}
	return s
}

// dial is for ClientOptions.DialContext.
func (r *recorder) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns++
	return &recordedConn{Conn: conn, r: r, n: r.conns}, nil
}

// recordedConn is a connection that is written down. in is the reader's, out the writer's.
type recordedConn struct {
	net.Conn
	r       *recorder
	n       int
	in, out []byte
}

func (c *recordedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.in = c.r.note(c.n, false, append(c.in, b[:n]...))
	return n, err
}

// Write counts as sent what the kernel took, which may be less than what arrives.
func (c *recordedConn) Write(b []byte) (int, error) {
	c.out = c.r.note(c.n, true, append(c.out, b...))
	return c.Conn.Write(b)
}

// note takes the whole packets off b and returns the rest.
func (r *recorder) note(conn int, out bool, b []byte) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		first, body, n, err := wire.Next(b, wire.MaxPacket)
		if err != nil || n == 0 {
			return b
		}
		p := recorded{conn: conn, out: out, kind: wire.KindOf(first)}
		switch p.kind {
		case wire.PUBLISH:
			p.qos, p.dup = first>>1&3, first&8 != 0
			rest := body[2+binary.BigEndian.Uint16(body):]
			if p.qos > 0 {
				p.id, rest = binary.BigEndian.Uint16(rest), rest[2:]
			}
			if r.version == wire.V5 {
				rest = rest[1+rest[0]:] // properties shorter than 128 bytes
			}
			p.payload = string(rest)
		case wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP:
			p.id = binary.BigEndian.Uint16(body)
		}
		r.packets = append(r.packets, p)
		b = b[n:]
	}
}

// recordedExchange is an own publish under way.
type recordedExchange struct {
	payload string
	conn    int // that it was sent on last
	taken   bool
}

// check follows section 4.3: an event is published in one exchange; PUBLISH is sent once in each connection, with DUP from
// the second on, and never when PUBREC has come; PUBREL is sent only then; an identifier that is in use means one event.
// It returns the exchanges in which the server sent each QoS 2 event, and those events that it began anew, with DUP and
// the same identifier, after it had sent their PUBREL, which [MQTT-4.3.3-6] forbids.
func (r *recorder) check(t *testing.T) (given map[string]int, anew map[string]bool) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	own, begun := map[uint16]*recordedExchange{}, map[string]bool{}
	in, over := map[uint16]string{}, map[uint16]string{}
	given, anew = map[string]int{}, map[string]bool{}
	for _, p := range r.packets {
		x := own[p.id]
		switch {
		case p.kind == wire.PUBLISH && p.out && x == nil:
			if begun[p.payload] || p.dup {
				t.Errorf("%v: not a first exchange", p)
			}
			begun[p.payload] = true
			own[p.id] = &recordedExchange{payload: p.payload, conn: p.conn}
		case p.kind == wire.PUBLISH && p.out:
			if x.payload != p.payload || x.taken || x.conn == p.conn || !p.dup {
				t.Errorf("%v: while the exchange is %+v", p, *x)
			}
			x.conn = p.conn
		case p.kind == wire.PUBREL && p.out:
			if x == nil || !x.taken {
				t.Errorf("%v: before PUBREC", p)
			}
		case p.kind == wire.PUBREC && !p.out:
			if x != nil {
				x.taken = true
			}
		case (p.kind == wire.PUBACK || p.kind == wire.PUBCOMP) && !p.out:
			delete(own, p.id)
		case p.kind == wire.PUBLISH && p.qos == 2:
			switch old, open := in[p.id]; {
			case open && old != p.payload:
				t.Errorf("%v: while the server's exchange is %q", p, old)
			case !open:
				given[p.payload]++
				in[p.id] = p.payload
				if p.dup && over[p.id] == p.payload {
					anew[p.payload] = true
				}
			}
		case p.kind == wire.PUBREL:
			if old, open := in[p.id]; open {
				over[p.id] = old
				delete(in, p.id)
			}
		}
	}
	return given, anew
}
