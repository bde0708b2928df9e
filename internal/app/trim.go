package app

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"
)

// trimmer keeps house: it forgets what has expired, and it gives memory back to the system when a storm of connections is
// over: what the handshakes and CONNECTs of thousands of devices left behind is garbage that a quiet node would keep until
// its next collection. Owned by its goroutine.
type trimmer struct {
	sessions func() int64
	sweep    func(now int64) // forgets retained events whose time has passed
	last     int64           // sessions at the last trim
	before   int64           // at the last look
}

const (
	trimEvery  = time.Second
	sweepEvery = 60   // looks
	trimFrom   = 1000 // sessions that must have come or gone since the last trim
)

// Run looks once a second, until ctx is done. A look costs nothing; a trim is two collections.
func (t *trimmer) Run(ctx context.Context) error {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if n%sweepEvery == 0 {
			t.sweep(time.Now().UnixNano())
		}
		if t.due(t.sessions()) {
			runtime.GC() // sync.Pools, the TLS library's among them, let go at the second collection only
			debug.FreeOSMemory()
		}
	}
}

// due says whether the number of sessions has changed much since the last trim and has come to rest.
func (t *trimmer) due(now int64) bool {
	quiet := now == t.before
	t.before = now
	if d := now - t.last; !quiet || max(d, -d) < trimFrom || max(d, -d)*10 < max(now, t.last) {
		return false
	}
	t.last = now
	return true
}
