// Package systemd speaks the protocols by which systemd and a service know of each other: sd_notify(3), the watchdog, and
// sockets that are passed at the start (sd_listen_fds(3)). Without systemd, or on another system, everything here does nothing.
//
// # Concurrency
//
// A Notifier is safe for concurrent use.
package systemd

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Notifier tells the service manager what the process is doing. Immutable after New; safe for concurrent use. All methods work
// on nil and do nothing.
type Notifier struct {
	socket string
	every  time.Duration
}

// New reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID from the environment; nil: nobody wants to be told.
func New() *Notifier { return newNotifier(os.Getenv, os.Getpid()) }

func newNotifier(env func(string) string, pid int) *Notifier {
	s := env("NOTIFY_SOCKET")
	if s == "" || s[0] != '/' && s[0] != '@' {
		return nil
	}
	n := &Notifier{socket: s}
	if p := env("WATCHDOG_PID"); p == "" || p == strconv.Itoa(pid) {
		if us, err := strconv.ParseInt(env("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 {
			n.every = time.Duration(us) * time.Microsecond
		}
	}
	return n
}

// Watchdog is how often at least Alive must be called; 0: nobody waits for it.
func (n *Notifier) Watchdog() time.Duration {
	if n == nil {
		return 0
	}
	return n.every
}

// Ready says that the start or a reload is over.
func (n *Notifier) Ready() { n.send("READY=1") }

// Reloading says that a reload begins; Ready ends it.
func (n *Notifier) Reloading() {
	if us := monotonic(); us > 0 {
		n.send("RELOADING=1\nMONOTONIC_USEC=" + strconv.FormatInt(us, 10))
	}
}

// Stopping says that the end has begun.
func (n *Notifier) Stopping() { n.send("STOPPING=1") }

// Alive feeds the watchdog.
func (n *Notifier) Alive() { n.send("WATCHDOG=1") }

// Status is a line about the service that systemctl status shows.
func (n *Notifier) Status(format string, args ...any) {
	n.send("STATUS=" + strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " "))
}

// Extend asks for more time to start, reload or stop.
func (n *Notifier) Extend(d time.Duration) {
	n.send("EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(d.Microseconds(), 10))
}

// send writes one datagram. Nobody can do anything about a manager that does not listen.
func (n *Notifier) send(state string) {
	if n == nil {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return
	}
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = c.Write([]byte(state))
	_ = c.Close()
}
