package session

import (
	"time"

	"github.com/windrose-edc/windrose/internal/observe/topk"
)

// What the sketches of a loop hold: so many keys each, of one event in so many, over the last one to two spans.
const (
	ranked      = 128
	rankedEvery = 16
	rankedSpan  = int64(30 * time.Second)
)

// Ranks is what comes most often on a loop, estimated in bounded memory. Owned by its loop.
type Ranks struct {
	topics, publishers *topk.Recent // of events that clients publish
	subscribers        *topk.Recent // of deliveries
	slow               *topk.Recent // of deliveries that had to wait, or were dropped, because their client did not keep up
}

func newRanks() Ranks {
	r := func() *topk.Recent { return topk.NewRecent(ranked, rankedEvery, rankedSpan) }
	return Ranks{topics: r(), publishers: r(), subscribers: r(), slow: r()}
}

// RankList is the highest of one kind. A copy, owned by who asked.
type RankList struct {
	Items []topk.Item
	Span  time.Duration // over how long they were counted
}

// RankLists is a copy of all ranks of a loop, at most 128 of each kind. Owned by who asked.
type RankLists struct {
	Topics, Publishers, Subscribers, Slow RankList
}

// Ranks is a copy. On the loop only.
func (h *Host) Ranks() (l RankLists) {
	now := h.clock.Now()
	for _, x := range []struct {
		from *topk.Recent
		to   *RankList
	}{{h.ranks.topics, &l.Topics}, {h.ranks.publishers, &l.Publishers}, {h.ranks.subscribers, &l.Subscribers}, {h.ranks.slow, &l.Slow}} {
		items, span := x.from.List(ranked, now)
		*x.to = RankList{Items: items, Span: time.Duration(span)}
	}
	return l
}

// rankPublish counts an event of the session: the same one in so many for its topic and for its publisher.
func (s *Session) rankPublish(topic []byte) {
	r := &s.host.ranks
	if r.topics.Due() {
		now := s.host.clock.Now()
		r.topics.Add(topic, now)
		r.publishers.AddString(s.ID, now)
	}
}

// rankSlow counts a delivery for which the client was too slow.
func (s *Session) rankSlow() {
	if r := s.host.ranks.slow; r.Due() {
		r.AddString(s.ID, s.host.clock.Now())
	}
}
