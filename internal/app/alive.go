package app

import (
	"context"
	"time"
)

// watchdog tells the service manager that the node is alive as long as every loop really turns: a loop that hangs makes the
// manager start the node again. statusEvery is how often the line of systemctl status is written.
const statusEvery = 10 * time.Second

func (a *App) watchdog(ctx context.Context) error {
	every := statusEvery
	if w := a.notify.Watchdog(); w > 0 {
		every = min(every, w/3)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var told time.Time
	for {
		if a.turning(ctx, every) {
			a.notify.Alive()
		} else if ctx.Err() == nil {
			a.o.Logger.Error("an event loop does not turn", "for", every.String())
		}
		if time.Since(told) >= statusEvery {
			told = time.Now()
			a.notify.Status("%d connections, %d sessions, configuration %s", a.node.connections(), a.node.meters.sessions.Value(), a.node.live.Load().snap.Hash()[:12])
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// turning says whether all loops ran a function within d.
func (a *App) turning(ctx context.Context, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for _, h := range a.node.hosts {
		if !on(ctx, h, func() {}) {
			return false
		}
	}
	return true
}
