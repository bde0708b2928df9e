package coap

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"strconv"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/protocol/coap/wire"
	"github.com/windrose-edc/windrose/internal/session"
)

// resource is what a request is about.
type resource uint8

const (
	resCore   resource = iota // .well-known/core
	resSpace                  // /ps: all topics
	resTopic                  // /ps/...: the topic in desk.topic
	resFilter                 // /ps?f=...: the filter in desk.topic
)

// root is the first segment of the path of every topic.
const root = "ps"

func badOption(n wire.Number) string { return "option " + strconv.Itoa(int(n)) }

// route finds what a request is about, and refuses what no resource does, without looking at who asks.
func (d *desk) route(m *wire.Message) (resource, *reply) {
	for _, n := range [...]wire.Number{wire.ProxyURI, wire.ProxyScheme} {
		if _, ok := m.Options.Get(n); ok {
			return 0, d.r.fail(wire.ProxyingNotSupported, "") // RFC 7252, section 5.10.2
		}
	}
	if v, ok := m.Options.Usable(wire.HopLimit); ok && v[0] == 0 { // RFC 8768, section 3
		return 0, d.r.fail(wire.BadRequest, "hop limit")
	}
	res, why := d.path(m.Options)
	if why != nil {
		return 0, why
	}
	switch m.Code {
	case wire.GET:
	case wire.PUT, wire.POST, wire.DELETE:
		if res != resTopic {
			return 0, d.r.fail(wire.MethodNotAllowed, "")
		}
	default: // RFC 7252, section 5.8
		return 0, d.r.fail(wire.MethodNotAllowed, "")
	}
	return res, nil
}

// path turns a path into a topic: each option is one level as it is, never percent-decoded, so that no level can become two.
func (d *desk) path(o wire.Options) (resource, *reply) {
	d.topic = d.topic[:0]
	first, second, n := []byte(nil), []byte(nil), 0
	for it := o.Iter(); ; {
		num, v, ok := it.Next()
		if !ok || num > wire.URIPath {
			break
		}
		if num != wire.URIPath {
			continue
		}
		switch n++; n {
		case 1:
			first = v
			continue
		case 2:
			second = v
		}
		if string(first) != root {
			continue
		}
		if len(v) == 0 || bytes.ContainsAny(v, "/+#\x00") {
			return 0, d.r.fail(wire.BadRequest, "a level of a topic")
		}
		if n > 2 {
			d.topic = append(d.topic, '/')
		}
		d.topic = append(d.topic, v...)
	}
	switch {
	case n == 2 && string(first) == ".well-known" && string(second) == "core":
		return resCore, nil
	case string(first) != root:
		return 0, d.r.fail(wire.NotFound, "")
	case n > 1 && !event.ValidTopic(d.topic):
		return 0, d.r.fail(wire.BadRequest, "not a topic")
	case n > 1:
		return resTopic, nil
	}
	f, ok := o.Query("f")
	if !ok {
		return resSpace, nil
	}
	if !event.ValidFilter(f) || bytes.HasPrefix(f, []byte("$share/")) {
		return 0, d.r.fail(wire.BadRequest, "not a filter")
	}
	d.topic = append(d.topic, f...)
	return resFilter, nil
}

// handle answers a request, now or later.
func (c *client) handle(x *exchange, m *wire.Message, res resource) {
	switch m.Code { // route lets only four pass
	case wire.PUT, wire.POST, wire.DELETE:
		body, why := c.body(x, m)
		if why == nil {
			why = c.publish(x, m, body)
		}
		if why != nil {
			if x.blocked && why.last <= wire.Block1 {
				why.uint(wire.Block1, x.block1)
			}
			c.via.answer(x, why)
		}
	default:
		c.get(x, m, res)
	}
}

// publish takes a publication. It returns the response, nil where that comes later.
func (c *client) publish(x *exchange, m *wire.Message, body []byte) *reply {
	d := c.d
	now := d.host.Now()
	ev := &d.ev
	*ev = event.Event{Topic: d.topic, Payload: body, From: c.s.Origin, Time: now, Retain: m.Code != wire.POST}
	if x.con {
		ev.QoS = event.AtLeastOnce
	}
	if v, ok := m.Options.Query("qos"); ok && string(v) == "0" {
		ev.QoS = event.AtMostOnce
	}
	created := false
	if m.Code != wire.POST {
		name, ok := c.s.Filter(d.topic)
		if !ok {
			return d.r.fail(wire.BadRequest, "not a topic here")
		}
		old := d.last(name, now)
		if !precondition(m.Options, old) {
			return d.r.reset(wire.PreconditionFailed)
		}
		created = old == nil
	}
	switch {
	case m.Code == wire.DELETE:
		ev.Payload = nil
	case m.Code == wire.PUT && len(body) == 0:
		return d.r.fail(wire.BadRequest, "an empty value: use DELETE")
	}
	if f, ok := m.Options.Usable(wire.ContentFormat); ok && m.Code != wire.DELETE {
		t, known := formats[uint16(wire.Uint(f))]
		if !known {
			return d.r.fail(wire.UnsupportedContentFormat, "")
		}
		meta := d.meta[:0]
		if wire.Uint(f) == formatText {
			meta = event.AppendMetaByte(meta, event.MetaPayloadFormat, 1)
		}
		d.meta, _ = event.AppendMeta(meta, event.MetaContentType, t)
		ev.Meta = d.meta
	}
	if age, ok := m.Options.UintOf(wire.MaxAge); ok && m.Code != wire.DELETE {
		ev.Expires = now + max(int64(age)*int64(time.Second), 1)
	}
	if ev.QoS == event.AtMostOnce {
		return c.publishUnacked(ev, m.Code, created)
	}
	if c.receipts++; c.receipts == 0 {
		c.receipts = 1
	}
	id := c.receipts
	c.await(awaited{x: *x, receipt: id, method: m.Code, created: created})
	hold, until := c.s.Publish(ev, id, false)
	if hold == session.Go {
		return nil
	}
	for i := range c.awaited {
		if c.awaited[i].receipt == id {
			c.taken(i)
			break
		}
	}
	return d.later(hold, until)
}

// publishUnacked publishes an event for whose outcome nobody waits; what a policy says of it its sender hears all the same.
func (c *client) publishUnacked(ev *event.Event, method wire.Code, created bool) *reply {
	d := c.d
	before := d.host.Tally.Outcomes
	if hold, until := c.s.Publish(ev, 0, false); hold != session.Go {
		return d.later(hold, until)
	}
	for o := range event.NumOutcomes {
		if !o.OK() && d.host.Tally.Outcomes[o] != before[o] { // the only outcome that such an event can have at once
			return c.published(o, method, created)
		}
	}
	return c.published(event.Accepted, method, created)
}

// later is the response to an event that cannot be taken now: the client keeps it.
func (d *desk) later(hold session.Hold, until int64) *reply {
	r := d.r.reset(wire.ServiceUnavailable)
	age := uint32(retryAfter)
	if hold != session.HoldMail {
		r.code = wire.TooManyRequests // RFC 8516
		if left := until - d.host.Now(); left > int64(time.Second) {
			age = uint32((left + int64(time.Second) - 1) / int64(time.Second))
		}
	}
	r.uint(wire.MaxAge, age)
	return r
}

// last is the last value of a topic, nil where it has none.
func (d *desk) last(topic []byte, now int64) *event.Kept {
	k := d.retained.Get(topic)
	if k == nil || k.Expired(now) {
		return nil
	}
	return k
}

// precondition says whether the last value is what If-Match and If-None-Match ask for (RFC 7252, section 5.10.8).
func precondition(o wire.Options, old *event.Kept) bool {
	if _, ok := o.Get(wire.IfNoneMatch); ok && old != nil {
		return false
	}
	asked, match := false, false
	for it := o.Iter(); ; {
		n, v, ok := it.Next()
		if !ok || n > wire.IfMatch {
			return !asked || match
		}
		asked = true
		if old == nil {
			continue
		}
		tag := etagOf(old)
		match = match || len(v) == 0 || bytes.Equal(v, tag[:])
	}
}

// etagSeed makes entity tags differ from one start to the next: last values do not outlive the process.
var etagSeed = maphash.MakeSeed()

// etag is an entity tag.
type etag [8]byte

// etagOf is the tag of a value: of its bytes and of what is said of them.
func etagOf(k *event.Kept) etag { return tagOf(&k.Event) }

func tagOf(ev *event.Event) (t etag) {
	var h maphash.Hash
	h.SetSeed(etagSeed)
	_, _ = h.Write(ev.Payload)
	_ = h.WriteByte(0)
	_, _ = h.Write(ev.Meta)
	binary.BigEndian.PutUint64(t[:], h.Sum64())
	return t
}

// get answers a read.
func (c *client) get(x *exchange, m *wire.Message, res resource) {
	d := c.d
	now := d.host.Now()
	v, observes := m.Options.Usable(wire.Observe)
	block, blocked := m.Options.Block(wire.Block2)
	if blocked && block.SZX == wire.BERT && d.cfg.datagrams { // RFC 7959, section 2.2
		c.via.answer(x, d.r.fail(wire.BadRequest, "block size"))
		return
	}
	if observes && !(blocked && block.Num > 0) && (res == resTopic || res == resFilter) {
		switch wire.Uint(v) {
		case observeRegister:
			c.observe(x, m, res)
			return
		case observeCancel:
			c.unobserve(x.token)
		}
	}
	if blocked && block.Num > 0 {
		if s := c.shot(m.Options); s != nil {
			c.via.answer(x, c.page(s.of, m, false, nil))
			return
		}
	}
	if res == resCore || res == resSpace {
		c.via.answer(x, c.core(x, m))
		return
	}
	r := c.mayRead(d.topic)
	if r == nil && res == resFilter {
		r = d.r.fail(wire.BadRequest, "a filter is observed")
	}
	if r != nil {
		c.via.answer(x, r)
		return
	}
	name, _ := c.s.Filter(d.topic)
	k := d.last(name, now)
	if k == nil || !c.sees(&k.Event) {
		c.via.answer(x, d.r.reset(wire.NotFound))
		return
	}
	c.via.answer(x, c.page(bodyOf(k), m, true, nil))
}

// mayRead asks the policies; nil: yes.
func (c *client) mayRead(filter []byte) *reply {
	v := c.s.MaySubscribe(filter, event.AtMostOnce, 0)
	if v.Kind == policy.Pass {
		return nil
	}
	code := Outcomes[v.Outcome].code
	if code == wire.Forbidden && c.anonymous {
		code = wire.Unauthorized
	}
	return c.d.r.reset(code)
}
