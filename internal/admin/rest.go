package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// operation is what the API says of one request. Everything but the last four fields stands in the reference
// (docs/reference/openapi.yaml, made by go generate ./internal/admin), so it is a sentence for people.
type operation struct {
	id      string // "list-sessions"
	method  string
	path    string // "/api/v1/sessions/{id}"
	group   string // heading in the reference: "sessions"
	summary string // one line
	doc     string // what else to know: units, order, limits

	role   Role  // who may ask; None: viewer
	status int   // of success; 0: 200, or 204 without a body
	errors []int // besides 401, 403, 422, 500 and 503
	stream bool  // the answer goes on: not within the bounds of requests at once and of time
}

// access is what a request needs. Immutable.
type access struct {
	role   Role
	stream bool
}

// register adds an operation. answer runs on the goroutine of the request, within the server's budget; what it returns
// as an error is an answer of RFC 9457: one of huma.Error404NotFound and so on, else 500.
func register[I, O any](s *Server, op operation, answer func(ctx context.Context, in *I) (*O, error)) {
	huma.Register(s.api, s.operation(op), answer)
}

// operation notes who may ask op and makes huma's form of it, for those that register by other ways (sse.Register).
func (s *Server) operation(op operation) huma.Operation {
	role := max(op.role, Viewer)
	s.need[op.method+" "+op.path] = access{role, op.stream}
	errs := append([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable}, op.errors...)
	return huma.Operation{
		OperationID: op.id, Method: op.method, Path: op.path, Tags: []string{op.group}, Summary: op.summary,
		Description: op.doc + "\n\nRole: " + role.String() + ".", DefaultStatus: op.status, Errors: errs,
		Security: []map[string][]string{{"token": {}}},
	}
}

// newAPI makes the API on the mux, without operations.
func newAPI(m *http.ServeMux, version string) huma.API {
	return humago.New(m, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Windrose admin API", Version: version,
				Description: "What a node shows and does for its operators. By the unix socket and on loopback it asks nobody who they are; " +
					"elsewhere a token is needed. Lists come in pages: next is the cursor of the following one. Errors are application/problem+json (RFC 9457).",
			},
			Components: &huma.Components{
				Schemas:         huma.NewMapRegistry("#/components/schemas/", schemaName),
				SecuritySchemes: map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer", Description: "Made by windrose token create."}},
			},
		},
		OpenAPIPath:   "/openapi",
		Formats:       map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: "application/json",
	})
}

// preconditionFailed is the answer to a write whose If-Match names something that is not there any more. differs says in
// words what the caller has not seen.
func preconditionFailed(current string, differs ...string) error {
	errs := make([]error, 0, len(differs))
	for _, d := range differs {
		errs = append(errs, &huma.ErrorDetail{Message: d, Location: "header.If-Match", Value: current})
	}
	return huma.Error412PreconditionFailed("it changed meanwhile; the version now is "+current, errs...)
}

// checkMatch compares the header If-Match of a write with the version of what it changes (without quotes). required: the
// write is refused without the header (428). differs is asked for words when the versions differ; may be nil.
func checkMatch(ifMatch, current string, required bool, differs func() []string) error {
	switch got := unquoteTag(ifMatch); {
	case ifMatch == "" && required:
		return huma.NewError(http.StatusPreconditionRequired, "this write needs If-Match with the ETag that was read, so that nothing unseen is overwritten")
	case ifMatch == "", got == "*", got == current:
		return nil
	}
	var words []string
	if differs != nil {
		words = differs()
	}
	return preconditionFailed(current, words...)
}

// quoteTag makes an entity tag (RFC 9110, 8.8.3) of a version.
func quoteTag(version string) string { return `"` + version + `"` }

func unquoteTag(tag string) string {
	if len(tag) > 2 && tag[:2] == "W/" {
		tag = tag[2:]
	}
	if len(tag) >= 2 && tag[0] == '"' && tag[len(tag)-1] == '"' {
		return tag[1 : len(tag)-1]
	}
	return tag
}
