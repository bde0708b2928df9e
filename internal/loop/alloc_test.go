//go:build !race

package loop

import (
	"io"
	"testing"
	"time"
)

// The hot path allocates nothing: read, Data, output, write; also when a message comes in pieces and is kept between.
func TestTurnAllocatesNothing(t *testing.T) {
	for _, tlsOn := range []bool{false, true} {
		g := testGroup(t, Options{Loops: 2})
		accept, made := handlers(lines)
		o := ListenOptions{Accept: accept}
		if tlsOn {
			o.TLS = testTLS(t).server
		}
		n := testListen(t, g, o)
		var c io.ReadWriter
		if tlsOn {
			c = dialTLS(t, n, nil)
		} else {
			c = dial(t, n)
		}
		wait(t, made)
		out, in := make([]byte, 3000), make([]byte, 3000)
		out[len(out)-1] = '\n'
		round := func() {
			_, _ = c.Write(out[:1000])
			time.Sleep(50 * time.Microsecond)
			_, _ = c.Write(out[1000:])
			if _, err := io.ReadFull(c, in); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			round()
		}
		most := 0.0
		if tlsOn {
			most = 6 // crypto/tls at both ends: a reader per record, our loop adds nothing
		}
		if n := testing.AllocsPerRun(500, round); n > most {
			t.Errorf("tls %v: %v allocations per round", tlsOn, n)
		}
	}
}

func TestPostingAllocatesNothing(t *testing.T) {
	g := testGroup(t, Options{Loops: 1})
	l := g.Loops()[0]
	done := make(chan struct{})
	fn := func() { done <- struct{}{} }
	round := func() { l.Post(fn); <-done }
	for range 100 {
		round()
	}
	if n := testing.AllocsPerRun(500, round); n != 0 {
		t.Errorf("%v allocations per post", n)
	}
}
