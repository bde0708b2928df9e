package mqtt

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// Packets as text, for scripts: a name, then words and key=value. Bytes are written as they are, quoted like Go strings
// where they hold spaces or what cannot be printed, and x*100 for a hundred x.

// words splits a line; quoted words may hold spaces.
func words(line string) (ws []string, err error) {
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		i := 0
		for i < len(line) && line[i] != ' ' {
			if line[i] != '"' {
				i++
				continue
			}
			q, err := strconv.QuotedPrefix(line[i:])
			if err != nil {
				return nil, fmt.Errorf("quotes in %q: %w", line, err)
			}
			i += len(q)
		}
		ws = append(ws, line[:i])
		line = line[i:]
	}
	return ws, nil
}

var repeated = regexp.MustCompile(`^(.)\*(\d+)$`)

// bytesOf reads a word.
func bytesOf(w string) (string, error) {
	if strings.HasPrefix(w, `"`) {
		return strconv.Unquote(w)
	}
	if m := repeated.FindStringSubmatch(w); m != nil {
		n, err := strconv.Atoi(m[2])
		return strings.Repeat(m[1], n), err
	}
	return w, nil
}

// wordOf is the other way round.
func wordOf[T ~string | ~[]byte](v T) string {
	s := string(v)
	if len(s) > 40 && strings.Count(s, s[:1]) == len(s) {
		return fmt.Sprintf("%c*%d", s[0], len(s))
	}
	if q := strconv.Quote(s); s == "" || strings.ContainsAny(s, " \"=*;") || len(q) != len(s)+2 {
		return q
	}
	return s
}

// args are the words of a packet. Owned by the test.
type args struct {
	plain []string
	keys  map[string][]string
	err   error
}

var isKey = regexp.MustCompile(`^[a-z_]+=`)

func parseArgs(ws []string) *args {
	a := &args{keys: map[string][]string{}}
	for _, w := range ws {
		k, v := "", w
		if isKey.MatchString(w) {
			k, v, _ = strings.Cut(w, "=")
		}
		v, err := bytesOf(v)
		a.fail(err)
		if k == "" {
			a.plain = append(a.plain, v)
		} else {
			a.keys[k] = append(a.keys[k], v)
		}
	}
	return a
}

func (a *args) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

// has takes a plain word off.
func (a *args) has(word string) bool {
	for i, w := range a.plain {
		if w == word {
			a.plain = append(a.plain[:i:i], a.plain[i+1:]...)
			return true
		}
	}
	return false
}

func (a *args) str(key string) (string, bool) {
	v, ok := a.keys[key]
	if !ok {
		return "", false
	}
	delete(a.keys, key)
	return v[0], true
}

func (a *args) num(key string) (int, bool) {
	s, ok := a.str(key)
	if !ok {
		return 0, false
	}
	if s == "never" {
		return 0xffffffff, true
	}
	n, err := strconv.ParseUint(s, 0, 32)
	a.fail(err)
	return int(n), true
}

// code takes a reason off: two hex digits.
func (a *args) code() wire.Reason {
	for i, w := range a.plain {
		if len(w) == 2 {
			if n, err := strconv.ParseUint(w, 16, 8); err == nil {
				a.plain = append(a.plain[:i:i], a.plain[i+1:]...)
				return wire.Reason(n)
			}
		}
	}
	return 0
}

func (a *args) meta() (m []byte) {
	if a.has("text") {
		m = event.AppendMetaByte(m, event.MetaPayloadFormat, 1)
	}
	for _, k := range []struct {
		name string
		id   byte
	}{{"type", event.MetaContentType}, {"reply", event.MetaReplyTo}, {"corr", event.MetaCorrelation}} {
		if v, ok := a.str(k.name); ok {
			m, _ = event.AppendMeta(m, k.id, v)
		}
	}
	for _, kv := range a.keys["user"] {
		k, v, _ := strings.Cut(kv, ":")
		m, _ = event.AppendHeader(m, k, v)
	}
	delete(a.keys, "user")
	return m
}

func (a *args) done() error {
	if a.err == nil && len(a.plain)+len(a.keys) > 0 {
		a.err = fmt.Errorf("not understood: %q %q", a.plain, a.keys)
	}
	return a.err
}

// packetOf reads a packet that a client sends; v is the version it speaks, which CONNECT sets.
func packetOf(text string, v *wire.Version) ([]byte, error) {
	ws, err := words(text)
	if err != nil || len(ws) == 0 {
		return nil, errors.Join(err, errors.New("no packet"))
	}
	if b, err := hex.DecodeString(strings.Join(ws, "")); err == nil {
		return b, nil
	}
	a := parseArgs(ws[1:])
	var b []byte
	switch ws[0] {
	case "CONNECT":
		b = a.connect(v)
	case "PUBLISH":
		b = a.publish(*v)
	case "PUBACK", "PUBREC", "PUBREL", "PUBCOMP":
		id, _ := a.num("id")
		k := map[string]wire.Kind{"PUBACK": wire.PUBACK, "PUBREC": wire.PUBREC, "PUBREL": wire.PUBREL, "PUBCOMP": wire.PUBCOMP}[ws[0]]
		b = wire.AppendAck(nil, *v, k, uint16(id), a.code(), "")
	case "SUBSCRIBE":
		b = a.subscribe(*v)
	case "UNSUBSCRIBE":
		id, _ := a.num("id")
		b = wire.AppendUnsubscribe(nil, *v, uint16(id), a.plain)
		a.plain = nil
	case "PINGREQ":
		b = wire.AppendPingreq(nil)
	case "DISCONNECT":
		var p wire.DisconnectProps
		e, ok := a.num("expiry")
		p.SessionExpiry, p.HasSessionExpiry = uint32(e), ok
		b = wire.AppendDisconnect(nil, *v, a.code(), &p)
	case "AUTH":
		m, _ := a.str("method")
		b = wire.AppendAuth(nil, &wire.Auth{Reason: a.code(), Method: []byte(m)})
	default:
		return nil, fmt.Errorf("unknown packet %q", ws[0])
	}
	return b, a.done()
}

func (a *args) connect(v *wire.Version) []byte {
	c := wire.Connect{Version: wire.V5, ReceiveMax: 0xffff, RequestProblemInfo: !a.has("noproblem"), RequestResponseInfo: a.has("askresponse"), Clean: a.has("clean"), Bridge: a.has("bridge")}
	switch {
	case a.has("v3.1"):
		c.Version = wire.V31
	case a.has("v3.1.1"):
		c.Version = wire.V311
	default:
		a.has("v5")
	}
	*v = c.Version
	id, _ := a.str("id")
	c.ClientID = []byte(id)
	if n, ok := a.num("keep"); ok {
		c.KeepAlive = uint16(n)
	}
	if n, ok := a.num("expiry"); ok {
		c.SessionExpiry = uint32(n)
	}
	if n, ok := a.num("rmax"); ok {
		c.ReceiveMax = uint16(n)
	}
	if n, ok := a.num("maxpkt"); ok {
		c.MaxPacket = uint32(n)
	}
	if n, ok := a.num("aliases"); ok {
		c.TopicAliasMax = uint16(n)
	}
	if u, ok := a.str("name"); ok {
		c.Username, c.HasUsername = []byte(u), true
	}
	if p, ok := a.str("pass"); ok {
		c.Password, c.HasPassword = []byte(p), true
	}
	if m, ok := a.str("method"); ok {
		c.AuthMethod, c.HasAuthMethod = []byte(m), true
	}
	if w, ok := a.str("will"); ok {
		topic, payload, _ := strings.Cut(w, ":")
		c.Will = wire.Will{Present: true, Topic: []byte(topic), Payload: []byte(payload), Retain: a.has("willretain"), Meta: a.meta()}
		q, _ := a.num("willqos")
		c.Will.QoS = byte(q)
		d, _ := a.num("willdelay")
		c.Will.Delay = uint32(d)
		e, ok := a.num("willexpiry")
		c.Will.Expiry, c.Will.HasExpiry = uint32(e), ok
	}
	return wire.AppendConnect(nil, &c)
}

func (a *args) publish(v wire.Version) []byte {
	p := wire.PublishOut{Version: v, Dup: a.has("dup"), Retain: a.has("retain")}
	for q := range byte(3) {
		if a.has("q" + string('0'+q)) {
			p.QoS = q
		}
	}
	id, _ := a.num("id")
	p.PacketID = uint16(id)
	e, ok := a.num("expiry")
	p.Expiry, p.HasExpiry = uint32(e), ok
	n, _ := a.num("alias")
	p.Alias = uint16(n)
	s, _ := a.num("sub")
	if s != 0 {
		p.SubIDs = []uint32{uint32(s)}
	}
	p.Meta = a.meta()
	if len(a.plain) > 0 {
		p.Topic = []byte(a.plain[0])
	}
	if len(a.plain) > 1 {
		p.Payload = []byte(a.plain[1])
	}
	if len(a.plain) <= 2 {
		a.plain = nil
	}
	return wire.AppendPublish(nil, &p)
}

// subscribe reads filters like a/#:q1,nl,rap,rh2.
func (a *args) subscribe(v wire.Version) []byte {
	id, _ := a.num("id")
	sub, _ := a.num("sub")
	var fs []wire.Filter
	for _, w := range a.plain {
		f, opts, _ := strings.Cut(w, ":")
		x := wire.Filter{Filter: f}
		for o := range strings.SplitSeq(opts, ",") {
			switch o {
			case "", "q0":
			case "q1", "q2", "q3":
				x.QoS = o[1] - '0'
			case "nl":
				x.NoLocal = true
			case "rap":
				x.RetainAsPublished = true
			case "rh1", "rh2", "rh3":
				x.RetainHandling = o[2] - '0'
			default:
				a.fail(fmt.Errorf("unknown option %q", o))
			}
		}
		fs = append(fs, x)
	}
	a.plain = nil
	return wire.AppendSubscribe(nil, v, uint16(id), uint32(sub), fs)
}

// eventText is an event as a target sees it.
func eventText(ev *event.Event) string {
	s := wordOf(ev.Topic) + " " + wordOf(ev.Payload) + " q" + strconv.Itoa(int(ev.QoS))
	if ev.Retain {
		s += " retain"
	}
	return s + metaText(ev.Meta)
}

func metaText(meta []byte) (s string) {
	for len(meta) > 0 {
		it, rest, ok := event.NextMeta(meta)
		if !ok {
			return s + " BADMETA"
		}
		switch it.ID {
		case event.MetaPayloadFormat:
			if it.Byte == 1 {
				s += " text"
			} else {
				s += " binary"
			}
		case event.MetaContentType:
			s += " type=" + wordOf(it.Value)
		case event.MetaReplyTo:
			s += " reply=" + wordOf(it.Value)
		case event.MetaCorrelation:
			s += " corr=" + wordOf(it.Value)
		case event.MetaHeader:
			s += " user=" + wordOf(string(it.Key)+":"+string(it.Value))
		}
		meta = rest
	}
	return s
}

var assigned = regexp.MustCompile(`^wr-[0-9a-f]{24}$`)

// textOf takes the first packet that a server sent off b and writes it down; ok is false where b does not hold a whole
// one.
func textOf(b []byte, v wire.Version) (text string, rest []byte, ok bool) {
	first, body, n, err := wire.Next(b, 0)
	if err != nil || n == 0 {
		return "", b, false
	}
	rest = b[n:]
	if err := wire.CheckFlagsOf(v, first); err != nil || !wire.KindOf(first).FromServer(v) {
		return fmt.Sprintf("NOT FOR A SERVER %x", b[:n]), rest, true
	}
	d := wire.Decoder{Client: true}
	k := wire.KindOf(first)
	text = k.String()
	switch k {
	case wire.CONNACK:
		var c wire.Connack
		err = d.Connack(v, body, &c)
		if v == wire.V5 {
			text += fmt.Sprintf(" %02x", byte(c.Reason))
		} else {
			text += fmt.Sprintf(" %d", wire.ConnackCode3(c.Reason))
		}
		text += connackText(&c)
	case wire.PUBLISH:
		var p wire.Publish
		err = d.Publish(v, first, body, &p)
		text += publishText(&p)
	case wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP:
		var a wire.Ack
		err = d.Ack(v, k, body, &a)
		text += fmt.Sprintf(" id=%d", a.PacketID)
		if v == wire.V5 {
			text += fmt.Sprintf(" %02x", byte(a.Reason))
		}
		text += reasonText(a.ReasonString)
	case wire.SUBACK, wire.UNSUBACK:
		var s wire.Suback
		if k == wire.SUBACK {
			err = d.Suback(v, body, &s)
		} else {
			err = d.Unsuback(v, body, &s)
		}
		text += fmt.Sprintf(" id=%d", s.PacketID)
		for _, c := range s.Codes {
			text += fmt.Sprintf(" %02x", c)
		}
		text += reasonText(s.ReasonString)
	case wire.DISCONNECT:
		var x wire.Disconnect
		err = d.Disconnect(v, body, &x)
		text += fmt.Sprintf(" %02x", byte(x.Reason)) + reasonText(x.ReasonString)
	case wire.PINGRESP:
		err = wire.CheckEmpty(body)
	default:
		text += fmt.Sprintf(" %x", body)
	}
	if err != nil {
		text += " MALFORMED: " + err.Error()
	}
	return text, rest, true
}

func reasonText(r []byte) string {
	if len(r) == 0 {
		return ""
	}
	return " reason=" + wordOf(r)
}

func connackText(c *wire.Connack) (s string) {
	if c.SessionPresent {
		s += " present"
	}
	if c.HasSessionExpiry {
		s += fmt.Sprintf(" expiry=%d", c.SessionExpiry)
	}
	if c.ReceiveMax != 0 {
		s += fmt.Sprintf(" rmax=%d", c.ReceiveMax)
	}
	if c.HasMaximumQoS {
		s += fmt.Sprintf(" maxqos=%d", c.MaximumQoS)
	}
	if c.HasRetainAvailable && !c.RetainAvailable {
		s += " noretain"
	}
	if c.MaxPacket != 0 {
		s += fmt.Sprintf(" maxpkt=%d", c.MaxPacket)
	}
	if len(c.ResponseInfo) > 0 {
		s += fmt.Sprintf(" response=%s", c.ResponseInfo)
	}
	if id := c.AssignedClientID; assigned.Match(id) {
		s += " assigned=wr-*"
	} else if len(id) > 0 {
		s += " assigned=" + wordOf(id)
	}
	if c.TopicAliasMax != 0 {
		s += fmt.Sprintf(" aliases=%d", c.TopicAliasMax)
	}
	if c.HasServerKeepAlive {
		s += fmt.Sprintf(" keep=%d", c.ServerKeepAlive)
	}
	if c.HasWildcardSubAvail && !c.WildcardSubAvail {
		s += " nowildcards"
	}
	if c.HasSubIDAvail && !c.SubIDAvail {
		s += " nosubids"
	}
	if c.HasSharedSubAvail && !c.SharedSubAvail {
		s += " noshared"
	}
	return s + reasonText(c.ReasonString)
}

func publishText(p *wire.Publish) string {
	s := " " + wordOf(p.Topic) + " " + wordOf(p.Payload) + " q" + strconv.Itoa(int(p.QoS))
	if p.PacketID != 0 {
		s += fmt.Sprintf(" id=%d", p.PacketID)
	}
	if p.Dup {
		s += " dup"
	}
	if p.Retain {
		s += " retain"
	}
	if p.HasExpiry {
		s += fmt.Sprintf(" expiry=%d", p.Expiry)
	}
	if p.HasAlias {
		s += fmt.Sprintf(" alias=%d", p.Alias)
	}
	for _, id := range p.SubIDs {
		s += fmt.Sprintf(" sub=%d", id)
	}
	return s + metaText(p.Meta)
}
