package e2e

import (
	"crypto/tls"
	"os"
	"strconv"
	"testing"
	"time"
)

// TestIdleMemory measures, it asserts nothing: the memory that an idle connection with one subscription costs, by
// transport. WINDROSE_MEASURE names a binary without the race detector, WINDROSE_CONNECTIONS how many (2000).
func TestIdleMemory(t *testing.T) {
	program := os.Getenv("WINDROSE_MEASURE")
	if program == "" {
		t.Skip("a measurement: WINDROSE_MEASURE names the binary to measure")
	}
	count := 2000
	if n, err := strconv.Atoi(os.Getenv("WINDROSE_CONNECTIONS")); err == nil {
		count = n
	}
	dir := t.TempDir()
	if err := makeCerts(dir, "pump-1"); err != nil {
		t.Fatal(err)
	}
	plain, own := clientTLS(t, dir, false), clientTLS(t, dir, true)
	own.MinVersion, plain.MinVersion = tls.VersionTLS13, tls.VersionTLS13
	for _, x := range []struct {
		name, listener string
		to             transport
	}{
		{"TCP", "", overTCP}, {"WebSocket", "websocket: {}", overWebSocket(overTCP)},
		{"TLS", "tls: main", overTLS(plain)}, {"secure WebSocket", "tls: main, websocket: {}", overWebSocket(overTLS(plain))},
		{"mutual TLS", "tls: fleet", overTLS(own)}, {"mutual TLS and WebSocket", "tls: fleet, websocket: {}", overWebSocket(overTLS(own))},
	} {
		n := startNodeIn(t, dir, program, `windrose: v1
node: { name: n1, admin: "127.0.0.1:${ADMIN}", data: data }
tls:
  main:  { cert: server.pem, key: server.key }
  fleet: { cert: server.pem, key: server.key, client_ca: ca.pem, client: require }
listeners: { l: { mqtt: { bind: "127.0.0.1:${MQTT}", anonymous: true, `+x.listener+` } } }
`)
		clients := make([]*raw, 0, count)
		more := func(k int) {
			for range k {
				c := clientOver(t, x.to, n.mqtt(), hello{id: "c" + strconv.Itoa(len(clients))})
				c.subscribe("t/"+strconv.Itoa(len(clients)), 1)
				clients = append(clients, c)
			}
		}
		more(count / 10) // what does not grow with the connections
		time.Sleep(3 * time.Second)
		before := n.rss("VmRSS")
		more(count - count/10)
		time.Sleep(12 * time.Second) // the node gives back what it does not need
		after := n.rss("VmRSS")
		t.Logf("%s: %.2f KB each of %d more (RSS %d KiB, was %d)", x.name, float64(after-before)*1.024/float64(count-count/10), count-count/10, after, before)
		for _, c := range clients {
			_ = c.c.Close()
		}
		n.finish()
	}
}
