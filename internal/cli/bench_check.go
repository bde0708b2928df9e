package cli

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// stampLen is how many bytes of a payload tell which event it is: run, publisher, number, time.
const stampLen = 28

// stamp is what an event of a run carries. at is nanoseconds since the run began.
type stamp struct {
	pub uint32
	seq uint64
	at  int64
}

func (s stamp) put(b []byte, run [8]byte) {
	copy(b, run[:])
	binary.BigEndian.PutUint32(b[8:], s.pub)
	binary.BigEndian.PutUint64(b[12:], s.seq)
	binary.BigEndian.PutUint64(b[20:], uint64(s.at))
}

func readStamp(b []byte, run [8]byte) (s stamp, ok bool) {
	if len(b) < stampLen || [8]byte(b[:8]) != run {
		return s, false
	}
	s.pub = binary.BigEndian.Uint32(b[8:])
	s.seq = binary.BigEndian.Uint64(b[12:])
	s.at = int64(binary.BigEndian.Uint64(b[20:]))
	return s, true
}

// maxSpans bounds how many gaps of a lane are remembered; the oldest then counts as lost for good.
const maxSpans = 4096

// span is a gap in the numbers of a lane: from (inclusive) to (exclusive).
type span struct{ from, to uint64 }

// lane checks the numbers that one subscriber receives from one publisher. Owned by the subscriber's goroutine.
type lane struct {
	next    uint64
	missing []span // ascending
	got     uint64 // different events
	dup     uint64
	late    uint64 // events that came after a later one
}

func (l *lane) receive(seq uint64) {
	switch {
	case seq == l.next:
		l.next++
		l.got++
		return
	case seq > l.next:
		if len(l.missing) == maxSpans {
			l.missing = append(l.missing[:0], l.missing[1:]...)
		}
		l.missing = append(l.missing, span{l.next, seq})
		l.next = seq + 1
		l.got++
		return
	}
	for i, m := range l.missing {
		if seq < m.from || seq >= m.to {
			continue
		}
		l.got++
		l.late++
		rest := make([]span, 0, 2)
		if m.from < seq {
			rest = append(rest, span{m.from, seq})
		}
		if seq+1 < m.to {
			rest = append(rest, span{seq + 1, m.to})
		}
		l.missing = append(l.missing[:i:i], append(rest, l.missing[i+1:]...)...)
		return
	}
	l.dup++
}

// The histogram has histSub buckets for each power of two of nanoseconds: within 3.2 % of the truth.
const (
	histBits = 5
	histSub  = 1 << histBits
	histLen  = (64 - histBits) * histSub
)

// durations is a histogram of times. Safe for concurrent use: atomic counts.
type durations struct {
	n   [histLen]atomic.Uint64
	max atomic.Int64
}

func (d *durations) add(v time.Duration) {
	v = max(v, 0)
	d.n[histIndex(uint64(v))].Add(1)
	for {
		old := d.max.Load()
		if int64(v) <= old || d.max.CompareAndSwap(old, int64(v)) {
			return
		}
	}
}

// histIndex: numbers below histSub have a bucket each; above, the leading histBits+1 bits choose it.
func histIndex(v uint64) int {
	if v < histSub {
		return int(v)
	}
	shift := bits.Len64(v) - histBits - 1
	return (shift+1)<<histBits + int(v>>shift) - histSub
}

// histUpper is the largest value of a bucket.
func histUpper(i int) uint64 {
	if i < histSub {
		return uint64(i)
	}
	shift := i>>histBits - 1
	return (uint64(i&(histSub-1))+histSub+1)<<shift - 1
}

// quantiles are in milliseconds.
type quantiles struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// String is for people.
func (q quantiles) String() string {
	return fmt.Sprintf("p50 %s  p90 %s  p99 %s  p99.9 %s  max %s ms", ms(q.P50), ms(q.P90), ms(q.P99), ms(q.P999), ms(q.Max))
}

func ms(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func (d *durations) quantiles() quantiles {
	var total uint64
	for i := range d.n {
		total += d.n[i].Load()
	}
	longest := d.max.Load()
	at := func(q float64) float64 {
		want, seen := uint64(math.Ceil(q*float64(total))), uint64(0)
		for i := range d.n {
			if seen += d.n[i].Load(); seen >= want && seen > 0 {
				return toMS(min(int64(histUpper(i)), longest))
			}
		}
		return 0
	}
	return quantiles{at(.5), at(.9), at(.99), at(.999), toMS(longest)}
}

// toMS rounds to a microsecond.
func toMS(ns int64) float64 { return math.Round(float64(ns)/1000) / 1000 }
