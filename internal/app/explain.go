package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/windrose-edc/windrose/internal/config"
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/session"
	"github.com/windrose-edc/windrose/internal/tap"
)

// explainWait is how long the answer about an event that is not sent may take: the loops answer when they come to it.
const explainWait = 5 * time.Second

func tapSpec(snap *config.Snapshot) tap.Spec { return *snap.Single("tap").(*tap.Spec) }

// saidFunc puts an outcome into the words of a client's protocol.
type saidFunc func(o event.Outcome, byPolicy bool) string

// asked makes the event of a question: on which listener it arrives, and how its client is answered. The error says which
// part of the question is wrong.
func asked(snap *config.Snapshot, q *tap.Question) (*event.Event, map[string]event.Outcome, saidFunc, error) {
	if q.Protocol == "" {
		q.Protocol = "mqtt"
	}
	var known []string
	var spec any
	for _, e := range snap.Entries("listeners") {
		known = append(known, e.Name)
		if e.Kind != q.Protocol {
			continue
		}
		if q.Listener == "" || q.Listener == e.Name {
			q.Listener, spec = e.Name, e.Spec
			break
		}
	}
	switch {
	case spec == nil && q.Listener != "":
		return nil, nil, nil, fmt.Errorf("listener %q: there is none of that name that speaks %s; listeners: %s", q.Listener, q.Protocol, strings.Join(known, ", "))
	case spec == nil:
		return nil, nil, nil, fmt.Errorf("protocol %q: no listener speaks it; listeners: %s", q.Protocol, strings.Join(known, ", "))
	}
	for name := range q.Assume {
		if name == tap.AnyPool {
			continue
		}
		if !hasEntry(snap, "pools", name) {
			return nil, nil, nil, fmt.Errorf("assume: there is no pool %q", name)
		}
	}
	ev, assume, err := q.Event()
	if err != nil {
		return nil, nil, nil, err
	}
	said := func(event.Outcome, bool) string { return "" }
	for _, p := range protocols() {
		if p.kind.Name == q.Protocol && p.said != nil {
			said = func(o event.Outcome, byPolicy bool) string { return p.said(spec, q.Version, ev.QoS, o, byPolicy) }
		}
	}
	return ev, assume, said, nil
}

func hasEntry(snap *config.Snapshot, section, name string) bool {
	for _, e := range snap.Entries(section) {
		if e.Name == name {
			return true
		}
	}
	return false
}

// explain answers about an event that is not sent, as this node would take it now.
func (n *node) explain(ctx context.Context, q tap.Question) (tap.Record, error) {
	ev, assume, said, err := asked(n.live.Load().snap, &q)
	if err != nil {
		return tap.Record{}, err
	}
	a := session.ExplainOn(n.hosts, n.directory, ev, func(ev *event.Event) *tap.Answer { return n.tap.Ask(ev, assume) }, said)
	ctx, cancel := context.WithTimeout(ctx, explainWait)
	defer cancel()
	rec, err := a.Wait(ctx)
	if err != nil {
		return rec, fmt.Errorf("the loops did not answer in time: %w", err)
	}
	return n.tap.Show(rec), nil
}

// Explain answers about an event that is not sent, as a node with that configuration would take it: nobody has
// subscribed, and members of pools accept, unless the question assumes something else. Nothing listens and nothing is
// dialled. The error is config.Errors where the files are wrong.
func Explain(ctx context.Context, q tap.Question, files ...string) (rec tap.Record, err error) {
	snap, err := Load(files...)
	if err != nil {
		return rec, err
	}
	d, err := newDesk(ctx, snap)
	if err != nil {
		return rec, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	rec, _, err = d.ask(ctx, q)
	return rec, err
}

// desk is a node that is built and does not run: it answers about events that are not sent. Owned by one goroutine, which
// takes the place of all loops.
type desk struct {
	n    *node
	snap *config.Snapshot
	wg   sync.WaitGroup
	end  context.CancelFunc
}

// newDesk builds the node of a snapshot and puts its routes into the index.
func newDesk(ctx context.Context, snap *config.Snapshot) (*desk, error) {
	n, err := build(snap, observe.Discard(), nil)
	if err != nil {
		return nil, err
	}
	d := &desk{n: n, snap: snap}
	ctx, d.end = context.WithCancel(ctx)
	d.wg.Go(func() { _ = n.index.Run(ctx) }) // it ends with ctx, and says so
	known := make(chan struct{})
	n.index.Apply(n.net.Table().Changes(false), func() { close(known) })
	<-known
	return d, nil
}

func (d *desk) close() error {
	d.end()
	d.wg.Wait()
	d.n.live.Load().discard()
	return d.n.group.Close()
}

// ask walks the event of a question. from is the client that the event was given, its class included.
func (d *desk) ask(ctx context.Context, q tap.Question) (rec tap.Record, from *event.Origin, err error) {
	ev, assume, said, err := asked(d.snap, &q)
	if err != nil {
		return rec, nil, err
	}
	if _, ok := assume[tap.AnyPool]; !ok {
		assume[tap.AnyPool] = event.Accepted
	}
	ctx, cancel := context.WithTimeout(ctx, explainWait)
	defer cancel()
	h := d.n.hosts[0] // no loop runs: this goroutine is the only one
	a := d.n.tap.Ask(ev, assume)
	h.Explain(ev, said)
	h.Walker().Turn()
	if rec, err = a.Wait(ctx); err != nil {
		return rec, nil, fmt.Errorf("walk the event: %w", err)
	}
	return d.n.tap.Show(rec), ev.From, nil
}
