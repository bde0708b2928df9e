package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"
)

// SocketFile is the name of the admin socket in the data folder.
const SocketFile = "admin.sock"

// listenSocket opens a unix socket for the process's user, and its group where that is wanted. What another process left
// behind there is removed; a socket that somebody serves is an error.
func listenSocket(path string, group bool) (net.Listener, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("listen on admin socket: %w", err)
	case info.Mode()&fs.ModeSocket == 0:
		return nil, fmt.Errorf("listen on admin socket %q: there is something else", path)
	default:
		d := net.Dialer{Timeout: time.Second}
		if c, err := d.DialContext(context.Background(), "unix", path); err == nil {
			_ = c.Close() // it was only to see whether somebody answers
			return nil, fmt.Errorf("listen on admin socket %q: another process serves it", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listen on admin socket: %w", err)
		}
	}
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on admin socket %q: %w", path, err)
	}
	mode := fs.FileMode(0o600)
	if group {
		mode = 0o660
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on admin socket: %w", err), ln.Close())
	}
	return ln, nil
}
