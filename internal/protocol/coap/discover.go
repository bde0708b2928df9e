package coap

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/protocol/coap/wire"
)

// What bounds a list of links: topics that are looked at, and bytes of the list.
const (
	coreLooks = 2048
	coreBytes = 64 << 10
)

// core answers a read of .well-known/core and of /ps: links to the topics that have a value and that the client may read
// (RFC 6690), filtered as its query says.
func (c *client) core(x *exchange, m *wire.Message) *reply {
	d := c.d
	limit := coreBytes
	if !c.via.reachable() { // no work that it could not be told of
		limit = firstMax
	}
	key, want, filtered := filterOf(m.Options)
	links := make([]byte, 0, 256)
	add := func(topic []byte, format uint16, typed bool, size int) {
		at := len(links)
		if at > 0 {
			links = append(links, ',')
		}
		links = appendLink(links, topic, format, typed, size)
		if filtered && !linkMatches(key, want, topic, format, typed, size) {
			links = links[:at]
		}
	}
	add(nil, formatLink, true, 0)
	now := d.host.Now()
	cur := d.retained.Scan([]byte("#"))
	for looks := 0; looks < coreLooks && len(links) < limit; {
		n := 0
		done := cur.Next(now, 128, func(k *event.Kept) bool {
			n++
			f, typed := formatOfEvent(&k.Event)
			if v := c.s.MaySubscribe(k.Topic, event.AtMostOnce, 0); v.Kind == policy.Pass && c.sees(&k.Event) {
				add(k.Topic, f, typed, len(k.Payload))
			}
			return len(links) < limit
		})
		if looks += max(n, 128); done {
			break
		}
	}
	of := body{b: links, format: formatLink, typed: true}
	of.tag = tagOf(&event.Event{Payload: links})
	if !c.via.affords(x, min(len(links), 16<<d.cfg.szx)+32) {
		return c.via.ask()
	}
	return c.page(of, m, true, nil)
}

// filterOf is the query of a list (RFC 6690, section 4.1).
func filterOf(o wire.Options) (key string, want []byte, ok bool) {
	for it := o.Iter(); ; {
		n, v, more := it.Next()
		if !more {
			return "", nil, false
		}
		if n != wire.URIQuery {
			continue
		}
		k, w, _ := bytes.Cut(v, []byte{'='})
		if s := string(k); slices.Contains([]string{"href", "rt", "if", "ct", "sz", "obs"}, s) {
			return s, w, true
		}
	}
}

// rtSpace and rtTopic are the resource types of links.
const (
	rtSpace = "core.ps"
	rtTopic = "core.ps.data"
)

// linkMatches says whether a link has the value that the query asks for; a * at its end stands for anything.
func linkMatches(key string, want []byte, topic []byte, format uint16, typed bool, size int) bool {
	var have string
	switch key {
	case "obs":
		return topic != nil
	case "href":
		have = string(appendPath(nil, topic))
	case "rt":
		if have = rtTopic; topic == nil {
			have = rtSpace
		}
	case "ct":
		if !typed {
			return false
		}
		have = strconv.Itoa(int(format))
	case "sz":
		if topic == nil {
			return false
		}
		have = strconv.Itoa(size)
	default:
		return false
	}
	if p, star := bytes.CutSuffix(want, []byte("*")); star {
		return len(have) >= len(p) && have[:len(p)] == string(p)
	}
	return have == string(want)
}

// appendLink appends the link to a topic; nil is the space of all topics.
func appendLink(dst, topic []byte, format uint16, typed bool, size int) []byte {
	dst = append(dst, '<')
	dst = append(appendPath(dst, topic), '>')
	if topic == nil {
		dst = append(dst, `;rt="`+rtSpace+`"`...)
	} else {
		dst = append(dst, `;rt="`+rtTopic+`";obs;sz=`...)
		dst = strconv.AppendInt(dst, int64(size), 10)
	}
	if typed {
		dst = append(dst, ";ct="...)
		dst = strconv.AppendInt(dst, int64(format), 10)
	}
	return dst
}

// appendPath appends the path of a topic as a URI writes it.
func appendPath(dst, topic []byte) []byte {
	dst = append(dst, '/')
	dst = append(dst, root...)
	if topic == nil {
		return dst
	}
	dst = append(dst, '/')
	const hex = "0123456789ABCDEF"
	for _, b := range topic {
		if b == '/' || b == '-' || b == '.' || b == '_' || b == '~' || b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'z' {
			dst = append(dst, b)
			continue
		}
		dst = append(dst, '%', hex[b>>4], hex[b&15])
	}
	return dst
}
