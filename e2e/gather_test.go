package e2e

import (
	"fmt"
	"runtime"
	"testing"
)

// TestOneThreadWhileLittleHappens: a node with two loops drives both with one thread while it is idle (ADR 9).
func TestOneThreadWhileLittleHappens(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	if runtime.GOOS != "linux" {
		t.Skip("only with epoll")
	}
	t.Parallel()
	n := startNode(t, `windrose: v1
node: { name: n1, admin: "127.0.0.1:${ADMIN}", data: data, loops: 2 }
listeners: { mqtt: { mqtt: { bind: "127.0.0.1:${MQTT}", anonymous: true } } }
`)
	c := client(t, n.mqtt(), hello{id: "one"})
	if err := until(patience, func() error {
		c.ping()
		if got := n.metric("windrose_loop_active_threads"); got != 1 {
			return fmt.Errorf("%d threads drive the loops", got)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
