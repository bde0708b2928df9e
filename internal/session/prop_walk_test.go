package session

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/route"
)

var (
	propFilters = []string{"s/#", "r/#", "+/a", "s/b"}
	propTopics  = []string{"s/a", "s/b", "r/a", "n"}
)

// Any interleaving of publishing, retries, acknowledgements, lost connections, takeover from another loop, slow reading,
// refusing and silent targets, tiny credit between loops and time: nobody is answered twice, an exactly-once event walks
// once, lanes keep their order, windows are kept, nothing gets stuck, and everything that was borrowed comes back.
func TestSessionProperty(t *testing.T) {
	for i := range 10 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				w := newPropWorld(rt)
				rt.Repeat(map[string]func(*rapid.T){
					"publish": w.publish, "publish2": w.publish, "again": w.again, "turn": w.someTurn, "read": w.read, "ack": w.ack, "drop": w.drop,
					"connect": w.connect, "answer": w.answer, "mode": w.mode, "time": w.time,
				})
				w.finish()
			})
		})
	}
}

func newPropWorld(rt *rapid.T) *propWorld {
	lim := Limits{Queue: 10_000, QueueBytes: 1 << 30, Window: rapid.SampledFrom([]int{1, 2, 8}).Draw(rt, "window"),
		Receive: rapid.SampledFrom([]int{1, 3, 64}).Draw(rt, "receive")}
	w := &propWorld{events: map[string]*propEvent{}, window: lim.Window, complete: true}
	if rapid.IntRange(0, 2).Draw(rt, "small") == 0 {
		w.complete = false
		lim.Queue = rapid.IntRange(1, 3).Draw(rt, "queue")
		lim.Rule = Overflow(rapid.IntRange(0, 2).Draw(rt, "rule"))
	}
	loops := rapid.IntRange(1, 3).Draw(rt, "loops")
	credit := rapid.SampledFrom([]int64{1, 250, 1000, 1 << 20}).Draw(rt, "credit")
	w.s = newSim(rt, loops, credit, 30*time.Second, lim)
	var rs []*route.Route
	for i := range rapid.IntRange(0, 2).Draw(rt, "routes") {
		x := &propTarget{w: w, got: map[string]int{}, decided: map[uint64]int{}}
		w.targets = append(w.targets, x)
		p, _ := event.ParsePattern([]string{"r/#", "#"}[i])
		rs = append(rs, &route.Route{Name: fmt.Sprint(i), Filter: p, Target: x})
	}
	tbl := route.NewTable(1, rs)
	w.s.index.Apply(tbl.Changes(false), nil)
	w.s.net.SetTable(tbl)
	w.s.sync()
	for i := range rapid.IntRange(1, 4).Draw(rt, "clients") {
		c := &propClient{w: w, id: fmt.Sprint("c", i), seqs: map[string]int{}, subs: map[string]event.QoS{}, seen: map[string]int{}, fresh: map[string]int{}}
		c.forget()
		for _, f := range propFilters {
			if rapid.IntRange(0, 2).Draw(rt, "subscribes") == 0 {
				c.subs[f] = event.QoS(rapid.IntRange(0, 2).Draw(rt, "qos"))
			}
		}
		w.clients = append(w.clients, c)
		c.connect(i%loops, false, Never, 100, 1000)
	}
	return w
}

func (w *propWorld) some(rt *rapid.T) *propClient {
	return rapid.SampledFrom(w.clients).Draw(rt, "client")
}

func (w *propWorld) publish(rt *rapid.T) {
	c := w.some(rt)
	topic := rapid.SampledFrom(propTopics).Draw(rt, "topic")
	for range rapid.IntRange(1, 6).Draw(rt, "events") {
		if c.p == nil || len(c.out) > 30 {
			return
		}
		c.publish(topic, event.QoS(rapid.IntRange(0, 2).Draw(rt, "qos")))
	}
}

func (w *propWorld) someTurn(rt *rapid.T) {
	var awake []int
	for i, l := range w.s.loops {
		if l.awake() {
			awake = append(awake, i)
		}
	}
	if len(awake) > 0 {
		w.turn(rapid.SampledFrom(awake).Draw(rt, "loop"))
	}
}

func (w *propWorld) read(rt *rapid.T) {
	if c := w.some(rt); c.p != nil {
		c.read(rapid.IntRange(1, 8).Draw(rt, "packets"))
	}
}

func (w *propWorld) ack(rt *rapid.T) {
	if c := w.some(rt); c.p != nil {
		c.ack(rapid.IntRange(1, 8).Draw(rt, "packets"))
	}
}

func (w *propWorld) again(rt *rapid.T) {
	c := w.some(rt)
	for _, x := range c.out {
		if c.p != nil && x.ev.qos == event.ExactlyOnce && rapid.Bool().Draw(rt, "again") {
			c.again(x)
			return
		}
	}
}

func (w *propWorld) drop(rt *rapid.T) {
	if c := w.some(rt); c.p != nil {
		w.touch(c.p.loop)
		c.p.end()
		w.s.sync()
	}
}

func (w *propWorld) connect(rt *rapid.T) {
	c := w.some(rt)
	if c.p != nil && rapid.Bool().Draw(rt, "takeover") {
		return
	}
	clean := rapid.IntRange(0, 4).Draw(rt, "clean") == 0
	expiry := uint32(Never)
	if !w.complete {
		expiry = rapid.SampledFrom([]uint32{0, 5, Never}).Draw(rt, "expiry")
	}
	c.connect(rapid.IntRange(0, len(w.s.loops)-1).Draw(rt, "loop"), clean, expiry, rapid.SampledFrom([]int{1, 3, 100}).Draw(rt, "window"),
		rapid.SampledFrom([]int{1, 4, 1000}).Draw(rt, "room"))
	w.s.sync()
}

func (w *propWorld) answer(rt *rapid.T) {
	for _, x := range w.targets {
		if len(x.open) == 0 || !rapid.Bool().Draw(rt, "answers") {
			continue
		}
		i := rapid.IntRange(0, len(x.open)-1).Draw(rt, "which")
		k := x.open[i]
		x.open = slices.Delete(x.open, i, i+1)
		o := rapid.SampledFrom([]event.Outcome{event.Accepted, event.Unavailable, event.NoMatch}).Draw(rt, "outcome")
		k.Settle(o)
		if rapid.IntRange(0, 3).Draw(rt, "twice") == 0 {
			k.Settle(event.Accepted)
		}
	}
}

func (w *propWorld) mode(rt *rapid.T) {
	for _, x := range w.targets {
		x.how = rapid.IntRange(0, 3).Draw(rt, "how")
	}
}

func (w *propWorld) time(rt *rapid.T) {
	w.advance(rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, 6 * time.Second, 32 * time.Second}).Draw(rt, "time"))
}

// finish lets everything come to its end, and looks whether it did.
func (w *propWorld) finish() {
	w.calm = true
	for _, c := range w.clients {
		if c.p != nil {
			c.p.room = 1000
			c.p.drained()
			w.touch(c.p.loop)
		} else {
			c.connect(0, false, Never, 100, 1000)
		}
	}
	for _, x := range w.targets { // some answer, some never
		for i, k := range x.open {
			if i%2 == 0 {
				k.Settle(event.Accepted)
			}
		}
		x.how = 0
	}
	for i, quiet := 0, 0; i < 400 && quiet < 3; i++ {
		quiet++
		w.advance([]time.Duration{2 * time.Millisecond, 32 * time.Second}[i%20/19])
		for _, c := range w.clients {
			if c.p == nil { // its outbox was full, or it expired
				c.connect(0, false, Never, 100, 1000)
				quiet = 0
			}
			if len(c.p.inbox)+len(c.p.acks)+len(c.p.held)+len(c.out) > 0 {
				quiet = 0
			}
			c.read(1 << 20)
			c.ack(1 << 20)
		}
	}
	for _, c := range w.clients {
		w.check(len(c.out) == 0 && len(c.p.held) == 0, "%s waits for %d answers with %d held", c.id, len(c.out), len(c.p.held))
		w.check(len(c.in) == 0 && len(c.unacked) == 0 && len(c.p.inbox) == 0, "%s has open deliveries", c.id)
		w.check(c.p.s.in == nil || len(c.p.s.in.orphans) <= orphanMax*w.s.sh.Limits.Receive, "%s has too many orphans", c.id)
		w.check(c.p.s.in.unanswered() == 0, "%s: %d of the quota are not given back", c.id, c.p.s.in.unanswered())
	}
	if w.complete {
		w.checkComplete()
	}
	w.checkIdle()
}

// checkComplete: what walked while a subscription was there, and stayed, has arrived.
func (w *propWorld) checkComplete() {
	for _, c := range w.clients {
		for _, ev := range w.events {
			if ev.qos == 0 || ev.walks == 0 {
				continue
			}
			for f, q := range c.subs {
				since, ok := c.since[f]
				if ok && q > 0 && since <= ev.walked && event.Match([]byte(f), []byte(ev.topic)) {
					w.check(c.seen[ev.payload] > 0, "%s has subscribed to %s and never gets %s", c.id, f, ev.payload)
				}
			}
		}
	}
}

// checkIdle ends every session and looks whether everything is given back.
func (w *propWorld) checkIdle() {
	for _, c := range w.clients {
		c.connect(0, true, 0, 100, 1000)
		w.touch(c.p.loop)
		c.p.end()
	}
	w.run()
	w.advance(time.Minute) // quarantines and deadlines
	for i, h := range w.s.hosts {
		w.touch(i)
		w.turn(i)
		t := &h.Tally
		w.check(t.Sessions == 0 && t.Online == 0 && t.Subs == 0 && t.Queued == 0 && t.QueuedBytes == 0, "loop %d: gauges %+v", i, *t)
		w.check(h.walk.Open() == 0, "loop %d: %d outcomes open", i, h.walk.Open())
		w.check(len(h.resting) == 0, "loop %d: taker numbers rest", i)
		for range len(h.slots) - 1 {
			taker, ok := h.walk.Join(nil)
			w.check(ok && route.Sub(uint64(taker)<<32).Slot() < len(h.slots), "loop %d: taker numbers are lost", i)
		}
		_, armed := w.s.loops[i].next()
		w.check(!armed, "loop %d: a timer is armed", i)
	}
	w.check(w.s.sh.Directory.Len() == 0, "%d sessions", w.s.sh.Directory.Len())
	n := w.s.index.Stats().Subs
	w.check(n == len(w.targets), "%d subscriptions are left", n)
}
