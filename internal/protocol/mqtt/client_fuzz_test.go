package mqtt

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// FuzzClient feeds what a server might send to a client with exchanges under way: it never panics, ends when the server
// closes, and every done function is called exactly once.
func FuzzClient(f *testing.F) {
	f.Add(byte(5), []byte{0x40, 2, 0, 1, 0x50, 2, 0, 2, 0x70, 2, 0, 2})
	f.Add(byte(4), []byte{0x34, 6, 0, 1, 't', 0, 7, 'x', 0x62, 2, 0, 7, 0xd0, 0})
	f.Add(byte(5), []byte{0x90, 4, 0, 3, 0, 0, 0xe0, 2, 0x8e, 0})
	f.Fuzz(func(t *testing.T, v byte, b []byte) {
		o := ClientOptions{URL: "mqtt://h", Version: wire.V31 + wire.Version(v%3), Clean: true, KeepAlive: -1, MaxPacket: 4096,
			OnPublish: func(p *wire.Publish, ack func(bool)) { ack(len(p.Payload)%2 == 0) }}
		here, there := net.Pipe()
		o.DialContext = func(context.Context, string, string) (net.Conn, error) { return here, nil }
		read := make(chan struct{})
		go func() { // ends with the connection, which the test waits for
			defer close(read)
			buf := make([]byte, 4096)
			if _, err := there.Read(buf); err != nil {
				return
			}
			if _, err := there.Write(wire.AppendConnack(nil, o.Version, false, wire.Success, nil)); err != nil {
				return
			}
			for {
				if _, err := there.Read(buf); err != nil {
					return
				}
			}
		}()
		c, err := Dial(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		c.session.mu.Lock()
		c.session.nextID = 0
		c.session.mu.Unlock()
		said := make(chan struct{}, 10)
		for qos := range byte(3) {
			c.Publish(testEvent("t", "x"), qos, false, nil, func(wire.Reason, error) { said <- struct{}{} })
		}
		_ = there.SetWriteDeadline(time.Now().Add(5 * time.Second))
		_, _ = there.Write(b)
		there.Close()
		select {
		case <-c.Done():
		case <-time.After(10 * time.Second):
			t.Fatal("the client does not end")
		}
		<-read
		if len(said) != 3 {
			t.Fatalf("%d done functions called, want 3", len(said))
		}
	})
}
