package app

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/windrose-edc/windrose/internal/observe"
)

// What is done with a memory limit: the heap's share of it leaves room for stacks, the program and what the kernel keeps for
// the process; above the high mark no sessions are opened, below the low mark they are again.
const (
	memoryShare = 0.9
	memoryHigh  = 0.92 // of the heap's share
	memoryLow   = 0.85
	memoryLook  = 200 * time.Millisecond
)

// memory watches how much the process uses of what it may. The limits are immutable once run begins; safe for concurrent use.
type memory struct {
	limit int64 // bytes that the Go runtime keeps to; 0: none
	from  string

	mu      sync.Mutex // one change of the state at a time
	isLow   atomic.Bool
	used    atomic.Int64
	changes *observe.Counter
}

// configure finds the limit: GOMEMLIMIT wins, for an operator said it; else a share of what the control group allows.
func (m *memory) configure(r *observe.Registry, log *slog.Logger, root string) {
	switch limit := debug.SetMemoryLimit(-1); {
	case limit != math.MaxInt64:
		m.limit, m.from = limit, "GOMEMLIMIT"
	default:
		group, file := cgroupLimit(root)
		if group <= 0 {
			break
		}
		m.limit, m.from = int64(float64(group)*memoryShare), fmt.Sprintf("%d%% of %d MiB (%s)", int(memoryShare*100), group>>20, file)
		debug.SetMemoryLimit(m.limit)
	}
	r.GaugeFunc("windrose_memory_limit_bytes", "Memory that the process keeps to; 0: no limit is known.", func() float64 { return float64(m.limit) })
	r.GaugeFunc("windrose_memory_used_bytes", "Memory that counts against the limit, as of the last look.", func() float64 { return float64(m.used.Load()) })
	r.GaugeFunc("windrose_memory_short_state", "1 while memory is short and no sessions are opened.", func() float64 {
		if m.isShort() {
			return 1
		}
		return 0
	})
	m.changes = r.Counter("windrose_memory_short_times_total", "How often memory became short.")
	if m.limit > 0 {
		log.Info("memory limit", "bytes", m.limit, "from", m.from, "no_new_sessions_above", int64(float64(m.limit)*memoryHigh))
	}
}

// cgroupLimit reads the memory limit of the process's control group, version 2 or 1, the tightest on the way up; 0: none. root is
// the file system's, another one in tests.
func cgroupLimit(root string) (limit int64, file string) {
	text, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return 0, ""
	}
	for line := range strings.Lines(string(text)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3) // ID:controllers:path
		if len(part) != 3 {
			continue
		}
		mount, name := "sys/fs/cgroup", "memory.max"
		switch {
		case part[0] == "0" && part[1] == "":
		case part[1] == "memory":
			mount, name = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for dir := part[2]; ; dir = filepath.Dir(dir) {
			f := filepath.Join(root, mount, dir, name)
			b, err := os.ReadFile(f)
			if n, perr := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && perr == nil && n > 0 && n < 1<<60 && (limit == 0 || n < limit) {
				limit, file = n, strings.TrimPrefix(f, strings.TrimSuffix(root, "/"))
			}
			if dir == "/" || dir == "." {
				break
			}
		}
	}
	return limit, file
}

// usage is what counts against the limit, as the runtime does it (debug.SetMemoryLimit): all that it holds, less what it gave
// back.
func usage(s []metrics.Sample) int64 {
	metrics.Read(s)
	return int64(s[0].Value.Uint64() - s[1].Value.Uint64()) //nolint:gosec // bytes of memory
}

func usageSamples() []metrics.Sample {
	return []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
}

// watch looks every now and then and calls changed when memory becomes short, or is not any more. At the high mark it lets the
// runtime collect first: what is garbage is not short.
func (m *memory) watch(ctx context.Context, log *slog.Logger, changed func()) error {
	s := usageSamples()
	tick := time.NewTicker(memoryLook)
	defer tick.Stop()
	for {
		m.look(usage(s), func() int64 { debug.FreeOSMemory(); return usage(s) }, log, changed)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look judges one measurement; collect is asked for another one after a collection.
func (m *memory) look(used int64, collect func() int64, log *slog.Logger, changed func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used.Store(used)
	if m.limit <= 0 {
		return
	}
	high, low := int64(float64(m.limit)*memoryHigh), int64(float64(m.limit)*memoryLow)
	switch short := m.isLow.Load(); {
	case !short && used > high:
		if used = collect(); used <= high {
			return
		}
		m.isLow.Store(true)
		m.changes.Inc()
		log.Error("memory is short: no new sessions until there is more", "used", used, "limit", m.limit)
		changed()
	case short && used < low:
		m.isLow.Store(false)
		log.Info("memory is no longer short", "used", used, "limit", m.limit)
		changed()
	}
}

func (m *memory) isShort() bool { return m.isLow.Load() }

// short says in words that memory is; "": it is not.
func (m *memory) short() string {
	if !m.isShort() {
		return ""
	}
	return fmt.Sprintf("%d of %d MiB are used: no new sessions (%s)", m.used.Load()>>20, m.limit>>20, m.from)
}
