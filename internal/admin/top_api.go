package admin

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// The bounds of a look at all sessions for the busiest.
const (
	topSessions = 100_000                // more are not looked at; the answer says so
	topTime     = 2 * time.Second        // for one look
	topAge      = time.Second            // an answer is given again for so long
	topForget   = 30 * time.Second       // without questions the counts are forgotten
	topPause    = 200 * time.Microsecond // after each step, so that a look takes a small part of a loop
)

// Top is the busiest clients.
type Top struct {
	Time     time.Time   `json:"time"`
	Span     float64     `json:"span_seconds" doc:"Over how long the rates are taken; 0: there are none yet, ask again in a second."`
	Sessions int         `json:"sessions" doc:"How many were looked at."`
	Complete bool        `json:"complete" doc:"All were looked at."`
	Clients  []TopClient `json:"clients" nullable:"false" doc:"Those with the most events per second; then those for which the most bytes wait."`
	Ranks    *Ranks      `json:"ranks,omitempty" doc:"What came most often lately, estimated without looking at all sessions."`
}

// TopClient is one of the busiest clients.
type TopClient struct {
	ID            string  `json:"id"`
	Listener      string  `json:"listener"`
	ReceivedRate  float64 `json:"received_rate" doc:"Events that it published, per second."`
	DeliveredRate float64 `json:"delivered_rate" doc:"Events sent to it, per second."`
	Queued        int     `json:"queued"`
	QueuedBytes   int64   `json:"queued_bytes"`
	Dropped       uint64  `json:"dropped"`
}

// topper remembers the counts of the last look at all sessions while somebody asks. Guarded by mu, which is held during a
// look: two who ask get one. newest and looked are for everybody.
type topper struct {
	mu    sync.Mutex
	at    time.Time
	seen  map[string][2]uint64 // received, delivered
	ranks []TopClient          // the busiest first
	last  Top

	newest atomic.Pointer[Top] // last, for who must not wait
	looked atomic.Int64        // Unix seconds: when the page was asked for
}

// The page does not wait for a look at all sessions: while somebody has it open, one is taken from time to time.
const (
	topPageEvery = 2 * time.Second
	topPageOpen  = 10 // seconds
)

// rank keeps the page's list of clients fresh until ctx is done.
func (s *Server) rank(ctx context.Context) {
	t := time.NewTicker(topPageEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			if now.Unix()-s.top.looked.Load() <= topPageOpen {
				_, _ = s.top.read(ctx, s.o.Node, now) // a node that does not answer has nothing to show
			}
		}
	}
}

// busiest is what the page shows of the clients: the busiest, or any at first.
func (s *Server) busiest(ctx context.Context, n int) []TopClient {
	now := time.Now().Unix()
	if t := s.top.newest.Load(); t != nil && now-t.Time.Unix() <= topPageOpen {
		s.top.looked.Store(now)
		return t.Clients[:min(n, len(t.Clients))]
	}
	s.top.looked.Store(now)
	var out []TopClient
	for _, x := range first(ctx, n, s.o.Node.Sessions) {
		out = append(out, TopClient{ID: x.ID, Listener: x.Listener, Queued: x.Queued, QueuedBytes: x.QueuedBytes, Dropped: x.Dropped})
	}
	return out
}

// registerTop adds the busiest clients.
func (s *Server) registerTop() {
	register(s, operation{id: "get-top", method: http.MethodGet, path: "/api/v1/top", group: "sessions", summary: "The busiest clients",
		doc: "Rates are taken between two questions, at least a second apart; up to 100,000 sessions are looked at, little by little."},
		func(ctx context.Context, in *topInput) (*answer[Top], error) {
			t, err := s.top.read(ctx, s.o.Node, time.Now())
			if err != nil {
				return nil, huma.Error503ServiceUnavailable("the node did not answer in time: " + err.Error())
			}
			t.Clients = t.Clients[:min(len(t.Clients), in.Limit)]
			t.Ranks = s.ranks(ctx, in.Limit)
			return &answer[Top]{t}, nil
		})
}

type topInput struct {
	Limit int `query:"limit" minimum:"1" maximum:"100" default:"10" doc:"How many clients."`
}

// topKept is how many clients an answer has at most.
const topKept = 100

func (p *topper) read(ctx context.Context, n Node, now time.Time) (Top, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.at.IsZero() && now.Sub(p.at) < topAge {
		return p.last, nil
	}
	if now.Sub(p.at) > topForget {
		p.seen = nil
	}
	span := now.Sub(p.at).Seconds()
	if p.seen == nil {
		span = 0
	}
	seen := make(map[string][2]uint64, len(p.seen))
	t := Top{Time: now.UTC(), Span: span}
	p.ranks = p.ranks[:0]
	for from := ""; ; {
		next, err := n.Sessions(ctx, from, func(s *Session) bool {
			t.Sessions++
			c := TopClient{ID: s.ID, Listener: s.Listener, Queued: s.Queued, QueuedBytes: s.QueuedBytes, Dropped: s.Dropped}
			if was, ok := p.seen[s.ID]; ok && span > 0 && s.Received >= was[0] && s.Delivered >= was[1] {
				c.ReceivedRate, c.DeliveredRate = float64(s.Received-was[0])/span, float64(s.Delivered-was[1])/span
			}
			seen[s.ID] = [2]uint64{s.Received, s.Delivered}
			p.ranks = append(p.ranks, c)
			return true
		})
		if err != nil {
			return Top{}, err
		}
		if len(p.ranks) > 8*topKept {
			p.rank()
		}
		if t.Complete = next == ""; t.Complete || t.Sessions >= topSessions || time.Since(now) > topTime {
			break
		}
		from = next
		time.Sleep(topPause)
	}
	p.rank()
	t.Clients = slices.Clone(p.ranks)
	p.at, p.seen, p.last = now, seen, t
	p.newest.Store(&t)
	return t, nil
}

// rank keeps the busiest.
func (p *topper) rank() {
	slices.SortStableFunc(p.ranks, func(a, b TopClient) int {
		return cmp.Or(cmp.Compare(b.ReceivedRate+b.DeliveredRate, a.ReceivedRate+a.DeliveredRate), cmp.Compare(b.QueuedBytes, a.QueuedBytes), cmp.Compare(b.Dropped, a.Dropped))
	})
	p.ranks = p.ranks[:min(len(p.ranks), topKept)]
}
