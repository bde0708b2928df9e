package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/windrose-edc/windrose/internal/observe"
)

// MaxDeadLetters bounds one answer of /api/v1/deadletters.
const MaxDeadLetters = 1000

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

// routes is the list of everything that can be asked.
func (s *Server) routes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok\n") })
	m.HandleFunc("/readyz", s.readyz)
	m.HandleFunc("/metrics", s.metrics)
	m.HandleFunc("/api/v1/status", func(w http.ResponseWriter, r *http.Request) { reply(w, r, http.StatusOK, s.status()) })
	m.HandleFunc("/api/v1/info", s.document(func() any { return s.o.Node.Info() }))
	m.HandleFunc("/api/v1/checks", s.document(func() any { return list(s.o.Node.Checks()) }))
	m.HandleFunc("/api/v1/listeners", s.document(func() any { return list(s.o.Node.Listeners()) }))
	m.HandleFunc("/api/v1/pools", s.document(func() any { return list(s.o.Node.Pools()) }))
	m.HandleFunc("/api/v1/routes", s.document(func() any { return list(s.o.Node.Routes()) }))
	m.HandleFunc("/api/v1/policies", s.document(func() any { return list(s.o.Node.Policies()) }))
	m.HandleFunc("/api/v1/totals", s.document(func() any { return s.totals() }))
	m.HandleFunc("/api/v1/history", s.pastSeconds)
	m.HandleFunc("/api/v1/deadletters", s.deadLetters)
	m.HandleFunc("/{$}", s.page)
	m.HandleFunc("/panels", s.panels)
	m.HandleFunc("/assets/{name}", asset)
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem(w, r, http.StatusNotFound, "nothing here: try /, /livez, /readyz?verbose, /metrics or /api/v1/status")
	})
	return m
}

func (s *Server) document(f func() any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { reply(w, r, http.StatusOK, f()) }
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

// pastSeconds answers the points after ?since (Unix milliseconds), so that a page asks for what it lacks.
func (s *Server) pastSeconds(w http.ResponseWriter, r *http.Request) {
	points := s.history.points()
	if v := r.URL.Query().Get("since"); v != "" {
		since, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			problem(w, r, http.StatusBadRequest, "since must be a time in Unix milliseconds")
			return
		}
		for len(points) > 0 && points[0].Time <= since {
			points = points[1:]
		}
	}
	reply(w, r, http.StatusOK, points)
}

func (s *Server) deadLetters(w http.ResponseWriter, r *http.Request) {
	q, limit := r.URL.Query(), 100
	if v := q.Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > MaxDeadLetters {
			problem(w, r, http.StatusBadRequest, "limit must be a number from 1 to "+strconv.Itoa(MaxDeadLetters))
			return
		}
		limit = n
	}
	reply(w, r, http.StatusOK, list(s.o.Node.DeadLetters(q.Get("pool"), limit)))
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
