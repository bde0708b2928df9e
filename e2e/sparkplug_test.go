package e2e

import (
	"bufio"
	bin "encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestSparkplug loads a node as a plant does: every edge node connects with a will, publishes its birth as a retained event of
// 1 KiB and listens for commands; an application reads all births; then the line to the plant is cut, the application hears of
// every death, and everybody comes back at once. WINDROSE_BIRTHS says how many (300); the figures are logged.
func TestSparkplug(t *testing.T) {
	count := 300
	if n, err := strconv.Atoi(os.Getenv("WINDROSE_BIRTHS")); err == nil {
		count = n
	}
	n := startNode(t, `windrose: v1
node: { name: n1, admin: "127.0.0.1:${ADMIN}", data: data }
listeners: { l: { mqtt: { bind: "127.0.0.1:${MQTT}", anonymous: true } } }
sessions: { queue: 100000, queue_bytes: 256MiB, max_inflight: 1000 }
`)
	begin := time.Now()
	plant := bornAll(t, n.mqtt(), count)
	t.Logf("%d nodes connect, subscribe and publish their retained births: %v", count, time.Since(begin).Round(time.Millisecond))

	app := client(t, n.mqtt(), hello{id: "app", v: 4})
	begin = time.Now()
	if code := app.subscribe("spBv1.0/#", 1); code != 1 {
		t.Fatalf("SUBACK %#x", code)
	}
	seen := make(map[string]bool)
	until := func(kind string, retained bool) {
		t.Helper()
		clear(seen)
		for deadline := time.Now().Add(patience + time.Duration(count)*5*time.Millisecond); len(seen) < count; {
			p, err := app.read(time.Until(deadline))
			if err != nil {
				t.Fatalf("%d of %d %s: %v", len(seen), count, kind, err)
			}
			if p.kind() != publishKind {
				continue
			}
			topic, _, qos, id := app.message(p)
			if qos > 0 {
				app.must(app.send([]byte{pubackKind << 4, 2, byte(id >> 8), byte(id)}))
			}
			if strings.HasPrefix(topic, "spBv1.0/plant/"+kind+"/") && p.first&1 != 0 == retained {
				seen[topic] = true
			}
		}
	}
	until("NBIRTH", true)
	t.Logf("an application reads %d births: %v", count, time.Since(begin).Round(time.Millisecond))

	begin = time.Now()
	for _, c := range plant {
		_ = c.c.Close()
	}
	until("NDEATH", false)
	t.Logf("the application hears of %d deaths: %v", count, time.Since(begin).Round(time.Millisecond))

	begin = time.Now()
	done := make(chan []*raw)
	go func() { done <- bornAll(t, n.mqtt(), count) }()
	until("NBIRTH", false)
	plant = <-done
	t.Logf("%d nodes come back, and the application has their births: %v", count, time.Since(begin).Round(time.Millisecond))
	if got := n.metric("windrose_retain_stored_messages"); got < count {
		t.Errorf("%d retained events", got)
	}
	for _, c := range plant {
		_ = c.send(goodbye)
		_ = c.c.Close()
	}
	n.finish()
}

// bornAll connects all nodes of the plant, eight at a time.
func bornAll(t *testing.T, port string, count int) []*raw {
	out, errs := make([]*raw, count), make([]error, 8)
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for i := w; i < count && errs[w] == nil; i += len(errs) {
				out[i], errs[w] = born(t, port, i)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	return out
}

// born connects one: CONNECT, SUBSCRIBE and PUBLISH in one go, and waits for the acknowledgement of the birth.
func born(t *testing.T, port string, i int) (*raw, error) {
	nc, err := net.DialTimeout("tcp", "127.0.0.1:"+port, patience)
	if err != nil {
		return nil, err
	}
	c := &raw{t: t, c: nc, v: 4, r: bufio.NewReader(nc)}
	t.Cleanup(func() { _ = nc.Close() })
	id := fmt.Sprintf("n%05d", i)
	body := []byte{0, 4, 'M', 'Q', 'T', 'T', 4, 0x02 | 0x04 | 0x08, 0, 60} // clean session, a will with QoS 1
	body = appendText(body, id)
	body = appendText(body, "spBv1.0/plant/NDEATH/"+id)
	body = appendText(body, "bdSeq")
	b := bin.AppendUvarint([]byte{0x10}, uint64(len(body)))
	b = append(b, body...)
	b = appendSubscribe(b, 4, 1, "spBv1.0/plant/NCMD/"+id+"/#", 1)
	birth := appendText(nil, "spBv1.0/plant/NBIRTH/"+id)
	birth = append(append(birth, 0, 2), make([]byte, 1024)...)
	b = bin.AppendUvarint(append(b, 0x33), uint64(len(birth))) // QoS 1, retained
	if err := c.send(append(b, birth...)); err != nil {
		return nil, err
	}
	for {
		p, err := c.read(patience)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
		switch {
		case p.kind() == pubackKind:
			return c, nil
		case p.kind() == connackKind && p.body[1] != 0:
			return nil, fmt.Errorf("%s: CONNACK %d", id, p.body[1])
		}
	}
}
