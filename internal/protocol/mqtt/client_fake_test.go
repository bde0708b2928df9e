package mqtt

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// clientPeer is the server's end of a pipe, driven by a test. Owned by the test's goroutine.
type clientPeer struct {
	t    *testing.T
	conn net.Conn
	v    wire.Version
	dec  wire.Decoder
	buf  []byte
	used int
}

// next reads the next packet of the client; kind 0 says that it closed the connection.
func (p *clientPeer) next() (k wire.Kind, first byte, body []byte) {
	p.t.Helper()
	p.buf = p.buf[p.used:]
	p.used = 0
	for {
		first, body, n, err := wire.Next(p.buf, 0)
		if err != nil {
			p.t.Fatalf("client sent %x: %v", p.buf, err)
		}
		if n > 0 {
			p.used = n
			if err := wire.CheckFlagsOf(p.v, first); err != nil {
				p.t.Fatalf("client sent %x: %v", p.buf[:n], err)
			}
			return wire.KindOf(first), first, body
		}
		b := make([]byte, 4096)
		_ = p.conn.SetReadDeadline(time.Now().Add(time.Hour))
		got, err := p.conn.Read(b)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
				p.t.Fatalf("read from client: %v", err)
			}
			return 0, 0, nil
		}
		p.buf = append(slices.Clone(p.buf), b[:got]...)
	}
}

// want reads the next packet and fails unless it is of kind k.
func (p *clientPeer) want(k wire.Kind) (first byte, body []byte) {
	p.t.Helper()
	got, first, body := p.next()
	if got != k {
		p.t.Fatalf("client sent %v %x, want %v", got, body, k)
	}
	return first, body
}

// quiet fails if the client sends anything within d.
func (p *clientPeer) quiet(d time.Duration) {
	p.t.Helper()
	if len(p.buf) > p.used {
		p.t.Fatalf("client sent %x, want nothing", p.buf[p.used:])
	}
	b := make([]byte, 100)
	_ = p.conn.SetReadDeadline(time.Now().Add(d))
	if n, err := p.conn.Read(b); err == nil {
		p.t.Fatalf("client sent %x, want nothing", b[:n])
	}
}

func (p *clientPeer) send(b []byte) {
	p.t.Helper()
	_ = p.conn.SetWriteDeadline(time.Now().Add(time.Hour))
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatalf("write to client: %v", err)
	}
}

func (p *clientPeer) publish() (pub wire.Publish) {
	p.t.Helper()
	first, body := p.want(wire.PUBLISH)
	if err := p.dec.Publish(p.v, first, body, &pub); err != nil {
		p.t.Fatalf("PUBLISH of the client: %v", err)
	}
	return pub
}

func (p *clientPeer) ack(k wire.Kind) (a wire.Ack) {
	p.t.Helper()
	_, body := p.want(k)
	if err := p.dec.Ack(p.v, k, body, &a); err != nil {
		p.t.Fatalf("%v of the client: %v", k, err)
	}
	return a
}

func (p *clientPeer) sendAck(k wire.Kind, id uint16, r wire.Reason) {
	p.t.Helper()
	p.send(wire.AppendAck(nil, p.v, k, id, r, ""))
}

func (p *clientPeer) sendPublish(id uint16, qos byte, dup bool, topic string) {
	p.t.Helper()
	p.send(wire.AppendPublish(nil, &wire.PublishOut{Version: p.v, Topic: []byte(topic), Payload: []byte("x"), PacketID: id, QoS: qos, Dup: dup}))
}

func (p *clientPeer) disconnect(want wire.Reason) {
	p.t.Helper()
	_, body := p.want(wire.DISCONNECT)
	var d wire.Disconnect
	if err := p.dec.Disconnect(p.v, body, &d); err != nil || d.Reason != want {
		p.t.Fatalf("DISCONNECT with %v, %v, want %v", d.Reason, err, want)
	}
	p.conn.Close()
}

// clientPipe dials a client to a peer that answers CONNECT with connack. The client is closed when the test ends.
func clientPipe(t *testing.T, o ClientOptions, connack []byte) (*Client, *clientPeer) {
	t.Helper()
	here, there := net.Pipe()
	if o.Version == 0 {
		o.Version = wire.V5
	}
	o.URL = "mqtt://broker.test"
	o.DialContext = func(context.Context, string, string) (net.Conn, error) { return here, nil }
	p := &clientPeer{t: t, conn: there, v: o.Version}
	var wg sync.WaitGroup
	wg.Go(func() {
		p.want(wire.CONNECT)
		p.send(connack)
	})
	c, err := Dial(t.Context(), o)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Abort()
		there.Close()
		<-c.Done()
	})
	return c, p
}

func welcome(v wire.Version, present bool, p *wire.ConnackProps) []byte {
	return wire.AppendConnack(nil, v, present, wire.Success, p)
}

// bubble runs f with virtual time; goroutines that are left when it ends fail the test.
func bubble(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }

func testEvent(topic, payload string) *event.Kept {
	ev := event.Event{Topic: []byte(topic), Payload: []byte(payload)}
	return ev.Keep()
}

// dones collects what done functions are told. Safe for concurrent use: guarded by mu.
type dones struct {
	mu   sync.Mutex
	said map[string][]error
	code map[string]wire.Reason
}

func (d *dones) of(name string) func(wire.Reason, error) {
	return func(r wire.Reason, err error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.said == nil {
			d.said, d.code = make(map[string][]error), make(map[string]wire.Reason)
		}
		d.said[name] = append(d.said[name], err)
		d.code[name] = r
	}
}

// waiting fails if name was answered.
func (d *dones) waiting(t *testing.T, name string) {
	t.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.said[name]) != 0 {
		t.Errorf("%s is answered already: %v", name, d.said[name])
	}
}

// once fails unless name was answered exactly once, with that reason and an error that is or is not want.
func (d *dones) once(t *testing.T, name string, r wire.Reason, want error) {
	t.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.said[name]) != 1 {
		t.Fatalf("%s answered %d times: %v", name, len(d.said[name]), d.said[name])
	}
	if d.code[name] != r || !errors.Is(d.said[name][0], want) || want == nil && d.said[name][0] != nil {
		t.Errorf("%s answered with %v, %v; want %v, %v", name, d.code[name], d.said[name][0], r, want)
	}
}
