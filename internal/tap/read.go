package tap

import (
	"context"
	"errors"
	"time"
)

// Why a tap ended.
var (
	ErrTime    = errors.New("its time is over")
	ErrMax     = errors.New("it has as many events as it asked for")
	ErrStopped = errors.New("it was closed")
)

// Shown is what a tap has shown and missed so far. Immutable.
type Shown struct {
	Records  int    `json:"records"` // shown
	Dropped  uint64 `json:"dropped"` // wanted, and left out: too many at once, or not read fast enough
	Failed   uint64 `json:"failed"`  // events about which the filter could not decide
	FirstErr string `json:"error,omitempty"`
}

// Count returns the present numbers. Only by who reads the tap.
func (t *Tap) Count() Shown {
	c := Shown{Records: t.given, Dropped: t.dropped.Load(), Failed: t.failed.Load()}
	if p := t.failure.Load(); p != nil {
		c.FirstErr = *p
	}
	return c
}

// batchMax bounds what Next returns at once.
const batchMax = 64

// Next waits for records: in the order in which their events were received, each when it is complete or a second after
// its beginning. One that was not complete comes again, once, when it is. The error is that of ctx, ErrTime, ErrMax or
// ErrStopped; after it there are no more.
func (t *Tap) Next(ctx context.Context) ([]Record, error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		recs, wait, err := t.collect(time.Now())
		if len(recs) > 0 {
			rules := t.h.rules.Load()
			for i := range recs {
				rules.finish(&recs[i], t.o.Payload)
			}
			return recs, nil
		}
		if err != nil {
			return nil, err
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-t.notify:
		case <-timer.C:
		}
	}
}

// collect takes what can be shown now; wait is how long nothing changes by itself.
func (t *Tap) collect(now time.Time) (recs []Record, wait time.Duration, err error) {
	h := t.h
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.closed {
		return nil, 0, ErrStopped
	}
	over := now.UnixNano() >= t.until
	wait = time.Unix(0, t.until).Sub(now)
	for len(t.queue) > 0 && len(recs) < batchMax {
		x := t.queue[0]
		age := now.Sub(x.start)
		if !x.done && age < linger && !over {
			wait = min(wait, linger-age)
			break
		}
		recs = append(recs, x.rec.copied())
		t.given++
		t.queue[0] = nil
		t.queue = t.queue[1:]
		if !x.done {
			t.late = append(t.late, x)
		}
	}
	keep := t.late[:0]
	for _, x := range t.late {
		switch {
		case x.done && len(recs) < batchMax:
			recs = append(recs, x.rec.copied())
		case !x.done && now.Sub(x.start) > giveUp:
			x.leave(t)
			if len(x.taps) == 0 && x.asked == nil {
				h.abandon(x)
			}
		default:
			keep = append(keep, x)
		}
	}
	clear(t.late[len(keep):])
	t.late = keep
	switch {
	case len(recs) > 0:
	case over:
		err = ErrTime
	case t.o.Max > 0 && t.given >= t.o.Max && len(t.late) == 0:
		err = ErrMax
	}
	if len(t.late) > 0 {
		wait = min(wait, linger)
	}
	return recs, max(wait, time.Millisecond), err
}
