package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// The order in which the parts are stopped.
const (
	stopSources = iota
	stopPools
	stopLoops
	stopIndex
	stopAdmin
	numStops
)

// parts are the goroutines of a running node. Safe for concurrent use, but no part begins once the step is ended to which it
// belongs: the lock of reloads sees to that.
type parts struct {
	wg     sync.WaitGroup
	groups [numStops]struct {
		wg     sync.WaitGroup
		ctx    context.Context
		cancel context.CancelFunc
	}
	ctx    context.Context
	failed context.CancelFunc

	mu   sync.Mutex // guards what follows
	errs []error
}

// part is one goroutine that can be ended alone. Immutable.
type part struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// end ends the part; it does not wait.
func (p *part) end() {
	if p != nil {
		p.cancel()
	}
}

// wait waits until the part has ended.
func (p *part) wait() {
	if p != nil {
		<-p.done
	}
}

func newParts(ctx context.Context) *parts {
	p := &parts{}
	p.ctx, p.failed = context.WithCancel(ctx)
	for i := range p.groups {
		g := &p.groups[i]
		g.ctx, g.cancel = context.WithCancel(context.WithoutCancel(ctx))
	}
	return p
}

// run starts a part. When it fails the node stops.
func (p *parts) run(stop int, name string, f func(ctx context.Context) error) *part {
	g := &p.groups[stop]
	ctx, cancel := context.WithCancel(g.ctx)
	x := &part{cancel, make(chan struct{})}
	g.wg.Go(func() {
		defer close(x.done)
		defer cancel()
		if err := f(ctx); err != nil && !errors.Is(err, context.Canceled) {
			p.mu.Lock()
			p.errs = append(p.errs, fmt.Errorf("run %s: %w", name, err))
			p.mu.Unlock()
			p.failed()
		}
	})
	return x
}

// wait waits for the end of the context or of a part that failed.
func (p *parts) wait() { <-p.ctx.Done() }

// end stops the parts of one step and waits for them.
func (p *parts) end(stop int) {
	p.groups[stop].cancel()
	p.groups[stop].wg.Wait()
}

func (p *parts) err() error {
	p.failed()
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.errs...)
}
