package systemd

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// manager is the other end of sd_notify.
func manager(t *testing.T) (path string, next func() string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return path, func() string {
		t.Helper()
		b := make([]byte, 4096)
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

func env(m map[string]string) func(string) string { return func(k string) string { return m[k] } }

func TestNotify(t *testing.T) {
	path, next := manager(t)
	n := newNotifier(env(map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "77"}), 77)
	n.Ready()
	if got := next(); got != "READY=1" {
		t.Errorf("got %q", got)
	}
	n.Reloading()
	if got := next(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("got %q, want the time of the reload too: Type=notify-reload needs it", got)
	}
	n.Status("%d connections\nand more", 3)
	if got := next(); got != "STATUS=3 connections and more" {
		t.Errorf("got %q", got)
	}
	n.Alive()
	n.Stopping()
	n.Extend(2 * time.Second)
	for _, want := range []string{"WATCHDOG=1", "STOPPING=1", "EXTEND_TIMEOUT_USEC=2000000"} {
		if got := next(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if n.Watchdog() != 3*time.Second {
		t.Errorf("watchdog %v", n.Watchdog())
	}
}

func TestNobodyWantsToKnow(t *testing.T) {
	for name, e := range map[string]map[string]string{
		"no socket": {}, "vsock": {"NOTIFY_SOCKET": "vsock:2:1"}, "relative": {"NOTIFY_SOCKET": "x"},
	} {
		n := newNotifier(env(e), 1)
		if n != nil {
			t.Errorf("%s: a notifier", name)
		}
		n.Ready() // does nothing
		if n.Watchdog() != 0 {
			t.Errorf("%s: a watchdog", name)
		}
	}
	gone := newNotifier(env(map[string]string{"NOTIFY_SOCKET": "/nonexistent/socket"}), 1)
	gone.Ready() // nobody listens: no error, no wait
}

func TestWatchdogOfAnotherProcess(t *testing.T) {
	n := newNotifier(env(map[string]string{"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "2"}), 1)
	if n.Watchdog() != 0 {
		t.Error("the watchdog is for process 2")
	}
}

func TestSockets(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	pid := strconv.Itoa(os.Getpid())
	got, err := sockets(map[string]string{"LISTEN_PID": pid, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "mqtt"}, os.Getpid(), int(f.Fd()))
	if err != nil || len(got) != 1 || got[0].Name != "mqtt" || got[0].Listener.Addr().String() != ln.Addr().String() {
		t.Fatalf("got %v, %v", got, err)
	}
	_ = got[0].Listener.Close()
	for name, e := range map[string]map[string]string{
		"nothing": {}, "another process": {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, "no number": {"LISTEN_PID": pid, "LISTEN_FDS": "x"},
	} {
		if got, err := sockets(e, os.Getpid(), 3); len(got) != 0 || err != nil {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}
