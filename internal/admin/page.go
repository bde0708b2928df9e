package admin

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed page
var pageFiles embed.FS

// How many rows the first page shows.
const (
	pageDeadLetters = 12
	pageReasons     = 12
	pageClients     = 8
)

// templates is parsed once. Immutable.
var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"num": func(v any) string { return formatNumber(v) }, "rate": formatRate, "size": formatBytes, "age": formatAge,
	"percent": percent, "join": strings.Join, "tone": tone,
}).ParseFS(pageFiles, "page/*.html"))

// view is what the templates see.
type view struct {
	*Status
	DeadLetters []DeadLetter
	Refusals    []bar
	Drops       []bar
	Failing     int // checks that make the node unready
	Degraded    int // optional checks that are not ok
	Spark       spark
	Clients     []TopClient
	Reload      *Reload // the last attempt, where it failed
}

// bar is one row of a list of counts; Percent is of the largest.
type bar struct {
	Reason  string
	Count   uint64
	Percent int
}

// spark is the shape of the small chart, in a box of sparkWidth by sparkHeight.
type spark struct {
	Received, Delivered, Area string
	Peak                      float64
}

const (
	sparkWidth  = 600
	sparkHeight = 96
)

func (s *Server) view(ctx context.Context) *view {
	st := s.status()
	v := &view{
		Status: st, DeadLetters: first(ctx, pageDeadLetters, func(ctx context.Context, from string, yield func(*DeadLetter) bool) (string, error) {
			return s.o.Node.DeadLetters(ctx, "", from, yield)
		}), Refusals: bars(st.Totals.Refusals), Drops: bars(st.Totals.Drops),
		Spark: sparkline(s.history.points()),
	}
	v.Clients = s.busiest(ctx, pageClients)
	if s.o.Operable != nil {
		if last, _ := s.o.Operable.LastReload(); last != nil && !last.OK {
			v.Reload = last // said once, not as a note and a check too
			st.Info.Notes = slices.DeleteFunc(slices.Clone(st.Info.Notes), func(n string) bool { return strings.HasPrefix(n, "Configuration:") })
			st.Checks = slices.DeleteFunc(slices.Clone(st.Checks), func(c Check) bool { return c.Name == "config" && c.Optional })
		}
	}
	for _, c := range st.Checks {
		switch {
		case c.OK:
		case c.Optional:
			v.Degraded++
		default:
			v.Failing++
		}
	}
	return v
}

// first reads the beginning of a list; what cannot be read in time is not shown.
func first[T any](ctx context.Context, n int, read step[T]) (rows []T) {
	for from := ""; len(rows) < n; {
		var err error
		if from, err = read(ctx, from, func(row *T) bool { rows = append(rows, *row); return len(rows) < n }); err != nil || from == "" {
			break
		}
	}
	return rows
}

func (s *Server) page(w http.ResponseWriter, r *http.Request)   { s.render(w, r, "page.html") }
func (s *Server) panels(w http.ResponseWriter, r *http.Request) { s.render(w, r, "panels.html") }

func (s *Server) render(w http.ResponseWriter, r *http.Request, name string) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, s.view(r.Context())); err != nil {
		s.log.Error("render the admin page", "template", name, "error", err)
		problem(w, r, http.StatusInternalServerError, "the page cannot be shown; /api/v1/status has the same numbers")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes()) // who asked is gone: nothing to tell anybody
}

// asset serves the embedded style, script and icon.
func asset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	media := map[string]string{
		"app.css": "text/css; charset=utf-8", "app.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml",
		"tap.css": "text/css; charset=utf-8", "tap.js": "text/javascript; charset=utf-8",
	}[name]
	if media == "" {
		problem(w, r, http.StatusNotFound, "no such asset")
		return
	}
	b, err := pageFiles.ReadFile("page/" + name)
	if err != nil {
		problem(w, r, http.StatusNotFound, "no such asset")
		return
	}
	w.Header().Set("Content-Type", media)
	_, _ = w.Write(b) // who asked is gone: nothing to tell anybody
}

// bars sorts counts by size and leaves out zeros.
func bars(counts []Count) []bar {
	counts = slices.DeleteFunc(slices.Clone(counts), func(c Count) bool { return c.Count == 0 })
	slices.SortFunc(counts, func(a, b Count) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Reason, b.Reason))
	})
	out := make([]bar, 0, len(counts))
	for i, c := range counts {
		if i == pageReasons {
			break
		}
		out = append(out, bar{c.Reason, c.Count, max(1, int(float64(c.Count)/float64(counts[0].Count)*100))})
	}
	return out
}

// sparkline draws the newest historyLen seconds; fewer begin further right.
func sparkline(points []Point) spark {
	var sp spark
	for _, p := range points {
		sp.Peak = max(sp.Peak, p.Received, p.Delivered)
	}
	if len(points) < 2 {
		return sp
	}
	line := func(value func(Point) float64) string {
		var b strings.Builder
		for i, p := range points {
			x := float64(historyLen-len(points)+i) / (historyLen - 1) * sparkWidth
			y := float64(sparkHeight - 2)
			if sp.Peak > 0 {
				y -= value(p) / sp.Peak * (sparkHeight - 6)
			}
			if i > 0 {
				b.WriteByte(' ')
			}
			fmt.Fprintf(&b, "%.1f,%.1f", x, y)
		}
		return b.String()
	}
	sp.Received = line(func(p Point) float64 { return p.Received })
	sp.Delivered = line(func(p Point) float64 { return p.Delivered })
	first := float64(historyLen-len(points)) / (historyLen - 1) * sparkWidth
	sp.Area = fmt.Sprintf("%.1f,%d %s %d,%d", first, sparkHeight, sp.Delivered, sparkWidth, sparkHeight)
	return sp
}

// tone is the colour class of a state word.
func tone(state string) string {
	switch state {
	case "listening", "up", "ok", "ready":
		return "good"
	case "connecting", "draining", "degraded", "backoff", "probing":
		return "warn"
	case "failed", "down", "unhealthy", "stopped":
		return "bad"
	}
	return "calm"
}

func percent(n, bound int) int {
	if bound <= 0 || n <= 0 {
		return 0
	}
	return min(100, max(1, int(float64(n)/float64(bound)*100)))
}

func formatNumber(v any) string {
	s := fmt.Sprint(v)
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

func formatRate(v float64) string {
	if v > 0 && v < 10 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return formatNumber(int64(v + .5))
}

func formatBytes(n int64) string {
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, unit := float64(n)/1024, 0
	for v >= 1024 && unit < 3 {
		v, unit = v/1024, unit+1
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + [...]string{"KiB", "MiB", "GiB", "TiB"}[unit]
}

func formatAge(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := max(0, time.Since(t))
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}
