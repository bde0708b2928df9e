package observe

import (
	"math"
	"runtime"
	"runtime/metrics"
	"sync"
	"time"
)

// runtimeStats reads the Go runtime and the process, at most once per refreshEvery, so that the dozen functions of one
// scrape share one reading. Guarded by mu.
type runtimeStats struct {
	mu      sync.Mutex
	at      time.Time
	samples []metrics.Sample
	process processStats
}

// processStats is what the operating system says about this process; a field is -1 where it cannot be known.
type processStats struct {
	cpu      float64 // seconds, user and system
	resident float64 // bytes
	fds      float64 // open file descriptors
	maxFDs   float64
}

const refreshEvery = 100 * time.Millisecond

// The metrics of runtime/metrics that are read; the order is that of runtimeStats.samples.
const (
	rtHeap = iota
	rtTotal
	rtReleased
	rtLimit
	rtGoroutines
	rtThreads
	rtCycles
	rtPauses
	rtLatencies
	rtGCCPU
	rtAllocBytes
	rtAllocObjects
	rtNum
)

func newRuntimeStats() *runtimeStats {
	names := [rtNum]string{
		rtHeap:         "/memory/classes/heap/objects:bytes",
		rtTotal:        "/memory/classes/total:bytes",
		rtReleased:     "/memory/classes/heap/released:bytes",
		rtLimit:        "/gc/gomemlimit:bytes",
		rtGoroutines:   "/sched/goroutines:goroutines",
		rtThreads:      "/sched/gomaxprocs:threads",
		rtCycles:       "/gc/cycles/total:gc-cycles",
		rtPauses:       "/sched/pauses/total/gc:seconds",
		rtLatencies:    "/sched/latencies:seconds",
		rtGCCPU:        "/cpu/classes/gc/total:cpu-seconds",
		rtAllocBytes:   "/gc/heap/allocs:bytes",
		rtAllocObjects: "/gc/heap/allocs:objects",
	}
	s := &runtimeStats{samples: make([]metrics.Sample, rtNum)}
	for i, n := range names {
		s.samples[i].Name = n
	}
	return s
}

// read calls f with fresh numbers.
func (s *runtimeStats) read(f func(*runtimeStats) float64) func() float64 {
	return func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		if now := time.Now(); s.at.IsZero() || now.Sub(s.at) >= refreshEvery {
			s.at = now
			metrics.Read(s.samples)
			s.process = readProcess()
		}
		return f(s)
	}
}

func (s *runtimeStats) number(i int) float64 {
	switch v := s.samples[i].Value; v.Kind() {
	case metrics.KindUint64:
		return float64(v.Uint64())
	case metrics.KindFloat64:
		return v.Float64()
	case metrics.KindBad, metrics.KindFloat64Histogram:
	}
	return 0
}

// quantile returns an upper bound of the q-quantile of a runtime histogram since the start of the process.
func (s *runtimeStats) quantile(i int, q float64) float64 {
	if s.samples[i].Value.Kind() != metrics.KindFloat64Histogram {
		return 0
	}
	h := s.samples[i].Value.Float64Histogram()
	var total, sum uint64
	for _, n := range h.Counts {
		total += n
	}
	if total == 0 {
		return 0
	}
	want := uint64(math.Ceil(q * float64(total)))
	for j, n := range h.Counts {
		if sum += n; sum >= want {
			if up := h.Buckets[j+1]; !math.IsInf(up, 1) {
				return up
			}
			return h.Buckets[j]
		}
	}
	return 0
}

// Runtime adds the metrics of the Go runtime, the process and the build to r. Call it once per registry.
func Runtime(r *Registry, version string) {
	s := newRuntimeStats()
	gauge := func(name, help string, i int) {
		r.GaugeFunc(name, help, s.read(func(s *runtimeStats) float64 { return s.number(i) }))
	}
	counter := func(name, help string, i int) {
		r.CounterFunc(name, help, s.read(func(s *runtimeStats) float64 { return s.number(i) }))
	}
	gauge("windrose_go_heap_bytes", "Bytes of live and not yet swept objects.", rtHeap)
	gauge("windrose_go_mapped_bytes", "Bytes that the Go runtime has mapped.", rtTotal)
	gauge("windrose_go_released_bytes", "Bytes of those that were given back to the system.", rtReleased)
	gauge("windrose_go_limit_bytes", "The soft memory limit (GOMEMLIMIT).", rtLimit)
	gauge("windrose_go_live_goroutines", "Goroutines that exist.", rtGoroutines)
	gauge("windrose_go_max_threads", "Threads that may run Go code at once (GOMAXPROCS).", rtThreads)
	counter("windrose_go_gc_cycles_total", "Finished garbage collections.", rtCycles)
	counter("windrose_go_gc_cpu_seconds_total", "CPU time spent on garbage collection, estimated by the runtime.", rtGCCPU)
	counter("windrose_go_allocated_bytes_total", "Bytes allocated on the heap so far.", rtAllocBytes)
	counter("windrose_go_allocated_objects_total", "Objects allocated on the heap so far.", rtAllocObjects)
	for _, q := range []struct {
		name string
		q    float64
	}{{"p50", .5}, {"p99", .99}, {"max", 1}} {
		r.GaugeFunc("windrose_go_gc_pause_seconds", "Pauses of the world for garbage collection since the start, an upper bound.",
			s.read(func(s *runtimeStats) float64 { return s.quantile(rtPauses, q.q) }), "kind", q.name)
		r.GaugeFunc("windrose_go_sched_wait_seconds", "Time that runnable goroutines waited for a thread since the start, an upper bound.",
			s.read(func(s *runtimeStats) float64 { return s.quantile(rtLatencies, q.q) }), "kind", q.name)
	}
	r.CounterFunc("windrose_process_cpu_seconds_total", "CPU time of the process, user and system.",
		s.read(func(s *runtimeStats) float64 { return s.process.cpu }))
	r.GaugeFunc("windrose_process_resident_memory_bytes", "Resident memory of the process, -1 where it cannot be known.",
		s.read(func(s *runtimeStats) float64 { return s.process.resident }))
	r.GaugeFunc("windrose_process_open_fds", "Open file descriptors, -1 where they cannot be known.",
		s.read(func(s *runtimeStats) float64 { return s.process.fds }))
	r.GaugeFunc("windrose_process_max_fds", "The limit of open file descriptors, -1 where it cannot be known.",
		s.read(func(s *runtimeStats) float64 { return s.process.maxFDs }))
	start := float64(time.Now().UnixMilli()) / 1000
	r.GaugeFunc("windrose_process_start_time_seconds", "When the process registered its metrics, Unix time.",
		func() float64 { return start })
	r.Gauge("windrose_node_build_info", "Always 1; the labels say which build this is.", "version", version, "kind", "windrose").Set(1)
	r.Gauge("windrose_node_build_info", "", "version", runtime.Version(), "kind", "go").Set(1)
}
