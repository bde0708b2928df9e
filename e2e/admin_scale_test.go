package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// manySessions is how many sessions the admin server is asked about, of which three quarters are connected.
const manySessions = 20_000

const scaleConf = `windrose: v1
node: { admin: "127.0.0.1:${ADMIN}", data: data, loops: 2 }
listeners:
  mqtt: { mqtt: { bind: "127.0.0.1:${MQTT}", anonymous: true } }
`

// TestAdminWithManySessions: whoever pages through 20,000 sessions gets each page soon, each session once, and those who
// publish meanwhile do not notice. The bounds are wide, for machines that do other things; what was measured is logged.
func TestAdminWithManySessions(t *testing.T) {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil || lim.Cur < manySessions {
		t.Skipf("%d open files are allowed, %d are needed", lim.Cur, manySessions)
	}
	n := startNode(t, scaleConf)
	begin := time.Now()
	connectMany(t, n.mqtt())
	n.await(manySessions, "windrose_session_open_sessions")
	n.await(manySessions*3/4, "windrose_session_online_sessions")
	t.Logf("%d sessions after %v", manySessions, time.Since(begin).Round(time.Millisecond))

	calm := roundTrips(t, n, 2*time.Second, nil)

	base := "http://127.0.0.1:" + n.ports["ADMIN"] + "/api/v1/"
	var pages, where, top []time.Duration
	busy := roundTrips(t, n, 2*time.Second, func(ctx context.Context) {
		for ctx.Err() == nil {
			seen := map[string]bool{}
			for next := "-"; next != ""; {
				if next == "-" {
					next = ""
				}
				doc, took := readPage(t, base+"sessions?limit=100&cursor="+next)
				pages = append(pages, took)
				for _, s := range doc.Items {
					seen[s.ID] = true
				}
				next = doc.Next
			}
			if len(seen) < manySessions {
				t.Errorf("%d sessions on all pages", len(seen))
			}
			_, took := readPage(t, base+"sessions?where="+url.QueryEscape(`id.endsWith("-19999")`))
			where = append(where, took)
			_, took = readPage(t, base+"top")
			top = append(top, took)
		}
	})
	looking := roundTrips(t, n, 2*time.Second, func(ctx context.Context) {
		for next := ""; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
			doc, _ := readPage(t, base+"sessions?limit=100&cursor="+next)
			next = doc.Next
		}
	})
	t.Logf("while somebody reads a page every 20 ms: median %v, p99 %v (%d)", quantile(looking, .5), quantile(looking, .99), len(looking))
	t.Logf("get sessions, %d pages of 100: median %v, p99 %v, longest %v", len(pages), quantile(pages, .5), quantile(pages, .99), quantile(pages, 1))
	t.Logf("with a condition: longest %v; top: longest %v", quantile(where, 1), quantile(top, 1))
	t.Logf("publish to PUBACK, calm: median %v, p99 %v (%d); while paging: median %v, p99 %v (%d)",
		quantile(calm, .5), quantile(calm, .99), len(calm), quantile(busy, .5), quantile(busy, .99), len(busy))
	if m := quantile(pages, .5); m > 50*time.Millisecond {
		t.Errorf("half of the pages took more than %v", m)
	}
	if was, is := quantile(calm, .99), quantile(busy, .99); is > 5*was+50*time.Millisecond {
		t.Errorf("p99 of publishers: %v calm, %v while somebody pages", was, is)
	}
}

type sessionsDoc struct {
	Items []struct {
		ID string `json:"id"`
	} `json:"items"`
	Next string `json:"next"`
}

func readPage(t *testing.T, target string) (doc sessionsDoc, took time.Duration) {
	begin := time.Now()
	status, body, err := get(target)
	took = time.Since(begin)
	if err != nil || status != http.StatusOK || json.Unmarshal(body, &doc) != nil {
		t.Errorf("%s: %d %v %.200s", target, status, err, body)
	}
	return doc, took
}

// connectMany opens the sessions; every fourth goes again and is kept by the node.
func connectMany(t *testing.T, port string) {
	t.Helper()
	conns := make([]net.Conn, manySessions)
	t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	})
	errs := make(chan error, 32)
	var wg sync.WaitGroup
	for w := range cap(errs) {
		wg.Go(func() {
			for i := w; i < manySessions; i += cap(errs) {
				c, err := connectQuietly(port, hello{id: fmt.Sprintf("device-%d", i), v: 5, keep: i%4 == 0})
				if err != nil {
					errs <- fmt.Errorf("connection %d: %w", i, err)
					return
				}
				if i%4 == 0 {
					_ = c.Close() // its session stays
					continue
				}
				conns[i] = c
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}
}

// connectQuietly is connect without a test's helpers around each connection.
func connectQuietly(port string, h hello) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", "127.0.0.1:"+port)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := c.Write(appendConnect(nil, h.v, h)); err != nil {
		return nil, err
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(c, head); err != nil {
		return nil, err
	}
	if head[0]>>4 != connackKind || head[3] != 0 {
		return nil, fmt.Errorf("CONNACK % x", head)
	}
	if _, err := io.CopyN(io.Discard, c, int64(head[1])-2); err != nil {
		return nil, err
	}
	return c, nil
}

// roundTrips lets four publishers publish one event after the other and measures each until its PUBACK, while work (may
// be nil) goes on.
func roundTrips(t *testing.T, n *node, length time.Duration, work func(ctx context.Context)) []time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	if work != nil {
		wg.Go(func() { work(ctx) })
	}
	var clients []*raw
	for range 4 {
		clients = append(clients, client(t, n.mqtt(), hello{}))
	}
	for i, c := range clients {
		wg.Go(func() {
			var took []time.Duration
			for id := uint16(1); ctx.Err() == nil; id = id%60_000 + 1 {
				begin := time.Now()
				if err := c.send(appendPublish(nil, c.v, fmt.Sprintf("scale/%d", i), []byte("21.5"), id)); err != nil {
					t.Errorf("publish: %v", err)
					break
				}
				p, err := c.read(patience)
				if err != nil || p.kind() != pubackKind {
					t.Errorf("answer %d: %v", p.kind(), err)
					break
				}
				took = append(took, time.Since(begin))
				time.Sleep(2 * time.Millisecond)
			}
			mu.Lock()
			all = append(all, took...)
			mu.Unlock()
		})
	}
	wg.Wait()
	for _, c := range clients {
		c.disconnect()
	}
	if len(all) == 0 {
		t.Fatal("nothing was published")
	}
	return all
}

// quantile sorts what was measured.
func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(len(d)-1, int(q*float64(len(d))))].Round(10 * time.Microsecond)
}
