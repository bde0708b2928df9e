package app

import (
	"context"
	"time"

	"github.com/windrose-edc/windrose/internal/observe"
)

const (
	expiryWarn = 14 * 24 * time.Hour // how long before a certificate expires the log begins to say so
	expiryLook = 24 * time.Hour
)

// warnExpiry logs the entries of tls whose first certificate has expired or will soon. They are used all the same: not every
// client looks, and the rest of the node must start.
func (a *App) warnExpiry() {
	log := a.o.Logger.With(observe.ComponentKey, "config")
	for name, t := range a.node.live.Load().tls {
		switch left := time.Until(t.NotAfter()); {
		case left <= 0:
			log.Warn("a certificate has expired: clients that check it cannot connect", "tls", name, "expired", t.NotAfter().UTC().Format(time.RFC3339))
		case left < expiryWarn:
			log.Warn("a certificate expires soon", "tls", name, "expires", t.NotAfter().UTC().Format(time.RFC3339), "left", left.Round(time.Hour).String())
		}
	}
}

// watchExpiry warns once a day.
func (a *App) watchExpiry(ctx context.Context) error {
	tick := time.NewTicker(expiryLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.warnExpiry()
		}
	}
}

// firstExpiry is the seconds until the first certificate of the node expires, negative when it has; 0 without certificates.
func (n *node) firstExpiry() float64 {
	var first time.Time
	for _, t := range n.live.Load().tls {
		if at := t.NotAfter(); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	if first.IsZero() {
		return 0
	}
	return time.Until(first).Seconds()
}
