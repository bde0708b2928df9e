package admin

import "context"

// Ranker is a Node that keeps estimates of what comes most often.
type Ranker interface {
	// Ranks is the n highest of each kind, over all loops.
	Ranks(ctx context.Context, n int) (Ranks, error)
}

// Ranks is what came most often lately. Counts are estimates: of one event in sixteen, in sketches of 128 names on each loop.
type Ranks struct {
	Span        float64 `json:"span_seconds" doc:"Over how long they were counted; 0: nothing came."`
	Topics      []Rank  `json:"topics" nullable:"false" doc:"Topics that clients published most events to."`
	Publishers  []Rank  `json:"publishers" nullable:"false" doc:"Clients that published most events."`
	Subscribers []Rank  `json:"subscribers" nullable:"false" doc:"Clients that were sent most events."`
	Slow        []Rank  `json:"slow" nullable:"false" doc:"Clients with a connection that did not keep up: how many events for them had to wait or were dropped."`
}

// Rank is one name with its estimate.
type Rank struct {
	Name  string `json:"name" doc:"Topic or client id; its first 512 bytes."`
	Count uint64 `json:"count"`
	Error uint64 `json:"error" doc:"At most so many of them were others' events, of those that were looked at."`
}

// ranks asks a node that has any.
func (s *Server) ranks(ctx context.Context, n int) *Ranks {
	r, ok := s.o.Node.(Ranker)
	if !ok {
		return nil
	}
	x, err := r.Ranks(ctx, n)
	if err != nil {
		return nil // a loop is busy; the rest of the answer is worth giving
	}
	return &x
}
