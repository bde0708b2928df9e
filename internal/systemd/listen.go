package systemd

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// firstFD is the first descriptor that is passed (sd_listen_fds(3)).
const firstFD = 3

// Socket is a listening TCP socket that was passed at the start, with its name in the unit (FileDescriptorName=, else the name
// of the socket unit). Immutable.
type Socket struct {
	Name     string
	Listener *net.TCPListener
}

// Sockets takes the sockets that the service manager has passed to this very process, by LISTEN_PID, LISTEN_FDS and
// LISTEN_FDNAMES, which it takes out of the environment. None is no error; one that does not listen on TCP is.
func Sockets() ([]Socket, error) {
	env := map[string]string{}
	for _, k := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		env[k] = os.Getenv(k)
		_ = os.Unsetenv(k) // a child must not take them for its own
	}
	return sockets(env, os.Getpid(), firstFD)
}

func sockets(env map[string]string, pid, first int) (out []Socket, err error) {
	n, nerr := strconv.Atoi(env["LISTEN_FDS"])
	if env["LISTEN_PID"] != strconv.Itoa(pid) || nerr != nil || n <= 0 {
		return nil, nil
	}
	names := strings.Split(env["LISTEN_FDNAMES"], ":")
	for i := range n {
		fd := first + i
		syscall.CloseOnExec(fd)
		name := "unknown"
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		f := os.NewFile(uintptr(fd), name) //nolint:gosec // a descriptor
		if f == nil {
			return out, fmt.Errorf("take socket %s: descriptor %d is not open", name, fd)
		}
		ln, err := net.FileListener(f)
		_ = f.Close() // the listener has its own
		if err != nil {
			return out, fmt.Errorf("take socket %s: %w", name, err)
		}
		t, ok := ln.(*net.TCPListener)
		if !ok {
			_ = ln.Close() // not used
			return out, fmt.Errorf("take socket %s: it listens on %s, not on TCP", name, ln.Addr().Network())
		}
		out = append(out, Socket{name, t})
	}
	return out, nil
}
