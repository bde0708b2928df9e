package loop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// PacketAddr is a peer of a socket for datagrams: where it writes from, and the address of ours that it wrote to, from which
// the answer must come. Local is the zero Addr where the socket is bound to one address. Comparable.
type PacketAddr struct {
	netip.AddrPort
	Local netip.Addr
}

// PacketHandler takes the datagrams of one loop's socket.
type PacketHandler interface {
	// Packet is called on the socket's loop for each datagram; b is valid during the call. If it panics, that datagram is
	// lost and counted, and the next is handled.
	Packet(from PacketAddr, b []byte)
}

// PacketOptions say how datagrams are received. Immutable after ListenPackets.
type PacketOptions struct {
	Name        string // for logs
	MaxDatagram int    // bytes; longer datagrams are dropped and counted; 2,048
	Buffer      int    // bytes the kernel may hold for each socket and direction, as far as it allows; 4 MiB
}

// PacketDrop is why a datagram was dropped.
type PacketDrop uint8

// The reasons.
const (
	PacketTooLong    PacketDrop = iota // received: longer than PacketOptions.MaxDatagram
	PacketUnsent                       // to be sent: the kernel refused it, or its buffer was full
	PacketOutputFull                   // to be sent: too much in one turn
	PacketBacklog                      // received: the loop is behind (where goroutines read; on Linux the kernel's buffer says when)
	NumPacketDrops
)

// String is the reason as metrics say it.
func (d PacketDrop) String() string {
	return [...]string{"too_long", "unsent", "output_full", "backlog"}[d]
}

// maxStaged bounds what one socket sends in a turn, in bytes.
const maxStaged = 4 << 20

// PacketListener is an address for datagrams, with one socket on each loop: the kernel spreads the peers over them by their
// addresses. Safe for concurrent use.
type PacketListener struct {
	g       *Group
	opt     PacketOptions
	addr    net.Addr
	packets []*Packets

	received, sent atomic.Int64
	dropped        [NumPacketDrops]atomic.Int64

	mu     sync.Mutex // guards closed and the end of the sockets
	closed bool
}

// Packets is the socket of a PacketListener on one loop. Owned by its loop.
type Packets struct {
	ln   *PacketListener
	loop *Loop
	h    PacketHandler
	sock packetSock

	staged []stagedPacket
	out    []byte // what staged points into
	dirty  bool   // in Loop.packets
}

// stagedPacket is a datagram that is sent at the end of the turn.
type stagedPacket struct {
	to         PacketAddr
	begin, end int
}

// ListenPackets binds addr (host:port) for datagrams. open makes the handler of a loop's socket, on that loop, before its
// first datagram. With port 0 all sockets get the port that the first one was given.
func (g *Group) ListenPackets(addr string, o PacketOptions, open func(*Packets) PacketHandler) (*PacketListener, error) {
	if o.MaxDatagram <= 0 {
		o.MaxDatagram = 2048
	}
	if o.Buffer <= 0 {
		o.Buffer = 4 << 20
	}
	n := &PacketListener{g: g, opt: o}
	if err := n.bind(addr); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	if !g.add(n) {
		n.Close()
		return nil, fmt.Errorf("listen on %s: %w", addr, ErrStopped)
	}
	for _, p := range n.packets {
		p.loop.Post(func() {
			if p.h = open(p); p.h != nil {
				p.sock.start(p)
			}
		})
	}
	return n, nil
}

// bind opens a socket for each loop, or one for all where the system cannot share a port.
func (n *PacketListener) bind(addr string) error {
	for _, l := range n.g.loops {
		p := &Packets{ln: n, loop: l}
		if len(n.packets) > 0 && !canShare {
			p.sock = n.packets[0].sock
			n.packets = append(n.packets, p)
			continue
		}
		c := net.ListenConfig{Control: controlPackets}
		pc, err := c.ListenPacket(context.Background(), "udp", addr)
		if err != nil {
			n.Close()
			return err
		}
		u, ok := pc.(*net.UDPConn)
		if !ok {
			n.Close()
			return errors.Join(fmt.Errorf("a socket of type %T", pc), pc.Close())
		}
		if n.addr == nil {
			n.addr = u.LocalAddr()
			addr = n.addr.String()
		}
		if err := p.sock.init(n, u); err != nil {
			n.Close()
			return err
		}
		n.packets = append(n.packets, p)
	}
	return nil
}

// Addr is the address bound.
func (n *PacketListener) Addr() net.Addr { return n.addr }

// Received is the number of datagrams that came so far.
func (n *PacketListener) Received() int64 { return n.received.Load() }

// Sent is the number of datagrams that the kernel took so far.
func (n *PacketListener) Sent() int64 { return n.sent.Load() }

// Dropped is the number of datagrams that were dropped for this reason.
func (n *PacketListener) Dropped(d PacketDrop) int64 { return n.dropped[d].Load() }

// Close ends receiving and sending; the address is free when it returns.
func (n *PacketListener) Close() {
	n.g.remove(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	n.closed = true
	for _, p := range n.packets {
		p.sock.stop(p)
	}
}

// Replace has another handler take what comes from now on, on each loop; the socket and what the kernel holds for it stay.
func (n *PacketListener) Replace(open func(*Packets) PacketHandler) {
	for _, p := range n.packets {
		p.loop.Post(func() {
			if h := open(p); h != nil {
				p.h = h
			}
		})
	}
}

// Loop is the loop that owns the socket.
func (p *Packets) Loop() *Loop { return p.loop }

// Send sends a copy of b at the end of the turn. Datagrams may be lost: by the network, or here, counted. On the loop only.
func (p *Packets) Send(to PacketAddr, b []byte) {
	switch {
	case len(p.out)+len(b) > maxStaged:
		p.ln.dropped[PacketOutputFull].Add(1)
		return
	case !p.sock.reaches(to.Addr()):
		p.ln.dropped[PacketUnsent].Add(1)
		return
	}
	if !p.dirty {
		p.dirty = true
		p.loop.packets = append(p.loop.packets, p)
	}
	begin := len(p.out)
	p.out = append(p.out, b...)
	p.staged = append(p.staged, stagedPacket{to: to, begin: begin, end: len(p.out)})
}

// keepStaged is how much memory for output a socket keeps between turns, in bytes.
const keepStaged = 256 << 10

// flushPackets sends the datagrams of the turn.
func (l *Loop) flushPackets() {
	for i, p := range l.packets {
		l.packets[i] = nil
		p.dirty = false
		p.flush()
		p.staged, p.out = p.staged[:0], p.out[:0]
		if cap(p.out) > keepStaged {
			p.staged, p.out = nil, nil
		}
	}
	l.packets = l.packets[:0]
}

// deliver hands one datagram to the handler.
func (p *Packets) deliver(from PacketAddr, b []byte) {
	defer p.loop.survive("packet handler")
	p.h.Packet(from, b)
}
