package app

import (
	"fmt"
	"net"

	"github.com/windrose-edc/windrose/internal/listen"
	"github.com/windrose-edc/windrose/internal/loop"
)

// socket is what a listener has open: a listen.Listener of connections, or datagrams.
type socket interface {
	Addr() net.Addr
	Start()
	Close()
	CloseConns(err error)
	Open() int64
	Accepted() int64
	Refused() map[string]int64
}

// packetEnd is the protocol end of a listener of datagrams.
type packetEnd interface {
	Packets(p *loop.Packets) loop.PacketHandler
	Peers() int64
	Stop() // ends what is known of every peer
}

// datagrams is an open listener of datagrams. Safe for concurrent use, but for start and taken, which belong to the goroutine
// that reloads.
type datagrams struct {
	*loop.PacketListener
	end   packetEnd
	start func()
	taken bool // the socket goes on in another listener
}

// openPackets takes the address of a listener of datagrams. Who writes before Start is answered too: there is nothing to lose
// by it, for the graph in force is complete by then or is discarded with the socket.
func (g *graph) openPackets(l *listener) (socket, error) {
	pl, err := g.group.ListenPackets(l.spec.Bind, loop.PacketOptions{Name: l.name}, l.packets.Packets)
	if err != nil {
		return nil, fmt.Errorf("datagrams: %w", listen.Explain(l.name, &l.spec, err))
	}
	return &datagrams{PacketListener: pl, end: l.packets}, nil
}

// takeOverPackets gives the socket of a listener to another, at its Start.
func takeOverPackets(l, from *listener) socket {
	old := from.socket.(*datagrams)
	return &datagrams{PacketListener: old.PacketListener, end: l.packets, start: func() {
		old.taken = true
		old.end.Stop()
		old.Replace(l.packets.Packets)
	}}
}

// Start implements socket.
func (d *datagrams) Start() {
	if d.start != nil {
		d.start()
		d.start = nil
	}
}

// Close implements socket. A listener that did not come to take over its socket leaves it to who has it.
func (d *datagrams) Close() {
	if d.taken || d.start != nil {
		return
	}
	d.end.Stop()
	d.PacketListener.Close()
}

// CloseConns implements socket: Close has ended everybody.
func (d *datagrams) CloseConns(error) {}

// Open implements socket.
func (d *datagrams) Open() int64 { return d.end.Peers() }

// Accepted implements socket.
func (d *datagrams) Accepted() int64 { return d.Received() }

// Refused implements socket.
func (d *datagrams) Refused() map[string]int64 {
	m := make(map[string]int64, loop.NumPacketDrops)
	for r := range loop.NumPacketDrops {
		if n := d.Dropped(r); n > 0 {
			m[r.String()] = n
		}
	}
	return m
}
