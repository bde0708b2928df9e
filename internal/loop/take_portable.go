//go:build !linux || portable

package loop

import (
	"errors"
	"fmt"
	"net"
)

// takeSock makes another connection of the same socket.
func takeSock(nc *net.TCPConn) (rawSock, error) {
	f, err := nc.File()
	if err != nil {
		return rawSock{}, err
	}
	c, err := net.FileConn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return rawSock{}, err
	}
	own, ok := c.(*net.TCPConn)
	if !ok {
		return rawSock{}, errors.Join(fmt.Errorf("a connection of type %T", c), c.Close())
	}
	return rawSock{own}, nil
}
