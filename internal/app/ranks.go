package app

import (
	"context"
	"time"

	"github.com/windrose-edc/windrose/internal/admin"
	"github.com/windrose-edc/windrose/internal/observe/topk"
	"github.com/windrose-edc/windrose/internal/session"
)

// Ranks implements admin.Ranker: the sketches of all loops, merged.
func (s *status) Ranks(ctx context.Context, n int) (admin.Ranks, error) {
	all := make([]session.RankLists, len(s.now().hosts))
	for i := range all {
		if err := s.onLoop(ctx, i, func(h *session.Host) { all[i] = h.Ranks() }); err != nil {
			return admin.Ranks{}, err
		}
	}
	var out admin.Ranks
	merge := func(of func(l *session.RankLists) *session.RankList) []admin.Rank {
		lists := make([][]topk.Item, len(all))
		for i := range all {
			l := of(&all[i])
			lists[i] = l.Items
			out.Span = max(out.Span, l.Span.Seconds())
		}
		ranks := []admin.Rank{}
		for _, x := range topk.Merge(n, lists...) {
			ranks = append(ranks, admin.Rank{Name: x.Key, Count: x.Count, Error: x.Error})
		}
		return ranks
	}
	out.Topics = merge(func(l *session.RankLists) *session.RankList { return &l.Topics })
	out.Publishers = merge(func(l *session.RankLists) *session.RankList { return &l.Publishers })
	out.Subscribers = merge(func(l *session.RankLists) *session.RankList { return &l.Subscribers })
	out.Slow = merge(func(l *session.RankLists) *session.RankList { return &l.Slow })
	out.Span = time.Duration(out.Span * float64(time.Second)).Round(time.Millisecond).Seconds()
	return out, nil
}
