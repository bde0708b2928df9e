package admin

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// The bounds of failed attempts to show a token.
const (
	attemptsBurst = 10              // at once from one address
	attemptEvery  = 6 * time.Second // then one in this time
	maxAttempts   = 1024            // addresses that are remembered
)

// attempts bounds the answers to wrong tokens by address: 256 random bits are not guessed, but whoever tries shall cost
// nothing. A right token is not held up by wrong ones from the same address. Guarded by mu.
type attempts struct {
	mu sync.Mutex
	by map[netip.Prefix]time.Time // when the address has all its attempts again
}

// fail counts a failed attempt; false: there were too many.
func (a *attempts) fail(remote string, now time.Time) bool {
	key := prefixOf(remote)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == nil {
		a.by = map[netip.Prefix]time.Time{}
	}
	full, known := a.by[key]
	if full.Before(now) {
		full = now
	}
	if full.Sub(now) > (attemptsBurst-1)*attemptEvery {
		return false
	}
	if !known && len(a.by) >= maxAttempts && !a.forget(now) {
		return false // too many addresses try at once: nobody new gets more than a refusal
	}
	a.by[key] = full.Add(attemptEvery)
	return true
}

// forget drops addresses that have all their attempts; mu is held. false: there are none.
func (a *attempts) forget(now time.Time) bool {
	n := len(a.by)
	for k, full := range a.by {
		if !full.After(now) {
			delete(a.by, k)
		}
	}
	return len(a.by) < n
}

// prefixOf is what counts as one address: an IPv4 address, or a /64 of IPv6.
func prefixOf(remote string) netip.Prefix {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // in the range of both
	return p
}
