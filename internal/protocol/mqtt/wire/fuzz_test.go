package wire

import (
	"bytes"
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
)

// version makes one of the three versions of a fuzzed byte.
func version(b byte) Version { return V31 + Version(b%3) }

// checkMeta fails when event cannot read all of what the codec says is metadata.
func checkMeta(t *testing.T, meta []byte) {
	t.Helper()
	for len(meta) > 0 {
		it, rest, ok := event.NextMeta(meta)
		if !ok {
			t.Fatalf("event cannot read meta %x", meta)
		}
		if it.ID != event.MetaCorrelation && !event.ValidUTF8(it.Value) || !event.ValidUTF8(it.Key) {
			t.Fatalf("meta %x holds a string that is not valid", it.Value)
		}
		meta = rest
	}
}

// again splits the packet that was appended to b off it and fails unless it is whole and its head is right.
func again(t *testing.T, b []byte, k Kind, v Version) []byte {
	t.Helper()
	first, body, n, err := Next(b, 0)
	if err != nil || n != len(b) || KindOf(first) != k || CheckFlagsOf(v, first) != nil {
		t.Fatalf("appended %v %x: %d of %d bytes, %v", k, b, n, len(b), err)
	}
	return body
}

// FuzzNext feeds a stream piece by piece: the packets found do not depend on how the bytes arrive.
func FuzzNext(f *testing.F) {
	f.Add([]byte{0xc0, 0, 0x30, 3, 0, 1, 't', 0xe0, 0}, uint32(0), 1)
	f.Fuzz(func(t *testing.T, b []byte, limit uint32, step int) {
		step = max(1, min(step, 64))
		var whole, pieces []int
		for rest := b; ; {
			_, body, n, err := Next(rest, limit)
			if n < 0 || n > len(rest) || n == 0 && body != nil || limit != 0 && n > int(limit) {
				t.Fatalf("n %d of %d", n, len(rest))
			}
			if err != nil || n == 0 {
				break
			}
			whole = append(whole, n)
			rest = rest[n:]
		}
		start := 0
	feed:
		for end := 0; end <= len(b); end += step {
			for {
				_, _, n, err := Next(b[start:end], limit)
				if err != nil {
					break feed
				}
				if n == 0 {
					break
				}
				pieces = append(pieces, n)
				start += n
			}
		}
		for i, n := range pieces {
			if i >= len(whole) || whole[i] != n {
				t.Fatalf("packets %v piece by piece, %v at once", pieces, whole)
			}
		}
	})
}

func FuzzConnect(f *testing.F) {
	_, body, _, _ := Next(AppendConnect(nil, full()), 0)
	f.Add(body)
	f.Fuzz(func(t *testing.T, b []byte) {
		var d, d2 Decoder
		var p, q Connect
		in := bytes.Clone(b)
		err := d.Connect(b, &p)
		if !bytes.Equal(b, in) {
			t.Fatal("decoding wrote to the packet")
		}
		if err != nil {
			return
		}
		checkMeta(t, p.UserProps)
		checkMeta(t, p.Will.Meta)
		if p.Will.Present && !event.ValidTopic(p.Will.Topic) || !event.ValidUTF8(p.ClientID) || !event.ValidUTF8(p.Username) {
			t.Fatalf("taken: %+v", p)
		}
		if err := d2.Connect(again(t, AppendConnect(nil, &p), CONNECT, p.Version), &q); err != nil || !same(p, q) {
			t.Fatalf("%v: read back\n%+v, want\n%+v", err, q, p)
		}
	})
}

func FuzzPublish(f *testing.F) {
	p := benchPublish()
	first, body, _, _ := Next(AppendPublish(nil, &p), 0)
	f.Add(byte(2), false, first, body)
	f.Fuzz(func(t *testing.T, vb byte, client bool, first byte, b []byte) {
		v := version(vb)
		first = first&15 | byte(PUBLISH)<<4
		if CheckFlags(first) != nil {
			return
		}
		d, d2 := Decoder{Client: client}, Decoder{Client: client}
		var p, q Publish
		in := bytes.Clone(b)
		err := d.Publish(v, first, b, &p)
		if !bytes.Equal(b, in) {
			t.Fatal("decoding wrote to the packet")
		}
		if err != nil {
			return
		}
		checkMeta(t, p.Meta)
		if len(p.Topic) == 0 && !p.HasAlias || len(p.Topic) > 0 && !event.ValidTopic(p.Topic) || (p.QoS > 0) != (p.PacketID > 0) ||
			!client && len(p.SubIDs) > 1 || v != V5 && len(p.Meta)+len(p.SubIDs) > 0 {
			t.Fatalf("taken: %+v", p)
		}
		out := PublishOut{Version: v, Topic: p.Topic, Payload: p.Payload, Meta: p.Meta, PacketID: p.PacketID, QoS: p.QoS,
			Dup: p.Dup, Retain: p.Retain, Expiry: p.Expiry, HasExpiry: p.HasExpiry, Alias: p.Alias, SubIDs: p.SubIDs}
		packet := AppendPublish(nil, &out)
		if len(packet) != PublishSize(&out) {
			t.Fatalf("%d bytes, PublishSize says %d", len(packet), PublishSize(&out))
		}
		if err := d2.Publish(v, packet[0], again(t, packet, PUBLISH, v), &q); err != nil || !same(p, q) {
			t.Fatalf("%v: read back\n%+v, want\n%+v", err, q, p)
		}
	})
}

func FuzzAck(f *testing.F) {
	f.Add(byte(2), byte(0), []byte{0, 1, 0x10, 4, 0x1f, 0, 1, 'a'})
	f.Fuzz(func(t *testing.T, vb, kb byte, b []byte) {
		v, k := version(vb), PUBACK+Kind(kb%4)
		var d, d2 Decoder
		var a, a2 Ack
		if d.Ack(v, k, b, &a) != nil {
			return
		}
		checkMeta(t, a.UserProps)
		a.UserProps = nil // not appended
		if err := d2.Ack(v, k, again(t, AppendAck(nil, v, k, a.PacketID, a.Reason, string(a.ReasonString)), k, v), &a2); err != nil || !same(a, a2) {
			t.Fatalf("%v: read back %+v, want %+v", err, a2, a)
		}
	})
}

func FuzzSubscribe(f *testing.F) {
	_, body, _, _ := Next(AppendSubscribe(nil, V5, 1, 300, []Filter{{"$share/g/+", SubOptions{}}, {"#", SubOptions{QoS: 2}}}), 0)
	f.Add(byte(2), body)
	f.Fuzz(func(t *testing.T, vb byte, b []byte) {
		v := version(vb)
		var d, d2 Decoder
		var s, s2 Subscribe
		if d.Subscribe(v, b, &s) != nil {
			return
		}
		checkMeta(t, s.UserProps)
		var filters []Filter
		for n := s; ; {
			filter, o, ok := n.Next()
			if !ok {
				break
			}
			if _, _, _, ok := event.SplitShared(filter); !ok || o.QoS > 2 || o.RetainHandling > 2 {
				t.Fatalf("taken: %q %+v", filter, o)
			}
			filters = append(filters, Filter{string(filter), o})
		}
		if len(filters) != s.Filters || len(filters) == 0 {
			t.Fatalf("%d filters, Filters says %d", len(filters), s.Filters)
		}
		s.UserProps = nil
		body := again(t, AppendSubscribe(nil, v, s.PacketID, s.SubID, filters), SUBSCRIBE, v)
		if err := d2.Subscribe(v, body, &s2); err != nil || !same(s, s2) {
			t.Fatalf("%v: read back %+v, want %+v", err, s2, s)
		}
	})
}

func FuzzUnsubscribe(f *testing.F) {
	f.Add(byte(2), []byte{0, 1, 0, 0, 1, 'a', 0, 3, 'b', '/', '#'})
	f.Fuzz(func(t *testing.T, vb byte, b []byte) {
		v := version(vb)
		var d, d2 Decoder
		var u, u2 Unsubscribe
		if d.Unsubscribe(v, b, &u) != nil {
			return
		}
		checkMeta(t, u.UserProps)
		var filters []string
		for n := u; ; {
			filter, ok := n.Next()
			if !ok {
				break
			}
			filters = append(filters, string(filter))
		}
		if len(filters) != u.Filters || len(filters) == 0 {
			t.Fatalf("%d filters, Filters says %d", len(filters), u.Filters)
		}
		u.UserProps = nil
		body := again(t, AppendUnsubscribe(nil, v, u.PacketID, filters), UNSUBSCRIBE, v)
		if err := d2.Unsubscribe(v, body, &u2); err != nil || !same(u, u2) {
			t.Fatalf("%v: read back %+v, want %+v", err, u2, u)
		}
	})
}

func FuzzSuback(f *testing.F) {
	f.Add(byte(2), false, []byte{0, 1, 4, 0x1f, 0, 1, 'a', 0, 0x87})
	f.Fuzz(func(t *testing.T, vb byte, un bool, b []byte) {
		v := version(vb)
		d, d2 := Decoder{Client: true}, Decoder{Client: true}
		var s, s2 Suback
		k, decode, decode2, appendIt := SUBACK, d.Suback, d2.Suback, AppendSuback
		if un {
			k, decode, decode2, appendIt = UNSUBACK, d.Unsuback, d2.Unsuback, AppendUnsuback
		}
		if decode(v, b, &s) != nil {
			return
		}
		checkMeta(t, s.UserProps)
		s.UserProps, s.ReasonString = nil, nil
		if err := decode2(v, again(t, appendIt(nil, v, s.PacketID, s.Codes), k, v), &s2); err != nil || !same(s, s2) {
			t.Fatalf("%v: read back %+v, want %+v", err, s2, s)
		}
	})
}

func FuzzConnack(f *testing.F) {
	_, body, _, _ := Next(AppendConnack(nil, V5, true, Success, &ConnackProps{ReceiveMax: 1, HasRetainAvailable: true}), 0)
	f.Add(byte(2), body)
	f.Fuzz(func(t *testing.T, vb byte, b []byte) {
		v := version(vb)
		d, d2 := Decoder{Client: true}, Decoder{Client: true}
		var c, c2 Connack
		if d.Connack(v, b, &c) != nil {
			return
		}
		checkMeta(t, c.UserProps)
		if v == V31 {
			c.SessionPresent = false // its byte is reserved there
		}
		body := again(t, AppendConnack(nil, v, c.SessionPresent, c.Reason, &c.ConnackProps), CONNACK, v)
		if err := d2.Connack(v, body, &c2); err != nil || !same(c, c2) {
			t.Fatalf("%v: read back\n%+v, want\n%+v", err, c2, c)
		}
	})
}

func FuzzDisconnect(f *testing.F) {
	f.Add(byte(2), true, []byte{0x9d, 4, 0x1c, 0, 1, 'a'})
	f.Fuzz(func(t *testing.T, vb byte, client bool, b []byte) {
		v := version(vb)
		d, d2 := Decoder{Client: client}, Decoder{Client: client}
		var p, q Disconnect
		if d.Disconnect(v, b, &p) != nil {
			return
		}
		checkMeta(t, p.UserProps)
		body := again(t, AppendDisconnect(nil, v, p.Reason, &p.DisconnectProps), DISCONNECT, v)
		if err := d2.Disconnect(v, body, &q); err != nil || !same(p, q) {
			t.Fatalf("%v: read back %+v, want %+v", err, q, p)
		}
	})
}

func FuzzAuth(f *testing.F) {
	f.Add(false, []byte{0x18, 8, 0x15, 0, 1, 'm', 0x16, 0, 1, 'd'})
	f.Fuzz(func(t *testing.T, client bool, b []byte) {
		d, d2 := Decoder{Client: client}, Decoder{Client: client}
		var a, a2 Auth
		if d.Auth(b, &a) != nil {
			return
		}
		checkMeta(t, a.UserProps)
		if err := d2.Auth(again(t, AppendAuth(nil, &a), AUTH, V5), &a2); err != nil || !same(a, a2) {
			t.Fatalf("%v: read back %+v, want %+v", err, a2, a)
		}
	})
}
