package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/windrose-edc/windrose/internal/observe"
)

// Status is the document of /api/v1/status.
type Status struct {
	Version   string     `json:"version"`
	Now       time.Time  `json:"now"`
	Uptime    float64    `json:"uptime_seconds"`
	Ready     bool       `json:"ready"`
	Info      Info       `json:"info"`
	Totals    Totals     `json:"totals"`
	Rates     Rates      `json:"rates"`
	Checks    []Check    `json:"checks"`
	Listeners []Listener `json:"listeners"`
	Pools     []Pool     `json:"pools"`
	Routes    []Route    `json:"routes"`
	Policies  []Policy   `json:"policies"`
}

// Ready is the document of /readyz.
type Ready struct {
	Status string  `json:"status"` // "ok" or "unhealthy"
	Checks []Check `json:"checks"`
}

// routes is the list of everything that can be asked. The API's operations are in files of their own.
func (s *Server) routes() *http.ServeMux {
	m := http.NewServeMux()
	plain := func(pattern string, role Role, h http.HandlerFunc) {
		s.need[pattern] = access{role: role}
		m.HandleFunc(pattern, h)
	}
	plain("GET /livez", None, func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok\n") })
	plain("GET /readyz", None, s.readyz)
	plain("GET /metrics", Viewer, s.metrics)
	plain("GET /{$}", Viewer, s.page)
	plain("GET /panels", Viewer, s.panels)
	plain("GET /assets/{name}", Viewer, asset)
	plain("/", Viewer, s.nothing)
	s.api = newAPI(m, s.o.Version)
	s.registerStatus()
	s.registerObjects()
	s.registerSessions()
	s.registerTop()
	s.registerDeadLetters()
	s.registerLog()
	s.registerConfig()
	s.registerTap()
	return m
}

// registerStatus adds what is told of the node as a whole.
func (s *Server) registerStatus() {
	document(s, operation{id: "get-status", path: "/api/v1/status", group: "node", summary: "Everything about the node at once",
		doc: "What the first page and windrose top show."}, s.status)
	document(s, operation{id: "get-info", path: "/api/v1/info", group: "node", summary: "What this node is",
		doc: "Its name, who may change its configuration, and what an operator must know."}, s.o.Node.Info)
	document(s, operation{id: "get-checks", path: "/api/v1/checks", group: "node", summary: "The parts of readiness",
		doc: "The node is ready when every check that is not optional is ok."}, func() []Check { return list(s.o.Node.Checks()) })
	document(s, operation{id: "get-totals", path: "/api/v1/totals", group: "node", summary: "Counters since the start, and gauges",
		doc: "Refusals and drops by their reason; what is not listed did not happen."}, s.totals)
	register(s, operation{id: "get-history", method: http.MethodGet, path: "/api/v1/history", group: "node", summary: "The rates of the last five minutes",
		doc: "One point for each second, oldest first."}, s.pastSeconds)
}

// answer is the body of an operation that has nothing else to tell.
type answer[T any] struct{ Body T }

// document registers an operation without parameters.
func document[T any](s *Server, op operation, f func() T) {
	op.method = http.MethodGet
	register(s, op, func(context.Context, *struct{}) (*answer[T], error) { return &answer[T]{f()}, nil })
}

// nothing answers what no pattern took: 405 where another method would be one, else 404.
func (s *Server) nothing(w http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, m := range [...]string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = m
		if _, pattern := s.mux.Handler(other); pattern != "/" {
			allow = append(allow, m)
		}
	}
	if len(allow) > 0 {
		s.refused["method"].Inc()
		w.Header().Set("Allow", strings.Join(allow, ", "))
		problem(w, r, http.StatusMethodNotAllowed, "this takes "+strings.Join(allow, ", "))
		return
	}
	problem(w, r, http.StatusNotFound, "nothing here: try /, /livez, /readyz?verbose, /metrics, /openapi.yaml or /api/v1/status")
}

// status asks the node for everything.
func (s *Server) status() *Status {
	n, now := s.o.Node, time.Now()
	st := &Status{
		Version: s.o.Version, Now: now.UTC(), Info: n.Info(), Totals: s.totals(), Rates: s.history.rates(),
		Checks: list(n.Checks()), Listeners: list(n.Listeners()), Pools: list(n.Pools()), Routes: list(n.Routes()), Policies: list(n.Policies()),
	}
	st.Ready = ready(st.Checks)
	if !st.Info.Started.IsZero() {
		st.Uptime = now.Sub(st.Info.Started).Round(time.Millisecond).Seconds()
	}
	return st
}

func (s *Server) totals() Totals {
	t := s.o.Node.Totals()
	t.Refusals, t.Drops = list(t.Refusals), list(t.Drops)
	return t
}

func ready(checks []Check) bool {
	for _, c := range checks {
		if !c.OK && !c.Optional {
			return false
		}
	}
	return true
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	checks := list(s.o.Node.Checks())
	doc, code := Ready{"ok", checks}, http.StatusOK
	if !ready(checks) {
		doc.Status, code = "unhealthy", http.StatusServiceUnavailable
	}
	if wantsJSON(r) {
		reply(w, r, code, doc)
		return
	}
	if !r.URL.Query().Has("verbose") {
		text(w, code, doc.Status+"\n")
		return
	}
	var b strings.Builder
	for _, c := range checks {
		sign, word := "[+]", "ok"
		switch {
		case !c.OK && c.Optional:
			sign, word = "[~]", "degraded"
		case !c.OK:
			sign, word = "[-]", "failed"
		}
		b.WriteString(sign + " " + oneLine(c.Name) + " " + word)
		if c.Text != "" {
			b.WriteString(": " + oneLine(c.Text))
		}
		b.WriteByte('\n')
	}
	b.WriteString(doc.Status + "\n")
	text(w, code, b.String())
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	var b bytes.Buffer
	if err := s.o.Registry.WritePrometheus(&b); err != nil {
		problem(w, r, http.StatusInternalServerError, "metrics cannot be read")
		return
	}
	w.Header().Set("Content-Type", observe.ContentType)
	_, _ = w.Write(b.Bytes()) // who asked is gone: nothing to tell anybody
}

type historyInput struct {
	Since int64 `query:"since" doc:"Unix milliseconds: only what is newer, so that a page asks for what it lacks."`
}

func (s *Server) pastSeconds(_ context.Context, in *historyInput) (*answer[[]Point], error) {
	points := s.history.points()
	for len(points) > 0 && points[0].Time <= in.Since {
		points = points[1:]
	}
	return &answer[[]Point]{points}, nil
}

// list makes an empty list of none, so that a document says [] and never null.
func list[T any](v []T) []T {
	if v == nil {
		return []T{}
	}
	return v
}

func wantsJSON(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		media, _, _ := strings.Cut(part, ";")
		switch strings.TrimSpace(media) {
		case "application/json":
			return true
		case "text/plain", "text/html":
			return false
		}
	}
	return false
}

// reply writes v as JSON, indented when ?pretty is given.
func reply(w http.ResponseWriter, r *http.Request, code int, v any) {
	replyAs(w, r, code, "application/json", v)
}

func replyAs(w http.ResponseWriter, r *http.Request, code int, media string, v any) {
	b, err := json.Marshal(v)
	if err == nil && r.URL.Query().Has("pretty") {
		var out bytes.Buffer
		err = json.Indent(&out, b, "", "  ")
		b = out.Bytes()
	}
	if err != nil {
		text(w, http.StatusInternalServerError, "the answer cannot be written as JSON\n")
		return
	}
	w.Header().Set("Content-Type", media)
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n')) // who asked is gone: nothing to tell anybody
}

// problem answers in the form of RFC 9457 under /api/ or to who wants JSON, else as a line of text.
func problem(w http.ResponseWriter, r *http.Request, code int, detail string) {
	if !strings.HasPrefix(r.URL.Path, "/api/") && !wantsJSON(r) {
		text(w, code, detail+"\n")
		return
	}
	replyAs(w, r, code, "application/problem+json", struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{http.StatusText(code), code, detail})
}

func text(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(body)) // who asked is gone: nothing to tell anybody
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
