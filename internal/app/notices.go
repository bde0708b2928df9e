package app

import (
	"encoding/json"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/route"
	"github.com/windrose-edc/windrose/internal/session"
)

// OwnTopics is what the section node says of the events that the node publishes itself. Immutable after it is read.
type OwnTopics struct {
	SysInterval time.Duration `yaml:"sys_interval" default:"10s" min:"0s" doc:"How often the values under $SYS/broker are published, as retained events, where they have changed. 0: never. Who may read them is a matter of the acl."`
	Notices     bool          `yaml:"session_events" doc:"Publish what happens to sessions on $windrose/session/connected, disconnected, subscribed, refused and expired, as JSON. Who may read it is a matter of the acl."`
	NoticeRate  int           `yaml:"session_events_rate" default:"1000" min:"1" max:"1000000" doc:"How many of them are published in a second; the rest is counted."`
}

// noticePrefix is in front of what happened.
const noticePrefix = "$windrose/session/"

// notices publishes what happens to sessions. Safe for concurrent use: loops call it.
type notices struct {
	n       *node
	second  atomic.Int64 // Unix
	count   atomic.Int64 // in that second
	dropped *observe.Counter
}

func newNotices(n *node) *notices {
	return &notices{n: n, dropped: n.metrics.Counter("windrose_session_suppressed_events_total", "Events on $windrose/session that were not published: above their rate.")}
}

// notice is the payload. Names that are not known are left out. Owned by who makes it.
type notice struct {
	Time     time.Time      `json:"time"`
	Node     string         `json:"node,omitempty"`
	Client   string         `json:"client,omitempty"`
	User     string         `json:"user,omitempty"`
	Listener string         `json:"listener,omitempty"`
	Protocol string         `json:"protocol,omitempty"`
	Address  string         `json:"address,omitempty"`
	Reason   string         `json:"reason,omitempty"`  // why a connection ended or was refused, in the words of the metrics
	Expiry   *uint32        `json:"expiry,omitempty"`  // seconds that the session is kept
	Filters  []noticeFilter `json:"filters,omitempty"` // at most noticeFilters
	More     int            `json:"more,omitempty"`    // filters that are left out
}

// noticeFilter is one subscription of a notice. Immutable.
type noticeFilter struct {
	Filter string `json:"filter"`
	QoS    int    `json:"qos"`
}

// noticeFilters bounds the filters of one notice.
const noticeFilters = 20

// wanted says whether there is somebody to be told, and that the rate allows it.
func (x *notices) wanted(topic string, now int64) bool {
	g := x.n.live.Load()
	if g == nil || !g.spec.Notices {
		return false
	}
	if len(x.n.index.Match([]byte(topic), make([]route.Sub, 0, 8))) == 0 {
		return false
	}
	second := now / int64(time.Second)
	if old := x.second.Load(); old != second && x.second.CompareAndSwap(old, second) {
		x.count.Store(0)
	}
	if x.count.Add(1) > int64(g.spec.NoticeRate) {
		x.dropped.Inc()
		return false
	}
	return true
}

// Lives implements session.LifeWatcher.
func (x *notices) Lives(h *session.Host, s *session.Session, l session.Life, wants []session.Want) {
	topic := noticePrefix + l.String()
	if !x.wanted(topic, h.Now()) {
		return
	}
	f := s.Facts()
	m := notice{Client: f.ID, User: f.User, Listener: f.Listener, Protocol: f.Protocol}
	if f.Peer.Protocol != "" {
		m.Protocol = f.Peer.Protocol
	}
	m.at(f.Peer.Remote)
	switch l {
	case session.Disconnected:
		m.Reason, m.Expiry = f.End, &f.Expiry
	case session.Connected:
		m.Expiry = &f.Expiry
	case session.Subscribed:
		for _, w := range wants[:min(len(wants), noticeFilters)] {
			m.Filters = append(m.Filters, noticeFilter{string(w.Filter), int(w.QoS)})
		}
		m.More = len(wants) - len(m.Filters)
	case session.Expired, session.NumLives:
	}
	x.publish(h, topic, &m)
}

// refused is told of connections that get no session.
func (x *notices) refused(r *session.Refusal) {
	const topic = noticePrefix + "refused"
	if !x.wanted(topic, r.Host.Now()) {
		return
	}
	m := notice{Client: r.Client, User: r.User, Listener: r.Listener, Protocol: r.Protocol, Reason: r.Reason}
	m.at(r.Remote)
	x.publish(r.Host, topic, &m)
}

func (m *notice) at(a netip.AddrPort) {
	if a.IsValid() {
		m.Address = a.String()
	}
}

func (x *notices) publish(h *session.Host, topic string, m *notice) {
	m.Time, m.Node = time.Unix(0, h.Now()).UTC(), x.n.id
	b, err := json.Marshal(m)
	if err != nil {
		return // a struct of texts and numbers: it cannot fail
	}
	meta, _ := event.AppendMeta(event.AppendMetaByte(nil, event.MetaPayloadFormat, 1), event.MetaContentType, "application/json")
	h.Announce((&event.Event{Topic: []byte(topic), Payload: b, Meta: meta, Time: h.Now(), QoS: event.AtLeastOnce}).Keep())
}
