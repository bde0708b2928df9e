package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// MaxLetters bounds the dead letters that one request names.
const MaxLetters = 1000

// registerDeadLetters adds dead letters and what can be done with them.
func (s *Server) registerDeadLetters() {
	n := s.o.Node
	register(s, operation{id: "list-deadletters", method: http.MethodGet, path: "/api/v1/deadletters", group: "deadletters", summary: "List dead letters",
		doc: "Events that were acknowledged and could not be delivered, the newest first; payloads are not shown. The ETag is given where a pool is named."},
		func(ctx context.Context, in *lettersInput) (*taggedPage, error) {
			out := &taggedPage{}
			if in.Pool != "" {
				v, err := n.DeadLettersVersion(in.Pool)
				if err != nil {
					return nil, notFound(err, "pool", in.Pool)
				}
				out.ETag = quoteTag(v)
			}
			page, err := readPage(ctx, "deadletters "+in.Pool, &in.PageInput, func(ctx context.Context, from string, yield func(*DeadLetter) bool) (string, error) {
				return n.DeadLetters(ctx, in.Pool, from, yield)
			})
			if err != nil {
				return nil, err
			}
			out.Body = page.Body
			if in.Where == "" && in.Pool == "" {
				total := n.Totals().DeadLetters
				out.Body.Total = &total
			}
			return out, nil
		})
	register(s, operation{id: "get-deadletter", method: http.MethodGet, path: "/api/v1/deadletters/{pool}/{id}", group: "deadletters", summary: "Show a dead letter",
		doc: "With its metadata; headers are shown to operators, the payload too where it is asked for.", errors: []int{http.StatusNotFound}},
		func(ctx context.Context, in *letterInput) (*answer[*DeadLetterDetail], error) {
			d, err := n.DeadLetter(in.Pool, in.ID)
			if err != nil {
				return nil, notFound(err, "dead letter", fmt.Sprintf("%s/%d", in.Pool, in.ID))
			}
			if err := in.show(ctx, &d.Event); err != nil {
				return nil, err
			}
			return &answer[*DeadLetterDetail]{d}, nil
		})
	register(s, operation{id: "replay-deadletters", method: http.MethodPost, path: "/api/v1/deadletters/{pool}/replay", group: "deadletters", summary: "Deliver dead letters again", role: Operator,
		doc: "They go behind the events that wait, with all attempts anew, oldest first, while there is room. Without ids: all. " +
			"Those of @sessions go to their client's outbox; they stay where the session is gone.", errors: []int{http.StatusNotFound, http.StatusPreconditionFailed}},
		func(ctx context.Context, in *lettersWrite) (*answer[LettersDone], error) {
			if err := in.check(n, false); err != nil {
				return nil, err
			}
			done, err := n.Replay(ctx, in.Pool, in.Body.IDs)
			if err != nil && done == 0 && errors.Is(err, ErrNotFound) {
				return nil, huma.Error404NotFound("none of these dead letters is there")
			}
			out := &answer[LettersDone]{LettersDone{Done: done}}
			if err != nil {
				out.Body.Stopped = err.Error()
			}
			return out, nil
		})
	register(s, operation{id: "purge-deadletters", method: http.MethodPost, path: "/api/v1/deadletters/{pool}/purge", group: "deadletters", summary: "Delete dead letters", role: Admin,
		doc:    "Those with the ids; without ids all, which needs If-Match with the ETag of the list, so that none is deleted unseen.",
		errors: []int{http.StatusNotFound, http.StatusPreconditionFailed, http.StatusPreconditionRequired}},
		func(_ context.Context, in *lettersWrite) (*answer[LettersDone], error) {
			if err := in.check(n, len(in.Body.IDs) == 0); err != nil {
				return nil, err
			}
			done, err := n.Purge(in.Pool, in.Body.IDs)
			if err != nil {
				return nil, notFound(err, "pool", in.Pool)
			}
			return &answer[LettersDone]{LettersDone{Done: done}}, nil
		})
}

type taggedPage struct {
	ETag string `header:"ETag" doc:"Version of the list, for replay and purge."`
	Body Page[DeadLetter]
}

type lettersInput struct {
	PageInput
	Pool string `query:"pool" maxLength:"255" doc:"Only of this pool; @sessions: those of clients' outboxes."`
}

type letterInput struct {
	Pool string `path:"pool" maxLength:"255" doc:"Pool; @sessions: clients' outboxes."`
	ID   uint64 `path:"id" doc:"Number of the dead letter."`
	PayloadInput
}

type lettersWrite struct {
	Pool    string `path:"pool" maxLength:"255" doc:"Pool; @sessions: clients' outboxes."`
	IfMatch string `header:"If-Match" doc:"ETag of the list as it was read."`
	Body    lettersBody
}

type lettersBody struct {
	IDs []uint64 `json:"ids,omitempty" maxItems:"1000" nullable:"false" doc:"Numbers of dead letters; none: all."`
}

// check compares the version of the list where that is wanted.
func (in *lettersWrite) check(n Node, required bool) error {
	v, err := n.DeadLettersVersion(in.Pool)
	if err != nil {
		return notFound(err, "pool", in.Pool)
	}
	return checkMatch(in.IfMatch, v, required, func() []string { return []string{"dead letters came or went since"} })
}

// LettersDone says how far a replay or a purge came.
type LettersDone struct {
	Done    int    `json:"done" doc:"How many."`
	Stopped string `json:"stopped,omitempty" doc:"Why not all: the queue is full, or the session is gone."`
}
