//go:build !linux || portable

package loop

import (
	"errors"
	"net"
	"time"
)

// acceptPause is how long a listener waits when accepting does not work, for instance without file descriptors.
const acceptPause = 100 * time.Millisecond

// listenSock is the listening socket with its goroutine. Immutable after init.
type listenSock struct {
	n    *Listener
	ln   *net.TCPListener
	quit chan struct{}
}

func (s *listenSock) init(n *Listener, ln *net.TCPListener) error {
	s.n, s.ln, s.quit = n, ln, make(chan struct{})
	return nil
}

// dup is called with the listener's mu held.
func (s *listenSock) dup() (*net.TCPListener, error) {
	f, err := s.ln.File()
	if err != nil {
		return nil, err
	}
	return listenerOf(f)
}

func (s *listenSock) start() { s.n.g.gate.wg.Go(s.accept) }

// stop is called once, with the listener's mu held.
func (s *listenSock) stop() {
	close(s.quit)
	_ = s.ln.Close()
}

func (s *listenSock) accept() {
	for {
		nc, err := s.ln.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			s.n.g.gate.acceptErrors.Add(1)
			select {
			case <-time.After(acceptPause):
			case <-s.quit:
				return
			}
			continue
		}
		remote := plainAddr(nc.RemoteAddr())
		if !s.n.admit(remote) {
			_ = nc.Close()
			continue
		}
		_ = nc.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 300 * time.Second, Interval: 60 * time.Second, Count: 5})
		to := s.n.g.Pick()
		to.load.Add(1)
		to.pass([]passed{{sock: rawSock{nc}, remote: remote, ln: s.n}})
	}
}
