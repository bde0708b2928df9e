//go:build linux && !portable

package loop

import (
	"errors"
	"net"
	"os"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// acceptPause is how long a listener waits when the process has no file descriptors left; the backlog holds the peers.
const acceptPause = int64(100 * time.Millisecond)

// listenSock is the listening descriptor, in loop 0's epoll. Owned by loop 0 once started, except fd (guarded by the
// listener's mu).
type listenSock struct {
	n     *Listener
	fd    int
	tag   int32
	pause Timer
	batch [][]passed // by loop
}

// init takes the descriptor over from the net package, with options that accepted sockets inherit.
func (s *listenSock) init(n *Listener, ln *net.TCPListener) error {
	defer func() { _ = ln.Close() }()
	s.n, s.fd = n, -1
	rc, err := ln.SyscallConn()
	if err != nil {
		return err
	}
	var dupErr error
	err = rc.Control(func(fd uintptr) {
		s.fd, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err = errors.Join(err, os.NewSyscallError("fcntl", dupErr)); err != nil {
		return err
	}
	if err := setOptions(s.fd); err != nil {
		_ = unix.Close(s.fd)
		return err
	}
	s.pause.Init(s)
	s.batch = make([][]passed, len(n.g.loops))
	return nil
}

// setOptions makes a socket as all connections are.
func setOptions(fd int) error {
	for _, o := range [...][3]int{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1}, // peers that vanish while nothing is to be sent
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 300},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 60},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 5},
	} {
		if err := unix.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// dup is called with the listener's mu held.
func (s *listenSock) dup() (*net.TCPListener, error) {
	fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return listenerOf(os.NewFile(uintptr(fd), "listener"))
}

func (s *listenSock) start() {
	l := s.n.g.loops[0]
	l.Post(func() {
		p := &l.poller
		i := slices.Index(p.listeners, nil)
		if i < 0 {
			i = len(p.listeners)
			p.listeners = append(p.listeners, nil)
		}
		p.listeners[i] = s.n
		s.tag = listenTag - int32(i)
		s.register()
	})
}

// register asks for events, unless the listener was closed meanwhile.
func (s *listenSock) register() {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	if s.n.closed {
		return
	}
	l := s.n.g.loops[0]
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: s.tag}
	if err := unix.EpollCtl(l.poller.ep, unix.EPOLL_CTL_ADD, s.fd, &ev); err != nil {
		s.n.g.opt.Logger.Error("cannot accept connections", "listener", s.n.opt.Name, "err", err)
	}
}

// stop is called with the listener's mu held.
func (s *listenSock) stop() {
	l := s.n.g.loops[0]
	ev := unix.EpollEvent{}
	_ = unix.EpollCtl(l.poller.ep, unix.EPOLL_CTL_DEL, s.fd, &ev) // closing is not enough where the socket has another descriptor
	_ = unix.Close(s.fd)
	s.fd = -1
	l.Post(func() {
		l.Disarm(&s.pause)
		if i := slices.Index(l.poller.listeners, s.n); i >= 0 {
			l.poller.listeners[i] = nil
		}
	})
}

// acceptSome takes up to acceptBatch connections and passes them on, one lock and one wake per loop.
func (n *Listener) acceptSome(l *Loop) {
	n.mu.Lock() // against Close: the descriptor must not become another one meanwhile
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	var sa unix.RawSockaddrAny
	for range acceptBatch {
		size := uint32(unsafe.Sizeof(sa))
		fd, _, e := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(n.sock.fd), uintptr(unsafe.Pointer(&sa)),
			uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		if e == unix.EAGAIN {
			break
		}
		switch e {
		case 0:
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			n.g.gate.acceptErrors.Add(1)
			ev := unix.EpollEvent{}
			_ = unix.EpollCtl(l.poller.ep, unix.EPOLL_CTL_DEL, n.sock.fd, &ev)
			l.Arm(&n.sock.pause, l.now+acceptPause)
			n.sock.passOn()
			return
		default: // the peer has gone already, or EINTR
			continue
		}
		raw := rawSock{int32(fd)}
		remote := fromRaw(&sa)
		if !n.admit(remote) {
			raw.discard()
			continue
		}
		to := n.g.Pick()
		to.load.Add(1)
		n.sock.batch[to.id] = append(n.sock.batch[to.id], passed{sock: raw, remote: remote, ln: n})
	}
	n.sock.passOn()
}

func (s *listenSock) passOn() {
	for id, b := range s.batch {
		if len(b) > 0 {
			s.n.g.loops[id].pass(b)
			s.batch[id] = b[:0]
		}
	}
}

// Expire implements Expirer: accepting begins again after a pause.
func (s *listenSock) Expire(*Timer, int64) { s.register() }
