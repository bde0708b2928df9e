//go:build !linux || portable

package loop

import (
	"hash/maphash"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
)

// canShare: several sockets can be bound to one port.
const canShare = false

// packetBacklog bounds the datagrams that a loop has not handled yet.
const packetBacklog = 4096

// packetSock is the socket of all loops, with its goroutine. Safe for concurrent use.
type packetSock struct{ *sharedSock }

// sharedSock is what the loops' packetSock share. Safe for concurrent use.
type sharedSock struct {
	u       *net.UDPConn
	seed    maphash.Seed
	loops   atomic.Int32 // that take datagrams
	waiting atomic.Int32
}

func controlPackets(_, _ string, _ syscall.RawConn) error { return nil }

func (s *packetSock) init(n *PacketListener, u *net.UDPConn) error {
	_ = u.SetReadBuffer(n.opt.Buffer) // as far as the system allows
	_ = u.SetWriteBuffer(n.opt.Buffer)
	s.sharedSock = &sharedSock{u: u, seed: maphash.MakeSeed()}
	return nil
}

// start begins to read when the last loop has its handler. On the loop.
func (s *packetSock) start(p *Packets) {
	if n := p.ln; int(s.loops.Add(1)) == len(n.packets) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if !n.closed {
			n.g.gate.wg.Go(n.read)
		}
	}
}

// stop is called with the listener's mu held, for each loop.
func (s *packetSock) stop(*Packets) { _ = s.u.Close() }

// read hands datagrams to the loops: those of one peer to one loop.
func (n *PacketListener) read() {
	s := n.packets[0].sock
	buf := make([]byte, n.opt.MaxDatagram+1)
	for {
		k, from, err := s.u.ReadFromUDPAddrPort(buf)
		if err != nil {
			if n.isClosed() {
				return
			}
			continue
		}
		n.received.Add(1)
		switch {
		case k > n.opt.MaxDatagram:
			n.dropped[PacketTooLong].Add(1)
			continue
		case s.waiting.Load() >= packetBacklog:
			n.dropped[PacketBacklog].Add(1)
			continue
		}
		addr := PacketAddr{AddrPort: netip.AddrPortFrom(from.Addr().Unmap(), from.Port())}
		p := n.packets[maphash.Comparable(s.seed, addr)%uint64(len(n.packets))]
		b := append([]byte(nil), buf[:k]...)
		s.waiting.Add(1)
		p.loop.Post(func() {
			s.waiting.Add(-1)
			p.deliver(addr, b)
		})
	}
}

func (n *PacketListener) isClosed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closed
}

// reaches says whether the socket can write to an address at all.
func (s *packetSock) reaches(a netip.Addr) bool { return a.IsValid() }

// flush sends what is staged.
func (p *Packets) flush() {
	for _, d := range p.staged {
		if _, err := p.sock.u.WriteToUDPAddrPort(p.out[d.begin:d.end], d.to.AddrPort); err != nil {
			p.ln.dropped[PacketUnsent].Add(1)
			continue
		}
		p.ln.sent.Add(1)
	}
}
