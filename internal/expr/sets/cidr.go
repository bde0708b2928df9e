package sets

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// u128 is an address as a number: IPv4 as IPv6 writes it (::ffff:192.0.2.1).
type u128 struct{ hi, lo uint64 }

func (a u128) compare(b u128) int {
	if c := cmp.Compare(a.hi, b.hi); c != 0 {
		return c
	}
	return cmp.Compare(a.lo, b.lo)
}

func number(a netip.Addr) u128 {
	b := a.As16()
	return u128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// span is a range of addresses, both ends in it.
type span struct{ from, to u128 }

// parseSpan reads an address or a prefix. Bits behind the prefix must be 0: 10.0.0.1/8 is more often a mistake than not.
func parseSpan(s string) (span, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return span{}, fmt.Errorf("%q is no address and no prefix like 192.0.2.0/24", s)
		}
		return span{number(a), number(a)}, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return span{}, fmt.Errorf("%q is no prefix like 192.0.2.0/24", s)
	}
	if p.Masked() != p {
		return span{}, fmt.Errorf("%q has bits behind its prefix, use %s", s, p.Masked())
	}
	from := number(p.Addr())
	free := p.Addr().BitLen() - p.Bits()
	to := from
	switch {
	case free >= 128:
		to = u128{^uint64(0), ^uint64(0)}
	case free >= 64:
		to.hi |= 1<<(free-64) - 1
		to.lo = ^uint64(0)
	default:
		to.lo |= 1<<free - 1
	}
	return span{from, to}, nil
}

// cidrs is a set of addresses: ranges in order that do not touch. Immutable.
type cidrs struct {
	spans []span
	n     int
}

func newCIDRs(spans []span, n int) *cidrs {
	slices.SortFunc(spans, func(a, b span) int { return a.from.compare(b.from) })
	out := spans[:0]
	for _, s := range spans {
		if len(out) > 0 && s.from.compare(out[len(out)-1].to) <= 0 {
			if last := &out[len(out)-1]; s.to.compare(last.to) > 0 {
				last.to = s.to
			}
			continue
		}
		out = append(out, s)
	}
	return &cidrs{spans: slices.Clip(out), n: n}
}

// has: what is no address is in no set of them.
func (c *cidrs) has(key string) bool {
	a, err := netip.ParseAddr(key)
	if err != nil {
		return false
	}
	n := number(a.WithZone(""))
	i, found := slices.BinarySearchFunc(c.spans, n, func(s span, n u128) int { return s.from.compare(n) })
	if found {
		return true
	}
	return i > 0 && n.compare(c.spans[i-1].to) <= 0
}

func (c *cidrs) get(string) (string, bool) { return "", false }
func (c *cidrs) size() int                 { return c.n }
