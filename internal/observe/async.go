package observe

import (
	"io"
	"sync"
	"sync/atomic"
)

// AsyncWriter passes writes on from a goroutine of its own, so that a log consumer that stops reading never stops a
// loop. The queue is bounded in bytes; what does not fit is dropped whole and counted (rule: drop_new). Guarded by mu.
type AsyncWriter struct {
	w       io.Writer
	limit   int
	dropped atomic.Uint64 // lines, or writes that failed
	wake    chan struct{}
	wg      sync.WaitGroup

	mu     sync.Mutex
	queue  []byte
	closed bool
}

// NewAsyncWriter starts the goroutine; Close ends it. limit is in bytes.
func NewAsyncWriter(w io.Writer, limit int) *AsyncWriter {
	a := &AsyncWriter{w: w, limit: limit, wake: make(chan struct{}, 1)}
	a.wg.Add(1)
	go a.run()
	return a
}

// Register shows the queue and what was dropped in r.
func (a *AsyncWriter) Register(r *Registry) {
	r.CounterFunc("windrose_log_dropped_lines_total", "Log lines dropped because their reader was too slow.",
		func() float64 { return float64(a.Dropped()) })
	r.GaugeFunc("windrose_log_queued_bytes", "Bytes of log lines that wait to be written.", func() float64 {
		a.mu.Lock()
		defer a.mu.Unlock()
		return float64(len(a.queue))
	})
}

// Dropped is how many lines were dropped so far.
func (a *AsyncWriter) Dropped() uint64 { return a.dropped.Load() }

// Write takes p over or drops it; it never blocks on the writer behind and never fails.
func (a *AsyncWriter) Write(p []byte) (int, error) {
	a.mu.Lock()
	if a.closed || len(a.queue)+len(p) > a.limit {
		a.mu.Unlock()
		a.dropped.Add(1)
		return len(p), nil
	}
	a.queue = append(a.queue, p...)
	select { // under mu, as Close closes the channel under it
	case a.wake <- struct{}{}:
	default: // it is awake already
	}
	a.mu.Unlock()
	return len(p), nil
}

// Close writes what is queued and ends the goroutine. It waits for the writer behind. Later writes are dropped.
func (a *AsyncWriter) Close() error {
	a.mu.Lock()
	if !a.closed {
		a.closed = true
		close(a.wake)
	}
	a.mu.Unlock()
	a.wg.Wait()
	return nil
}

func (a *AsyncWriter) run() {
	defer a.wg.Done()
	var spare []byte
	for range a.wake {
		spare = a.flush(spare)
	}
	a.flush(spare)
}

// flush writes the queue and returns a buffer to use again.
func (a *AsyncWriter) flush(spare []byte) []byte {
	a.mu.Lock()
	batch := a.queue
	a.queue = spare[:0]
	a.mu.Unlock()
	if len(batch) > 0 {
		if _, err := a.w.Write(batch); err != nil {
			a.dropped.Add(1) // the log itself is broken: there is nobody left to tell but the counter
		}
	}
	return batch
}
