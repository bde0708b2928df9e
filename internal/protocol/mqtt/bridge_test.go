package mqtt

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/clienttls"
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/pool"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

func TestBridgeResult_3_4_2_1(t *testing.T) {
	refused := func(r wire.Reason) error {
		return fmt.Errorf("publish: %w", &ReasonError{What: "refused", Reason: r})
	}
	lost := fmt.Errorf("publish: %w", ErrClosed)
	for _, c := range []struct {
		r    wire.Reason
		err  error
		qos  event.QoS
		want pool.Result
	}{
		{wire.Success, nil, 1, pool.Result{Outcome: event.Accepted}},
		{wire.NoMatchingSubscribers, nil, 1, pool.Result{Outcome: event.NoMatch}},
		{wire.NotAuthorized, refused(wire.NotAuthorized), 1, pool.Result{Outcome: event.Unauthorized}},
		{wire.TopicNameInvalid, refused(wire.TopicNameInvalid), 1, pool.Result{Outcome: event.BadTopic}},
		{wire.PayloadFormatInvalid, refused(wire.PayloadFormatInvalid), 1, pool.Result{Outcome: event.BadPayload}},
		{wire.PacketTooLarge, errors.New("larger than the server takes"), 1, pool.Result{Outcome: event.TooLarge}},
		{wire.QuotaExceeded, refused(wire.QuotaExceeded), 1, pool.Result{Outcome: event.Throttled, Retry: true}},
		{wire.ImplementationSpecific, refused(wire.ImplementationSpecific), 1, pool.Result{Outcome: event.Unavailable, Retry: true}},
		{wire.UnspecifiedError, refused(wire.UnspecifiedError), 0, pool.Result{Outcome: event.Unavailable, Retry: true}},
		{wire.UnspecifiedError, fmt.Errorf("publish: %w", ErrExpired), 1, pool.Result{Outcome: event.Timeout, Retry: true}},
		{wire.ServerUnavailable, lost, 1, pool.Result{Outcome: event.Unavailable, Retry: true, Down: true}},
		{wire.ServerUnavailable, lost, 0, pool.Result{Outcome: event.Unavailable, Down: true}},
	} {
		got := bridgeResult(c.r, c.err, c.qos)
		if c.want.Err = c.err; got != c.want {
			t.Errorf("%v, %v: %+v, want %+v", c.r, c.err, got, c.want)
		}
	}
}

func TestBridgePassesNoNodeTwice(t *testing.T) {
	b, err := NewBridge(BridgeSpec{}, BridgeOptions{Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	ev := testEvent("a", "payload")
	ev.Meta, _ = event.AppendHeader(nil, ViaHeader, "n0")
	before := bytes.Clone(ev.Meta)
	out, ok := b.pass(ev)
	if !ok || !passed(out.Meta, "n0") || !passed(out.Meta, "n1") || passed(out.Meta, "n") {
		t.Fatalf("passed %v: %q", ok, out.Meta)
	}
	if &out.Payload[0] != &ev.Payload[0] || !bytes.Equal(ev.Meta, before) || out.Keep() == ev {
		t.Error("the event itself was changed, or its payload copied")
	}
	if _, ok := b.pass(out); ok {
		t.Error("an event passed the same node twice")
	}
	for i := range maxHops {
		out.Meta, _ = event.AppendHeader(out.Meta, ViaHeader, fmt.Sprint("x", i))
	}
	if !passed(out.Meta, "another") {
		t.Error("an event may go on for ever")
	}
}

func TestBridgeConfiguration(t *testing.T) {
	for name, s := range map[string]BridgeSpec{
		"qos": {QoS: 3}, "prefix": {TopicPrefix: "a/#"}, "ca": {TLS: clienttls.Spec{CA: "/does/not/exist"}}, "cert": {TLS: clienttls.Spec{Cert: "/does/not/exist"}},
	} {
		if _, err := NewBridge(s, BridgeOptions{Pool: "p"}); err == nil || !strings.Contains(err.Error(), `"p"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b, err := NewBridge(BridgeSpec{URLs: []string{"mqtt://a", "mqtt://b"}}, BridgeOptions{Node: "n", Pool: "p"})
	if err != nil {
		t.Fatal(err)
	}
	if b.sessions["mqtt://a"].clientID == b.sessions["mqtt://b"].clientID {
		t.Error("two brokers, perhaps of one cluster, see the same client identifier")
	}
	if _, err := b.Dial(t.Context(), "mqtt://c"); !errors.Is(err, errBridgeMember) {
		t.Errorf("unknown member: %v", err)
	}
	if _, err := NewSource(b, SourceSpec{Subscribe: []string{"a/#/b"}}, SourceOptions{Name: "s"}); err == nil {
		t.Error("a wrong filter is accepted")
	}
	var v BridgeVersion
	if v.UnmarshalText([]byte("3.1.1")) != nil || v != BridgeVersion(wire.V311) || v.UnmarshalText([]byte("3")) == nil {
		t.Errorf("version %d", v)
	}
}

// walker is what a source lets its events walk to.
type sourceWalk struct {
	got  chan event.Event
	next chan event.Outcome // what becomes of an event
}

func (w *sourceWalk) publish(ev *event.Event, t event.Ticket) {
	w.got <- ev.Keep().Event
	if t.Waits() {
		t.Settle(<-w.next)
	}
}

func testSource(t *testing.T, v wire.Version, s SourceSpec) (*Source, *sourceWalk, *bridgeInput) {
	t.Helper()
	b, err := NewBridge(BridgeSpec{Version: BridgeVersion(v)}, BridgeOptions{Node: "n1", Pool: "p", Metrics: observe.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	w := &sourceWalk{make(chan event.Event, 100), make(chan event.Outcome, 100)}
	src, err := NewSource(b, s, SourceOptions{Name: "s", Publish: w.publish})
	if err != nil {
		t.Fatal(err)
	}
	return src, w, &bridgeInput{b: b, sources: []*Source{src}, ready: make(chan struct{})}
}

func TestSourceAcknowledgesWhatWalked(t *testing.T) {
	meta, _ := event.AppendHeader(nil, "k", "v")
	via, _ := event.AppendHeader(nil, ViaHeader, "n1")
	for name, c := range map[string]struct {
		version  wire.Version
		p        wire.Publish
		outcomes []event.Outcome
		walks    int
		ack      bool
	}{
		"accepted":            {wire.V5, wire.Publish{QoS: 1}, []event.Outcome{event.Accepted}, 1, true},
		"nobody there":        {wire.V5, wire.Publish{QoS: 2}, []event.Outcome{event.NoMatch}, 1, true},
		"at most once":        {wire.V5, wire.Publish{}, nil, 1, true},
		"refused for good":    {wire.V5, wire.Publish{QoS: 1}, []event.Outcome{event.Unauthorized}, 1, false},
		"refused, 3.1.1":      {wire.V311, wire.Publish{QoS: 1}, []event.Outcome{event.Unauthorized}, 1, true},
		"refused for a while": {wire.V5, wire.Publish{QoS: 1}, []event.Outcome{event.Throttled, event.Unavailable, event.Accepted}, 3, true},
		"own event":           {wire.V5, wire.Publish{QoS: 1, Meta: via}, nil, 0, true},
		"not subscribed":      {wire.V5, wire.Publish{QoS: 1, Topic: []byte("other")}, nil, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				src, w, in := testSource(t, c.version, SourceSpec{Subscribe: []string{"x/#", "$share/g/a/+"}, TopicPrefix: "far/"})
				ended := make(chan error)
				ctx, cancel := contextOf(t)
				go func() { ended <- src.Run(ctx) }()
				p := c.p
				if p.Topic == nil {
					p.Topic = []byte("a/b")
				}
				if p.Meta == nil {
					p.Meta = meta
				}
				p.Payload, p.Retain, p.Expiry, p.HasExpiry = []byte("payload"), true, 60, true
				for _, o := range c.outcomes {
					w.next <- o
				}
				acks := make(chan bool, 10)
				in.take(&p, func(ok bool) { acks <- ok })
				time.Sleep(time.Minute)
				if len(acks) != 1 || <-acks != c.ack || len(w.got) != c.walks {
					t.Errorf("%d acks, %d walks", len(acks), len(w.got))
				}
				for range len(w.got) {
					ev := <-w.got
					if string(ev.Topic) != "far/a/b" || string(ev.Payload) != "payload" || string(ev.Header("k")) != "v" || !ev.Retain ||
						ev.QoS != event.QoS(p.QoS) || ev.Expires-ev.Time != int64(time.Minute) || ev.From.Pool != "p" {
						t.Errorf("walked %+v", ev)
					}
				}
				if src.pendingBytes() != 0 {
					t.Errorf("%v bytes pending", src.pendingBytes())
				}
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestSourceIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, _, _ := testSource(t, wire.V5, SourceSpec{Subscribe: []string{"#"}, MaxPending: 1000})
		src.o.Publish = func(*event.Event, event.Ticket) {}
		n := 0
		for src.take(&wire.Publish{QoS: 1, Topic: []byte("a"), Payload: make([]byte, 100)}, func(bool) {}) {
			if n++; n > 100 {
				t.Fatal("no bound")
			}
		}
		if n == 0 || src.pendingBytes() > 1000 {
			t.Errorf("%d events, %v bytes", n, src.pendingBytes())
		}
		src.Settle(1, event.Accepted, 1)
		src.Settle(1, event.Accepted, 1)
		if !src.take(&wire.Publish{QoS: 1, Topic: []byte("a")}, func(bool) {}) {
			t.Error("no room after a settlement")
		}
	})
}
