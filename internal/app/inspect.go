package app

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/windrose-edc/windrose/internal/admin"
	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/session"
)

// The bounds of one step on a loop: whoever lists sessions must not make its turns long.
const (
	slotsPerStep = 128 // sessions and empty places that are looked at
	subsPerStep  = 512
	loopPatience = 2 * time.Second
)

// onLoop runs f on a loop and waits for it. What f writes may be read only when the error is nil: it may run later.
func (s *status) onLoop(ctx context.Context, loop int, f func(h *session.Host)) error {
	ctx, cancel := context.WithTimeout(ctx, loopPatience)
	defer cancel()
	h := s.now().hosts[loop]
	done := make(chan struct{})
	h.Clock().Post(func() {
		defer close(done)
		f(h)
	})
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for loop %d: %w", loop, ctx.Err())
	}
}

// place is where a list of sessions goes on: a loop, a place in its table, and a subscription there.
type place struct{ loop, slot, sub int }

func (p place) String() string { return fmt.Sprintf("%d.%d.%d", p.loop, p.slot, p.sub) }

func (s *status) place(from string) (p place, err error) {
	if from == "" {
		return p, nil
	}
	parts := strings.Split(from, ".")
	if len(parts) != 3 {
		return p, admin.ErrCursor
	}
	for i, to := range []*int{&p.loop, &p.slot, &p.sub} {
		if *to, err = strconv.Atoi(parts[i]); err != nil || *to < 0 {
			return p, admin.ErrCursor
		}
	}
	if p.loop >= len(s.now().hosts) {
		return p, admin.ErrCursor
	}
	return p, nil
}

// after is the place behind what a step saw; "" is the end.
func (s *status) after(p place, end bool) string {
	if end {
		if p = (place{loop: p.loop + 1}); p.loop >= len(s.now().hosts) {
			return ""
		}
	}
	return p.String()
}

// Sessions implements admin.Node.
func (s *status) Sessions(ctx context.Context, from string, yield func(*admin.Session) bool) (string, error) {
	p, err := s.place(from)
	if err != nil {
		return "", err
	}
	var facts []session.Facts
	var at []int
	slot, end := p.slot, false
	err = s.onLoop(ctx, p.loop, func(h *session.Host) {
		stop := min(p.slot+slotsPerStep, h.Slots())
		for slot = p.slot; slot < stop; slot++ {
			if x := h.Session(slot); x != nil {
				facts, at = append(facts, x.Facts()), append(at, slot)
			}
		}
		end = slot >= h.Slots()
	})
	if err != nil {
		return "", err
	}
	for i := range facts {
		row := sessionRow(&facts[i])
		if !yield(&row) && i < len(facts)-1 {
			return place{p.loop, at[i] + 1, 0}.String(), nil
		}
	}
	return s.after(place{p.loop, slot, 0}, end), nil
}

func sessionRow(f *session.Facts) admin.Session {
	r := admin.Session{
		ID: f.ID, User: f.User, Connected: f.Online, Since: f.Since.UTC(), Listener: f.Listener, Protocol: f.Protocol,
		Subscriptions: f.Subscriptions, Unacked: f.Unacked, Queued: f.Queued, QueuedBytes: f.QueuedBytes,
		Received: f.Received, Delivered: f.Delivered, Dropped: uint64(f.Dropped),
	}
	if f.Peer.Protocol != "" {
		r.Protocol = f.Peer.Protocol
	}
	if f.Peer.Remote.IsValid() {
		r.Address = f.Peer.Remote.String()
	}
	return r
}

// find runs f with a session on its loop, nil where it is gone.
func (s *status) find(ctx context.Context, id string, f func(x *session.Session)) error {
	loop, ok := s.now().directory.LoopOf(id)
	if !ok {
		return admin.ErrNotFound
	}
	found := false
	err := s.onLoop(ctx, loop, func(h *session.Host) {
		if x := h.Find(id); x != nil {
			found = true
			f(x)
		}
	})
	if err == nil && !found {
		err = admin.ErrNotFound
	}
	return err
}

// firstFilters is how many subscriptions the details of a session show.
const firstFilters = 100

// Session implements admin.Node.
func (s *status) Session(ctx context.Context, id string) (*admin.SessionDetail, error) {
	var f session.Facts
	var subs []admin.Subscription
	err := s.find(ctx, id, func(x *session.Session) {
		f = x.Facts()
		for i := range min(f.Subscriptions, firstFilters) {
			subs = append(subs, subscriptionRow(x, i))
		}
	})
	if err != nil {
		return nil, err
	}
	return &admin.SessionDetail{
		Session: sessionRow(&f), Attributes: f.Attrs, TLS: f.Peer.TLS, KeepAlive: int(f.Peer.KeepAlive / time.Second),
		Expiry: f.Expiry, Expires: f.Expires.UTC(), Window: f.Window, Receiving: f.Receiving, Held: f.Peer.Held, Pending: f.Peer.Pending,
		Will: f.Will, LastEnd: f.End, LastEndAt: f.EndAt.UTC(), Loop: f.Loop, Filters: subs, Version: sessionVersion(&f),
	}, nil
}

func sessionVersion(f *session.Facts) string { return strconv.FormatUint(f.Version, 36) }

func subscriptionRow(x *session.Session, i int) admin.Subscription {
	filter, sub := x.SubscriptionAt(i)
	return admin.Subscription{Session: x.ID, Filter: filter, QoS: int(sub.QoS()), NoLocal: sub.NoLocal(), RetainAsPublished: sub.RetainAsPublished(), ID: sub.ID()}
}

// Kick implements admin.Node.
func (s *status) Kick(ctx context.Context, id, match string, forget bool) (done admin.Kicked, version string, err error) {
	err = s.find(ctx, id, func(x *session.Session) {
		f := x.Facts()
		if version = sessionVersion(&f); match != "" && match != "*" && match != version {
			return
		}
		done.Disconnected, done.Forgotten = x.Kick(session.Kicked, forget), forget
	})
	if err != nil {
		return admin.Kicked{}, "", err
	}
	return done, version, nil
}

// Subscriptions implements admin.Node.
func (s *status) Subscriptions(ctx context.Context, id, from string, yield func(*admin.Subscription) bool) (string, error) {
	p, err := s.place(from)
	if err != nil {
		return "", err
	}
	step := subsStep{at: p}
	if id != "" {
		err = s.find(ctx, id, func(x *session.Session) {
			step.end = step.take(x, p.slot, p.sub)
		})
		if err != nil {
			if err == admin.ErrNotFound { //nolint:errorlint // made by find, not wrapped: a session that is not there has none
				return "", nil
			}
			return "", err
		}
	} else if err = s.onLoop(ctx, p.loop, step.run); err != nil {
		return "", err
	}
	for i := range step.rows {
		if !yield(&step.rows[i]) && i < len(step.rows)-1 {
			return step.places[i].String(), nil
		}
	}
	if id != "" {
		if step.end {
			return "", nil
		}
		return step.at.String(), nil
	}
	return s.after(step.at, step.end), nil
}

// subsStep is one step through subscriptions. Owned by the loop until it has run, then by who waits for it.
type subsStep struct {
	at     place // then: where to go on
	end    bool
	rows   []admin.Subscription
	places []place // behind each row
}

func (t *subsStep) run(h *session.Host) {
	slot, sub := t.at.slot, t.at.sub
	for stop := min(slot+slotsPerStep, h.Slots()); slot < stop; slot, sub = slot+1, 0 {
		if x := h.Session(slot); x != nil && !t.take(x, slot, sub) {
			return
		}
	}
	t.at.slot, t.at.sub, t.end = slot, 0, slot >= h.Slots()
}

// take takes the subscriptions of a session from number sub on; false: the step is full, and at says where to go on.
func (t *subsStep) take(x *session.Session, slot, sub int) bool {
	for n := x.Subscriptions(); sub < n; sub++ {
		if len(t.rows) >= subsPerStep {
			t.at.slot, t.at.sub = slot, sub
			return false
		}
		t.rows = append(t.rows, subscriptionRow(x, sub))
		t.places = append(t.places, place{t.at.loop, slot, sub + 1})
	}
	return true
}

// retainedPerStep is how many retained events are read at once.
const retainedPerStep = 128

// Retained implements admin.Node.
func (s *status) Retained(_ context.Context, filter, from string, yield func(*admin.Retained) bool) (string, error) {
	if len(from) == 1 {
		return "", admin.ErrCursor
	}
	c := s.now().retained.ScanFrom([]byte(filter), from)
	done := c.Next(time.Now().UnixNano(), retainedPerStep, func(k *event.Kept) bool {
		r := retainedRow(k)
		return yield(&r)
	})
	if done {
		return "", nil
	}
	return c.Place(), nil
}

func retainedRow(k *event.Kept) admin.Retained {
	r := admin.Retained{Topic: string(k.Topic), Bytes: len(k.Payload), Time: time.Unix(0, k.Time).UTC()}
	if k.Expires != 0 {
		r.Expires = time.Unix(0, k.Expires).UTC()
	}
	if k.From != nil {
		r.Publisher = k.From.Client
	}
	return r
}

// RetainedEvent implements admin.Node.
func (s *status) RetainedEvent(topic string) (*admin.RetainedDetail, error) {
	k := s.now().retained.Get([]byte(topic))
	if k == nil || k.Expired(time.Now().UnixNano()) {
		return nil, admin.ErrNotFound
	}
	return &admin.RetainedDetail{Retained: retainedRow(k), Event: eventDetail(&k.Event)}, nil
}

// maxHeaders bounds the headers of an event that are shown.
const maxHeaders = 200

// eventDetail is everything that is shown of an event, its payload too.
func eventDetail(ev *event.Event) admin.Event {
	d := admin.Event{QoS: int(ev.QoS), Retain: ev.Retain, ContentType: string(ev.MetaValue(event.MetaContentType)), Payload: admin.NewPayload(ev.Payload)}
	if o := ev.From; o != nil {
		d.Publisher, d.User, d.Protocol, d.Listener = o.Client, o.User, o.Protocol, o.Listener
	}
	for m := ev.Meta; len(d.Headers) < maxHeaders; {
		it, rest, ok := event.NextMeta(m)
		if !ok {
			break
		}
		if it.ID == event.MetaHeader {
			d.Headers = append(d.Headers, admin.Header{Name: string(it.Key), Value: string(it.Value)})
		}
		m = rest
	}
	return d
}
