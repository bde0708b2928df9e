package loop

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// gate is the surge protection of a group: what TLS handshakes may use, and the counters of what was let in. A
// handshake computes in a goroutine only once bytes of the peer have come, and only while it holds one of few tokens;
// waiting for the peer holds none. How many may wait from one address prefix is bounded. Safe for concurrent use.
type gate struct {
	accepted, acceptErrors, ok, failed, resumed atomic.Int64
	refused                                     [NumRefusals]atomic.Int64

	tokens    chan struct{} // one per handshake that computes
	perPrefix int
	maxActive int
	wg        sync.WaitGroup

	mu     sync.Mutex // guards what follows
	silent map[netip.Prefix]int
	active int        // goroutines
	queue  []*tlsConn // have bytes, wait for a goroutine
}

func newGate(o *Options) *gate {
	return &gate{
		tokens: make(chan struct{}, o.Handshakes), perPrefix: o.SilentPerPrefix, maxActive: o.MaxHandshaking,
		silent: make(map[netip.Prefix]int),
	}
}

func (g *gate) wait() { g.wg.Wait() }

// prefixOf is what counts as one origin: a /24 of IPv4, a /48 of IPv6.
func prefixOf(a netip.Addr) netip.Prefix {
	n := 48
	if a.Is4() {
		n = 24
	}
	p, _ := a.Prefix(n)
	return p
}

// enter counts a handshake that waits for its peer's first bytes, unless there are too many from its prefix.
func (g *gate) enter(p netip.Prefix) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.silent[p] >= g.perPrefix {
		return false
	}
	g.silent[p]++
	return true
}

// wait for the peer, or not any more.
func (g *gate) silence(p netip.Prefix, d int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := g.silent[p] + d; n > 0 {
		g.silent[p] = n
	} else {
		delete(g.silent, p)
	}
}

// begin gives the handshake a goroutine, now or when one is free.
func (g *gate) begin(t *tlsConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.active >= g.maxActive {
		g.queue = append(g.queue, t)
		return
	}
	g.spawn(t)
}

// spawn is called with mu held.
func (g *gate) spawn(t *tlsConn) bool {
	if !t.hs.state.CompareAndSwap(hsQueued, hsRunning) {
		return false // closed meanwhile
	}
	g.active++
	g.wg.Go(func() {
		t.handshake()
		g.leave()
	})
	return true
}

// leave hands the goroutine's place to the next handshake.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.active--
	for len(g.queue) > 0 {
		t := g.queue[0]
		g.queue[0] = nil
		if g.queue = g.queue[1:]; g.spawn(t) {
			return
		}
	}
	g.queue = nil
}
