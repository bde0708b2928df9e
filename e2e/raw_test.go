package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	bin "encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The packet types that these tests name (MQTT 5, 2.1.2).
const (
	connackKind    = 2
	publishKind    = 3
	pubackKind     = 4
	subackKind     = 9
	pingrespKind   = 13
	disconnectKind = 14
)

// hello is what a raw client says of itself. Immutable.
type hello struct {
	id      string
	v       byte // 4 or 5; 0: 5
	keep    bool // the session outlives the connection
	user    string
	pass    string
	receive uint16      // Receive Maximum (MQTT 5); 0: none said
	rcvbuf  int         // SO_RCVBUF; 0: the system's
	tls     *tls.Config // nil: plain text
}

// raw is an MQTT client that sends and reads exactly what the test says, so it can be as slow and as rude as a test
// needs. One goroutine reads; any may write: guarded by mu.
type raw struct {
	t  testing.TB
	c  net.Conn
	r  *bufio.Reader
	v  byte
	mu sync.Mutex // guards writing
}

// packet is one packet as it came. Immutable.
type packet struct {
	first byte
	body  []byte
}

func (p packet) kind() int { return int(p.first >> 4) }

// open connects a TCP or TLS client and sends CONNECT; it reads nothing.
func open(t testing.TB, port string, h hello) *raw {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	if h.rcvbuf > 0 {
		d.Control = func(_, _ string, rc syscall.RawConn) error {
			var set error
			err := rc.Control(func(fd uintptr) {
				set = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, h.rcvbuf)
			})
			return errors.Join(err, set)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	nc, err := d.DialContext(ctx, "tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	c := &raw{t: t, c: nc, v: h.v}
	if c.v == 0 {
		c.v = 5
	}
	if h.tls != nil {
		c.c = tls.Client(nc, h.tls)
	}
	c.r = bufio.NewReaderSize(c.c, 4096)
	t.Cleanup(func() { c.c.Close() })
	c.must(c.send(appendConnect(nil, c.v, h)))
	return c
}

// connect is open and a CONNACK that says success; present is its session flag.
func connect(t testing.TB, port string, h hello) (c *raw, present bool) {
	t.Helper()
	c = open(t, port, h)
	p := c.expect(connackKind)
	if p.body[1] != 0 {
		t.Fatalf("CONNACK of %q: %#x", h.id, p.body[1])
	}
	return c, p.body[0] == 1
}

func client(t testing.TB, port string, h hello) *raw {
	t.Helper()
	c, _ := connect(t, port, h)
	return c
}

func (c *raw) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// send writes bytes; any goroutine may.
func (c *raw) send(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.c.Write(b)
	return err
}

// read returns the next packet; the error at the deadline is a timeout.
func (c *raw) read(wait time.Duration) (packet, error) {
	if err := c.c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return packet{}, err
	}
	first, err := c.r.ReadByte()
	if err != nil {
		return packet{}, err
	}
	n, err := bin.ReadUvarint(c.r) // the same encoding as MQTT's
	if err != nil {
		return packet{}, err
	}
	if n > 1<<28 {
		return packet{}, fmt.Errorf("a packet of %d bytes", n)
	}
	body := make([]byte, n)
	if _, err = io.ReadFull(c.r, body); err != nil {
		return packet{}, err
	}
	return packet{first, body}, nil
}

// expect reads packets until one of that kind comes; nothing else may come before.
func (c *raw) expect(kind int) packet {
	c.t.Helper()
	p, err := c.read(patience)
	if err != nil {
		c.t.Fatalf("waiting for packet type %d: %v", kind, err)
	}
	if p.kind() != kind || kind == connackKind && len(p.body) < 2 {
		c.t.Fatalf("packet %#x % x, want type %d", p.first, p.body[:min(len(p.body), 64)], kind)
	}
	return p
}

// silent checks that nothing arrives for a while and that the connection stays.
func (c *raw) silent(wait time.Duration) {
	c.t.Helper()
	p, err := c.read(wait)
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		c.t.Fatalf("packet %#x % x, error %v; want silence", p.first, p.body, err)
	}
}

// ended reads to the end of the connection and returns what came before.
func (c *raw) ended() (before []packet) {
	c.t.Helper()
	for {
		p, err := c.read(patience)
		var ne net.Error
		switch {
		case errors.As(err, &ne) && ne.Timeout():
			c.t.Fatalf("the connection is not closed; %d packets came", len(before))
		case err != nil:
			return before
		}
		before = append(before, p)
	}
}

// ping sends PINGREQ and expects the answer.
func (c *raw) ping() {
	c.t.Helper()
	c.must(c.send(pingreq))
	c.expect(pingrespKind)
}

// subscribe returns the reason code of SUBACK.
func (c *raw) subscribe(filter string, qos byte) byte {
	c.t.Helper()
	c.must(c.send(appendSubscribe(nil, c.v, 1, filter, qos)))
	p := c.expect(subackKind)
	return p.body[len(p.body)-1]
}

// publish sends a PUBLISH of QoS 0 where id is 0, else of QoS 1.
func (c *raw) publish(topic string, payload []byte, id uint16) {
	c.t.Helper()
	c.must(c.send(appendPublish(nil, c.v, topic, payload, id)))
}

// puback waits for the acknowledgement of an id and returns its reason.
func (c *raw) puback(id uint16) (reason byte, text string) {
	c.t.Helper()
	p := c.expect(pubackKind)
	got, reason, text := acked(p)
	if got != id {
		c.t.Fatalf("PUBACK of %d, want %d", got, id)
	}
	return reason, text
}

// disconnect says goodbye and closes.
func (c *raw) disconnect() {
	c.must(c.send(goodbye))
	c.c.Close()
}

// acked takes a PUBACK apart (MQTT 5, 3.4); text is the reason string.
func acked(p packet) (id uint16, reason byte, text string) {
	id = bin.BigEndian.Uint16(p.body)
	if len(p.body) > 2 {
		reason = p.body[2]
	}
	if len(p.body) > 6 && p.body[4] == 0x1f {
		text = string(p.body[7:])
	}
	return id, reason, text
}

// message takes a PUBLISH apart.
func (c *raw) message(p packet) (topic string, payload []byte, qos byte, id uint16) {
	b := p.body
	n := int(bin.BigEndian.Uint16(b))
	topic, b = string(b[2:2+n]), b[2+n:]
	if qos = p.first >> 1 & 3; qos > 0 {
		id, b = bin.BigEndian.Uint16(b), b[2:]
	}
	if c.v == 5 {
		props, k := bin.Uvarint(b)
		b = b[k+int(props):]
	}
	return topic, b, qos, id
}

var (
	pingreq = []byte{0xc0, 0}
	goodbye = []byte{0xe0, 0}
)

func appendText(b []byte, s string) []byte {
	return append(bin.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func appendPacket(b []byte, first byte, body []byte) []byte {
	return append(bin.AppendUvarint(append(b, first), uint64(len(body))), body...)
}

func appendConnect(b []byte, v byte, h hello) []byte {
	body := append(appendText(nil, "MQTT"), v)
	flags := byte(0)
	if !h.keep {
		flags |= 2
	}
	if h.user != "" {
		flags |= 0x80
	}
	if h.pass != "" {
		flags |= 0x40
	}
	body = append(body, flags, 0, 60)
	if v == 5 {
		var props []byte
		if h.keep {
			props = bin.BigEndian.AppendUint32(append(props, 0x11), 600)
		}
		if h.receive > 0 {
			props = bin.BigEndian.AppendUint16(append(props, 0x21), h.receive)
		}
		body = append(bin.AppendUvarint(body, uint64(len(props))), props...)
	}
	body = appendText(body, h.id)
	if h.user != "" {
		body = appendText(body, h.user)
	}
	if h.pass != "" {
		body = appendText(body, h.pass)
	}
	return appendPacket(b, 0x10, body)
}

func appendSubscribe(b []byte, v byte, id uint16, filter string, qos byte) []byte {
	body := bin.BigEndian.AppendUint16(nil, id)
	if v == 5 {
		body = append(body, 0)
	}
	return appendPacket(b, 0x82, append(appendText(body, filter), qos))
}

func appendPublish(b []byte, v byte, topic string, payload []byte, id uint16) []byte {
	body, first := appendText(nil, topic), byte(0x30)
	if id != 0 {
		body, first = bin.BigEndian.AppendUint16(body, id), 0x32
	}
	if v == 5 {
		body = append(body, 0)
	}
	return appendPacket(b, first, append(body, payload...))
}

func appendPuback(b []byte, id uint16) []byte {
	return bin.BigEndian.AppendUint16(append(b, 0x40, 2), id)
}
