package pool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

// ejectAfter is how many failures in a row rest a member while another one is up.
const ejectAfter = 5

// longestPause bounds what a member may ask for with Result.After.
const longestPause = 5 * time.Minute

// member is one end of the destination. Guarded by Pool.mu; addr, name and trip are immutable after New.
type member struct {
	addr string
	name string // addr without credentials
	trip chan *conn

	c       *conn // nil while it is down
	sorted  bool  // its links are Ordered
	flying  int   // sent and not answered, over all links
	pinned  list[*lane]
	held    list[*attempt] // in the driver's session while there is no link
	flip    bool           // whose turn it is: lanes that have events in flight here, or the others
	fails   int            // dials and trips since the last acceptance: the exponent of the back-off
	bad     int            // failures in a row
	paused  int64          // it asked not to be sent anything before; Unix nanoseconds
	since   time.Time
	lastErr string
}

// conn is one link to a member. Guarded by Pool.mu; m and link are immutable.
type conn struct {
	m      *member
	link   Link
	window int
	proven bool // it has answered since it came up, or keeps a session; before, one event at a time
}

func (m *member) ordered() bool { return m.sorted }

// free is whether the member may be sent an event now; mu is held.
func (m *member) free(now int64) bool {
	c := m.c
	if c == nil || now < m.paused {
		return false
	}
	if !c.proven {
		return m.flying == 0
	}
	return m.flying < c.window
}

func (p *Pool) anyUp() bool {
	for _, m := range p.members {
		if m.c != nil {
			return true
		}
	}
	return false
}

var (
	errLost    = errors.New("link ended")
	errOverdue = errors.New("no answer in time")
	errTripped = errors.New("member does not answer")
)

// whyLost is why a link ended, as far as it says (Err() error), such as that a broker gave its session to somebody else.
func whyLost(link Link) error {
	if l, ok := link.(interface{ Err() error }); ok && l.Err() != nil {
		return fmt.Errorf("%w: %w", errLost, l.Err())
	}
	return errLost
}

// serve keeps a link to a member until ctx ends. One goroutine for each member.
func (p *Pool) serve(ctx context.Context, m *member) {
	for ctx.Err() == nil {
		dialing, cancel := context.WithTimeout(ctx, p.spec.Timeout)
		link, err := p.driver.Dial(dialing, m.addr)
		cancel()
		if err != nil {
			p.down(m, err)
		} else {
			p.watch(ctx, m, link)
		}
		p.rest(ctx, m)
	}
}

// watch uses a link until it ends. An Ordered link that trips is closed; any other rests and is used again.
func (p *Pool) watch(ctx context.Context, m *member, link Link) {
	c := p.up(m, link)
	for {
		select {
		case <-ctx.Done():
			p.down(m, nil)
			p.close(link)
			return
		case <-link.Done():
			p.down(m, whyLost(link))
			return
		case tripped := <-m.trip:
			if tripped != c {
				continue // of an earlier link
			}
			p.down(m, nil)
			if link.Ordered() {
				p.close(link)
				return
			}
			p.rest(ctx, m)
			if ctx.Err() == nil {
				c = p.up(m, link)
			}
		}
	}
}

func (p *Pool) close(link Link) {
	if err := link.Close(); err != nil {
		p.log.Info("close", "link did not close cleanly", slog.Any("error", err))
	}
}

// rest waits before a member is tried again.
func (p *Pool) rest(ctx context.Context, m *member) {
	p.mu.Lock()
	pause := backoff(p.spec.Reconnect, m.fails)
	m.fails++
	p.mu.Unlock()
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// backoff is the n-th pause, n from 0: doubling from r.Min to r.Max, of which a random half is taken off.
func backoff(r Range, n int) time.Duration {
	d := r.Max
	if n < 40 && r.Min<<n > 0 {
		d = min(r.Min<<n, r.Max)
	}
	return d - rand.N(d/2+1)
}

func (p *Pool) up(m *member, link Link) *conn {
	sorted := link.Ordered()
	// Who keeps a session has answered when it opened it, and may hold its first acknowledgement for long: two nodes that
	// send each other events would wait for each other.
	c := &conn{m: m, link: link, window: max(1, link.Window()), proven: sorted && m.lastErr == ""}
	p.mu.Lock()
	m.c, m.sorted, m.bad, m.since = c, sorted, 0, p.now()
	for a := range m.held.all() {
		a.bySent.remove()
		a.sent = m.since.UnixNano()
		p.flying.push(&a.bySent, a)
	}
	p.mu.Unlock()
	p.kick()
	return c
}

// down takes note that a member has no link; err is nil where the reason was noted before.
func (p *Pool) down(m *member, err error) {
	p.mu.Lock()
	lost := m.c
	m.c = nil
	if err != nil {
		m.lastErr = err.Error()
	}
	if lost != nil {
		m.since = p.now()
		p.unwatch(m)
	}
	p.mu.Unlock()
	if err != nil {
		p.log.Warn("down", "member is down", slog.String("member", m.name), slog.Any("error", err))
	}
	p.kick()
}

// unwatch lets what is in flight on an Ordered link be late until the member is up again: it belongs to the driver's
// session meanwhile; mu is held.
func (p *Pool) unwatch(m *member) {
	if !m.sorted {
		return
	}
	for a := range p.flying.all() {
		if a.c.m == m {
			a.bySent.remove()
			m.held.push(&a.bySent, a)
		}
	}
}

// tripConn rests a member whose link does not do its work; mu is held.
func (p *Pool) tripConn(c *conn, err error) {
	m := c.m
	if m.c != c {
		return
	}
	m.c, m.since = nil, p.now()
	if err == nil {
		err = errTripped
	}
	m.lastErr = err.Error()
	p.unwatch(m)
	select {
	case <-m.trip: // of an earlier link
	default:
	}
	m.trip <- c
	p.note(true, "down", "member is down", slog.String("member", m.name), slog.Any("error", err))
}
