package pool

import (
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// Yield makes next the successor of p, which Run of p completes when its context ends: p sends nothing more, waits at most
// Spec.Drain for the answers to what is in flight, and hands over what waits (in its order, before what next has received
// itself), what is not decided and the dead letters. What was in flight and not answered is delivered again by next, with the
// same ID. From now on next takes what is delivered to p. Run of next must begin after Run of p has ended. Nothing is refused
// for it, also where it is more than the bounds of next: then next refuses new events until it is less.
//
// What next can give back while p still works stays where it is: both know their own events.
func (p *Pool) Yield(next *Pool) {
	next.mu.Lock()
	next.before = p
	next.mu.Unlock()
	p.mu.Lock()
	p.heir = next
	p.mu.Unlock()
	p.kick()
}

// Discard gives back what New took, of a pool that is never run.
func (p *Pool) Discard() { p.unlist() }

// DrainWithin bounds Spec.Drain for an end that is near. Before the context of Run ends.
func (p *Pool) DrainWithin(d time.Duration) { p.within.Store(int64(max(d, 1))) }

func (p *Pool) drainTime() time.Duration {
	if d := time.Duration(p.within.Load()); d > 0 {
		return min(d, p.spec.Drain)
	}
	return p.spec.Drain
}

// bequeath gives everything to the heir; mu is held, and all links are closed.
func (p *Pool) bequeath() {
	h := p.heir
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before = nil
	own := h.takeOut()
	for _, it := range p.takeOut() {
		h.push(it, h.laneKey(&it.ev.Event))
		if it.t.Waits() {
			p.forget(it)
			h.waiting.push(&it.byDeadline, it)
			h.remember(it)
		}
	}
	for _, it := range own {
		h.push(it, h.laneKey(&it.ev.Event))
		if it.t.Waits() {
			h.waiting.push(&it.byDeadline, it)
		}
	}
	for it := p.open.front(); it != nil; it = p.open.front() {
		p.forget(it)
		it.byAge.remove()
		h.remember(it)
		h.hold(it)
	}
	p.openSize = 0
	h.inherit(&p.dead)
}

// takeOut empties the queue, oldest first; mu is held, and nothing is in flight any more.
func (p *Pool) takeOut() []*item {
	items := make([]*item, 0, p.age.n)
	for it := range p.age.all() {
		items = append(items, it)
	}
	for _, it := range items {
		if it.cur != nil {
			it.outcome = event.Indeterminate // it may have arrived
		}
		p.leave(it)
	}
	return items
}

// inherit puts the dead letters of a predecessor before p's own; mu is held. Letters keep their numbers, so p's own, of which
// there are hardly any, get new ones.
func (p *Pool) inherit(d *deadLetters) {
	var own, old []*item
	for it := p.dead.list.front(); it != nil; it = p.dead.list.front() {
		p.dead.remove(it)
		own = append(own, it)
	}
	for it := d.list.front(); it != nil; it = d.list.front() {
		d.remove(it)
		old = append(old, it)
	}
	for _, it := range old {
		p.dead.last = it.letterID - 1
		p.dead.add(it)
	}
	p.dead.last = max(p.dead.last, d.last)
	for _, it := range own {
		p.dead.add(it)
	}
	p.boundLetters()
}
