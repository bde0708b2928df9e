//go:build linux && !portable

package loop

import (
	"io"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawSock is an accepted socket that has no Conn yet.
type rawSock struct{ fd int32 }

func (r rawSock) discard() { _ = unix.Close(int(r.fd)) }

// sock is a connection's non-blocking socket. Owned by its connection's loop, and by the handshake's goroutine while
// there is one.
type sock struct {
	fd    int32
	slot  int32  // in Loop.conns, and in the events of the kernel
	gen   uint32 // tells connections apart that had the same slot
	asked uint32 // the events asked for last
}

func (s *sock) init(_ *Conn, r rawSock) {
	s.fd = r.fd
}

// read reads what there is: errAgain, io.EOF and the errors of the system are told apart from n > 0.
func (s *sock) read(b []byte) (int, error) {
	for {
		n, _, e := syscall.RawSyscall(unix.SYS_READ, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch {
		case e == unix.EINTR:
		case e == unix.EAGAIN:
			return 0, errAgain
		case e != 0:
			return 0, e
		case n == 0:
			return 0, io.EOF
		default:
			return int(n), nil
		}
	}
}

// write writes what the socket takes; errAgain: nothing.
func (s *sock) write(b []byte) (int, error) {
	for {
		n, _, e := syscall.RawSyscall(unix.SYS_WRITE, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch e {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, errAgain
		default:
			return 0, e
		}
	}
}

func (s *sock) close()         { _ = unix.Close(int(s.fd)) }
func (s *sock) shutdownWrite() { _ = unix.Shutdown(int(s.fd), unix.SHUT_WR) }

// error is why the socket hung up.
func (s *sock) error() error {
	if v, err := unix.GetsockoptInt(int(s.fd), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && v != 0 {
		return syscall.Errno(v)
	}
	return io.EOF
}

func (s *sock) local() netip.AddrPort {
	sa, err := unix.Getsockname(int(s.fd))
	if err != nil {
		return netip.AddrPort{}
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(zoned(netip.AddrFrom16(sa.Addr), sa.ZoneId), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// fromRaw reads the address that the kernel wrote.
func fromRaw(sa *unix.RawSockaddrAny) netip.AddrPort {
	switch sa.Addr.Family {
	case unix.AF_INET:
		a := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), ntohs(&a.Port))
	case unix.AF_INET6:
		a := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(zoned(netip.AddrFrom16(a.Addr), a.Scope_id), ntohs(&a.Port))
	}
	return netip.AddrPort{}
}

// zoned adds the zone (by number: names would need a lookup) of a link-local address; an IPv4 address on a dual-stack socket becomes plain.
func zoned(a netip.Addr, zone uint32) netip.Addr {
	a = a.Unmap()
	if zone == 0 || a.Is4() {
		return a
	}
	return a.WithZone(strconv.Itoa(int(zone)))
}

func ntohs(p *uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(p))
	return uint16(b[0])<<8 | uint16(b[1])
}
