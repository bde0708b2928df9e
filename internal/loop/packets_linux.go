//go:build linux && !portable

package loop

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// canShare: several sockets can be bound to one port.
const canShare = true

const (
	packetBatch  = 32  // datagrams per system call
	packetCalls  = 8   // system calls per turn and socket
	controlBytes = 128 // for the address that a datagram was sent to
)

// packetSock is a socket's descriptor and what the system calls fill. Owned by its loop, except fd (guarded by the
// listener's mu).
type packetSock struct {
	fd   int
	tag  int32
	six  bool // of the family of IPv6, which carries IPv4 too
	wild bool // bound to no address: where a datagram was sent to matters
	in   *packetVec
	send *packetVec // from the first Send on
}

// mmsghdr is the struct of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// packetVec is memory for packetBatch datagrams. Owned by its socket.
type packetVec struct {
	msgs    [packetBatch]mmsghdr
	iov     [packetBatch]unix.Iovec
	addrs   [packetBatch]unix.RawSockaddrInet6 // the longer of both kinds
	control [packetBatch][controlBytes]byte
	bytes   []byte
}

func newPacketVec() *packetVec {
	v := &packetVec{}
	for i := range v.msgs {
		h := &v.msgs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&v.addrs[i]))
		h.Iov = &v.iov[i]
		h.SetIovlen(1)
	}
	return v
}

// controlPackets lets the loops' sockets share the port.
func controlPackets(_, _ string, c syscall.RawConn) error {
	var opt error
	err := c.Control(func(fd uintptr) { opt = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	return errors.Join(err, os.NewSyscallError("setsockopt", opt))
}

// init takes the descriptor over from the net package.
func (s *packetSock) init(n *PacketListener, u *net.UDPConn) error {
	defer func() { _ = u.Close() }()
	rc, err := u.SyscallConn()
	if err != nil {
		return err
	}
	var dupErr error
	err = rc.Control(func(fd uintptr) { s.fd, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, os.NewSyscallError("fcntl", dupErr)); err != nil {
		s.fd = -1
		return err
	}
	if err := s.options(n.opt.Buffer); err != nil {
		_ = unix.Close(s.fd)
		s.fd = -1
		return err
	}
	s.in = newPacketVec()
	s.in.bytes = make([]byte, packetBatch*n.opt.MaxDatagram)
	for i := range s.in.iov {
		s.in.iov[i].Base = &s.in.bytes[i*n.opt.MaxDatagram]
		s.in.iov[i].SetLen(n.opt.MaxDatagram)
	}
	return nil
}

func (s *packetSock) options(buffer int) error {
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		s.wild = netip.AddrFrom4(sa.Addr).IsUnspecified()
	case *unix.SockaddrInet6:
		s.six, s.wild = true, netip.AddrFrom16(sa.Addr).IsUnspecified()
	}
	for _, o := range [...]int{unix.SO_RCVBUF, unix.SO_SNDBUF} { // the kernel cuts it to net.core.rmem_max and wmem_max
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, o, buffer); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	for _, o := range [...]int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} { // not allowed to everybody
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, o, buffer)
	}
	if !s.wild {
		return nil
	}
	err = unix.SetsockoptInt(s.fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	if s.six {
		// A socket for IPv6 alone has nothing to say about IPv4.
		err = unix.SetsockoptInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	return os.NewSyscallError("setsockopt", err)
}

// start asks for events, unless the listener was closed meanwhile. On the loop.
func (s *packetSock) start(p *Packets) {
	p.ln.mu.Lock()
	defer p.ln.mu.Unlock()
	if p.ln.closed {
		return
	}
	po := &p.loop.poller
	i := slices.Index(po.packets, nil)
	if i < 0 {
		i = len(po.packets)
		po.packets = append(po.packets, nil)
	}
	po.packets[i] = p
	s.tag = packetTag - int32(i)
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: s.tag}
	if err := unix.EpollCtl(po.ep, unix.EPOLL_CTL_ADD, s.fd, &ev); err != nil {
		p.loop.g.opt.Logger.Error("cannot receive datagrams", "listener", p.ln.opt.Name, "err", err)
	}
}

// stop is called with the listener's mu held.
func (s *packetSock) stop(p *Packets) {
	_ = unix.Close(s.fd) // its only descriptor: epoll forgets it
	s.fd = -1
	p.loop.Post(func() {
		if i := slices.Index(p.loop.poller.packets, p); i >= 0 {
			p.loop.poller.packets[i] = nil
		}
	})
}

// receive takes what there is, a bounded number of datagrams in one turn; the poller tells of the rest again.
func (p *Packets) receive() {
	for range packetCalls {
		n := p.receiveSome()
		if n < packetBatch {
			return
		}
	}
}

func (p *Packets) receiveSome() (n int) {
	s := &p.sock
	v := s.in
	for i := range v.msgs {
		h := &v.msgs[i].hdr
		h.Namelen = uint32(unsafe.Sizeof(v.addrs[i]))
		h.Control, h.Flags = nil, 0
		h.SetControllen(0)
		if s.wild {
			h.Control = &v.control[i][0]
			h.SetControllen(controlBytes)
		}
	}
	p.ln.mu.Lock() // against Close: the descriptor must not become another one meanwhile
	if p.ln.closed {
		p.ln.mu.Unlock()
		return 0
	}
	r, _, e := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&v.msgs)), packetBatch,
		unix.MSG_DONTWAIT, 0, 0)
	p.ln.mu.Unlock()
	if e != 0 {
		return 0
	}
	n = int(r)
	p.ln.received.Add(int64(n))
	max := p.ln.opt.MaxDatagram
	for i := range v.msgs[:n] {
		m := &v.msgs[i]
		if m.hdr.Flags&unix.MSG_TRUNC != 0 {
			p.ln.dropped[PacketTooLong].Add(1)
			continue
		}
		from := PacketAddr{AddrPort: fromRaw((*unix.RawSockaddrAny)(unsafe.Pointer(&v.addrs[i])))}
		if s.wild {
			from.Local = sentTo(v.control[i][:m.hdr.Controllen])
		}
		p.deliver(from, v.bytes[i*max:i*max+int(m.n):i*max+int(m.n)])
	}
	return n
}

// sentTo reads the address that a datagram was sent to (ip(7), ipv6(7)).
func sentTo(control []byte) netip.Addr {
	for len(control) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
		size := int(h.Len)
		if size < unix.SizeofCmsghdr || size > len(control) {
			break
		}
		data := control[unix.CmsgLen(0):size]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4((*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Addr)
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16((*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0])).Addr).Unmap()
		}
		control = control[min(unix.CmsgSpace(size-unix.CmsgLen(0)), len(control)):]
	}
	return netip.Addr{}
}

// reaches says whether the socket can write to an address at all.
func (s *packetSock) reaches(a netip.Addr) bool { return a.Unmap().Is4() || s.six && a.Is6() }

// flush sends what is staged.
func (p *Packets) flush() {
	s := &p.sock
	if s.send == nil {
		s.send = newPacketVec()
	}
	v := s.send
	for rest := p.staged; len(rest) > 0; {
		n := min(len(rest), packetBatch)
		for i := range rest[:n] {
			p.address(v, i, &rest[i])
		}
		p.ln.mu.Lock() // against Close
		if p.ln.closed {
			p.ln.mu.Unlock()
			return
		}
		r, _, e := syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&v.msgs)), uintptr(n),
			unix.MSG_DONTWAIT, 0, 0)
		p.ln.mu.Unlock()
		switch {
		case e == unix.EINTR:
		case e != 0: // the first of them cannot be sent
			p.ln.dropped[PacketUnsent].Add(1)
			rest = rest[1:]
		default:
			p.ln.sent.Add(int64(r))
			rest = rest[r:]
		}
	}
}

// address fills the i-th message of v.
func (p *Packets) address(v *packetVec, i int, d *stagedPacket) {
	h := &v.msgs[i].hdr
	v.iov[i].Base = unsafe.SliceData(p.out[d.begin:])
	v.iov[i].SetLen(d.end - d.begin)
	h.Control, h.Flags = nil, 0
	h.SetControllen(0)
	addr, port := d.to.Addr(), d.to.Port()
	local := d.to.Local
	if !p.sock.six {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&v.addrs[i]))
		*sa = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: htons(port), Addr: addr.Unmap().As4()}
		h.Namelen = unix.SizeofSockaddrInet4
	} else {
		v.addrs[i] = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: htons(port), Addr: addr.As16(), Scope_id: scope(addr)}
		h.Namelen = unix.SizeofSockaddrInet6
	}
	if !p.sock.wild || !local.IsValid() {
		return
	}
	h.Control = &v.control[i][0]
	c := (*unix.Cmsghdr)(unsafe.Pointer(&v.control[i][0]))
	data := unsafe.Pointer(&v.control[i][unix.CmsgLen(0)])
	if p.sock.six { // also for an IPv4 peer: its address is mapped
		c.Level, c.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
		c.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
		*(*unix.Inet6Pktinfo)(data) = unix.Inet6Pktinfo{Addr: local.As16()}
		h.SetControllen(unix.CmsgSpace(unix.SizeofInet6Pktinfo))
		return
	}
	c.Level, c.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
	c.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
	*(*unix.Inet4Pktinfo)(data) = unix.Inet4Pktinfo{Spec_dst: local.As4()}
	h.SetControllen(unix.CmsgSpace(unix.SizeofInet4Pktinfo))
}

// scope is the zone of a link-local address, which zoned wrote as a number.
func scope(a netip.Addr) (id uint32) {
	for _, c := range []byte(a.Zone()) {
		if c < '0' || c > '9' {
			return 0
		}
		id = id*10 + uint32(c-'0')
	}
	return id
}

func htons(port uint16) (v uint16) {
	b := (*[2]byte)(unsafe.Pointer(&v))
	b[0], b[1] = byte(port>>8), byte(port)
	return v
}
