package coap

import (
	"bytes"
	"slices"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/coap/wire"
)

// upload is a body that arrives in blocks (RFC 7959, section 2.5). Owned by its client.
type upload struct {
	c   *client
	key string
	b   []byte
	at  int64 // of the last block

	older, younger *upload // of all clients of the desk
}

// cacheKey is what makes two requests be about the same thing: method, path and query, and for uploads the Request-Tags (RFC 9175,
// section 3.3). Tokens are no part of it: they may change from block to block.
func (d *desk) cacheKey(code wire.Code, o wire.Options, tags bool) []byte {
	k := append(d.key[:0], byte(code))
	for it := o.Iter(); ; {
		n, v, ok := it.Next()
		if !ok {
			break
		}
		if n == wire.URIPath || n == wire.URIQuery || n == wire.URIHost || n == wire.URIPort || tags && n == wire.RequestTag {
			k = append(k, byte(n>>8), byte(n), byte(len(v)>>8), byte(len(v)))
			k = append(k, v...)
		}
	}
	d.key = k
	return k
}

// body is the body of a request when it is complete. Otherwise why is the answer to this block.
func (c *client) body(x *exchange, m *wire.Message) (body []byte, why *reply) {
	d := c.d
	limit := d.cfg.maxBody
	size, hasSize := m.Options.UintOf(wire.Size1)
	b, blocked := m.Options.Block(wire.Block1)
	if blocked {
		x.block1, x.blocked = b.Value(), true
	}
	if len(m.Payload) > limit || hasSize && int64(size) > int64(limit) || blocked && b.Offset()+len(m.Payload) > limit {
		c.dropUpload(d.cacheKey(m.Code, m.Options, true))
		r := d.r.reset(wire.RequestEntityTooLarge)
		if blocked {
			r.uint(wire.Block1, b.Value())
			x.blocked = false
		}
		r.uint(wire.Size1, uint32(limit))
		return nil, r
	}
	switch {
	case !blocked:
		return m.Payload, nil
	case b.SZX == wire.BERT && d.cfg.datagrams: // RFC 7959, section 2.2
		return nil, d.r.fail(wire.BadRequest, "block size")
	case b.More && (len(m.Payload) == 0 || b.SZX != wire.BERT && len(m.Payload) != b.Size() || len(m.Payload)%b.Size() != 0):
		return nil, d.r.fail(wire.BadRequest, "block of another size")
	case b.Num == 0 && !b.More:
		c.dropUpload(d.cacheKey(m.Code, m.Options, true))
		return m.Payload, nil
	}
	key := d.cacheKey(m.Code, m.Options, true)
	u := c.findUpload(key)
	at := b.Offset()
	switch {
	case b.Num == 0:
		if u == nil {
			if u = c.newUpload(key); u == nil {
				return nil, d.r.busy()
			}
		}
		d.held -= int64(len(u.b))
		u.b = u.b[:0]
	case u == nil || at > len(u.b): // RFC 7959, section 2.9.2
		return nil, d.r.reset(wire.RequestEntityIncomplete)
	case at+len(m.Payload) <= len(u.b) && bytes.Equal(u.b[at:at+len(m.Payload)], m.Payload) && b.More:
		return nil, d.r.reset(wire.Continue) // came again
	case at < len(u.b):
		u.drop()
		return nil, d.r.reset(wire.RequestEntityIncomplete)
	}
	if !u.grow(m.Payload) {
		u.drop()
		return nil, d.r.busy()
	}
	if b.More {
		return nil, d.r.reset(wire.Continue)
	}
	body = u.b
	u.drop()
	return body, nil
}

func (c *client) findUpload(key []byte) *upload {
	for _, u := range c.ups {
		if u.key == string(key) {
			return u
		}
	}
	return nil
}

func (c *client) dropUpload(key []byte) {
	if u := c.findUpload(key); u != nil {
		u.drop()
	}
}

// newUpload begins an upload; the client's oldest makes room.
func (c *client) newUpload(key []byte) *upload {
	d := c.d
	if len(c.ups) >= d.cfg.transfers {
		c.ups[0].drop()
		d.n.transfersDropped.Inc()
	}
	u := &upload{c: c, key: string(key), at: d.host.Now(), older: d.upLast}
	if d.upLast != nil {
		d.upLast.younger = u
	} else {
		d.upFirst = u
	}
	d.upLast = u
	c.ups = append(c.ups, u)
	return u
}

// grow takes a block; false: there is no room in total, not even where the oldest uploads go.
func (u *upload) grow(b []byte) bool {
	d := u.c.d
	for d.held+int64(len(b)) > d.cfg.transferBytes {
		o := d.upFirst
		if o == u {
			o = u.younger
		}
		if o == nil {
			return false
		}
		o.drop()
		d.n.transfersDropped.Inc()
	}
	u.b = append(u.b, b...)
	u.at = d.host.Now()
	d.held += int64(len(b))
	return true
}

// drop forgets an upload.
func (u *upload) drop() {
	c, d := u.c, u.c.d
	i := slices.Index(c.ups, u)
	if i < 0 {
		return
	}
	c.ups = slices.Delete(c.ups, i, i+1)
	d.held -= int64(len(u.b))
	if u.older != nil {
		u.older.younger = u.younger
	} else {
		d.upFirst = u.younger
	}
	if u.younger != nil {
		u.younger.older = u.older
	} else {
		d.upLast = u.older
	}
}

// dropTransfers forgets uploads of which no block came for long, and snapshots that were taken as long ago.
func (c *client) dropTransfers(now int64) {
	for len(c.shots) > 0 && now-c.shots[0].at >= int64(exchangeLifetime) { // in the order of their age
		c.d.held -= int64(len(c.shots[0].of.b))
		c.shots = slices.Delete(c.shots, 0, 1)
	}
	for i := 0; i < len(c.ups); {
		if u := c.ups[i]; now-u.at >= int64(exchangeLifetime) {
			u.drop()
			c.d.n.transfersDropped.Inc()
			continue
		}
		i++
	}
}

// body is what a read returns, whole or in blocks. Immutable.
type body struct {
	b       []byte
	tag     etag
	format  uint16
	typed   bool  // the format is known
	expires int64 // 0: never
	where   []byte
}

// bodyOf is the body of a value.
func bodyOf(k *event.Kept) body {
	o := body{b: k.Payload, tag: etagOf(k), expires: k.Expires}
	o.format, o.typed = formatOfEvent(&k.Event)
	return o
}

func formatOfEvent(ev *event.Event) (uint16, bool) {
	for meta := ev.Meta; ; {
		it, rest, ok := event.NextMeta(meta)
		if !ok {
			return 0, false
		}
		switch {
		case it.ID == event.MetaContentType:
			return formatOf(it.Value)
		case it.ID == event.MetaPayloadFormat && it.Byte == 1 && len(ev.MetaValue(event.MetaContentType)) == 0:
			return formatText, true
		}
		meta = rest
	}
}

// shot is a body that a client reads block by block: it stays the same for it, whatever is published meanwhile. Owned by its
// client.
type shot struct {
	key string
	of  body
	at  int64
}

// shot finds what the later blocks of a read are taken from.
func (c *client) shot(o wire.Options) *shot {
	key := c.d.cacheKey(wire.GET, o, false)
	now := c.d.host.Now()
	for _, s := range c.shots {
		if s.key == string(key) && now-s.at < int64(exchangeLifetime) {
			return s
		}
	}
	return nil
}

// keep lets a body be read block by block. Where there is no room it is read from the value of the moment, whose entity tag
// says what it is.
func (c *client) keep(key []byte, of body) {
	d := c.d
	for i, s := range c.shots {
		if s.key == string(key) {
			d.held -= int64(len(s.of.b))
			c.shots = slices.Delete(c.shots, i, i+1)
			break
		}
	}
	if len(c.shots) >= d.cfg.transfers {
		d.held -= int64(len(c.shots[0].of.b))
		c.shots = slices.Delete(c.shots, 0, 1)
	}
	if d.held+int64(len(of.b)) > d.cfg.transferBytes {
		d.n.transfersDropped.Inc()
		return
	}
	d.held += int64(len(of.b))
	of.where = nil
	c.shots = append(c.shots, &shot{key: string(key), of: of, at: d.host.Now()})
}

func (c *client) forgetShots() {
	for _, s := range c.shots {
		c.d.held -= int64(len(s.of.b))
	}
	c.shots = nil
}

// page is the response that carries a body or one block of it (RFC 7959, sections 2.3 and 2.4). keep says that the later blocks
// are to be those of this body.
func (c *client) page(of body, m *wire.Message, keep bool, obs *observation) *reply {
	d := c.d
	r := &d.r
	o := m.Options
	if f, ok := o.Usable(wire.Accept); ok && !(of.typed && uint32(of.format) == wire.Uint(f)) {
		return r.reset(wire.NotAcceptable) // RFC 7252, section 5.10.4
	}
	want, blocked := o.Block(wire.Block2)
	valid := false
	for it := o.Iter(); ; {
		n, v, ok := it.Next()
		if !ok || n > wire.ETag {
			break
		}
		valid = valid || n == wire.ETag && bytes.Equal(v, of.tag[:])
	}
	if valid && want.Num == 0 && obs == nil {
		r.reset(wire.Valid).option(wire.ETag, of.tag[:]) // RFC 7252, section 5.10.6.2
		c.d.age(r, of.expires)
		return r
	}
	szx, bert := c.via.big()
	if blocked {
		szx = min(szx, want.SZX)
	}
	if szx < wire.BERT {
		bert = 0
	}
	b := wire.Block{Num: want.Num, SZX: szx}
	size := max(b.Size(), bert/1024*1024)
	if blocked && want.SZX > szx && want.Num > 0 { // the client counts in larger blocks than it is told to
		b.Num = want.Num << (min(want.SZX, 6) - min(szx, 6))
	}
	at := b.Offset()
	if at > 0 && at >= len(of.b) {
		return r.fail(wire.BadRequest, "block")
	}
	part := of.b[at:min(at+size, len(of.b))]
	b.More = at+len(part) < len(of.b)
	if b.More && b.Num == 0 && keep {
		c.keep(d.cacheKey(wire.GET, o, false), of)
	}
	c.head(r, &of, obs)
	if blocked || b.More {
		r.uint(wire.Block2, b.Value())
		if _, asked := o.Usable(wire.Size2); asked || b.Num == 0 {
			r.uint(wire.Size2, uint32(len(of.b)))
		}
	}
	r.payload = part
	return r
}

// head begins a 2.05 with what is said of a body; o is the observation that it belongs to, nil: none.
func (c *client) head(r *reply, of *body, o *observation) {
	r.reset(wire.Content).option(wire.ETag, of.tag[:])
	if o != nil {
		c.seq = (c.seq + 1) & 0xffffff
		r.uint(wire.Observe, c.seq)
		if len(of.where) > 0 {
			r.option(wire.LocationPath, []byte(root))
			for rest, more := of.where, true; more; {
				var level []byte
				level, rest, more = bytes.Cut(rest, []byte{'/'})
				r.option(wire.LocationPath, level)
			}
		}
	}
	if of.typed {
		r.uint(wire.ContentFormat, uint32(of.format))
	}
	c.d.age(r, of.expires)
}
