package admin

import (
	"context"
	"sync"
	"time"
)

// historyLen is how many seconds the sampler remembers.
const historyLen = 300

// rateSpan is over how many seconds a rate is taken: long enough not to flicker.
const rateSpan = 3

// Rates are per second, over the last few seconds.
type Rates struct {
	Received  float64 `json:"received"`
	Delivered float64 `json:"delivered"`
	Refused   float64 `json:"refused"`
}

// Point is one second of the past: what came and went in it, per second.
type Point struct {
	Time      int64   `json:"time"` // Unix milliseconds
	Received  float64 `json:"received"`
	Delivered float64 `json:"delivered"`
}

// total is one sample. Immutable.
type total struct {
	at                           time.Time
	received, delivered, refused uint64
}

// history is a ring of samples, one a second. Guarded by mu.
type history struct {
	mu   sync.Mutex
	ring [historyLen + 1]total
	n    int // samples so far
}

func (h *history) add(t total) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ring[h.n%len(h.ring)] = t
	h.n++
}

// samples returns the ring, oldest first.
func (h *history) samples() []total {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := min(h.n, len(h.ring))
	out := make([]total, 0, k)
	for i := h.n - k; i < h.n; i++ {
		out = append(out, h.ring[i%len(h.ring)])
	}
	return out
}

func (h *history) points() []Point {
	s := h.samples()
	out := []Point{}
	for i := 1; i < len(s); i++ {
		r := between(s[i-1], s[i])
		out = append(out, Point{Time: s[i].at.UnixMilli(), Received: r.Received, Delivered: r.Delivered})
	}
	return out
}

func (h *history) rates() Rates {
	s := h.samples()
	if len(s) < 2 {
		return Rates{}
	}
	return between(s[max(0, len(s)-1-rateSpan)], s[len(s)-1])
}

func between(a, b total) Rates {
	d := b.at.Sub(a.at).Seconds()
	if d <= 0 {
		return Rates{}
	}
	per := func(from, to uint64) float64 {
		if to < from { // a part of the sum was taken away by a reload
			return 0
		}
		return float64(to-from) / d
	}
	return Rates{per(a.received, b.received), per(a.delivered, b.delivered), per(a.refused, b.refused)}
}

// sample feeds the history until ctx is done.
func (s *Server) sample(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		s.takeSample(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (s *Server) takeSample(now time.Time) {
	t := s.o.Node.Totals()
	var refused uint64
	for _, c := range t.Refusals {
		refused += c.Count
	}
	s.history.add(total{now, t.Received, t.Delivered, refused})
}
