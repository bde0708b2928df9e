package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	endian "encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// crowd is many MQTT 3.1.1 connections that share an address book. Owned by the test; its members have goroutines of their own.
type crowd struct {
	members []*member
	wg      sync.WaitGroup
	quiet   atomic.Bool // ends of connections are what the test wants
	ends    atomic.Int64
	errs    chan error
}

// member is one connection: it subscribes to a topic of its own or publishes to that of another, one event at a time, and
// keeps everything that it gets. Owned by its goroutines, except what mu guards.
type member struct {
	id    int
	conn  net.Conn
	acked atomic.Int64 // last number whose PUBACK came
	wmu   sync.Mutex   // one writer at a time

	mu    sync.Mutex
	got   []int
	times []sample
	acks  chan struct{}
	gone  chan struct{} // closed when the connection has ended
}

// sample is how long an acknowledgement took, and when.
type sample struct {
	at   time.Time
	took time.Duration
}

func framed(first byte, body []byte) []byte {
	out := []byte{first}
	for n := len(body); ; {
		b := byte(n & 0x7f)
		if n >>= 7; n > 0 {
			out = append(out, b|0x80)
			continue
		}
		return append(append(out, b), body...)
	}
}

func text(s string) []byte { return append(endian.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }

// enlist connects a member; tlsConf is nil for a plain connection.
func enlist(addr string, tlsConf *tls.Config, id int, name string) (*member, error) {
	d := net.Dialer{Timeout: patience}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	if tlsConf != nil {
		c = tls.Client(c, tlsConf)
	}
	m := &member{id: id, conn: c, acks: make(chan struct{}, 4), gone: make(chan struct{})}
	if _, err := c.Write(framed(0x10, append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0}, text(name)...))); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	var ack [4]byte
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c, ack[:]); err != nil || ack[0] != 0x20 || ack[3] != 0 {
		return nil, fmt.Errorf("CONNACK %x: %w", ack, err)
	}
	_ = c.SetReadDeadline(time.Time{})
	return m, nil
}

func (m *member) write(b []byte) error {
	m.wmu.Lock()
	defer m.wmu.Unlock()
	_, err := m.conn.Write(b)
	return err
}

// read takes what comes until the connection ends.
func (m *member) read(subscribed chan<- struct{}) error {
	r := newPacketReader(m.conn)
	for {
		first, body, err := r.next()
		if err != nil {
			return err
		}
		switch first >> 4 {
		case 3:
			n := int(endian.BigEndian.Uint16(body)) + 2
			if first&6 != 0 {
				if err := m.write(append([]byte{0x40, 2}, body[n:n+2]...)); err != nil {
					return err
				}
				n += 2
			}
			var k int
			_, _ = fmt.Sscan(string(body[n:]), &k)
			m.mu.Lock()
			m.got = append(m.got, k)
			m.mu.Unlock()
		case 4:
			m.acks <- struct{}{}
		case 9:
			subscribed <- struct{}{}
		}
	}
}

// packetReader cuts a stream into packets. Owned by its reader.
type packetReader struct {
	r io.Reader
	b bytes.Buffer
}

func newPacketReader(r io.Reader) *packetReader { return &packetReader{r: r} }

func (p *packetReader) next() (byte, []byte, error) {
	var buf [4096]byte
	for {
		if b := p.b.Bytes(); len(b) >= 2 {
			n, shift, i := 0, 0, 1
			for ; i < len(b) && i < 5; i++ {
				n |= int(b[i]&0x7f) << shift
				if shift += 7; b[i]&0x80 == 0 {
					break
				}
			}
			if i < len(b) && len(b) >= i+1+n {
				first, body := b[0], slices.Clone(b[i+1:i+1+n])
				p.b.Next(i + 1 + n)
				return first, body, nil
			}
		}
		n, err := p.r.Read(buf[:])
		p.b.Write(buf[:n])
		if err != nil && n == 0 {
			return 0, nil, err
		}
	}
}

// publish sends number after number to a topic, each when the one before is acknowledged, until stop is closed.
func (m *member) publish(topic string, pause time.Duration, stop <-chan struct{}) {
	for n := 1; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
		body := append(text(topic), byte(n>>8), byte(n))
		if n&0xffff == 0 {
			continue
		}
		begin := time.Now()
		if m.write(framed(0x32, fmt.Appendf(body, "%d", n))) != nil {
			return
		}
		select {
		case <-m.acks:
			m.acked.Store(int64(n))
			m.mu.Lock()
			m.times = append(m.times, sample{begin, time.Since(begin)})
			m.mu.Unlock()
		case <-stop:
			select { // the last one may still be answered
			case <-m.acks:
				m.acked.Store(int64(n))
			case <-m.gone:
			case <-time.After(patience):
			}
			return
		case <-m.gone:
			select { // both may be there
			case <-m.acks:
				m.acked.Store(int64(n))
			default:
			}
			return
		}
	}
}

// gather connects pairs of a publisher and a subscriber: half of the pairs by TLS.
func gather(t *testing.T, pairs int, plain, secure string, conf *tls.Config) *crowd {
	t.Helper()
	c := &crowd{errs: make(chan error, 2*pairs)}
	subscribed := make(chan struct{}, pairs)
	for i := range 2 * pairs {
		addr, tc := plain, (*tls.Config)(nil)
		if i/2%2 == 1 && conf != nil {
			addr, tc = secure, conf
		}
		m, err := enlist(addr, tc, i, fmt.Sprintf("member-%d", i))
		if err != nil {
			t.Fatalf("member %d: %v", i, err)
		}
		c.members = append(c.members, m)
		t.Cleanup(func() { _ = m.conn.Close() })
		c.wg.Go(func() {
			err := m.read(subscribed)
			close(m.gone)
			c.ends.Add(1)
			if !c.quiet.Load() {
				c.errs <- fmt.Errorf("member %d: %w", m.id, err)
			}
		})
		if i%2 == 1 {
			if err := m.write(framed(0x82, append(append([]byte{0, 1}, text(fmt.Sprintf("pair/%d", i/2))...), 1))); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range pairs {
		select {
		case <-subscribed:
		case <-time.After(patience):
			t.Fatal("not all subscriptions were answered")
		}
	}
	return c
}

// run lets the publishers publish until stop is closed, and waits for them.
func (c *crowd) run(pause time.Duration, stop <-chan struct{}) (wait func()) {
	var wg sync.WaitGroup
	for i := 0; i < len(c.members); i += 2 {
		m := c.members[i]
		wg.Go(func() { m.publish(fmt.Sprintf("pair/%d", i/2), pause, stop) })
	}
	return wg.Wait
}

// lost counts the acknowledged events that the subscriber of the pair has not got, and those that came twice.
func (c *crowd) lost() (acked, lost, twice int) {
	for i := 0; i < len(c.members); i += 2 {
		n := int(c.members[i].acked.Load())
		acked += n
		sub := c.members[i+1]
		sub.mu.Lock()
		seen := map[int]int{}
		for _, k := range sub.got {
			seen[k]++
		}
		sub.mu.Unlock()
		for k := 1; k <= n; k++ {
			if seen[k] == 0 {
				lost++
			}
			twice += max(seen[k]-1, 0)
		}
	}
	return acked, lost, twice
}

// p99 of the acknowledgements that began within a span.
func (c *crowd) p99(from, to time.Time) time.Duration {
	var all []time.Duration
	for _, m := range c.members {
		m.mu.Lock()
		for _, s := range m.times {
			if !s.at.Before(from) && s.at.Before(to) {
				all = append(all, s.took)
			}
		}
		m.mu.Unlock()
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)*99/100]
}

// rewrite replaces the configuration in place.
func (n *node) rewrite(conf string) {
	n.t.Helper()
	text := os.Expand(conf, func(name string) string { return n.ports[name] })
	if err := os.WriteFile(filepath.Join(n.dir, "windrose.yaml"), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// reload asks for a reload by signal and waits until the metrics say how it ended.
func (n *node) reload(outcome string) {
	n.t.Helper()
	before := n.metric("windrose_config_done_reloads_total", `outcome="`+outcome+`"`)
	if err := n.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		n.t.Fatal(err)
	}
	n.await(before+1, "windrose_config_done_reloads_total", `outcome="`+outcome+`"`)
}

const reloadPairs = 500

// TestReloadUnderLoad: 1,000 connections, half of them by TLS, 20 reloads that change everything they can, 5 of which are broken,
// while all pairs exchange events of QoS 1: nobody is disconnected and nothing is lost.
func TestReloadUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server with 1,000 clients")
	}
	dir := t.TempDir()
	if err := makeCerts(dir, "client"); err != nil {
		t.Fatal(err)
	}
	authority, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(authority)
	hook := newHook(t, func(int) int { return 200 })
	conf := func(i int) string {
		c := fmt.Sprintf(`windrose: v1
node: { name: n, admin: "127.0.0.1:${ADMIN}", data: data, site: "site-%[1]d", deadline: %[2]ds }
tls: { main: { cert: server.pem, key: server.key, min_version: "%[3]s" } }
listeners:
  plain: { mqtt: { bind: "127.0.0.1:${MQTT}", anonymous: true, max_connections: %[4]d } }
  secure: { mqtt: { bind: "127.0.0.1:${TLS}", anonymous: true, tls: main, hold_bytes: %[5]dKiB } }
acl: [ { allow: [publish, subscribe], topic: "#", client: "%[6]s" } ]
limits: { per_client: { events: %[7]d/s } }
sessions: { queue: %[7]d, overflow: drop_old }
pools: { hooks: { queue_max: %[7]d, webhook: { urls: ["%[8]s"], timeout: %[2]ds } } }
routes: [ { name: all, topic: "pair/%[1]d", to: hooks, ack: %[9]s } ]
`, i, 20+i, []string{"1.2", "1.3"}[i%2], 2000+i, 64+i, []string{"*", "member-*"}[i%2], 5000+i, hook.URL, []string{"received", "upstream"}[i%2])
		if i%3 == 2 {
			c += `  # another listener comes and goes
`
			c = strings.Replace(c, "listeners:\n", "listeners:\n  more: { mqtt: { bind: \"127.0.0.1:${MORE}\", anonymous: true } }\n", 1)
		}
		return c
	}
	n := startNodeIn(t, dir, filepath.Join(plain.folder(t), "windrose"), conf(0))
	if n.ports["MORE"] == "" {
		p, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		n.ports["MORE"] = p
	}
	c := gather(t, reloadPairs, "127.0.0.1:"+n.ports["MQTT"], "127.0.0.1:"+n.ports["TLS"], &tls.Config{RootCAs: trusted, ServerName: "localhost"})
	stop := make(chan struct{})
	wait := c.run(100*time.Millisecond, stop)
	time.Sleep(500 * time.Millisecond)
	calmFrom := time.Now()
	time.Sleep(2 * time.Second)
	calmTo := time.Now()
	for i := 1; i <= 20; i++ {
		if i%4 == 0 {
			n.rewrite(conf(i) + "nonsense: { x: 1 }\n")
			n.reload("failed")
			if state := n.metric("windrose_config_broken_state"); state != 1 {
				t.Errorf("after a broken reload the state is %d", state)
			}
			continue
		}
		n.rewrite(conf(i))
		n.reload("ok")
	}
	loadTo := time.Now()
	time.Sleep(500 * time.Millisecond)
	close(stop)
	wait()
	if err := until(patience, func() error {
		if _, lost, _ := c.lost(); lost > 0 {
			return fmt.Errorf("%d acknowledged events are missing", lost)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	acked, lost, twice := c.lost()
	t.Logf("%d events acknowledged, %d lost, %d twice, %d of 1,000 connections ended", acked, lost, twice, c.ends.Load())
	calm, busy := c.p99(calmFrom, calmTo), c.p99(calmTo, loadTo)
	t.Logf("p99 of acknowledgements: %v calm, %v during 20 reloads in %v: %.1fx", calm, busy, loadTo.Sub(calmTo).Round(time.Millisecond), float64(busy)/float64(calm))
	if busy > max(20*calm, 2*time.Second) {
		t.Errorf("p99 %v while reloading, %v before", busy, calm)
	}
	c.quiet.Store(true)
	close(c.errs)
	for err := range c.errs {
		t.Error(err)
	}
	if acked < reloadPairs*10 {
		t.Errorf("only %d events in all", acked)
	}
	if n.metric("windrose_config_broken_state") != 1 { // the 20th was broken
		t.Error("the state does not say that the last reload failed")
	}
}

// TestStopUnderLoad: a node that is told to end while everybody publishes keeps each promise it gave: what was acknowledged is
// with the subscribers that were connected and with the webhook; it ends with code 0 within node.drain.time.
func TestStopUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server with 200 clients")
	}
	var mu sync.Mutex
	hooked := map[string]map[string]int{}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		time.Sleep(5 * time.Millisecond) // so that something waits in the queue
		mu.Lock()
		topic := r.Header.Get("Ce-Subject")
		if hooked[topic] == nil {
			hooked[topic] = map[string]int{}
		}
		hooked[topic][string(body)]++
		mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(hook.Close)
	const pairs, drain = 100, 15 * time.Second
	n := startNodeIn(t, t.TempDir(), filepath.Join(plain.folder(t), "windrose"), fmt.Sprintf(`windrose: v1
node: { name: n, admin: "127.0.0.1:${ADMIN}", data: data, drain: { time: %s, rate: 100/s } }
listeners: { plain: { mqtt: { bind: "127.0.0.1:${MQTT}", anonymous: true } } }
pools: { hooks: { webhook: { urls: ["%s"], max_in_flight: 8 } } }
routes:
  - { name: received, topic: pair/1, to: hooks, ack: received }
  - { name: upstream, topic: pair/2, to: hooks, ack: upstream }
`, drain, hook.URL))
	c := gather(t, pairs, "127.0.0.1:"+n.mqtt(), "", nil)
	stop := make(chan struct{})
	wait := c.run(5*time.Millisecond, stop)
	time.Sleep(time.Second)
	c.quiet.Store(true)
	begin := time.Now()
	err := n.stop(syscall.SIGTERM, drain+patience)
	took := time.Since(begin)
	close(stop)
	wait()
	c.wg.Wait() // every connection has ended
	if err != nil {
		t.Fatal(err)
	}
	if code := n.cmd.ProcessState.ExitCode(); code != 0 || took > drain {
		t.Errorf("ended with %d after %v, want 0 within %v", code, took, drain)
	}
	acked, lost, twice := c.lost()
	t.Logf("%d events acknowledged, %d lost, %d twice; the end took %v for %d connections at 100/s", acked, lost, twice, took.Round(time.Millisecond), 2*pairs)
	if lost > 0 || acked < pairs*10 {
		t.Errorf("%d of %d acknowledged events did not reach their subscriber", lost, acked)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, pair := range []int{1, 2} {
		topic := fmt.Sprintf("pair/%d", pair)
		got := hooked[topic]
		missing := 0
		for k := 1; k <= int(c.members[2*pair].acked.Load()); k++ {
			if got[fmt.Sprint(k)] == 0 {
				missing++
			}
		}
		t.Logf("%s: %d acknowledged, %d at the webhook", topic, c.members[2*pair].acked.Load(), len(got))
		if missing > 0 {
			t.Errorf("%s: %d acknowledged events are not at the webhook", topic, missing)
		}
	}
}
