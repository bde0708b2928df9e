package observe

import (
	"math"
	"slices"
	"sync/atomic"
)

// Histogram counts observations in buckets. Safe for concurrent use: immutable bounds, atomic counts. All methods work
// on nil and do nothing.
type Histogram struct {
	bounds []float64       // upper bounds, ascending, without +Inf
	counts []atomic.Uint64 // one more than bounds
	sum    atomic.Uint64   // bits of a float64
}

// LatencyBuckets are upper bounds in seconds from 50 us to 30 s, the deadline of a ticket.
func LatencyBuckets() []float64 {
	return []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
}

// SizeBuckets are upper bounds in bytes from 64 B to 16 MiB.
func SizeBuckets() []float64 {
	return []float64{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20}
}

// Histogram returns the histogram of that name and labels, creating it at first. buckets are ascending upper bounds;
// +Inf is added. Panics like Counter, and on buckets that do not ascend or differ from those of the same name.
func (r *Registry) Histogram(name, help string, buckets []float64, labels ...string) *Histogram {
	mustCheck(KindHistogram, name, labels)
	for i, b := range buckets {
		if math.IsNaN(b) || math.IsInf(b, 0) || i > 0 && b <= buckets[i-1] {
			panic("metric \"" + name + "\": buckets must be finite and ascend")
		}
	}
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.series(KindHistogram, name, help, slices.Clone(buckets), labels).hist
}

func newHistogram(bounds []float64) *Histogram {
	return &Histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
}

// Observe counts v. NaN counts in the last bucket and is left out of the sum.
func (h *Histogram) Observe(v float64) {
	if h == nil {
		return
	}
	i := 0
	for i < len(h.bounds) && !(v <= h.bounds[i]) {
		i++
	}
	h.counts[i].Add(1)
	if math.IsNaN(v) {
		return
	}
	for {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

// read returns cumulative counts (the last is the total) and the sum. A reader beside writers may see a sum that is a
// few observations ahead or behind.
func (h *Histogram) read() (cumulative []uint64, sum float64) {
	cumulative = make([]uint64, len(h.counts))
	var n uint64
	for i := range h.counts {
		n += h.counts[i].Load()
		cumulative[i] = n
	}
	return cumulative, math.Float64frombits(h.sum.Load())
}
