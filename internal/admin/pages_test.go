package admin

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func pagesOf[T any](t *testing.T, s *Server, path string) (rows []T, pages int) {
	t.Helper()
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	for cursor := ""; ; pages++ {
		target := path
		if cursor != "" {
			target += sep + "cursor=" + url.QueryEscape(cursor)
		}
		w := ask(t, s, "GET", target)
		var p Page[T]
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 200 {
			t.Fatalf("%s: %d %s", target, w.Code, w.Body)
		}
		rows = append(rows, p.Items...)
		if cursor = p.Next; cursor == "" || pages > 10_000 {
			return rows, pages + 1
		}
	}
}

func TestEveryRowIsOnOnePage(t *testing.T) {
	s := newTestServer(newFakeNode())
	for _, tc := range []struct {
		query string
		rows  int
		pages int // 0: any
	}{
		{"?limit=1000", fakeSessions, 2}, {"?limit=100", fakeSessions, 13}, {"?limit=7", fakeSessions, 0}, {"", fakeSessions, 13},
		{"?where=" + url.QueryEscape(`!connected`), fakeSessions / 4, 0},
		{"?limit=3&where=" + url.QueryEscape(`queued >= 6 && user == "user-1" && since < now`), 18, 0},
		{"?where=" + url.QueryEscape(`id.startsWith("nobody")`), 0, 0},
	} {
		rows, pages := pagesOf[Session](t, s, "/api/v1/sessions"+tc.query)
		seen := map[string]bool{}
		for _, r := range rows {
			seen[r.ID] = true
		}
		if len(rows) != tc.rows || len(seen) != tc.rows || tc.pages != 0 && pages != tc.pages {
			t.Errorf("%q: %d rows, %d of them different, on %d pages; want %d on %d", tc.query, len(rows), len(seen), pages, tc.rows, tc.pages)
		}
	}
	for _, kind := range []string{"listeners", "pools", "routes", "policies", "sources", "deadletters", "retained", "subscriptions"} {
		all, _ := pagesOf[map[string]any](t, s, "/api/v1/"+kind)
		one, pages := pagesOf[map[string]any](t, s, "/api/v1/"+kind+"?limit=1")
		if len(all) == 0 || len(one) != len(all) || pages != len(all) {
			t.Errorf("%s: %d rows at once, %d on %d pages", kind, len(all), len(one), pages)
		}
	}
	rows, _ := pagesOf[Pool](t, s, "/api/v1/pools?where="+url.QueryEscape(`members.exists(m, m.state == "connecting")`))
	if len(rows) != 1 || rows[0].Name != "archive" {
		t.Errorf("pools with a member that connects: %v", rows)
	}
}

func TestWhatCannotBeReadIsSaidWithItsPlace(t *testing.T) {
	s := newTestServer(newFakeNode())
	sessions, _ := pagesOf[Session](t, s, "/api/v1/sessions?limit=1000")
	_ = sessions
	var p Page[Session]
	if err := json.Unmarshal(ask(t, s, "GET", "/api/v1/sessions").Body.Bytes(), &p); err != nil || p.Next == "" || p.Total == nil || *p.Total != 1240 {
		t.Fatalf("%v %v", err, p.Total)
	}
	for target, want := range map[string]string{
		"/api/v1/sessions?limit=0":                                    "query.limit",
		"/api/v1/sessions?limit=1001":                                 "query.limit",
		"/api/v1/sessions?cursor=x":                                   "query.cursor",
		"/api/v1/pools?cursor=" + p.Next:                              "query.cursor",
		"/api/v1/sessions?where=queue":                                "did you mean queued",
		"/api/v1/sessions?where=" + url.QueryEscape(`id > 3`):         "query.where",
		"/api/v1/sessions?where=" + url.QueryEscape(`queued / 0 > 1`): "query.where",
		"/api/v1/retained?filter=" + url.QueryEscape("a/#/b"):         "query.filter",
	} {
		w := ask(t, s, "GET", target)
		if w.Code != 422 || w.Header().Get("Content-Type") != "application/problem+json" || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	for _, path := range []string{"sessions/nobody", "pools/none", "listeners/none", "retained/none", "deadletters/archive/9", "nothing"} {
		if w := ask(t, s, "GET", "/api/v1/"+path); w.Code != 404 || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := ask(t, s, "GET", "/api/v1/pools/north"); w.Code != 200 || w.Header().Get("ETag") != `"9f3c1a07"` {
		t.Errorf("a pool: %d %v %s", w.Code, w.Header(), w.Body)
	}
}

func TestPayloadsAreCutAndEncoded(t *testing.T) {
	for in, want := range map[string]string{
		"hello":    "{hello  5}",
		"\xff\x00": "{ /wA= 2}",
		"":         "{  0}",
	} {
		if got := fmt.Sprint(*NewPayload([]byte(in))); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
	long := NewPayload([]byte(strings.Repeat("x", MaxPayload-1) + "°C"))
	if long.Base64 != "" || len(long.Text) != MaxPayload-1 || long.Bytes != MaxPayload+2 {
		t.Errorf("a rune at the cut: %d bytes of text, %d of base64", len(long.Text), len(long.Base64))
	}
}
