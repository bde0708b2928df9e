//go:build linux && !portable

package loop

import (
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A connection that is closed while the kernel's list of events is worked through may leave its slot and descriptor to
// a new one: events of the old one must not reach it. Every Data closes another connection of the same turn.
func TestSlotReuseWithinATurn(t *testing.T) {
	g := testGroup(t, Options{Loops: 1})
	l := g.Loops()[0]
	calls := 0
	accept, made := handlers(func(c *Conn, b []byte) (int, error) {
		calls++
		return len(b), nil
	})
	n := testListen(t, g, ListenOptions{Accept: accept})
	dial(t, n)
	old := wait(t, made)
	dial(t, n)
	other := wait(t, made)
	on(t, l, func() {
		slot, gen := old.c.sock.slot, old.c.sock.gen
		l.poller.evs[0] = unix.EpollEvent{Events: unix.EPOLLIN, Fd: slot, Pad: int32(gen)}
		old.c.Close(errBye)
		// the next connection gets the slot at once
		fd, err := unix.Dup(int(other.c.sock.fd))
		if err != nil {
			t.Error(err)
		}
		n.open.Add(1)
		l.load.Add(1)
		l.adopt(passed{sock: rawSock{int32(fd)}, remote: other.c.RemoteAddr(), ln: n})
		c := l.conns[slot]
		if c == nil || c.sock.gen == gen {
			t.Fatal("the slot was not used again, the test proves nothing")
		}
		c.PauseRead()
		l.poller.dispatch(l, 1)
		if c.flags&fMuted != 0 {
			t.Error("an event of the old connection reached the new one")
		}
		l.poller.evs[0].Pad = int32(c.sock.gen)
		l.poller.dispatch(l, 1)
		if c.flags&fMuted == 0 {
			t.Error("its own event did not reach it")
		}
	})
	if err := wait(t, old.closed); !errors.Is(err, errBye) {
		t.Errorf("closed with %v", err)
	}
}

// Without file descriptors accepting pauses, is counted, and goes on when there are some.
func TestNoFileDescriptors(t *testing.T) {
	g := testGroup(t, Options{})
	accept, made := handlers(echo)
	n := testListen(t, g, ListenOptions{Accept: accept})
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	// the client's sockets are made first: they need descriptors too
	var clients []int
	for range 3 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		clients = append(clients, fd)
	}
	most := 0
	for _, e := range open {
		if fd, err := strconv.Atoi(e.Name()); err == nil {
			most = max(most, fd)
		}
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	var fill []int // leave no gaps under the limit
	for {
		fd, err := unix.Dup(0)
		if err != nil || fd > most+8 {
			_ = unix.Close(fd)
			break
		}
		fill = append(fill, fd)
	}
	defer func() {
		for _, fd := range fill {
			_ = unix.Close(fd)
		}
	}()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(most + 9), Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	restore := func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &old) }
	defer restore()
	addr := n.Addr().(*net.TCPAddr)
	for _, fd := range clients {
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); g.Stats().AcceptErrors == 0; {
		if time.Now().After(deadline) {
			t.Fatal("not counted")
		}
		time.Sleep(time.Millisecond)
	}
	turns := g.Stats().Turns
	time.Sleep(50 * time.Millisecond)
	if n := g.Stats().Turns - turns; n > 50 {
		t.Errorf("%d turns in 50 ms: the loop spins", n)
	}
	restore()
	for range clients {
		wait(t, made)
	}
}

// What is set on the listening socket must hold for the accepted ones, and those must not leak to children.
func TestAcceptedSocketOptions(t *testing.T) {
	g := testGroup(t, Options{})
	accept, made := handlers(echo)
	dial(t, testListen(t, g, ListenOptions{Accept: accept}))
	fd := int(wait(t, made).c.sock.fd)
	for _, o := range [...]struct{ level, name, want int }{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}, {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 300},
	} {
		if v, err := unix.GetsockoptInt(fd, o.level, o.name); err != nil || v != o.want {
			t.Errorf("option %d of level %d is %d, %v", o.name, o.level, v, err)
		}
	}
	if v, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || v&unix.FD_CLOEXEC == 0 {
		t.Errorf("close on exec: %d, %v", v, err)
	}
	if v, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || v&unix.O_NONBLOCK == 0 {
		t.Errorf("non-blocking: %d, %v", v, err)
	}
}

// While nothing happens the loop blocks the ordinary way and does not turn.
func TestIdleLoopSleeps(t *testing.T) {
	g := testGroup(t, Options{})
	accept, made := handlers(echo)
	c := dial(t, testListen(t, g, ListenOptions{Accept: accept}))
	wait(t, made)
	time.Sleep(60 * time.Millisecond)
	before := g.Stats().Turns
	time.Sleep(300 * time.Millisecond)
	if n := g.Stats().Turns - before; n > 2 {
		t.Errorf("%d turns in 300 idle ms", n)
	}
	send(t, c, "x")
	expect(t, c, "x")
}

// A peer that resets while reading is paused is noticed.
func TestResetWhilePaused(t *testing.T) {
	g := testGroup(t, Options{})
	accept, made := handlers(func(c *Conn, b []byte) (int, error) {
		c.PauseRead()
		return len(b), nil
	})
	c := dial(t, testListen(t, g, ListenOptions{Accept: accept}))
	f := wait(t, made)
	send(t, c, "x")
	time.Sleep(10 * time.Millisecond)
	send(t, c, "y") // mutes
	time.Sleep(10 * time.Millisecond)
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
	if err := wait(t, f.closed); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("closed with %v", err)
	}
}
