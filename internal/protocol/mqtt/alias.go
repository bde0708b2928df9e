package mqtt

import (
	"hash/maphash"

	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// Topic aliases (3.3.2.3.4) belong to a connection and to a direction. Those of the client are an array of topics; those of
// the server are chosen here.

// alias resolves a topic alias of the client.
func (m *machine) alias(p *wire.Publish) error {
	if p.Alias == 0 || p.Alias > m.cfg.aliases {
		return errAlias
	}
	if m.aliases == nil {
		m.aliases = &[]aliased{}
	}
	for int(p.Alias) > len(*m.aliases) {
		*m.aliases = append(*m.aliases, nil)
	}
	a := &(*m.aliases)[p.Alias-1]
	if len(p.Topic) > 0 {
		*a = append((*a)[:0], p.Topic...)
		return nil
	}
	if p.Topic = *a; p.Topic == nil {
		return errNoAlias
	}
	return nil
}

const (
	aliasOutMax = 64 // aliases that the server uses on one connection, whatever the client allows
	aliasSeen   = 64 // topics that are remembered as sent once
	aliasWorth  = 4  // shorter topics are sent as they are
)

// outAlias is one alias of the server. Owned by its outAliases.
type outAlias struct {
	topic []byte
	hash  uint32
	used  uint32 // when, in deliveries
}

// outAliases are the topics that a client knows by a number: the latest ones that were sent. While there are numbers left
// each topic gets one; then a topic must come a second time before it takes the number of the one that was not used for
// longest. Made at the first delivery, and forgotten when none was sent for the time of a keep alive. Owned by its machine.
type outAliases struct {
	list []outAlias // by number
	seen [aliasSeen]uint32
	now  uint32
	idle bool // not used since the machine looked
}

var aliasSeed = maphash.MakeSeed()

// find looks for a topic. known says that the client has the number already; number is 0 where the topic is to go without
// one. A number that is not known is taken with set, once it is sure that the packet goes out.
func (a *outAliases) find(topic []byte, limit int) (number uint16, known bool) {
	h := uint32(maphash.Bytes(aliasSeed, topic))
	oldest := 0
	for i := range a.list {
		x := &a.list[i]
		if x.hash == h && string(x.topic) == string(topic) {
			return uint16(i + 1), true
		}
		if a.now-x.used > a.now-a.list[oldest].used {
			oldest = i
		}
	}
	if len(a.list) < limit {
		return uint16(len(a.list) + 1), false
	}
	if s := &a.seen[h%aliasSeen]; *s != h {
		*s = h
		return 0, false
	}
	return uint16(oldest + 1), false
}

// set notes that a packet with that number went out.
func (a *outAliases) set(number uint16, topic []byte, known bool) {
	a.idle = false
	a.now++
	if int(number) > len(a.list) {
		a.list = append(a.list, outAlias{})
	}
	x := &a.list[number-1]
	x.used = a.now
	if !known {
		x.topic, x.hash = append(x.topic[:0], topic...), uint32(maphash.Bytes(aliasSeed, topic))
	}
}

// shorten puts an alias of the server into a PUBLISH where the client allows it.
func (m *machine) shorten(p *wire.PublishOut) (known bool) {
	if m.aliasMax == 0 || len(p.Topic) < aliasWorth {
		return false
	}
	if m.sent == nil {
		m.sent = &outAliases{}
	}
	p.Alias, known = m.sent.find(p.Topic, int(m.aliasMax))
	if known {
		p.Topic = nil
	}
	return known
}

// forgetAliases lets go of the server's aliases when they were not used since the last call: the client keeps numbers that
// are given anew when they are used again.
func (m *machine) forgetAliases() {
	if m.sent == nil {
		return
	}
	if m.sent.idle {
		m.sent = nil
		return
	}
	m.sent.idle = true
}
