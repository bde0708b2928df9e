//go:build linux

package loop

import "golang.org/x/sys/unix"

func shrinkFD(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096) }
