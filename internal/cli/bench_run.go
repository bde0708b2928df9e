package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// dialsAtOnce bounds how many connections of a bench are opened at the same time.
const dialsAtOnce = 64

// stallTime is how long a full window waits for deliveries that may have been lost (QoS 0).
const stallTime = time.Second

// bench is one run. Immutable after newBench but for atomics and what mu guards.
type bench struct {
	e        *env
	p        *benchPlan
	to       *connection
	timeout  time.Duration
	progress io.Writer // nil: none
	start    time.Time // stamps count from here
	begin    time.Time // of publishing

	pubs []*benchPub
	subs []*benchSub

	sent, acked, refused, got, foreign, stalls atomic.Uint64
	latency, ackLatency                        durations

	mu      sync.Mutex
	reasons map[string]uint64 // refusals by their text, guarded by mu
}

// benchPub is a publisher. Owned by its goroutine; room is safe for concurrent use.
type benchPub struct {
	i    int
	cl   client
	room chan struct{} // a slot per event that is not acknowledged (QoS 1, 2)
	seen chan struct{} // a slot per event that its tracker has not received
	seq  uint64
}

// benchSub is a subscriber. lanes is owned by the goroutine of its connection until that has ended.
type benchSub struct {
	j     int
	cl    client
	mu    sync.Mutex // guards lanes
	lanes []lane
}

func newBench(e *env, p *benchPlan, to *connection, timeout time.Duration) *bench {
	return &bench{e: e, p: p, to: to, timeout: timeout, progress: e.err, reasons: map[string]uint64{}}
}

// run connects everybody, publishes, waits for the rest and counts.
func (b *bench) run(ctx context.Context) (*benchDoc, error) {
	b.start = time.Now()
	defer b.closeAll()
	b.say("connecting %s and %s to %s", count(b.p.Subs, "subscriber"), count(b.p.Pubs, "publisher"), b.to.address)
	if err := b.connectAll(ctx); err != nil {
		return nil, err
	}
	b.begin = time.Now()
	runCtx, cancel := context.WithTimeout(ctx, b.p.Duration)
	defer cancel()
	var wg sync.WaitGroup
	for _, p := range b.pubs {
		wg.Go(func() { b.publish(runCtx, p) })
	}
	ticking, stopTicks := context.WithCancel(ctx)
	var ticks sync.WaitGroup
	ticks.Go(func() { b.tell(ticking) })
	wg.Wait()
	seconds := time.Since(b.begin).Seconds()
	b.waitForRest(ctx)
	stopTicks()
	ticks.Wait()
	return b.count(seconds), nil
}

func (b *bench) say(format string, args ...any) {
	if b.progress != nil {
		fmt.Fprintf(b.progress, "bench: "+format+"\n", args...)
	}
}

// connectAll opens the subscribers first, so that nothing is published before everybody listens.
func (b *bench) connectAll(ctx context.Context) error {
	b.subs, b.pubs = make([]*benchSub, b.p.Subs), make([]*benchPub, b.p.Pubs)
	for i := range b.pubs {
		b.pubs[i] = &benchPub{i: i, room: make(chan struct{}, b.p.Window), seen: make(chan struct{}, b.p.Window)}
	}
	lanes := b.p.Pubs
	if b.p.Pattern == "pairs" && b.p.Subs > 0 {
		lanes = (b.p.Pubs + b.p.Subs - 1) / b.p.Subs
	}
	err := each(ctx, b.p.Subs, func(ctx context.Context, j int) error {
		s := &benchSub{j: j, lanes: make([]lane, lanes)}
		cl, err := b.connect(ctx, "sub", j, func(m *message) { b.receive(s, m) })
		if err != nil {
			return err
		}
		s.cl = cl
		b.subs[j] = s
		refused, err := cl.subscribe(ctx, []string{b.p.filter(j)}, b.p.QoS)
		if err == nil && len(refused) > 0 {
			err = refused[0]
		}
		if err != nil {
			return fmt.Errorf("subscribe to %q: %w", b.p.filter(j), err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return each(ctx, b.p.Pubs, func(ctx context.Context, i int) error {
		cl, err := b.connect(ctx, "pub", i, nil)
		b.pubs[i].cl = cl
		return err
	})
}

// each runs f for 0 to n-1, dialsAtOnce at a time, until the first error.
func each(ctx context.Context, n int, f func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, dialsAtOnce) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (b *bench) connect(ctx context.Context, role string, i int, onMessage func(*message)) (client, error) {
	to := *b.to
	if to.clientID == "" {
		to.clientID = "bench"
	}
	to.clientID = fmt.Sprintf("%s-%x-%s-%d", to.clientID, b.p.run[:4], role, i)
	to.onMessage = onMessage
	return b.e.connect(ctx, &to, b.timeout)
}

// publish sends until ctx is done. With a rate, an event's time counts from when it was due, however late it was sent.
func (b *bench) publish(ctx context.Context, p *benchPub) {
	m := &message{topic: b.p.topic(p.i), qos: b.p.QoS}
	var every time.Duration
	due := b.begin
	if b.p.Rate > 0 {
		every = time.Duration(float64(time.Second) * float64(b.p.Pubs) / b.p.Rate)
		due = due.Add(every * time.Duration(p.i) / time.Duration(b.p.Pubs)) // spread evenly
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		if every > 0 {
			if due.Sub(b.begin) >= b.p.Duration {
				<-ctx.Done()
				return
			}
			if wait := time.Until(due); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-ctx.Done():
					return
				case <-p.cl.ended():
					return
				}
			}
		} else {
			due = time.Now()
		}
		if !b.makeRoom(ctx, p) {
			return
		}
		at := due
		if every == 0 {
			at = time.Now()
		}
		due = due.Add(every)
		one := *m
		one.payload = make([]byte, b.p.Size) // the client keeps it until the event is settled
		stamp{uint32(p.i), p.seq, int64(at.Sub(b.start))}.put(one.payload, b.p.run)
		err := p.cl.publish(ctx, &one, func(err error) { b.settle(p, at, err) })
		if err != nil {
			if ctx.Err() == nil {
				b.refuse(err)
			}
			return
		}
		p.seq++
		b.sent.Add(1)
	}
}

// makeRoom waits for a slot of both windows. false: the run or the connection is over.
func (b *bench) makeRoom(ctx context.Context, p *benchPub) bool {
	if b.p.QoS > 0 {
		select {
		case p.room <- struct{}{}:
		case <-ctx.Done():
			return false
		case <-p.cl.ended():
			return false
		}
	}
	if b.p.Subs == 0 || b.p.Rate > 0 {
		return true
	}
	select {
	case p.seen <- struct{}{}:
		return true
	default:
	}
	t := time.NewTimer(stallTime)
	defer t.Stop()
	select {
	case p.seen <- struct{}{}:
		return true
	case <-t.C: // what is in the window was lost, or the server is slower than this: go on
		b.stalls.Add(1)
		for len(p.seen) > 0 {
			select {
			case <-p.seen:
			default:
			}
		}
		return true
	case <-ctx.Done():
	case <-p.cl.ended():
	}
	return false
}

// settle is told what became of a publish.
func (b *bench) settle(p *benchPub, at time.Time, err error) {
	if b.p.QoS > 0 {
		<-p.room
	}
	if err != nil {
		b.refuse(err)
		return
	}
	b.acked.Add(1)
	if b.p.QoS > 0 {
		b.ackLatency.add(time.Since(at))
	}
}

func (b *bench) refuse(err error) {
	b.refused.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	reason := err.Error()
	if _, known := b.reasons[reason]; !known && len(b.reasons) >= 32 {
		reason = "other"
	}
	b.reasons[reason]++
}

// receive checks an event at a subscriber.
func (b *bench) receive(s *benchSub, m *message) {
	st, ok := readStamp(m.payload, b.p.run)
	if !ok || int(st.pub) >= b.p.Pubs {
		b.foreign.Add(1)
		return
	}
	n, ok := b.p.lane(int(st.pub), s.j)
	if !ok {
		b.foreign.Add(1)
		return
	}
	b.latency.add(time.Since(b.start) - time.Duration(st.at))
	s.mu.Lock()
	s.lanes[n].receive(st.seq)
	s.mu.Unlock()
	b.got.Add(1)
	if s.j == b.p.tracker(int(st.pub)) {
		select {
		case <-b.pubs[st.pub].seen:
		default:
		}
	}
}

// waitForRest waits until everything sent was answered and delivered, or nothing came for a while.
func (b *bench) waitForRest(ctx context.Context) {
	end := time.Now().Add(b.p.drain)
	for time.Now().Before(end) && ctx.Err() == nil {
		sent := b.sent.Load()
		answered := b.p.QoS == 0 || b.acked.Load()+b.refused.Load() >= sent
		if answered && b.got.Load() >= (sent-min(sent, b.refused.Load()))*uint64(b.p.receivers()) {
			time.Sleep(50 * time.Millisecond) // an event too many would come now
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// tell reports once a second.
func (b *bench) tell(ctx context.Context) {
	if b.progress == nil {
		return
	}
	t := time.NewTicker(time.Second)
	defer t.Stop()
	var sent, got uint64
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			s, g := b.sent.Load(), b.got.Load()
			b.say("%2.0f s  sent %s/s  delivered %s/s  refused %s", now.Sub(b.begin).Seconds(), group(s-sent), group(g-got), group(b.refused.Load()))
			sent, got = s, g
		}
	}
}

// count puts the result together; publishers have ended, subscribers may still receive.
func (b *bench) count(seconds float64) *benchDoc {
	d := &benchDoc{
		benchPlan: *b.p, Seconds: math.Round(seconds*1000) / 1000, Sent: b.sent.Load(), Acked: b.acked.Load(), Refused: b.refused.Load(), Foreign: b.foreign.Load(),
		Stalls: b.stalls.Load(), Latency: b.latency.quantiles(), AckLatency: b.ackLatency.quantiles(),
	}
	var different uint64
	for _, s := range b.subs {
		s.mu.Lock()
		for i := range s.lanes {
			l := &s.lanes[i]
			different += l.got
			d.Duplicated += l.dup
			d.Reordered += l.late
		}
		s.mu.Unlock()
	}
	if b.p.QoS > 0 {
		d.Unanswered = d.Sent - min(d.Sent, d.Acked+d.Refused)
	}
	n := uint64(b.p.receivers())
	d.Expected = (d.Sent - min(d.Sent, d.Refused+d.Unanswered)) * n
	d.Delivered = different
	d.Lost = d.Expected - min(d.Expected, different)
	if seconds > 0 {
		d.SendRate, d.DeliverRate = math.Round(float64(d.Sent)/seconds), math.Round(float64(different)/seconds)
	}
	b.mu.Lock()
	d.Refusals = sortRefusals(b.reasons)
	b.mu.Unlock()
	for _, p := range b.pubs {
		d.Cut += cut(p.cl)
	}
	for _, s := range b.subs {
		d.Cut += cut(s.cl)
	}
	return d
}

func cut(cl client) int {
	select {
	case <-cl.ended():
		return 1
	default:
		return 0
	}
}

func (b *bench) closeAll() {
	var all []client
	for _, s := range b.subs {
		if s != nil && s.cl != nil {
			all = append(all, s.cl)
		}
	}
	for _, p := range b.pubs {
		if p != nil && p.cl != nil {
			all = append(all, p.cl)
		}
	}
	err := each(context.Background(), len(all), func(_ context.Context, i int) error {
		_ = all[i].close() // the numbers are in: how a connection ends changes nothing
		return nil
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		b.say("%v", err)
	}
}
