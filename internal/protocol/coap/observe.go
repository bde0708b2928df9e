package coap

import (
	"slices"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/coap/wire"
	"github.com/windrose-edc/windrose/internal/session"
)

// The values of Observe in a request (RFC 7641, section 2).
const (
	observeRegister = 0
	observeCancel   = 1
)

// observation is one entry of the list of observers (RFC 7641, section 4.1). Owned by its client.
type observation struct {
	token   token
	group   *group
	con     bool // notifications are confirmable where the event asks for a promise
	ended   bool
	accept  uint32
	picky   bool   // accept is set
	szx     uint8  // the block size that its client asked for
	key     string // of the body's later blocks
	proof   int64  // when the client showed last that it is there, or was asked to
	sent    [4]uint16
	sends   uint8 // of sent: the message ids of the last notifications that are not confirmable
	waiting bool  // its first response is not out yet
}

// group is the observations of one filter. Owned by its client.
type group struct {
	id     uint32 // of the subscription
	filter string
	exact  bool // a topic, no wildcards: it has a value, and an old one need not be sent
	qos    event.QoS
	obs    []*observation
}

// observe registers an observation (RFC 7641, section 4.1). Its response comes when no event can be missed any more.
func (c *client) observe(x *exchange, m *wire.Message, res resource) {
	d := c.d
	if !c.via.reachable() {
		c.via.answer(x, c.via.ask())
		return
	}
	if r := c.mayRead(d.topic); r != nil {
		c.via.answer(x, r)
		return
	}
	name, ok := c.s.Filter(d.topic)
	if !ok {
		c.via.answer(x, d.r.fail(wire.BadRequest, "not a topic here"))
		return
	}
	o := &observation{token: x.token, con: x.con, szx: d.cfg.szx, key: string(d.cacheKey(wire.GET, m.Options, false)), proof: d.host.Now(), waiting: true}
	if v, ok := m.Options.Query("qos"); ok {
		o.con = string(v) != "0"
	}
	if f, ok := m.Options.Usable(wire.Accept); ok {
		o.accept, o.picky = wire.Uint(f), true
	}
	b, blocked := m.Options.Block(wire.Block2)
	if blocked {
		o.szx = min(o.szx, b.SZX)
	}
	if old := c.observation(x.token); old != nil {
		if old.group.filter == string(name) {
			o = old // registered again
		} else {
			c.cancel(old)
		}
	}
	fresh := o.group == nil
	if fresh && len(c.obs) >= d.cfg.observations {
		d.n.refused.Inc()
		c.via.answer(x, d.r.busy())
		return
	}
	var want *session.Want
	if fresh {
		want = c.joinGroup(o, name, res == resTopic)
		c.obs = append(c.obs, o)
		d.n.observers.Add(1)
	}
	if want == nil {
		c.registered(x, o, m.Options)
		return
	}
	opts := append(wire.Options(nil), m.Options...)
	c.await(awaited{x: *x, obs: o})
	d.wants[0] = *want
	c.s.Subscribe(d.wants[:], func() {
		for i := range c.awaited {
			if c.awaited[i].obs == o {
				a := c.taken(i)
				c.registered(&a.x, o, opts)
				return
			}
		}
	})
	d.wants[0] = session.Want{}
}

// joinGroup puts an observation into the group of its filter. The answer is what to subscribe to, nil where that is so already.
func (c *client) joinGroup(o *observation, name []byte, exact bool) *session.Want {
	qos := event.AtMostOnce
	if o.con {
		qos = event.AtLeastOnce
	}
	var g *group
	for _, x := range c.groups {
		if x.filter == string(name) {
			g = x
		}
	}
	known := g != nil
	if !known {
		c.groupIDs++
		g = &group{id: c.groupIDs, filter: string(name), exact: exact}
		c.groups = append(c.groups, g)
	}
	o.group = g
	g.obs = append(g.obs, o)
	if known && g.exact && g.qos >= qos {
		return nil
	}
	g.qos = max(g.qos, qos)
	w := &session.Want{Filter: []byte(g.filter), QoS: g.qos, ID: g.id, Replay: session.ReplayNever, RetainAsPublished: true}
	if !g.exact {
		w.Replay = session.ReplayAlways
	}
	return w
}

// registered answers a registration: with the last value, or with nothing where there is none yet, for events may come all the
// same.
func (c *client) registered(x *exchange, o *observation, opts wire.Options) {
	d := c.d
	o.waiting = false
	obs := o
	if o.ended {
		obs = nil
	}
	var of body
	if g := o.group; g.exact {
		if k := d.last([]byte(g.filter), d.host.Now()); k != nil && c.sees(&k.Event) {
			of = bodyOf(k)
		}
	}
	if of.b == nil && of.tag == (etag{}) {
		r := d.r.reset(wire.Content)
		if obs != nil {
			c.seq = (c.seq + 1) & 0xffffff
			r.uint(wire.Observe, c.seq)
		}
		c.via.answer(x, r)
		return
	}
	m := wire.Message{Code: wire.GET, Options: opts}
	r := c.page(of, &m, true, obs)
	if r.code != wire.Content && obs != nil { // RFC 7641, section 4.1: not registered
		c.cancel(obs)
	}
	c.via.answer(x, r)
}

// sees asks the policies that look at deliveries.
func (c *client) sees(ev *event.Event) bool {
	d := c.d
	if d.chain == nil {
		return true
	}
	ch := d.chain()
	if !ch.Receives() {
		return true
	}
	e := *ev
	d.ctx.Now, d.ctx.Session = d.host.Now(), c.s.Policy()
	return ch.Receive(&d.ctx, c.s.Origin, &e)
}

// observation finds an observation by its token.
func (c *client) observation(t token) *observation {
	for _, o := range c.obs {
		if o.token == t {
			return o
		}
	}
	return nil
}

// unobserve ends the observation of a request's token (RFC 7641, section 3.6).
func (c *client) unobserve(t token) {
	if o := c.observation(t); o != nil {
		c.cancel(o)
	}
}

// cancel ends an observation.
func (c *client) cancel(o *observation) {
	if o.ended {
		return
	}
	o.ended = true
	d, g := c.d, o.group
	if i := slices.Index(c.obs, o); i >= 0 {
		c.obs = slices.Delete(c.obs, i, i+1)
		d.n.observers.Add(-1)
	}
	if i := slices.Index(g.obs, o); i >= 0 {
		g.obs = slices.Delete(g.obs, i, i+1)
	}
	if len(g.obs) > 0 || c.s == nil {
		return
	}
	if i := slices.Index(c.groups, g); i >= 0 {
		c.groups = slices.Delete(c.groups, i, i+1)
	}
	d.filters[0] = []byte(g.filter)
	c.s.Unsubscribe(d.filters[:], d.had[:], func() {})
	d.filters[0] = nil
}

// Send implements session.Peer: it notifies the observations that the event matched.
func (c *client) Send(ev *event.Event, dl session.Delivery) bool {
	if c.gone {
		return false
	}
	n := 0
	for _, s := range dl.Subs {
		n += c.notify(s.ID(), ev, &dl)
	}
	if len(dl.Subs) == 0 {
		n += c.notify(dl.SubID, ev, &dl)
	}
	switch {
	case dl.QoS == event.AtMostOnce:
	case n == 0:
		c.complete(dl.ID)
	default:
		c.window = append(c.window, open{dl.ID, n})
	}
	return true
}

// notify sends an event to a group and says how many notifications wait for an acknowledgement.
func (c *client) notify(id uint32, ev *event.Event, dl *session.Delivery) (waits int) {
	d := c.d
	var g *group
	for _, x := range c.groups {
		if x.id == id {
			g = x
		}
	}
	if g == nil {
		return 0
	}
	if g.exact && ev.Retain {
		if k := d.retained.Get(ev.Topic); k != nil && k.Time > ev.Time { // RFC 7641, section 4.5.2: a newer state is on its way
			d.n.coalesced.Inc()
			return 0
		}
	}
	for i := 0; i < len(g.obs); i++ {
		o := g.obs[i]
		if o.waiting && dl.QoS == event.AtMostOnce {
			continue // its first response is to come, with the last value
		}
		if c.send(o, ev, dl) {
			waits++
		}
		if o.ended {
			i--
		}
	}
	return waits
}

// send sends an event to one observer; it reports whether the delivery waits for it.
func (c *client) send(o *observation, ev *event.Event, dl *session.Delivery) bool {
	d := c.d
	of := body{b: ev.Payload, expires: ev.Expires}
	if !o.group.exact {
		of.where = ev.Topic
	}
	of.format, of.typed = formatOfEvent(ev)
	if o.picky && len(ev.Payload) > 0 && !(of.typed && uint32(of.format) == o.accept) { // RFC 7641, section 4.2
		c.via.notify(o, d.r.reset(wire.NotAcceptable), false, 0)
		c.cancel(o)
		return false
	}
	of.tag = tagOf(ev)
	szx, bert := c.via.big()
	szx = min(szx, o.szx)
	if szx < wire.BERT {
		bert = 0
	}
	size := max(16<<min(szx, 6), bert/1024*1024)
	r := &d.r
	cut := len(of.b) > size
	if cut {
		k := ev.Keep()
		of.b = k.Payload
		c.keep([]byte(o.key), of)
	}
	c.head(r, &of, o)
	r.payload = of.b
	if cut {
		r.uint(wire.Block2, wire.Block{More: true, SZX: szx}.Value())
		r.uint(wire.Size2, uint32(len(of.b)))
		r.payload = of.b[:size]
	}
	d.n.notifications.Inc()
	return c.via.notify(o, r, o.con && dl.QoS > event.AtMostOnce, dl.ID) && dl.QoS > event.AtMostOnce
}

// age says how long a value is good for (RFC 7252, section 5.10.5), where its sender has said so.
func (d *desk) age(r *reply, expires int64) {
	if expires == 0 {
		return
	}
	left := max(expires-d.host.Now(), 0)
	r.uint(wire.MaxAge, uint32(min(left/int64(time.Second), 0xffffffff)))
}
