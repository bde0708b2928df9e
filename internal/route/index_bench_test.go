package route

import (
	"context"
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// The fleet of the benchmark: a million devices in a thousand sites. 60 % have an exact filter, 30 % one with +, 10 % one
// with #, and a thousand broad filters each match the telemetry of a site, so that a topic of telemetry has two hits.
const fleetSize = 1_000_000

func fleetDevice(b []byte, i int) []byte {
	b = append(b, "tenant-"...)
	b = strconv.AppendInt(b, int64(i%100), 10)
	b = append(b, "/site-"...)
	b = strconv.AppendInt(b, int64(i%1000), 10)
	b = append(b, "/device-"...)
	return strconv.AppendInt(b, int64(i), 10)
}

func fleetFilter(b []byte, i int) []byte {
	b = fleetDevice(b, i)
	switch i / 1000 % 10 {
	default:
		return append(b, "/telemetry"...)
	case 6, 7, 8:
		return append(b, "/+"...)
	case 9:
		return append(b, "/#"...)
	}
}

func fleetTopic(b []byte, i int) []byte { return append(fleetDevice(b, i), "/telemetry"...) }

func broadFilter(b []byte, i int) []byte {
	b = append(b, "+/site-"...)
	b = strconv.AppendInt(b, int64(i), 10)
	return append(b, "/+/telemetry"...)
}

func heapNow() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// heapMeter samples the heap until stop is called, which returns the largest number of bytes in objects and the largest
// that the heap took from the system.
func heapMeter() (stop func() (objects, held uint64)) {
	var wg sync.WaitGroup
	var objects, held uint64
	end := make(chan struct{})
	wg.Go(func() {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			metrics.Read(s)
			objects = max(objects, s[0].Value.Uint64())
			held = max(held, s[0].Value.Uint64()+s[1].Value.Uint64()+s[2].Value.Uint64())
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	})
	return func() (uint64, uint64) {
		close(end)
		wg.Wait()
		return objects, held
	}
}

// BenchmarkIndexMillion measures the goals of the index: bytes of a filter, random matches, a full collection, and matches
// and memory while 10,000 filters a second come and go. Run it with -benchtime 3s or more for the percentiles.
func BenchmarkIndexMillion(b *testing.B) {
	before := heapNow()
	x := NewIndex(IndexOptions{})
	meter := heapMeter()
	begin := time.Now()
	var buf []byte
	add := func(filter []byte, taker uint32) {
		if !x.Apply([]Change{{Filter: filter, Sub: MakeSub(taker, 1, false, false, 0)}}, nil) {
			b.Fatal("queue full")
		}
	}
	flush := func() {
		q := x.queue
		x.queue = changeQueue{}
		x.work(&q)
	}
	order := rand.New(rand.NewPCG(1, 1)).Perm(fleetSize)
	for n, i := range order {
		add(fleetFilter(buf[:0], i), uint32(i))
		if n%1000 == 0 {
			flush()
		}
	}
	for i := range 1000 {
		add(broadFilter(buf[:0], i), uint32(fleetSize+i))
	}
	flush()
	took := time.Since(begin)
	peak, _ := meter()
	order = nil
	live := heapNow() - before
	s := x.Stats()
	b.Logf("%+v, peak while building %.2f x", s, float64(peak-before)/float64(live))

	b.Run("build", func(b *testing.B) {
		for b.Loop() {
			runtime.KeepAlive(order)
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(took.Nanoseconds())/float64(s.Subs), "ns/insert")
		b.ReportMetric(float64(live)/float64(s.Subs), "B/filter")
		b.ReportMetric(float64(s.Bytes)/float64(s.Subs), "B/filter-counted")
		b.ReportMetric(float64(peak-before)/float64(live), "peak-x")
	})

	r := rand.New(rand.NewPCG(2, 2))
	topics := make([][]byte, 1<<16)
	for i := range topics {
		topics[i] = fleetTopic(nil, r.IntN(fleetSize))
	}
	b.Run("random", func(b *testing.B) {
		dst, n, i := make([]Sub, 0, 16), 0, 0
		for b.Loop() {
			dst = x.Match(topics[i&(len(topics)-1)], dst[:0])
			n += len(dst)
			i++
		}
		b.ReportMetric(float64(n)/float64(i), "hits/op")
	})
	b.Run("same", func(b *testing.B) {
		dst := make([]Sub, 0, 16)
		for b.Loop() {
			dst = x.Match(topics[0], dst[:0])
		}
	})
	b.Run("none", func(b *testing.B) {
		dst, i := make([]Sub, 0, 16), 0
		none := make([][]byte, 1<<12)
		for i := range none {
			none[i] = append(fleetDevice([]byte("other/"), i), "/telemetry"...)
		}
		for b.Loop() {
			dst = x.Match(none[i&(len(none)-1)], dst[:0])
			i++
		}
	})
	b.Run("gc", func(b *testing.B) {
		for b.Loop() {
			runtime.GC()
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/gc")
	})
	b.Run("churn", func(b *testing.B) { benchChurn(b, x, topics, live) })
	runtime.KeepAlive(x)
}

// benchChurn matches as fast as it can while 10,000 filters a second are subscribed and unsubscribed.
func benchChurn(b *testing.B, x *Index, topics [][]byte, live uint64) {
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = x.Run(ctx) })
	start := x.Stats()
	var changes int
	var delays []time.Duration // until a change was published
	wg.Go(func() {
		r := rand.New(rand.NewPCG(9, 9))
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		var gone []int
		for begin := time.Now(); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for ; changes < int(time.Since(begin).Seconds()*10_000); changes++ {
				c := Change{Delete: len(gone) < 1000}
				i := r.IntN(fleetSize)
				if !c.Delete {
					k := r.IntN(len(gone))
					i, gone[k] = gone[k], gone[len(gone)-1]
					gone = gone[:len(gone)-1]
				} else {
					gone = append(gone, i)
				}
				c.Filter, c.Sub = fleetFilter(nil, i), MakeSub(uint32(i), 1, false, false, 0)
				asked := time.Now()
				x.Apply([]Change{c}, func() { delays = append(delays, time.Since(asked)) })
			}
		}
	})
	dst, i := make([]Sub, 0, 16), 0
	times := make([]time.Duration, 0, 1<<22)
	before := heapNow()
	meter := heapMeter()
	for b.Loop() {
		t := time.Now()
		dst = x.Match(topics[i&(len(topics)-1)], dst[:0])
		if d := time.Since(t); len(times) < cap(times) {
			times = append(times, d)
		} else {
			times[i&(len(times)-1)] = d
		}
		i++
	}
	objects, held := meter()
	cancel()
	wg.Wait()
	s := x.Stats()
	slices.Sort(times)
	base := float64(before - live) // what the benchmark itself holds
	b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds()), "p99-ns")
	b.ReportMetric(float64(times[len(times)*999/1000].Nanoseconds()), "p999-ns")
	b.ReportMetric(float64(changes)/b.Elapsed().Seconds(), "changes/s")
	slices.Sort(delays)
	b.ReportMetric(float64(delays[len(delays)/2].Microseconds())/1000, "publish-p50-ms")
	b.ReportMetric(float64(delays[len(delays)*99/100].Microseconds())/1000, "publish-p99-ms")
	b.ReportMetric((float64(objects)-base)/float64(live), "peak-x")
	b.ReportMetric((float64(held)-base)/float64(live), "peak-held-x")
	b.ReportMetric(float64(s.Retries-start.Retries), "retries")
	b.ReportMetric(float64(s.Rebuilds-start.Rebuilds), "rebuilds")
}
