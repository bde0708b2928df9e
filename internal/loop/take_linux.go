//go:build linux && !portable

package loop

import (
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// takeSock makes another descriptor of a connection, with the options that accepted sockets inherit from a listener.
func takeSock(nc *net.TCPConn) (rawSock, error) {
	rc, err := nc.SyscallConn()
	if err != nil {
		return rawSock{}, err
	}
	fd, dupErr := -1, error(nil)
	err = rc.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, os.NewSyscallError("fcntl", dupErr)); err != nil {
		return rawSock{}, err
	}
	if err = setOptions(fd); err != nil {
		return rawSock{}, errors.Join(err, unix.Close(fd))
	}
	return rawSock{int32(fd)}, nil
}
