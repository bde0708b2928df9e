package admin

import (
	"context"
	"net/http"
)

// registerSessions adds sessions and their subscriptions.
func (s *Server) registerSessions() {
	n := s.o.Node
	register(s, operation{id: "list-sessions", method: http.MethodGet, path: "/api/v1/sessions", group: "sessions", summary: "List sessions",
		doc: "With and without a connection, in no order that means something. A session that is there all the while is on exactly one page."},
		func(ctx context.Context, in *PageInput) (*answer[Page[Session]], error) {
			out, err := readPage(ctx, "sessions", in, n.Sessions)
			if err == nil && in.Where == "" {
				total := n.Totals().Sessions
				out.Body.Total = &total
			}
			return out, err
		})
	register(s, operation{id: "get-session", method: http.MethodGet, path: "/api/v1/sessions/{id}", group: "sessions", summary: "Show a session",
		doc: "Client, user, connection, window, outbox, counters, why the last connection ended, and the first hundred subscriptions.", errors: []int{http.StatusNotFound}},
		func(ctx context.Context, in *SessionInput) (*tagged[*SessionDetail], error) {
			d, err := n.Session(ctx, in.ID)
			if err != nil {
				return nil, notFound(err, "session", in.ID)
			}
			d.Filters = list(d.Filters)
			return &tagged[*SessionDetail]{ETag: quoteTag(d.Version), Body: d}, nil
		})
	register(s, operation{id: "kick-session", method: http.MethodPost, path: "/api/v1/sessions/{id}/kick", group: "sessions", summary: "Disconnect a client", role: Operator,
		doc: "MQTT 5 clients are told (0x98, administrative action); the will is published. With forget the session ends too, and what waits in it is dropped and counted. " +
			"With If-Match only the connection that was read is ended, not one that came meanwhile.", errors: []int{http.StatusNotFound, http.StatusPreconditionFailed}},
		func(ctx context.Context, in *kickInput) (*tagged[Kicked], error) {
			done, version, err := n.Kick(ctx, in.ID, unquoteTag(in.IfMatch), in.Body.Forget)
			if err != nil {
				return nil, notFound(err, "session", in.ID)
			}
			if err := checkMatch(in.IfMatch, version, false, func() []string { return []string{"the client has connected or disconnected since"} }); err != nil {
				return nil, err
			}
			return &tagged[Kicked]{ETag: quoteTag(version), Body: done}, nil
		})
	register(s, operation{id: "list-subscriptions", method: http.MethodGet, path: "/api/v1/subscriptions", group: "sessions", summary: "List subscriptions",
		doc: "Of one session, or of all; those of a session are together."},
		func(ctx context.Context, in *subscriptionsInput) (*answer[Page[Subscription]], error) {
			out, err := readPage(ctx, "subscriptions "+in.Session, &in.PageInput, func(ctx context.Context, from string, yield func(*Subscription) bool) (string, error) {
				return n.Subscriptions(ctx, in.Session, from, yield)
			})
			if err == nil && in.Where == "" && in.Session == "" {
				total := n.Totals().Subscriptions
				out.Body.Total = &total
			}
			return out, err
		})
}

// SessionInput names a session.
type SessionInput struct {
	ID string `path:"id" maxLength:"65535" doc:"Client id, percent-encoded."`
}

type kickInput struct {
	SessionInput
	IfMatch string `header:"If-Match" doc:"ETag of the session as it was read."`
	Body    kickBody
}

type kickBody struct {
	Forget bool `json:"forget,omitempty" doc:"End the session too."`
}

type subscriptionsInput struct {
	PageInput
	Session string `query:"session" maxLength:"65535" doc:"Only of this client id."`
}
