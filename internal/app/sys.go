package app

import (
	"context"
	"fmt"
	"maps"
	"math"
	"runtime/metrics"
	"slices"
	"strconv"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/route"
	"github.com/windrose-edc/windrose/internal/session"
)

// sysPrefix is in front of the values; the names behind it are those that clients of other brokers know.
const sysPrefix = "$SYS/broker/"

// sysLook is how often a node that publishes no values looks whether it is to, and one with a long interval whether it still is.
const sysLook = 10 * time.Second

// sysLoads are the values whose rate is averaged, and where they are published.
var sysLoads = [...]struct {
	name string
	of   func(v *sysCounts) float64
}{
	{"connections", func(v *sysCounts) float64 { return v.connections }},
	{"messages/received", func(v *sysCounts) float64 { return v.received }},
	{"messages/sent", func(v *sysCounts) float64 { return v.sent }},
	{"publish/received", func(v *sysCounts) float64 { return v.received }},
	{"publish/sent", func(v *sysCounts) float64 { return v.sent }},
	{"publish/dropped", func(v *sysCounts) float64 { return v.dropped }},
	{"bytes/received", func(v *sysCounts) float64 { return v.bytesIn }},
	{"bytes/sent", func(v *sysCounts) float64 { return v.bytesOut }},
}

// sysMinutes are the windows of the averages.
var sysMinutes = [...]int{1, 5, 15}

// sysCounts are counters at one time. A value, owned by who has it.
type sysCounts struct {
	connections, received, sent, dropped, bytesIn, bytesOut float64
}

// sysTopics publishes values of the node under $SYS. Owned by the goroutine of run.
type sysTopics struct {
	n         *node
	version   string
	started   time.Time
	published map[string]string // what is retained, by topic
	last      sysCounts
	lastAt    time.Time // zero: nothing was counted yet
	loads     [len(sysLoads)][len(sysMinutes)]float64
	most      int64 // clients at once
	heapMost  uint64
	next      int // loop that announces next
}

func newSysTopics(n *node, version string, started time.Time) *sysTopics {
	return &sysTopics{n: n, version: version, started: started, published: make(map[string]string)}
}

// run publishes at the interval of the configuration in force.
func (x *sysTopics) run(ctx context.Context) error {
	t := time.NewTimer(0)
	defer t.Stop()
	var due time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		every := x.n.live.Load().spec.SysInterval
		now := time.Now()
		switch {
		case every <= 0:
			x.clear(now)
			t.Reset(sysLook)
			continue
		case due.IsZero() || !now.Before(due):
			x.publish(now)
			due = now.Add(every)
		case due.Sub(now) > every: // the interval is shorter now
			due = now.Add(every)
		}
		t.Reset(min(time.Until(due), sysLook))
	}
}

// clear takes the values out again.
func (x *sysTopics) clear(now time.Time) {
	for topic := range x.published {
		_ = x.n.retained.Set((&event.Event{Topic: []byte(topic), Time: now.UnixNano(), Retain: true}).Keep()) // nothing is always stored
	}
	clear(x.published)
	x.lastAt = time.Time{}
}

// publish retains what has changed, and sends it to who subscribed.
func (x *sysTopics) publish(now time.Time) {
	vs := x.values(now)
	var room [8]route.Sub
	for _, name := range slices.Sorted(maps.Keys(vs)) {
		topic, v := sysPrefix+name, vs[name]
		if old, ok := x.published[topic]; ok && old == v {
			continue
		}
		k := (&event.Event{Topic: []byte(topic), Payload: []byte(v), Time: now.UnixNano(), Retain: true}).Keep()
		if x.n.retained.Set(k) != nil { // the store is full of what clients keep: theirs goes first
			delete(x.published, topic)
			continue
		}
		x.published[topic] = v
		if len(x.n.index.Match(k.Topic, room[:0])) > 0 {
			x.n.hosts[x.next%len(x.n.hosts)].Announce(k)
		}
	}
	x.next++
}

// values are all values now, by the name behind the prefix.
func (x *sysTopics) values(now time.Time) map[string]string {
	m, st := x.n.meters, x.n.group.Stats()
	online, sessions := m.online.Value(), m.sessions.Value()
	x.most = max(x.most, online)
	c := sysCounts{connections: float64(st.Accepted), sent: float64(m.delivered.Value()), bytesIn: float64(st.BytesIn), bytesOut: float64(st.BytesOut)}
	for q := range m.received {
		c.received += float64(m.received[q].Value())
	}
	for d := range session.NumDrops {
		c.dropped += float64(m.drops[d].Value())
	}
	heap := heapBytes()
	x.heapMost = max(x.heapMost, heap)
	count := func(f float64) string { return strconv.FormatFloat(f, 'f', 0, 64) }
	vs := map[string]string{
		"version":                   "windrose " + x.version,
		"uptime":                    fmt.Sprintf("%d seconds", int64(now.Sub(x.started).Seconds())),
		"timestamp":                 x.started.UTC().Format(time.RFC3339),
		"clients/connected":         strconv.FormatInt(online, 10),
		"clients/active":            strconv.FormatInt(online, 10),
		"clients/disconnected":      strconv.FormatInt(max(sessions-online, 0), 10),
		"clients/inactive":          strconv.FormatInt(max(sessions-online, 0), 10),
		"clients/total":             strconv.FormatInt(sessions, 10),
		"clients/maximum":           strconv.FormatInt(x.most, 10),
		"messages/received":         count(c.received),
		"messages/sent":             count(c.sent),
		"messages/stored":           strconv.FormatInt(m.queued.Value()+int64(x.n.retained.Len()), 10),
		"store/messages/count":      strconv.FormatInt(m.queued.Value()+int64(x.n.retained.Len()), 10),
		"store/messages/bytes":      strconv.FormatInt(m.bytes.Value()+x.n.retained.Bytes(), 10),
		"publish/messages/received": count(c.received),
		"publish/messages/sent":     count(c.sent),
		"publish/messages/dropped":  count(c.dropped),
		"bytes/received":            count(c.bytesIn),
		"bytes/sent":                count(c.bytesOut),
		"retained messages/count":   strconv.Itoa(x.n.retained.Len()),
		"subscriptions/count":       strconv.FormatInt(m.subs.Value(), 10),
		"heap/current":              strconv.FormatUint(heap, 10),
		"heap/maximum":              strconv.FormatUint(x.heapMost, 10),
	}
	x.load(now, &c)
	for i, l := range sysLoads {
		for j, minutes := range sysMinutes {
			vs[fmt.Sprintf("load/%s/%dmin", l.name, minutes)] = strconv.FormatFloat(x.loads[i][j], 'f', 2, 64)
		}
	}
	return vs
}

// load brings the averages up to now: events in a minute, older ones count exponentially less.
func (x *sysTopics) load(now time.Time, c *sysCounts) {
	if !x.lastAt.IsZero() {
		passed := now.Sub(x.lastAt).Seconds()
		if passed <= 0 {
			return
		}
		for i, l := range sysLoads {
			rate := (l.of(c) - l.of(&x.last)) * 60 / passed
			for j, minutes := range sysMinutes {
				keep := math.Exp(-passed / (60 * float64(minutes)))
				x.loads[i][j] = rate + keep*(x.loads[i][j]-rate)
			}
		}
	}
	x.last, x.lastAt = *c, now
}

// heapBytes is the memory of live and not yet collected objects; reading it stops nothing.
func heapBytes() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s[0].Value.Uint64()
}
