package mqtt

import (
	"strings"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/identity"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/policy"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
	"github.com/windrose-edc/windrose/internal/retain"
	"github.com/windrose-edc/windrose/internal/route"
	"github.com/windrose-edc/windrose/internal/session"
)

// stillClock is a loop in which time passes when the test says so. Owned by the test.
type stillClock struct{ now int64 }

func (c *stillClock) ID() int                { return 0 }
func (c *stillClock) Now() int64             { return c.now }
func (c *stillClock) Wake()                  {}
func (c *stillClock) Post(fn func())         { fn() }
func (c *stillClock) Arm(*loop.Timer, int64) {}
func (c *stillClock) Disarm(*loop.Timer)     {}
func (c *stillClock) pass(d time.Duration)   { c.now += int64(d) }

// lone is a machine with nothing around it. Owned by the test.
type lone struct {
	machine
	t      *testing.T
	clock  *stillClock
	host   *session.Host
	sc     scratch
	out    []byte
	unread int // bytes of output that the peer did not read
	wanted int // calls of WantRoom
	wakeIn int64
	ended  bool
}

func (l *lone) Now() int64          { return l.clock.now }
func (l *lone) Host() *session.Host { return l.host }
func (l *lone) Scratch() *scratch   { return &l.sc }
func (l *lone) Out() []byte         { return l.out }
func (l *lone) SetOut(b []byte)     { l.out = b }
func (l *lone) Pending() int        { return l.unread }
func (l *lone) WantRoom()           { l.wanted++ }
func (l *lone) WakeAt(at int64)     { l.wakeIn = at }
func (l *lone) Authenticate(*identity.Credentials) {
	l.authenticated(identity.Principal{}, identity.Admitted, nil)
}
func (l *lone) Move(int)                            { l.t.Fatal("moved") }
func (l *lone) Pause()                              {}
func (l *lone) Resume()                             {}
func (l *lone) Close(error)                         { l.ended = true }
func (l *lone) pass(d time.Duration)                { l.clock.pass(d); l.tickDue() }
func (l *lone) dropped(why session.Drop) (n uint64) { return l.host.Tally.Dropped[why] }

func (l *lone) tickDue() {
	if !l.ended && l.wakeIn != 0 && l.wakeIn <= l.clock.now {
		l.tick(l.clock.now)
	}
}

func (l *lone) in(b []byte) {
	l.t.Helper()
	if _, err := l.feed(b); err != nil {
		l.t.Fatal(err)
	}
}

// newLone makes a machine; spec may change what its listener is.
func newLone(t *testing.T, change func(*ListenerSpec)) *lone {
	t.Helper()
	c := &stillClock{now: 1_700_000_000_000_000_000}
	ix := route.NewIndex(route.IndexOptions{})
	net := route.NewNet(ix, []route.Clock{c}, 1<<20, time.Second)
	net.SetTable(route.NewTable(1, nil))
	sh := &session.Shared{Directory: session.NewDirectory(), Net: net, Retained: retain.New(retain.Limits{}),
		Chain: func() *policy.Chain { return nil }, Limits: session.Limits{Queue: 10, QueueBytes: 1 << 20, Window: 4, Receive: 8}}
	return joinLone(t, c, session.NewHost(sh, c), change)
}

// joinLone makes another machine on the same loop.
func joinLone(t *testing.T, c *stillClock, h *session.Host, change func(*ListenerSpec)) *lone {
	t.Helper()
	spec := DefaultListener()
	if change != nil {
		change(&spec)
	}
	cfg, err := spec.settings("l", 8)
	if err != nil {
		t.Fatal(err)
	}
	l := &lone{t: t, clock: c, host: h}
	l.init(l, cfg)
	return l
}

// connectPacket is a CONNECT of that version; flags are its connect flags and tail what follows the client id.
func connectPacket(version, flags byte, id, tail string) []byte {
	b := "\x00\x04MQTT" + string([]byte{version, flags, 0, 60})
	if version == 5 {
		b += "\x05\x11\x00\x00\x00\x64" // session expiry 100 s
	}
	b += "\x00" + string([]byte{byte(len(id))}) + id + tail
	return []byte("\x10" + string([]byte{byte(len(b))}) + b)
}

// holds makes the machine hold publishes until the test lets it go on.
func (l *lone) holds(why session.Hold) {
	l.hold = &held{why: why, until: l.clock.now + int64(time.Hour)}
}

// A CONNECT that trickles in does not win time with each byte (trap 32's sister: slow instead of large).
func TestSlowConnectIsCutOff(t *testing.T) {
	l := newLone(t, nil)
	c := connectPacket(4, 2, "slow", "")
	for i := range c[:len(c)-1] {
		l.in(c[:i+1]) // nothing is consumed, so all comes again
		l.pass(time.Second)
		if l.ended {
			if i != 9 {
				t.Errorf("cut off after %d s, want 10", i+1)
			}
			return
		}
	}
	t.Error("a connection that sends a byte a second is never cut off")
}

// 3.3.2.3.4: a topic alias means what it meant when its PUBLISH came, whatever is held before it and whatever is dropped.
func TestAliasOfDroppedPublish(t *testing.T) {
	l := newLone(t, func(s *ListenerSpec) { s.OnHold, s.HoldBytes = "drop_qos0", 40 })
	l.in(connectPacket(5, 2, "c", ""))
	pub := func(topic, payload string) []byte {
		body := string([]byte{0, byte(len(topic))}) + topic + "\x03\x23\x00\x01" + payload
		return []byte("\x30" + string([]byte{byte(len(body))}) + body)
	}
	l.in(pub("a", "sets 1"))
	l.holds(session.HoldLimit)
	l.in(pub("", "held as a"))
	l.in(pub("b", "dropped because it is much too long for what may be held"))
	l.in(pub("", "held as b"))
	if n := l.dropped(session.DropHeld); n != 1 {
		t.Fatalf("%d dropped, want 1", n)
	}
	var got []string
	for b := l.hold.packets; len(b) > 0; {
		b = b[8:] // time of arrival
		first, body, n, err := wire.Next(b, 1<<20)
		if err != nil || n == 0 {
			t.Fatal(err)
		}
		var p wire.Publish
		if err := l.sc.dec.Publish(wire.V5, first, body, &p); err != nil {
			t.Fatal(err)
		}
		got = append(got, string(p.Topic)+": "+string(p.Payload))
		b = b[n:]
	}
	if s := strings.Join(got, "; "); s != "a: held as a; b: held as b" {
		t.Errorf("held %s", s)
	}
	l.close(errRejected)
	if n := l.dropped(session.DropHeld); n != 3 {
		t.Errorf("%d drops counted, want one for each event", n)
	}
}

// [MQTT-3.14.4-3]: a goodbye discards the will at once, also while publishes before it are held.
func TestGoodbyeWhileHeldDiscardsTheWill(t *testing.T) {
	l := newLone(t, nil)
	l.in(connectPacket(4, 0x04, "c", "\x00\x01w\x00\x04gone"))
	l.holds(session.HoldLimit)
	l.in([]byte("\x32\x05\x00\x01a\x00\x01"))
	l.in([]byte{0xe0, 0})
	if l.ended {
		t.Fatal("the held publish is lost")
	}
	before := l.host.Walker().Stats().Walked
	young := joinLone(t, l.clock, l.host, nil)
	young.in(connectPacket(4, 0, "c", ""))
	if !l.ended || young.phase != phOpen {
		t.Fatal("no takeover")
	}
	if n := l.host.Walker().Stats().Walked - before; n != 0 {
		t.Errorf("the takeover published %d events", n)
	}
}

// What is held when its client says goodbye is not kept for ever, whatever holds it.
func TestGoodbyeWhileHeldEnds(t *testing.T) {
	for _, why := range []session.Hold{session.HoldLimit, session.HoldQuota} {
		l := newLone(t, nil)
		l.in(connectPacket(4, 2, "c", ""))
		l.holds(why)
		l.in([]byte{0x30, 3, 0, 1, 'a'})
		l.in([]byte{0xe0, 0})
		for range int(byeLimit/time.Second) - 1 {
			l.pass(time.Second)
		}
		if l.ended {
			t.Fatal("dropped too early")
		}
		l.pass(2 * time.Second)
		if !l.ended || l.host.Tally.Online != 0 {
			t.Error("kept after the goodbye")
		}
		if n := l.dropped(session.DropHeld); n != 1 {
			t.Errorf("%d drops counted", n)
		}
	}
}

// [MQTT-3.1.2-24]: a SUBACK that is larger than the client accepts is not sent.
func TestSubackLargerThanTheClientAccepts(t *testing.T) {
	l := newLone(t, nil)
	l.in(connectPacket(5, 2, "c", ""))
	l.maxSend, l.out, l.changing = 10, nil, 1
	l.answered(nil, make([]byte, 11))
	if !l.ended || len(l.out) > 10 || len(l.out) == 0 || l.out[0] != 0xe0 {
		t.Errorf("sent % x", l.out)
	}
}

// A client whose output is full is told of the room that comes, also where the listener's bound is below the loop's.
func TestRoomIsAwaited(t *testing.T) {
	l := newLone(t, func(s *ListenerSpec) { s.MaxOutput = 100 })
	l.in(connectPacket(4, 2, "c", ""))
	if !l.Room() || l.wanted != 0 {
		t.Fatal("no room in an empty output")
	}
	if l.unread = 100; l.Room() || l.wanted != 1 {
		t.Error("room in a full output, or nobody waits for more")
	}
}

// [MQTT-4.3.3-7]: an exactly-once event that was sent is sent again after its expiry.
func TestResendAfterExpiry(t *testing.T) {
	l := newLone(t, nil)
	l.in(connectPacket(5, 2, "c", ""))
	l.out = nil
	ev := &event.Event{Topic: []byte("a"), QoS: 2, Expires: l.clock.now - int64(time.Minute)}
	if !l.Send(ev, session.Delivery{ID: 1, QoS: 2, Dup: true}) || len(l.out) == 0 {
		t.Fatal("not sent")
	}
	first, body, _, err := wire.Next(l.out, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var p wire.Publish
	if err := l.sc.dec.Publish(wire.V5, first, body, &p); err != nil || !p.HasExpiry || p.Expiry != 0 {
		t.Errorf("%+v, %v", p, err)
	}
}

// What a client publishes after a SUBSCRIBE waits until the subscription is in force, also where it did not wait for the
// answer; a goodbye behind it waits too.
func TestOwnPublishWaitsForTheSubscription(t *testing.T) {
	l := newLone(t, nil)
	l.in(connectPacket(4, 2, "c", ""))
	l.out = nil
	l.in([]byte("\x82\x06\x00\x01\x00\x01a\x00" + "\x30\x04\x00\x01ax" + "\xe0\x00"))
	if l.hold == nil || l.host.Walker().Stats().Walked != 0 {
		t.Fatal("overtook the subscription")
	}
	l.tick(l.clock.now) // for any other reason
	if l.hold == nil {
		t.Fatal("let go by a tick")
	}
	b := l.Out()
	l.answered(b, wire.AppendSuback(b, l.version, 1, []byte{0}))
	l.pass(time.Millisecond)
	if n := l.host.Walker().Stats().Walked; n != 1 || !l.ended {
		t.Errorf("%d events walked, ended %v", n, l.ended)
	}
}

func (l *lone) Exchange(string) (identity.Exchange, bool) { return nil, false }

func (l *lone) Step(identity.Exchange, []byte) {}
