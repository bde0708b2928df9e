package coap

import (
	"math/rand/v2"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/protocol/coap/wire"
	"github.com/windrose-edc/windrose/internal/retain"
	"github.com/windrose-edc/windrose/internal/session"
)

// desk is what all clients of a listener on one loop share: the machine has no I/O, no clock and no source of chance but what
// it is given here. Owned by its loop.
type desk struct {
	cfg      *settings
	host     *session.Host
	retained *retain.Store
	auth     func() *identity.Chain
	chain    func() *policy.Chain // may be nil: nobody looks at what is read
	chance   *rand.Rand
	echo     *echoKey
	n        *counters

	held    int64 // bytes of transfers under way
	upFirst *upload
	upLast  *upload // the youngest

	answering awaited // the request that is answered

	ev      event.Event
	topic   []byte
	meta    []byte
	key     []byte
	r       reply
	ctx     policy.Context
	wants   [1]session.Want
	filters [1][]byte
	had     [1]bool
}

// carrier is how a client is reached: by datagrams or by a stream.
type carrier interface {
	// answer sends the response to a request.
	answer(x *exchange, r *reply)
	// notify sends a notification. done says that the carrier calls client.noted with id when the peer has it, or has refused.
	notify(o *observation, r *reply, con bool, id uint16) (done bool)
	// room says whether there is room for more.
	room() bool
	// affords says whether so many bytes may go to an address that has not shown that it is reachable.
	affords(x *exchange, n int) bool
	// reachable says whether the client has shown that it is at its address.
	reachable() bool
	// ask is the reply that has the client show that it is reachable.
	ask() *reply
	// awaits is told of a request whose response comes later.
	awaits(x *exchange)
	// end forgets the client.
	end(w session.Why)
	// describe adds what the carrier knows.
	describe(f *session.PeerFacts)
	// big is the number of bytes that a block may have on this carrier at most, by its SZX.
	big() (szx uint8, bert int)
}

// awaited is a request whose response comes later: a publication, or a registration. Owned by its client.
type awaited struct {
	x       exchange
	receipt uint16 // of the session; 0: a registration
	method  wire.Code
	created bool // the resource had no value
	obs     *observation
}

// client is who speaks from one endpoint: its session, observations and transfers. Owned by its loop.
type client struct {
	d         *desk
	via       carrier
	s         *session.Session
	anonymous bool
	gone      bool

	awaited  []awaited
	receipts uint16 // the last number given

	obs      []*observation
	groups   []*group // of observations, by filter
	groupIDs uint32
	seq      uint32 // of notifications (RFC 7641, section 4.4)

	window  []open   // deliveries that wait for acknowledgements
	done    []uint16 // deliveries that are complete and whose session is not told yet
	telling bool

	ups   []*upload
	shots []*shot
}

// open is a delivery that waits. Owned by its client.
type open struct {
	id uint16
	n  int // notifications without an acknowledgement
}

// open gives the client its session. why is a reply that refuses it; nil: it has one.
func (c *client) open(id string, cr *identity.Credentials, window int) (why *reply) {
	d := c.d
	cr.Listener = d.cfg.name
	p, dec, done := d.auth().Try(cr)
	if !done || dec != identity.Admitted {
		d.n.unauthorized.Inc()
		return d.r.fail(wire.Unauthorized, "")
	}
	c.anonymous = p.Name == ""
	hello := session.Hello{ClientID: id, Clean: true, Window: window, Bounds: d.cfg.bounds,
		Origin: event.Origin{Listener: d.cfg.name, Protocol: "coap", User: p.Name, Attrs: p.Attrs}}
	s, _, _, err := d.host.Open(&hello, c)
	if err != nil || s == nil {
		d.n.refused.Inc()
		return d.r.busy()
	}
	c.s = s
	s.Start()
	return nil
}

// close ends the client.
func (c *client) close(reason string) {
	if c.gone {
		return
	}
	c.gone = true
	for len(c.ups) > 0 {
		c.ups[0].drop()
	}
	c.forgetShots()
	c.d.n.observers.Add(-int64(len(c.obs)))
	c.obs, c.groups, c.awaited = nil, nil, nil
	if s := c.s; s != nil {
		c.s = nil
		s.Ended(c, reason)
		s.Detach(c, true)
	}
}

// Kick implements session.Peer.
func (c *client) Kick(w session.Why) {
	if c.s != nil && w == session.TakenOver { // the session is another's already
		c.s = nil
	}
	c.via.end(w)
}

// Release implements session.Peer: there are no exactly-once deliveries.
func (c *client) Release(uint16) {}

// Room implements session.Peer.
func (c *client) Room() bool { return !c.gone && c.via.room() }

// Describe implements session.Describer.
func (c *client) Describe(f *session.PeerFacts) { c.via.describe(f) }

// await keeps a request until its response is known.
func (c *client) await(a awaited) {
	a.x.ackAt = c.d.host.Now() + int64(ackDelay)
	c.awaited = append(c.awaited, a)
	c.via.awaits(&c.awaited[len(c.awaited)-1].x)
}

// taken takes a request off that is answered now.
func (c *client) taken(i int) awaited {
	a := c.awaited[i]
	n := copy(c.awaited[i:], c.awaited[i+1:])
	c.awaited[i+n] = awaited{}
	c.awaited = c.awaited[:i+n]
	return a
}

// Answer implements session.Peer: what became of an event of this client.
func (c *client) Answer(rc session.Receipt) {
	for i := range c.awaited {
		if c.awaited[i].receipt != rc.ID || c.awaited[i].receipt == 0 {
			continue
		}
		a := &c.d.answering
		*a = c.taken(i)
		r := c.published(rc.Outcome, a.method, a.created)
		if c.d.host.Watched() {
			c.d.host.Said(r.code.String())
		}
		if a.x.blocked && r.last <= wire.Block1 {
			r.uint(wire.Block1, a.x.block1)
		}
		c.via.answer(&a.x, r)
		return
	}
}

// published is the response to a publication with that outcome.
func (c *client) published(o event.Outcome, method wire.Code, created bool) *reply {
	r, row := &c.d.r, Outcomes[o]
	if o.OK() {
		r.reset(row.code)
		switch {
		case method == wire.DELETE:
			r.code = wire.Deleted
		case created:
			r.code = wire.Created
		}
		return r
	}
	code := row.code
	if code == wire.Forbidden && c.anonymous {
		code = wire.Unauthorized
	}
	r.reset(code)
	if row.maxAge > 0 {
		r.uint(wire.MaxAge, row.maxAge)
	}
	if row.size1 {
		r.uint(wire.Size1, uint32(c.d.cfg.maxBody))
	}
	r.payload = []byte(o.Text())
	return r
}

// noted says that the peer has a notification of a delivery, or refused it, or is not asked.
func (c *client) noted(id uint16) {
	if id == 0 || c.gone {
		return
	}
	for i := range c.window {
		if c.window[i].id != id {
			continue
		}
		if c.window[i].n--; c.window[i].n <= 0 {
			c.window = append(c.window[:i], c.window[i+1:]...)
			c.complete(id)
		}
		return
	}
}

// complete tells the session that a delivery is done, not within the call that may be sending it.
func (c *client) complete(id uint16) {
	c.done = append(c.done, id)
	if c.telling {
		return
	}
	c.telling = true
	c.d.host.Clock().Post(c.tell)
}

func (c *client) tell() {
	c.telling = false
	for len(c.done) > 0 && c.s != nil {
		ids := c.done
		c.done = nil
		for _, id := range ids {
			if c.s != nil {
				c.s.Acked(id)
			}
		}
	}
}
